//! `filesystem`: local files as tables, and folders that take rows.

mod blocks;
mod content;
mod follow;
#[cfg(test)]
mod follow_tests;
mod lane;
mod names;
mod one_file;
#[cfg(test)]
mod order_tests;
mod paths;
mod pool;
mod reader;
mod reading;
mod sink;
#[cfg(test)]
mod sink_tests;
mod sorted;
mod source;
#[cfg(test)]
mod source_tests;
mod spill;
mod step;
#[cfg(test)]
mod testing;
mod watch;

use arrow::datatypes::SchemaRef;

use crate::connector::{Connector, TableSpec};
use crate::error::Result;
use crate::filesystem::names::AllNames;
use crate::filesystem::reading::Reading;
use crate::format::text::text_options;
use crate::options::OptionSpec;
use crate::sink::{OutputMode, Sink, SinkGuarantee};
use crate::source::{Guarantee, Source};

/// The connector `filesystem`.
#[derive(Clone, Debug, Default)]
pub struct Filesystem {
    names: AllNames,
}

const OPTIONS: &[OptionSpec] = text_options!(
    OptionSpec {
        name: "path",
        aliases: &[],
        takes: "a file, a folder or a pattern such as 'data/*.csv'",
        default: None,
        help: "where the files are; for a sink, the folder to write into",
    },
    OptionSpec {
        name: "source.monitor-interval",
        aliases: &[],
        takes: "a duration such as '1 s'",
        default: Some("1 s"),
        help: "how often to look for new files when following",
    },
    OptionSpec {
        name: "scan.order",
        aliases: &[],
        takes: "'event-time'",
        default: Some(""),
        help: "in which order the rows of a file are read once: as they stand in it, or sorted by event time",
    },
    OptionSpec {
        name: "sink.rolling-policy.rows",
        aliases: &[],
        takes: "a number of rows",
        default: Some("1000000"),
        help: "how many rows a written file holds at most",
    },
    OptionSpec {
        name: "parquet.compression",
        aliases: &["compression"],
        takes: "'snappy', 'zstd', 'gzip' or 'none'",
        default: Some("snappy"),
        help: "how written Parquet files are compressed",
    },
);

impl Connector for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn schema(&self, table: &TableSpec) -> Result<SchemaRef> {
        let reading = Reading::of(table, &table.checked(self)?)?;
        reading.wanted(&reading.list()?)?;
        match &table.schema {
            Some(schema) => {
                reading.check(schema)?;
                Ok(schema.clone())
            }
            None => reading.infer(),
        }
    }

    fn is_stream(&self, table: &TableSpec) -> bool {
        table.options.0.contains_key("source.monitor-interval")
    }

    fn reading_order(&self, table: &TableSpec) -> Option<String> {
        let reading = Reading::of(table, &table.checked(self).ok()?).ok()?;
        Some(reading.order(table.event_time.is_some()).to_owned())
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Replayable
    }

    fn source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        let reading = Reading::of(table, &table.checked(self)?)?;
        let names = self.names.of(&table.name, &reading.place.text());
        Ok(Box::new(source::Files::new(reading, table.wanted()?, table.wanted_event_time(), names)?))
    }

    fn sink_guarantee(&self, _table: &TableSpec, mode: OutputMode) -> SinkGuarantee {
        match mode {
            OutputMode::Complete => SinkGuarantee::Idempotent,
            OutputMode::Append | OutputMode::Update | OutputMode::Changelog => SinkGuarantee::AtLeastOnce,
        }
    }

    fn sink(&self, table: &TableSpec, mode: OutputMode) -> Result<Box<dyn Sink>> {
        sink::open(table, &table.checked(self)?, mode)
    }
}
