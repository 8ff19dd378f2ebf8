//! Event time for hand-written dataflows: raw rows in, stamped rows out, the late ones apart.
//!
//! These operators run a [`Stamper`] inside a dataflow. Their input says when rows arrive, their output when rows take
//! effect: the output's times and frontier are event times, and its watermark at frontier `t` is
//! [`watermark`](crate::time::watermark)`(t, delay, resolution)`. Each worker's share of the input is a split of its own,
//! with its own frontier; downstream the smallest counts, as timely has it. So a worker that gets no rows holds the others
//! back until its input is closed: give each a share, or an empty iterator.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::channels::pushers::Output;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::guard::Guard;
use crate::stamp::{Arrival, Changes, StampConfig, Stamper};
use crate::time::{SINCE_EVER, Time};
use crate::updates::{Payload, UpdateStream, Updates};

/// A table as streams.
pub struct StampedStreams<'scope, D: Payload> {
    /// The rows that are not late.
    pub on_time: UpdateStream<'scope, D>,
    /// The late rows.
    pub late: UpdateStream<'scope, D>,
    /// Rows without an event time, or too far ahead of the clock, at the frontier that they met.
    pub rejected: UpdateStream<'scope, D>,
}

/// Stamps the rows of a stream by their event times.
///
/// The stream's own times are rounds of arrival: with [`CutBy::Round`](crate::stamp::CutBy::Round) a round is cut when the
/// stream's frontier moves. Each row is a change of its own. `event_times` gives the event time of each record, us since
/// the UTC epoch, or [`NO_TIME`](crate::stamp::NO_TIME). `max_ahead` and `idle_timeout` need a clock and are ignored
/// here.
///
/// ```
/// use headwater_operators::{Updates, encode::to_collection, stamp::StampConfig, time::to_micros};
/// use headwater_operators::watermark::stamp_stream;
/// use timely::dataflow::operators::{Capture, Input, capture::Extract};
///
/// let config = StampConfig { resolution: 1, ..StampConfig::new(10).by_round() };
/// let captured = timely::example(|scope| {
///     let (mut input, arrivals) = scope.new_input();
///     let stamped = stamp_stream(arrivals, config, |rows: &Vec<i64>| rows.clone());
///     let captured = (to_collection(stamped.on_time).inner.capture(), to_collection(stamped.late).inner.capture());
///     input.send_batch(&mut Updates::uniform(vec![100, 95, 120, 105], 0, 1));
///     captured
/// });
/// let rows = |updates: Vec<(u64, Vec<(i64, u64, isize)>)>| -> Vec<(i64, i64)> {
///     updates.into_iter().flat_map(|(_, rows)| rows).map(|(row, time, _)| (row, to_micros(time))).collect()
/// };
/// assert_eq!(rows(captured.0.extract()), [(95, 100), (100, 100), (120, 120)]);
/// assert_eq!(rows(captured.1.extract()), [(105, 120)]);
/// ```
pub fn stamp_stream<'scope, D: Payload>(
    stream: UpdateStream<'scope, D>,
    config: StampConfig,
    mut event_times: impl FnMut(&D) -> Vec<i64> + 'static,
) -> StampedStreams<'scope, D> {
    let scope = stream.scope();
    let mut builder = OperatorBuilder::new("Stamp".to_string(), scope);
    let (on_time, late, rejected) = (builder.new_output(), builder.new_output(), builder.new_output());
    // Disconnected: the input's times say nothing about the output's.
    let mut input = builder.new_input_connection(stream, Pipeline, []);
    let streams = StampedStreams { on_time: on_time.1, late: late.1, rejected: rejected.1 };
    let outputs = [on_time.0, late.0, rejected.0];
    builder.build(move |capabilities| {
        let mut intake = Intake::new(config, outputs, capabilities);
        let mut round = Some(SINCE_EVER);
        let guard = Guard::new("Stamp");
        move |frontiers| {
            guard.step(|| {
                input.for_each(|_, batch| {
                    let Updates { data, diffs, .. } = std::mem::take(batch);
                    let event_times = event_times(&data);
                    intake.push(data, &event_times, Some(diffs));
                });
                let frontier = frontiers[0].frontier().first().copied();
                if frontier != round {
                    round = frontier;
                    intake.stamper.close_round();
                }
                if frontier.is_none() {
                    intake.stamper.close();
                }
                intake.give();
            });
        }
    });
    streams
}

/// Stamps the batches of an iterator by their event times, as a source; each batch is a round.
///
/// Every worker reads its own iterator. See [`stamp_stream`] for `event_times` and what is ignored.
///
/// ```
/// use headwater_operators::{encode::to_collection, stamp::StampConfig, time::to_micros};
/// use headwater_operators::watermark::stamp_batches;
/// use timely::dataflow::operators::{Capture, capture::Extract};
///
/// let captured = timely::example(|scope| {
///     let batches = [vec![-5i64, -7], vec![3]];
///     let stamped = stamp_batches(scope, batches, StampConfig::new(10).by_round(), |rows| rows.clone());
///     to_collection(stamped.on_time).inner.capture()
/// });
/// let rows = captured.extract().into_iter().flat_map(|(_, rows)| rows);
/// assert_eq!(rows.map(|(row, time, _)| (row, to_micros(time))).collect::<Vec<_>>(), [(-7, -5), (-5, -5), (3, 3)]);
/// ```
pub fn stamp_batches<'scope, D: Payload, I>(
    scope: Scope<'scope, Time>,
    batches: I,
    config: StampConfig,
    mut event_times: impl FnMut(&D) -> Vec<i64> + 'static,
) -> StampedStreams<'scope, D>
where
    I: IntoIterator<Item = D>,
    I::IntoIter: 'static,
{
    let mut batches = batches.into_iter();
    let mut builder = OperatorBuilder::new("StampBatches".to_string(), scope);
    let (on_time, late, rejected) = (builder.new_output(), builder.new_output(), builder.new_output());
    let streams = StampedStreams { on_time: on_time.1, late: late.1, rejected: rejected.1 };
    let outputs = [on_time.0, late.0, rejected.0];
    let activator = scope.activator_for(builder.operator_info().address);
    builder.build(move |capabilities| {
        let mut intake = Intake::new(config, outputs, capabilities);
        let guard = Guard::new("StampBatches");
        move |_| {
            guard.step(|| {
                match batches.next() {
                    Some(data) => {
                        let event_times = event_times(&data);
                        intake.push(data, &event_times, None);
                        intake.stamper.close_round();
                        activator.activate();
                    }
                    None => intake.stamper.close(),
                }
                intake.give();
            });
        }
    });
    streams
}

/// A stamper with the three outputs of its operator.
struct Intake<D: Payload> {
    stamper: Stamper<D>,
    outputs: [OutputBuilder<Time, CapacityContainerBuilder<Updates<D>>>; 3],
    /// One for each output, at the frontier; none when the input is closed.
    capabilities: Vec<Capability<Time>>,
}

impl<D: Payload> Intake<D> {
    fn new(config: StampConfig, outputs: [Output<Time, Updates<D>>; 3], capabilities: Vec<Capability<Time>>) -> Self {
        let mut stamper = Stamper::new(StampConfig { max_ahead: None, idle_timeout: None, ..config });
        stamper.add_split("input", 0, None);
        Intake { stamper, outputs: outputs.map(OutputBuilder::from), capabilities }
    }

    fn push(&mut self, data: D, event_times: &[i64], diffs: Option<Vec<i64>>) {
        self.stamper.push(0, Arrival { data, event_times, diffs, changes: Changes::Each, offset: 0 }, 0);
    }

    fn give(&mut self) {
        let stamped = self.stamper.drain();
        let [on_time, late, rejected] = &mut self.outputs;
        if let [to_on_time, to_late, to_rejected] = &mut self.capabilities[..] {
            let (mut on_time, mut late, mut rejected) = (on_time.activate(), late.activate(), rejected.activate());
            for mut batch in stamped.on_time {
                on_time.session(to_on_time).give_container(&mut batch);
            }
            for mut batch in stamped.late {
                late.session(to_late).give_container(&mut batch);
            }
            for batch in stamped.rejected {
                let times = vec![*to_rejected.time(); batch.diffs.len()];
                let mut batch = Updates { data: batch.data, times, diffs: batch.diffs };
                rejected.session(to_rejected).give_container(&mut batch);
            }
        }
        match stamped.frontier {
            Some(frontier) => self.capabilities.iter_mut().for_each(|capability| capability.downgrade(&frontier)),
            None => self.capabilities.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use timely::dataflow::operators::{Input, InspectCore, Probe};

    use super::*;
    use crate::stamp::NO_TIME;
    use crate::time::{from_micros, to_micros};

    #[test]
    fn frontiers_follow_event_time_on_every_worker() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let result = seen.clone();
        let guards = timely::execute(timely::Config::process(2), move |worker| {
            let (index, seen) = (worker.index() as i64, seen.clone());
            let (mut input, on_time, rejected) = worker.dataflow(|scope| {
                let (input, rows) = scope.new_input();
                let config = StampConfig { resolution: 1, ..StampConfig::new(10).by_round() };
                let stamped = stamp_stream(rows, config, |rows: &Vec<i64>| rows.clone());
                let on_time = stamped.on_time.inspect_container(move |event| {
                    if let Ok((_, batch)) = event {
                        seen.lock().unwrap().extend(batch.data.iter().copied().zip(batch.times.iter().copied()));
                    }
                });
                (input, on_time.probe().0, stamped.rejected.probe().0)
            });
            // The first worker's rows are 1,000 ahead; the second holds the frontier back.
            let at = 2_000 - 1_000 * index;
            input.send_batch(&mut Updates::uniform(vec![at, at - 5, NO_TIME], 0, 1));
            input.advance_to(1);
            while on_time.less_than(&from_micros(1_001)) {
                worker.step();
            }
            assert!(index == 0 || on_time.less_than(&from_micros(1_002)));
            drop(input);
            while !on_time.done() || !rejected.done() {
                worker.step();
            }
        });
        guards.unwrap().join().into_iter().for_each(|result| result.unwrap());
        let mut seen: Vec<_> = result.lock().unwrap().iter().map(|(row, time)| (*row, to_micros(*time))).collect();
        seen.sort();
        assert_eq!(seen, [(995, 1_000), (1_000, 1_000), (1_995, 2_000), (2_000, 2_000)]);
    }
}
