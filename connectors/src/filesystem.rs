//! `filesystem`.

use arrow::datatypes::SchemaRef;

use crate::blackhole::write_only;
use crate::error::Result;
use crate::options::OptionSpec;
use crate::registry::{Connector, TableSpec};
use crate::sink::{OutputMode, Sink};
use crate::source::Source;

/// The connector `filesystem`.
#[derive(Clone, Copy, Debug)]
pub struct Filesystem;

impl Connector for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
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
