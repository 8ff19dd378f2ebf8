//! The rows that come first.

use headwater_operators::{Payload, Updates};

use super::chain::{Errors, Step};
use crate::columns::Columns;

/// Lets so many rows through, each as often as it is there; what comes after is left out. Rows must not leave.
pub(crate) struct Limit {
    pub(crate) rows: usize,
}

impl Step for Limit {
    fn apply(&mut self, mut updates: Updates<Columns>, _errors: &mut Errors, out: &mut Vec<Updates<Columns>>) {
        let mut kept = 0;
        for diff in &mut updates.diffs {
            let copies = usize::try_from(*diff).unwrap_or(0).min(self.rows);
            if copies == 0 {
                break;
            }
            *diff = copies as i64;
            self.rows -= copies;
            kept += 1;
        }
        match kept {
            0 => {}
            kept if kept == updates.len() => out.push(updates),
            kept => out.push(Updates {
                data: Payload::slice(&updates.data, 0..kept),
                times: updates.times[..kept].to_vec(),
                diffs: updates.diffs[..kept].to_vec(),
            }),
        }
    }

    fn fallible(&self) -> bool {
        false
    }
}
