//! How bytes are rows: CSV, JSON lines and Parquet, apart from where the bytes come from.

pub(crate) mod csv;
pub(crate) mod csv_marks;
pub(crate) mod csv_tokens;
pub(crate) mod csv_write;
pub(crate) mod event_time;
pub(crate) mod infer;
pub(crate) mod json;
pub(crate) mod json_columns;
pub(crate) mod json_scan;
pub(crate) mod json_write;
pub(crate) mod kind;
pub(crate) mod numbers;
pub(crate) mod parquet;
pub(crate) mod record;
pub(crate) mod text;
pub(crate) mod typed;
pub(crate) mod types;
#[cfg(test)]
mod value_tests;
pub(crate) mod values;

/// The most rows of a batch.
pub(crate) const BATCH_ROWS: usize = 32 * 1024;

/// About how many bytes of text or columns make a batch.
pub(crate) const BATCH_BYTES: usize = 1 << 20;
