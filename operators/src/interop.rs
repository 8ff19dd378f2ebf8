//! Between batches of updates and the collections of plain differential dataflow.

use differential_dataflow::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;

use crate::time::Time;
use crate::updates::{Payload, UpdateStream, Updates};

/// A stream of batches of `Vec`s as a differential collection, for its operators.
///
/// ```
/// use headwater_operators::{Updates, interop::{from_collection, to_collection}};
/// use timely::dataflow::operators::{Capture, Input, capture::Extract};
///
/// let captured = timely::example(|scope| {
///     let (mut input, numbers) = scope.new_input();
///     input.send_batch(&mut Updates { data: vec![1, 2, 2], times: vec![5, 5, 6], diffs: vec![1, 1, 1] });
///     let doubled = to_collection(numbers).map(|number: i32| 2 * number);
///     to_collection(from_collection(doubled)).inner.capture()
/// });
/// assert_eq!(captured.extract(), [(0, vec![(2, 5, 1), (4, 5, 1), (4, 6, 1)])]);
/// ```
pub fn to_collection<T>(stream: UpdateStream<'_, Vec<T>>) -> VecCollection<'_, Time, T, isize>
where
    T: Clone + 'static,
    Vec<T>: Payload,
{
    let records =
        stream.unary::<CapacityContainerBuilder<Vec<(T, Time, isize)>>, _, _, _>(Pipeline, "ToCollection", |_, _| {
            |input, output| {
                input.for_each(|capability, batch| {
                    let Updates { data, times, diffs } = std::mem::take(batch);
                    let diffs = diffs.into_iter().map(|diff| diff as isize);
                    let records =
                        data.into_iter().zip(times).zip(diffs).map(|((record, time), diff)| (record, time, diff));
                    output.session(&capability).give_container(&mut records.collect());
                });
            }
        });
    records.as_collection()
}

/// The updates of a differential collection in batches.
pub fn from_collection<T>(collection: VecCollection<'_, Time, T, isize>) -> UpdateStream<'_, Vec<T>>
where
    T: Clone + 'static,
    Vec<T>: Payload,
{
    collection.inner.unary::<CapacityContainerBuilder<Updates<Vec<T>>>, _, _, _>(Pipeline, "FromCollection", |_, _| {
        |input, output| {
            input.for_each(|capability, records| {
                let mut batch = Updates::<Vec<T>>::default();
                for (record, time, diff) in records.drain(..) {
                    batch.data.push(record);
                    batch.times.push(time);
                    batch.diffs.push(diff as i64);
                }
                output.session(&capability).give_container(&mut batch);
            });
        }
    })
}

/// Replaces the records of each batch, one for one; times and diffs stay.
///
/// `logic` must give as many records as it gets.
pub fn map_records<'scope, D: Payload, E: Payload>(
    stream: UpdateStream<'scope, D>,
    mut logic: impl FnMut(D) -> E + 'static,
) -> UpdateStream<'scope, E> {
    stream.unary::<CapacityContainerBuilder<Updates<E>>, _, _, _>(Pipeline, "MapRecords", move |_, _| {
        move |input, output| {
            input.for_each(|capability, batch| {
                let Updates { data, times, diffs } = std::mem::take(batch);
                let data = logic(data);
                debug_assert_eq!(data.len(), times.len());
                output.session(&capability).give_container(&mut Updates { data, times, diffs });
            });
        }
    })
}
