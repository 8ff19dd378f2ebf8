//! `datagen`: rows made up from a seed, at a rate or as fast as they can be made.
//!
//! Every value is a function of the seed, its column and the number of its row, so the rows are the same at any pace, in
//! any batching and after any resumption.

mod column;

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::connector::{Connector, Reach, TableSpec, Wanted};
use crate::datagen::column::Column;
use crate::error::{Error, Result};
use crate::format::BATCH_ROWS;
use crate::options::{Checked, OptionSpec, nearest};
use crate::source::{Changes, Guarantee, Offsets, Poll, Progress, Source, SourceBatch};

/// The connector `datagen`.
#[derive(Clone, Copy, Debug)]
pub struct Datagen;

const fn option(
    name: &'static str,
    takes: &'static str,
    default: &'static str,
    help: &'static str,
    aliases: &'static [&'static str],
) -> OptionSpec {
    OptionSpec { name, aliases, takes, default: Some(default), help }
}

const OPTIONS: &[OptionSpec] = &[
    option("rows-per-second", "rows a second", "0", "how fast rows come; 0: as fast as they can be made", &[]),
    option("number-of-rows", "a number of rows", "", "after how many rows it ends; endless if not given", &[]),
    option("seed", "a whole number", "0", "another seed gives other rows", &[]),
    option("start", "a point in time", "2024-01-01T00:00:00Z", "the event time of the first row", &[]),
    option(
        "events-per-second",
        "rows a second of event time",
        "",
        "how many rows share a second of event time; rows-per-second if that is given, else 10000",
        &[],
    ),
    option("disorder", "a duration such as '3 s'", "0", "by how much event times are out of order at most", &[]),
    option(
        "fields.<column>.kind",
        "'random', 'sequence' or 'event-time'",
        "",
        "how values are made: 'event-time' for TIMESTAMP, else 'random'",
        &[],
    ),
    option("fields.<column>.min", "a value of the column's type", "", "the least random value", &[]),
    option("fields.<column>.max", "a value of the column's type", "", "the greatest random value", &[]),
    option("fields.<column>.length", "a number of characters", "16", "the length of a random text", &[]),
    option("fields.<column>.start", "a whole number", "", "the first value of a sequence", &[]),
    option("fields.<column>.end", "a whole number", "", "the last value of a sequence, which ends the table", &[]),
    option(
        "fields.<column>.distinct",
        "a number of values",
        "",
        "how many different random values there are",
        &["fields.<column>.cardinality"],
    ),
    option("fields.<column>.prefix", "a text", "", "what a text begins with, before its number", &[]),
    option("fields.<column>.values", "texts separated by commas", "", "the texts to choose from", &[]),
    option("fields.<column>.null-rate", "a number from 0 to 1", "0", "how often the value is NULL", &[]),
];

impl Connector for Datagen {
    fn name(&self) -> &'static str {
        "datagen"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn schema(&self, table: &TableSpec) -> Result<SchemaRef> {
        let options = table.checked(self)?;
        let schema = table.schema.clone().ok_or_else(|| {
            Error::User(format!("'{}': connector 'datagen' needs the columns to be declared", table.name))
        })?;
        Generator::new(&options, &schema, &Wanted::all(schema.clone()), table)?;
        Ok(schema)
    }

    fn is_stream(&self, _table: &TableSpec) -> bool {
        true
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Replayable
    }

    fn source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        Ok(Box::new(Generator::new(&table.checked(self)?, &table.columns()?, &table.wanted()?, table)?))
    }
}

/// What the columns share.
pub(crate) struct Shared {
    pub(crate) seed: u64,
    /// Event time of row 0, microseconds.
    pub(crate) start: i64,
    pub(crate) events_per_second: u64,
    /// Microseconds.
    pub(crate) disorder: u64,
}

struct Generator {
    /// Of the rows as they are given.
    schema: SchemaRef,
    columns: Vec<Column>,
    /// Rows a second; 0 is unpaced.
    pace: u64,
    end: u64,
    /// The number of the next row.
    next: u64,
    batch_rows: u64,
    /// When the pace began, and the row of that moment.
    began: Option<(Instant, u64)>,
    announced: bool,
    closed: bool,
    made: u64,
}

impl Generator {
    fn new(options: &Checked<'_>, schema: &SchemaRef, wanted: &Wanted, table: &TableSpec) -> Result<Generator> {
        for name in table.options.0.keys() {
            let Some(column) = name.strip_prefix("fields.").and_then(|rest| rest.rsplit_once('.')) else { continue };
            let names = || schema.fields().iter().map(|field| field.name().as_str());
            if !names().any(|there| there.eq_ignore_ascii_case(column.0)) {
                let meant = nearest(column.0, names()).map(|near| format!("; did you mean '{near}'?"));
                return Err(Error::User(format!(
                    "option '{name}' of {}: there is no column '{}'{}",
                    options.subject(),
                    column.0,
                    meant.unwrap_or_default()
                )));
            }
        }
        let pace = options.count("rows-per-second")?.unwrap_or(0);
        let start = options.required("start", crate::format::values::timestamp)?;
        let events = options.count("events-per-second")?.unwrap_or(if pace > 0 { pace } else { 10_000 });
        if events == 0 {
            return Err(options.wrong("events-per-second"));
        }
        let shared = Shared {
            seed: options.count("seed")?.unwrap_or(0),
            start,
            events_per_second: events,
            disorder: options.duration("disorder")?.unwrap_or_default().as_micros() as u64,
        };
        let columns = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(number, field)| Column::new(options, &shared, number, field))
            .collect::<Result<Vec<_>>>()?;
        let rows = options.count("number-of-rows")?;
        let end = columns.iter().filter_map(Column::rows).chain(rows).min();
        if matches!(table.reach, Reach::Once { .. }) && end.is_none() {
            return Err(Error::User(format!(
                "{} never ends, so there is no final answer; set 'number-of-rows', or read it as a stream",
                options.subject()
            )));
        }
        let mut columns: Vec<_> = columns.into_iter().map(Some).collect();
        let columns: Vec<_> = wanted.places.iter().filter_map(|place| columns[*place].take()).collect();
        let width: usize = columns.iter().map(Column::width).sum();
        Ok(Generator {
            schema: wanted.schema.clone(),
            columns,
            // Only those that live through it wait for the pace.
            pace: if table.reach.is_bounded() { 0 } else { pace },
            end: end.unwrap_or(u64::MAX),
            next: 0,
            batch_rows: ((4 << 20) / width.max(1)).clamp(256, BATCH_ROWS) as u64,
            began: None,
            announced: false,
            closed: false,
            made: 0,
        })
    }

    /// How many rows may be made now, after waiting at most `wait` for some.
    fn due(&mut self, wait: Duration) -> u64 {
        let left = (self.end - self.next).min(self.batch_rows);
        if self.pace == 0 {
            return left;
        }
        let (since, first) = *self.began.get_or_insert((Instant::now(), self.next));
        let pace = u128::from(self.pace);
        let due = |at: Instant| {
            let rows = at.duration_since(since).as_nanos() * pace / 1_000_000_000;
            u64::try_from(rows).unwrap_or(u64::MAX).saturating_add(first).saturating_sub(self.next)
        };
        let now = Instant::now();
        // Ten milliseconds of rows at a time: small enough to look steady, large enough to be cheap.
        let enough = (self.pace / 100).clamp(1, left);
        let ready = due(now);
        if ready >= enough {
            return ready.min(left);
        }
        let row = u128::from(self.next + enough - first);
        let nanos = u64::try_from((row * 1_000_000_000).div_ceil(pace)).unwrap_or(u64::MAX);
        let until = (since + Duration::from_nanos(nanos)).min(now + wait);
        std::thread::sleep(until.saturating_duration_since(now));
        due(Instant::now()).min(left)
    }

    fn batch(&mut self, rows: u64) -> Result<SourceBatch> {
        let range = self.next..self.next + rows;
        let columns = self.columns.iter().map(|column| column.values(range.clone())).collect::<Result<Vec<_>>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows as usize));
        let rows_ = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|error| Error::Internal(format!("generated rows do not fit: {error}")))?;
        self.next += rows;
        self.made += rows;
        Ok(SourceBatch {
            split: 0,
            rows: rows_,
            diffs: None,
            changes: Changes::Each,
            offset: self.next,
            offsets: Offsets::Dense,
            rejected: Vec::new(),
        })
    }
}

impl Source for Generator {
    fn poll(&mut self, wait: Duration) -> Result<Poll> {
        if !self.announced {
            self.announced = true;
            return Ok(Poll::Split { split: 0, name: "datagen".to_string(), begins: None });
        }
        if self.next >= self.end {
            return Ok(match std::mem::replace(&mut self.closed, true) {
                false => Poll::SplitEnd(0),
                true => Poll::End,
            });
        }
        match self.due(wait) {
            0 => Ok(Poll::Idle),
            rows => self.batch(rows).map(Poll::Batch),
        }
    }

    fn resume(&mut self, positions: &[(String, u64)]) -> Result<()> {
        if let Some((_, position)) = positions.iter().find(|(name, _)| name == "datagen") {
            self.next = *position;
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress { rows: self.made, bytes: 0, total_bytes: None }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType};

    use super::*;
    use crate::format::types::TIMESTAMP;
    use crate::options::Options;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("ts", TIMESTAMP, true),
            Field::new("region", DataType::Utf8, true),
            Field::new("user", DataType::Int64, true),
        ]))
    }

    fn table(schema: SchemaRef, options: &[(&str, &str)], bounded: bool) -> TableSpec {
        let options: Options = options.iter().copied().collect();
        let reach = if bounded { Reach::Once { growing: false } } else { Reach::Follow };
        TableSpec { name: "t".into(), options, schema: Some(schema), reach, ..TableSpec::default() }
    }

    fn read(source: &mut dyn Source, most: usize) -> (RecordBatch, u64) {
        let (mut batches, mut offset, mut rows) = (Vec::new(), 0, 0);
        loop {
            match source.poll(Duration::from_millis(50)).expect("a poll") {
                Poll::Batch(batch) => {
                    offset = batch.offset;
                    rows += batch.rows.num_rows();
                    batches.push(batch.rows);
                }
                Poll::End => break,
                _ => {}
            }
            if rows >= most {
                break;
            }
        }
        let schema = batches[0].schema();
        (concat_batches(&schema, &batches).expect("one batch"), offset)
    }

    const EVENTS: &[(&str, &str)] = &[
        ("number-of-rows", "100000"),
        ("events-per-second", "10000"),
        ("disorder", "3 s"),
        ("fields.region.distinct", "50"),
        ("fields.region.prefix", "region-"),
        ("fields.user.min", "1"),
        ("fields.user.max", "1000000"),
    ];

    #[test]
    fn rows_depend_on_the_seed_alone() {
        let all = |options: &[(&str, &str)], bounded| {
            let mut source = Datagen.source(&table(schema(), options, bounded)).expect("a source");
            read(source.as_mut(), usize::MAX).0
        };
        let unpaced = all(EVENTS, true);
        assert_eq!(unpaced.num_rows(), 100_000);
        let paced: Vec<_> = EVENTS.iter().copied().chain([("rows-per-second", "2000000")]).collect();
        assert_eq!(unpaced, all(&paced, false));
        let other: Vec<_> = EVENTS.iter().copied().chain([("seed", "1")]).collect();
        assert_ne!(unpaced, all(&other, true));

        let mut source = Datagen.source(&table(schema(), EVENTS, true)).expect("a source");
        source.resume(&[("datagen".into(), 70_000)]).expect("a position");
        assert_eq!(read(source.as_mut(), usize::MAX).0, unpaced.slice(70_000, 30_000));

        let start = 1_704_067_200_000_000;
        let mut newest = i64::MIN;
        for (row, time) in unpaced.column(0).as_primitive::<TimestampMicrosecondType>().values().iter().enumerate() {
            let base = start + row as i64 * 100;
            assert!(*time <= base && *time >= base - 3_000_000);
            newest = newest.max(*time);
            assert!(*time >= newest - 3_000_000);
        }
        let regions: std::collections::BTreeSet<_> = unpaced.column(1).as_string::<i32>().iter().flatten().collect();
        assert_eq!(regions.len(), 50);
        assert!(regions.contains("region-49"));
        let users = unpaced.column(2).as_primitive::<Int64Type>().values();
        assert!(users.iter().all(|user| (1..=1_000_000).contains(user)));
    }

    #[test]
    fn kinds_and_types() {
        let fields = vec![
            Field::new("id", DataType::Int32, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("pick", DataType::Utf8, true),
            Field::new("price", DataType::Decimal128(10, 2), true),
            Field::new("ratio", DataType::Float64, true),
            Field::new("flag", DataType::Boolean, true),
            Field::new("day", DataType::Date32, true),
        ];
        let schema = Arc::new(Schema::new(fields));
        let options = [
            ("fields.id.kind", "sequence"),
            ("fields.id.start", "5"),
            ("fields.id.end", "1004"),
            ("fields.name.length", "8"),
            ("fields.pick.values", "a, b,c"),
            ("fields.price.min", "1.50"),
            ("fields.price.max", "9.99"),
            ("fields.ratio.null-rate", "0.5"),
            ("fields.day.min", "2013-01-01"),
            ("fields.day.max", "2013-12-31"),
        ];
        let mut source = Datagen.source(&table(schema, &options, true)).expect("a source");
        let (rows, offset) = read(source.as_mut(), usize::MAX);
        assert_eq!((rows.num_rows(), offset), (1000, 1000));
        let ids = rows.column(0).as_primitive::<arrow::datatypes::Int32Type>();
        assert_eq!((ids.value(0), ids.value(999)), (5, 1004));
        assert!(rows.column(1).as_string::<i32>().iter().flatten().all(|text| text.len() == 8));
        assert!(rows.column(2).as_string::<i32>().iter().flatten().all(|text| ["a", "b", "c"].contains(&text)));
        let prices = rows.column(3).as_primitive::<arrow::datatypes::Decimal128Type>();
        assert!(prices.values().iter().all(|price| (150..=999).contains(price)));
        assert!((400..600).contains(&rows.column(4).null_count()));
        let days = rows.column(6).as_primitive::<arrow::datatypes::Date32Type>();
        assert!(days.values().iter().all(|day| (15_706..=16_070).contains(day)));
    }

    #[test]
    fn mistakes_are_named() {
        let error = |options: &[(&str, &str)], bounded| {
            Datagen.source(&table(schema(), options, bounded)).err().expect("an error").to_string()
        };
        assert!(error(&[], true).contains("never ends"));
        assert!(error(&[("fields.usr.min", "1")], false).contains("there is no column 'usr'; did you mean 'user'?"));
        assert!(error(&[("rows-per-secnd", "1")], false).contains("did you mean 'rows-per-second'?"));
        assert!(error(&[("fields.user.min", "x")], false).contains("option 'fields.user.min' of 't'"));
        assert!(error(&[("fields.user.min", "2"), ("fields.user.max", "1")], false).contains("less than"));
    }

    /// What an endless table has given so far can be read again, without waiting for it once more.
    #[test]
    fn an_endless_table_is_read_again_at_once() {
        let options = [("rows-per-second", "10"), ("fields.user.distinct", "7")];
        let table = TableSpec { reach: Reach::Again, ..table(schema(), &options, true) };
        let began = Instant::now();
        let (all, _) = read(Datagen.source(&table).expect("a source").as_mut(), 10_000);
        assert!(began.elapsed() < Duration::from_secs(60), "it would take a quarter of an hour at its pace");

        // Only some columns of it: the same values.
        let table = TableSpec { projection: Some(vec![2, 0]), ..table };
        let (some, _) = read(Datagen.source(&table).expect("a source").as_mut(), 10_000);
        let rows = all.num_rows().min(some.num_rows());
        assert_eq!(all.project(&[2, 0]).expect("columns").slice(0, rows), some.slice(0, rows));
    }

    #[test]
    fn the_pace_is_kept() {
        let options = [("rows-per-second", "10000"), ("number-of-rows", "2000")];
        let mut source = Datagen.source(&table(schema(), &options, false)).expect("a source");
        let began = Instant::now();
        assert_eq!(read(source.as_mut(), usize::MAX).0.num_rows(), 2000);
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(190), "{took:?}");
    }
}
