//! Batches of rows put aside on the disk, in one nameless file in the temporary folder that is gone when its last user is.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use crate::error::{Error, Result};

/// The file, made when something is put into it.
#[derive(Default)]
pub(crate) struct Spill {
    file: Option<File>,
    end: u64,
}

/// Where a batch is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    from: u64,
    length: usize,
}

fn failed(tried: &str, error: &std::io::Error) -> Error {
    let folder = std::env::temp_dir();
    Error::io(
        tried,
        format!("a temporary file in {} to sort rows; TMPDIR names another folder", folder.display()),
        error,
    )
}

impl Spill {
    pub(crate) fn put(&mut self, rows: &RecordBatch) -> Result<Place> {
        let wrong = |error: arrow::error::ArrowError| Error::Internal(format!("rows can't be put aside: {error}"));
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &rows.schema()).map_err(wrong)?;
        writer.write(rows).and_then(|()| writer.finish()).map_err(wrong)?;
        drop(writer);
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile().map_err(|error| failed("create", &error))?),
        };
        file.seek(SeekFrom::Start(self.end)).map_err(|error| failed("write", &error))?;
        file.write_all(&bytes).map_err(|error| failed("write", &error))?;
        let place = Place { from: self.end, length: bytes.len() };
        self.end += bytes.len() as u64;
        Ok(place)
    }

    pub(crate) fn get(&mut self, place: Place) -> Result<RecordBatch> {
        let lost = || Error::Internal("rows put aside are not there any more".to_string());
        let file = self.file.as_mut().ok_or_else(lost)?;
        let mut bytes = vec![0; place.length];
        file.seek(SeekFrom::Start(place.from)).map_err(|error| failed("read", &error))?;
        file.read_exact(&mut bytes).map_err(|error| failed("read", &error))?;
        let wrong = |error: arrow::error::ArrowError| Error::Internal(format!("rows put aside can't be read: {error}"));
        let mut reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(wrong)?;
        reader.next().ok_or_else(lost)?.map_err(wrong)
    }
}
