//! What the watermark has made final stays as it is.
//!
//! State and results that belong to a window are released at its *release time*, the first frontier at which the watermark
//! reaches the window's end (see [`crate::time::release_time`] and [`crate::keyed::Keyed::buckets`]). From then on
//! nothing changes them: an update whose own time has reached its release time is dropped. Updates of rows that are on
//! time are never dropped, so this decides for late rows and for late corrections alone, and it decides by times
//! alone: when state is really freed makes no difference.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::encode::{Encode, map_batches};
use crate::guard::Guard;
use crate::keyed::{KEEP, Keyed};
use crate::time::Time;
use crate::updates::{Payload, UpdateStream, Updates};

/// Whether an update at `time` comes too late for what is released at `release`.
///
/// ```
/// use headwater_operators::{keyed::KEEP, retain::is_released};
/// assert!(!is_released(9, 10) && is_released(10, 10) && !is_released(10, KEEP));
/// ```
#[inline]
pub fn is_released(time: Time, release: Time) -> bool {
    time >= release
}

/// Splits a stream into the updates that can still take effect and those that come too late.
///
/// `release` gives the release time of each record, [`crate::keyed::KEEP`] for never.
///
/// ```
/// use headwater_operators::{Updates, encode::to_collection, retain::retain};
/// use timely::dataflow::operators::{Capture, Input, capture::Extract};
///
/// let kept = timely::example(|scope| {
///     let (mut input, rows) = scope.new_input();
///     // Rows with their release times.
///     let (kept, _dropped) = retain(rows, |rows: &Vec<(String, u64)>| rows.iter().map(|row| row.1).collect());
///     let kept = to_collection(kept).inner.capture();
///     input.send_batch(&mut Updates::uniform(vec![("a".to_string(), 20), ("b".to_string(), 5)], 10, 1));
///     kept
/// });
/// assert_eq!(kept.extract(), [(0, vec![(("a".to_string(), 20), 10, 1)])]);
/// ```
pub fn retain<'scope, D: Payload>(
    stream: UpdateStream<'scope, D>,
    mut release: impl FnMut(&D) -> Vec<Time> + 'static,
) -> (UpdateStream<'scope, D>, UpdateStream<'scope, D>) {
    divide(stream, "Retain", move |batch| {
        let release = release(&batch.data).into_iter();
        release.zip(&batch.times).map(|(release, &time)| !is_released(time, release)).collect()
    })
}

/// Sets when the state of each key is released: `release` gives a key's release time, [`crate::keyed::KEEP`] for never.
/// A key that is no encoding of a `K` keeps its state.
///
/// ```
/// use headwater_operators::{Keyed, Updates, encode::key_by, retain::release_at, time::release_time};
/// use timely::dataflow::operators::{Input, InspectCore};
///
/// const MINUTE: i64 = 60_000_000;
/// timely::example(|scope| {
///     let (mut input, rows) = scope.new_input();
///     let by_window = key_by(rows, |(start, region): &(i64, String)| ((*start, region.clone()), ()));
///     let until = |(start, _): (i64, String)| release_time(start + MINUTE, 10_000_000, 1_000_000);
///     release_at(by_window, until).inspect_container(move |event| {
///         if let Ok((_, batch)) = event {
///             assert_eq!(batch.data.buckets, [release_time(MINUTE, 10_000_000, 1_000_000)]);
///         }
///     });
///     input.send_batch(&mut Updates::uniform(vec![(0, "north".to_string())], 1, 1));
/// });
/// ```
pub fn release_at<'scope, K: Encode, V: Payload>(
    stream: UpdateStream<'scope, Keyed<V>>,
    release: impl Fn(K) -> Time + 'static,
) -> UpdateStream<'scope, Keyed<V>> {
    map_batches(stream, "ReleaseAt", move |keyed: &Keyed<V>| {
        let release = |key: &[u8]| K::decode(&mut &*key).map_or(KEEP, &release);
        Keyed { buckets: keyed.keys.iter().map(release).collect(), ..keyed.clone() }
    })
}

/// Splits each batch into the updates that pass a test and those that don't.
pub(crate) fn divide<'scope, D: Payload>(
    stream: UpdateStream<'scope, D>,
    name: &str,
    mut passes: impl FnMut(&Updates<D>) -> Vec<bool> + 'static,
) -> (UpdateStream<'scope, D>, UpdateStream<'scope, D>) {
    let name = name.to_string();
    let mut builder = OperatorBuilder::new(name.clone(), stream.scope());
    let mut input = builder.new_input(stream, Pipeline);
    let (passing, passing_stream) = builder.new_output();
    let (failing, failing_stream) = builder.new_output();
    let mut passing = OutputBuilder::<Time, CapacityContainerBuilder<Updates<D>>>::from(passing);
    let mut failing = OutputBuilder::<Time, CapacityContainerBuilder<Updates<D>>>::from(failing);
    builder.build(move |_| {
        let guard = Guard::new(&name);
        let (mut pass, mut fail) = (Vec::new(), Vec::new());
        move |_| {
            let (mut passing, mut failing) = (passing.activate(), failing.activate());
            input.for_each(|capability, batch| {
                guard.message(capability, |capability| {
                    let passes = passes(batch);
                    pass.extend((0..).zip(&passes).filter(|(_, passes)| **passes).map(|(row, _): (u32, _)| row));
                    fail.extend((0..).zip(&passes).filter(|(_, passes)| !**passes).map(|(row, _): (u32, _)| row));
                    if fail.is_empty() {
                        passing.session(capability).give_container(batch);
                    } else {
                        if !pass.is_empty() {
                            passing.session(capability).give_container(&mut batch.gather(&pass));
                        }
                        failing.session(capability).give_container(&mut batch.gather(&fail));
                    }
                    pass.clear();
                    fail.clear();
                });
            });
        }
    });
    (passing_stream, failing_stream)
}
