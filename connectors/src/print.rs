//! `print`.

use arrow::datatypes::SchemaRef;

use crate::blackhole::write_only;
use crate::error::Result;
use crate::options::OptionSpec;
use crate::registry::{Connector, TableSpec};
use crate::sink::{OutputMode, Sink};
use crate::source::Source;

/// The connector `print`.
#[derive(Clone, Copy, Debug)]
pub struct Print {
    name: &'static str,
}

impl Print {
    /// The connector under a name.
    pub fn named(name: &'static str) -> Self {
        Print { name }
    }
}

impl Connector for Print {
    fn name(&self) -> &'static str {
        self.name
    }
    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }
    fn schema(&self, table: &TableSpec) -> Result<SchemaRef> {
        table.columns()
    }
    fn source(&self, _table: &TableSpec) -> Result<Box<dyn Source>> {
        Err(write_only(self.name()))
    }
    fn sink(&self, _table: &TableSpec, _mode: OutputMode) -> Result<Box<dyn Sink>> {
        Err(write_only(self.name()))
    }
}
