//! Stamping of one split: row by row in meaning, run by run in effect.

use std::collections::VecDeque;

use crate::stamp::cuts::Replay;
use crate::stamp::state::{OpenSegment, SplitState};
use crate::stamp::{Arrival, Changes, Cut, NO_TIME, Reason, Rejected, SplitCuts};
use crate::time::{SINCE_EVER, STREAM_START, Time, from_micros, to_micros};
use crate::updates::{Payload, Updates};

/// What stamping needs to know of its table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub delay: u64,
    pub resolution: u64,
    pub max_ahead: Option<u64>,
    pub record: bool,
}

/// What sets a row apart from the many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Late,
    Rejected(Reason),
}

/// Rows of which some are not yet given out.
struct Pending<D> {
    len: usize,
    data: D,
    diffs: Vec<i64>,
    /// The stamps of the rows that have one: a prefix.
    times: Vec<Time>,
    /// How many rows have been given out: a prefix of the stamped ones.
    taken: usize,
    /// Late and rejected rows, ascending.
    exceptions: Vec<(u32, Class)>,
}

/// The rows on their way through [`Split::push`].
struct Cursor<'a> {
    micros: &'a [i64],
    /// The stamps of the rows that have one: a prefix.
    times: Vec<Time>,
    exceptions: Vec<(u32, Class)>,
    now: i64,
    /// The largest event time that is not too far ahead.
    limit: Time,
}

/// What is left of a split that rests: stamping can go on from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    pub high: Time,
    pub next: Time,
    pub largest: Option<Time>,
    pub rows: u64,
    pub offset: u64,
}

/// One split.
pub(super) struct Split<D> {
    /// The largest stamp by the data: by it rows are late.
    pub high: Time,
    /// The smallest stamp that can still be given; larger than `high` only after a cut.
    pub next: Time,
    /// The largest stamp given.
    pub largest: Option<Time>,
    /// Where the cell of the open segment ends; `None` when nothing is open.
    open: Option<Time>,
    /// The rows of the open segment are at the end of these.
    pending: Vec<Pending<D>>,
    /// How many rows came before those on their way.
    rows: u64,
    offset: u64,
    /// What was recorded since it was last taken, without the split's name.
    record: SplitCuts,
    /// Cuts that are still to be made again.
    replay: Replay,
    /// Rows that are still to be rejected again.
    replay_ahead: VecDeque<u64>,
    /// How many rows go by the record, not by the clock.
    replay_rows: u64,
}

impl<D: Payload> Split<D> {
    /// A split that has not spoken.
    pub fn new() -> Self {
        Split::from_rest(Rest { high: SINCE_EVER, next: STREAM_START, largest: None, rows: 0, offset: 0 })
    }

    /// A split that goes on after a rest.
    pub fn from_rest(Rest { high, next, largest, rows, offset }: Rest) -> Self {
        Split {
            high,
            next,
            largest,
            open: None,
            pending: Vec::new(),
            rows,
            offset,
            record: SplitCuts::default(),
            replay: Replay::default(),
            replay_ahead: VecDeque::new(),
            replay_rows: 0,
        }
    }

    /// A split as it was when it was saved, with its open segment.
    pub fn restored(state: SplitState) -> Result<Self, String> {
        let SplitState { high, next, largest, rows, offset, open, .. } = state;
        let mut split = Split::from_rest(Rest { high, next, largest, rows, offset });
        if let Some(OpenSegment { end, rows, diffs, late }) = open {
            let data = D::decode(&rows)?;
            let len = data.len();
            if diffs.len() != len || late.iter().any(|row| *row as usize >= len) || !late.is_sorted() {
                return Err(format!("split '{}': the rows of its open segment don't fit together", state.name));
            }
            let exceptions = late.into_iter().map(|row| (row, Class::Late)).collect();
            split.open = Some(end);
            split.pending.push(Pending { len, data, diffs, times: Vec::new(), taken: 0, exceptions });
        }
        Ok(split)
    }

    /// Makes the split go by a record as far as it reaches.
    pub fn replay(&mut self, mut cuts: SplitCuts) {
        // Cuts at the very place may have been made; to make them again changes nothing.
        cuts.cuts.truncate(self.rows);
        cuts.ahead.retain(|row| *row >= self.rows);
        self.replay = Replay::new(cuts.cuts);
        self.replay_ahead = cuts.ahead.into();
        self.replay_rows = cuts.rows;
        self.replay_cuts(&mut Vec::new(), 0);
    }

    /// Whether rows or cuts of the record are still to come.
    pub fn is_replaying(&self) -> bool {
        self.replay.front().is_some() || self.rows < self.replay_rows
    }

    /// What there is to keep of the split while nothing happens to it; none while there is more.
    pub fn rest(&self) -> Option<Rest> {
        let recorded = !self.record.cuts.is_empty() || !self.record.ahead.is_empty();
        if self.open.is_some() || !self.pending.is_empty() || recorded || self.is_replaying() {
            return None;
        }
        Some(self.here())
    }

    /// Where the split is, without the rows that are not given out.
    pub fn here(&self) -> Rest {
        let Split { high, next, largest, rows, offset, .. } = *self;
        Rest { high, next, largest, rows, offset }
    }

    /// Whether [`Split::cut`] would do something.
    pub fn is_uncut(&self) -> bool {
        self.open.is_some() || self.next < self.past_largest()
    }

    /// The rows of the open segment, where there is one. All that is stamped must have been taken.
    pub fn open_segment(&self) -> Option<OpenSegment> {
        let end = self.open?;
        let (mut parts, mut diffs, mut late) = (Vec::new(), Vec::new(), Vec::new());
        for pending in &self.pending {
            debug_assert_eq!(pending.taken, pending.times.len(), "what is stamped was taken");
            let mut exceptions = pending.exceptions.iter().peekable();
            let mut kept = Vec::new();
            for row in pending.times.len() as u32..pending.len as u32 {
                while exceptions.next_if(|(other, _)| *other < row).is_some() {}
                match exceptions.next_if(|(other, _)| *other == row) {
                    Some((_, Class::Rejected(_))) => continue,
                    Some((_, Class::Late)) => late.push(diffs.len() as u32),
                    None => {}
                }
                kept.push(row);
                diffs.push(pending.diffs[row as usize]);
            }
            parts.push(pending.data.gather(&kept));
        }
        let mut rows = Vec::new();
        D::concat(&parts.iter().collect::<Vec<_>>()).encode(&mut rows);
        Some(OpenSegment { end, rows, diffs, late })
    }

    /// Whether rows are not given out.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// How many rows are not given out.
    pub fn waiting(&self) -> usize {
        self.pending.iter().map(|pending| pending.len - pending.taken).sum()
    }

    /// No row that is still to be given out has a smaller stamp.
    pub fn bound(&self) -> Time {
        self.high.max(self.next)
    }

    /// Raises the frontier to a table's: `high` for lateness, `next` for stamps. Nothing may be open.
    pub fn raise(&mut self, rules: &Rules, high: Time, next: Time) {
        if high > self.high || next > self.next {
            self.high = self.high.max(high);
            self.next = self.next.max(next);
            self.record_cut(rules, None);
        }
    }

    /// Closes the open segment, if there is one; later stamps are larger than all given ones.
    pub fn cut(&mut self, rules: &Rules) {
        let stamp = self.close(&mut Vec::new(), 0);
        let next = self.past_largest();
        if next > self.next {
            self.next = next;
            self.record_cut(rules, stamp);
        }
    }

    /// Just past the largest stamp given.
    pub fn past_largest(&self) -> Time {
        self.largest.map_or(SINCE_EVER, |largest| largest.saturating_add(1))
    }

    fn record_cut(&mut self, rules: &Rules, stamp: Option<Time>) {
        if rules.record {
            let (rows, offset, frontier, next) = (self.rows, self.offset, self.high, self.next);
            self.record.cuts.push(Cut { rows, offset, stamp, frontier, next });
        }
    }

    /// What was recorded since the last call.
    pub fn take_record(&mut self) -> SplitCuts {
        SplitCuts { rows: self.rows.max(self.replay_rows), ..std::mem::take(&mut self.record) }
    }

    /// Takes rows; returns how many of them are late, and those that are rejected.
    pub fn push(&mut self, rules: &Rules, arrival: Arrival<'_, D>, now: i64) -> (u64, Option<Rejected<D>>) {
        let Arrival { data, event_times: micros, diffs, changes, offset } = arrival;
        let len = micros.len();
        debug_assert_eq!(data.len(), len);
        let limit = rules.max_ahead.map_or(Time::MAX, |ahead| from_micros(now).saturating_add(ahead));
        let mut cursor = Cursor { micros, times: Vec::with_capacity(len), exceptions: Vec::new(), now, limit };
        let (mut at, mut change) = (0, 0);
        while at < len {
            // Recorded cuts lie between two changes.
            let stop = self.replay.front().map_or(len, |cut| len.min((cut.rows - self.rows) as usize));
            match changes {
                Changes::Each => {
                    self.each(rules, &mut cursor, at, stop);
                    at = stop;
                }
                Changes::One => {
                    self.change(rules, &mut cursor, 0, len);
                    at = len;
                }
                Changes::Ends(ends) => {
                    while at < stop {
                        let end = ends.get(change).map_or(len, |&end| end as usize);
                        self.change(rules, &mut cursor, at, end);
                        at = end;
                        change += 1;
                    }
                }
            }
            self.replay_cuts(&mut cursor.times, at);
        }
        self.rows += len as u64;
        self.offset = offset;
        let Cursor { times, exceptions, .. } = cursor;
        let diffs = diffs.unwrap_or_else(|| vec![1; len]);
        debug_assert_eq!(diffs.len(), len);
        let rejected = self.rejected(rules, &data, &diffs, &exceptions);
        let late = exceptions.iter().filter(|(_, class)| *class == Class::Late).count() as u64;
        if len > 0 {
            self.pending.push(Pending { len, data, diffs, times, taken: 0, exceptions });
        }
        (late, rejected)
    }

    /// Stamps the single rows `at .. stop`.
    fn each(&mut self, rules: &Rules, cursor: &mut Cursor<'_>, mut at: usize, stop: usize) {
        while at < stop {
            if let Some(end) = self.open
                && self.next <= self.high
            {
                at = self.plain(rules, cursor, at, stop, end);
            }
            if at < stop {
                self.change(rules, cursor, at, at + 1);
                at += 1;
            }
        }
    }

    /// Passes over rows that need no more than a look: in the open cell or before it, neither late nor rejected.
    /// Returns the first row that needs more.
    fn plain(&mut self, rules: &Rules, cursor: &Cursor<'_>, at: usize, stop: usize, cell_end: Time) -> usize {
        let (stop, limit) = if self.rows + (at as u64) < self.replay_rows {
            let known = self.replay_ahead.front().copied().unwrap_or(u64::MAX).min(self.replay_rows);
            (stop.min(known.saturating_sub(self.rows) as usize), Time::MAX)
        } else {
            (stop, cursor.limit)
        };
        let end = cell_end.min(limit.saturating_add(1));
        let mut high = self.high;
        // At least 1: a row without an event time must not pass.
        let mut late = high.saturating_sub(rules.delay).max(1);
        let mut row = at;
        while row < stop {
            let time = from_micros(cursor.micros[row]);
            if time > high {
                if time >= end {
                    break;
                }
                high = time;
                late = high.saturating_sub(rules.delay).max(1);
            } else if time < late {
                break;
            }
            row += 1;
        }
        self.high = high;
        row
    }

    /// Stamps the rows `at .. end` as one change.
    fn change(&mut self, rules: &Rules, cursor: &mut Cursor<'_>, at: usize, end: usize) {
        let first = cursor.exceptions.len();
        let mut top = None;
        for row in at..end {
            match self.reject(cursor, row) {
                Some(reason) => cursor.exceptions.push((row as u32, Class::Rejected(reason))),
                None => top = top.max(Some(from_micros(cursor.micros[row]))),
            }
        }
        let Some(top) = top else { return };
        let high = self.high.max(top);
        let stamp = high.max(self.next);
        if self.open.is_some_and(|cell_end| stamp >= cell_end) {
            self.close(&mut cursor.times, at);
        }
        if self.open.is_none() {
            self.open = Some(cell_end(stamp, rules.resolution));
        }
        // Late by the frontier before the change, or carried by the change itself to where windows are final.
        let spread = stamp.saturating_sub(rules.delay);
        let late = self.high.saturating_sub(rules.delay).max(spread.saturating_sub(rules.resolution));
        self.high = high;
        let rejected = first..cursor.exceptions.len();
        let mut skip = rejected.clone().peekable();
        let mut wide = false;
        for row in at..end {
            if skip.next_if(|&i| cursor.exceptions[i].0 as usize == row).is_some() {
                continue;
            }
            let time = from_micros(cursor.micros[row]);
            if time < late {
                cursor.exceptions.push((row as u32, Class::Late));
            } else if time < spread {
                wide = true;
            }
        }
        if !rejected.is_empty() {
            cursor.exceptions[first..].sort_unstable_by_key(|(row, _)| *row);
        }
        // A row so far behind its stamp has no room for a segment that goes on growing.
        if wide {
            self.close(&mut cursor.times, end);
        }
    }

    /// Why a row on its way is not taken, if it is not.
    fn reject(&mut self, cursor: &Cursor<'_>, row: usize) -> Option<Reason> {
        let event_time = cursor.micros[row];
        let number = self.rows + row as u64;
        if event_time == NO_TIME {
            Some(Reason::NoEventTime)
        } else if number < self.replay_rows {
            let ahead = self.replay_ahead.front() == Some(&number);
            ahead.then(|| {
                self.replay_ahead.pop_front();
                Reason::Ahead { event_time, now: None }
            })
        } else {
            let ahead = from_micros(event_time) > cursor.limit;
            ahead.then_some(Reason::Ahead { event_time, now: Some(cursor.now) })
        }
    }

    /// Closes the open segment before row `at` of those on their way: all its rows get its stamp.
    fn close(&mut self, times: &mut Vec<Time>, at: usize) -> Option<Time> {
        self.open.take()?;
        let stamp = self.bound();
        self.stamp_all(times, at, stamp);
        Some(stamp)
    }

    fn stamp_all(&mut self, times: &mut Vec<Time>, at: usize, stamp: Time) {
        // Rows without a stamp are at the end.
        for pending in self.pending.iter_mut().rev().take_while(|pending| pending.times.len() < pending.len) {
            pending.times.resize(pending.len, stamp);
        }
        times.resize(at, stamp);
        self.largest = self.largest.max(Some(stamp));
    }

    /// Makes the recorded cuts that lie before row `at` of those on their way.
    fn replay_cuts(&mut self, times: &mut Vec<Time>, at: usize) {
        while self.replay.front().is_some_and(|cut| cut.rows <= self.rows + at as u64)
            && let Some(cut) = self.replay.pop()
        {
            // The recorded stamp is the same unless the source now tells something else; what was shown holds.
            if let Some(stamp) = cut.stamp
                && self.open.take().is_some()
            {
                let stamp = stamp.max(self.bound());
                self.stamp_all(times, at, stamp);
            }
            self.high = self.high.max(cut.frontier);
            self.next = self.next.max(cut.next);
        }
    }

    fn rejected(&mut self, rules: &Rules, data: &D, diffs: &[i64], exceptions: &[(u32, Class)]) -> Option<Rejected<D>> {
        let before = self.rows - diffs.len() as u64;
        let (mut rows, mut reasons) = (Vec::new(), Vec::new());
        for &(row, class) in exceptions {
            let Class::Rejected(reason) = class else { continue };
            rows.push(row);
            reasons.push(reason);
            if rules.record && matches!(reason, Reason::Ahead { now: Some(_), .. }) {
                self.record.ahead.push(before + u64::from(row));
            }
        }
        (!rows.is_empty()).then(|| Rejected {
            split: 0,
            data: data.gather(&rows),
            diffs: rows.iter().map(|&row| diffs[row as usize]).collect(),
            reasons,
        })
    }

    /// Moves the stamped rows out.
    pub fn take(&mut self, on_time: &mut Vec<Updates<D>>, late: &mut Vec<Updates<D>>) {
        let rest = self.open.is_none().then(|| self.bound());
        for pending in &mut self.pending {
            // When nothing is open, rows without a stamp are rejected ones: any will do.
            if let Some(stamp) = rest {
                pending.times.resize(pending.len, stamp);
            }
            pending.take(on_time, late);
        }
        self.pending.retain(|pending| pending.taken < pending.len);
    }
}

impl<D: Payload> Pending<D> {
    fn take(&mut self, on_time: &mut Vec<Updates<D>>, late: &mut Vec<Updates<D>>) {
        let (from, to) = (self.taken, self.times.len());
        if from == to {
            return;
        }
        self.taken = to;
        let begin = self.exceptions.partition_point(|(row, _)| (*row as usize) < from);
        let end = self.exceptions.partition_point(|(row, _)| (*row as usize) < to);
        let exceptions = &self.exceptions[begin..end];
        if exceptions.is_empty() {
            on_time.push(if to - from == self.len {
                let (data, diffs) = (std::mem::take(&mut self.data), std::mem::take(&mut self.diffs));
                Updates { data, times: std::mem::take(&mut self.times), diffs }
            } else {
                Updates {
                    data: self.data.slice(from..to),
                    times: self.times[from..to].to_vec(),
                    diffs: self.diffs[from..to].to_vec(),
                }
            });
            return;
        }
        let mut kept = Vec::with_capacity(to - from - exceptions.len());
        let mut behind = Vec::new();
        let mut next = from as u32;
        for &(row, class) in exceptions {
            kept.extend(next..row);
            next = row + 1;
            if class == Class::Late {
                behind.push(row);
            }
        }
        kept.extend(next..to as u32);
        for (rows, out) in [(kept, on_time), (behind, late)] {
            if !rows.is_empty() {
                out.push(Updates {
                    data: self.data.gather(&rows),
                    times: rows.iter().map(|&row| self.times[row as usize]).collect(),
                    diffs: rows.iter().map(|&row| self.diffs[row as usize]).collect(),
                });
            }
        }
    }
}

/// The end of the cell that holds `time`, on a grid of `resolution` us from the epoch.
fn cell_end(time: Time, resolution: u64) -> Time {
    let width = i64::try_from(resolution).unwrap_or(i64::MAX).max(1);
    let micros = to_micros(time);
    from_micros(micros.saturating_add(width - micros.rem_euclid(width)))
}
