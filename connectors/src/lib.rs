//! Sources, sinks and formats: bytes, offsets and commits. Knows nothing of queries.

mod blackhole;
mod changes;
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
mod stdin;

pub use blackhole::Blackhole;
pub use datagen::Datagen;
pub use error::{Error, Result};
pub use filesystem::Filesystem;
pub use options::{Checked, OptionSpec, Options};
pub use print::Print;
pub use registry::{Connector, Registry, TableSpec};
pub use sink::{Emission, Op, OutputMode, Sink};
pub use source::{Changes, Guarantee, Poll, Progress, Rejected, Source, SourceBatch};
pub use stdin::Stdin;
