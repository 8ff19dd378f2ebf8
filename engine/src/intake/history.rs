//! What a table in memory keeps of its past, for queries that come later.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use arrow::datatypes::SchemaRef;
use headwater_operators::Updates;
use headwater_operators::time::{SINCE_EVER, Time};

use crate::columns::Columns;
use crate::render::codec::Codec;

/// Which of a table's two feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeedKind {
    OnTime,
    Late,
    /// Pieces of input that became no rows, in columns of their own.
    Rejected,
}

/// With at most so many retractions the history is kept as it is.
const FEW: usize = 1 << 14;
/// So many parts of one size become one.
const JOINED: usize = 16;
/// Parts with more rows than this are left as they are.
const SMALL: usize = 1 << 12;

/// All updates of a table. Those before a time are summed up once many of them are retractions, so that a table whose
/// rows come and go takes room for those that are there.
pub(crate) struct History {
    parts: Vec<(FeedKind, Updates<Columns>)>,
    rows: usize,
    /// Retractions since the last time that updates were summed up.
    retractions: usize,
    since: Time,
    /// None where the columns' types have no order.
    codec: Option<Codec>,
    /// How often each row is there, from the first retraction on that was pushed.
    counts: Option<HashMap<Box<[u8]>, i64>>,
}

impl History {
    /// `counted` says that rows may be pushed that are not here yet when a retraction of them comes.
    pub fn new(schema: &SchemaRef, counted: bool) -> Self {
        let codec = Codec::verbatim(schema.fields().iter().map(|f| f.data_type().clone())).ok();
        History {
            parts: Vec::new(),
            rows: 0,
            retractions: 0,
            since: SINCE_EVER,
            codec,
            counts: counted.then(HashMap::new),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// How many rows there are, each as often as it is there.
    pub fn held(&self) -> i64 {
        self.parts.iter().flat_map(|(_, updates)| &updates.diffs[..]).sum()
    }

    /// The times before this one are not told apart any more.
    pub fn since(&self) -> Time {
        self.since
    }

    pub fn push(&mut self, kind: FeedKind, updates: Updates<Columns>) {
        self.rows += updates.len();
        self.retractions += updates.diffs.iter().filter(|diff| **diff < 0).count();
        self.parts.push((kind, updates));
        self.join_small();
    }

    /// Joins small parts at the end: rows that come one by one would take many times their size.
    fn join_small(&mut self) {
        while let [.., (kind, last)] = &self.parts[..] {
            let (kind, most) = (*kind, last.len());
            let like = self.parts.iter().rev().take_while(|(k, part)| *k == kind && part.len() <= most);
            let run = like.count();
            if run < JOINED || most > SMALL {
                break;
            }
            let parts = self.parts.split_off(self.parts.len() - run);
            let all = Updates::concat(&parts.iter().map(|(_, part)| part).collect::<Vec<_>>());
            self.parts.push((kind, all));
        }
    }

    /// Counts rows that are about to come and leave. `chosen` says that those that leave were found in the table.
    ///
    /// Errors: the first row that would leave more often than it is there; nothing is counted then.
    pub fn count(&mut self, rows: &Columns, diffs: Option<&[i64]>, chosen: bool) -> Result<(), usize> {
        let Some(codec) = &self.codec else { return Ok(()) };
        if self.counts.is_none() && (chosen || diffs.is_none_or(|diffs| diffs.iter().all(|diff| *diff >= 0))) {
            return Ok(());
        }
        let diffs = diffs.map_or_else(|| vec![1; rows.rows].into(), Cow::Borrowed);
        let counts = self.counts.get_or_insert_with(|| {
            let mut counts = HashMap::new();
            let rows = self.parts.iter().filter(|(kind, _)| *kind != FeedKind::Rejected);
            rows.for_each(|(_, updates)| add(&mut counts, codec, &updates.data, &updates.diffs));
            counts
        });
        let mut changed = HashMap::new();
        add(&mut changed, codec, rows, &diffs);
        if changed.iter().any(|(row, diff)| counts.get(row).copied().unwrap_or(0) + diff < 0) {
            let encoded = codec.encode(&rows.arrays, rows.rows);
            let blamed = |&at: &usize| {
                let row = encoded.get(at);
                diffs[at] < 0 && counts.get(row).copied().unwrap_or(0) + changed.get(row).copied().unwrap_or(0) < 0
            };
            return Err((0..rows.rows).find(blamed).unwrap_or(0));
        }
        for (row, diff) in changed {
            match counts.entry(row) {
                Entry::Occupied(mut there) => {
                    *there.get_mut() += diff;
                    if *there.get() == 0 {
                        there.remove();
                    }
                }
                Entry::Vacant(vacant) if diff != 0 => {
                    vacant.insert(diff);
                }
                Entry::Vacant(_) => {}
            }
        }
        Ok(())
    }

    /// The updates of the kinds that are wanted.
    pub fn updates(&self, wanted: impl Fn(FeedKind) -> bool) -> Vec<Updates<Columns>> {
        self.parts.iter().filter(|(kind, _)| wanted(*kind)).map(|(_, updates)| updates.clone()).collect()
    }

    /// Says that the times up to `closed` are closed.
    pub fn close(&mut self, closed: Time) {
        let Some(codec) = self.codec.as_ref().filter(|_| closed > self.since) else { return };
        if self.retractions < FEW.max(self.rows / 4) {
            return;
        }
        self.since = closed;
        self.retractions = 0;
        let parts = std::mem::take(&mut self.parts);
        for kind in [FeedKind::OnTime, FeedKind::Late] {
            let of_kind: Vec<_> = parts.iter().filter(|part| part.0 == kind).map(|part| &part.1).collect();
            let mut all = Updates::concat(&of_kind);
            all.times.iter_mut().for_each(|time| *time = closed.max(*time));
            let all = summed(all, codec);
            if !all.is_empty() {
                self.parts.push((kind, all));
            }
        }
        for (kind, mut rejected) in parts.into_iter().filter(|(kind, _)| *kind == FeedKind::Rejected) {
            rejected.times.iter_mut().for_each(|time| *time = closed.max(*time));
            self.parts.push((kind, rejected));
        }
        self.rows = self.parts.iter().map(|(_, updates)| updates.len()).sum();
    }
}

fn add(counts: &mut HashMap<Box<[u8]>, i64>, codec: &Codec, rows: &Columns, diffs: &[i64]) {
    let encoded = codec.encode(&rows.arrays, rows.rows);
    for (at, diff) in diffs.iter().enumerate() {
        *counts.entry(encoded.get(at).into()).or_insert(0) += diff;
    }
}

/// The updates with one for each row and time.
fn summed(all: Updates<Columns>, codec: &Codec) -> Updates<Columns> {
    if all.is_empty() {
        return all;
    }
    let rows = codec.encode(&all.data.arrays, all.data.rows);
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_unstable_by(|&a, &b| (all.times[a], rows.get(a)).cmp(&(all.times[b], rows.get(b))));
    let (mut kept, mut diffs) = (Vec::new(), Vec::new());
    for group in order.chunk_by(|&a, &b| all.times[a] == all.times[b] && rows.get(a) == rows.get(b)) {
        let diff: i64 = group.iter().map(|&row| all.diffs[row]).sum();
        if diff != 0 {
            kept.push(group[0] as u32);
            diffs.push(diff);
        }
    }
    Updates { diffs, ..all.gather(&kept) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    #[test]
    fn no_row_leaves_more_often_than_it_is_there() {
        let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true)]));
        let mut history = History::new(&schema, false);
        let rows = |keys: &[i64]| Columns { rows: keys.len(), arrays: vec![Arc::new(Int64Array::from(keys.to_vec()))] };
        assert_eq!(history.count(&rows(&[1, 1]), Some(&[1, 1]), false), Ok(()));
        history.push(FeedKind::OnTime, Updates::uniform(rows(&[1, 1]), 5, 1));
        assert_eq!(history.count(&rows(&[1, 2]), Some(&[-1, -1]), false), Err(1));
        assert_eq!(history.count(&rows(&[1, 1]), Some(&[-1, -1]), false), Ok(()));
        assert_eq!(history.count(&rows(&[1]), Some(&[-1]), false), Err(0));
        // What comes in the same change can leave in it.
        assert_eq!(history.count(&rows(&[3, 3]), Some(&[-1, 1]), false), Ok(()));
        assert_eq!(history.count(&rows(&[3]), Some(&[1]), true), Ok(()));
        assert_eq!(history.count(&rows(&[3, 3]), Some(&[-1, -1]), false), Err(0));
    }

    #[test]
    fn what_comes_and_goes_is_forgotten() {
        let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true)]));
        let mut history = History::new(&schema, false);
        let keys = |range: std::ops::Range<i64>| Columns {
            rows: range.clone().count(),
            arrays: vec![Arc::new(Int64Array::from_iter_values(range))],
        };
        let n = FEW as i64;
        for round in 0..50 {
            history.push(FeedKind::OnTime, Updates::uniform(keys(0..n), 2 * round, 1));
            history.push(FeedKind::OnTime, Updates::uniform(keys(0..n), 2 * round + 1, -1));
            history.push(FeedKind::Late, Updates::uniform(keys(round as i64..round as i64 + 1), 2 * round, 1));
            history.close(2 * round);
            assert!(history.rows <= 4 * FEW + 50, "{} rows in round {round}", history.rows);
        }
        assert!(history.since() > 90);
        let sum = |kind| {
            let mut sums = std::collections::BTreeMap::new();
            for updates in history.updates(|other| other == kind) {
                let keys = updates.data.arrays[0].as_primitive::<Int64Type>();
                for (row, diff) in updates.diffs.iter().enumerate() {
                    *sums.entry(keys.value(row)).or_insert(0) += diff;
                }
            }
            sums.retain(|_, n| *n != 0);
            sums
        };
        assert!(sum(FeedKind::OnTime).is_empty());
        assert_eq!(sum(FeedKind::Late), (0..50).map(|k| (k, 1)).collect());
    }
}
