//! Sources, sinks and formats: bytes, offsets and commits. Knows nothing of queries.

mod blackhole;
mod changes;
pub mod connector;
mod datagen;
pub mod error;
mod filesystem;
mod format;
pub mod options;
mod print;
pub mod progress;
pub mod registry;
pub mod sink;
pub mod source;
mod spawn;
mod stdin;

pub use blackhole::Blackhole;
pub use connector::{Connector, Reach, TableSpec};
pub use datagen::Datagen;
pub use error::{Error, Result};
pub use filesystem::Filesystem;
pub use format::types::sql_name;
pub use options::{Checked, OptionSpec, Options};
pub use print::{Board, Print, READER_GONE};
pub use registry::Registry;
pub use sink::{Emission, Op, OutputMode, Sink, SinkGuarantee};
pub use source::{Changes, Guarantee, Offsets, Poll, Progress, Rejected, Source, SourceBatch};
pub use stdin::Stdin;
