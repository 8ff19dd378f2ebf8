//! The map of cuts: what stamping took from outside the data, so that a replay stamps alike.

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// A place in a split where a segment was closed by a round, an idle timeout or the end, or where the split's
/// frontier was raised.
///
/// Nothing is open at a cut, so the cut is all there is to know of the split's state: stamping can go on from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// The cuts of one split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitCuts {
    /// The split's stable name.
    pub split: String,
    /// How many rows of the split the record covers.
    pub rows: u64,
    /// The cuts, in order.
    pub cuts: Vec<Cut>,
    /// The rows (counted from 0) that were rejected for being ahead of the clock, in order.
    pub ahead: Vec<u64>,
}

/// The recorded cuts of a table. Serializable; with the table's input it determines every stamp.
///
/// ```
/// use headwater_operators::stamp::{Cuts, SplitCuts};
/// let part = |rows| Cuts { splits: vec![SplitCuts { split: "p0".into(), rows, ..Default::default() }] };
/// let mut all = part(10);
/// all.append(part(25));
/// assert_eq!(all, part(25));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cuts {
    /// The splits, in the order of their discovery.
    pub splits: Vec<SplitCuts>,
}

impl Cuts {
    /// Adds what was recorded after `self`.
    pub fn append(&mut self, later: Cuts) {
        for split in later.splits {
            match self.splits.iter_mut().find(|s| s.split == split.split) {
                Some(known) => {
                    known.rows = split.rows;
                    known.cuts.extend(split.cuts);
                    known.ahead.extend(split.ahead);
                }
                None => self.splits.push(split),
            }
        }
    }
}
