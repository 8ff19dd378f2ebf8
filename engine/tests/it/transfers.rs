//! Consistency: no answer shows a state that the inputs never had. Money moves between accounts, so every total at every
//! closed time is 0; an outer self join never shows a NULL that was not there.

use headwater::arrow::datatypes::SchemaRef;
use headwater::{Input, OutputMode, Session, Subscription, Trigger};
use rand::Rng;

use crate::oracle::{self, Changelog, Row};

const ACCOUNTS: i64 = 8;

fn changelog_of(session: &Session, sql: &str) -> Subscription {
    let writer = session.sql(sql).unwrap_or_else(|e| panic!("{e}\n{sql}")).write_stream();
    writer.output_mode(OutputMode::Changelog).trigger(Trigger::Continuous).subscribe().unwrap()
}

fn text(number: i64) -> Option<String> {
    Some(number.to_string())
}

/// A change that takes `amount` from one account and gives it to another: two rows of `postings`.
fn transfer(input: &mut Input, schema: &SchemaRef, id: i64, from: i64, to: i64, amount: i64) -> i64 {
    let rows: [Row; 2] = [vec![text(id), text(from), text(-amount)], vec![text(id), text(to), text(amount)]];
    input.push_atomic(oracle::batch(schema, &rows), vec![1, 1]).unwrap().frontier.unwrap() - 1
}

/// At each time at which anything changes, what is there.
fn each_state(changelog: &Changelog, mut look: impl FnMut(i64, &oracle::Multiset)) {
    let mut state = oracle::Multiset::new();
    let mut changes = changelog.0.iter().collect::<Vec<_>>();
    changes.sort_by_key(|(time, ..)| *time);
    for (i, (time, row, diff)) in changes.iter().enumerate() {
        *state.entry(row.clone()).or_default() += diff;
        if changes.get(i + 1).is_none_or(|(next, ..)| next != time) {
            state.retain(|_, count| *count != 0);
            look(*time, &state);
        }
    }
}

fn number(cell: &str) -> i64 {
    if cell == "NULL" { 0 } else { cell.parse().unwrap() }
}

#[test]
fn every_total_is_zero() {
    for workers in [1, 2, 4] {
        let session = Session::builder().workers(workers).build().unwrap();
        session
            .execute(
                "CREATE TABLE postings (id BIGINT, account BIGINT, amount BIGINT);
                 CREATE TABLE accounts (account BIGINT, branch TEXT);
                 CREATE MATERIALIZED VIEW balances AS
                 SELECT account, sum(amount) AS balance FROM postings GROUP BY account;
                 INSERT INTO accounts VALUES (0, 'a'), (1, 'a'), (2, 'b'), (3, 'b'), (4, 'c'), (5, 'c'), (6, 'd'), (7, 'd')",
            )
            .unwrap();
        // Totals by different ways: over accounts, over branches through a join, over a join of a view with its own input.
        let totals = [
            "SELECT sum(amount) AS total FROM postings",
            "SELECT sum(balance) AS total FROM balances",
            "SELECT sum(b.balance) AS total FROM balances b JOIN accounts a ON a.account = b.account",
            "SELECT sum(total) AS total FROM (SELECT branch, sum(balance) AS total FROM balances b \
             JOIN accounts a ON a.account = b.account GROUP BY branch) AS x",
            // What left in each transfer is what came.
            "SELECT sum(l.amount + r.amount) AS total FROM postings l JOIN postings r \
             ON l.id = r.id AND l.account < r.account",
            "SELECT sum(b.balance - s.balance) AS total FROM balances b LEFT JOIN \
             (SELECT account, sum(amount) AS balance FROM postings GROUP BY account) AS s ON b.account = s.account",
            "SELECT sum(total) AS total FROM (SELECT sum(amount) AS total FROM postings WHERE amount > 0 UNION ALL \
             SELECT sum(amount) AS total FROM postings WHERE amount < 0) AS x",
        ];
        let mut subscriptions: Vec<_> = totals.iter().map(|sql| changelog_of(&session, sql)).collect();
        let schema = session.table("postings").unwrap().schema();
        let mut inputs = [session.input("postings").unwrap(), session.input("postings").unwrap()];
        let mut random = oracle::random(7);
        let mut done = Vec::new();
        for id in 0..oracle::setting("HEADWATER_TRANSFERS", 120) as i64 {
            let from = random.random_range(0..ACCOUNTS);
            let to = (from + random.random_range(1..ACCOUNTS)) % ACCOUNTS;
            let (amount, by) = (random.random_range(1..100), random.random_range(0..2));
            transfer(&mut inputs[by], &schema, id, from, to, amount);
            done.push((id, from, to, amount));
            // Some are undone: both rows leave as one.
            if random.random_bool(0.2) {
                let (id, from, to, amount) = done.swap_remove(random.random_range(0..done.len()));
                let rows: [Row; 2] =
                    [vec![text(id), text(from), text(-amount)], vec![text(id), text(to), text(amount)]];
                inputs[by].push_atomic(oracle::batch(&schema, &rows), vec![-1, -1]).unwrap();
            }
            if id % 10 == 0 {
                let balances = session.view("balances").unwrap().snapshot().unwrap();
                let total: i64 = oracle::texts(&balances, None).iter().map(|row| number(&row[1])).sum();
                assert_eq!(total, 0, "a snapshot with {workers} workers");
            }
        }
        inputs.into_iter().for_each(Input::close);
        session.input("accounts").unwrap().close();
        for (subscription, sql) in subscriptions.iter_mut().zip(totals) {
            let changelog = oracle::to_the_end(subscription, None);
            let mut states = 0;
            each_state(&changelog, |time, rows| {
                states += 1;
                assert_eq!(rows.values().sum::<i64>(), 1, "{workers} workers at {time}: {sql}\n{}", oracle::show(rows));
                let total = rows.keys().next().map(|row| number(&row[0]));
                assert_eq!(total, Some(0), "{workers} workers at {time}: {sql}");
            });
            assert!(states > 0, "{sql}");
        }
    }
}

#[test]
fn an_outer_self_join_shows_no_passing_null() {
    for workers in [1, 2, 4] {
        let session = Session::builder().workers(workers).build().unwrap();
        session.execute("CREATE TABLE t (id BIGINT, v BIGINT)").unwrap();
        // Each row meets itself, so no side is ever NULL.
        let queries = [
            "SELECT l.id, l.v, r.v AS other FROM t l LEFT JOIN t r ON l.id = r.id",
            "SELECT l.id, l.v, r.v AS other FROM t l FULL JOIN t r ON l.id = r.id AND l.v = r.v",
            "SELECT l.id, l.n, r.n AS other FROM (SELECT id, count(*) AS n FROM t GROUP BY id) AS l \
             RIGHT JOIN (SELECT id, count(*) AS n FROM t GROUP BY id) AS r ON l.id = r.id",
        ];
        let mut subscriptions: Vec<_> = queries.iter().map(|sql| changelog_of(&session, sql)).collect();
        let schema = session.table("t").unwrap().schema();
        let mut input = session.input("t").unwrap();
        let mut random = oracle::random(11);
        let mut there: Vec<Option<i64>> = vec![None; 10];
        for v in 0..100 {
            let id = random.random_range(0..there.len());
            let mut rows: Vec<Row> = Vec::new();
            let mut diffs = Vec::new();
            if let Some(old) = there[id] {
                rows.push(vec![text(id as i64), text(old)]);
                diffs.push(-1);
            }
            there[id] = random.random_bool(0.8).then_some(v);
            if let Some(new) = there[id] {
                rows.push(vec![text(id as i64), text(new)]);
                diffs.push(1);
            }
            if !rows.is_empty() {
                input.push_atomic(oracle::batch(&schema, &rows), diffs).unwrap();
            }
        }
        input.close();
        for (subscription, sql) in subscriptions.iter_mut().zip(queries) {
            let changelog = oracle::to_the_end(subscription, None);
            assert!(changelog.times().len() > 10);
            each_state(&changelog, |time, rows| {
                for (row, count) in rows {
                    assert!(*count > 0, "{count} copies of {row:?} at {time}: {sql}");
                    assert_eq!(row[1], row[2], "{workers} workers at {time}: {sql}");
                    assert_ne!(row[0], "NULL", "{workers} workers at {time}: {sql}");
                }
            });
        }
    }
}

/// Views read at one time agree with each other, whenever they are read.
#[test]
fn views_joined_at_one_time_agree() {
    let session = Session::builder().workers(2).build().unwrap();
    session
        .execute(
            "CREATE TABLE t (k BIGINT, v BIGINT);
             CREATE MATERIALIZED VIEW sums AS SELECT sum(v) AS s FROM t;
             CREATE MATERIALIZED VIEW slow AS SELECT sum(l.v) AS s FROM t l JOIN t r ON l.k = r.k AND l.v = r.v",
        )
        .unwrap();
    let schema = session.table("t").unwrap().schema();
    let mut input = session.input("t").unwrap();
    for i in 0..40 {
        input.push_atomic(oracle::batch(&schema, &[vec![text(i), text(i + 1)]]), vec![1]).unwrap();
        let rows = session.sql("SELECT a.s, b.s AS other FROM sums a CROSS JOIN slow b").unwrap().collect().unwrap();
        let rows = oracle::texts(&rows, None);
        assert_eq!(rows.len(), 1, "after {i}");
        assert_eq!(rows[0][0], rows[0][1], "after {i}");
        // All that was pushed before the question is in the answer.
        assert_eq!(number(&rows[0][0]), (i + 1) * (i + 2) / 2);
    }
}
