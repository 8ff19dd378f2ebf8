//! Other engines as judges: at every closed time a random query's changelog, summed up, is what SQLite answers over the tables
//! as of that time, with one worker and with two.
//!
//! `HEADWATER_SEED` says where to begin, `HEADWATER_JUDGE_SECONDS` how long to go on. With `HEADWATER_DUCKDB=python3` that
//! Python, which must have the package `duckdb`, is asked as well.

mod duckdb;
mod generate;
mod sqlite;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use headwater::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use headwater::arrow::compute::cast;
use headwater::arrow::datatypes::{DataType, Float64Type};
use headwater::{Event, Op, OutputMode, Session, Subscription, Trigger};

use self::generate::{Change, Generator, Query, Side, TABLES, changes, written};
use crate::oracle::{self, PATIENCE, Row};

/// A value as all engines can have it.
#[derive(Clone, Debug)]
enum Value {
    Null,
    Integer(i128),
    Real(f64),
    Text(String),
}

/// Rows with their copies, each written as its columns' types want it.
type Rows = BTreeMap<Vec<String>, i64>;

/// An engine that answers the same queries.
trait Judge {
    fn side(&self) -> Side;
    /// Runs a statement.
    fn execute(&mut self, sql: &str) -> Result<(), String>;
    /// A query's rows.
    fn answer(&mut self, sql: &str) -> Result<Vec<Vec<Value>>, String>;
}

/// How a column's values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Integer,
    Real,
    Bool,
    Text,
}

impl Class {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Class::Bool,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Class::Text,
            other if other.is_integer() || *other == DataType::Null => Class::Integer,
            other if other.is_numeric() => Class::Real,
            other => panic!("no query gives a column of type {other}"),
        }
    }

    /// A judge's value as this column's text.
    fn text(self, value: &Value) -> String {
        match (self, value) {
            (_, Value::Null) => "NULL".to_owned(),
            (Class::Integer, Value::Integer(n)) => n.to_string(),
            (Class::Bool, Value::Integer(n)) => (*n != 0).to_string(),
            (Class::Real, Value::Integer(n)) => real(*n as f64),
            (Class::Real, Value::Real(x)) => real(*x),
            (Class::Text, Value::Text(text)) => format!("'{text}'"),
            (_, other) => format!("{other:?}"),
        }
    }
}

fn real(x: f64) -> String {
    // There is one zero.
    format!("{:?}", x + 0.0)
}

/// Our rows as such texts.
fn ours(batch: &RecordBatch) -> Vec<Vec<String>> {
    let columns: Vec<(Class, ArrayRef)> = batch
        .columns()
        .iter()
        .map(|column| {
            let class = Class::of(column.data_type());
            let to = match class {
                Class::Real => DataType::Float64,
                _ => DataType::Utf8,
            };
            (class, cast(column, &to).unwrap())
        })
        .collect();
    let cell = |(class, column): &(Class, ArrayRef), row: usize| match class {
        _ if column.is_null(row) => "NULL".to_owned(),
        Class::Real => real(column.as_primitive::<Float64Type>().value(row)),
        Class::Text => format!("'{}'", column.as_string::<i32>().value(row)),
        _ => column.as_string::<i32>().value(row).to_owned(),
    };
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| cell(column, row)).collect()).collect()
}

/// What one query gave: its changes by time, or why it ended.
type Changelog = Result<Vec<(i64, Vec<String>, i64)>, String>;

fn read(mut subscription: Subscription) -> Changelog {
    let mut all = Vec::new();
    loop {
        match subscription.next(PATIENCE).map_err(|error| error.to_string())? {
            Event::Emission(emission) => {
                for (i, row) in ours(&emission.rows).into_iter().enumerate() {
                    let count = emission.counts[i] as i64;
                    let diff = if emission.ops[i] == Op::Delete { -count } else { count };
                    all.push((emission.times[i], row, diff));
                }
            }
            Event::End => return Ok(all),
            Event::Idle => return Err(format!("nothing came for {PATIENCE:?}")),
        }
    }
}

/// A batch of queries over views and tables, and what changes there.
struct Trial {
    views: Vec<(String, Query)>,
    queries: Vec<Query>,
    changes: Vec<Change>,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let mut random = oracle::random(seed);
        let changes = changes(&mut random, 10);
        let mut generator = Generator::new(&mut random);
        let mut views = Vec::new();
        for number in 0..seed as usize % 4 {
            let query = generator.query(1);
            let name = format!("v{number}");
            generator.views.push((name.clone(), query.kinds.clone()));
            views.push((name, query));
        }
        let queries = (0..12).map(|n| generator.query(n % 4)).collect();
        Trial { views, queries, changes }
    }

    /// Pushes the changes; gives their times and each query's changelog. Queries that are refused have none.
    fn run(
        &self,
        workers: usize,
        refused: &mut BTreeMap<String, (u64, String)>,
    ) -> (Vec<i64>, Vec<Option<(Vec<Class>, Changelog)>>) {
        let session = Session::builder().workers(workers).build().unwrap();
        for table in &TABLES {
            let columns: Vec<_> = table.columns.iter().map(|(name, kind, ..)| format!("{name} {kind}")).collect();
            session.execute(&format!("CREATE TABLE {} ({})", table.name, columns.join(", "))).unwrap();
        }
        let mut refuse = |error: headwater::Error, sql: &str| {
            let message = error.to_string();
            // Without the place and the names in it.
            let line = message.lines().next().unwrap_or_default();
            refused.entry(line.chars().take(110).collect()).or_insert((0, sql.to_owned())).0 += 1;
        };
        for (name, query) in &self.views {
            let sql = format!("CREATE MATERIALIZED VIEW {name} AS {}", written(&query.text, Side::Ours));
            if let Err(error) = session.execute(&sql) {
                refuse(error, &sql);
            }
        }
        let subscriptions: Vec<_> = self
            .queries
            .iter()
            .map(|query| {
                let sql = written(&query.text, Side::Ours);
                let frame = session.sql(&sql).map_err(|error| refuse(error, &sql)).ok()?;
                let classes = frame.schema().fields().iter().map(|field| Class::of(field.data_type())).collect();
                let stream = frame.write_stream().output_mode(OutputMode::Changelog).trigger(Trigger::Continuous);
                Some((classes, stream.subscribe().map_err(|error| refuse(error, &sql)).ok()?))
            })
            .collect();
        let mut inputs: Vec<_> = TABLES.iter().map(|table| session.input(table.name).unwrap()).collect();
        let schemas: Vec<_> = TABLES.iter().map(|table| session.table(table.name).unwrap().schema()).collect();
        let mut times = Vec::new();
        for change in &self.changes {
            let rows = oracle::batch(&schemas[change.table], &change.rows);
            let pushed = inputs[change.table].push_atomic(rows, change.diffs.clone()).unwrap();
            times.push(pushed.frontier.unwrap() - 1);
        }
        inputs.into_iter().for_each(headwater::Input::close);
        let read = |(classes, subscription)| (classes, read(subscription));
        (times, subscriptions.into_iter().map(|subscription| subscription.map(read)).collect())
    }

    /// Each query's answer before all changes, and after each; `None` where we or the judge refuse it.
    fn judged(&self, judge: &mut dyn Judge, classes: &[Option<Vec<Class>>]) -> Result<Vec<Vec<Option<Rows>>>, String> {
        let side = judge.side();
        let theirs = |text: &str| written(text, side);
        let mut setup = Vec::new();
        for table in &TABLES {
            let kind = |kind: &str, theirs: &str| if side == Side::Sqlite { theirs } else { kind }.to_owned();
            let columns: Vec<_> =
                table.columns.iter().map(|(name, ours, theirs, ..)| format!("{name} {}", kind(ours, theirs))).collect();
            setup.push(format!("CREATE TABLE {} ({})", table.name, columns.join(", ")));
        }
        let queries: Vec<String> = self.queries.iter().map(|query| theirs(&query.text)).collect();
        setup.iter().try_for_each(|sql| judge.execute(sql))?;
        for (name, query) in &self.views {
            // One that the judge refuses takes the queries over it along.
            let _ = judge.execute(&format!("CREATE VIEW {name} AS {}", theirs(&query.text)));
        }
        let ask = |judge: &mut dyn Judge| -> Vec<Option<Rows>> {
            let answer = |(sql, classes): (&String, &Option<Vec<Class>>)| {
                let mut rows = Rows::new();
                for row in judge.answer(sql).ok()? {
                    let row = classes.as_ref()?.iter().zip(&row).map(|(class, value)| class.text(value)).collect();
                    *rows.entry(row).or_default() += 1;
                }
                Some(rows)
            };
            queries.iter().zip(classes).map(answer).collect()
        };
        let mut answers = vec![ask(judge)];
        for change in &self.changes {
            let table = &TABLES[change.table];
            for (row, diff) in change.rows.iter().zip(&change.diffs) {
                judge.execute(&statement(table, row, *diff > 0))?;
            }
            answers.push(ask(judge));
        }
        Ok(answers)
    }
}

/// What adds a row to a table, or takes one copy of it out.
fn statement(table: &generate::Table, row: &Row, comes: bool) -> String {
    let literals: Vec<String> = table
        .columns
        .iter()
        .zip(row)
        .map(|((.., kind, _), cell)| match cell {
            None => "NULL".to_owned(),
            Some(text) if *kind == generate::Kind::Text => format!("'{text}'"),
            Some(text) => text.clone(),
        })
        .collect();
    let name = table.name;
    if comes {
        return format!("INSERT INTO {name} VALUES ({})", literals.join(", "));
    }
    let same: Vec<String> = table
        .columns
        .iter()
        .zip(&literals)
        .map(|((column, ..), literal)| format!("{column} IS NOT DISTINCT FROM {literal}"))
        .collect();
    let one = format!("SELECT min(rowid) FROM {name} WHERE {}", same.join(" AND "));
    format!("DELETE FROM {name} WHERE rowid = ({one})")
}

/// Where a changelog, summed up, first differs from the answers.
fn difference(changelog: &Changelog, times: &[i64], answers: &[&Rows]) -> Option<String> {
    let changes = match changelog {
        Ok(changes) => changes,
        Err(error) => return Some(format!("it ended: {error}")),
    };
    let at = |time: i64| {
        let mut rows = Rows::new();
        for (_, row, diff) in changes.iter().filter(|(t, ..)| *t <= time) {
            *rows.entry(row.clone()).or_default() += diff;
        }
        rows.retain(|_, count| *count != 0);
        rows
    };
    // What is there before the first change is there since ever.
    let times: Vec<i64> = std::iter::once(i64::MIN).chain(times.iter().copied()).collect();
    if let Some((time, ..)) = changes.iter().find(|(time, ..)| !times.contains(time)) {
        return Some(format!("it changes at {time}, where no table does"));
    }
    times.iter().zip(answers).enumerate().find_map(|(n, (time, expected))| {
        let found = at(*time);
        let last = times.get(n + 1) != Some(time);
        (last && found != **expected).then(|| {
            format!("after change {n} it is\n{}and should be\n{}", oracle::show(&found), oracle::show(expected))
        })
    })
}

#[test]
fn other_engines_agree() {
    let begin = Instant::now();
    let most = Duration::from_secs(oracle::setting("HEADWATER_JUDGE_SECONDS", 20));
    let first = oracle::setting("HEADWATER_SEED", 1);
    let (mut asked, mut judged, mut refused, mut wrong) = (0, 0, BTreeMap::new(), Vec::new());
    let mut seed = first;
    while begin.elapsed() < most && wrong.len() < 20 {
        let trial = Trial::new(seed);
        let (times, one) = trial.run(1, &mut refused);
        let (other_times, two) = trial.run(2, &mut BTreeMap::new());
        assert_eq!(times, other_times, "seed {seed}: the times depend on the workers");
        let classes: Vec<_> = one.iter().map(|run| run.as_ref().map(|(classes, _)| classes.clone())).collect();
        asked += classes.iter().flatten().count();
        let mut judges: Vec<(&str, Box<dyn Judge>)> = vec![("SQLite", Box::new(sqlite::Sqlite::new()))];
        if let Ok(python) = std::env::var("HEADWATER_DUCKDB") {
            judges.push(("DuckDB", Box::new(duckdb::Duckdb::new(&python))));
        }
        let mut agreed = BTreeSet::new();
        for (name, mut judge) in judges {
            let answers = trial.judged(judge.as_mut(), &classes).unwrap_or_else(|e| panic!("seed {seed}: {name}: {e}"));
            for (n, query) in trial.queries.iter().enumerate() {
                let runs = [&one[n], &two[n]];
                let found = runs.into_iter().zip([1, 2]).find_map(|(run, workers)| {
                    let (_, changelog) = run.as_ref()?;
                    let expected: Vec<&Rows> =
                        answers.iter().map(|answers| answers[n].as_ref()).collect::<Option<_>>()?;
                    judged += u64::from(workers == 1);
                    Some(format!("{workers} workers: {}", difference(changelog, &times, &expected)?))
                });
                if found.is_none() && name == "SQLite" && one[n].is_some() && answers[0][n].is_some() {
                    agreed.insert(n);
                }
                if let Some(found) = found {
                    let views: Vec<_> = trial
                        .views
                        .iter()
                        .map(|(name, q)| format!("{name}: {}\n", written(&q.text, Side::Ours)))
                        .collect();
                    let (ours, theirs) = (written(&query.text, Side::Ours), written(&query.text, judge.side()));
                    let theirs = if ours == theirs { String::new() } else { format!("{name}: {theirs}\n") };
                    let report = format!("seed {seed}, query {n}\n{}{ours}\n{theirs}{found}", views.concat());
                    if agreed.contains(&n) {
                        println!("SQLite says as we do, {name} does not: {report}");
                    } else {
                        wrong.push(report);
                    }
                }
            }
        }
        seed += 1;
    }
    let refused_all: u64 = refused.values().map(|(count, _)| count).sum();
    println!("seeds {first} to {}: {asked} queries, {judged} answers of judges, {refused_all} refused", seed - 1);
    refused.iter().for_each(|(message, (count, sql))| println!("{count:6} x {message}\n         {sql}"));
    assert!(wrong.is_empty(), "{} answers differ\n\n{}", wrong.len(), wrong.join("\n\n"));
}
