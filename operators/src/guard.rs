//! A fault in an operator's step ends its dataflow, not the process.
//!
//! Whoever builds a dataflow can give it a [`Supervisor`]. The operators built under it run each of their steps in a
//! [`Guard`]: a panic in a step is caught there, before it reaches timely, and reported. An operator that has failed does
//! nothing any more, so its output frontier rests: nothing wrong is ever shown as closed. What becomes of the dataflow is
//! the supervisor's to decide; dropping it whole is what frees the operator's state. Without a supervisor panics go on as
//! they are.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use timely::dataflow::operators::InputCapability;
use timely::progress::Timestamp;

/// What went wrong in an operator's step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepFault {
    /// The operator's name.
    pub operator: String,
    /// What the panic said.
    pub message: String,
}

/// Is told of the faults in a dataflow's operators on this thread. Clones are one.
#[derive(Clone)]
pub struct Supervisor(Rc<dyn Fn(StepFault)>);

thread_local! {
    static BUILDING: RefCell<Option<Supervisor>> = const { RefCell::new(None) };
}

impl Supervisor {
    /// A supervisor that calls `report` with each fault.
    pub fn new(report: impl Fn(StepFault) + 'static) -> Self {
        Supervisor(Rc::new(report))
    }

    /// Builds a dataflow whose operators are supervised.
    pub fn supervise<R>(&self, build: impl FnOnce() -> R) -> R {
        let before = BUILDING.replace(Some(self.clone()));
        let _restore = Restore(before);
        build()
    }
}

struct Restore(Option<Supervisor>);

impl Drop for Restore {
    fn drop(&mut self) {
        BUILDING.set(self.0.take());
    }
}

/// Runs the steps of one operator.
///
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use headwater_operators::guard::{Guard, Supervisor, raise};
///
/// let faults = Rc::new(RefCell::new(Vec::new()));
/// let seen = faults.clone();
/// let guard = Supervisor::new(move |fault| seen.borrow_mut().push(fault.message)).supervise(|| Guard::new("map"));
/// guard.step(|| raise("4 GiB of text in a batch"));
/// guard.step(|| unreachable!("an operator that has failed does nothing"));
/// assert_eq!(*faults.borrow(), ["4 GiB of text in a batch"]);
/// ```
pub struct Guard {
    operator: String,
    supervisor: Option<Supervisor>,
    failed: Cell<bool>,
}

impl Guard {
    /// A guard for an operator of the dataflow that is being built on this thread.
    pub fn new(operator: &str) -> Self {
        let supervisor = BUILDING.with_borrow(Clone::clone);
        Guard { operator: operator.to_owned(), supervisor, failed: Cell::new(false) }
    }

    /// Runs a step, unless one has failed before.
    pub fn step(&self, step: impl FnOnce()) {
        let Some(supervisor) = &self.supervisor else { return step() };
        if self.failed.get() {
            return;
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(step)) {
            self.failed.set(true);
            (supervisor.0)(StepFault { operator: self.operator.clone(), message: message(&*panic) });
        }
    }

    /// Works on a message, for an operator that holds no capability of its own. A message whose work fails counts as never
    /// consumed, and so does each after it: no frontier passes it.
    pub fn message<T: Timestamp>(&self, capability: InputCapability<T>, work: impl FnOnce(&InputCapability<T>)) {
        self.step(|| work(&capability));
        if self.failed.get() {
            // Dropping it is what would count the message as consumed. The few words that leak do so once a failed
            // dataflow.
            std::mem::forget(capability);
        }
    }
}

/// What a panic says.
pub fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

/// Ends a step with a fault, as a panic does, but without a word on standard error.
pub fn raise(message: impl Into<String>) -> ! {
    resume_unwind(Box::new(message.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use timely::dataflow::operators::{Input, InspectCore, Probe};

    use super::*;
    use crate::accumulators::count;
    use crate::encode::{key_by, map_batches};
    use crate::time::Time;
    use crate::updates::{Payload, UpdateStream, Updates};

    /// Numbers, of which one can't be copied.
    #[derive(Clone, Debug, Default)]
    struct Fragile(Vec<u64>);

    const BREAKS: u64 = 13;

    impl Payload for Fragile {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn gather(&self, indices: &[u32]) -> Self {
            let gathered: Vec<u64> = indices.iter().map(|&i| self.0[i as usize]).collect();
            if gathered.contains(&BREAKS) { raise("13 breaks") } else { Fragile(gathered) }
        }
        fn concat(parts: &[&Self]) -> Self {
            Fragile(parts.iter().flat_map(|part| part.0.iter().copied()).collect())
        }
        fn encode(&self, out: &mut Vec<u8>) {
            self.0.encode(out);
        }
        fn decode(bytes: &[u8]) -> Result<Self, String> {
            Ok(Fragile(Vec::decode(bytes)?))
        }
    }

    type Build = for<'s> fn(UpdateStream<'s, Vec<u64>>) -> UpdateStream<'s, Vec<u64>>;

    /// The sums of diffs by time that two dataflows show, of which the first is supervised and fails at time 2, and the
    /// faults reported. Both are sent the numbers of `times`, each at its own time.
    fn run(broken: Build) -> (BTreeMap<Time, i64>, BTreeMap<Time, i64>, Vec<StepFault>, bool) {
        timely::execute_directly(move |worker| {
            let faults = Rc::new(RefCell::new(Vec::new()));
            let told = faults.clone();
            let supervisor = Supervisor::new(move |fault| told.borrow_mut().push(fault));
            let mut inputs = Vec::new();
            let mut shown = Vec::new();
            for build in [broken, |stream| counted(stream)] {
                let seen = Rc::new(RefCell::new(BTreeMap::<Time, i64>::new()));
                shown.push(seen.clone());
                inputs.push(supervisor.supervise(|| {
                    worker.dataflow::<Time, _, _>(|scope| {
                        let (input, stream) = scope.new_input::<Updates<Vec<u64>>>();
                        let output = build(stream).inspect_container(move |event| {
                            if let Ok((_, batch)) = event {
                                batch.times.iter().for_each(|time| *seen.borrow_mut().entry(*time).or_default() += 1);
                            }
                        });
                        (input, output.probe().0)
                    })
                }));
            }
            for time in 1..6 {
                for (input, _) in &mut inputs {
                    input.send_batch(&mut Updates::uniform(vec![7, if time == 2 { BREAKS } else { 8 }], time, 1));
                    input.advance_to(time + 1);
                }
                (0..20).for_each(|_| _ = worker.step());
            }
            // The failed one shows no time as closed that it has not worked off.
            let rests = inputs[0].1.less_equal(&2) && !inputs[1].1.less_equal(&5);
            let given = |index: usize| std::mem::take(&mut *shown[index].borrow_mut());
            let result = (given(0), given(1), faults.take(), rests);
            // Their dataflow can't end by itself.
            let failed: Vec<usize> = worker.installed_dataflows();
            failed.into_iter().for_each(|dataflow| worker.drop_dataflow(dataflow));
            result
        })
    }

    fn counted<'s>(stream: UpdateStream<'s, Vec<u64>>) -> UpdateStream<'s, Vec<u64>> {
        let (counts, _) = count(key_by(stream, |number| (*number, ())), "count");
        map_batches(counts, "Counts", |keyed| keyed.vals.iter().map(|count| *count as u64).collect())
    }

    fn broken_reduction<'s>(stream: UpdateStream<'s, Vec<u64>>) -> UpdateStream<'s, Vec<u64>> {
        let fragile = map_batches(stream, "Fragile", |numbers: &Vec<u64>| {
            let mut keys = crate::Rows::default();
            numbers.iter().for_each(|_| keys.push(b""));
            crate::Keyed::new(keys, Fragile(numbers.clone()))
        });
        let (first, _) = crate::accumulate::accumulate(fragile, "broken", Gathering::default, false);
        map_batches(first, "Counts", |keyed| vec![1; keyed.len()])
    }

    fn broken_map<'s>(stream: UpdateStream<'s, Vec<u64>>) -> UpdateStream<'s, Vec<u64>> {
        let check = |number: u64| if number == BREAKS { raise("13 breaks") } else { number };
        map_batches(stream, "broken", move |numbers: &Vec<u64>| numbers.iter().map(|number| check(*number)).collect())
    }

    /// Keeps nothing but gathers its input.
    #[derive(Default)]
    struct Gathering(Vec<i64>);

    impl crate::accumulate::Accumulators for Gathering {
        type Input = Fragile;
        type Output = Vec<i64>;
        fn reserve(&mut self, groups: usize) {
            self.0.resize(groups, 0);
        }
        fn update(&mut self, groups: &[u32], input: &Fragile, rows: &[u32], diffs: &[i64]) {
            let _ = input.gather(rows);
            groups.iter().zip(diffs).for_each(|(group, diff)| self.0[*group as usize] += diff);
        }
        fn evaluate(&mut self, groups: &[u32]) -> crate::accumulate::Evaluated<Vec<i64>> {
            groups.iter().map(|group| self.0[*group as usize]).collect::<Vec<_>>().into()
        }
        fn changed(old: &Vec<i64>, new: &Vec<i64>, changed: &mut Vec<bool>) {
            changed.extend(old.iter().zip(new).map(|(old, new)| old != new));
        }
        fn clear(&mut self, groups: &[u32]) {
            groups.iter().for_each(|group| self.0[*group as usize] = 0);
        }
        fn save(&self, group: u32, out: &mut Vec<u8>) {
            crate::varint::put_signed(out, self.0[group as usize]);
        }
        fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()> {
            self.0[group as usize] += crate::varint::take_signed(bytes)?;
            Some(())
        }
        fn bytes(&self) -> usize {
            0
        }
    }

    #[test]
    fn a_fault_ends_its_dataflow_and_no_other() {
        for broken in [broken_reduction as Build, broken_map] {
            let (shown, other, faults, rests) = run(broken);
            assert_eq!(faults, [StepFault { operator: "broken".into(), message: "13 breaks".into() }]);
            assert!(shown.contains_key(&1) && shown.range(2..).next().is_none(), "{shown:?}");
            assert!(other.keys().copied().eq(1..6), "{other:?}");
            assert!(rests);
        }
    }
}
