//! Aggregates of each group, kept in vectorised accumulators.
//!
//! The output at `t` holds, for each key that has records among the input accumulated through `t`, one record: the
//! results of its [`Accumulators`]. State is a hash table of keys, the number of records of each and the
//! accumulators; a key whose records are gone has no state, and the state of a bucket is dropped when the frontier
//! reaches it, without retractions (see [`Keyed::buckets`]). Updates whose time has reached their bucket are ignored. A
//! key with fewer than no records, or whose results can't be computed, is not in the output but among the errors for
//! as long as that is so.

use crate::buckets::Buckets;
use crate::counts::{Counts, Marks};
use crate::distinct::push_bucket;
use crate::keyed::{KEEP, Keyed, hash, owner};
use crate::reduction::{Errors, Fault, KeyError, Reduction, reduce};
use crate::saved::{Export, Homes, KeyStates, Place};
use crate::table::KeyTable;
use crate::time::Time;
use crate::updates::{Payload, UpdateStream, Updates};

/// Accumulators of aggregates, one of each per group; groups are numbered `0, 1, 2, ..`.
pub trait Accumulators: 'static {
    /// The arguments of the aggregates, one record an update.
    type Input: Payload;
    /// The results of the aggregates, one record a group.
    type Output: Payload;

    /// From now on there are groups `0..groups`; new ones are empty. Never fewer than before.
    fn reserve(&mut self, groups: usize);

    /// For each `i`, adds `diffs[i]` copies of the input record `rows[i]` to group `groups[i]`. A group may come more than
    /// once.
    fn update(&mut self, groups: &[u32], input: &Self::Input, rows: &[u32], diffs: &[i64]);

    /// The results of each of `groups`, in that order, empty groups included.
    fn evaluate(&mut self, groups: &[u32]) -> Evaluated<Self::Output>;

    /// Appends to `changed`, for each record of `old`, whether the record of `new` at the same place differs. `new` may
    /// be longer.
    fn changed(old: &Self::Output, new: &Self::Output, changed: &mut Vec<bool>);

    /// Whether a group that has no records in sum has none at all; false when some were retracted that were never there
    /// and others are left over. Accumulators that can't tell say true.
    fn is_empty(&self, _group: u32) -> bool {
        true
    }

    /// These groups are empty again and may be used anew.
    fn clear(&mut self, groups: &[u32]);

    /// Appends what there is to save of a group, but for values that [`Accumulators::save_values`] gives. It says itself
    /// where it ends.
    fn save(&self, group: u32, out: &mut Vec<u8>);

    /// Adds what was saved of a group to one, and moves `bytes` past it; none where they are no such thing.
    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()>;

    /// Gives the values that groups keep, each with its group, from a place on: about `limit`. True when there are no more.
    fn save_values(&self, _from: &mut Place, _limit: usize, _give: &mut dyn FnMut(u32, &[u8])) -> bool {
        true
    }

    /// Adds to a group what [`Accumulators::save_values`] gave; none where the bytes are no such thing.
    fn load_value(&mut self, _group: u32, _bytes: &[u8]) -> Option<()> {
        None
    }

    /// Bytes held, spare capacity included.
    fn bytes(&self) -> usize;
}

/// What [`Accumulators::evaluate`] gives.
#[derive(Clone, Debug, Default)]
pub struct Evaluated<O> {
    /// A record for each group asked. Where the evaluation failed, any.
    pub output: O,
    /// Places in the list of groups asked, ascending, where the evaluation failed, and why.
    pub failures: Vec<(u32, String)>,
}

impl<O> From<O> for Evaluated<O> {
    fn from(output: O) -> Self {
        Evaluated { output, failures: Vec::new() }
    }
}

/// Groups a collection by key and keeps the results of `make()`'s accumulators for each group; and the groups that are in
/// error.
///
/// With `global`, the group whose key has no bytes is there even without records: its results over nothing are
/// there since ever.
pub fn accumulate<'scope, A: Accumulators>(
    stream: UpdateStream<'scope, Keyed<A::Input>>,
    name: &str,
    make: impl Fn() -> A + 'static,
    global: bool,
) -> (UpdateStream<'scope, Keyed<A::Output>>, UpdateStream<'scope, Vec<KeyError>>) {
    let scope = stream.scope();
    let global = global && owner(hash(b""), scope.peers()) == scope.index();
    reduce(stream, name, Accumulate::new(make, global))
}

/// The groups of some buckets.
struct Segment<A> {
    table: KeyTable,
    counts: Counts,
    homes: Homes,
    touched: Marks,
    accumulators: A,
}

/// What the first byte of a saved state says: that it is of a whole group, or one value of it.
const OF_GROUP: u8 = 0;
const OF_VALUE: u8 = 1;

/// A group that the current time touched.
#[derive(Clone, Copy)]
struct Touched {
    hash: u64,
    /// Its records before.
    old: i64,
    /// Whether it had accumulated something without having records.
    leftover: bool,
    group: u32,
}

/// How many lists are kept for use again: a time with many steps leaves no more behind.
const SPARE: usize = 4;

/// Groups of one segment touched together, first those that had results.
struct Part<O> {
    slot: u32,
    touched: Vec<Touched>,
    /// The results before, for as many of `touched`.
    old: Evaluated<O>,
}

/// The reduction of [`accumulate`], with its results by key.
pub struct Accumulate<A: Accumulators, F> {
    make: F,
    /// The slot and number of the group that is always there.
    global: Option<(u32, u32)>,
    buckets: Buckets<Segment<A>>,
    parts: Vec<Part<A::Output>>,
    spare: Vec<Vec<Touched>>,
    buffers: Buffers,
    /// The output so far, its values in parts.
    keys: Keyed<()>,
    times: Vec<Time>,
    diffs: Vec<i64>,
    vals: Vec<A::Output>,
}

/// Lists used within one step.
#[derive(Default)]
struct Buffers {
    groups: Vec<u32>,
    diffs: Vec<i64>,
    absent: Vec<Touched>,
    evaluated: Vec<u32>,
    changed: Vec<bool>,
    retracted: Vec<u32>,
    inserted: Vec<u32>,
    inserted_at: Vec<u32>,
    cleared: Vec<u32>,
}

impl<A: Accumulators, F: Fn() -> A + 'static> Accumulate<A, F> {
    /// Groups with the accumulators that `make` makes. With `global`, the group whose key has no bytes is always there: on the
    /// worker that owns it.
    pub fn new(make: F, global: bool) -> Self {
        let mut this = Accumulate {
            make,
            global: None,
            buckets: Buckets::default(),
            parts: Vec::new(),
            spare: Vec::new(),
            buffers: Buffers::default(),
            keys: Keyed::default(),
            times: Vec::new(),
            diffs: Vec::new(),
            vals: Vec::new(),
        };
        if global {
            let slot = this.buckets.slot(KEEP, &|| segment(&this.make));
            let segment = this.buckets.get(slot);
            let hash = hash(b"");
            let group = segment.table.insert(hash, b"");
            segment.reserve();
            segment.touched.add(group);
            segment.homes.set(group, KEEP, segment.table.groups());
            // Touched at the smallest time, as a group that had no results, so that they are emitted there.
            let touched = vec![Touched { hash, old: 0, leftover: false, group }];
            this.parts.push(Part { slot, touched, old: A::Output::default().into() });
            this.global = Some((slot, group));
        }
        this
    }
}

fn segment<A>(make: &impl Fn() -> A) -> Segment<A> {
    Segment {
        table: KeyTable::default(),
        counts: Counts::default(),
        homes: Homes::default(),
        touched: Marks::default(),
        accumulators: make(),
    }
}

impl<A: Accumulators> Segment<A> {
    fn reserve(&mut self) {
        let groups = self.table.groups();
        self.counts.reserve(groups);
        self.touched.reserve(groups);
        self.accumulators.reserve(groups);
    }
}

impl<A: Accumulators, F: Fn() -> A + 'static> Reduction for Accumulate<A, F> {
    type Input = A::Input;
    type Output = Keyed<A::Output>;

    fn starts(&self) -> bool {
        // Unless a run before this one has emitted it.
        self.global.is_some() && !self.parts.is_empty()
    }

    fn apply(&mut self, time: Time, batch: &Updates<Keyed<A::Input>>, rows: &[u32]) {
        let Accumulate { make, global, buckets, parts, spare, buffers, .. } = self;
        let Buffers { groups, diffs, absent, evaluated, .. } = buffers;
        let data = &batch.data;
        buckets.split(data, time, rows, &|| segment(make), |slot, segment, rows| {
            groups.clear();
            segment.table.lookup_or_insert(&data.hashes, &data.keys, rows, groups);
            segment.reserve();

            let mut touched = spare.pop().unwrap_or_default();
            evaluated.clear();
            for (&row, &group) in rows.iter().zip(groups.iter()) {
                if segment.touched.add(group) {
                    let old = segment.counts.get(group);
                    let row = row as usize;
                    let leftover = old == 0 && !segment.accumulators.is_empty(group);
                    segment.homes.set(group, data.bucket(row), segment.table.groups());
                    let new = Touched { hash: data.hashes[row], old, leftover, group };
                    if old > 0 || (old == 0 && *global == Some((slot, group))) {
                        touched.push(new);
                        evaluated.push(group);
                    } else {
                        absent.push(new);
                    }
                }
            }
            touched.append(absent);
            if touched.is_empty() {
                spare.push(touched);
            } else {
                let old = if evaluated.is_empty() {
                    A::Output::default().into()
                } else {
                    segment.accumulators.evaluate(evaluated)
                };
                parts.push(Part { slot, touched, old });
            }

            diffs.clear();
            diffs.extend(rows.iter().map(|&row| batch.diffs[row as usize]));
            for (&group, &diff) in groups.iter().zip(diffs.iter()) {
                segment.counts.add(group, diff);
            }
            segment.accumulators.update(groups, &data.vals, rows, diffs);
        });
    }

    fn emit(&mut self, time: Time, errors: &mut Errors) -> bool {
        let Accumulate { global, buckets, parts, spare, buffers, keys, times, diffs, vals, .. } = self;
        let Buffers { groups, evaluated, changed, retracted, inserted, inserted_at, cleared, .. } = buffers;
        let Some(Part { slot, mut touched, old }) = parts.pop() else { return true };
        let Segment { table, counts, homes, touched: marks, accumulators } = buckets.get(slot);
        let existing = old.output.len();
        let present = |group: u32, count: i64| count > 0 || (count == 0 && *global == Some((slot, group)));

        // Groups that had results keep their places; of the others only those that have some now are evaluated.
        evaluated.clear();
        evaluated.extend(touched[..existing].iter().map(|t| t.group));
        evaluated
            .extend(touched[existing..].iter().map(|t| t.group).filter(|&group| present(group, counts.get(group))));
        let new = if evaluated.is_empty() { A::Output::default().into() } else { accumulators.evaluate(evaluated) };
        changed.clear();
        if existing > 0 {
            A::changed(&old.output, &new.output, changed);
        }

        retracted.clear();
        inserted.clear();
        inserted_at.clear();
        cleared.clear();
        let mut old_failures = Failures(&old.failures);
        let mut new_failures = Failures(&new.failures);
        let mut next = existing as u32;
        for (index, touched) in touched.iter().enumerate() {
            let group = touched.group;
            marks.remove(group);
            let count = counts.get(group);
            let present = present(group, count);
            let existed = index < existing;
            let at = if existed { index as u32 } else { next };
            next += u32::from(present && !existed);

            let old_fault = if existed { old_failures.take(at) } else { negative(touched.old, touched.leftover) };
            let mut new_fault = if existed || present { new_failures.take(at) } else { None };
            if !present {
                let empty = count == 0 && accumulators.is_empty(group);
                new_fault = negative(count, count == 0 && !empty);
                if empty {
                    cleared.push(index as u32);
                }
            }
            let (had, has) = (existed && old_fault.is_none(), present && new_fault.is_none());
            let same = had && has && !changed[index];
            if had && !same {
                retracted.push(index as u32);
            }
            if has && !same {
                inserted.push(index as u32);
                inserted_at.push(at);
            }
            if old_fault != new_fault {
                for (fault, diff) in [(old_fault, -1), (new_fault, 1)] {
                    if let Some(fault) = fault {
                        errors.data.push(KeyError { key: table.key(group).to_vec(), fault });
                        errors.times.push(time);
                        errors.diffs.push(diff);
                    }
                }
            }
        }

        let first = keys.hashes.len();
        for (indices, diff) in [(&*retracted, -1), (&*inserted, 1)] {
            for &index in indices {
                let Touched { hash, group, .. } = touched[index as usize];
                keys.hashes.push(hash);
                push_bucket(&mut keys.buckets, keys.hashes.len(), homes.get(group));
            }
            if diff > 0 && inserted == retracted {
                // The usual change, of groups that were there and still are.
                keys.keys.extend_from_within(first..first + indices.len());
            } else {
                groups.clear();
                groups.extend(indices.iter().map(|&index| touched[index as usize].group));
                table.copy_keys(groups, &mut keys.keys);
            }
            times.resize(times.len() + indices.len(), time);
            diffs.resize(diffs.len() + indices.len(), diff);
        }
        push_gathered(vals, old.output, retracted);
        push_gathered(vals, new.output, inserted_at);

        for index in cleared.iter_mut() {
            let Touched { hash, group, .. } = touched[*index as usize];
            table.remove(hash, group);
            *index = group;
        }
        if !cleared.is_empty() {
            accumulators.clear(cleared);
        }
        if spare.len() < SPARE {
            touched.clear();
            spare.push(touched);
        }
        parts.is_empty()
    }

    fn buffered(&self) -> usize {
        self.times.len()
    }

    fn take(&mut self) -> Updates<Keyed<A::Output>> {
        let Keyed { hashes, keys, buckets, vals: () } = std::mem::take(&mut self.keys);
        let vals = match self.vals.len() {
            1 => self.vals.pop().unwrap_or_default(),
            _ => A::Output::concat(&self.vals.drain(..).collect::<Vec<_>>().iter().collect::<Vec<_>>()),
        };
        let data = Keyed { hashes, keys, buckets, vals };
        Updates { data, times: std::mem::take(&mut self.times), diffs: std::mem::take(&mut self.diffs) }
    }

    fn release(&mut self, frontier: Option<Time>) {
        self.buckets.release(frontier);
    }

    fn export(&self, from: &mut Export, limit: usize, out: &mut KeyStates) -> bool {
        let until = out.len() + limit;
        let mut state = Vec::new();
        self.buckets.export(from, |Segment { table, counts, homes, accumulators, .. }, from| {
            while (from.group as usize) < table.groups() {
                if out.len() >= until {
                    return false;
                }
                let group = from.group;
                from.group += 1;
                if table.is_used(group) {
                    state.clear();
                    state.push(OF_GROUP);
                    accumulators.save(group, &mut state);
                    out.push(homes.get(group), table.key(group), counts.get(group), &state);
                }
            }
            loop {
                let left = until.saturating_sub(out.len());
                if left == 0 {
                    return false;
                }
                let done = accumulators.save_values(&mut from.values, left, &mut |group, value| {
                    state.clear();
                    state.push(OF_VALUE);
                    state.extend_from_slice(value);
                    out.push(homes.get(group), table.key(group), 0, &state);
                });
                if done {
                    return true;
                }
            }
        })
    }

    fn import(&mut self, KeyStates { keys, counts }: &KeyStates) -> Result<(), String> {
        let Accumulate { make, global, buckets, parts, .. } = self;
        for (row, &count) in counts.iter().enumerate() {
            let (key, bucket) = (keys.keys.get(row), keys.bucket(row));
            let slot = buckets.slot(bucket, &|| segment(make));
            let segment = buckets.get(slot);
            let group = segment.table.insert(keys.hashes[row], key);
            segment.reserve();
            segment.counts.add(group, count);
            segment.homes.set(group, bucket, segment.table.groups());
            if *global == Some((slot, group)) {
                // It is there already, as it was when it was saved.
                segment.touched.remove(group);
                parts.clear();
            }
            let loaded = match keys.vals.get(row).split_first() {
                Some((&OF_GROUP, mut state)) => {
                    segment.accumulators.load(group, &mut state).filter(|()| state.is_empty())
                }
                Some((&OF_VALUE, value)) => segment.accumulators.load_value(group, value),
                _ => None,
            };
            loaded.ok_or_else(|| format!("the saved state of key {key:02x?} does not fit its aggregates"))?;
        }
        Ok(())
    }

    fn held(&self) -> (usize, usize) {
        let bytes = |s: &Segment<A>| {
            s.table.bytes() + s.counts.bytes() + s.homes.bytes() + s.touched.bytes() + s.accumulators.bytes()
        };
        self.buckets.iter().map(|s| (bytes(s), s.table.len())).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }
}

/// Appends the records of `vals` at `indices`, ascending, unless there are none.
fn push_gathered<V: Payload>(parts: &mut Vec<V>, vals: V, indices: &[u32]) {
    if indices.len() == vals.len() && !indices.is_empty() {
        parts.push(vals);
    } else if !indices.is_empty() {
        parts.push(vals.gather(indices));
    }
}

/// Failures in order of place, not yet asked for.
struct Failures<'a>(&'a [(u32, String)]);

impl Failures<'_> {
    /// The failure at a place, which must be after all asked before.
    #[inline]
    fn take(&mut self, at: u32) -> Option<Fault> {
        let ((place, message), rest) = self.0.split_first()?;
        (*place == at).then(|| {
            self.0 = rest;
            Fault::Evaluation(message.clone())
        })
    }
}

/// What is wrong with a group without results.
fn negative(count: i64, leftover: bool) -> Option<Fault> {
    (count < 0 || leftover).then(|| Fault::Negative { row: Vec::new(), count })
}
