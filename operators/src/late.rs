//! Late rows of a stream that is already stamped.
//!
//! A row is late when its event time is further behind its stamp than the declared delay: then its windows may be final.
//! For a stream that was stamped row by row with `max(event time, frontier)` this is the rule of [`crate::stamp`]; rows
//! that share a stamp within a segment are stamped up to a `resolution` later than alone, so add that to the delay.
//! Late rows come out as a stream of their own, of either sign: nothing vanishes.

use crate::retain::divide;
use crate::time::from_micros;
use crate::updates::{Payload, UpdateStream};

/// Splits a stamped stream into the rows that are on time and those that are late.
///
/// `event_times` gives the event time of each record, us since the UTC epoch; `delay` is in us.
///
/// ```
/// use headwater_operators::{Updates, encode::to_collection, late::split_late, time::from_micros};
/// use timely::dataflow::operators::{Capture, Input, capture::Extract};
///
/// let late = timely::example(|scope| {
///     let (mut input, rows) = scope.new_input();
///     let (_on_time, late) = split_late(rows, 10, |rows: &Vec<i64>| rows.clone());
///     let late = to_collection(late).inner.capture();
///     input.send_batch(&mut Updates::uniform(vec![100, 95, 80], from_micros(100), 1));
///     late
/// });
/// assert_eq!(late.extract(), [(0, vec![(80, from_micros(100), 1)])]);
/// ```
pub fn split_late<'scope, D: Payload>(
    stream: UpdateStream<'scope, D>,
    delay: u64,
    mut event_times: impl FnMut(&D) -> Vec<i64> + 'static,
) -> (UpdateStream<'scope, D>, UpdateStream<'scope, D>) {
    divide(stream, "SplitLate", move |batch| {
        let event_times = event_times(&batch.data).into_iter();
        event_times.zip(&batch.times).map(|(event, time)| from_micros(event) >= time.saturating_sub(delay)).collect()
    })
}
