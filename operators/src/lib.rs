#![doc = include_str!("../README.md")]

pub mod accumulate;
pub mod accumulators;
mod arena;
pub mod arrange;
mod buckets;
mod bytes;
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
pub mod guard;
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
pub mod turn;
pub mod updates;
pub mod watermark;
pub mod window;

pub use keyed::Keyed;
pub use reduction::{Fault, KeyError};
pub use rows::Rows;
pub use updates::{Payload, UpdateStream, Updates};
