//! The first rows of each group.
//!
//! The output at `t` holds, for each key, the rows `offset .. offset + limit` of its rows among the input accumulated
//! through `t`, in the order of their bytes, each as often as it is there. Rows are order-preserving encodings, so that
//! is the wanted order, and ties are broken by the whole row. State is an ordered multiset of each key's rows; it is
//! dropped with its bucket, without retractions (see [`Keyed::buckets`]), and updates whose time has reached their bucket
//! are ignored. A row with negative copies counts as not there and is among the errors.
//!
//! The rows `offset .. offset + limit` are the first `offset + limit` rows without the first `offset`. Of each such
//! prefix only its end is kept, as a `Cut` that moves when rows before it come and go. So an update costs a step in
//! the multiset, however many rows the limit allows.

use crate::arena::Arena;
use crate::buckets::Buckets;
use crate::distinct::{push_bucket, push_negative};
use crate::keyed::Keyed;
use crate::ordered::Ordered;
use crate::reduction::{Errors, KeyError, Reduction, STEP, reduce};
use crate::rows::Rows;
use crate::saved::{Export, Homes, KeyStates};
use crate::table::KeyTable;
use crate::time::Time;
use crate::updates::{UpdateStream, Updates};

/// The rows `offset .. offset + limit` of each key, without a limit all from `offset` on; and the rows whose copies are
/// negative.
///
/// ```
/// use headwater_operators::{Keyed, Rows, Updates, top_k::top_k};
/// use timely::dataflow::operators::{Capture, Input, capture::Event};
///
/// let changes = timely::execute_directly(|worker| {
///     let (mut input, changes) = worker.dataflow::<u64, _, _>(|scope| {
///         let (input, stream) = scope.new_input::<Updates<Keyed<Rows>>>();
///         let (first, _errors) = top_k(stream, "least", 0, Some(1));
///         (input, first.capture())
///     });
///     let (mut keys, mut rows) = (Rows::default(), Rows::default());
///     for row in [b"3", b"2"] {
///         keys.push(b"a");
///         rows.push(row);
///     }
///     let data = Keyed::new(keys, rows);
///     input.send_batch(&mut Updates { data, times: vec![1, 2], diffs: vec![1, 1] });
///     changes
/// });
/// let mut seen = Vec::new();
/// for event in changes {
///     if let Event::Messages(_, batch) = event {
///         seen.extend((0..batch.len()).map(|i| (batch.data.vals.get(i).to_vec(), batch.times[i], batch.diffs[i])));
///     }
/// }
/// assert_eq!(seen, [(b"3".to_vec(), 1, 1), (b"2".to_vec(), 2, 1), (b"3".to_vec(), 2, -1)]);
/// ```
pub fn top_k<'scope>(
    stream: UpdateStream<'scope, Keyed<Rows>>,
    name: &str,
    offset: usize,
    limit: Option<usize>,
) -> (UpdateStream<'scope, Keyed<Rows>>, UpdateStream<'scope, Vec<KeyError>>) {
    reduce(stream, name, TopK::new(offset, limit))
}

/// Where the first `n` rows of a group end.
struct Cut {
    /// Whether there are at most `n` rows, so that all are before the end. Otherwise all rows before `row` are and
    /// `copies` of `row` itself.
    all: bool,
    row: Vec<u8>,
    copies: i64,
    /// The rows before the end: `n` at most, once the time is settled.
    included: i64,
}

/// More rows than this beyond `n` make a cut move back before the time is settled.
const SLACK: i64 = 64;

impl Cut {
    const EMPTY: Cut = Cut { all: true, row: Vec::new(), copies: 0, included: 0 };

    /// Accounts for `diff` copies of `row` in the group, which has them already. Calls `change` with what that changes
    /// among the first `n`, to which the cut must be settled later.
    fn update(&mut self, n: i64, rows: Group, row: &[u8], diff: i64, change: &mut impl FnMut(&[u8], i64)) {
        if diff != 0 && (self.all || row < &self.row[..]) {
            self.included += diff;
            change(row, diff);
            if self.included > n.saturating_add(SLACK) {
                self.shrink(n, rows, change);
            }
        }
    }

    /// Makes the cut the end of the first `n` rows of the group.
    fn settle(&mut self, n: i64, rows: Group, change: &mut impl FnMut(&[u8], i64)) {
        if !self.all {
            let count = rows.count(&self.row);
            if count < self.copies {
                change(&self.row, count - self.copies);
                self.included -= self.copies - count;
                self.copies = count;
            }
            while self.included < n {
                let more = (rows.count(&self.row) - self.copies).min(n - self.included);
                if more > 0 {
                    change(&self.row, more);
                    self.included += more;
                    self.copies += more;
                } else if let Some((row, _)) = rows.values.after(rows.group, &self.row) {
                    self.row.clear();
                    self.row.extend_from_slice(row);
                    self.copies = 0;
                } else {
                    self.all = true;
                    self.row = Vec::new();
                    break;
                }
            }
        }
        self.shrink(n, rows, change);
    }

    /// Moves the cut back to where at most `n` rows are before it.
    fn shrink(&mut self, n: i64, rows: Group, change: &mut impl FnMut(&[u8], i64)) {
        while self.included > n {
            if self.all || self.copies == 0 {
                let previous =
                    if self.all { rows.values.last(rows.group) } else { rows.values.before(rows.group, &self.row) };
                let Some((row, count)) = previous else { break };
                self.all = false;
                self.row.clear();
                self.row.extend_from_slice(row);
                self.copies = count;
            }
            // Copies of the cut's own row that left are noticed only here.
            let count = rows.count(&self.row).min(self.copies);
            let fewer = (self.copies - count).max((self.included - n).min(self.copies));
            change(&self.row, -fewer);
            self.copies -= fewer;
            self.included -= fewer;
        }
    }
}

/// The rows of one group.
#[derive(Clone, Copy)]
struct Group<'a> {
    values: &'a Ordered,
    group: u32,
}

impl Group<'_> {
    fn count(&self, row: &[u8]) -> i64 {
        self.values.count(self.group, row).max(0)
    }
}

/// The groups of some buckets.
#[derive(Default)]
struct Segment {
    table: KeyTable,
    values: Ordered,
    /// For each group as many cuts as there are prefixes.
    cuts: Vec<Cut>,
    homes: Homes,
    /// For each group its place among those that the current time touched, or `UNTOUCHED`.
    touched: Vec<u32>,
}

const UNTOUCHED: u32 = u32::MAX;

/// A group that the current time touched.
struct Touched {
    hash: u64,
    slot: u32,
    group: u32,
}

/// A row of a touched group, in the arena of the current time, and a number of copies.
struct Change {
    touched: u32,
    row: u32,
    copies: i64,
}

/// The reduction of [`top_k`].
#[derive(Default)]
pub struct TopK {
    /// Numbers of rows, and whether the first so many are added to the output or taken from it.
    prefixes: Vec<(i64, i64)>,
    buckets: Buckets<Segment>,
    touched: Vec<Touched>,
    emitted: usize,
    arena: Arena,
    changes: Vec<Change>,
    /// Rows that went through negative copies, with what they had before.
    negatives: Vec<Change>,
    groups: Vec<u32>,
    output: Updates<Keyed<Rows>>,
}

impl TopK {
    /// Keeps the rows `offset .. offset + limit` of each key, without a limit all from `offset` on.
    pub fn new(offset: usize, limit: Option<usize>) -> Self {
        let copies = |rows: usize| i64::try_from(rows).unwrap_or(i64::MAX);
        let end = limit.map_or(i64::MAX, |limit| copies(offset.saturating_add(limit)));
        let mut prefixes = vec![(end, 1)];
        if offset > 0 {
            prefixes.push((copies(offset), -1));
        }
        TopK { prefixes, ..TopK::default() }
    }
}

impl Reduction for TopK {
    type Input = Rows;
    type Output = Keyed<Rows>;

    fn apply(&mut self, time: Time, batch: &Updates<Keyed<Rows>>, rows: &[u32]) {
        let TopK { prefixes, buckets, touched, arena, changes, negatives, groups, .. } = self;
        let data = &batch.data;
        buckets.split(data, time, rows, &Segment::default, |slot, segment, rows| {
            groups.clear();
            segment.table.lookup_or_insert(&data.hashes, &data.keys, rows, groups);
            segment.reserve(prefixes.len());
            for (&row, &group) in rows.iter().zip(groups.iter()) {
                let row = row as usize;
                let place = &mut segment.touched[group as usize];
                if *place == UNTOUCHED {
                    *place = touched.len() as u32;
                    segment.homes.set(group, data.bucket(row), segment.table.groups());
                    touched.push(Touched { hash: data.hashes[row], slot, group });
                }
                let (place, value, diff) = (*place, data.vals.get(row), batch.diffs[row]);
                let old = segment.values.add(group, value, diff);
                let new = old + diff;
                if old < 0 || new < 0 {
                    negatives.push(Change { touched: place, row: arena.push(value), copies: old });
                }
                let diff = new.max(0) - old.max(0);
                let rows = Group { values: &segment.values, group };
                for (cut, &(n, sign)) in segment.cuts[group as usize * prefixes.len()..].iter_mut().zip(prefixes.iter())
                {
                    cut.update(n, rows, value, diff, &mut |row, diff| {
                        changes.push(Change { touched: place, row: arena.push(row), copies: sign * diff });
                    });
                }
            }
        });
    }

    fn emit(&mut self, time: Time, errors: &mut Errors) -> bool {
        let TopK { prefixes, buckets, touched, arena, changes, negatives, output, .. } = self;
        if self.emitted == 0 {
            // The last come first, to be popped group by group.
            changes.sort_by_key(|change| std::cmp::Reverse(change.touched));
            negatives.sort_by_key(|change| std::cmp::Reverse(change.touched));
        }
        let (until, last) = (output.len() + STEP, touched.len().min(self.emitted + STEP));
        while self.emitted < last && output.len() < until {
            let place = self.emitted as u32;
            let Touched { hash, slot, group } = touched[self.emitted];
            self.emitted += 1;
            let Segment { table, values, cuts, homes, touched } = buckets.get(slot);
            let bucket = homes.get(group);
            touched[group as usize] = UNTOUCHED;
            let key = table.key(group);

            let first = changes.partition_point(|change| change.touched > place);
            let cuts = &mut cuts[group as usize * prefixes.len()..][..prefixes.len()];
            for (cut, &(n, sign)) in cuts.iter_mut().zip(prefixes.iter()) {
                cut.settle(n, Group { values, group }, &mut |row, diff| {
                    changes.push(Change { touched: place, row: arena.push(row), copies: sign * diff });
                });
            }
            changes[first..].sort_by(|a, b| arena.get(a.row).cmp(arena.get(b.row)));
            for same in changes[first..].chunk_by(|a, b| arena.get(a.row) == arena.get(b.row)) {
                let diff = same.iter().map(|change| change.copies).sum();
                if diff != 0 {
                    let keyed = &mut output.data;
                    keyed.hashes.push(hash);
                    keyed.keys.push(key);
                    push_bucket(&mut keyed.buckets, keyed.hashes.len(), bucket);
                    keyed.vals.push(arena.get(same[0].row));
                    output.times.push(time);
                    output.diffs.push(diff);
                }
            }
            changes.truncate(first);

            let first = negatives.partition_point(|change| change.touched > place);
            // Stable, so that the first of equal rows tells what there was before the time.
            negatives[first..].sort_by(|a, b| arena.get(a.row).cmp(arena.get(b.row)));
            for same in negatives[first..].chunk_by(|a, b| arena.get(a.row) == arena.get(b.row)) {
                let row = arena.get(same[0].row);
                push_negative(errors, time, key, row, same[0].copies, values.count(group, row));
            }
            negatives.truncate(first);

            if !values.has(group) {
                table.remove(hash, group);
                cuts.fill_with(|| Cut::EMPTY);
            }
        }
        let done = self.emitted == touched.len();
        if done {
            touched.clear();
            self.emitted = 0;
            *arena = Arena::default();
        }
        done
    }

    fn buffered(&self) -> usize {
        self.output.len()
    }

    fn take(&mut self) -> Updates<Keyed<Rows>> {
        std::mem::take(&mut self.output)
    }

    fn release(&mut self, frontier: Option<Time>) {
        self.buckets.release(frontier);
    }

    /// A record is a row of its key, with its copies.
    fn export(&self, from: &mut Export, limit: usize, out: &mut KeyStates) -> bool {
        let until = out.len() + limit;
        self.buckets.export(from, |Segment { table, values, homes, .. }, from| {
            loop {
                let left = until.saturating_sub(out.len());
                if left == 0 {
                    return false;
                }
                let done = values.scan(&mut from.values, left, |group, row, copies| {
                    out.push(homes.get(group), table.key(group), copies, row);
                });
                if done {
                    return true;
                }
            }
        })
    }

    fn import(&mut self, KeyStates { keys, counts }: &KeyStates) -> Result<(), String> {
        let TopK { prefixes, buckets, .. } = self;
        // What a run before this one has emitted is not emitted again.
        let mut ignore = |_: &[u8], _: i64| {};
        let mut filled = std::collections::BTreeSet::new();
        for (row, &copies) in counts.iter().enumerate() {
            let slot = buckets.slot(keys.bucket(row), &Segment::default);
            let segment = buckets.get(slot);
            let group = segment.table.insert(keys.hashes[row], keys.keys.get(row));
            segment.reserve(prefixes.len());
            segment.homes.set(group, keys.bucket(row), segment.table.groups());
            let value = keys.vals.get(row);
            let old = segment.values.add(group, value, copies);
            let diff = (old + copies).max(0) - old.max(0);
            let rows = Group { values: &segment.values, group };
            let cuts = &mut segment.cuts[group as usize * prefixes.len()..];
            for (cut, &(n, _)) in cuts.iter_mut().zip(prefixes.iter()) {
                cut.update(n, rows, value, diff, &mut ignore);
            }
            filled.insert((slot, group));
        }
        for (slot, group) in filled {
            let Segment { values, cuts, .. } = buckets.get(slot);
            for (cut, &(n, _)) in cuts[group as usize * prefixes.len()..].iter_mut().zip(prefixes.iter()) {
                cut.settle(n, Group { values, group }, &mut ignore);
            }
        }
        Ok(())
    }

    fn held(&self) -> (usize, usize) {
        let cuts =
            |s: &Segment| s.cuts.iter().map(|c| c.row.capacity()).sum::<usize>() + size_of::<Cut>() * s.cuts.capacity();
        let bytes =
            |s: &Segment| s.table.bytes() + s.values.bytes() + s.homes.bytes() + 4 * s.touched.capacity() + cuts(s);
        self.buckets.iter().map(|s| (bytes(s), s.values.len())).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }
}

impl Segment {
    fn reserve(&mut self, prefixes: usize) {
        let groups = self.table.groups();
        if self.touched.len() < groups {
            self.touched.resize(groups, UNTOUCHED);
            self.cuts.resize_with(groups * prefixes, || Cut::EMPTY);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::Rng;

    use super::*;
    use crate::reduction::Fault;
    use crate::testing::{changes, expected, run};

    /// A group and a row.
    type Record = (u8, String);

    fn pack(records: &[Record]) -> Keyed<Rows> {
        let (mut keys, mut vals) = (Rows::default(), Rows::default());
        for (group, row) in records {
            keys.push(&[*group]);
            vals.push(row.as_bytes());
        }
        Keyed::new(keys, vals)
    }

    fn unpack(data: &Keyed<Rows>, index: usize) -> Record {
        (data.keys.get(index)[0], String::from_utf8(data.vals.get(index).to_vec()).unwrap())
    }

    fn first_rows(accumulated: &BTreeMap<Record, i64>, offset: usize, limit: Option<usize>) -> BTreeMap<Record, i64> {
        let mut seen: BTreeMap<u8, usize> = BTreeMap::new();
        let mut rows = BTreeMap::new();
        for (record, count) in accumulated {
            for _ in 0..(*count).max(0) {
                let place = seen.entry(record.0).or_default();
                if *place >= offset && limit.is_none_or(|limit| *place < offset + limit) {
                    *rows.entry(record.clone()).or_default() += 1;
                }
                *place += 1;
            }
        }
        rows
    }

    fn holds_the_first_rows(seed: u64, steps: usize, times: u64, rows: u32) {
        let (offset, limit) =
            [(0, Some(1)), (0, Some(3)), (2, Some(4)), (3, None), (0, None), (1, Some(0))][seed as usize % 6];
        let workers = [1, 2, 4][seed as usize % 3];
        let groups = 1 + seed as u8 % 3;
        let all = changes(seed, steps, times, seed.is_multiple_of(5), |rng| {
            let row = rng.random_range(0..rows);
            (
                rng.random_range(0..groups),
                if row.is_multiple_of(2) { format!("{row}") } else { format!("a longer row {row}") },
            )
        });
        let (seen, errors) =
            run(workers, seed, &all, pack, unpack, move |stream| top_k(stream, "top", offset, limit)).once();
        assert_eq!(seen, expected(&all, |_, rows| first_rows(rows, offset, limit)), "seed {seed}");
        let negative = expected(&all, |_, rows| {
            let negative = rows.iter().filter(|(_, count)| **count < 0);
            let fault = |row: &String, count| Fault::Negative { row: row.clone().into_bytes(), count };
            negative
                .map(|((group, row), count)| (KeyError { key: vec![*group], fault: fault(row, *count) }, 1))
                .collect()
        });
        assert_eq!(errors, negative, "seed {seed}");
    }

    #[test]
    fn holds_the_first_rows_of_each_group() {
        for seed in 0..42 {
            holds_the_first_rows(seed, 120, [2, 30][seed as usize % 2], 20);
        }
        for seed in 42..48 {
            holds_the_first_rows(seed, 2_000, 4, 1_000);
        }
    }

    #[test]
    fn drops_a_bucket_without_retractions() {
        let all = [((1, "b".into()), 1, 1), ((1, "a".into()), 5, 1), ((1, "0".into()), 10, 1)];
        let pack = |records: &[Record]| Keyed { buckets: vec![10; records.len()], ..pack(records) };
        let (seen, errors) = run(2, 0, &all, pack, unpack, |stream| top_k(stream, "top", 0, Some(1))).once();
        assert_eq!(seen, expected(&all[..2], |_, rows| first_rows(rows, 0, Some(1))));
        assert!(errors.is_empty());
    }
}
