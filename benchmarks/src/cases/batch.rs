//! W1: a batch job over a Parquet file.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Int64Type;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};

use crate::case::{Better, Case, Failure, Line, Measured, Params};
use crate::memory;
use crate::ours;
use crate::workload::{differs, events};

/// Distinct users by region over all of a file.
pub const W1: Case = Case {
    name: "w1",
    about: "batch: distinct users by region of 10M rows of Parquet",
    against: "DataFusion on the same threads",
    rows: 10_000_000,
    lines: &[Line { case: "w1", unit: "rows/s", better: Better::More, reach: 0.7, aim: 1.0 }],
    ours: |params| measure(params, |path| ours::batch(params.workers, path, QUERY)),
    baseline: |params| measure(params, |path| datafusion(params.workers, path)),
};

const QUERY: &str = "SELECT region, count(DISTINCT user_id) AS users FROM visits GROUP BY region";

/// Writes the file, times `query` over it, and checks the answer.
fn measure(params: &Params, query: impl Fn(&Path) -> Result<Vec<RecordBatch>, Failure>) -> Result<Measured, Failure> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("visits.parquet");
    write(params, &path)?;
    let begin = memory::start();
    let answer = query(&path)?;
    let seconds = begin.elapsed().as_secs_f64();
    let measured = Measured::new(vec![params.rows as f64 / seconds]);
    Ok(measured.checked(check(params, &answer)?))
}

fn write(params: &Params, path: &Path) -> Result<(), Failure> {
    let mut writer = None;
    for chunk in events(params.seed, params.rows).chunks(1 << 20) {
        let columns: [(&str, ArrayRef); 3] = [
            ("ts", Arc::new(TimestampMicrosecondArray::from_iter_values(chunk.iter().map(|e| e.ts)))),
            (
                "region",
                Arc::new(StringArray::from_iter_values(chunk.iter().map(|e| format!("region-{:02}", e.region)))),
            ),
            ("user_id", Arc::new(Int64Array::from_iter_values(chunk.iter().map(|e| e.user as i64)))),
        ];
        let batch = RecordBatch::try_from_iter(columns)?;
        if writer.is_none() {
            writer = Some(ArrowWriter::try_new(File::create(path)?, batch.schema(), None)?);
        }
        if let Some(writer) = &mut writer {
            writer.write(&batch)?;
        }
    }
    writer.ok_or("no rows")?.close()?;
    Ok(())
}

fn datafusion(threads: usize, path: &Path) -> Result<Vec<RecordBatch>, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(threads));
        context.register_parquet("visits", path.to_string_lossy(), ParquetReadOptions::default()).await?;
        Ok(context.sql(QUERY).await?.collect().await?)
    })
}

fn check(params: &Params, answer: &[RecordBatch]) -> Result<Option<String>, Failure> {
    let mut packed: Vec<u64> =
        events(params.seed, params.rows).iter().map(|e| (u64::from(e.region) << 32) | e.user).collect();
    packed.sort_unstable();
    packed.dedup();
    let mut want = BTreeMap::new();
    packed.iter().for_each(|p| *want.entry(format!("region-{:02}", p >> 32)).or_insert(0i64) += 1);
    let mut got = BTreeMap::new();
    for batch in answer {
        let regions = ours::strings(batch.column(0))?;
        let users = batch.column(1).as_primitive::<Int64Type>();
        (0..batch.num_rows()).for_each(|row| {
            got.insert(regions.value(row).to_string(), users.value(row));
        });
    }
    Ok(differs(&got, &want))
}
