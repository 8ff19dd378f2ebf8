//! Files as a sink: a folder of part files.
//!
//! A part is written under a name that begins with a dot, which no reader of folders looks at, and gets its own name when
//! it is committed. In complete mode a commit replaces the parts of the one before: first the new ones appear, then the
//! old ones go. A folder has one sink at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::changes::{Copies, envelopes, has_ops, schema_with_ops, with_ops};
use crate::connector::TableSpec;
use crate::error::{Error, Result};
use crate::filesystem::paths::local;
use crate::format::csv_tokens::Dialect;
use crate::format::kind::{FORMATS, Format};
use crate::format::text::TextReading;
use crate::format::{csv_write, json_write, parquet as parquet_format};
use crate::options::Checked;
use crate::sink::{Emission, OutputMode, Sink};

/// Opens the folder of a sink.
pub(crate) fn open(table: &TableSpec, options: &Checked<'_>, mode: OutputMode) -> Result<Box<dyn Sink>> {
    let Some(position) = options.choice("format", FORMATS)? else {
        return Err(Error::User(format!(
            "{} needs the option 'format' to write: 'csv', 'json' or 'parquet'",
            options.subject()
        )));
    };
    let codec = match options.choice("parquet.compression", &["snappy", "zstd", "gzip", "none"])? {
        Some(1) => Codec::ZSTD(ZstdLevel::default()),
        Some(2) => Codec::GZIP(Default::default()),
        Some(3) => Codec::UNCOMPRESSED,
        _ => Codec::SNAPPY,
    };
    let rows = table.columns()?;
    let form = match Format::at(position) {
        Format::Csv => Form::Csv(TextReading::of(options, false)?.dialect),
        Format::Json => Form::Json,
        Format::Parquet => Form::Parquet(Box::new(WriterProperties::builder().set_compression(codec).build())),
    };
    // JSON says in an envelope what happens to a row, the others in columns.
    let schema = if has_ops(mode) && !matches!(form, Form::Json) { schema_with_ops(&rows) } else { rows };
    match &form {
        Form::Csv(_) => csv_write::check(&schema)?,
        Form::Json => {}
        Form::Parquet(_) => parquet_format::check_writing(&schema)?,
    }
    let rolling = options.count("sink.rolling-policy.rows")?.unwrap_or(1_000_000).max(1);
    let folder = PathBuf::from(local(options.text("path").unwrap_or_default())?);
    std::fs::create_dir_all(&folder).map_err(|error| Error::io("create the folder", folder.display(), &error))?;
    let lock = take(&folder, &table.name)?;
    let mut sink = Folder {
        lock: Some(lock),
        folder,
        form,
        schema,
        mode,
        rolling,
        next: 0,
        writing: None,
        finished: Vec::new(),
        committed: Vec::new(),
        pending: None,
    };
    sink.look()?;
    Ok(Box::new(sink))
}

/// Makes the folder this sink's: a second one would take the numbers of its parts, and remove those it has not finished.
fn take(folder: &Path, sink: &str) -> Result<File> {
    // Readers of the folder leave out what is hidden. It stays there: removed, two sinks could lock two of it.
    let path = folder.join(".headwater.lock");
    let io = |error: std::io::Error| Error::io("create", path.display(), &error);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::User(format!(
            "another sink, of this process or of another, is writing to the folder {}: give '{sink}' a folder of its own, or \
             stop the other first",
            folder.display()
        ))),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path.display(), &error)),
    }
}

enum Form {
    Csv(Dialect),
    Json,
    Parquet(Box<WriterProperties>),
}

impl Form {
    fn extension(&self) -> &'static str {
        match self {
            Form::Csv(_) => "csv",
            Form::Json => "json",
            Form::Parquet(_) => "parquet",
        }
    }
}

struct Folder {
    /// Held as long as the sink is open.
    lock: Option<File>,
    folder: PathBuf,
    form: Form,
    /// The columns as written.
    schema: SchemaRef,
    mode: OutputMode,
    /// Rows of a part at most.
    rolling: u64,
    /// The number of the next part.
    next: u64,
    writing: Option<Part>,
    /// Parts that are whole but not committed.
    finished: Vec<Hidden>,
    /// Complete mode: the parts that the next commit replaces.
    committed: Vec<PathBuf>,
    /// Complete mode: the last result not written yet.
    pending: Option<RecordBatch>,
}

/// A part under its hidden name.
struct Hidden {
    temporary: PathBuf,
    name: PathBuf,
}

struct Part {
    hidden: Hidden,
    writer: Writer,
    rows: u64,
}

enum Writer {
    Text(File),
    Parquet(Box<ArrowWriter<File>>),
}

impl Folder {
    /// Finds the parts that are there: new ones are numbered after them, and in complete mode they are replaced. What a
    /// run before left unfinished is removed.
    fn look(&mut self) -> Result<()> {
        let io = |error: std::io::Error| Error::io("list", self.folder.display(), &error);
        for entry in std::fs::read_dir(&self.folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let (hidden, name) = match name.strip_prefix('.') {
                Some(name) => (true, name),
                None => (false, name),
            };
            let Some((number, extension)) = name.strip_prefix("part-").and_then(|rest| rest.split_once('.')) else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else { continue };
            if extension != self.form.extension() {
                continue;
            }
            if hidden {
                std::fs::remove_file(&path).map_err(|error| Error::io("remove", path.display(), &error))?;
                continue;
            }
            self.next = self.next.max(number + 1);
            if self.mode == OutputMode::Complete {
                self.committed.push(path);
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<Part> {
        let name = format!("part-{:06}.{}", self.next, self.form.extension());
        self.next += 1;
        let hidden = Hidden { temporary: self.folder.join(format!(".{name}")), name: self.folder.join(name) };
        let io = |error: std::io::Error| Error::io("create", hidden.temporary.display(), &error);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).open(&hidden.temporary).map_err(io)?;
        let writer = match &self.form {
            Form::Csv(dialect) => {
                if dialect.header {
                    let mut head = Vec::new();
                    csv_write::write_header(&mut head, &self.schema, dialect)?;
                    file.write_all(&head).map_err(|error| failed(&hidden.temporary, &error))?;
                }
                Writer::Text(file)
            }
            Form::Json => Writer::Text(file),
            Form::Parquet(properties) => {
                let writer = ArrowWriter::try_new(file, self.schema.clone(), Some(properties.as_ref().clone()))
                    .map_err(|error| parquet_failed(&hidden.temporary, error))?;
                Writer::Parquet(Box::new(writer))
            }
        };
        Ok(Part { hidden, writer, rows: 0 })
    }

    fn append(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut from = 0;
        while from < rows.num_rows() {
            let mut part = match self.writing.take() {
                Some(part) => part,
                None => self.begin()?,
            };
            let room = usize::try_from(self.rolling - part.rows).unwrap_or(usize::MAX);
            let piece = rows.slice(from, room.min(rows.num_rows() - from));
            part.write(&piece, &self.form)?;
            from += piece.num_rows();
            if part.rows >= self.rolling {
                self.finished.push(part.finish()?);
            } else {
                self.writing = Some(part);
            }
        }
        Ok(())
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::io("write", path.display(), error)
}

fn parquet_failed(path: &Path, error: ParquetError) -> Error {
    if let ParquetError::External(inner) = &error
        && let Some(error) = inner.downcast_ref::<std::io::Error>()
    {
        return failed(path, error);
    }
    Error::External { message: format!("can't write {}: {error}", path.display()), retry: false }
}

impl Part {
    fn write(&mut self, rows: &RecordBatch, form: &Form) -> Result<()> {
        match &mut self.writer {
            Writer::Text(file) => {
                let mut text = Vec::new();
                match form {
                    Form::Csv(dialect) => csv_write::write(&mut text, rows, dialect)?,
                    Form::Json | Form::Parquet(_) => json_write::write(&mut text, rows)?,
                }
                file.write_all(&text).map_err(|error| failed(&self.hidden.temporary, &error))?;
            }
            Writer::Parquet(writer) => {
                writer.write(rows).map_err(|error| parquet_failed(&self.hidden.temporary, error))?;
            }
        }
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    /// Ends the file and brings it to the disk.
    fn finish(self) -> Result<Hidden> {
        let path = &self.hidden.temporary;
        let file = match self.writer {
            Writer::Text(file) => file,
            Writer::Parquet(writer) => writer.into_inner().map_err(|error| parquet_failed(path, error))?,
        };
        file.sync_all().map_err(|error| failed(path, &error))?;
        Ok(self.hidden)
    }
}

impl Sink for Folder {
    fn write(&mut self, emission: &Emission) -> Result<()> {
        let copies = Copies::of(emission)?;
        let rows = match (has_ops(self.mode), &self.form) {
            (false, _) => copies.rows.into_owned(),
            (true, Form::Json) => envelopes(&copies)?,
            (true, _) => with_ops(&copies)?,
        };
        if self.mode == OutputMode::Complete {
            self.pending = Some(rows);
            return Ok(());
        }
        self.append(&rows)
    }

    fn commit(&mut self) -> Result<()> {
        let replaces = self.pending.is_some();
        if let Some(rows) = self.pending.take() {
            self.append(&rows)?;
            if rows.num_rows() == 0 {
                // Nothing is a result too: a file without rows says so.
                self.writing = Some(self.begin()?);
            }
        }
        if let Some(part) = self.writing.take() {
            self.finished.push(part.finish()?);
        }
        let mut names = Vec::new();
        for part in std::mem::take(&mut self.finished) {
            std::fs::rename(&part.temporary, &part.name)
                .map_err(|error| Error::io("rename to", part.name.display(), &error))?;
            names.push(part.name);
        }
        if !names.is_empty() {
            // The names are on the disk when their folder is.
            let folder = File::open(&self.folder).and_then(|folder| folder.sync_all());
            folder.map_err(|error| failed(&self.folder, &error))?;
        }
        if replaces {
            for old in std::mem::replace(&mut self.committed, names) {
                std::fs::remove_file(&old).map_err(|error| Error::io("remove", old.display(), &error))?;
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        self.commit()?;
        self.lock = None;
        Ok(())
    }
}
