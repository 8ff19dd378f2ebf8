//! Followed files that stop being the files that they were: no row that was in no file, none twice, and never silence.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::testing::{Heard, append, gzip, spec};
use super::*;
use crate::connector::Reach;
use crate::source::Poll;

const START: &str = "id,word\n1,a\n2,b\n";

/// A table over files of a folder, and what it has said so far.
struct Followed {
    folder: tempfile::TempDir,
    connector: Filesystem,
    table: TableSpec,
    source: Box<dyn Source>,
    heard: Heard,
    error: Option<String>,
}

impl Followed {
    /// Follows what a pattern finds, where `log.csv` with two rows is there from the beginning.
    fn new(pattern: &str, more: &[(&str, &str)]) -> Followed {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("log.csv"), START).expect("written");
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("word", DataType::Utf8, true),
        ]));
        let mut options = vec![("source.monitor-interval", "10 ms"), ("format", "csv")];
        options.extend(more);
        let table = spec(&folder.path().join(pattern), &options, Some(schema), false);
        let connector = Filesystem::default();
        let source = connector.source(&table).expect("a source");
        let mut followed = Followed { folder, connector, table, source, heard: Heard::default(), error: None };
        followed.hear(2);
        followed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Listens until there are so many rows, or an error, and a moment longer.
    fn hear(&mut self, rows: usize) {
        let mut until = Instant::now() + Duration::from_secs(10);
        let mut enough = false;
        while self.error.is_none() && Instant::now() < until {
            match self.source.poll(Duration::from_millis(5)) {
                Ok(poll) => _ = self.heard.hear(poll),
                Err(error) => self.error = Some(error.to_string()),
            }
            if !enough && self.heard.rows.len() >= rows {
                (enough, until) = (true, Instant::now() + Duration::from_millis(100));
            }
        }
    }

    fn ids(&self) -> String {
        let mut ids: Vec<i64> = self
            .heard
            .rows
            .iter()
            .map(|row| row.split('|').next().expect("an id").parse().expect("a number"))
            .collect();
        ids.sort();
        ids.iter().map(i64::to_string).collect::<Vec<_>>().join(" ")
    }

    /// The names of the splits, without their folder.
    fn splits(&self) -> Vec<String> {
        let folder = format!("{}/", self.folder.path().display());
        self.heard.splits.iter().map(|name| name.replace(&folder, "")).collect()
    }

    /// The rows of each split, when the table is read again.
    fn again(&self) -> Vec<(String, usize)> {
        let table = TableSpec { reach: Reach::Again, ..self.table.clone() };
        let mut source = self.connector.source(&table).expect("a source");
        let (mut heard, mut rows) = (Heard::default(), Vec::new());
        loop {
            match source.poll(Duration::from_millis(5)).expect("a poll") {
                Poll::Batch(batch) => rows[batch.split as usize] += batch.rows.num_rows(),
                Poll::End => break,
                poll => {
                    if matches!(poll, Poll::Split { .. }) {
                        rows.push(0);
                    }
                    heard.hear(poll);
                }
            }
        }
        let folder = format!("{}/", self.folder.path().display());
        heard.splits.iter().map(|name| name.replace(&folder, "")).zip(rows).collect()
    }
}

fn long() -> String {
    std::iter::once("id,word\n".to_string()).chain((100..120).map(|n| format!("{n},wwwww\n"))).collect()
}

fn ids_of_long() -> String {
    std::iter::once("1 2".to_string()).chain((100..120).map(|n| format!(" {n}"))).collect()
}

#[test]
fn appended() {
    let mut log = Followed::new("log.csv", &[]);
    append(&log.path("log.csv"), "3,c\n");
    log.hear(3);
    assert_eq!((log.ids().as_str(), log.error), ("1 2 3", None));
}

#[test]
fn cut_is_an_error() {
    let mut log = Followed::new("log.csv", &[]);
    fs::write(log.path("log.csv"), "id,word\n7,g\n").expect("written");
    log.hear(3);
    let error = log.error.expect("an error");
    assert!(error.contains("log.csv is shorter than what was read") && error.contains("12 of 16 bytes"), "{error}");
}

#[test]
fn overwritten_by_more() {
    for more in [&[][..], &[("on_error", "skip")]] {
        let mut log = Followed::new("log.csv", more);
        fs::write(log.path("log.csv"), long()).expect("written");
        log.hear(22);
        assert_eq!((log.ids(), &log.error), (ids_of_long(), &None));
        assert_eq!((log.splits(), &log.heard.ended), (vec!["log.csv".into(), "log.csv#2".into()], &vec![0]));
        assert!(log.heard.rejected.is_empty());
        assert_eq!(log.again(), [("log.csv#2".to_string(), 20)]);
    }
    // Lines of the same width as before: the position is between two of the new ones.
    let mut log = Followed::new("log.csv", &[]);
    let text: String = (3..9).map(|n| format!("{n},z\n")).collect();
    fs::write(log.path("log.csv"), format!("id,word\n{text}")).expect("written");
    log.hear(8);
    assert_eq!((log.ids().as_str(), &log.error), ("1 2 3 4 5 6 7 8", &None));
}

#[test]
fn copied_and_emptied() {
    let mut log = Followed::new("log.csv", &[]);
    fs::copy(log.path("log.csv"), log.path("old.bak")).expect("copied");
    fs::write(log.path("log.csv"), "").expect("emptied");
    log.hear(2);
    append(&log.path("log.csv"), long());
    log.hear(22);
    assert_eq!((log.ids(), &log.error), (ids_of_long(), &None));
    assert_eq!(log.splits(), ["log.csv", "log.csv#2"]);
}

#[test]
fn renamed_away_and_replaced() {
    // At once, or after a while; and what was written before the rename is read.
    for (wait, late) in [(false, false), (true, false), (false, true)] {
        let mut log = Followed::new("log.csv", &[]);
        append(&log.path("log.csv"), "3,c\n");
        log.hear(3);
        if late {
            append(&log.path("log.csv"), "4,d\n");
        }
        fs::rename(log.path("log.csv"), log.path("log.csv.1")).expect("renamed");
        if wait {
            log.hear(3);
        }
        fs::write(log.path("log.csv"), long()).expect("written");
        log.hear(if late { 24 } else { 23 });
        let expected = ids_of_long().replace("1 2", if late { "1 2 3 4" } else { "1 2 3" });
        assert_eq!((log.ids(), &log.error), (expected, &None));
        assert_eq!((log.splits(), &log.heard.ended), (vec!["log.csv".into(), "log.csv#2".into()], &vec![0]));
        assert_eq!(log.again(), [("log.csv#2".to_string(), 20)]);
    }
}

#[test]
fn removed_and_made_anew() {
    let mut log = Followed::new("log.csv", &[]);
    fs::remove_file(log.path("log.csv")).expect("removed");
    log.hear(2);
    assert_eq!(log.heard.ended, [0]);
    // The new file may well get the inode of the old one.
    fs::write(log.path("log.csv"), long()).expect("written");
    log.hear(22);
    assert_eq!((log.ids(), &log.error), (ids_of_long(), &None));
}

#[test]
fn renamed_within_the_pattern() {
    let mut log = Followed::new("log*.csv", &[]);
    fs::rename(log.path("log.csv"), log.path("log-1.csv")).expect("renamed");
    log.hear(2);
    fs::write(log.path("log.csv"), "id,word\n8,h\n").expect("written");
    append(&log.path("log-1.csv"), "3,c\n");
    log.hear(4);
    assert_eq!((log.ids().as_str(), &log.error), ("1 2 3 8", &None));
    // It is the same split under another name, for those who read it again too.
    assert_eq!((log.splits(), &log.heard.ended), (vec!["log.csv".into(), "log.csv#2".into()], &vec![]));
    assert_eq!(log.again(), [("log.csv".to_string(), 3), ("log.csv#2".to_string(), 1)]);
    // What was not read yet is nothing that was read before.
    fs::write(log.path("log-2.csv"), "id,word\n9,i\n").expect("written");
    assert!(log.again().contains(&("log-2.csv".to_string(), 1)));
}

#[test]
fn written_anew_as_it_was() {
    let mut log = Followed::new("log.csv", &[]);
    fs::write(log.path("log.csv"), START).expect("written");
    log.hear(2);
    assert_eq!((log.ids().as_str(), &log.error), ("1 2", &None));
    fs::write(log.path("log.csv"), "id,word\n3,c\n4,d\n").expect("written");
    log.hear(4);
    assert_eq!((log.ids().as_str(), &log.error), ("1 2 3 4", &None));
}

#[test]
fn halves_wait() {
    let mut log = Followed::new("log.csv", &[]);
    append(&log.path("log.csv"), "3");
    log.hear(2);
    append(&log.path("log.csv"), "3,c\n");
    log.hear(3);
    append(&log.path("log.csv"), "5,\"x\ny");
    log.hear(3);
    append(&log.path("log.csv"), "\"\n");
    log.hear(4);
    assert_eq!((log.ids().as_str(), &log.error), ("1 2 5 33", &None));
}

/// Changed behind its first bytes, where only those before the position tell.
#[test]
fn changed_in_the_middle_is_an_error() {
    let mut log = Followed::new("log.csv", &[]);
    let text: String = (3..1003).map(|n| format!("{n},{}\n", "w".repeat(20))).collect();
    append(&log.path("log.csv"), &text);
    log.hear(1002);
    let changed = format!("{START}{}", text.replace("990,w", "990,xxx"));
    fs::write(log.path("log.csv"), changed).expect("written");
    log.hear(1003);
    let error = log.error.as_ref().expect("an error");
    assert!(error.contains("log.csv was changed before byte"), "{error}");
    assert_eq!(log.heard.rows.len(), 1002);
}

/// An editor writes a new file and gives it the name: the rows of the new one, whole, and no mixture.
#[test]
fn replaced_by_an_editor() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.csv");
    fs::write(&path, "name\nJetBlue Airways\nDelta\n").expect("written");
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("name", DataType::Utf8, true)]));
    let table = spec(&path, &[("source.monitor-interval", "10 ms")], Some(schema), false);
    let mut source = Filesystem::default().source(&table).expect("a source");
    let mut heard = Heard::default();
    super::testing::follow(source.as_mut(), &mut heard, 2);
    let new = folder.path().join("new");
    fs::write(&new, "name\nJetBlue Airways (corrected)\nDelta\n").expect("written");
    fs::rename(&new, &path).expect("renamed");
    super::testing::follow(source.as_mut(), &mut heard, 4);
    assert_eq!(heard.rows, ["JetBlue Airways", "Delta", "JetBlue Airways (corrected)", "Delta"]);
}

#[test]
fn compressed_when_it_was_read() {
    let mut log = Followed::new("log*", &[]);
    append(&log.path("log.csv"), "3,c\n");
    log.hear(3);
    let (packed, text) = (log.path("log.csv.gz"), fs::read(log.path("log.csv")).expect("read"));
    let bytes = gzip(&text);
    // As gzip does it: the new file grows beside the old one, which goes then.
    fs::write(&packed, &bytes[..bytes.len() / 2]).expect("written");
    log.hear(3);
    fs::write(&packed, &bytes).expect("written");
    log.hear(3);
    fs::remove_file(log.path("log.csv")).expect("removed");
    log.hear(3);
    assert_eq!((log.ids().as_str(), &log.error), ("1 2 3", &None));
    assert_eq!((log.splits(), &log.heard.ended), (vec!["log.csv".into()], &vec![0]));
    assert_eq!(log.again(), [("log.csv".to_string(), 3)]);

    // Another compressed file is one of its own, and one that is added to is an error.
    fs::write(log.path("log-2.csv.gz"), gzip(b"id,word\n9,i\n")).expect("written");
    log.hear(4);
    assert_eq!((log.ids().as_str(), &log.error), ("1 2 3 9", &None));
    append(&log.path("log-2.csv.gz"), gzip(b"10,k\n"));
    log.hear(5);
    let error = log.error.as_ref().expect("an error");
    assert!(error.contains("log-2.csv.gz was added to after it had been read"), "{error}");
}

/// A file that goes between being found and being read is no error, and many that come at once are not all open.
#[test]
fn files_come_and_go() {
    for ending in ["csv", "parquet"] {
        for event_time in [None, Some(0)] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = |n: usize| folder.path().join(format!("f{n:04}.{ending}"));
            let rows = |n: usize| {
                let column: arrow::array::ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![n as i32]));
                arrow::array::RecordBatch::try_from_iter_with_nullable([("d", column, true)]).expect("rows")
            };
            let write = |n: usize| match ending {
                "csv" => fs::write(path(n), format!("d\n{}\n", super::testing::texts(&rows(n))[0])).expect("written"),
                _ => fs::write(path(n), super::testing::parquet_bytes(&rows(n))).expect("written"),
            };
            write(0);
            write(1);
            let options = [("source.monitor-interval", "5 ms"), ("format", ending)];
            let table = spec(folder.path(), &options, Some(rows(0).schema()), false);
            let mut source = Filesystem::default().source(&TableSpec { event_time, ..table }).expect("a source");
            let mut heard = Heard::default();
            // The first news comes of the first file, when the second one has been found too.
            assert!(heard.hear(source.poll(Duration::from_millis(5)).expect("a poll")));
            fs::remove_file(path(1)).expect("removed");
            super::testing::follow(source.as_mut(), &mut heard, 1);
            (2..1500).for_each(write);
            let until = Instant::now() + Duration::from_secs(10);
            while heard.rows.len() < 1499 && Instant::now() < until {
                heard.hear(source.poll(Duration::from_millis(5)).expect("a poll"));
                assert!(open_files(folder.path()) <= 70);
            }
            assert_eq!(heard.rows.len(), 1499, "{ending} {event_time:?}");
        }
    }
}

/// The time that a poll of a table takes while nothing happens, with few files and with many.
#[test]
fn thousands_of_quiet_files_cost_next_to_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |n: usize| folder.path().join(format!("f{n:05}.csv"));
    for n in 0..5000 {
        fs::write(path(n), format!("n\n{n}\n")).expect("written");
    }
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let table = spec(folder.path(), &[("source.monitor-interval", "50 ms"), ("format", "csv")], Some(schema), false);
    let mut source = Filesystem::default().source(&table).expect("a source");
    let mut heard = Heard::default();
    super::testing::follow(source.as_mut(), &mut heard, 5000);
    assert_eq!(open_files(folder.path()), 0, "none stays open");
    // One that begins to grow is found in time, and is then asked more often.
    append(&path(4000), "7\n");
    super::testing::follow(source.as_mut(), &mut heard, 5001);
    append(&path(4000), "8\n");
    let began = Instant::now();
    super::testing::follow(source.as_mut(), &mut heard, 5002);
    assert!(began.elapsed() < Duration::from_secs(2));
    fs::write(path(5000), "n\n9\n").expect("written");
    super::testing::follow(source.as_mut(), &mut heard, 5003);
}

/// How many files in a folder this process has open.
fn open_files(folder: &Path) -> usize {
    let Ok(open) = fs::read_dir("/proc/self/fd") else { return 0 };
    open.flatten().filter(|file| fs::read_link(file.path()).is_ok_and(|path| path.starts_with(folder))).count()
}
