//! What reading on in a file gives, and how rows are made of it.

use crate::error::Result;
use crate::filesystem::blocks::Block;
use crate::filesystem::content::Verdict;
use crate::format::event_time;
use crate::format::record::Decoded;

/// Rows that were decoded together.
pub(crate) struct Lot {
    pub(crate) decoded: Decoded,
    /// How many lines of text, or rows of Parquet, come before them in the file.
    pub(crate) line: u64,
    /// The least and the greatest event time in them.
    pub(crate) times: Option<(i64, i64)>,
}

/// What a step gives.
pub(crate) enum Step {
    Rows(Vec<Lot>),
    /// Nothing yet, but it went on.
    Working,
    /// All that there is has been read; a growing file may have more later.
    End,
    /// The file ends in the middle: it is still being written, or it is cut off.
    Incomplete(String),
    /// A followed file is not what it was.
    Other(Verdict),
    /// Another file has taken its name.
    Replaced,
}

impl Step {
    /// Whether another step can follow.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self, Step::Rows(_) | Step::Working)
    }
}

/// How rows are made of what a reader gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Making {
    pub(crate) max_rows: usize,
    /// The place of the event time.
    pub(crate) event_time: Option<usize>,
}

impl Making {
    /// The records of a block.
    pub(crate) fn decode(self, block: Block) -> Result<Step> {
        let mut lots = Vec::new();
        for (decoded, line) in block.decode(self.max_rows)? {
            let mut lot = Lot { decoded, line, times: None };
            self.time(&mut lot)?;
            lots.push(lot);
        }
        Ok(Step::Rows(lots))
    }

    pub(crate) fn time(self, lot: &mut Lot) -> Result<()> {
        if let Some(column) = self.event_time {
            lot.times = event_time::range(lot.decoded.rows.column(column))?;
        }
        Ok(())
    }
}
