//! A text file as blocks of whole records: read and cut one after another here, and decoded wherever there is time for it.
//!
//! A block begins and ends between two records, so decoding one needs nothing of another. What follows the last record of a
//! file that may still grow is left, and read again when there is more.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::connector::Reach;
use crate::error::{Error, Result};
use crate::filesystem::content::{Content, Identity, Verdict};
use crate::format::BATCH_BYTES;
use crate::format::kind::Compression;
use crate::format::record::{Decoded, line_ends};
use crate::format::text::TextDecoder;

/// A record longer than this is taken for a quote that is never closed.
const LONGEST_RECORD: usize = 64 << 20;

/// Length and time of modification of a file.
pub(crate) type Stat = (u64, Option<SystemTime>);

/// What reading on gives.
pub(crate) enum Piece {
    Block(Block),
    /// All that there is has been read; a growing file may have more later.
    End,
    /// The file ends in the middle: it is still being written, or it is cut off.
    Incomplete(String),
    /// A followed file is not what it was.
    Other(Verdict),
    /// Another file has taken the name.
    Replaced,
}

/// Text of whole records.
pub(crate) struct Block {
    text: Vec<u8>,
    /// Whether its end is that of the last record, line end or not.
    last: bool,
    /// The number of its first line.
    line: u64,
    /// Whether its record may be half-written, in which case it is none.
    half: bool,
    decoder: TextDecoder,
}

impl Block {
    /// Its records, at most `max_rows` together, each lot with the number of its first line.
    pub(crate) fn decode(self, max_rows: usize) -> Result<Vec<(Decoded, u64)>> {
        let (mut lots, mut from, mut line) = (Vec::new(), 0, self.line);
        while from < self.text.len() {
            let rest = &self.text[from..];
            let mut decoded = self.decoder.records(rest, self.last, max_rows)?;
            if decoded.consumed == 0 {
                return Err(Error::Internal(format!("a block of text has half a record at line {}", line + 1)));
            }
            let first = line;
            from += decoded.consumed;
            if from < self.text.len() {
                line += line_ends(&rest[..decoded.consumed]) as u64;
            }
            if self.half {
                decoded.records -= decoded.bad.len();
                decoded.bad.clear();
            }
            if decoded.records > 0 {
                lots.push((decoded, first));
            }
        }
        Ok(lots)
    }
}

/// A CSV or JSON file that is read block by block.
pub(crate) struct Blocks {
    path: PathBuf,
    compression: Compression,
    decoder: TextDecoder,
    reach: Reach,
    /// Whether bad records are set apart.
    tolerant: bool,
    identity: Option<Identity>,
    content: Content,
    input: Option<Input>,
    /// A followed file that is at its end, still open: what is written to it is found whatever becomes of its name.
    handle: Option<File>,
    /// What it was like when it was last opened or read on.
    seen: Stat,
    /// Bytes of text that are done with.
    position: u64,
    /// Line ends in them.
    lines: u64,
    /// Records to skip before the first row.
    skip: u64,
    /// Whether a file that does not grow has been read to its end.
    ended: bool,
    bytes_read: Arc<AtomicU64>,
}

impl Blocks {
    /// The file at `path`, from record `skip` on. `bytes_read` counts what is read from storage.
    pub(crate) fn new(
        path: &Path,
        identity: Option<Identity>,
        decoder: TextDecoder,
        skip: u64,
        reach: Reach,
        tolerant: bool,
        bytes_read: Arc<AtomicU64>,
    ) -> Blocks {
        Blocks {
            path: path.to_path_buf(),
            compression: Compression::of(path),
            decoder,
            reach,
            tolerant,
            identity,
            content: Content::default(),
            input: None,
            handle: None,
            seen: (0, None),
            position: 0,
            lines: 0,
            skip,
            ended: false,
            bytes_read,
        }
    }

    /// Whether more can be added to the file: not to a compressed one.
    pub(crate) fn can_grow(&self) -> bool {
        self.reach == Reach::Follow && self.compression == Compression::None
    }

    /// Length and time of modification before the last reading.
    pub(crate) fn seen(&self) -> Stat {
        self.seen
    }

    /// What is known of the bytes read so far, where the file is followed.
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// The file has another name now.
    pub(crate) fn rename(&mut self, path: &Path) {
        self.path = path.to_path_buf();
    }

    /// Whether a file at its end is kept open.
    pub(crate) fn is_open(&self) -> bool {
        self.handle.is_some() || self.input.is_some()
    }

    /// Closes the file. What was not given yet is read again.
    pub(crate) fn close(&mut self) {
        self.input = None;
        self.handle = None;
    }

    /// About `bytes` more of the text.
    pub(crate) fn next(&mut self, bytes: usize) -> Result<Piece> {
        if self.ended {
            return Ok(Piece::End);
        }
        let piece = match self.read(bytes) {
            Ok(piece) => piece,
            Err(Failure::Incomplete(why)) => Piece::Incomplete(why),
            Err(Failure::Other(verdict)) => Piece::Other(verdict),
            Err(Failure::Replaced) => Piece::Replaced,
            Err(Failure::Error(error)) => return Err(error),
        };
        if !matches!(piece, Piece::Block(_)) {
            // Thousands of files must not stay open; how many of those that grow do is the caller's to say.
            let input = self.input.take();
            if let (Some(Input { reader: Reader::Plain(file), .. }), Piece::End, true) =
                (input, &piece, self.can_grow())
            {
                self.handle = Some(file);
            }
        }
        Ok(piece)
    }

    fn read(&mut self, bytes: usize) -> Result<Piece, Failure> {
        let name = self.path.display().to_string();
        let growing = self.reach.is_growing() && self.compression == Compression::None;
        loop {
            let mut input = match self.input.take() {
                Some(input) => input,
                None => self.open()?,
            };
            if input.text().len() < bytes && !input.ended {
                input.fill(bytes, &name, &self.bytes_read)?;
            }
            let last = input.ended && !growing;
            let Some(head) = self.decoder.head(input.text(), last)? else {
                if input.ended {
                    self.input = Some(input);
                    return Ok(self.at_end());
                }
                input.grow(&name, self.lines, &self.bytes_read)?;
                self.input = Some(input);
                continue;
            };
            let text = input.text();
            let taken = if head > 0 {
                head
            } else if self.skip > 0 {
                let most = usize::try_from(self.skip).unwrap_or(usize::MAX);
                let (taken, records) = self.decoder.skip(text, last, most)?;
                self.skip -= records as u64;
                taken
            } else {
                let whole = if last { text.len() } else { self.decoder.whole(text)? };
                // A record whose end is not there yet may all the same be one that another reader has read.
                let half = whole == 0 && input.ended && self.reach == Reach::Again && !text.is_empty();
                let whole = if half { text.len() } else { whole };
                if whole > 0 {
                    self.verify(&mut input, whole)?;
                    let line = self.lines;
                    let text = input.split(whole);
                    self.advance(&text);
                    // A file that ends with this block need not be asked again.
                    self.ended = half || (input.ended && input.text().is_empty() && !self.can_grow());
                    self.input = Some(input).filter(|_| !self.ended);
                    let decoder = self.decoder.clone();
                    let last = last || half;
                    return Ok(Piece::Block(Block { text, last, line, half: half && !self.tolerant, decoder }));
                }
                0
            };
            if taken > 0 {
                self.verify(&mut input, taken)?;
                let text = input.split(taken);
                self.advance(&text);
                self.input = Some(input);
                continue;
            }
            if !input.ended {
                input.grow(&name, self.lines, &self.bytes_read)?;
                self.input = Some(input);
                continue;
            }
            // The last line that was read before may have had no line end then, and has none yet.
            if self.skip == 0 || (growing && self.skip == 1) {
                self.verify(&mut input, 0)?;
                self.input = Some(input);
                return Ok(self.at_end());
            }
            return Err(Failure::Error(Error::Data(format!(
                "{name} has {} rows less than were read from it before: it was replaced or cut; start without the saved \
                 position",
                self.skip
            ))));
        }
    }

    fn at_end(&mut self) -> Piece {
        self.ended = !self.can_grow();
        Piece::End
    }

    fn advance(&mut self, text: &[u8]) {
        self.lines += line_ends(text) as u64;
        self.position += text.len() as u64;
    }

    /// Whether a followed file still holds what was read of it, now that the next `taken` bytes were read.
    fn verify(&mut self, input: &mut Input, taken: usize) -> Result<(), Failure> {
        let Reader::Plain(file) = &mut input.reader else { return Ok(()) };
        if !(self.reach == Reach::Follow && self.compression == Compression::None) {
            return Ok(());
        }
        let read = &input.buffer[input.start..input.start + taken];
        let behind = file.stream_position().map_err(|error| io(&self.path, &error))?;
        let verdict = self.content.extend(file, read).map_err(|error| io(&self.path, &error))?;
        file.seek(SeekFrom::Start(behind)).map_err(|error| io(&self.path, &error))?;
        match verdict {
            Verdict::Same => Ok(()),
            other => Err(Failure::Other(other)),
        }
    }

    /// Opens the file to read its text from the position on.
    fn open(&mut self) -> Result<Input, Failure> {
        let io = |error: std::io::Error| io(&self.path, &error);
        let (mut file, held) = match self.handle.take() {
            Some(file) => (file, true),
            None => match File::open(&self.path) {
                Ok(file) => (file, false),
                // It has gone since it was seen: the next listing says what became of it.
                Err(error) if error.kind() == ErrorKind::NotFound && self.reach == Reach::Follow => {
                    return Err(Failure::Replaced);
                }
                Err(error) => return Err(io(error)),
            },
        };
        let metadata = file.metadata().map_err(io)?;
        self.seen = (metadata.len(), metadata.modified().ok());
        let identity = Identity::of(&metadata);
        if !held && self.reach == Reach::Follow && self.identity.is_some() && identity != self.identity {
            if self.position > 0 {
                return Err(Failure::Replaced);
            }
            self.identity = identity;
        }
        let reader = match self.compression {
            Compression::None => {
                if metadata.len() < self.position && self.reach != Reach::Follow {
                    let verdict = Verdict::Cut(metadata.len());
                    return Err(Failure::Error(changed(&self.path, verdict, self.position)));
                }
                file.seek(SeekFrom::Start(self.position)).map_err(io)?;
                Reader::Plain(file)
            }
            _ if metadata.len() == 0 => {
                return Err(Failure::Incomplete(format!("{} is not complete: it is empty", self.path.display())));
            }
            Compression::Gzip => {
                let counting = Counting { file, bytes_read: self.bytes_read.clone() };
                Reader::Packed(Box::new(flate2::read::MultiGzDecoder::new(counting)))
            }
            Compression::Zstd => {
                let counting = Counting { file, bytes_read: self.bytes_read.clone() };
                Reader::Packed(Box::new(zstd::stream::read::Decoder::new(counting).map_err(io)?))
            }
        };
        let mut input = Input { reader, buffer: Vec::new(), start: 0, ended: false };
        if self.compression != Compression::None {
            let mut to_skip = self.position;
            while to_skip > 0 && !input.ended {
                input.fill(BATCH_BYTES, &self.path.display().to_string(), &self.bytes_read)?;
                let taken = to_skip.min(input.text().len() as u64);
                input.start += taken as usize;
                to_skip -= taken;
            }
        }
        Ok(input)
    }
}

/// The error for a followed file that is not what it was.
pub(crate) fn changed(path: &Path, verdict: Verdict, position: u64) -> Error {
    let path = path.display();
    Error::Data(match verdict {
        Verdict::Cut(length) => format!(
            "{path} is shorter than what was read from it before ({length} of {position} bytes): it was replaced or cut; \
             give new content a new file, or empty the file before it is written anew"
        ),
        _ => format!(
            "{path} was changed before byte {position}, up to which it was read: rows that were read are not in it any \
             more; give new content a new file"
        ),
    })
}

enum Failure {
    Incomplete(String),
    Other(Verdict),
    Replaced,
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

fn io(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Error(Error::io("read", path.display(), error))
}

enum Reader {
    Plain(File),
    Packed(Box<dyn Read + Send>),
}

/// An open file with the text that was not given yet.
struct Input {
    reader: Reader,
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
}

impl Input {
    fn text(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Takes `count` bytes from the front of the text.
    fn split(&mut self, count: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(self.start + count);
        let mut text = std::mem::replace(&mut self.buffer, rest);
        text.drain(..self.start);
        self.start = 0;
        text
    }

    /// Reads `count` bytes more, fewer only at the end.
    fn fill(&mut self, count: usize, path: &str, bytes_read: &AtomicU64) -> Result<(), Failure> {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.reserve(count);
        let outcome = match &mut self.reader {
            Reader::Plain(file) => {
                let outcome = file.take(count as u64).read_to_end(&mut self.buffer);
                bytes_read.fetch_add(*outcome.as_ref().unwrap_or(&0) as u64, Ordering::Relaxed);
                outcome
            }
            Reader::Packed(packed) => packed.take(count as u64).read_to_end(&mut self.buffer),
        };
        match outcome {
            Ok(read) => {
                self.ended = read < count;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(Failure::Incomplete(format!("{path} is not complete: its compressed data is cut off")))
            }
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData) => {
                Err(Failure::Error(Error::Data(format!(
                    "{path} can't be decompressed: {error}; does its extension say how it is compressed?"
                ))))
            }
            Err(error) => Err(Failure::Error(Error::io("read", path, &error))),
        }
    }

    /// Reads more for a record that is longer than what is there.
    fn grow(&mut self, path: &str, lines: u64, bytes_read: &AtomicU64) -> Result<(), Failure> {
        if self.text().len() > LONGEST_RECORD {
            return Err(Failure::Error(Error::Data(format!(
                "{path} line {}: this row is longer than {} MiB; is a quote not closed?",
                lines + 1,
                LONGEST_RECORD >> 20
            ))));
        }
        self.fill(BATCH_BYTES, path, bytes_read)
    }
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
    let name = path.display().to_string();
    let read = || -> Result<(Vec<u8>, bool), Failure> {
        let file = File::open(path).map_err(|error| io(path, &error))?;
        let reader = match Compression::of(path) {
            Compression::None => Reader::Plain(file),
            _ if file.metadata().is_ok_and(|metadata| metadata.len() == 0) => {
                return Err(Failure::Incomplete(format!("{name} is not complete: it is empty")));
            }
            Compression::Gzip => Reader::Packed(Box::new(flate2::read::MultiGzDecoder::new(file))),
            Compression::Zstd => {
                Reader::Packed(Box::new(zstd::stream::read::Decoder::new(file).map_err(|error| io(path, &error))?))
            }
        };
        let mut input = Input { reader, buffer: Vec::new(), start: 0, ended: false };
        let unread = AtomicU64::new(0);
        let mut size = rows.saturating_mul(64).clamp(4 << 10, BATCH_BYTES);
        while !input.ended && input.buffer.len() < MOST && line_ends(&input.buffer) <= rows {
            match input.fill(size, &name, &unread) {
                Err(Failure::Incomplete(_)) if growing => return Ok((input.buffer, false)),
                other => other?,
            }
            size = BATCH_BYTES;
        }
        Ok((input.buffer, input.ended && !growing))
    };
    match read() {
        Ok(found) => Ok(found),
        Err(Failure::Incomplete(_)) if growing => Ok((Vec::new(), false)),
        Err(Failure::Incomplete(why)) => Err(incomplete(&why)),
        Err(Failure::Error(error)) => Err(error),
        Err(Failure::Other(_) | Failure::Replaced) => Err(Error::Internal(format!("{name} is not followed"))),
    }
}

/// The error for a file that ends in the middle.
pub(crate) fn incomplete(why: &str) -> Error {
    Error::Data(format!("{why}; is it still being written?"))
}
