//! Where a query's dataflow takes up the updates of its relations.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use headwater_operators::run_end::RunEnd;
use headwater_operators::time::{SINCE_EVER, Time};
use headwater_operators::{UpdateStream, Updates};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::source;
use timely::scheduling::Activator;

use crate::columns::Columns;

enum Event {
    Data(Updates<Columns>),
    Frontier(usize, Option<Time>),
}

struct Inner {
    queue: RefCell<VecDeque<Event>>,
    activator: RefCell<Option<Activator>>,
}

/// The worker's end of a source operator that merges feeds: its frontier is the least of theirs.
#[derive(Clone)]
pub(crate) struct Tap(Rc<Inner>);

impl Tap {
    fn push(&self, event: Event) {
        self.0.queue.borrow_mut().push_back(event);
        if let Some(activator) = self.0.activator.borrow().as_ref() {
            activator.activate();
        }
    }

    /// Hands over updates.
    pub fn data(&self, updates: Updates<Columns>) {
        self.push(Event::Data(updates));
    }

    /// Moves the frontier of feed number `slot`.
    pub fn frontier(&self, slot: usize, frontier: Option<Time>) {
        self.push(Event::Frontier(slot, frontier));
    }

    /// A source operator over feeds at the given frontiers, and its tap. Updates before `as_of` become updates at it. What the
    /// frontier is when it is closed is told to `end`, if that is given.
    pub fn new<'scope>(
        scope: Scope<'scope, Time>,
        name: &str,
        as_of: Time,
        mut frontiers: Vec<Option<Time>>,
        end: Option<RunEnd>,
    ) -> (Tap, UpdateStream<'scope, Columns>) {
        let inner = Rc::new(Inner { queue: RefCell::default(), activator: RefCell::default() });
        let tap = Tap(inner.clone());
        let stream =
            source::<_, CapacityContainerBuilder<Updates<Columns>>, _, _>(scope, name, move |capability, info| {
                *inner.activator.borrow_mut() = Some(scope.activator_for(info.address));
                let mut capability = Some(capability);
                let least = move |frontiers: &[Option<Time>]| frontiers.iter().flatten().min().map(|f| *f.max(&as_of));
                match (least(&frontiers), capability.as_mut()) {
                    (Some(time), Some(held)) if time > SINCE_EVER => held.downgrade(&time),
                    (None, _) => capability = None,
                    _ => {}
                }
                move |output| {
                    loop {
                        let Some(event) = inner.queue.borrow_mut().pop_front() else { break };
                        let Some(held) = capability.as_mut() else { continue };
                        match event {
                            Event::Data(mut updates) => {
                                if as_of > SINCE_EVER {
                                    updates.times.iter_mut().for_each(|time| *time = as_of.max(*time));
                                }
                                output.session_with_builder(&*held).give_container(&mut updates)
                            }
                            Event::Frontier(slot, frontier) => {
                                frontiers[slot] = frontier;
                                match least(&frontiers) {
                                    Some(time) if time > *held.time() => held.downgrade(&time),
                                    Some(_) => {}
                                    None => {
                                        end.iter().for_each(|end| end.close(*held.time()));
                                        capability = None;
                                    }
                                }
                            }
                        }
                    }
                }
            });
        (tap, stream)
    }
}
