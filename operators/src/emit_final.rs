//! Rows that will never be retracted, each once: output mode append.
//!
//! The input is a changelog of rows, each with the time at which it is final: its release time (see [`crate::retain`]).
//! The output has each row at the last time before its release time, as often as the input then holds it, and nothing
//! before: so it is closed as soon as the frontier reaches the release time. Updates that come at or after their row's
//! release time are ignored, which is what makes the row final. When every input is
//! closed, all rows are final; when the run is stopped, only those are that the frontier had reached (see [`RunEnd`]). A row that was retracted more
//! often than it came is an error, not zero copies.
//!
//! State: the rows that are not final yet, each once with its count, in a table for each release time that is dropped
//! whole. Rows that leave before they are final leave nothing behind.

use std::collections::{BTreeMap, VecDeque};

use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::exchange::by_hash;
use crate::guard::Guard;
use crate::keyed::{Keyed, NoValue};
use crate::reduction::{Fault, KeyError};
use crate::retain::is_released;
use crate::rows::Rows;
use crate::run_end::{End, RunEnd};
use crate::saved::KeyStates;
use crate::table::KeyTable;
use crate::time::Time;
use crate::updates::{UpdateStream, Updates};

/// Updates handled before others get their turn.
const TURN: usize = 1 << 16;

/// The rows that are not final yet.
///
/// ```
/// use headwater_operators::{Keyed, Rows, Updates, emit_final::Unfinished, keyed::NoValue};
/// let mut rows = Rows::default();
/// [b"count 1", b"count 1", b"count 2"].iter().for_each(|row| rows.push(*row));
/// let keyed = Keyed { buckets: vec![60; 3], ..Keyed::new(rows, NoValue(3)) };
///
/// let mut unfinished = Unfinished::default();
/// unfinished.apply(&Updates { data: keyed, times: vec![10, 20, 20], diffs: vec![1, -1, 1] });
/// assert_eq!(unfinished.earliest(), Some(60));
/// assert!(unfinished.release(60)); // the frontier is 60
/// let (rows, errors) = unfinished.take(1_000);
/// assert_eq!((rows.data.get(0), rows.times), (b"count 2".as_slice(), vec![59]));
/// assert!(errors.is_empty());
/// ```
#[derive(Default)]
pub struct Unfinished {
    windows: BTreeMap<Time, Window>,
    /// Windows that are final, being given out.
    released: VecDeque<(Time, Window)>,
}

/// Where an export of [`Unfinished`] goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsaved {
    release: Time,
    group: u32,
}

/// The rows of one release time.
#[derive(Default)]
struct Window {
    table: KeyTable,
    /// The copies of each row, by its group in the table; never 0.
    counts: Vec<i64>,
    /// How many groups have been given out.
    given: u32,
}

impl Window {
    fn add(&mut self, hash: u64, row: &[u8], diff: i64) {
        let group = self.table.insert(hash, row);
        let at = group as usize;
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += diff;
        if self.counts[at] == 0 {
            self.table.remove(hash, group);
        }
    }
}

impl Unfinished {
    /// Applies updates of rows, in any order.
    pub fn apply(&mut self, updates: &Updates<Keyed<NoValue>>) {
        let keyed = &updates.data;
        let mut row = 0;
        while row < updates.len() {
            let release = keyed.bucket(row);
            // Neighbours are mostly of one window.
            let mut end = row + 1;
            while end < updates.len() && keyed.bucket(end) == release {
                end += 1;
            }
            let mut live = (row..end)
                .filter(|&row| !is_released(updates.times[row], release) && updates.diffs[row] != 0)
                .peekable();
            if live.peek().is_some() {
                let window = self.windows.entry(release).or_default();
                live.for_each(|row| window.add(keyed.hashes[row], keyed.keys.get(row), updates.diffs[row]));
                if window.table.is_empty() {
                    self.windows.remove(&release);
                }
            }
            row = end;
        }
    }

    /// The earliest time at which a row will be final or is.
    pub fn earliest(&self) -> Option<Time> {
        self.released.front().map(|(release, _)| *release).or_else(|| self.windows.keys().next().copied())
    }

    /// Makes the rows final whose release time `frontier` has reached. Returns whether there are any to take.
    pub fn release(&mut self, frontier: Time) -> bool {
        while let Some(window) = self.windows.first_entry().filter(|window| is_released(frontier, *window.key())) {
            self.released.push_back(window.remove_entry());
        }
        !self.released.is_empty()
    }

    /// Makes all rows final: every input is closed. Returns whether there are any to take.
    pub fn release_all(&mut self) -> bool {
        self.released.append(&mut std::mem::take(&mut self.windows).into_iter().collect());
        !self.released.is_empty()
    }

    /// Makes the rows final whose release time `frontier` has reached, and forgets the others. Returns whether there are any
    /// to take.
    pub fn release_last(&mut self, frontier: Time) -> bool {
        self.release(frontier);
        self.windows.clear();
        !self.released.is_empty()
    }

    /// Takes up to about `limit` final rows, at the last time before their release time, and the errors among them.
    pub fn take(&mut self, limit: usize) -> (Updates<Rows>, Updates<Vec<KeyError>>) {
        let mut rows = Updates::<Rows>::default();
        let mut errors = Updates::<Vec<KeyError>>::default();
        while let Some((release, window)) = self.released.front_mut() {
            let counts = window.counts.iter().enumerate().skip(window.given as usize);
            let mut given = window.counts.len();
            for (group, &count) in counts {
                if rows.len() + errors.len() >= limit {
                    given = group;
                    break;
                }
                if count > 0 {
                    rows.data.push(window.table.key(group as u32));
                    rows.times.push(*release - 1);
                    rows.diffs.push(count);
                } else if count < 0 {
                    let key = window.table.key(group as u32).to_vec();
                    errors.data.push(KeyError { key, fault: Fault::Negative { row: Vec::new(), count } });
                    errors.times.push(*release - 1);
                    errors.diffs.push(1);
                }
            }
            window.given = given as u32;
            if given < window.counts.len() {
                break;
            }
            self.released.pop_front();
        }
        (rows, errors)
    }

    /// Appends to `out` about `limit` of the rows that are not final, with their release times as buckets, from a place on;
    /// true when there are no more. What is final must have been taken before.
    pub fn export(&self, from: &mut Unsaved, limit: usize, out: &mut KeyStates) -> bool {
        debug_assert!(self.released.is_empty(), "what is final is given out, not saved");
        let until = out.len() + limit;
        for (&release, window) in self.windows.range(from.release..) {
            if release > from.release {
                *from = Unsaved { release, group: 0 };
            }
            while let Some(&count) = window.counts.get(from.group as usize) {
                if out.len() >= until {
                    return false;
                }
                if count != 0 {
                    out.push(release, window.table.key(from.group), count, &[]);
                }
                from.group += 1;
            }
        }
        true
    }

    /// Takes up what another exported, before the first update; in any number of calls.
    pub fn import(&mut self, KeyStates { keys, counts }: &KeyStates) {
        for (row, &count) in counts.iter().enumerate() {
            self.windows.entry(keys.bucket(row)).or_default().add(keys.hashes[row], keys.keys.get(row), count);
        }
    }

    /// How many rows are not final or not taken yet.
    pub fn len(&self) -> usize {
        let windows = self.windows.values().chain(self.released.iter().map(|(_, window)| window));
        windows.map(|window| window.table.len()).sum()
    }

    /// Whether all rows are final and taken.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.released.is_empty()
    }
}

/// Gives each row once, when it is final, and an error for each row that is then there less than zero times.
///
/// The keys of the input are whole rows, its buckets their release times. Rows of equal bytes must have equal release
/// times.
///
/// ```
/// use headwater_operators::{Keyed, Rows, Updates, emit_final::emit_final, keyed::NoValue, run_end::RunEnd};
/// use headwater_operators::encode::{map_batches, to_collection};
/// use timely::dataflow::operators::{Capture, Input, capture::Extract};
///
/// let captured = timely::example(|scope| {
///     let (mut input, changes) = scope.new_input();
///     let (rows, _errors) = emit_final(changes, &RunEnd::default());
///     let text = |row: &[u8]| String::from_utf8_lossy(row).into_owned();
///     let text = map_batches(rows, "Text", move |rows: &Rows| rows.iter().map(text).collect::<Vec<_>>());
///     let captured = to_collection(text).inner.capture();
///
///     let mut rows = Rows::default();
///     [b"09:00 1", b"09:00 1", b"09:00 2"].iter().for_each(|row| rows.push(*row));
///     let keyed = Keyed { buckets: vec![60; 3], ..Keyed::new(rows, NoValue(3)) };
///     input.send_batch(&mut Updates { data: keyed, times: vec![10, 20, 20], diffs: vec![1, -1, 1] });
///     captured
/// });
/// assert_eq!(captured.extract(), [(59, vec![("09:00 2".to_string(), 59, 1)])]);
/// ```
pub fn emit_final<'scope>(
    stream: UpdateStream<'scope, Keyed<NoValue>>,
    end: &RunEnd,
) -> (UpdateStream<'scope, Rows>, UpdateStream<'scope, Vec<KeyError>>) {
    let scope = stream.scope();
    let end = end.clone();
    let mut builder = OperatorBuilder::new("EmitFinal".to_string(), scope);
    let mut input = builder.new_input(stream, by_hash());
    let (rows_output, rows_stream) = builder.new_output();
    let (error_output, error_stream) = builder.new_output();
    let mut rows_output = OutputBuilder::<Time, CapacityContainerBuilder<Updates<Rows>>>::from(rows_output);
    let mut error_output = OutputBuilder::<Time, CapacityContainerBuilder<Updates<Vec<KeyError>>>>::from(error_output);
    let activator = scope.activator_for(builder.operator_info().address);

    builder.build(move |_| {
        let mut unfinished = Unfinished::default();
        let mut arrived: VecDeque<Updates<Keyed<NoValue>>> = VecDeque::new();
        // For both outputs, not after the release time of any row here.
        let mut held: Option<[Capability<Time>; 2]> = None;
        let guard = Guard::new("EmitFinal");
        move |frontiers| {
            guard.step(|| {
                input.for_each(|capability, batch| {
                    let keyed = &batch.data;
                    let live = (0..batch.len()).map(|row| (batch.times[row], keyed.bucket(row)));
                    let first = live
                        .filter(|(time, release)| !is_released(*time, *release))
                        .map(|(_, release)| release - 1)
                        .min();
                    if let Some(first) = first {
                        if held.as_ref().is_none_or(|[held, _]| first < *held.time()) {
                            held = Some([capability.delayed(&first, 0), capability.delayed(&first, 1)]);
                        }
                        arrived.push_back(std::mem::take(batch));
                    }
                });
                let mut work = 0;
                while work < TURN
                    && let Some(batch) = arrived.pop_front()
                {
                    work += batch.len();
                    unfinished.apply(&batch);
                }
                if !arrived.is_empty() {
                    activator.activate();
                    return;
                }
                let frontier = frontiers[0].frontier().first().copied();
                match (frontier, end.get()) {
                    (Some(frontier), _) => unfinished.release(frontier),
                    (None, Some(End::Stopped(closed))) => unfinished.release_last(closed),
                    (None, _) => unfinished.release_all(),
                };
                let (mut rows_output, mut error_output) = (rows_output.activate(), error_output.activate());
                while let Some([held, error_held]) = &mut held {
                    // What is given out now is not before the first; the capabilities must not be after it.
                    let Some(earliest) = unfinished.earliest().map(|release| release - 1) else { break };
                    if *held.time() < earliest {
                        held.downgrade(&earliest);
                        error_held.downgrade(&earliest);
                    }
                    if work >= TURN || unfinished.released.is_empty() {
                        break;
                    }
                    let (mut rows, mut errors) = unfinished.take(TURN);
                    work += rows.len() + errors.len() + 1;
                    if !rows.is_empty() {
                        rows_output.session(held).give_container(&mut rows);
                    }
                    if !errors.is_empty() {
                        error_output.session(error_held).give_container(&mut errors);
                    }
                }
                if unfinished.is_empty() {
                    held = None;
                } else if !unfinished.released.is_empty() {
                    activator.activate();
                }
            });
        }
    });
    (rows_stream, error_stream)
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::testing::{History, changes, run};

    /// A row with its release time.
    type Row = (Vec<u8>, Time);

    fn pack(rows: &[Row]) -> Keyed<NoValue> {
        let mut keys = Rows::default();
        rows.iter().for_each(|(row, _)| keys.push(row));
        Keyed { buckets: rows.iter().map(|row| row.1).collect(), ..Keyed::new(keys, NoValue(rows.len())) }
    }

    #[test]
    fn gives_each_row_once_when_it_is_final() {
        for seed in 0..12 {
            let changes = changes(seed, 80, 40, true, |rng| {
                // A row's release time is a part of it.
                let release = rng.random_range(1..6) * 10;
                (format!("{} until {release}", rng.random_range(0..6)).into_bytes(), release)
            });
            let (mut rows, mut errors) = (History::new(), History::new());
            for ((row, release), time, diff) in &changes {
                if time < release {
                    *rows.entry(*release - 1).or_default().entry(row.clone()).or_default() += diff;
                }
            }
            for (time, rows) in &mut rows {
                for (row, count) in rows.extract_if(.., |_, count| *count <= 0).filter(|(_, count)| *count < 0) {
                    let error = KeyError { key: row, fault: Fault::Negative { row: Vec::new(), count } };
                    errors.entry(*time).or_default().insert(error, 1);
                }
            }
            rows.retain(|_, rows| !rows.is_empty());
            for workers in [1, 2] {
                let given = run(
                    workers,
                    seed,
                    &changes,
                    pack,
                    |rows: &Rows, i| rows.get(i).to_vec(),
                    |stream| emit_final(stream, &RunEnd::default()),
                )
                .once();
                assert_eq!(given, (rows.clone(), errors.clone()), "seed {seed}, {workers} workers");
            }
        }
    }

    #[test]
    fn a_stopped_run_finalises_nothing_more() {
        let rows: Vec<_> = [5, 30].map(|release| ((b"row".to_vec(), release), 1, 1)).into();
        let end = RunEnd::default();
        end.stop();
        let (given, _) =
            run(1, 0, &rows, pack, |rows: &Rows, i| rows.get(i).to_vec(), move |stream| emit_final(stream, &end))
                .once();
        // The frontier reached 2.
        assert!(given.is_empty());
        // It was 10 in the step in which the input was closed.
        let end = RunEnd::default();
        end.stop();
        end.close(10);
        let (given, _) =
            run(1, 0, &rows, pack, |rows: &Rows, i| rows.get(i).to_vec(), move |stream| emit_final(stream, &end))
                .once();
        assert_eq!(given.into_keys().collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn what_was_exported_goes_on_elsewhere() {
        for seed in 0..40 {
            let changes = changes(seed, 60, 40, false, |rng| {
                let release = rng.random_range(1..6) * 10;
                (format!("{} until {release}", rng.random_range(0..9)).into_bytes(), release)
            });
            let mut whole = Unfinished::default();
            let apply = |to: &mut Unfinished, changes: &[&crate::testing::Change<Row>]| {
                let rows: Vec<Row> = changes.iter().map(|change| change.0.clone()).collect();
                let times = changes.iter().map(|change| change.1).collect();
                to.apply(&Updates { data: pack(&rows), times, diffs: changes.iter().map(|change| change.2).collect() });
            };
            let (before, after): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.1 < 15);
            apply(&mut whole, &before);
            whole.release(15);
            whole.take(usize::MAX);
            let (mut states, mut from) = (KeyStates::default(), Unsaved::default());
            while !whole.export(&mut from, 1 + seed as usize % 5, &mut states) {}
            let mut given = crate::testing::History::<Vec<u8>>::new();
            let mut give = |unfinished: &mut Unfinished, sign: i64| {
                apply(unfinished, &after);
                unfinished.release_all();
                let (rows, errors) = unfinished.take(usize::MAX);
                assert!(errors.is_empty());
                for (row, (time, diff)) in rows.data.iter().zip(rows.times.iter().zip(&rows.diffs)) {
                    *given.entry(*time).or_default().entry(row.to_vec()).or_default() += sign * diff;
                }
            };
            let mut again = Unfinished::default();
            for worker in 0..3 {
                again.import(&states.owned(worker, 3));
            }
            assert_eq!(again.len(), whole.len());
            give(&mut whole, 1);
            give(&mut again, -1);
            assert!(given.values().all(|rows| rows.values().all(|count| *count == 0)), "seed {seed}");
        }
    }

    #[test]
    fn rows_that_left_leave_nothing_behind() {
        let mut unfinished = Unfinished::default();
        let batch = |diff| Updates {
            data: pack(&[(b"a".to_vec(), 10), (b"b".to_vec(), 20)]),
            times: vec![1; 2],
            diffs: vec![diff; 2],
        };
        unfinished.apply(&batch(1));
        assert_eq!((unfinished.len(), unfinished.earliest()), (2, Some(10)));
        unfinished.apply(&batch(-1));
        assert!(unfinished.is_empty());
        unfinished.apply(&batch(2));
        assert!(unfinished.release(10) && unfinished.release_all());
        // In steps of one row.
        let (first, _) = unfinished.take(1);
        let (second, _) = unfinished.take(1);
        assert_eq!((first.times, first.diffs, second.times), (vec![9], vec![2], vec![19]));
        assert!(unfinished.is_empty());
    }
}
