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
