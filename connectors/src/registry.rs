//! The one list of connectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::blackhole::Blackhole;
use crate::datagen::Datagen;
use crate::error::{Error, Result};
use crate::filesystem::Filesystem;
use crate::options::{Checked, OptionSpec, Options, nearest};
use crate::print::Print;
use crate::sink::{OutputMode, Sink};
use crate::source::{Guarantee, Source};
use crate::stdin::Stdin;

/// A table as declared, for a connector to open.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// The table's or sink's name, for messages.
    pub name: String,
    /// The options, without `connector`.
    pub options: Options,
    /// The declared columns of a source, or the columns that a sink will get; `None` to infer.
    pub schema: Option<SchemaRef>,
    /// Whether to read what there is and end (batch), or to follow (stream).
    pub bounded: bool,
    /// Whether the input goes on behind what is there: what is half-written at its end is then left for later, also by a
    /// reader that ends. A table that is not `bounded` goes on in any case.
    pub growing: bool,
    /// For a sink in update mode, the columns that identify a row; empty if not known.
    pub key: Vec<usize>,
}

impl TableSpec {
    /// The options, checked against those that `connector` takes.
    pub fn checked(&self, connector: &dyn Connector) -> Result<Checked<'_>> {
        self.options.check(&format!("'{}' (connector '{}')", self.name, connector.name()), connector.options())
    }

    /// The schema; a fault of the caller if it is not set.
    pub(crate) fn columns(&self) -> Result<SchemaRef> {
        self.schema.clone().ok_or_else(|| Error::Internal(format!("'{}' is opened without a schema", self.name)))
    }
}

/// A kind of source or sink.
pub trait Connector: Send + Sync {
    /// The name in `connector = '..'`.
    fn name(&self) -> &'static str;

    /// The options it takes. One that is not here is an error that names those that are.
    fn options(&self) -> &'static [OptionSpec];

    /// The columns, declared or inferred.
    fn schema(&self, table: &TableSpec) -> Result<SchemaRef>;

    /// Whether the table goes on for ever unless it is asked to end: it is then a stream unless it says otherwise.
    fn is_stream(&self, table: &TableSpec) -> bool;

    /// Whether its tables can be read again.
    fn guarantee(&self) -> Guarantee {
        Guarantee::Once
    }

    /// Opens the table for reading; `table.schema` is set.
    fn source(&self, table: &TableSpec) -> Result<Box<dyn Source>>;

    /// Opens the table for writing; `table.schema` is set.
    fn sink(&self, table: &TableSpec, mode: OutputMode) -> Result<Box<dyn Sink>>;
}

/// Connectors by name.
#[derive(Clone, Default)]
pub struct Registry {
    connectors: BTreeMap<&'static str, Arc<dyn Connector>>,
}

impl Registry {
    /// The connectors of this crate: `filesystem`, `datagen`, `stdin`, `print` (also called `console`) and `blackhole`.
    pub fn standard() -> Self {
        let mut registry = Registry::default();
        registry.register(Arc::new(Filesystem));
        registry.register(Arc::new(Datagen));
        registry.register(Arc::new(Stdin));
        registry.register(Arc::new(Print::named("print")));
        registry.register(Arc::new(Print::named("console")));
        registry.register(Arc::new(Blackhole::default()));
        registry
    }

    /// Adds a connector, replacing one of the same name.
    pub fn register(&mut self, connector: Arc<dyn Connector>) {
        self.connectors.insert(connector.name(), connector);
    }

    /// The connector called `name`; the error lists those there are.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Connector>> {
        self.connectors.get(name).ok_or_else(|| {
            let known: Vec<_> = self.connectors.keys().map(|k| format!("'{k}'")).collect();
            let meant = nearest(name, self.connectors.keys().copied());
            let meant = meant.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
            Error::User(format!("there is no connector '{name}'{meant} (there are {})", known.join(", ")))
        })
    }

    /// All connectors, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Connector>> {
        self.connectors.values()
    }
}
