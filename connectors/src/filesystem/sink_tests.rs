//! What a folder is given can be read by others, whole parts only.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;

use super::testing::message;
use super::*;
use crate::connector::Reach;
use crate::error::Error;
use crate::format::types::TIMESTAMP;
use crate::options::Options;
use crate::sink::{Emission, Op};
use crate::source::Poll;

fn rows(names: &[Option<&str>]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..names.len() as i64));
    let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)]).expect("rows")
}

fn emission(mode: OutputMode, rows: RecordBatch, ops: &[Op]) -> Emission {
    let count = rows.num_rows();
    Emission {
        step: 0,
        mode,
        frontier: Some(7),
        ops: (0..count).map(|row| ops[row % ops.len()]).collect(),
        counts: vec![1; count],
        times: (0..count as i64).map(|row| if row == 0 { i64::MIN } else { 1_357_034_400_000_000 + row }).collect(),
        rows,
    }
}

fn open(folder: &Path, mode: OutputMode, options: &[(&str, &str)]) -> Result<Box<dyn Sink>> {
    let mut options: Options = options.iter().copied().collect();
    options.set("path", folder.display());
    let schema = Some(rows(&[]).schema());
    Filesystem::default().sink(&TableSpec { name: "out".into(), options, schema, ..TableSpec::default() }, mode)
}

/// The files that a reader sees.
fn visible(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.file_name().and_then(|name| name.to_str()).expect("a name").starts_with('.'))
        .collect();
    all.sort();
    all
}

/// All rows, read by our own source.
fn reread(folder: &Path, options: &[(&str, &str)]) -> RecordBatch {
    let mut options: Options = options.iter().copied().collect();
    options.set("path", folder.display());
    let mut table =
        TableSpec { name: "t".into(), options, reach: Reach::Once { growing: false }, ..TableSpec::default() };
    table.schema = Some(Filesystem::default().schema(&table).expect("a schema"));
    let mut source = Filesystem::default().source(&table).expect("a source");
    let mut batches = Vec::new();
    loop {
        match source.poll(Duration::ZERO).expect("a poll") {
            Poll::Batch(batch) => batches.push(batch.rows),
            Poll::End => break,
            _ => {}
        }
    }
    concat_batches(&table.schema.expect("a schema"), &batches).expect("rows")
}

#[test]
fn rows_come_back_and_parts_are_whole() {
    let texts = [Some("a"), None, Some(""), Some("NA"), Some("x,\"y\"\nz"), Some("end")];
    for format in ["csv", "json", "parquet"] {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        let options = [("format", format), ("null-literal", "NA"), ("sink.rolling-policy.rows", "4")];
        let mut sink = open(&out, OutputMode::Append, &options).expect("a sink");
        sink.write(&emission(OutputMode::Append, rows(&texts), &[Op::Insert])).expect("written");
        assert!(visible(&out).is_empty());
        sink.commit().expect("committed");
        assert_eq!(visible(&out).len(), 2);
        sink.write(&emission(OutputMode::Append, rows(&texts[..1]), &[Op::Insert])).expect("written");
        sink.close().expect("closed");
        drop(sink);
        assert_eq!(visible(&out).len(), 3);

        // A crash leaves a hidden part, which the next run removes; it goes on behind the others.
        fs::write(out.join(format!(".part-000003.{format}")), "half").expect("written");
        let mut sink = open(&out, OutputMode::Append, &options).expect("a sink");
        sink.write(&emission(OutputMode::Append, rows(&texts[..1]), &[Op::Insert])).expect("written");
        sink.close().expect("closed");
        assert_eq!(visible(&out)[3], out.join(format!("part-000003.{format}")));

        let all = [rows(&texts), rows(&texts[..1]), rows(&texts[..1])];
        let expected = concat_batches(&all[0].schema(), &all).expect("rows");
        assert_eq!(reread(&out, &[("null-literal", "NA")]), expected, "{format}");
    }
}

/// What others read: the readers of arrow and parquet, without any of our own code.
#[test]
fn others_can_read_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let texts = [Some("a"), None, Some("x,\"y\"")];
    let ops = [Op::Insert, Op::Delete, Op::Upsert];
    let write = |format: &str, mode| {
        let out = folder.path().join(format!("{format}{mode:?}"));
        let mut sink = open(&out, mode, &[("format", format)]).expect("a sink");
        sink.write(&emission(mode, rows(&texts), &ops)).expect("written");
        sink.close().expect("closed");
        visible(&out)[0].clone()
    };
    let text = |path: &Path| fs::read_to_string(path).expect("text");
    assert_eq!(text(&write("csv", OutputMode::Append)), "id,name\n0,a\n1,\n2,\"x,\"\"y\"\"\"\n");
    assert_eq!(
        text(&write("csv", OutputMode::Changelog)),
        "op,time,seq,id,name\n+I,,0,0,a\n-D,2013-01-01T10:00:00.000001,,1,\n+U,2013-01-01T10:00:00.000002,,2,\"x,\"\"y\"\"\"\n"
    );
    assert_eq!(
        text(&write("json", OutputMode::Update)),
        "{\"before\":null,\"after\":{\"id\":0,\"name\":\"a\"},\"op\":\"c\",\"ts_us\":null,\"seq\":0}\n\
         {\"before\":{\"id\":1,\"name\":null},\"after\":null,\"op\":\"d\",\"ts_us\":1357034400000001,\"seq\":null}\n\
         {\"before\":null,\"after\":{\"id\":2,\"name\":\"x,\\\"y\\\"\"},\"op\":\"u\",\"ts_us\":1357034400000002,\"seq\":null}\n"
    );
    let path = write("csv", OutputMode::Append);
    let reader = arrow::csv::ReaderBuilder::new(rows(&[]).schema()).with_header(true);
    let read: Vec<_> = reader.build(File::open(path).expect("a file")).expect("a reader").flatten().collect();
    assert_eq!(read[0], rows(&texts));
    let path = write("parquet", OutputMode::Changelog);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("a file")).expect("a reader");
    let read: Vec<_> = reader.build().expect("a reader").flatten().collect();
    assert_eq!(read[0].num_rows(), 3);
    assert_eq!(read[0].schema().field(0).name(), "op");
    assert_eq!(read[0].schema().field(1).data_type(), &TIMESTAMP);
    assert_eq!(read[0].schema().field(2).name(), "seq");
    assert_eq!(read[0].column(3).as_ref(), rows(&texts).column(0).as_ref());
}

#[test]
fn complete_replaces_what_was_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = [("format", "csv"), ("sink.rolling-policy.rows", "2")];
    fs::write(folder.path().join("readme.txt"), "not ours").expect("written");
    let mut sink = open(folder.path(), OutputMode::Complete, &options).expect("a sink");
    let complete = |names: &[Option<&str>]| emission(OutputMode::Complete, rows(names), &[Op::Insert]);
    sink.write(&complete(&[Some("a"), Some("b"), Some("c")])).expect("written");
    sink.write(&complete(&[Some("d"), Some("e"), Some("f")])).expect("written");
    sink.commit().expect("committed");
    assert_eq!(reread(folder.path(), &[("format", "csv")]), rows(&[Some("d"), Some("e"), Some("f")]));
    sink.commit().expect("committed");
    assert_eq!(visible(folder.path()).len(), 3);
    sink.write(&complete(&[Some("g")])).expect("written");
    sink.close().expect("closed");
    drop(sink);
    assert_eq!(reread(folder.path(), &[("format", "csv")]), rows(&[Some("g")]));

    let mut sink = open(folder.path(), OutputMode::Complete, &options).expect("a sink");
    sink.write(&complete(&[])).expect("written");
    assert_eq!(visible(folder.path()).len(), 2);
    sink.close().expect("closed");
    let files = visible(folder.path());
    assert_eq!(files.len(), 2);
    assert_eq!(fs::read_to_string(&files[0]).expect("text"), "id,name\n");
}

#[test]
fn copies_are_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sink = open(folder.path(), OutputMode::Append, &[("format", "csv")]).expect("a sink");
    let mut twice = emission(OutputMode::Append, rows(&[Some("a"), Some("b")]), &[Op::Insert]);
    twice.counts = vec![1, 3];
    sink.write(&twice).expect("written");
    sink.close().expect("closed");
    assert_eq!(fs::read_to_string(&visible(folder.path())[0]).expect("text"), "id,name\n0,a\n1,b\n1,b\n1,b\n");
}

#[test]
fn failures_name_the_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    let error = message(open(&file.join("out"), OutputMode::Append, &[("format", "csv")]));
    assert!(error.starts_with("can't create the folder") && error.contains("file/out"), "{error}");
    let error = message(open(&folder.path().join("out"), OutputMode::Append, &[]));
    assert!(error.contains("needs the option 'format'"), "{error}");

    let out = folder.path().join("gone");
    let mut sink = open(&out, OutputMode::Append, &[("format", "json")]).expect("a sink");
    fs::remove_dir_all(&out).expect("removed");
    let error = sink.write(&emission(OutputMode::Append, rows(&[Some("a")]), &[Op::Insert])).expect_err("no folder");
    assert!(
        matches!(&error, Error::External { retry: false, .. }) && error.to_string().contains("gone/.part"),
        "{error}"
    );
    let full = Error::io("write", "x.csv", &std::io::Error::from(std::io::ErrorKind::StorageFull));
    assert!(matches!(&full, Error::External { retry: true, .. }) && full.to_string().contains("free some space"));
}

/// Two sinks in one folder would write over each other.
#[test]
fn a_folder_has_one_sink_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = [("format", "csv")];
    let mut first = open(folder.path(), OutputMode::Append, &options).expect("a sink");
    first.write(&emission(OutputMode::Append, rows(&[Some("a")]), &[Op::Insert])).expect("written");
    let error = message(open(folder.path(), OutputMode::Complete, &options));
    assert!(error.contains("is writing to the folder") && error.contains("give 'out' a folder of its own"), "{error}");
    // What the first has begun is as it was.
    first.close().expect("closed");
    assert_eq!(visible(folder.path()).len(), 1);
    open(folder.path(), OutputMode::Append, &options).expect("a sink");
    assert_eq!(reread(folder.path(), &options).num_rows(), 1);
}
