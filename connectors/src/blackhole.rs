//! `blackhole`: a sink that counts rows and forgets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::options::OptionSpec;
use crate::registry::{Connector, TableSpec};
use crate::sink::{Emission, OutputMode, Sink};
use crate::source::Source;

/// The connector `blackhole`.
#[derive(Clone, Debug, Default)]
pub struct Blackhole {
    rows: Arc<AtomicU64>,
}

impl Blackhole {
    /// Copies of rows that all sinks opened by this connector have taken.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

impl Connector for Blackhole {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    fn schema(&self, _table: &TableSpec) -> Result<SchemaRef> {
        Err(write_only(self.name()))
    }

    fn is_stream(&self, _table: &TableSpec) -> bool {
        false
    }

    fn source(&self, _table: &TableSpec) -> Result<Box<dyn Source>> {
        Err(write_only(self.name()))
    }

    fn sink(&self, table: &TableSpec, _mode: OutputMode) -> Result<Box<dyn Sink>> {
        table.checked(self)?;
        Ok(Box::new(Counter { rows: self.rows.clone() }))
    }
}

/// The error for reading from a connector that only takes rows.
pub(crate) fn write_only(connector: &str) -> Error {
    Error::User(format!("connector '{connector}' only takes rows: it can be a sink, not a table to read"))
}

/// The error for writing to a connector that only gives rows.
pub(crate) fn read_only(connector: &str) -> Error {
    Error::User(format!("connector '{connector}' only gives rows: it can be a table to read, not a sink"))
}

struct Counter {
    rows: Arc<AtomicU64>,
}

impl Sink for Counter {
    fn write(&mut self, emission: &Emission) -> Result<()> {
        self.rows.fetch_add(emission.counts.iter().sum(), Ordering::Relaxed);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
