//! Updates of equal rows at equal times summed up, across all workers: what an output or a sink wants.
//!
//! The output at `t` is the input at `t`: no row twice at one time, none with a diff of 0. Nothing is kept beyond the
//! time being worked on. Rows are found by hash, never sorted.

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::guard::Guard;
use crate::keyed::{Keyed, NoValue};
use crate::reduction::{Errors, Reduction, STEP, reduce};
use crate::rows::Rows;
use crate::saved::{Export, KeyStates};
use crate::table::KeyTable;
use crate::time::Time;
use crate::updates::{UpdateStream, Updates};

/// The same collection, with one update for each row and time. Updates come out once their time is closed.
pub fn consolidate<'scope>(stream: UpdateStream<'scope, Rows>, name: &str) -> UpdateStream<'scope, Rows> {
    let keyed = stream.unary(Pipeline, name, |_, _| {
        let guard = Guard::new(name);
        move |input, output| {
            input.for_each(|capability, batch| {
                guard.message(capability, |capability| {
                    let Updates { data, times, diffs } = std::mem::take(batch);
                    let vals = NoValue(data.len());
                    let mut keyed = Updates { data: Keyed::new(data, vals), times, diffs };
                    output.session(capability).give_container(&mut keyed);
                });
            });
        }
    });
    let (consolidated, _no_errors) = reduce(keyed, name, Consolidate::default());
    consolidated
}

#[derive(Default)]
struct Consolidate {
    table: KeyTable,
    /// The sum of diffs of each row.
    sums: Vec<i64>,
    emitted: usize,
    groups: Vec<u32>,
    output: Updates<Rows>,
}

impl Reduction for Consolidate {
    type Input = NoValue;
    type Output = Rows;

    fn apply(&mut self, _time: Time, batch: &Updates<Keyed<NoValue>>, rows: &[u32]) {
        self.groups.clear();
        self.table.lookup_or_insert(&batch.data.hashes, &batch.data.keys, rows, &mut self.groups);
        self.sums.resize(self.table.groups(), 0);
        for (&group, &row) in self.groups.iter().zip(rows) {
            self.sums[group as usize] += batch.diffs[row as usize];
        }
    }

    fn emit(&mut self, time: Time, _errors: &mut Errors) -> bool {
        let end = self.sums.len().min(self.emitted + STEP);
        for group in self.emitted..end {
            if self.sums[group] != 0 {
                self.output.data.push(self.table.key(group as u32));
                self.output.times.push(time);
                self.output.diffs.push(self.sums[group]);
            }
        }
        self.emitted = end;
        let done = end == self.sums.len();
        if done {
            self.table.clear();
            self.sums.clear();
            self.emitted = 0;
        }
        done
    }

    fn buffered(&self) -> usize {
        self.output.len()
    }

    fn take(&mut self) -> Updates<Rows> {
        std::mem::take(&mut self.output)
    }

    fn export(&self, _from: &mut Export, _limit: usize, _out: &mut KeyStates) -> bool {
        // Nothing is kept between two times.
        true
    }

    fn import(&mut self, _states: &KeyStates) -> Result<(), String> {
        Ok(())
    }

    fn release(&mut self, _frontier: Option<Time>) {}

    fn held(&self) -> (usize, usize) {
        (self.table.bytes() + 8 * self.sums.capacity(), self.table.len())
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::testing::{changes, expected, run};
    use timely::dataflow::operators::generic::operator::empty;

    #[test]
    fn each_row_comes_once_a_time() {
        for seed in 0..18 {
            let all = changes(seed, 300, 12, true, |rng| rng.random_range(0..20u64));
            let pack = |records: &[u64]| {
                let mut rows = Rows::default();
                records.iter().for_each(|record| rows.push(record.to_string().as_bytes()));
                rows
            };
            let unpack = |rows: &Rows, index| String::from_utf8_lossy(rows.get(index)).parse::<u64>().unwrap();
            let (seen, _) = run([1, 2, 4][seed as usize % 3], seed, &all, pack, unpack, |stream| {
                let no_errors = empty(stream.scope());
                (consolidate(stream, "consolidate"), no_errors)
            })
            .once();
            assert_eq!(seen, expected(&all, |_, accumulated| accumulated.clone()), "seed {seed}");
        }
    }
}
