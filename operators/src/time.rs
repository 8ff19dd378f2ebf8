//! Event time as the timestamp of a dataflow.
//!
//! A [`Time`] is microseconds since the UTC epoch, shifted so that the order of signed instants is the order of
//! unsigned integers, also before 1970. The smallest value, [`SINCE_EVER`], is the time of a static table's rows.

/// An event time as a dataflow timestamp: microseconds, order-preserving (see [`from_micros`]).
pub type Time = u64;

/// The smallest time: what a static table's rows are stamped with.
pub const SINCE_EVER: Time = 0;

/// The first time at which rows of a stream can be, later than [`SINCE_EVER`]: what is there without any of them, like the
/// total of nothing, is there since ever.
pub const STREAM_START: Time = SINCE_EVER + 1;

const SHIFT: u64 = 1 << 63;

/// The time of an instant given in microseconds since the UTC epoch.
///
/// ```
/// use headwater_operators::time::{from_micros, to_micros, SINCE_EVER};
/// assert!(from_micros(-1) < from_micros(0));
/// assert_eq!(to_micros(from_micros(-5)), -5);
/// assert_eq!(from_micros(i64::MIN), SINCE_EVER);
/// ```
#[inline]
pub const fn from_micros(micros: i64) -> Time {
    (micros as u64) ^ SHIFT
}

/// Microseconds since the UTC epoch of a time.
#[inline]
pub const fn to_micros(time: Time) -> i64 {
    (time ^ SHIFT) as i64
}

/// The watermark at frontier `frontier`: no row that is not late can carry an event time before it.
///
/// `delay` is the declared disorder and `resolution` the width of a segment, both in microseconds. Saturates at
/// [`SINCE_EVER`].
#[inline]
pub const fn watermark(frontier: Time, delay: u64, resolution: u64) -> Time {
    frontier.saturating_sub(delay).saturating_sub(resolution)
}

/// The first frontier at which the watermark reaches `end`, microseconds since the UTC epoch: when the state of a window
/// that ends there is released. Saturates.
///
/// ```
/// use headwater_operators::time::{from_micros, release_time, watermark};
/// let release = release_time(60, 10, 1);
/// assert!(watermark(release, 10, 1) >= from_micros(60));
/// assert!(watermark(release - 1, 10, 1) < from_micros(60));
/// ```
#[inline]
pub const fn release_time(end: i64, delay: u64, resolution: u64) -> Time {
    from_micros(end).saturating_add(delay).saturating_add(resolution)
}
