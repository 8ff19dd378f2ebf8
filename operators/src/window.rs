//! Tumbling and hopping windows: functions of an event time.
//!
//! A window is half open, `[start, end)`. Starts are at `offset` plus the multiples of `slide` since the UTC epoch, also
//! before it. A row at time `t` is in every window with `start <= t < start + size`.

use std::fmt;

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
    /// index, then start.
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
        for (row, &time) in times.iter().enumerate() {
            let before = starts.len();
            starts.extend(self.starts(time));
            rows.resize(rows.len() + starts.len() - before, row as u32);
        }
    }
}
