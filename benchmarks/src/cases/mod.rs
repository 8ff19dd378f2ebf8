//! The cases, in the order of the report.

mod backlog;
mod batch;
mod by_hand;
mod codecs;
mod count;
mod csv;
mod files;
mod join;
mod neighbour;
mod relations;
mod soak;
mod w2;

use crate::case::Case;

/// All cases.
pub static ALL: &[Case] = &[
    w2::THROUGHPUT,
    w2::LATENCY,
    w2::LIMIT,
    count::ONE_ROW,
    count::STRING,
    join::HYDRATION,
    join::ROUNDS,
    neighbour::NEIGHBOUR,
    relations::NEIGHBOURS,
    relations::MANY_VIEWS,
    batch::W1,
    csv::GROUP_BY,
    csv::LIMIT,
    files::MANY_FILES,
    backlog::MEMORY,
    backlog::RATE,
    soak::SOAK,
    w2::STATE_BYTES,
    join::STATE_BYTES,
    count::STATE_BYTES,
    w2::SCALE,
    join::SCALE,
    codecs::CODECS,
];
