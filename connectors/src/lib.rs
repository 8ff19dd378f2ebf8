//! Sources, sinks and formats: bytes, offsets and commits. Knows nothing of queries.

pub mod error;
pub mod options;
pub mod registry;
pub mod sink;
pub mod source;

pub use error::{Error, Result};
pub use options::{OptionSpec, Options};
pub use registry::{Connector, Registry, TableSpec};
pub use sink::{Emission, Op, OutputMode, Sink};
pub use source::{Changes, Guarantee, Poll, Progress, Rejected, Source, SourceBatch};
