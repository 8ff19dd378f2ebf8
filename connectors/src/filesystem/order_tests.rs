//! Files in the order of event time, side by side or sorted, and only those columns that are wanted.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};

use super::names::SharedNames;
use super::source::Files;
use super::testing::{Heard, append, listen, message, parquet_bytes, spec, texts};
use super::*;
use crate::connector::Reach;
use crate::format::types::TIMESTAMP;
use crate::source::Poll;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("ts", TIMESTAMP, true), Field::new("n", DataType::Int64, true)]))
}

/// A table over files, by the event time in its first column.
fn timed(path: &Path, options: &[(&str, &str)], reach: Reach) -> TableSpec {
    TableSpec { reach, event_time: Some(0), ..spec(path, options, Some(schema()), true) }
}

fn rows(times: impl IntoIterator<Item = Option<i64>>) -> RecordBatch {
    let times: TimestampMicrosecondArray = times.into_iter().collect();
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..times.len() as i64));
    RecordBatch::try_new(schema(), vec![Arc::new(times), numbers]).expect("rows")
}

/// The rows as a file of this ending.
fn write(path: &Path, rows: &RecordBatch) {
    let mut bytes = Vec::new();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => arrow::csv::Writer::new(&mut bytes).write(rows).expect("written"),
        Some("json") => {
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut bytes);
            writer.write(rows).expect("written");
        }
        _ => bytes = parquet_bytes(rows),
    }
    fs::write(path, bytes).expect("written");
}

const SECOND: i64 = 1_000_000;

/// Files of several servers over the same time, and a later day: whatever their names, all are made known first, and none
/// is read ahead of the others by more than a batch.
#[test]
fn the_file_furthest_behind_is_read_next() {
    for (ending, reach, count) in [
        ("csv", Reach::Once { growing: false }, 70_000),
        ("json", Reach::Follow, 20_000),
        ("parquet", Reach::Again, 70_000),
        // Small enough to be decoded at the first look.
        ("csv", Reach::Follow, 500),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        // Each in order but for five seconds; the last is of the next day, though its name is the first.
        for (server, name) in ["b", "d", "c", "a"].iter().enumerate() {
            let day = if *name == "a" { 86_400 * SECOND } else { 0 };
            let times = (0..count).map(|n| Some(day + n * SECOND - (n * 7 % 5) * SECOND + server as i64 * 1000));
            write(&folder.path().join(format!("{name}.{ending}")), &rows(times));
        }
        let options = [("format", ending), ("source.monitor-interval", "1 s")];
        let mut source = Filesystem::default().source(&timed(folder.path(), &options, reach)).expect("a source");
        let (mut splits, mut reached, mut read, mut ended, mut last) = (Vec::new(), Vec::new(), 0, 0, 0);
        while read < 4 * count as usize || (ended < 4 && reach.is_bounded()) {
            match source.poll(Duration::from_millis(5)).expect("a poll") {
                Poll::Split { name, begins, .. } => {
                    assert_eq!(read, 0, "{ending}: a split is made known after rows");
                    let name = name.rsplit('/').next().expect("a name").split('.').next().expect("a name").to_owned();
                    reached.push(begins.expect("a time"));
                    splits.push(name);
                }
                Poll::Batch(batch) => {
                    assert_eq!(splits.len(), 4);
                    let split = batch.split as usize;
                    // It is the one that was furthest behind, or goes on with the same block of text.
                    let furthest = *reached.iter().min().expect("some");
                    assert!(reached[split] == furthest || split == last, "{ending}");
                    last = split;
                    let times = batch.rows.column(0).as_primitive::<TimestampMicrosecondType>();
                    let (least, most) = (times.iter().flatten().min().expect("rows"), times.iter().flatten().max());
                    assert!(least >= reached[split] - 10 * SECOND, "{ending}: no row is late");
                    reached[split] = reached[split].max(most.expect("rows"));
                    read += batch.rows.num_rows();
                    let full = (count * SECOND - 5 * SECOND) + if splits[split] == "a" { 86_400 * SECOND } else { 0 };
                    if reached[split] >= full {
                        reached[split] = i64::MAX;
                    }
                }
                Poll::SplitEnd(_) => ended += 1,
                Poll::Idle | Poll::End => {}
            }
        }
        assert_eq!(read, 4 * count as usize);
    }
}

/// A file that comes up later is made known with its time too, and one that has no row yet holds nobody back.
#[test]
fn later_files_begin_at_their_own_time() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a.csv"), &rows([Some(5 * SECOND)]));
    let options = [("format", "csv"), ("source.monitor-interval", "5 ms")];
    let mut source = Filesystem::default().source(&timed(folder.path(), &options, Reach::Follow)).expect("a source");
    let mut begun = Vec::new();
    let mut hear = |source: &mut dyn Source, rows: usize| {
        let mut seen = 0;
        while seen < rows {
            match source.poll(Duration::from_millis(5)).expect("a poll") {
                Poll::Split { name, begins, .. } => begun.push((name.chars().rev().nth(4), begins)),
                Poll::Batch(batch) => seen += batch.rows.num_rows(),
                _ => {}
            }
        }
        begun.clone()
    };
    hear(source.as_mut(), 1);
    fs::write(folder.path().join("b.csv"), "ts,n\n1970-01-01T00:00:03").expect("written");
    write(&folder.path().join("c.csv"), &rows([Some(4 * SECOND)]));
    assert_eq!(hear(source.as_mut(), 1), [(Some('a'), Some(5 * SECOND)), (Some('c'), Some(4 * SECOND))]);
    append(&folder.path().join("b.csv"), ",1\n");
    assert_eq!(hear(source.as_mut(), 1)[2], (Some('b'), Some(3 * SECOND)));
}

/// Rows out of order, some without a time, come sorted: the same at any size of the runs, from any position.
#[test]
fn a_file_is_sorted() {
    let folder = tempfile::tempdir().expect("a folder");
    let count = 20_000;
    let times = (0..count).map(|n: i64| (n % 97 != 0).then_some(n * 7919 % 4001 * SECOND));
    let all = rows(times);
    let mut expected: Vec<(Option<i64>, i64)> = (0..count as usize)
        .map(|row| {
            let times = all.column(0).as_primitive::<TimestampMicrosecondType>();
            (times.is_valid(row).then(|| times.value(row)), row as i64)
        })
        .collect();
    expected.sort();
    for ending in ["csv", "json", "parquet"] {
        let path = folder.path().join(format!("t.{ending}"));
        write(&path, &all);
        // A line that is no row comes first; it has no place in the order.
        let bad = if ending == "csv" {
            append(&path, "x,1\n");
            1
        } else {
            0
        };
        for (max_sorted, from) in [(64 << 20, 0), (40_000, 0), (40_000, 1), (40_000, 12_345), (64 << 20, 20_000)] {
            let options = [("scan.order", "event-time"), ("on_error", "skip")];
            let table = timed(&path, &options, Reach::Once { growing: false });
            let connector = Filesystem::default();
            let mut reading = Reading::of(&table, &table.checked(&connector).expect("known")).expect("a reading");
            (reading.max_sorted, reading.max_rows) = (max_sorted, 1000);
            let wanted = table.wanted().expect("columns");
            let mut source = Files::new(reading, wanted, Some(0), SharedNames::default()).expect("a source");
            source.resume(&[(path.display().to_string(), from)]).expect("a position");
            let (mut batches, mut rejected, mut offset, mut begins) = (Vec::new(), Vec::new(), from, None);
            loop {
                match source.poll(Duration::from_millis(5)).expect("a poll") {
                    Poll::Split { begins: found, .. } => begins = found,
                    Poll::Batch(batch) => {
                        offset += (batch.rows.num_rows() + batch.rejected.len()) as u64;
                        assert_eq!(batch.offset, offset);
                        rejected.extend(batch.rejected);
                        batches.push(batch.rows);
                    }
                    Poll::End => break,
                    _ => {}
                }
            }
            let given = concat_batches(&schema(), &batches).expect("rows");
            let numbers = given.column(1).as_primitive::<Int64Type>().values().to_vec();
            let skipped = (from as usize).saturating_sub(bad);
            assert!(numbers.iter().eq(expected[skipped..].iter().map(|(_, number)| number)), "{ending} from {from}");
            assert_eq!(rejected.len(), if from == 0 { bad } else { 0 });
            if let Some(rejected) = rejected.first() {
                assert!(rejected.place.ends_with("t.csv line 20002"), "{}", rejected.place);
            }
            assert!(from != 0 || begins.is_none_or(|begins| begins <= SECOND), "{begins:?}");
        }
    }
}

#[test]
fn what_is_still_to_come_is_not_sorted() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = [("scan.order", "event-time"), ("format", "csv")];
    let error = message(Filesystem::default().source(&timed(folder.path(), &options, Reach::Follow)));
    assert!(error.contains("rows that are still to come can't be sorted"), "{error}");
    let error = message(Filesystem::default().source(&timed(
        folder.path(),
        &[("scan.order", "time"), ("format", "csv")],
        Reach::Follow,
    )));
    assert!(error.contains("takes 'event-time', not 'time'"), "{error}");
}

#[test]
fn only_the_columns_that_are_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Int64, true),
        Field::new("c", DataType::Utf8, true),
    ]));
    let a: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let b: ArrayRef = Arc::new(Int64Array::from(vec![10, 20]));
    let c: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["x", "y"]));
    let parquet = parquet_bytes(&RecordBatch::try_new(schema.clone(), vec![a, b, c]).expect("rows"));
    // What is not wanted is looked at all the same: 'late' is no number, and who reads all columns finds no row there.
    for (name, header, bytes) in [
        ("h.csv", "true", b"c,b,a\nx,10,1\ny,20,2\nz,late,3\n".to_vec()),
        ("p.csv", "false", b"1,10,x\n2,20,y\n3,late,z\n".to_vec()),
        (
            "t.json",
            "true",
            b"{\"a\":1,\"b\":10,\"c\":\"x\"}\n{\"a\":2,\"b\":20,\"c\":\"y\"}\n{\"a\":3,\"b\":\"late\"}\n".to_vec(),
        ),
        ("t.parquet", "true", parquet),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        for (projection, expected) in [(vec![2, 0], ["x|1", "y|2"]), (vec![0], ["1", "2"]), (vec![], ["", ""])] {
            let table = spec(&path, &[("header", header), ("on_error", "skip")], Some(schema.clone()), true);
            let table = TableSpec { projection: Some(projection.clone()), ..table };
            let mut source = Filesystem::default().source(&table).expect("a source");
            let heard = listen(source.as_mut()).expect("rows");
            assert_eq!(heard.rows, expected, "{name} {projection:?}");
            let rejected: Vec<_> = heard.rejected.iter().map(|bad| (bad.column.as_deref(), &bad.reason[..])).collect();
            match name {
                "t.parquet" => assert!(rejected.is_empty(), "{rejected:?}"),
                _ => assert_eq!(rejected, [(Some("b"), "'late' is not of type BIGINT")], "{name} {projection:?}"),
            }
        }
    }
}

/// Who reads again is not told of what another reader is waiting for.
#[test]
fn reading_again_takes_halves_as_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.csv");
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    for (text, expected) in
        [("n\n1\n2\nx", vec!["1", "2"]), ("n\n1\n2\n3", vec!["1", "2", "3"]), ("n", vec![]), ("", vec![])]
    {
        fs::write(&path, text).expect("written");
        let table = TableSpec { reach: Reach::Again, ..spec(&path, &[], Some(schema.clone()), true) };
        let heard = listen(Filesystem::default().source(&table).expect("a source").as_mut()).expect("rows");
        assert_eq!(heard.rows, expected, "{text:?}");
    }
}

/// Pieces of a large file are decoded side by side, and come in their order, quotes and line ends between them or not.
#[test]
fn pieces_of_a_large_file_come_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.csv");
    let mut text = String::from("n,s\n");
    for n in 0..200_000 {
        match n % 1000 < 500 {
            true => text.push_str(&format!("{n},plain text of no great length\n")),
            false => text.push_str(&format!("{n},\"quoted, with \"\"quotes\"\"\nand a line end\"\r\n")),
        }
    }
    fs::write(&path, &text).expect("written");
    let schema: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8, true)]));
    let mut source = Filesystem::default().source(&spec(&path, &[], Some(schema), true)).expect("a source");
    let mut next = 0;
    loop {
        match source.poll(Duration::from_secs(1)).expect("a poll") {
            Poll::Batch(batch) => {
                let numbers = batch.rows.column(0).as_primitive::<Int64Type>();
                assert!(numbers.values().iter().copied().eq(next..next + numbers.len() as i64));
                next += numbers.len() as i64;
                assert_eq!(batch.offset, next as u64);
                assert_eq!(texts(&batch.rows).len(), numbers.len());
            }
            Poll::End => break,
            _ => {}
        }
    }
    assert_eq!((next, source.progress().bytes), (200_000, text.len() as u64));
}

/// A source that is dropped while pieces are being decoded, and one that fails in the middle.
#[test]
fn an_error_comes_in_its_place_and_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.csv");
    let text: String = (0..300_000).map(|n| if n == 250_000 { "x\n".into() } else { format!("{n}\n") }).collect();
    fs::write(&path, format!("n\n{text}")).expect("written");
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let mut source = Filesystem::default().source(&spec(&path, &[], Some(schema), true)).expect("a source");
    let mut heard = Heard::default();
    let error = loop {
        match source.poll(Duration::from_secs(1)) {
            Ok(poll) => _ = heard.hear(poll),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("t.csv line 250002, column 'n': 'x' is not of type BIGINT"), "{error}");
    assert!(heard.rows.len() <= 250_000);
    assert!(heard.rows.iter().enumerate().all(|(n, row)| *row == n.to_string()));
    assert_eq!(message(source.poll(Duration::ZERO)), error);
}
