//! The cases, in the order of the report.

mod batch;
mod codecs;
mod count;
mod join;
mod neighbour;
mod w2;

use crate::case::Case;

/// All cases.
pub static ALL: &[Case] = &[
    w2::THROUGHPUT,
    w2::LATENCY,
    count::ONE_ROW,
    count::STRING,
    join::HYDRATION,
    join::ROUNDS,
    neighbour::NEIGHBOUR,
    batch::W1,
    w2::STATE_BYTES,
    join::STATE_BYTES,
    w2::SCALE,
    join::SCALE,
    codecs::CODECS,
];
