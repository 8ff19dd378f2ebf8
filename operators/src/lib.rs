//! Incremental operators on event time, over [timely dataflow] and [differential dataflow].
//!
//! A *collection* is a stream of [`Updates`]: batches of `(record, time, diff)`, where `time` is an event time (see
//! [`time`]) and `diff` says how many copies of the record arrive or leave. What moves along the edges is a
//! [`Payload`]: a `Vec` of Rust values, flat byte [`Rows`], or the columns of the engine above. Stateful operators
//! take [`Keyed`] updates, whose keys are flat bytes with their hash, so that no operator allocates per row.
//!
//! [timely dataflow]: https://docs.rs/timely
//! [differential dataflow]: https://docs.rs/differential-dataflow

pub mod accumulate;
pub mod accumulators;
mod arena;
pub mod arrange;
mod buckets;
pub mod chunk;
pub mod clock;
pub mod combine;
pub mod consolidate;
mod counts;
pub mod distinct;
pub mod emit_final;
pub mod encode;
pub mod exact_sum;
pub mod exchange;
pub mod interop;
pub mod join;
pub mod keyed;
pub mod late;
pub mod ordered;
pub mod pending;
mod reduction;
pub mod retain;
pub mod rows;
pub mod run_end;
pub mod schedule;
pub mod stamp;
pub mod state;
pub mod table;
pub mod temporal;
#[cfg(test)]
mod testing;
pub mod time;
pub mod top_k;
pub mod updates;
pub mod watermark;
pub mod window;

pub use keyed::Keyed;
pub use reduction::{Fault, KeyError};
pub use rows::Rows;
pub use updates::{Payload, UpdateStream, Updates};
