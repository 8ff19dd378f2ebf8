//! Matching one fresh batch against the batches of the other side, in steps.

use std::cmp::Ordering;

use super::Joined;
use crate::arrange::SharedBatch;
use crate::bytes;
use crate::chunk::RowChunk;
use crate::chunk::search::seek;
use crate::time::Time;
use crate::updates::Updates;

/// Rows looked at in a step, at most about, where turns are not shared.
pub(super) const LOOKS: usize = 32 * 1024;
/// By how much fewer rows are produced in a step than looked at, at most.
const LOOKS_PER_ROW: usize = 4;

/// The chunk and the row in it.
#[derive(Clone, Copy, Default)]
struct At {
    chunk: usize,
    row: usize,
}

impl At {
    /// Moves on to the next row; to the first of the next chunk at the end of one.
    #[inline]
    fn step(&mut self, chunks: &[RowChunk<Time>]) {
        self.row += 1;
        if self.row >= chunks[self.chunk].len() {
            *self = At { chunk: self.chunk + 1, row: 0 };
        }
    }

    #[inline]
    fn hash(self, chunks: &[RowChunk<Time>]) -> Option<u64> {
        chunks.get(self.chunk).map(|chunk| chunk.hashes()[self.row])
    }

    /// From the end of a chunk, moves to the first chunk that may hold `hash`.
    fn skip(&mut self, chunks: &[RowChunk<Time>], hash: u64) {
        let ends_before = |chunk: &RowChunk<Time>| chunk.last_hash() < hash;
        *self = At { chunk: self.chunk + 1, row: 0 };
        if chunks.get(self.chunk).is_some_and(ends_before) {
            self.chunk += chunks[self.chunk..].partition_point(ends_before);
        }
    }
}

/// Many rows of one key on the other side.
#[derive(Clone, Copy)]
struct Group {
    hash: u64,
    /// The row to match next; the group's first is the other side's position.
    next: At,
}

/// A fresh batch and what it is matched against.
pub(super) struct Work {
    fresh: SharedBatch,
    others: Vec<SharedBatch>,
    /// Whether the fresh batch is the left one.
    left: bool,
    /// The batch of the other side at hand.
    other: usize,
    a: At,
    b: At,
    group: Option<Group>,
}

impl Work {
    pub(super) fn new(fresh: SharedBatch, others: Vec<SharedBatch>, left: bool) -> Self {
        Work { fresh, others, left, other: 0, a: At::default(), b: At::default(), group: None }
    }

    /// Matches some rows into `out`, looking at about `looks`; true when all are matched.
    pub(super) fn step(&mut self, mut looks: usize, out: &mut Updates<Joined>) -> bool {
        let rows = looks / LOOKS_PER_ROW;
        while let Some(other) = self.others.get(self.other) {
            let mut pair = Pair {
                a: self.fresh.chunks(),
                b: other.chunks(),
                as_of: self.fresh.as_of().max(other.as_of()),
                left: self.left,
                rows,
                out,
            };
            if !pair.run(&mut self.a, &mut self.b, &mut self.group, &mut looks) {
                return false;
            }
            self.other += 1;
            (self.a, self.b) = (At::default(), At::default());
        }
        true
    }
}

/// Two batches, `a` fresh.
struct Pair<'a> {
    a: &'a [RowChunk<Time>],
    b: &'a [RowChunk<Time>],
    as_of: Time,
    left: bool,
    /// The most rows to produce.
    rows: usize,
    out: &'a mut Updates<Joined>,
}

impl Pair<'_> {
    /// Whether the step ends here.
    fn spent(&self, looks: usize) -> bool {
        looks == 0 || self.out.times.len() >= self.rows
    }

    /// Merges the two from the positions on; false when the step ends before they do.
    fn run(&mut self, at: &mut At, bt: &mut At, group: &mut Option<Group>, looks: &mut usize) -> bool {
        loop {
            if group.is_some() && !self.run_group(at, bt, group, looks) {
                return false;
            }
            let (Some(a), Some(b)) = (self.a.get(at.chunk), self.b.get(bt.chunk)) else { return true };
            if self.spent(*looks) {
                return false;
            }
            let (ha, hb) = (a.hashes(), b.hashes());
            let (mut i, mut j) = (at.row, bt.row);
            while i < ha.len() && j < hb.len() && !self.spent(*looks) {
                *looks = looks.saturating_sub(1);
                match ha[i].cmp(&hb[j]) {
                    Ordering::Less => i = seek(ha, i + 1, hb[j]),
                    Ordering::Greater => j = seek(hb, j + 1, ha[i]),
                    // Two rows of b with this hash, or maybe more in the next chunk.
                    Ordering::Equal if hb.get(j + 1).is_none_or(|&next| next == hb[j]) => {
                        *group = Some(Group { hash: ha[i], next: At { chunk: bt.chunk, row: j } });
                        break;
                    }
                    Ordering::Equal => {
                        self.emit(a, i, b, j);
                        i += 1;
                    }
                }
            }
            (at.row, bt.row) = (i, j);
            if i == ha.len() {
                match hb.get(j) {
                    Some(&hash) => at.skip(self.a, hash),
                    None => *at = At { chunk: at.chunk + 1, row: 0 },
                }
            }
            if j == hb.len() {
                match at.hash(self.a) {
                    Some(hash) => bt.skip(self.b, hash),
                    None => *bt = At { chunk: bt.chunk + 1, row: 0 },
                }
            }
        }
    }

    /// Matches the rows of `a` with the group's hash against the group; false when the step ends before they do.
    fn run_group(&mut self, at: &mut At, bt: &mut At, group: &mut Option<Group>, looks: &mut usize) -> bool {
        let Some(Group { hash, next }) = group else { return true };
        let (rows_a, rows_b) = (self.a, self.b);
        loop {
            while let Some(b) = rows_b.get(next.chunk)
                && b.hashes()[next.row] == *hash
            {
                if self.spent(*looks) {
                    return false;
                }
                *looks -= 1;
                self.emit(&rows_a[at.chunk], at.row, b, next.row);
                next.step(rows_b);
            }
            at.step(rows_a);
            if at.hash(rows_a) != Some(*hash) {
                *bt = *next;
                *group = None;
                return true;
            }
            *next = *bt;
        }
    }

    #[inline]
    fn emit(&mut self, a: &RowChunk<Time>, i: usize, b: &RowChunk<Time>, j: usize) {
        let key = a.key(i);
        if !bytes::equal(key, b.key(j)) {
            return;
        }
        let (left, right) = if self.left { (a.val(i), b.val(j)) } else { (b.val(j), a.val(i)) };
        self.out.data.keys.push(key);
        self.out.data.lefts.push(left);
        self.out.data.rights.push(right);
        self.out.times.push((*a.time(i)).max(*b.time(j)).max(self.as_of));
        self.out.diffs.push(a.diff(i) * b.diff(j));
    }
}
