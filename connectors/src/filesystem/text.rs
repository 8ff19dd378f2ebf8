//! A text file as a stream of decoded chunks, compressed or growing.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::format::{BATCH_BYTES, Compression, Decoded, TextDecoder, line_ends};

/// A record longer than this is taken for a quote that is never closed.
const LONGEST_RECORD: usize = 64 << 20;

/// What reading on gives.
pub(crate) enum Step {
    /// Records, and the number of the line where they begin (counted from 0).
    Rows(Decoded, u64),
    /// All that there is has been read; a growing file may have more later.
    End,
    /// The file ends in the middle: it is still being written, or it is cut off.
    Incomplete(String),
}

/// A CSV or JSON file.
pub(crate) struct TextFile {
    path: PathBuf,
    compression: Compression,
    decoder: TextDecoder,
    input: Option<Input>,
    /// Bytes of text that are done with.
    position: u64,
    /// Line ends in them.
    lines: u64,
    /// Records to skip before the first row.
    skip: u64,
    max_rows: usize,
    bytes_read: Arc<AtomicU64>,
}

impl TextFile {
    /// The file at `path`, from record `skip` on, in batches of at most `max_rows`. `bytes_read` counts what is read
    /// from storage.
    pub(crate) fn new(
        path: &Path,
        decoder: TextDecoder,
        skip: u64,
        max_rows: usize,
        bytes_read: Arc<AtomicU64>,
    ) -> TextFile {
        TextFile {
            path: path.to_path_buf(),
            compression: Compression::of(path),
            decoder,
            input: None,
            position: 0,
            lines: 0,
            skip,
            max_rows,
            bytes_read,
        }
    }

    /// Whether more can be added to the file: not to a compressed one.
    pub(crate) fn can_grow(&self) -> bool {
        self.compression == Compression::None
    }

    /// The next records. If the file is `growing`, what follows its last line end waits.
    pub(crate) fn step(&mut self, growing: bool) -> Result<Step> {
        let step = match self.read(growing && self.can_grow()) {
            Ok(step) => step,
            Err(Failure::Incomplete(why)) => Step::Incomplete(why),
            Err(Failure::Error(error)) => return Err(error),
        };
        if !matches!(step, Step::Rows(..)) {
            // Thousands of files must not stay open. What was not decoded yet is read again.
            self.input = None;
        }
        Ok(step)
    }

    fn read(&mut self, growing: bool) -> Result<Step, Failure> {
        let path = self.path.display().to_string();
        loop {
            let input = match &mut self.input {
                Some(input) => input,
                closed => closed.insert(open(&self.path, self.compression, self.position, self.bytes_read.clone())?),
            };
            if input.buffer.len() - input.start < BATCH_BYTES / 2 && !input.ended {
                input.fill(&path)?;
            }
            let last = input.ended && !growing;
            let text = &input.buffer[input.start..];
            let (consumed, decoded) = if self.skip > 0 {
                let most = usize::try_from(self.skip).unwrap_or(usize::MAX);
                let (consumed, records) = self.decoder.skip(text, last, most)?;
                self.skip -= records as u64;
                (consumed, None)
            } else {
                let decoded = self.decoder.decode(text, last, self.max_rows)?;
                (decoded.consumed, Some(decoded))
            };
            let first_line = self.lines;
            self.lines += line_ends(&text[..consumed]) as u64;
            self.position += consumed as u64;
            input.start += consumed;
            match decoded {
                Some(decoded) if decoded.records > 0 => return Ok(Step::Rows(decoded, first_line)),
                _ if consumed > 0 => {}
                _ if !input.ended => input.grow(&path, self.lines)?,
                // The last line that was read before may have had no line end then, and has none yet.
                _ if self.skip == 0 || (growing && self.skip == 1) => return Ok(Step::End),
                _ => {
                    return Err(Failure::Error(Error::Data(format!(
                        "{path} has {} rows less than were read from it before: it was replaced or cut; start without \
                         the saved position",
                        self.skip
                    ))));
                }
            }
        }
    }
}

enum Failure {
    Incomplete(String),
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

/// An open file with the text that is not decoded yet.
struct Input {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
}

impl Input {
    /// Reads about a batch more.
    fn fill(&mut self, path: &str) -> Result<(), Failure> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let mut filled = self.buffer.len();
        self.buffer.resize(filled + BATCH_BYTES, 0);
        let outcome = loop {
            if filled == self.buffer.len() {
                break Ok(());
            }
            match self.reader.read(&mut self.buffer[filled..]) {
                Ok(0) => {
                    self.ended = true;
                    break Ok(());
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    let why = format!("{path} is not complete: its compressed data is cut off");
                    break Err(Failure::Incomplete(why));
                }
                Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData) => {
                    break Err(Failure::Error(Error::Data(format!(
                        "{path} can't be decompressed: {error}; does its extension say how it is compressed?"
                    ))));
                }
                Err(error) => break Err(Failure::Error(Error::io("read", path, &error))),
            }
        };
        self.buffer.truncate(filled);
        outcome
    }

    /// Reads more for a record that is longer than what is there.
    fn grow(&mut self, path: &str, lines: u64) -> Result<(), Failure> {
        if self.buffer.len() - self.start > LONGEST_RECORD {
            return Err(Failure::Error(Error::Data(format!(
                "{path} line {}: this row is longer than {} MiB; is a quote not closed?",
                lines + 1,
                LONGEST_RECORD >> 20
            ))));
        }
        self.fill(path)
    }
}

/// Opens a file to read its text from byte `position` on.
fn open(path: &Path, compression: Compression, position: u64, bytes_read: Arc<AtomicU64>) -> Result<Input, Failure> {
    let io = |error: std::io::Error| Failure::Error(Error::io("read", path.display(), &error));
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let reader: Box<dyn Read + Send> = match compression {
        Compression::None => {
            if length < position {
                return Err(Failure::Error(Error::Data(format!(
                    "{} is shorter than what was read from it before ({length} of {position} bytes): it was replaced or \
                     cut; give new content a new file",
                    path.display()
                ))));
            }
            file.seek(SeekFrom::Start(position)).map_err(io)?;
            return Ok(Input {
                reader: Box::new(Counting { file, bytes_read }),
                buffer: vec![],
                start: 0,
                ended: false,
            });
        }
        _ if length == 0 => {
            return Err(Failure::Incomplete(format!("{} is not complete: it is empty", path.display())));
        }
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(Counting { file, bytes_read })),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(Counting { file, bytes_read }).map_err(io)?),
    };
    let mut input = Input { reader, buffer: Vec::new(), start: 0, ended: false };
    let mut to_skip = position;
    while to_skip > 0 && !input.ended {
        input.fill(&path.display().to_string())?;
        let taken = to_skip.min(input.buffer.len() as u64);
        input.start = taken as usize;
        to_skip -= taken;
    }
    Ok(input)
}

/// Counts the bytes read from a file.
struct Counting {
    file: File,
    bytes_read: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The beginning of a file's text with about `rows` lines, and whether that is all of it. If it is cut off, that is an
/// error unless it is `growing`.
pub(crate) fn beginning(path: &Path, rows: usize, growing: bool) -> Result<(Vec<u8>, bool)> {
    const MOST: usize = 64 << 20;
    let read = || -> Result<(Vec<u8>, bool), Failure> {
        let mut input = open(path, Compression::of(path), 0, Arc::new(AtomicU64::new(0)))?;
        let name = path.display().to_string();
        while !input.ended && input.buffer.len() < MOST && line_ends(&input.buffer) <= rows {
            match input.fill(&name) {
                Err(Failure::Incomplete(_)) if growing => return Ok((input.buffer, false)),
                other => other?,
            }
        }
        Ok((input.buffer, input.ended && !growing))
    };
    match read() {
        Ok(found) => Ok(found),
        Err(Failure::Incomplete(_)) if growing => Ok((Vec::new(), false)),
        Err(Failure::Incomplete(why)) => Err(incomplete(&why)),
        Err(Failure::Error(error)) => Err(error),
    }
}

/// The error for a file that ends in the middle.
pub(crate) fn incomplete(why: &str) -> Error {
    Error::Data(format!("{why}; is it still being written?"))
}
