//! The map of cuts: what stamping took from outside the data, so that a replay stamps alike.
//!
//! A cut differs from the one before it by little, and mostly by the same, so a [`CutLog`] keeps differences: 3 to 5 bytes
//! a cut of a live feed, nothing at all for one that differs as the one before did.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::time::Time;
use crate::varint;

/// A place in a split where a segment was closed by a round, an idle timeout or the end, or where the split's
/// frontier was raised.
///
/// Nothing is open at a cut, so the cut is all there is to know of the split's state: stamping can go on from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// How many rows of the split lie before the cut, rejected ones included.
    pub rows: u64,
    /// The source's position at the cut.
    pub offset: u64,
    /// The stamp of the segment that the cut closed, if there was one.
    pub stamp: Option<Time>,
    /// The split's frontier after the cut: by it later rows are late.
    pub frontier: Time,
    /// The smallest stamp that rows after the cut can get.
    pub next: Time,
}

/// The version of [`CutLog`]'s bytes, their first one.
const CUT_FORMAT: u8 = 1;

/// A record's first byte when it says that the one before comes again so many times.
const AGAIN: u8 = 0x80;
/// Bits of a record's first byte: the cut closed a segment; its position moved by another number than its rows.
const STAMPED: u8 = 1;
const OFFSET: u8 = 1 << 1;
/// The frontier is the stamp, or is written down; otherwise it is the one before.
const FRONTIER_IS_STAMP: u8 = 1 << 2;
const FRONTIER: u8 = 1 << 3;
/// The next stamp is just past this one, or is written down; otherwise it is the one before.
const NEXT_IS_PAST: u8 = 1 << 4;
const NEXT: u8 = 1 << 5;

/// Cuts of one split, in order, in few bytes.
///
/// ```
/// use headwater_operators::stamp::{Cut, CutLog};
/// let cuts: CutLog = (1..=1_000)
///     .map(|n| Cut { rows: n, offset: n, stamp: Some(1_000 * n), frontier: 1_000 * n, next: 1_000 * n + 1 })
///     .collect();
/// assert_eq!(cuts.iter().nth(699).map(|cut| cut.stamp), Some(Some(700_000)));
/// assert_eq!(cuts.len(), 1_000);
/// assert!(cuts.bytes() < 100);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct CutLog {
    /// Records: differences from the cut before, the first from zeros.
    records: Vec<u8>,
    /// Where the last record begins.
    at: usize,
    /// How many more times the last record applies.
    again: u64,
    len: u64,
    last: Cut,
}

impl CutLog {
    /// How many cuts there are.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are no cuts.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The last cut.
    pub fn last(&self) -> Option<&Cut> {
        (self.len > 0).then_some(&self.last)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.records.capacity()
    }

    /// Appends a cut.
    pub fn push(&mut self, cut: Cut) {
        let mut record = Vec::with_capacity(16);
        write(&mut record, &cut, &self.last);
        if self.len > 0 && self.records[self.at..] == record {
            self.again += 1;
        } else {
            self.settle();
            self.at = self.records.len();
            self.records.extend_from_slice(&record);
        }
        self.len += 1;
        self.last = cut;
    }

    /// Writes down how often the last record applies.
    fn settle(&mut self) {
        if self.again > 0 {
            self.records.push(AGAIN);
            varint::put(&mut self.records, self.again);
            self.again = 0;
        }
    }

    /// The cuts, in order.
    pub fn iter(&self) -> impl Iterator<Item = Cut> {
        let mut reader = Reader::default();
        std::iter::from_fn(move || reader.next(&self.records, self.again))
    }

    /// Forgets the cuts that lie before the first `rows` rows' end.
    pub fn truncate(&mut self, rows: u64) {
        if self.iter().next().is_some_and(|cut| cut.rows < rows) {
            *self = self.iter().skip_while(|cut| cut.rows < rows).collect();
        }
    }
}

impl FromIterator<Cut> for CutLog {
    fn from_iter<I: IntoIterator<Item = Cut>>(cuts: I) -> Self {
        let mut log = CutLog::default();
        log.extend(cuts);
        log
    }
}

impl Extend<Cut> for CutLog {
    fn extend<I: IntoIterator<Item = Cut>>(&mut self, cuts: I) {
        cuts.into_iter().for_each(|cut| self.push(cut));
    }
}

impl From<CutLog> for Vec<u8> {
    fn from(mut log: CutLog) -> Self {
        log.settle();
        log.records.insert(0, CUT_FORMAT);
        log.records
    }
}

impl TryFrom<Vec<u8>> for CutLog {
    type Error = String;

    fn try_from(bytes: Vec<u8>) -> Result<Self, String> {
        let Some((&CUT_FORMAT, records)) = bytes.split_first() else {
            return Err(match bytes.first() {
                Some(format) => format!("cuts in format {format}, where {CUT_FORMAT} is known"),
                None => "a log of cuts without a byte".to_string(),
            });
        };
        let mut reader = Reader::default();
        let mut log = CutLog::default();
        while let Some(cut) = reader.next(records, 0) {
            log.push(cut);
        }
        if reader.at == records.len() { Ok(log) } else { Err(format!("no cut at byte {} of their log", reader.at + 1)) }
    }
}

/// The cuts of a log, taken off one by one.
#[derive(Debug, Default)]
pub(super) struct Replay {
    log: CutLog,
    reader: Reader,
    front: Option<Cut>,
}

impl Replay {
    pub fn new(log: CutLog) -> Self {
        let mut replay = Replay { log, ..Replay::default() };
        replay.pop();
        replay
    }

    /// The next cut.
    pub fn front(&self) -> Option<&Cut> {
        self.front.as_ref()
    }

    /// Takes the next cut off.
    pub fn pop(&mut self) -> Option<Cut> {
        let next = self.reader.next(&self.log.records, self.log.again);
        std::mem::replace(&mut self.front, next)
    }
}

/// A place in the records of a log.
#[derive(Clone, Debug, Default)]
struct Reader {
    /// Where the next record begins, and the last one.
    at: usize,
    record: usize,
    /// How many more times the last record applies.
    again: u64,
    /// Whether the repetitions at the end have been taken up.
    ended: bool,
    last: Cut,
}

impl Reader {
    /// The next cut of `records`, the last of which applies `again` more times; none at the end, and where there is no
    /// record.
    fn next(&mut self, records: &[u8], again: u64) -> Option<Cut> {
        if self.again == 0 && records.get(self.at) == Some(&AGAIN) && self.at > 0 {
            let mut bytes = &records[self.at + 1..];
            let times = varint::take(&mut bytes).filter(|times| *times > 0)?;
            self.again = times;
            self.at = records.len() - bytes.len();
        }
        if self.again == 0 && self.at == records.len() && !self.ended {
            self.ended = true;
            self.again = again;
        }
        if self.again > 0 {
            self.again -= 1;
            self.last = read(&mut &records[self.record..], &self.last)?;
        } else {
            let mut bytes = &records[self.at..];
            self.last = read(&mut bytes, &self.last)?;
            self.record = self.at;
            self.at = records.len() - bytes.len();
        }
        Some(self.last.clone())
    }
}

/// Appends how `cut` differs from the one before it.
fn write(out: &mut Vec<u8>, cut: &Cut, before: &Cut) {
    let (rows, offset) = (cut.rows.wrapping_sub(before.rows), cut.offset.wrapping_sub(before.offset));
    let mut kind = 0;
    if cut.stamp.is_some() {
        kind |= STAMPED;
    }
    if offset != rows {
        kind |= OFFSET;
    }
    if cut.stamp == Some(cut.frontier) {
        kind |= FRONTIER_IS_STAMP;
    } else if cut.frontier != before.frontier {
        kind |= FRONTIER;
    }
    if cut.stamp.is_some_and(|stamp| stamp.wrapping_add(1) == cut.next) {
        kind |= NEXT_IS_PAST;
    } else if cut.next != before.next {
        kind |= NEXT;
    }
    out.push(kind);
    varint::put_signed(out, rows as i64);
    if kind & OFFSET != 0 {
        varint::put_signed(out, offset as i64);
    }
    if let Some(stamp) = cut.stamp {
        varint::put_signed(out, stamp.wrapping_sub(before.next) as i64);
    }
    if kind & FRONTIER != 0 {
        varint::put_signed(out, cut.frontier.wrapping_sub(before.frontier) as i64);
    }
    if kind & NEXT != 0 {
        varint::put_signed(out, cut.next.wrapping_sub(before.next) as i64);
    }
}

/// Reads what [`write`] wrote; none where `bytes` are no record.
fn read(bytes: &mut &[u8], before: &Cut) -> Option<Cut> {
    let (&kind, rest) = bytes.split_first()?;
    if kind & !(STAMPED | OFFSET | FRONTIER_IS_STAMP | FRONTIER | NEXT_IS_PAST | NEXT) != 0 {
        return None;
    }
    let mut rest = rest;
    let mut difference = |from: u64| Some(from.wrapping_add_signed(varint::take_signed(&mut rest)?));
    let rows = difference(before.rows)?;
    let offset = match kind & OFFSET {
        0 => before.offset.wrapping_add(rows.wrapping_sub(before.rows)),
        _ => difference(before.offset)?,
    };
    let stamp = if kind & STAMPED == 0 { None } else { Some(difference(before.next)?) };
    let frontier = match kind & (FRONTIER_IS_STAMP | FRONTIER) {
        0 => before.frontier,
        FRONTIER => difference(before.frontier)?,
        _ => stamp?,
    };
    let next = match kind & (NEXT_IS_PAST | NEXT) {
        0 => before.next,
        NEXT => difference(before.next)?,
        _ => stamp?.wrapping_add(1),
    };
    *bytes = rest;
    Some(Cut { rows, offset, stamp, frontier, next })
}

/// The cuts of one split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitCuts {
    /// The split's stable name.
    pub split: String,
    /// How many rows of the split the record covers.
    pub rows: u64,
    /// The cuts, in order.
    pub cuts: CutLog,
    /// The rows (counted from 0) that were rejected for being ahead of the clock, in order.
    pub ahead: Vec<u64>,
}

/// The recorded cuts of a table. Serializable; with the table's input it determines every stamp.
///
/// ```
/// use headwater_operators::stamp::{Cuts, SplitCuts};
/// let part = |rows| Cuts::from_iter([SplitCuts { split: "p0".into(), rows, ..Default::default() }]);
/// let mut all = part(10);
/// all.append(part(25));
/// assert_eq!(all, part(25));
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<SplitCuts>", into = "Vec<SplitCuts>")]
pub struct Cuts {
    /// In the order of their discovery.
    splits: Vec<SplitCuts>,
    /// The place of each by its name.
    places: HashMap<String, usize>,
}

impl Cuts {
    /// The splits, in the order of their discovery.
    pub fn splits(&self) -> &[SplitCuts] {
        &self.splits
    }

    /// Adds what was recorded after `self`.
    pub fn append(&mut self, later: Cuts) {
        for split in later.splits {
            let known = self.splits.len();
            let place = *self.places.entry(split.split.clone()).or_insert(known);
            match self.splits.get_mut(place) {
                Some(known) => {
                    known.rows = split.rows;
                    known.cuts.extend(split.cuts.iter());
                    known.ahead.extend(split.ahead);
                }
                None => self.splits.push(split),
            }
        }
    }

    /// Forgets what a stamper that resumes from `state` does not need: what each split did before.
    pub fn truncate(&mut self, state: &super::StamperState) {
        for split in &state.splits {
            if let Some(known) = self.places.get(&split.name).and_then(|place| self.splits.get_mut(*place)) {
                known.cuts.truncate(split.rows);
                known.ahead.drain(..known.ahead.partition_point(|row| *row < split.rows));
            }
        }
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        let split = |split: &SplitCuts| 160 + 2 * split.split.len() + split.cuts.bytes() + 8 * split.ahead.capacity();
        self.splits.iter().map(split).sum()
    }
}

impl PartialEq for Cuts {
    fn eq(&self, other: &Self) -> bool {
        self.splits == other.splits
    }
}

impl Eq for Cuts {}

impl FromIterator<SplitCuts> for Cuts {
    fn from_iter<I: IntoIterator<Item = SplitCuts>>(splits: I) -> Self {
        let mut cuts = Cuts::default();
        for split in splits {
            cuts.append(Cuts { splits: vec![split], places: HashMap::new() });
        }
        cuts
    }
}

impl From<Vec<SplitCuts>> for Cuts {
    fn from(splits: Vec<SplitCuts>) -> Self {
        Cuts::from_iter(splits)
    }
}

impl From<Cuts> for Vec<SplitCuts> {
    fn from(cuts: Cuts) -> Self {
        cuts.splits
    }
}

impl IntoIterator for Cuts {
    type Item = SplitCuts;
    type IntoIter = std::vec::IntoIter<SplitCuts>;

    fn into_iter(self) -> Self::IntoIter {
        self.splits.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    /// The cuts of a feed with a round each `gap` us and so much jitter.
    fn feed(rng: &mut SmallRng, cuts: u64, gap: u64, jitter: u64) -> Vec<Cut> {
        let mut last = Cut { frontier: 1 << 63, ..Cut::default() };
        (0..cuts)
            .map(|_| {
                let rows = last.rows + 1 + rng.random_range(0..=jitter.min(3));
                let stamp = last.frontier + gap + rng.random_range(0..=jitter);
                last = Cut { rows, offset: rows, stamp: Some(stamp), frontier: stamp, next: stamp + 1 };
                last.clone()
            })
            .collect()
    }

    #[test]
    fn cuts_come_back_as_they_were() {
        for seed in 0..300 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut cuts: Vec<Cut> = Vec::new();
            for _ in 0..rng.random_range(0..60) {
                let before = cuts.last().cloned().unwrap_or_default();
                let mut number = |like: u64| match rng.random_range(0..5) {
                    0 => like,
                    1 => like.wrapping_add(1),
                    2 => like.wrapping_add(rng.random_range(0..3_000)),
                    3 => like.wrapping_sub(rng.random_range(0..300)),
                    _ => rng.random(),
                };
                let (rows, offset) = (number(before.rows), number(before.offset));
                let (stamp, frontier, next) = (number(before.next), number(before.frontier), number(before.next));
                let odd = Cut { rows, offset, stamp: Some(stamp), frontier, next };
                let cut = match rng.random_range(0..4) {
                    0 => odd,
                    1 => Cut { stamp: None, ..odd },
                    2 => Cut { frontier: stamp, next: stamp.wrapping_add(1), ..odd },
                    _ => Cut { frontier: before.frontier, next: stamp.wrapping_add(1), ..odd },
                };
                // Now and then the same step many times.
                let step = |from: u64, to: u64| to.wrapping_add(to.wrapping_sub(from));
                for _ in 0..if rng.random_bool(0.2) { rng.random_range(1..200) } else { 1 } {
                    let (last, this) = match &cuts[..] {
                        [.., last, this] => (last.clone(), this.clone()),
                        _ => (Cut::default(), cut.clone()),
                    };
                    cuts.push(Cut { rows: step(last.rows, this.rows), offset: step(last.offset, this.offset), ..this });
                }
                cuts.push(cut);
            }
            let log: CutLog = cuts.iter().cloned().collect();
            assert_eq!((log.len(), log.last()), (cuts.len(), cuts.last()));
            assert_eq!(log.iter().collect::<Vec<_>>(), cuts, "seed {seed}");
            let bytes = Vec::from(log.clone());
            assert_eq!(CutLog::try_from(bytes.clone()), Ok(log.clone()));
            let mut replay = Replay::new(log.clone());
            for cut in &cuts {
                assert_eq!((replay.front().cloned(), replay.pop()), (Some(cut.clone()), Some(cut.clone())));
            }
            assert_eq!((replay.front().cloned(), replay.pop()), (None, None));
            // Anything may come of other bytes, but no panic.
            if bytes.len() > 1 {
                let mut wrong = bytes;
                let at = rng.random_range(1..wrong.len());
                wrong[at] = rng.random_range(0..0x90);
                wrong.truncate(rng.random_range(at..=wrong.len()));
                if wrong.iter().filter(|byte| **byte == AGAIN).count() == 0 {
                    let _ = CutLog::try_from(wrong);
                }
            }
        }
    }

    #[test]
    fn cuts_take_few_bytes() {
        let mut rng = SmallRng::seed_from_u64(1);
        let steady: CutLog = feed(&mut rng, 100_000, 1_000, 0).into_iter().collect();
        assert!(steady.bytes() < 100, "{} bytes", steady.bytes());
        let jittery: CutLog = feed(&mut rng, 100_000, 900, 200).into_iter().collect();
        assert!(Vec::from(jittery.clone()).len() < 100_000 * 5, "{} bytes", jittery.bytes());
    }

    #[test]
    fn a_truncated_log_begins_behind_the_place() {
        let mut rng = SmallRng::seed_from_u64(2);
        let cuts = feed(&mut rng, 100, 1_000, 50);
        let mut log: CutLog = cuts.iter().cloned().collect();
        log.truncate(cuts[40].rows);
        assert_eq!(log.iter().collect::<Vec<_>>(), cuts[40..]);
    }

    /// Files rest on these bytes: they never change.
    #[test]
    fn the_format_never_changes() {
        let cut =
            |rows, stamp: Time, frontier, next| Cut { rows, offset: rows + 7, stamp: Some(stamp), frontier, next };
        let cuts = [
            cut(3, 1_000, 1_000, 1_001),
            cut(4, 1_100, 1_100, 1_101),
            cut(5, 1_200, 1_200, 1_201),
            cut(6, 1_300, 1_300, 1_301),
            Cut { stamp: None, next: 5_000, ..cut(6, 0, 1_300, 0) },
            cut(7, 5_000, 1_250, 4_900),
        ];
        let log: CutLog = cuts.into_iter().collect();
        let golden = [
            1, 0b010111, 6, 20, 208, 15, 0b010101, 2, 198, 1, 128, 2, 0b100000, 0, 230, 57, 0b101001, 2, 0, 99, 199, 1,
        ];
        assert_eq!(Vec::from(log), golden);
    }
}
