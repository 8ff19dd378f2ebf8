//! Output modes say the same in different words; triggers move when it is said, never what.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use headwater::{Emission, Event, Input, Op, OutputMode, Session, Subscription, Trigger};
use rand::Rng;

use crate::oracle::{self, Multiset, Row, next, row};

fn subscribe(session: &Session, sql: &str, mode: OutputMode, trigger: Trigger) -> Subscription {
    session.sql(sql).unwrap().write_stream().output_mode(mode).trigger(trigger).subscribe().unwrap()
}

fn session(workers: usize) -> Session {
    let session = Session::builder().workers(workers).build().unwrap();
    session.execute("CREATE TABLE t (k BIGINT, v BIGINT, s TEXT)").unwrap();
    session
}

/// A table as a reader of some mode puts it together.
#[derive(Default)]
struct Table(Multiset);

impl Table {
    /// Takes an emission. `key` says how many first columns are the key, in update mode.
    fn take(&mut self, emission: &Emission, key: usize) {
        let rows = oracle::texts(&emission.rows, None);
        assert_eq!(rows.len(), emission.ops.len());
        if emission.mode == OutputMode::Complete {
            self.0.clear();
        }
        // The new row of a key replaces all that it had.
        if emission.mode == OutputMode::Update {
            for (row, op) in rows.iter().zip(&emission.ops) {
                let there = self.0.keys().any(|old| old[..key] == row[..key]);
                assert_eq!(there, *op != Op::Insert, "{op:?} of {row:?}");
            }
            for row in &rows {
                self.0.retain(|old, _| old[..key] != row[..key]);
            }
        }
        for ((row, op), count) in rows.into_iter().zip(&emission.ops).zip(&emission.counts) {
            let count = *count as i64;
            let diff = match (emission.mode, op) {
                (OutputMode::Append | OutputMode::Complete | OutputMode::Changelog, Op::Insert) => count,
                (OutputMode::Changelog, Op::Delete) => -count,
                (OutputMode::Update, Op::Insert | Op::Upsert) => count,
                (OutputMode::Update, Op::Delete) => continue,
                (mode, op) => panic!("{op:?} in {mode:?}"),
            };
            // One change after another, the result is right at each.
            let there = self.0.entry(row).or_default();
            *there += diff;
            assert!(*there >= 0, "{op:?} of a row that is not there: {emission:?}");
        }
        self.0.retain(|_, count| *count != 0);
        assert!(self.0.values().all(|count| *count > 0));
    }
}

fn random_changes(input: &mut Input, session: &Session, seed: u64, changes: usize) -> BTreeMap<Row, i64> {
    let schema = session.table("t").unwrap().schema();
    let mut random = oracle::random(seed);
    let mut there: Vec<Row> = Vec::new();
    for _ in 0..changes {
        let (mut rows, mut diffs) = (Vec::new(), Vec::new());
        for _ in 0..random.random_range(1..5) {
            if !there.is_empty() && random.random_bool(0.45) {
                rows.push(there.swap_remove(random.random_range(0..there.len())));
                diffs.push(-1);
            } else {
                let row = vec![
                    oracle::one_of(&mut random, &["-", "0", "1", "2"]),
                    oracle::one_of(&mut random, &["-", "1", "2", "3", "4"]),
                    oracle::one_of(&mut random, &["-", "x", "y"]),
                ];
                there.push(row.clone());
                rows.push(row);
                diffs.push(1);
            }
        }
        input.push_atomic(oracle::batch(&schema, &rows), diffs).unwrap();
    }
    let mut contents = BTreeMap::new();
    there.into_iter().for_each(|row| *contents.entry(row).or_default() += 1);
    contents
}

#[test]
fn update_complete_and_changelog_tell_of_the_same_table() {
    // A query, and how many columns are its key; all where rows have none.
    let queries = [
        ("SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k", 1),
        ("SELECT k, s, max(v) AS hi FROM t GROUP BY k, s", 2),
        ("SELECT sum(v) AS s FROM t", 0),
        ("SELECT k, v FROM t WHERE v > 1", 2),
        ("SELECT DISTINCT s FROM t", 1),
        ("SELECT l.k, l.v, r.s FROM t l LEFT JOIN t r ON l.k = r.v", 3),
        ("SELECT k, count(*) AS n FROM t GROUP BY k ORDER BY n DESC, k LIMIT 2", 1),
    ];
    for workers in [1, 2] {
        for trigger in
            [Trigger::Continuous, Trigger::Within(Duration::from_millis(5)), Trigger::Every(Duration::from_millis(20))]
        {
            let session = session(workers);
            let modes = [OutputMode::Changelog, OutputMode::Update, OutputMode::Complete];
            let mut subscriptions: Vec<_> = queries
                .iter()
                .map(|(sql, key)| (sql, key, modes.map(|mode| subscribe(&session, sql, mode, trigger))))
                .collect();
            let mut input = session.input("t").unwrap();
            random_changes(&mut input, &session, 3, 25);
            input.close();
            for (sql, key, subscriptions) in &mut subscriptions {
                let tables = subscriptions.each_mut().map(|subscription| {
                    let mut table = Table::default();
                    while let Some(emission) = next(subscription) {
                        table.take(&emission, **key);
                    }
                    table.0
                });
                assert_eq!(tables[0], tables[1], "update, {trigger:?}, {workers} workers: {sql}");
                assert_eq!(tables[0], tables[2], "complete, {trigger:?}, {workers} workers: {sql}");
                let view = session.sql(sql).unwrap().collect().unwrap();
                assert_eq!(tables[0], oracle::multiset(&view, None), "collect, {trigger:?}: {sql}");
            }
        }
    }
}

#[test]
fn append_gives_each_row_once_and_refuses_what_leaves() {
    let session = Session::builder().workers(2).build().unwrap();
    session.execute("CREATE TABLE t (k BIGINT, v BIGINT, s TEXT) WITH (connector = 'channel')").unwrap();
    let sql = "SELECT k, v FROM t WHERE v > 1";
    let mut append = subscribe(&session, sql, OutputMode::Append, Trigger::Continuous);
    let mut changelog = subscribe(&session, sql, OutputMode::Changelog, Trigger::Continuous);
    let schema = session.table("t").unwrap().schema();
    let mut input = session.input("t").unwrap();
    for v in 0..20 {
        let v = v.to_string();
        input.push(oracle::batch(&schema, &[row(&["1", &v, "-"]), row(&["2", &v, "x"])])).unwrap();
    }
    let mut written = Table::default();
    while written.0.values().sum::<i64>() < 36 {
        written.take(&next(&mut append).unwrap(), 0);
    }
    assert!(written.0.values().all(|count| *count == 1));
    // The program takes a row back after all: then append mode ends with an error.
    input.push_atomic(oracle::batch(&schema, &[row(&["1", "5", "-"])]), vec![-1]).unwrap();
    let error = loop {
        match append.recv() {
            Ok(emission) => assert_eq!(emission.unwrap().ops.len(), 0),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("append") && error.contains("'changelog'"), "{error}");
    input.close();
    let mut table = Table::default();
    while let Some(emission) = next(&mut changelog) {
        table.take(&emission, 0);
    }
    assert_eq!(table.0.values().sum::<i64>(), 35);
}

#[test]
fn an_interval_gathers_and_nets_out() {
    let session = session(1);
    let sql = "SELECT k, count(*) AS n FROM t GROUP BY k";
    let interval = Duration::from_millis(300);
    let mut changes = subscribe(&session, sql, OutputMode::Update, Trigger::Every(interval));
    let begin = Instant::now();
    let schema = session.table("t").unwrap().schema();
    let mut input = session.input("t").unwrap();
    for _ in 0..50 {
        input.push(oracle::batch(&schema, &[row(&["1", "1", "-"])])).unwrap();
    }
    // Key 2 comes and goes between two emissions.
    input.push_atomic(oracle::batch(&schema, &[row(&["2", "1", "-"])]), vec![1]).unwrap();
    input.push_atomic(oracle::batch(&schema, &[row(&["2", "1", "-"])]), vec![-1]).unwrap();
    let pushed = begin.elapsed();
    let mut emissions = Vec::new();
    while emissions.iter().map(|e: &Emission| e.ops.len()).sum::<usize>() == 0
        || oracle::texts(&emissions.last().unwrap().rows, None).last() != Some(&vec!["1".to_owned(), "50".to_owned()])
    {
        emissions.push(next(&mut changes).unwrap());
    }
    // So many intervals can have passed, and no more emissions.
    let intervals = begin.elapsed().as_millis() / interval.as_millis() + 1;
    assert!(emissions.len() as u128 <= intervals, "{} emissions in {intervals} intervals", emissions.len());
    if pushed < interval / 2 {
        let told = emissions.iter().flat_map(|e| oracle::texts(&e.rows, None));
        assert!(told.into_iter().all(|row| row[0] == "1"));
    }
}

#[test]
fn available_now_ends_and_gives_what_was_there() {
    for workers in [1, 2] {
        let session = session(workers);
        let mut input = session.input("t").unwrap();
        random_changes(&mut input, &session, 5, 20);
        let sql = "SELECT k, count(*) AS n FROM t GROUP BY k";
        let expected = oracle::multiset(&session.sql(sql).unwrap().collect().unwrap(), None);
        for mode in [OutputMode::Changelog, OutputMode::Update, OutputMode::Complete] {
            let mut once = subscribe(&session, sql, mode, Trigger::AvailableNow);
            let (mut table, mut emissions) = (Table::default(), 0);
            while let Some(emission) = next(&mut once) {
                table.take(&emission, 1);
                emissions += 1;
            }
            assert_eq!(table.0, expected, "{mode:?}");
            assert!(mode != OutputMode::Complete || emissions == 1, "a whole result {emissions} times");
        }
        // The table goes on.
        let schema = session.table("t").unwrap().schema();
        input.push(oracle::batch(&schema, &[row(&["7", "1", "-"])])).unwrap();
        let later = oracle::multiset(&session.sql(sql).unwrap().collect().unwrap(), None);
        assert_eq!(later.len(), expected.len() + 1);
    }
}

#[test]
fn a_subscription_of_a_view_begins_with_its_content() {
    let session = session(2);
    let sql = "SELECT k, count(*) AS n FROM t GROUP BY k";
    let view = session.sql(sql).unwrap().create_view("counts").unwrap();
    let mut input = session.input("t").unwrap();
    random_changes(&mut input, &session, 9, 10);
    view.snapshot().unwrap();
    let modes = [OutputMode::Changelog, OutputMode::Update, OutputMode::Complete];
    let mut subscriptions = modes.map(|mode| view.subscribe(mode, Trigger::Continuous).unwrap());
    let mut other = session.input("t").unwrap();
    random_changes(&mut other, &session, 10, 10);
    let expected = oracle::multiset(&view.snapshot().unwrap(), None);
    drop((input, other));
    session.input("t").unwrap().close();
    for subscription in &mut subscriptions {
        let mut table = Table::default();
        while let Some(emission) = next(subscription) {
            table.take(&emission, 1);
        }
        assert_eq!(table.0, expected);
    }
    // Its end is seen, too.
    assert!(matches!(subscriptions[0].next(Duration::ZERO).unwrap(), Event::End));
    assert_eq!(view.frontier(), None);
    assert_eq!(oracle::multiset(&view.snapshot().unwrap(), None), expected);
}

/// Before any row came there is an emission only of what is there without one.
#[test]
fn nothing_is_told_before_there_is_something() {
    for workers in [1, 2] {
        let session = session(workers);
        for mode in [OutputMode::Changelog, OutputMode::Update, OutputMode::Complete] {
            let mut groups =
                subscribe(&session, "SELECT k, count(*) AS n FROM t GROUP BY k", mode, Trigger::Continuous);
            let mut total = subscribe(&session, "SELECT count(*) AS n FROM t", mode, Trigger::Continuous);
            let first = next(&mut total).unwrap();
            assert_eq!(oracle::texts(&first.rows, None), [["0"]], "{mode:?}");
            assert!(matches!(groups.next(Duration::from_millis(20)).unwrap(), Event::Idle), "{mode:?}");
        }
    }
}
