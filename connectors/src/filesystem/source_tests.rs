//! Files are read whole, followed and resumed without losing, doubling or breaking a row.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};

use super::testing::{Heard, append, follow, gzip, listen, message, open, parquet_bytes, small, spec, texts};
use super::*;
use crate::connector::Reach;
use crate::format::BATCH_ROWS;
use crate::format::types::TIMESTAMP;
use crate::source::Poll;

/// Three columns of `n` rows, some texts with quotes, delimiters and line ends.
fn sample(n: i64) -> RecordBatch {
    let texts = ["plain", "with,comma", "two\nlines", "\"quoted\"", "", "ünïcode\r\n"];
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..n));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..n).map(|i| texts[i as usize % texts.len()])));
    let values: ArrayRef = Arc::new(Float64Array::from_iter((0..n).map(|i| (i % 4 != 0).then_some(i as f64 / 2.0))));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true), ("value", values, true)])
        .expect("rows")
}

/// The rows as bytes of a file with this ending.
fn encoded(rows: &RecordBatch, ending: &str) -> Vec<u8> {
    let mut text = Vec::new();
    match ending.split('.').next() {
        Some("csv") => {
            let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(&mut text);
            writer.write(rows).expect("written");
            drop(writer);
            // An empty text and NULL look alike in what this writer makes.
            text = String::from_utf8(text).expect("text").replace(",,", ",\"\",").into_bytes();
        }
        Some("json") => {
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut text);
            writer.write(rows).expect("written");
            writer.finish().expect("written");
        }
        _ => text = parquet_bytes(rows),
    }
    match ending.rsplit('.').next() {
        Some("gz") => gzip(&text),
        Some("zst") => zstd::encode_all(&text[..], 1).expect("compressed"),
        _ => text,
    }
}

const ENDINGS: &[&str] = &["csv", "csv.gz", "csv.zst", "json", "json.gz", "json.zst", "parquet"];

#[test]
fn every_format_and_compression() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = sample(100);
    for ending in ENDINGS {
        let path = folder.path().join(format!("t.{ending}"));
        fs::write(&path, encoded(&rows, ending)).expect("written");
        let table = spec(&path, &[], None, true);
        assert_eq!(Filesystem::default().schema(&table).expect("a schema"), rows.schema(), "{ending}");
        let mut source = open(&path, &[], None, true).expect("a source");
        let heard = listen(source.as_mut()).expect("rows");
        assert_eq!(heard.rows, texts(&rows), "{ending}");
        assert_eq!((heard.splits, heard.ended), (vec![path.display().to_string()], vec![0]));
        let progress = source.progress();
        assert_eq!(progress.rows, 100);
        assert_eq!(progress.total_bytes, Some(fs::metadata(&path).expect("a file").len()));
        assert!(progress.bytes > 0);
    }
}

/// From every position on, resuming gives exactly the rest, whatever the size of the batches before and after.
#[test]
fn resuming_gives_exactly_the_rest() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = sample(23);
    for ending in ENDINGS {
        let path = folder.path().join(format!("t.{ending}"));
        fs::write(&path, encoded(&rows, ending)).expect("written");
        let name = path.display().to_string();
        let all = texts(&rows);
        for bounded in [true, false] {
            for position in 0..=23_u64 {
                for max_rows in [1, 4, 1000] {
                    let mut source = small(&path, &[], &rows.schema(), bounded, max_rows);
                    source.resume(&[(name.clone(), position)]).expect("a position");
                    let heard = listen(&mut source).expect("rows");
                    assert_eq!(heard.rows, all[position as usize..], "{ending} from {position}");
                    for (_, offset, count) in heard.positions {
                        assert_eq!(offset, position + count as u64);
                    }
                }
            }
        }
        let mut source = small(&path, &[], &rows.schema(), true, 10);
        source.resume(&[(name, 24)]).expect("a position");
        assert!(message(listen(&mut source)).contains("replaced"), "{ending}");
    }
}

#[test]
fn folders_and_patterns() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    put("b.csv", "n\n3\n4\n");
    put("a.csv", "n\n1\n2\n");
    fs::write(folder.path().join("c.csv.gz"), gzip(b"n\n5.5\n")).expect("written");
    put(".hidden.csv", "n\nx\n");
    put("_temporary.csv", "n\nx\n");
    put("notes.txt", "not rows");
    fs::create_dir(folder.path().join("sub.csv")).expect("a folder");

    let mut source = open(folder.path(), &[], None, true).expect("a source");
    let heard = listen(source.as_mut()).expect("rows");
    assert_eq!(heard.rows, ["1.0", "2.0", "3.0", "4.0", "5.5"]);
    assert_eq!((heard.splits.len(), heard.ended), (3, vec![0, 1, 2]));

    let pattern = folder.path().join("[ab].csv");
    let heard = listen(open(&pattern, &[], None, true).expect("a source").as_mut()).expect("rows");
    assert_eq!(heard.rows, ["1", "2", "3", "4"]);
    assert!(message(open(&folder.path().join("x*.csv"), &[], None, true)).contains("no file fits"));

    put("other.json", "{\"n\":9}\n");
    assert!(message(open(folder.path(), &[], None, true)).contains("several formats"));
    let heard = listen(open(folder.path(), &[("format", "json")], None, true).expect("a source").as_mut());
    assert_eq!(heard.expect("rows").rows, ["9"]);
}

const QUICK: &[(&str, &str)] = &[("source.monitor-interval", "5 ms")];

#[test]
fn growing_text_is_followed_by_whole_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let schema: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8, true)]));
    for (name, pieces) in [
        ("t.csv", ["n,", "s\n1,a\n2", ",b\n", "3,\"c\nd", "d\"\n4,e"]),
        (
            "t.json",
            ["{\"n\":", "1,\"s\":\"a\"}\n{\"n\":2,", "\"s\":\"b\"}\n", "{\"n\":3,\"s\":\"c\\nd", "d\"}\n{\"n\":4}"],
        ),
    ] {
        let path = folder.path().join(name);
        append(&path, pieces[0]);
        let mut source = open(&path, QUICK, Some(schema.clone()), false).expect("a source");
        let mut heard = Heard::default();
        follow(source.as_mut(), &mut heard, 0);
        assert!(heard.splits.is_empty());
        for (piece, rows) in pieces[1..].iter().zip([1, 2, 2, 3]) {
            append(&path, piece);
            follow(source.as_mut(), &mut heard, rows);
        }
        assert_eq!(heard.rows, ["1|a", "2|b", "3|c\ndd"]);
        append(&path, "\n");
        follow(source.as_mut(), &mut heard, 4);
        assert_eq!(heard.positions.last().map(|last| last.1), Some(4));
        assert!(heard.ended.is_empty());

        // A line without its end is the last row of a file that is read once, and not there yet where more may come.
        append(&path, if name == "t.csv" { "5,f" } else { "{\"n\":5}" });
        for (growing, rows) in [(false, 5), (true, 4)] {
            let table = TableSpec { reach: Reach::Once { growing }, ..spec(&path, QUICK, Some(schema.clone()), true) };
            let now = listen(Filesystem::default().source(&table).expect("a source").as_mut());
            assert_eq!(now.expect("rows").rows.len(), rows);
        }

        fs::write(&path, "n,s\n").expect("written");
        let until = Instant::now() + Duration::from_secs(10);
        let error = loop {
            match source.poll(Duration::from_millis(5)) {
                Err(error) => break error.to_string(),
                Ok(_) => assert!(Instant::now() < until),
            }
        };
        assert!(error.contains("is shorter than what was read"), "{error}");
    }
}

#[test]
fn new_files_appear_and_half_written_ones_wait() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let rows = sample(40);
    for (ending, growing) in [("parquet", false), ("csv.gz", false), ("json.zst", false), ("csv", true)] {
        let folder = path(ending);
        fs::create_dir(&folder).expect("a folder");
        let options = [("source.monitor-interval", "5 ms"), ("format", ending.split('.').next().expect("a format"))];
        let mut source = open(&folder, &options, Some(rows.schema()), false).expect("a source");
        let mut heard = Heard::default();
        follow(source.as_mut(), &mut heard, 0);

        let bytes = encoded(&rows, ending);
        append(&folder.join(format!("b.{ending}")), &bytes);
        follow(source.as_mut(), &mut heard, 40);
        if !growing {
            let half = folder.join(format!("a.{ending}"));
            append(&half, &bytes[..bytes.len() - 10]);
            follow(source.as_mut(), &mut heard, 40);
            assert_eq!(heard.splits.len(), 1, "{ending}");
            let table = spec(&half, &[], Some(rows.schema()), true);
            let bounded = Filesystem::default()
                .schema(&table)
                .and_then(|_| listen(Filesystem::default().source(&table)?.as_mut()));
            let error = message(bounded);
            assert!(error.contains("a.") && error.contains("still being written"), "{error}");
            append(&half, &bytes[bytes.len() - 10..]);
        } else {
            append(&folder.join(format!("a.{ending}")), &bytes);
        }
        follow(source.as_mut(), &mut heard, 80);
        assert_eq!(heard.rows[40..], texts(&rows), "{ending}");
        assert_eq!(heard.ended, if growing { vec![] } else { vec![0, 1] });

        fs::remove_file(folder.join(format!("a.{ending}"))).expect("removed");
        follow(source.as_mut(), &mut heard, 80);
        assert!(heard.ended.contains(&1));
    }
}

#[test]
fn bad_rows_are_named_or_set_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("flights.csv");
    fs::write(&path, "carrier,note,delay\nUA,\"two\nlines\",1\nAA,x,late\nDL\nB6,y,4\n").expect("written");
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("delay", DataType::Int64, true),
        Field::new("carrier", DataType::Utf8, true),
    ]));
    let mut source = open(&path, &[], Some(schema.clone()), true).expect("a source");
    let expected = format!(
        "{} line 4, column 'delay': 'late' is not of type BIGINT; correct it, declare the column with another type, or \
         set on_error = 'skip' to read on without such rows",
        path.display()
    );
    assert_eq!(message(listen(source.as_mut())), expected);
    assert_eq!(message(source.poll(Duration::ZERO)), expected);

    for max_rows in [1, 2, 100] {
        let mut source = small(&path, &[("on_error", "skip")], &schema, true, max_rows);
        let heard = listen(&mut source).expect("rows");
        assert_eq!(heard.rows, ["1|UA", "4|B6"]);
        let rejected: Vec<_> = heard
            .rejected
            .iter()
            .map(|r| (r.offset, r.place.rsplit('/').next().expect("a name"), r.column.as_deref(), r.reason.as_str()))
            .collect();
        assert_eq!(
            rejected,
            [
                (2, "flights.csv line 4", Some("delay"), "'late' is not of type BIGINT"),
                (3, "flights.csv line 5", None, "it has 1 field, not 3"),
            ]
        );
        let parts: Vec<_> = heard.rejected.iter().map(|r| (r.source.as_str(), r.line, r.input.as_str())).collect();
        let name = path.display().to_string();
        assert_eq!(parts, [(name.as_str(), Some(4), "AA,x,late"), (name.as_str(), Some(5), "DL")]);
        assert_eq!(heard.positions.last().map(|last| last.1), Some(4));
    }
    let mut source = small(&path, &[("on_error", "skip")], &schema, true, 100);
    source.resume(&[(path.display().to_string(), 2)]).expect("a position");
    let heard = listen(&mut source).expect("rows");
    assert_eq!(heard.rows, ["4|B6"]);
    assert_eq!(heard.rejected[0].place, format!("{} line 5", path.display()));
}

#[test]
fn types_are_inferred_over_all_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let head = "year,delay,tailnum,time_hour,day,ok,rate,none\n";
    let mut text = head.to_string();
    for _ in 0..12_000 {
        text.push_str("2013,NA,N1,2013-01-01T10:00:00Z,2013-01-01,true,1,NA\n");
    }
    text.push_str("2013,-4,N2,2013-01-01T10:00:00Z,2013-01-02,FALSE,NA,NA\n");
    fs::write(folder.path().join("a.csv"), text).expect("written");
    let more = "2013,2,3,2013-01-01T11:00:00+01:00,2013-01-02,true,1.5,NA\n";
    fs::write(folder.path().join("b.csv"), format!("{head}{more}")).expect("written");
    let schema =
        Filesystem::default().schema(&spec(folder.path(), &[("nullValue", "NA")], None, true)).expect("a schema");
    let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
    use DataType::{Boolean, Date32, Float64, Int64, Utf8};
    assert_eq!(types, [Int64, Int64, Utf8, TIMESTAMP, Date32, Boolean, Float64, Utf8]);
    let heard = listen(open(folder.path(), &[("nullValue", "NA")], None, true).expect("a source").as_mut());
    let heard = heard.expect("rows");
    assert_eq!(heard.rows.len(), 12_002);
    assert_eq!(heard.rows[12_000], "2013|-4|N2|2013-01-01T10:00:00|2013-01-02|false|-|-");
    assert_eq!(heard.rows[12_001], "2013|2|3|2013-01-01T10:00:00|2013-01-02|true|1.5|-");
    // Without the null literal, NA is text.
    let schema = Filesystem::default().schema(&spec(folder.path(), &[], None, true)).expect("a schema");
    assert_eq!(schema.field(1).data_type(), &Utf8);
}

#[test]
fn dialects() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.csv");
    fs::write(&path, "1;'a;b'\n2;'it\\'s'\n").expect("written");
    let options = [("header", "false"), ("sep", ";"), ("quote", "'"), ("escape", "\\")];
    let table = spec(&path, &options, None, true);
    let schema = Filesystem::default().schema(&table).expect("a schema");
    assert_eq!(schema.field(1).name(), "column_2");
    let heard = listen(open(&path, &options, None, true).expect("a source").as_mut()).expect("rows");
    assert_eq!(heard.rows, ["1|a;b", "2|it's"]);

    let path = folder.path().join("t.tsv");
    fs::write(&path, "a\tb\n1\tx,y\n").expect("written");
    let heard = listen(open(&path, &[], None, true).expect("a source").as_mut()).expect("rows");
    assert_eq!(heard.rows, ["1|x,y"]);
}

#[test]
fn parquet_types() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.parquet");
    let nanos = arrow::array::TimestampNanosecondArray::from(vec![1_357_034_400_123_456_789]).with_timezone("UTC");
    let view: ArrayRef = Arc::new(arrow::array::StringViewArray::from(vec!["x"]));
    let big: ArrayRef = Arc::new(Int64Array::from(vec![5_000_000_000]));
    let rows =
        RecordBatch::try_from_iter([("at", Arc::new(nanos) as ArrayRef), ("s", view), ("big", big)]).expect("rows");
    fs::write(&path, parquet_bytes(&rows)).expect("written");
    let schema = Filesystem::default().schema(&spec(&path, &[], None, true)).expect("a schema");
    assert_eq!(schema.field(0).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!(schema.field(1).data_type(), &DataType::Utf8);

    let declared = |name: &str, of: DataType| -> Option<SchemaRef> {
        Some(Arc::new(Schema::new(vec![Field::new(name, of, true)])))
    };
    let heard = listen(open(&path, &[], declared("BIG", DataType::Float64), true).expect("a source").as_mut());
    assert_eq!(heard.expect("rows").rows, ["5000000000.0"]);
    let error = message(open(&path, &[], declared("big", DataType::Utf8), true));
    assert!(error.contains("column 'big' is BIGINT, which can't be read as the declared VARCHAR"), "{error}");
    let error = message(open(&path, &[], declared("bog", DataType::Int64), true));
    assert!(error.contains("t.parquet has no column 'bog'; did you mean 'big'?"), "{error}");
    let mut source = open(&path, &[("on_error", "skip")], declared("big", DataType::Int32), true).expect("a source");
    let heard = listen(source.as_mut()).expect("rows");
    assert_eq!(heard.rejected[0].reason, "'5000000000' is not of type INT");
    assert_eq!((heard.rejected[0].column.as_deref(), heard.rejected[0].line), (Some("big"), Some(1)));
    assert!(heard.rejected[0].place.ends_with("t.parquet row 1"));
}

#[test]
fn mistakes_are_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("flights.csv");
    fs::write(&path, "carrier,delay\nUA,1\n").expect("written");
    let missing = message(open(&folder.path().join("fligths.csv"), &[], None, true));
    assert!(missing.starts_with("there is no file or folder") && missing.contains("did you mean"), "{missing}");
    #[cfg(unix)]
    assert!(message(open(Path::new("/dev/null"), &[("format", "csv")], None, true)).contains("connector = 'stdin'"));
    let unknown = message(open(&path, &[("headr", "true")], None, true));
    assert!(unknown.contains("has no option 'headr'; did you mean 'header'?"), "{unknown}");
    let wrong = message(open(&path, &[("header", "maybe")], None, true));
    assert!(wrong.contains("takes true or false, not 'maybe'"), "{wrong}");
    assert!(message(open(Path::new("s3://bucket/x.csv"), &[], None, true)).contains("no support for 's3://'"));
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("carier", DataType::Utf8, true)]));
    assert!(message(open(&path, &[], Some(schema.clone()), true)).contains("did you mean 'carrier'?"));
    let json = folder.path().join("t.json");
    fs::write(&json, "{\"carrier\":\"UA\"}\n").expect("written");
    assert!(message(open(&json, &[], Some(schema), true)).contains("did you mean 'carrier'?"));
    let gz = folder.path().join("t.csv.gz");
    fs::write(&gz, "not compressed at all, it only says so").expect("written");
    assert!(message(open(&gz, &[], None, true)).contains("can't be decompressed"));
    let empty = folder.path().join("empty.csv");
    fs::write(&empty, "").expect("written");
    assert!(message(open(&empty, &[], None, true)).contains("declare them"));
}

/// Large files come in bounded batches, whatever the length of their rows, and broken values in the middle are found.
#[test]
fn large_files_come_in_bounded_batches() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.csv");
    let mut text = String::from("n,s\n");
    for n in 0..120_000 {
        let bad = n == 77_777;
        text.push_str(&format!("{},{}\n", if bad { "x".into() } else { n.to_string() }, "s".repeat(n % 97)));
    }
    fs::write(&path, &text).expect("written");
    let schema: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8, true)]));
    let mut source = open(&path, &[("on_error", "dead_letter")], Some(schema.clone()), true).expect("a source");
    let (mut batches, mut rejected) = (Vec::new(), Vec::new());
    loop {
        match source.poll(Duration::ZERO).expect("a poll") {
            Poll::Batch(batch) => {
                assert!(batch.rows.num_rows() <= BATCH_ROWS && batch.rows.get_array_memory_size() < 8 << 20);
                batches.push(batch.rows);
                rejected.extend(batch.rejected);
            }
            Poll::End => break,
            _ => {}
        }
    }
    let all = concat_batches(&schema, &batches).expect("rows");
    let numbers = all.column(0).as_primitive::<Int64Type>();
    assert_eq!((all.num_rows(), numbers.null_count()), (119_999, 0));
    assert!(numbers.values().iter().copied().eq((0..120_000).filter(|n| *n != 77_777)));
    assert_eq!(rejected.len(), 1);
    assert!(rejected[0].place.ends_with("line 77779"));
    assert_eq!(source.progress().bytes, text.len() as u64);
}
