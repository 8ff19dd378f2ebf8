//! The independent answer: tables as plain multisets, queries over them by DataFusion's own executor.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use headwater::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use headwater::arrow::compute::{cast, concat_batches};
use headwater::arrow::datatypes::{DataType, Float64Type, SchemaRef};
use headwater::arrow::util::display::{ArrayFormatter, FormatOptions};
use headwater::datafusion::datasource::MemTable;
use headwater::datafusion::prelude::{SessionConfig, SessionContext};
use headwater::{Emission, Event, Op, OutputMode, Subscription};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// How long a test waits for something that must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A row as text, which is cast to the types of its table.
pub type Row = Vec<Option<String>>;

/// Rows as text, each with its number of copies.
pub type Multiset = BTreeMap<Vec<String>, i64>;

/// A row of these texts; `-` stands for NULL.
pub fn row(cells: &[&str]) -> Row {
    cells.iter().map(|cell| (*cell != "-").then(|| (*cell).to_owned())).collect()
}

/// Rows as a batch of a table's columns.
pub fn batch(schema: &SchemaRef, rows: &[Row]) -> RecordBatch {
    let columns = schema.fields().iter().enumerate().map(|(i, field)| {
        let texts: ArrayRef = Arc::new(rows.iter().map(|row| row[i].as_deref()).collect::<StringArray>());
        let array = cast(&texts, field.data_type()).unwrap();
        assert_eq!(array.null_count(), texts.null_count(), "a cell of {} does not fit", field.name());
        array
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

/// A batch's rows as text. `digits` rounds floats, for what is exact in us and not in the oracle.
pub fn texts(batch: &RecordBatch, digits: Option<usize>) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let cells: Vec<Box<dyn Fn(usize) -> String>> = batch
        .columns()
        .iter()
        .map(|array| match (digits, array.data_type()) {
            (Some(digits), DataType::Float64) => {
                let floats = array.as_primitive::<Float64Type>().clone();
                let text = move |i: usize| match floats.is_null(i) {
                    true => "NULL".to_owned(),
                    // Away from zero, so that a difference in the last place is none here.
                    false => format!("{:.*e}", digits, floats.value(i) + 1.0),
                };
                Box::new(text) as Box<dyn Fn(usize) -> String>
            }
            _ => {
                let formatter = ArrayFormatter::try_new(array.as_ref(), &options).unwrap();
                let null = array.logical_nulls();
                Box::new(move |i| match null.as_ref().is_some_and(|null| null.is_null(i)) {
                    true => "NULL".to_owned(),
                    false => formatter.value(i).to_string(),
                })
            }
        })
        .collect();
    (0..batch.num_rows()).map(|i| cells.iter().map(|cell| cell(i)).collect()).collect()
}

/// A batch as a multiset.
pub fn multiset(batch: &RecordBatch, digits: Option<usize>) -> Multiset {
    let mut counts = Multiset::new();
    for row in texts(batch, digits) {
        *counts.entry(row).or_default() += 1;
    }
    counts
}

/// A multiset written down, a row a line.
pub fn show(rows: &Multiset) -> String {
    rows.iter().map(|(row, count)| format!("  {count} x {}\n", row.join(" | "))).collect()
}

/// DataFusion's answer over tables with these contents.
pub struct Batch(SessionContext);

impl Batch {
    pub fn over(tables: &[(&str, RecordBatch)]) -> Self {
        let config = SessionConfig::new().with_target_partitions(1);
        let context = SessionContext::new_with_config(config);
        for (name, rows) in tables {
            let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).unwrap();
            context.register_table(*name, Arc::new(table)).unwrap();
        }
        Batch(context)
    }

    pub fn answer(&self, sql: &str) -> RecordBatch {
        static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
        let runtime =
            RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap());
        runtime.block_on(async {
            let frame = self.0.sql(sql).await.unwrap_or_else(|e| panic!("oracle: {e}\n{sql}"));
            let schema = Arc::new(frame.schema().as_arrow().clone());
            let batches = frame.collect().await.unwrap_or_else(|e| panic!("oracle: {e}\n{sql}"));
            let schema = batches.first().map_or(schema, RecordBatch::schema);
            concat_batches(&schema, &batches).unwrap()
        })
    }
}

/// A changelog as it was received: `(time, row, diff)`.
#[derive(Debug, Default)]
pub struct Changelog(pub Vec<(i64, Vec<String>, i64)>);

impl Changelog {
    /// Adds an emission's changes.
    pub fn add(&mut self, emission: &Emission, digits: Option<usize>) {
        assert_eq!(emission.mode, OutputMode::Changelog);
        for (i, row) in texts(&emission.rows, digits).into_iter().enumerate() {
            let count = i64::try_from(emission.counts[i]).unwrap();
            let diff = match emission.ops[i] {
                Op::Insert => count,
                Op::Delete => -count,
                Op::Upsert => panic!("an upsert in a changelog"),
            };
            self.0.push((emission.times[i], row, diff));
        }
    }

    /// Everything through `time`, summed.
    pub fn at(&self, time: i64) -> Multiset {
        let mut rows = Multiset::new();
        for (_, row, diff) in self.0.iter().filter(|(t, _, _)| *t <= time) {
            *rows.entry(row.clone()).or_default() += diff;
        }
        rows.retain(|_, count| *count != 0);
        rows
    }

    /// The times at which something changes.
    pub fn times(&self) -> Vec<i64> {
        let mut times: Vec<i64> = self.0.iter().map(|(t, _, _)| *t).collect();
        times.sort_unstable();
        times.dedup();
        times
    }
}

/// The next emission, `None` at the end; fails where nothing comes.
pub fn next(subscription: &mut Subscription) -> Option<Emission> {
    match subscription.next(PATIENCE).unwrap() {
        Event::Emission(emission) => Some(emission),
        Event::End => None,
        Event::Idle => panic!("nothing came for {PATIENCE:?}; the frontier is {:?}", subscription.frontier()),
    }
}

/// Reads a changelog to its end. Each emission must hold what is closed by it, and nothing that was closed before.
pub fn to_the_end(subscription: &mut Subscription, digits: Option<usize>) -> Changelog {
    let mut changelog = Changelog::default();
    let mut closed = i64::MIN;
    while let Some(emission) = next(subscription) {
        for time in &emission.times {
            assert!(*time >= closed, "a change at {time}, after all before {closed} was closed");
            assert!(emission.frontier.is_none_or(|f| *time < f), "a change at {time} is not closed");
        }
        changelog.add(&emission, digits);
        closed = emission.frontier.unwrap_or(i64::MAX);
    }
    changelog
}

/// Reads a changelog until everything before `frontier` is closed.
#[allow(dead_code, reason = "for tests that wait for one time")]
pub fn until(subscription: &mut Subscription, changelog: &mut Changelog, frontier: i64) {
    while subscription.frontier().is_some_and(|f| f < frontier) {
        match next(subscription) {
            Some(emission) => changelog.add(&emission, None),
            None => return,
        }
    }
    // What is closed and was not asked for yet.
    while let Event::Emission(emission) = subscription.next(Duration::from_millis(1)).unwrap() {
        changelog.add(&emission, None);
    }
}

/// The number in an environment variable, or a default.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} takes a number")))
}

/// The seeds to run with: `HEADWATER_SEED` and as many after it as `HEADWATER_ROUNDS` says.
pub fn seeds() -> impl Iterator<Item = u64> {
    let first = setting("HEADWATER_SEED", 1);
    first..first + setting("HEADWATER_ROUNDS", 1)
}

/// A source of random numbers, always the same for a seed.
pub fn random(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

/// One of these, or NULL for `-`.
pub fn one_of(random: &mut SmallRng, of: &[&str]) -> Option<String> {
    let text = of[random.random_range(0..of.len())];
    (text != "-").then(|| text.to_owned())
}
