//! Whether a file is still the file that it was: the same one on the disk, with the bytes in it that were read.
//!
//! A name says little: files are renamed, replaced and emptied under it. So a followed file is known by its device and inode,
//! and what was read of it by its first bytes and by those just before the position. Both are looked at again after each
//! reading on, so rows of a file that was changed meanwhile are never given.

use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Seek, SeekFrom};

/// How many bytes are kept of the beginning, and looked at before the position.
const LOOK: usize = 1024;

/// A file on a disk, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The identity of a file; `None` where the system has none.
    #[cfg(unix)]
    pub(crate) fn of(metadata: &Metadata) -> Option<Identity> {
        use std::os::unix::fs::MetadataExt;
        Some(Identity { device: metadata.dev(), inode: metadata.ino() })
    }

    /// The identity of a file; `None` where the system has none.
    #[cfg(not(unix))]
    pub(crate) fn of(_metadata: &Metadata) -> Option<Identity> {
        None
    }
}

/// What a look at a file found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What was read is still there, perhaps with more behind it.
    Same,
    /// It is empty or begins with other bytes: its content is another one.
    Begun,
    /// It has this many bytes, fewer than were read.
    Cut(u64),
    /// It begins as before, but not all that was read is there any more.
    Changed,
}

/// What is known of the bytes that were read of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    /// How many there are.
    position: u64,
    head: Box<[u8]>,
    tail: usize,
    tail_hash: u64,
}

impl Content {
    /// The content of a file up to its present end.
    pub(crate) fn whole(file: &mut File) -> std::io::Result<Content> {
        let position = file.metadata()?.len();
        let head = bytes(file, 0, LOOK)?.into();
        let tail = bytes(file, position.saturating_sub(LOOK as u64), LOOK)?;
        Ok(Content { position, head, tail: tail.len(), tail_hash: hash(&tail) })
    }

    /// How many bytes were read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The first bytes.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Looks whether a file still holds what was read.
    pub(crate) fn verify(&self, file: &mut File) -> std::io::Result<Verdict> {
        self.look(file).map(|(verdict, _)| verdict)
    }

    /// After `read` was read at the position: whether the file still held what was read before. If so, `read` is part of the
    /// content.
    pub(crate) fn extend(&mut self, file: &mut File, read: &[u8]) -> std::io::Result<Verdict> {
        let (verdict, first) = self.look(file)?;
        if verdict != Verdict::Same || read.is_empty() {
            return Ok(verdict);
        }
        self.position += read.len() as u64;
        if self.head.len() < LOOK {
            let length = usize::try_from(self.position).unwrap_or(LOOK).min(first.len());
            self.head = first[..length].into();
        }
        let tail = &read[read.len() - read.len().min(LOOK)..];
        (self.tail, self.tail_hash) = (tail.len(), hash(tail));
        Ok(verdict)
    }

    /// The verdict, and the first bytes of the file now.
    fn look(&self, file: &mut File) -> std::io::Result<(Verdict, Vec<u8>)> {
        let length = file.metadata()?.len();
        let first = bytes(file, 0, LOOK)?;
        let verdict = if self.position > 0 && length == 0 {
            Verdict::Begun
        } else if length < self.position {
            Verdict::Cut(length)
        } else if !first.starts_with(&self.head) {
            Verdict::Begun
        } else if self.tail > 0 && hash(&bytes(file, self.position - self.tail as u64, self.tail)?) != self.tail_hash {
            Verdict::Changed
        } else {
            Verdict::Same
        };
        Ok((verdict, first))
    }
}

/// The bytes from `from` on, at most `count`.
fn bytes(file: &mut File, from: u64, count: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(count);
    file.seek(SeekFrom::Start(from))?;
    file.take(count as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn verdict(before: &[u8], after: &[u8]) -> Verdict {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(before).expect("written");
        let mut content = Content::default();
        // Read in two goes, the second of which is known by the bytes before it too.
        let middle = before.len() / 2;
        assert_eq!(content.extend(&mut file, &before[..middle]).expect("a look"), Verdict::Same);
        assert_eq!(content.extend(&mut file, &before[middle..]).expect("a look"), Verdict::Same);
        assert_eq!(content.position(), before.len() as u64);
        file.set_len(0).expect("emptied");
        file.seek(SeekFrom::Start(0)).expect("a place");
        file.write_all(after).expect("written");
        let verdict = content.verify(&mut file).expect("a look");
        assert_eq!(content.extend(&mut file, b"more").expect("a look"), verdict);
        verdict
    }

    #[test]
    fn what_was_read_is_known_again() {
        let short = b"id,word\n1,a\n2,b\n";
        assert_eq!(verdict(short, short), Verdict::Same);
        assert_eq!(verdict(short, b"id,word\n1,a\n2,b\n3,c\n"), Verdict::Same);
        assert_eq!(verdict(short, b""), Verdict::Begun);
        assert_eq!(verdict(short, b"id,word\n"), Verdict::Cut(8));
        assert_eq!(verdict(short, b"id,word\n3,c\n4,d\n"), Verdict::Begun);

        let long: Vec<u8> = (0..5000_u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        let mut changed = long.clone();
        let place = changed.len() - 100;
        changed[place] = b'x';
        assert_eq!(verdict(&long, &long), Verdict::Same);
        assert_eq!(verdict(&long, &changed), Verdict::Changed);
        assert_eq!(verdict(&long, &long[..2000]), Verdict::Cut(2000));
    }
}
