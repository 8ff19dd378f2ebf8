//! What becomes of a followed file: it grows, is renamed, replaced, emptied, compressed or removed.
//!
//! No row is given that was in no file, and none twice. A file is the same one as before if it is the same on the disk and
//! holds what was read of it, whatever it is called. Another one under its name is another split.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::filesystem::blocks::{beginning, changed};
use crate::filesystem::content::Verdict;
use crate::filesystem::paths::{Found, found};
use crate::filesystem::source::Files;
use crate::format::kind::Compression;

/// What follows a file's name when it has been compressed.
const PACKED: &[&str] = &["gz", "gzip", "zst", "zstd"];

impl Files {
    /// Holds a listing against what is known: files that are still there, have another name, were compressed or are gone.
    /// What is left over is new.
    pub(crate) fn settle(&mut self, there: Vec<Found>, now: Instant) -> Vec<Found> {
        self.watch.begin_listing();
        let listing = self.watch.listing();
        let mut left = Vec::new();
        for found in there {
            match self.known.get(&found.path).and_then(|id| self.files.get_mut(id)) {
                Some(file) if file.identity == found.identity => (file.listing, file.missing) = (listing, None),
                _ => left.push(Some(found)),
            }
        }
        let lost = self.files.iter().filter(|(_, file)| file.listing != listing && !file.leaving);
        for id in lost.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.settle_lost(id, &mut left, now);
        }
        self.hold_back(&mut left);
        left.into_iter().flatten().collect()
    }

    /// A file is not under its name any more.
    fn settle_lost(&mut self, id: usize, left: &mut [Option<Found>], now: Instant) {
        let listing = self.watch.listing();
        let Some(file) = self.files.get(&id) else { return };
        let same =
            |found: &Found| file.identity.is_some() && found.identity == file.identity && file.is_in(&found.path);
        let packed = |found: &Found| self.is_packed(id, &found.path) == Some(true);
        if let Some(slot) = left.iter_mut().find(|slot| slot.as_ref().is_some_and(same))
            && let Some(found) = slot.take()
        {
            self.rename(id, found.path);
        } else if let Some(slot) = left.iter_mut().find(|slot| slot.as_ref().is_some_and(packed))
            && let Some(found) = slot.take()
        {
            self.go_on_in(id, found);
        } else {
            let replaced = left.iter().flatten().any(|found| found.path == file.path);
            let missing = file.missing.unwrap_or(now);
            if replaced || now.duration_since(missing) >= self.watch.grace() && file.missing.is_some() {
                self.leave(id);
            } else if let Some(file) = self.files.get_mut(&id) {
                file.missing = Some(missing);
                self.watch.list_again();
            }
            return;
        }
        if let Some(file) = self.files.get_mut(&id) {
            (file.listing, file.missing) = (listing, None);
        }
    }

    fn rename(&mut self, id: usize, path: PathBuf) {
        let Some(file) = self.files.get_mut(&id) else { return };
        if self.known.get(&file.path) == Some(&id) {
            self.known.remove(&file.path);
        }
        if let Some(lane) = &file.lane {
            lane.reader(|reader| reader.rename(&path));
        }
        file.path = path.clone();
        self.known.insert(path, id);
    }

    /// A file goes on as its compressed self: what was read of it is not read again.
    fn go_on_in(&mut self, id: usize, found: Found) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.lane = None;
        self.names.lock().hand_on(file.identity, found.identity);
        file.identity = found.identity;
        file.seen = (found.bytes, Some(found.modified));
        self.rename(id, found.path);
        self.queue(id);
    }

    /// A file has gone. What is still to be read of it can be, as long as it is open.
    fn leave(&mut self, id: usize) {
        let Some(file) = self.files.get_mut(&id) else { return };
        if file.ended || !file.is_open() {
            self.forget(id);
            return;
        }
        file.leaving = true;
        if self.known.get(&file.path) == Some(&id) {
            self.known.remove(&file.path);
        }
        self.names.lock().forget(file.identity);
        self.queue(id);
    }

    /// Whether the file at `path` is what was read of a known one, compressed; `None` if that can't be told yet.
    fn is_packed(&self, id: usize, path: &Path) -> Option<bool> {
        let Some(file) = self.files.get(&id) else { return Some(false) };
        let named = PACKED.iter().any(|ending| {
            let mut name = file.path.as_os_str().to_owned();
            name.push(".");
            name.push(ending);
            name == path.as_os_str()
        });
        let content = file.content().filter(|content| !content.head().is_empty());
        let Some(content) = content.filter(|_| named && file.is_plain(self.reading.format)) else { return Some(false) };
        let rows = content.head().iter().filter(|byte| **byte == b'\n').count() + 1;
        match beginning(path, rows, true) {
            Ok((text, _)) if text.len() >= content.head().len() => Some(text.starts_with(content.head())),
            _ => None,
        }
    }

    /// While a file is being compressed, both are there: the compressed one waits until the other is gone.
    fn hold_back(&mut self, left: &mut [Option<Found>]) {
        for slot in left {
            let Some(found) = slot.as_ref().filter(|found| Compression::of(&found.path) != Compression::None) else {
                continue;
            };
            let id = self.known.get(&found.path.with_extension("")).copied();
            match id.map(|id| self.is_packed(id, &found.path)) {
                None | Some(Some(false)) => {}
                Some(Some(true)) => *slot = None,
                Some(None) => {
                    *slot = None;
                    self.watch.list_again();
                }
            }
        }
    }

    /// Asks some files whether they have changed since they were read to their end.
    pub(crate) fn check(&mut self, now: Instant) -> Result<()> {
        let ask = self.watch.ask(
            &mut self.files,
            now,
            |file| &mut file.active_until,
            |file| {
                if !file.queued {
                    file.close();
                }
            },
        );
        let mut changed = Vec::new();
        for id in ask {
            let Some(file) = self.files.get(&id).filter(|file| !file.queued && !file.leaving) else { continue };
            match found(&file.path)? {
                Some(there) if there.identity == file.identity => {
                    if (there.bytes, Some(there.modified)) != file.seen {
                        changed.push((there.modified, there.path, id, there.bytes));
                    }
                }
                _ if file.missing.is_some() => {}
                // It was removed, renamed or replaced: a listing tells which.
                _ => self.watch.list_soon(),
            }
        }
        changed.sort();
        for (modified, _, id, bytes) in changed {
            let Some(file) = self.files.get_mut(&id) else { continue };
            let grown = bytes.saturating_sub(file.bytes);
            file.bytes = bytes;
            if file.ended {
                file.seen = (bytes, Some(modified));
                self.check_whole(id)?;
                continue;
            }
            file.active_until = Some(self.watch.activate(id, now));
            self.grown(grown);
            self.queue(id);
        }
        self.watch.asked(now);
        Ok(())
    }

    /// A file that can't grow was changed after all.
    fn check_whole(&mut self, id: usize) -> Result<()> {
        let Some(file) = self.files.get(&id) else { return Ok(()) };
        let Some(content) = &file.whole else { return Ok(()) };
        let Ok(mut open) = File::open(&file.path) else { return Ok(()) };
        let verdict = content.verify(&mut open).map_err(|error| Error::io("read", file.path.display(), &error))?;
        match verdict {
            Verdict::Begun => self.begin_anew(id),
            Verdict::Same if file.bytes == content.position() => Ok(()),
            Verdict::Same => Err(Error::Data(format!(
                "{} was added to after it had been read: only CSV and JSON files that are not compressed can grow; give \
                 new content a new file",
                file.path.display()
            ))),
            verdict => Err(changed(&file.path, verdict, content.position())),
        }
    }
}
