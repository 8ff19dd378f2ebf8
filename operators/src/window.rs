//! Tumbling and hopping windows: functions of an event time.
//!
//! A window is half open, `[start, end)`. Starts are at `offset` plus the multiples of `slide` since the UTC epoch, also
//! before it. A row at time `t` is in every window with `start <= t < start + size`.

use std::fmt;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;

use crate::guard::Guard;
use crate::stamp::NO_TIME;
use crate::updates::{Payload, UpdateStream, Updates};

/// A way of cutting event time into windows of one width.
///
/// ```
/// use headwater_operators::window::Windows;
/// let hopping = Windows::hopping(10, 5)?;
/// assert_eq!(hopping.starts(12).collect::<Vec<_>>(), [5, 10]);
/// assert_eq!(hopping.starts(-1).collect::<Vec<_>>(), [-10, -5]);
/// let tumbling = Windows::tumbling(10)?.with_offset(3);
/// assert_eq!(tumbling.starts(12).collect::<Vec<_>>(), [3]);
/// # Ok::<(), headwater_operators::window::BadWindow>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Windows {
    size: i64,
    slide: i64,
    /// In `0 .. slide`.
    offset: i64,
}

/// A width or a slide that is not positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadWindow {
    size: i64,
    slide: i64,
}

impl fmt::Display for BadWindow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadWindow { size, slide } = self;
        write!(out, "a window's size and slide must be positive, not {size} us and {slide} us")
    }
}

impl std::error::Error for BadWindow {}

impl Windows {
    /// Windows of `size` us, one after another.
    pub fn tumbling(size: i64) -> Result<Self, BadWindow> {
        Windows::hopping(size, size)
    }

    /// Windows of `size` us, one every `slide` us: they overlap when `slide < size`, and leave gaps when it is larger.
    pub fn hopping(size: i64, slide: i64) -> Result<Self, BadWindow> {
        if size > 0 && slide > 0 { Ok(Windows { size, slide, offset: 0 }) } else { Err(BadWindow { size, slide }) }
    }

    /// The same windows, moved by `offset` us.
    pub fn with_offset(self, offset: i64) -> Self {
        Windows { offset: offset.rem_euclid(self.slide), ..self }
    }

    /// The width, us.
    pub fn size(&self) -> i64 {
        self.size
    }

    /// From one start to the next, us.
    pub fn slide(&self) -> i64 {
        self.slide
    }

    /// The end of the window that starts at `start`, us; saturates.
    #[inline]
    pub fn end(&self, start: i64) -> i64 {
        start.saturating_add(self.size)
    }

    /// The last start that is not after `time`, both us. Saturates at the smallest time.
    #[inline]
    pub fn last_start(&self, time: i64) -> i64 {
        // Not (time - offset) % slide: the difference could overflow.
        let past = (time.rem_euclid(self.slide) - self.offset).rem_euclid(self.slide);
        time.saturating_sub(past)
    }

    /// The starts of the windows that hold `time`, ascending, all us.
    pub fn starts(&self, time: i64) -> impl Iterator<Item = i64> + use<> {
        let Windows { size, slide, .. } = *self;
        let last = self.last_start(time);
        let since = time.wrapping_sub(last);
        // Windows whose start is at most `size - 1` before `time`.
        let count = if since < size { (size - 1 - since) / slide + 1 } else { 0 };
        (0..count).rev().filter_map(move |back| last.checked_sub(back.checked_mul(slide)?))
    }

    /// Appends for each time the last start that is not after it. For tumbling windows that is the start of the
    /// window that holds it. All us.
    pub fn last_starts(&self, times: &[i64], starts: &mut Vec<i64>) {
        starts.reserve(times.len());
        // Neighbours are mostly in one window: a comparison instead of a division.
        let (mut start, mut end) = (0, 0);
        starts.extend(times.iter().map(|&time| {
            if time < start || time >= end {
                start = self.last_start(time);
                end = start.saturating_add(self.slide);
            }
            start
        }));
    }

    /// Appends for each time and each window that holds it the index of the time and the start of the window, by
    /// index, then start. [`NO_TIME`] is in no window.
    ///
    /// ```
    /// use headwater_operators::window::Windows;
    /// let (mut rows, mut starts) = (Vec::new(), Vec::new());
    /// Windows::hopping(10, 5)?.hop(&[12, 3], &mut rows, &mut starts);
    /// assert_eq!(rows, [0, 0, 1, 1]);
    /// assert_eq!(starts, [5, 10, -5, 0]);
    /// # Ok::<(), headwater_operators::window::BadWindow>(())
    /// ```
    pub fn hop(&self, times: &[i64], rows: &mut Vec<u32>, starts: &mut Vec<i64>) {
        let Windows { size, slide, .. } = *self;
        // Neighbours mostly have the same last start; and all windows of a row follow from that.
        let (mut last, mut next) = (0, 0);
        for (row, &time) in times.iter().enumerate() {
            if time == NO_TIME {
                continue;
            }
            if time < last || time >= next {
                last = self.last_start(time);
                next = last.saturating_add(slide);
            }
            let since = time.wrapping_sub(last);
            if since >= size {
                continue;
            }
            let before = starts.len();
            let count = (size - 1 - since) / slide + 1;
            match last.checked_sub((count - 1).saturating_mul(slide)) {
                Some(first) => starts.extend((0..count).map(|window| first + window * slide)),
                // At the beginning of time some of the windows would start before it.
                None => starts.extend(self.starts(time)),
            }
            rows.resize(rows.len() + starts.len() - before, row as u32);
        }
    }
}

/// Puts each row of a stream into its tumbling window, given by its start, us since the UTC epoch.
///
/// `time` gives a row's event time, us since the UTC epoch; a row without one is in no window. With hopping windows use
/// [`hop`].
///
/// ```
/// use headwater_operators::{Updates, encode::to_collection, window::{Windows, tumble}};
/// use timely::dataflow::operators::{Capture, Input, capture::Extract};
///
/// let windows = Windows::tumbling(60)?;
/// let captured = timely::example(move |scope| {
///     let (mut input, rows) = scope.new_input();
///     let captured = to_collection(tumble(rows, windows, |row: &i64| Some(*row))).inner.capture();
///     input.send_batch(&mut Updates { data: vec![-1, 59, 60], times: vec![1, 2, 3], diffs: vec![1; 3] });
///     captured
/// });
/// assert_eq!(captured.extract(), [(0, vec![((-1, -60), 1, 1), ((59, 0), 2, 1), ((60, 60), 3, 1)])]);
/// # Ok::<(), headwater_operators::window::BadWindow>(())
/// ```
pub fn tumble<'scope, T>(
    stream: UpdateStream<'scope, Vec<T>>,
    windows: Windows,
    time: impl Fn(&T) -> Option<i64> + 'static,
) -> UpdateStream<'scope, Vec<(T, i64)>>
where
    T: Clone + 'static,
    Vec<T>: Payload,
    Vec<(T, i64)>: Payload,
{
    hop(stream, windows, time)
}

/// Puts each row of a stream into all windows that hold it, each given by its start, us since the UTC epoch.
///
/// See [`tumble`]; [`hop_batches`] does the same for any payload.
pub fn hop<'scope, T>(
    stream: UpdateStream<'scope, Vec<T>>,
    windows: Windows,
    time: impl Fn(&T) -> Option<i64> + 'static,
) -> UpdateStream<'scope, Vec<(T, i64)>>
where
    T: Clone + 'static,
    Vec<T>: Payload,
    Vec<(T, i64)>: Payload,
{
    hop_batches(
        stream,
        windows,
        move |rows: &Vec<T>| rows.iter().map(|row| time(row).unwrap_or(NO_TIME)).collect(),
        |data, rows, starts| {
            rows.iter().zip(starts).map(|(&row, &start)| (data[row as usize].clone(), start)).collect()
        },
    )
}

/// Puts the records of each batch into all windows that hold them.
///
/// `times` gives the event time of each record, us since the UTC epoch, or [`NO_TIME`]; `build` makes the output's
/// records from the input's, the indices of those to take, and the start of the window for each.
pub fn hop_batches<'scope, D: Payload, E: Payload>(
    stream: UpdateStream<'scope, D>,
    windows: Windows,
    mut times: impl FnMut(&D) -> Vec<i64> + 'static,
    mut build: impl FnMut(&D, &[u32], &[i64]) -> E + 'static,
) -> UpdateStream<'scope, E> {
    stream.unary::<CapacityContainerBuilder<Updates<E>>, _, _, _>(Pipeline, "Hop", move |_, _| {
        let guard = Guard::new("Hop");
        let (mut rows, mut starts) = (Vec::new(), Vec::new());
        move |input, output| {
            input.for_each(|capability, batch| {
                guard.message(capability, |capability| {
                    rows.clear();
                    starts.clear();
                    windows.hop(&times(&batch.data), &mut rows, &mut starts);
                    if !rows.is_empty() {
                        let mut windowed = Updates {
                            data: build(&batch.data, &rows, &starts),
                            times: rows.iter().map(|&row| batch.times[row as usize]).collect(),
                            diffs: rows.iter().map(|&row| batch.diffs[row as usize]).collect(),
                        };
                        output.session(capability).give_container(&mut windowed);
                    }
                });
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Looks at every start near the time.
    fn model(windows: Windows, time: i64) -> Vec<i64> {
        let Windows { size, slide, offset } = windows;
        let near = (time - size - slide..=time).filter(|start| (start - offset).rem_euclid(slide) == 0);
        near.filter(|start| *start <= time && time < start + size).collect()
    }

    proptest! {
        #[test]
        fn each_time_is_in_the_windows_that_hold_it(
            size in 1i64..40, slide in 1i64..40, offset in -100i64..100, times in prop::collection::vec(-200i64..200, 0..50),
        ) {
            let windows = Windows::hopping(size, slide).unwrap().with_offset(offset);
            let (mut rows, mut starts) = (vec![7], vec![7]);
            windows.hop(&times, &mut rows, &mut starts);
            let mut expected = vec![(7, 7)];
            for (row, &time) in (0..).zip(&times) {
                let of_row = model(windows, time);
                prop_assert_eq!(windows.starts(time).collect::<Vec<_>>(), of_row.clone());
                expected.extend(of_row.into_iter().map(|start| (row, start)));
            }
            prop_assert_eq!(rows.into_iter().zip(starts).collect::<Vec<_>>(), expected);

            let tumbling = Windows::tumbling(size).unwrap().with_offset(offset);
            let mut starts = Vec::new();
            tumbling.last_starts(&times, &mut starts);
            let expected: Vec<_> = times.iter().map(|&time| model(tumbling, time)[0]).collect();
            prop_assert_eq!(starts, expected);
        }
    }

    #[test]
    fn the_ends_of_time_are_in_windows() {
        for windows in [Windows::tumbling(7).unwrap(), Windows::hopping(21, 4).unwrap().with_offset(3)] {
            for time in [i64::MIN + 1, i64::MIN + 5, i64::MAX - 5, i64::MAX] {
                let (mut rows, mut starts) = (Vec::new(), Vec::new());
                windows.hop(&[time], &mut rows, &mut starts);
                assert!(!starts.is_empty() && starts.iter().all(|start| *start <= time));
                assert_eq!(starts.len(), rows.len());
            }
        }
        assert!(Windows::tumbling(0).is_err());
        assert!(Windows::hopping(5, -1).unwrap_err().to_string().contains("-1 us"));
        assert_eq!(Windows::tumbling(5).unwrap().starts(NO_TIME).count(), 1);
    }
}
