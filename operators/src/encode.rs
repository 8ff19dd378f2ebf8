//! Typed records: keys as bytes, and the way from and to differential collections.

use differential_dataflow::{AsCollection, VecCollection};
use serde::Serialize;
use serde::de::DeserializeOwned;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::guard::Guard;
use crate::keyed::{Keyed, NoValue};
use crate::rows::Rows;
use crate::time::Time;
use crate::updates::{Payload, UpdateStream, Updates};

/// Values as bytes that compare as the values do, so that an operator on bytes sorts them.
///
/// An encoding says where it ends, so the encoding of a tuple is that of its fields one after another. Equal values
/// have equal bytes.
///
/// ```
/// use headwater_operators::encode::Encode;
/// assert!((-1i64, "b".to_string()).encoded() < (0i64, "a".to_string()).encoded());
/// let bytes = ("ab".to_string(), 7u32).encoded();
/// assert_eq!(<(String, u32)>::decode(&mut &bytes[..]), Some(("ab".to_string(), 7)));
/// ```
pub trait Encode: Sized {
    /// Appends the encoding.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads a value and moves `bytes` past it; `None` where they are no encoding.
    fn decode(bytes: &mut &[u8]) -> Option<Self>;

    /// The encoding alone.
    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

macro_rules! encode_integers {
    ($($integer:ty, $flip:expr;)*) => {$(
        impl Encode for $integer {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&(*self ^ $flip).to_be_bytes());
            }
            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                let (head, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(<$integer>::from_be_bytes(*head) ^ $flip)
            }
        }
    )*};
}

encode_integers! {
    u8, 0; u16, 0; u32, 0; u64, 0; u128, 0;
    i8, i8::MIN; i16, i16::MIN; i32, i32::MIN; i64, i64::MIN; i128, i128::MIN;
}

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        u8::decode(bytes).map(|byte| byte != 0)
    }
}

/// In numeric order, NaN last. Both zeros are one value, and so are all NaN.
impl Encode for f64 {
    fn encode(&self, out: &mut Vec<u8>) {
        let value = if self.is_nan() { f64::NAN } else { *self + 0.0 };
        let bits = value.to_bits();
        let negative = bits >> 63 == 1 && !self.is_nan();
        let ordered = if negative { !bits } else { (bits & !(1 << 63)) | 1 << 63 };
        ordered.encode(out);
    }
    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let ordered = u64::decode(bytes)?;
        Some(f64::from_bits(if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered }))
    }
}

/// A zero byte is followed by 255, the end is two zeros, so that no string is the beginning of another.
impl Encode for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        for &byte in self {
            out.push(byte);
            if byte == 0 {
                out.push(0xff);
            }
        }
        out.extend_from_slice(&[0, 0]);
    }
    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut value = Vec::new();
        loop {
            let (&byte, rest) = bytes.split_first()?;
            *bytes = rest;
            if byte == 0 {
                let (&mark, rest) = bytes.split_first()?;
                *bytes = rest;
                if mark == 0 {
                    return Some(value);
                }
            }
            value.push(byte);
        }
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        for byte in self.bytes() {
            out.push(byte);
            if byte == 0 {
                out.push(0xff);
            }
        }
        out.extend_from_slice(&[0, 0]);
    }
    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        String::from_utf8(<Vec<u8> as Encode>::decode(bytes)?).ok()
    }
}

/// `None` comes first.
impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        if bool::decode(bytes)? { T::decode(bytes).map(Some) } else { Some(None) }
    }
}

macro_rules! encode_tuples {
    ($(($($name:ident $index:tt),*);)*) => {$(
        impl<$($name: Encode),*> Encode for ($($name,)*) {
            fn encode(&self, _out: &mut Vec<u8>) {
                $(self.$index.encode(_out);)*
            }
            fn decode(_bytes: &mut &[u8]) -> Option<Self> {
                Some(($($name::decode(_bytes)?,)*))
            }
        }
    )*};
}

encode_tuples! { (); (A 0); (A 0, B 1); (A 0, B 1, C 2); (A 0, B 1, C 2, D 3); }

/// Gives each record a key and a value, both computed from it.
pub fn key_by<'scope, T, K, V>(
    stream: UpdateStream<'scope, Vec<T>>,
    split: impl Fn(&T) -> (K, V) + 'static,
) -> UpdateStream<'scope, Keyed<Vec<V>>>
where
    Vec<T>: Payload,
    Vec<V>: Payload,
    K: Encode,
    T: 'static,
    V: 'static,
{
    map_batches(stream, "Key by", move |records: &Vec<T>| {
        let mut keys = Rows::default();
        let mut key_bytes = Vec::new();
        let mut vals = Vec::with_capacity(records.len());
        for record in records {
            let (key, val) = split(record);
            key_bytes.clear();
            key.encode(&mut key_bytes);
            keys.push(&key_bytes);
            vals.push(val);
        }
        Keyed::new(keys, vals)
    })
}

/// Only the keys.
pub fn keys<'scope, V: Payload>(stream: UpdateStream<'scope, Keyed<V>>) -> UpdateStream<'scope, Keyed<NoValue>> {
    map_batches(stream, "Keys", |keyed: &Keyed<V>| Keyed {
        hashes: keyed.hashes.clone(),
        keys: keyed.keys.clone(),
        buckets: keyed.buckets.clone(),
        vals: NoValue(keyed.len()),
    })
}

/// The opposite of [`key_by`]: pairs of a key and a value. `K` must be the type of the keys: an update whose key is no
/// encoding of a `K` is left out.
pub fn pairs<'scope, K, V>(stream: UpdateStream<'scope, Keyed<Vec<V>>>) -> UpdateStream<'scope, Vec<(K, V)>>
where
    K: Encode + 'static,
    V: 'static,
    Vec<V>: Payload,
    Vec<(K, V)>: Payload,
{
    stream.unary(Pipeline, "Pairs", |_, _| {
        let guard = Guard::new("Pairs");
        move |input, output| {
            input.for_each(|capability, batch| {
                guard.message(capability, |capability| {
                    let Updates { data: Keyed { keys, vals, .. }, times, diffs } = std::mem::take(batch);
                    let mut pairs = Updates::<Vec<(K, V)>>::default();
                    for (index, ((value, time), diff)) in vals.into_iter().zip(times).zip(diffs).enumerate() {
                        if let Some(key) = K::decode(&mut keys.get(index)) {
                            pairs.data.push((key, value));
                            pairs.times.push(time);
                            pairs.diffs.push(diff);
                        }
                    }
                    output.session(capability).give_container(&mut pairs);
                });
            });
        }
    })
}

/// Turns each batch's records into as many others; times and diffs stay.
///
/// ```
/// use headwater_operators::{Updates, encode::{map_batches, to_collection}};
/// use timely::dataflow::operators::{Capture, Input, capture::Extract};
///
/// let captured = timely::example(|scope| {
///     let (mut input, words) = scope.new_input();
///     let length = |words: &Vec<String>| words.iter().map(String::len).collect::<Vec<_>>();
///     let captured = to_collection(map_batches(words, "Lengths", length)).inner.capture();
///     input.send_batch(&mut Updates::uniform(vec!["so".to_string()], 3, 1));
///     captured
/// });
/// assert_eq!(captured.extract(), [(0, vec![(2, 3, 1)])]);
/// ```
pub fn map_batches<'scope, D: Payload, E: Payload>(
    stream: UpdateStream<'scope, D>,
    name: &str,
    map: impl Fn(&D) -> E + 'static,
) -> UpdateStream<'scope, E> {
    stream.unary(Pipeline, name, move |_, _| {
        let guard = Guard::new(name);
        move |input, output| {
            input.for_each(|capability, batch| {
                guard.message(capability, |capability| {
                    let Updates { data, times, diffs } = std::mem::take(batch);
                    output.session(capability).give_container(&mut Updates { data: map(&data), times, diffs });
                });
            });
        }
    })
}

/// The updates of a differential collection.
pub fn from_collection<'scope, T>(collection: VecCollection<'scope, Time, T, isize>) -> UpdateStream<'scope, Vec<T>>
where
    T: Clone + Send + Sync + Serialize + DeserializeOwned + 'static,
{
    let stream: Stream<'scope, Time, Vec<(T, Time, isize)>> = collection.inner;
    stream.unary(Pipeline, "From collection", |_, _| {
        let guard = Guard::new("From collection");
        move |input, output| {
            input.for_each(|capability, batch| {
                guard.message(capability, |capability| {
                    let mut updates = Updates::<Vec<T>>::default();
                    for (record, time, diff) in batch.drain(..) {
                        updates.data.push(record);
                        updates.times.push(time);
                        updates.diffs.push(diff as i64);
                    }
                    output.session(capability).give_container(&mut updates);
                });
            });
        }
    })
}

/// A differential collection of the same updates.
pub fn to_collection<'scope, T>(stream: UpdateStream<'scope, Vec<T>>) -> VecCollection<'scope, Time, T, isize>
where
    T: Clone + Send + Sync + Serialize + DeserializeOwned + 'static,
{
    let updates: Stream<'scope, Time, Vec<(T, Time, isize)>> = stream.unary(Pipeline, "To collection", |_, _| {
        let guard = Guard::new("To collection");
        move |input, output| {
            input.for_each(|capability, batch| {
                guard.message(capability, |capability| {
                    let Updates { data, times, diffs } = std::mem::take(batch);
                    let records = data.into_iter().zip(times).zip(diffs);
                    let mut updates: Vec<_> =
                        records.map(|((record, time), diff)| (record, time, diff as isize)).collect();
                    output.session(capability).give_container(&mut updates);
                });
            });
        }
    });
    updates.as_collection()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    fn agrees<T: Encode + PartialOrd + std::fmt::Debug>(a: T, b: T) {
        let (left, right) = (a.encoded(), b.encoded());
        assert_eq!(a.partial_cmp(&b), Some(left.cmp(&right)), "{a:?} {b:?}");
        assert_eq!(T::decode(&mut &left[..]), Some(a));
    }

    #[test]
    fn bytes_compare_as_the_values_do() {
        let mut rng = SmallRng::seed_from_u64(0);
        let text = |rng: &mut SmallRng| -> String {
            (0..rng.random_range(0..4)).map(|_| ['\0', '\u{1}', 'a', 'ÿ'][rng.random_range(0..4)]).collect()
        };
        let float = |rng: &mut SmallRng| {
            [0.0, -0.0, 1.5, -1.5, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE][rng.random_range(0..7)]
        };
        for _ in 0..2_000 {
            agrees(rng.random::<i64>(), rng.random());
            agrees(rng.random::<i8>(), rng.random());
            agrees(rng.random::<u32>(), rng.random());
            agrees(float(&mut rng), float(&mut rng));
            let mut random = || (text(&mut rng), rng.random_range(-2..2), rng.random_bool(0.5).then(|| text(&mut rng)));
            agrees(random(), random());
        }
        assert!(f64::NAN.encoded() > f64::INFINITY.encoded());
        assert_eq!(f64::NAN.encoded(), (-f64::NAN).encoded());
        assert!(f64::decode(&mut &f64::NAN.encoded()[..]).is_some_and(f64::is_nan));
        assert_eq!(String::decode(&mut &b"abc"[..]), None);
    }
}
