//! What a kind of source or sink is, and what it is told when a table of it is opened.

use arrow::datatypes::{Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::options::{Checked, OptionSpec, Options};
use crate::sink::{OutputMode, Sink, SinkGuarantee};
use crate::source::{Guarantee, Source};

/// How far a table is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// For ever: what comes up later is read when it comes.
    #[default]
    Follow,
    /// What is there now, to its end.
    Once {
        /// Whether the input goes on behind what is there now, and another reader follows it: what is half-written at its
        /// end is then left for later, and no error.
        growing: bool,
    },
    /// What another reader has read already, once more: as fast as it can be had, at no pace, and without complaint about
    /// what is half-written. It ends when what is there is read, or earlier, when the caller has all that it wants.
    Again,
}

impl Reach {
    /// Whether reading ends by itself.
    pub fn is_bounded(self) -> bool {
        self != Reach::Follow
    }

    /// Whether there may be more later than what such a reader sees.
    pub fn is_growing(self) -> bool {
        match self {
            Reach::Follow | Reach::Again => true,
            Reach::Once { growing } => growing,
        }
    }
}

/// A table as declared, for a connector to open.
#[derive(Clone, Debug, Default)]
pub struct TableSpec {
    /// The table's or sink's name, for messages.
    pub name: String,
    /// The options, without `connector`.
    pub options: Options,
    /// The declared columns of a source, or the columns that a sink will get; `None` to infer.
    pub schema: Option<SchemaRef>,
    /// How far a source reads.
    pub reach: Reach,
    /// The column of `schema` by whose event time the reader stamps rows, if it does.
    pub event_time: Option<usize>,
    /// The columns of `schema` that the reader wants, in the order in which it wants them; `None` for all. A source makes
    /// those, or all. Which input is a row does not depend on it: a value that does not fit its column is bad, wanted or not.
    pub projection: Option<Vec<usize>>,
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

    /// The columns that a source makes.
    pub(crate) fn wanted(&self) -> Result<Wanted> {
        let all = self.columns()?;
        let Some(places) = &self.projection else { return Ok(Wanted::all(all)) };
        let mut fields = Vec::with_capacity(places.len());
        for (number, place) in places.iter().enumerate() {
            match all.fields().get(*place) {
                Some(field) if !places[..number].contains(place) => fields.push(field.clone()),
                _ => return Err(Error::Internal(format!("'{}' can't give its column {place} as asked", self.name))),
            }
        }
        Ok(Wanted { all, schema: SchemaRef::new(Schema::new(fields)), places: places.clone() })
    }

    /// Where the event time stands among the columns that a source makes.
    pub(crate) fn wanted_event_time(&self) -> Option<usize> {
        let column = self.event_time?;
        match &self.projection {
            Some(projection) => projection.iter().position(|wanted| *wanted == column),
            None => Some(column),
        }
    }
}

/// Which columns of a table to make.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// All that are declared: input is a row if it has a value for each of them.
    pub(crate) all: SchemaRef,
    /// Those that are made, as the rows have them.
    pub(crate) schema: SchemaRef,
    /// The place of each among the declared ones.
    pub(crate) places: Vec<usize>,
}

impl Wanted {
    /// All of them.
    pub(crate) fn all(schema: SchemaRef) -> Wanted {
        Wanted { all: schema.clone(), places: (0..schema.fields().len()).collect(), schema }
    }
}

/// A kind of source or sink. What it does not say it can, it can't: reading from one that only takes rows, and writing to
/// one that only gives them, is an error that says so.
pub trait Connector: Send + Sync {
    /// The name in `connector = '..'`.
    fn name(&self) -> &'static str;

    /// The options it takes. One that is not here is an error that names those that are.
    fn options(&self) -> &'static [OptionSpec];

    /// The columns of a table to read, declared or inferred.
    fn schema(&self, _table: &TableSpec) -> Result<SchemaRef> {
        Err(write_only(self.name()))
    }

    /// Whether the table goes on for ever unless it is asked to end: it is then a stream unless it says otherwise.
    fn is_stream(&self, _table: &TableSpec) -> bool {
        false
    }

    /// The order in which a table's rows are read, for people; `None` where that is not its to choose.
    fn reading_order(&self, _table: &TableSpec) -> Option<String> {
        None
    }

    /// Whether its tables can be read again.
    fn guarantee(&self) -> Guarantee {
        Guarantee::Once
    }

    /// Opens the table for reading; `table.schema` is set.
    fn source(&self, _table: &TableSpec) -> Result<Box<dyn Source>> {
        Err(write_only(self.name()))
    }

    /// What becomes of an emission that its sink gets twice, as after a crash.
    fn sink_guarantee(&self, _table: &TableSpec, _mode: OutputMode) -> SinkGuarantee {
        SinkGuarantee::AtLeastOnce
    }

    /// Opens the table for writing; `table.schema` is set.
    fn sink(&self, _table: &TableSpec, _mode: OutputMode) -> Result<Box<dyn Sink>> {
        Err(read_only(self.name()))
    }
}

fn write_only(connector: &str) -> Error {
    Error::User(format!("connector '{connector}' only takes rows: it can be a sink, not a table to read"))
}

fn read_only(connector: &str) -> Error {
    Error::User(format!("connector '{connector}' only gives rows: it can be a table to read, not a sink"))
}
