//! Exactly rounded sums of floats, under insertion and deletion.
//!
//! A float is an integer times a power of two, so a sum of floats can be kept exactly as a large integer. Nothing is
//! rounded before the end: the result is the exactly rounded sum of the floats that are left, in whatever order they came
//! and went. Most sums need few bits, so an [`ExactSum`] is a small window of the integer, and grows a wider
//! store of limbs only for what doesn't fit (compare Neal, "Fast exact summation using small and large superaccumulators",
//! 2015).

use std::cmp::Ordering;

use crate::varint;

/// The exact sum of any `f64`s: 32 bytes, more only where magnitudes differ much (by more than about 2^36).
///
/// ```
/// use headwater_operators::exact_sum::ExactSum;
/// let mut sum = ExactSum::default();
/// sum.add(1e300, 1);
/// sum.add(0.1, 3);
/// sum.add(1e300, -1);
/// assert_eq!(sum.value(), 0.30000000000000004); // three times the double nearest to 0.1, rounded once
/// sum.add(0.1, -3);
/// assert!(sum.is_empty());
/// ```
pub type ExactSum = Exact<2>;

/// The exact sum of squares of any `f64`s. See [`Exact::add_square`].
pub type ExactSquares = Exact<4>;

/// An exact sum whose window is `N` words. See [`ExactSum`] and [`ExactSquares`].
#[derive(Clone, Debug)]
pub struct Exact<const N: usize> {
    /// A two's complement integer, lowest word first.
    window: [u64; N],
    /// The power of two that the window's unit stands for.
    base: i32,
    /// What doesn't fit.
    rest: Option<Box<Rest>>,
}

/// The part of a sum outside its window, and what isn't a number.
#[derive(Clone, Debug, Default)]
struct Rest {
    /// A two's complement integer in units of 2^LOWEST, lowest word first, without the words from `first + words.len()` on,
    /// which repeat the sign, and those below `first`, which are 0.
    words: Vec<u64>,
    first: usize,
    nan: i64,
    positive: i64,
    negative: i64,
}

/// The power of two of the unit of [`Rest::words`]: the lowest bit of the square of the least float.
const LOWEST: i32 = -2 * 1074;

/// More words than any sum of floats or squares has, whatever their number.
const LONGEST: usize = 80;

impl<const N: usize> Default for Exact<N> {
    fn default() -> Self {
        Exact { window: [0; N], base: 0, rest: None }
    }
}

impl<const N: usize> Exact<N> {
    /// Adds `diff` copies of `x`.
    #[inline]
    pub fn add(&mut self, x: f64, diff: i64) {
        let (mantissa, exponent) = parts(x);
        if mantissa == 0 {
            return;
        }
        if exponent == SPECIAL {
            return self.add_special(x, diff);
        }
        let negative = (x < 0.0) != (diff < 0);
        let factor = diff.unsigned_abs();
        let product = if factor == 1 { u128::from(mantissa) } else { u128::from(mantissa) * u128::from(factor) };
        self.add_scaled(product, exponent, negative);
    }

    /// Adds `diff` copies of the exact square of `x`.
    #[inline]
    pub fn add_square(&mut self, x: f64, diff: i64) {
        let (mantissa, exponent) = parts(x);
        if mantissa == 0 || diff == 0 {
            return;
        }
        if exponent == SPECIAL {
            return self.add_special(x * x, diff);
        }
        let square = u128::from(mantissa) * u128::from(mantissa);
        let factor = u128::from(diff.unsigned_abs());
        let zeros = square.leading_zeros() + factor.leading_zeros();
        if zeros >= 128 {
            self.add_scaled(square * factor, 2 * exponent, diff < 0);
        } else {
            // The product of up to 106 and 64 bits: in two parts.
            self.add_scaled((square & u128::from(u64::MAX)) * factor, 2 * exponent, diff < 0);
            self.add_scaled((square >> 64) * factor, 2 * exponent + 64, diff < 0);
        }
    }

    /// Adds a sum.
    pub fn merge(&mut self, other: &Self) {
        let (negative, magnitude) = magnitude(other.window);
        for (index, &word) in magnitude.iter().enumerate() {
            self.add_scaled(u128::from(word), other.base + 64 * index as i32, negative);
        }
        if let Some(other) = &other.rest {
            let (negative, magnitude) = other.magnitude();
            let rest = self.rest.get_or_insert_default();
            for (index, &word) in magnitude.iter().enumerate() {
                rest.add(u128::from(word), LOWEST + 64 * (other.first + index) as i32, negative);
            }
            rest.nan += other.nan;
            rest.positive += other.positive;
            rest.negative += other.negative;
            self.tidy();
        }
    }

    /// Whether the sum is 0 and no NaN or infinity is left in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        match &self.rest {
            None => self.window == [0; N],
            Some(rest) => !rest.special() && self.total().sign == Ordering::Equal,
        }
    }

    /// The sum, rounded once, to the nearest float and to the even one of two. A sum of 0 is positive. Infinite when it is
    /// out of range or an infinity is left in it, NaN when a NaN or both infinities are.
    pub fn value(&self) -> f64 {
        if let Some(rest) = &self.rest {
            if rest.special() {
                return rest.special_value();
            }
        } else if let Some(value) = narrow(self.window, self.base) {
            return value;
        }
        self.total().to_f64()
    }

    /// The sum as a large number, for computing further without rounding. `None` when it is infinite or not a number.
    pub fn exactly(&self) -> Option<Exactly> {
        if self.rest.as_ref().is_some_and(|rest| rest.special()) { None } else { Some(self.total()) }
    }

    /// Appends the sum, to be read by [`Exact::load`].
    pub fn save(&self, out: &mut Vec<u8>) {
        let (negative, words) = magnitude(self.window);
        // The words that are not 0 at the top, their sign, and whether there is a rest.
        let length = N - words.iter().rev().take_while(|word| **word == 0).count();
        out.push((length as u8) << 2 | u8::from(negative) << 1 | u8::from(self.rest.is_some()));
        if length > 0 {
            varint::put_signed(out, i64::from(self.base));
            words[..length].iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        }
        if let Some(rest) = &self.rest {
            [rest.nan, rest.positive, rest.negative].iter().for_each(|count| varint::put_signed(out, *count));
            varint::put(out, rest.first as u64);
            varint::put(out, rest.words.len() as u64);
            rest.words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        }
    }

    /// Reads a sum and moves `bytes` past it; none where they are no sum.
    pub fn load(bytes: &mut &[u8]) -> Option<Self> {
        fn word(bytes: &mut &[u8]) -> Option<u64> {
            let (word, rest) = bytes.split_first_chunk()?;
            *bytes = rest;
            Some(u64::from_le_bytes(*word))
        }
        let (&head, rest) = bytes.split_first()?;
        *bytes = rest;
        let mut sum = Self::default();
        let length = usize::from(head >> 2);
        if length > N {
            return None;
        }
        if length > 0 {
            sum.base = i32::try_from(varint::take_signed(bytes)?).ok().filter(|base| base.abs() < 1 << 12)?;
            for at in &mut sum.window[..length] {
                *at = word(bytes)?;
            }
            if head & 2 != 0 {
                negate(&mut sum.window);
            }
        }
        if head & 1 != 0 {
            let mut count = || varint::take_signed(bytes);
            let (nan, positive, negative) = (count()?, count()?, count()?);
            let first = usize::try_from(varint::take(bytes)?).ok().filter(|first| *first < LONGEST)?;
            let words = usize::try_from(varint::take(bytes)?).ok().filter(|words| *words < LONGEST)?;
            let words = (0..words).map(|_| word(bytes)).collect::<Option<Vec<_>>>()?;
            sum.rest = Some(Box::new(Rest { words, first, nan, positive, negative }));
        }
        Some(sum)
    }

    /// Bytes held beside the accumulator itself.
    pub fn heap_size(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| size_of::<Rest>() + 8 * rest.words.capacity())
    }

    #[cold]
    fn add_special(&mut self, x: f64, diff: i64) {
        let rest = self.rest.get_or_insert_default();
        if x.is_nan() {
            rest.nan += diff;
        } else if x > 0.0 {
            rest.positive += diff;
        } else {
            rest.negative += diff;
        }
        self.tidy();
    }

    /// Adds `mantissa * 2^exponent`, negated if `negative`.
    #[inline]
    fn add_scaled(&mut self, mantissa: u128, exponent: i32, negative: bool) {
        if mantissa == 0 {
            return;
        }
        let mut shift = exponent - self.base;
        let length = 128 - mantissa.leading_zeros() as i32;
        // The top bits stay free, so that one addition can't overflow.
        let room = 64 * N as i32 - 2;
        if shift < 0 || shift + length > room {
            if self.window != [0; N] {
                return self.add_wide(mantissa, exponent, negative);
            }
            // An empty window moves to where the number is in its middle.
            self.base = exponent - ((room - length) / 2).max(0);
            shift = exponent - self.base;
            if shift + length > room {
                return self.add_wide(mantissa, exponent, negative);
            }
        }
        let (word, bits) = (shift as usize / 64, shift as u32 % 64);
        let low = mantissa << bits;
        let high = if bits == 0 { 0 } else { (mantissa >> 64 >> (64 - bits)) as u64 };
        let added = [low as u64, (low >> 64) as u64, high];
        let mut carry = false;
        for (index, limb) in self.window.iter_mut().enumerate().skip(word) {
            let added = added.get(index - word).copied().unwrap_or(0);
            (*limb, carry) = if negative { limb.borrowing_sub(added, carry) } else { limb.carrying_add(added, carry) };
        }
        // With the two highest bits unequal the next addition could overflow: empty the window.
        let top = self.window[N - 1] >> 62;
        if top == 1 || top == 2 {
            self.spill();
        }
    }

    #[cold]
    fn add_wide(&mut self, mantissa: u128, exponent: i32, negative: bool) {
        self.rest.get_or_insert_default().add(mantissa, exponent, negative);
        self.tidy();
    }

    /// Moves the window's content to the wide part.
    #[cold]
    fn spill(&mut self) {
        let (negative, magnitude) = magnitude(self.window);
        let rest = self.rest.get_or_insert_default();
        for (index, &word) in magnitude.iter().enumerate() {
            rest.add(u128::from(word), self.base + 64 * index as i32, negative);
        }
        self.window = [0; N];
        self.tidy();
    }

    /// Drops the wide part when nothing is left in it.
    fn tidy(&mut self) {
        if self.rest.as_ref().is_some_and(|rest| rest.words.is_empty() && !rest.special()) {
            self.rest = None;
        }
    }

    /// The sum of all that is finite.
    fn total(&self) -> Exactly {
        let mut sum = self.rest.as_deref().cloned().unwrap_or_default();
        let (negative, magnitude) = magnitude(self.window);
        for (index, &word) in magnitude.iter().enumerate() {
            sum.add(u128::from(word), self.base + 64 * index as i32, negative);
        }
        let (negative, words) = sum.magnitude();
        Exactly::new(negative, words, LOWEST + 64 * sum.first as i32)
    }
}

impl Rest {
    fn special(&self) -> bool {
        self.nan != 0 || self.positive != 0 || self.negative != 0
    }

    fn special_value(&self) -> f64 {
        match (self.nan, self.positive, self.negative) {
            (0, _, 0) => f64::INFINITY,
            (0, 0, _) => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }

    /// Adds `mantissa * 2^exponent`, negated if `negative`.
    fn add(&mut self, mantissa: u128, exponent: i32, negative: bool) {
        if mantissa == 0 {
            return;
        }
        // A window may begin below the lowest float, with zeros there.
        let mut position = exponent - LOWEST;
        let mut mantissa = mantissa;
        if position < 0 {
            mantissa >>= -position;
            position = 0;
        }
        let (word, bits) = (position as usize / 64, position as u32 % 64);
        let low = mantissa << bits;
        let high = if bits == 0 { 0 } else { (mantissa >> 64 >> (64 - bits)) as u64 };
        // The words that change, and one for the sign.
        if self.words.is_empty() {
            self.first = word;
        }
        if word < self.first {
            let missing = self.first - word;
            self.words.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = word;
        }
        let start = word - self.first;
        let sign = self.words.last().map_or(0, |w| ((*w as i64) >> 63) as u64);
        let length = self.words.len().max(start + 3) + 1;
        self.words.resize(length, sign);
        let added = [low as u64, (low >> 64) as u64, high];
        let mut carry = false;
        for (index, limb) in self.words.iter_mut().enumerate().skip(start) {
            let added = added.get(index - start).copied().unwrap_or(0);
            if index - start >= 3 && !carry {
                break;
            }
            (*limb, carry) = if negative { limb.borrowing_sub(added, carry) } else { limb.carrying_add(added, carry) };
        }
        // Drop the words at the top that only repeat the sign.
        while let [.., below, top] = self.words[..]
            && top == ((below as i64) >> 63) as u64
        {
            self.words.pop();
        }
        if self.words == [0] {
            self.words.clear();
        }
    }

    fn magnitude(&self) -> (bool, Vec<u64>) {
        let mut words = self.words.clone();
        let negative = words.last().is_some_and(|top| (*top as i64) < 0);
        if negative {
            negate(&mut words);
        }
        (negative, words)
    }
}

/// A number of any size: an integer times a power of two.
#[derive(Clone, Debug)]
pub struct Exactly {
    sign: Ordering,
    /// Lowest word first, without zeros at the top.
    magnitude: Vec<u64>,
    exponent: i32,
}

impl Exactly {
    fn new(negative: bool, mut magnitude: Vec<u64>, exponent: i32) -> Self {
        while magnitude.last() == Some(&0) {
            magnitude.pop();
        }
        let sign = match (magnitude.is_empty(), negative) {
            (true, _) => Ordering::Equal,
            (_, true) => Ordering::Less,
            _ => Ordering::Greater,
        };
        Exactly { sign, magnitude, exponent }
    }

    /// The number's sign: how it compares to 0.
    pub fn sign(&self) -> Ordering {
        self.sign
    }

    /// The product with `factor`.
    pub fn times(&self, factor: u64) -> Self {
        self.multiplied(&Exactly::new(false, vec![factor], 0))
    }

    /// The product with `other`.
    pub fn multiplied(&self, other: &Self) -> Self {
        let mut product = vec![0u64; self.magnitude.len() + other.magnitude.len()];
        for (i, &a) in self.magnitude.iter().enumerate() {
            let mut carry = 0u128;
            for (j, &b) in other.magnitude.iter().enumerate() {
                let sum = u128::from(a) * u128::from(b) + u128::from(product[i + j]) + carry;
                product[i + j] = sum as u64;
                carry = sum >> 64;
            }
            product[i + other.magnitude.len()] = carry as u64;
        }
        Exactly::new(self.sign != other.sign, product, self.exponent + other.exponent)
    }

    /// The difference to `other`.
    pub fn minus(&self, other: &Self) -> Self {
        let exponent = self.exponent.min(other.exponent);
        let (left, right) = (self.words_from(exponent), other.words_from(exponent));
        let mut sum = vec![0u64; left.len().max(right.len()) + 2];
        for (words, negative) in [(left, self.sign == Ordering::Less), (right, other.sign != Ordering::Less)] {
            let mut carry = false;
            for (index, limb) in sum.iter_mut().enumerate() {
                let word = words.get(index).copied().unwrap_or(0);
                (*limb, carry) =
                    if negative { limb.borrowing_sub(word, carry) } else { limb.carrying_add(word, carry) };
            }
        }
        let negative = sum.last().is_some_and(|top| (*top as i64) < 0);
        if negative {
            negate(&mut sum);
        }
        Exactly::new(negative, sum, exponent)
    }

    /// The magnitude in units of `2^exponent`, which is not above this number's.
    fn words_from(&self, exponent: i32) -> Vec<u64> {
        let shift = (self.exponent - exponent) as usize;
        let mut words = vec![0; shift / 64];
        words.extend_from_slice(&self.magnitude);
        let bits = shift % 64;
        if bits > 0 {
            let mut carried = 0;
            for word in &mut words {
                (*word, carried) = (*word << bits | carried, *word >> (64 - bits));
            }
            words.push(carried);
        }
        words
    }

    /// The nearest float, the even one of two; infinite when out of range.
    pub fn to_f64(&self) -> f64 {
        let Some(top) = self.magnitude.last() else { return 0.0 };
        let length = 64 * self.magnitude.len() as i32 - top.leading_zeros() as i32;
        // The exponent of the result's lowest bit; subnormal results have fewer bits.
        let unit = (self.exponent + length - 53).max(-1074);
        let dropped = unit - self.exponent;
        let mut mantissa = self.bits(dropped);
        if dropped > 0 && self.bits(dropped - 1) & 1 == 1 {
            let above_half = self.trailing_zeros() < dropped - 1;
            mantissa += u64::from(above_half || mantissa & 1 == 1);
        }
        // At most 2^53, so exact; the factors are powers of two, so the product is exact or overflows.
        let value = mantissa as f64;
        let value = match unit {
            972.. => f64::INFINITY,
            -1000..972 => value * power_of_two(unit),
            _ => value * power_of_two(-1000) * power_of_two(unit + 1000),
        };
        if self.sign == Ordering::Less { -value } else { value }
    }

    /// The place of the lowest bit that is set.
    fn trailing_zeros(&self) -> i32 {
        let zeros = self.magnitude.iter().take_while(|word| **word == 0).count();
        64 * zeros as i32 + self.magnitude.get(zeros).map_or(0, |word| word.trailing_zeros() as i32)
    }

    /// The 64 bits from `at` on.
    fn bits(&self, at: i32) -> u64 {
        let word = |index: i32| usize::try_from(index).ok().and_then(|i| self.magnitude.get(i)).copied().unwrap_or(0);
        let (index, bits) = (at.div_euclid(64), at.rem_euclid(64) as u32);
        let low = word(index) >> bits;
        if bits == 0 { low } else { low | word(index + 1) << (64 - bits) }
    }
}

/// `n * squares - sum * sum`, exactly and rounded once: the variance times `n * n`. NaN when either sum is infinite or not
/// a number.
pub fn scaled_variance(n: u64, sum: &ExactSum, squares: &ExactSquares) -> f64 {
    match (sum.exactly(), squares.exactly()) {
        (Some(sum), Some(squares)) => squares.times(n).minus(&sum.multiplied(&sum)).to_f64(),
        _ => f64::NAN,
    }
}

/// Stands for the exponent of infinities and NaN.
const SPECIAL: i32 = i32::MAX;

/// The mantissa and exponent of a float's magnitude, the exponent [`SPECIAL`] where it isn't a number.
#[inline]
fn parts(x: f64) -> (u64, i32) {
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i32 & 0x7ff;
    let fraction = bits & ((1 << 52) - 1);
    match exponent {
        0x7ff => (1, SPECIAL),
        0 => (fraction, -1074),
        _ => (fraction | 1 << 52, exponent - 1075),
    }
}

/// The sign and magnitude of a two's complement integer.
fn magnitude<const N: usize>(mut words: [u64; N]) -> (bool, [u64; N]) {
    let negative = (words[N - 1] as i64) < 0;
    if negative {
        negate(&mut words);
    }
    (negative, words)
}

fn negate(words: &mut [u64]) {
    let mut carry = true;
    for word in words {
        (*word, carry) = (!*word).overflowing_add(u64::from(carry));
    }
}

/// The float nearest to `window * 2^base`, where the window's two low words hold it all and the result is a normal float.
#[inline]
fn narrow<const N: usize>(window: [u64; N], base: i32) -> Option<f64> {
    let value = (u128::from(window[1]) << 64 | u128::from(window[0])) as i128;
    let sign = (value >> 127) as u64;
    if value == 0 && window == [0; N] {
        return Some(0.0);
    }
    // `as` rounds to the nearest and even; the power of two is then exact.
    let in_range = (-1000..=800).contains(&base);
    (in_range && window[2.min(N)..].iter().all(|w| *w == sign)).then(|| value as f64 * power_of_two(base))
}

/// `2^exponent`, for an exponent of a normal float.
#[inline]
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    /// A sum as digits of 32 bits with carries left undone, in units of 2^LOWEST.
    #[derive(Clone)]
    struct Model(Vec<i128>);

    impl Model {
        fn new() -> Self {
            Model(vec![0; 140])
        }

        fn add(&mut self, x: f64, diff: i64) {
            let (mantissa, exponent) = parts(x);
            self.add_bits(u128::from(mantissa), exponent, if x < 0.0 { -diff } else { diff });
        }

        fn add_square(&mut self, x: f64, diff: i64) {
            let (mantissa, exponent) = parts(x);
            self.add_bits(u128::from(mantissa) * u128::from(mantissa), 2 * exponent, diff);
        }

        fn add_bits(&mut self, mantissa: u128, exponent: i32, diff: i64) {
            for bit in (0..128).filter(|bit| mantissa >> bit & 1 == 1) {
                let place = (exponent - LOWEST + bit) as usize;
                self.0[place / 32] += i128::from(diff) << (place % 32);
            }
        }

        fn sign(&self) -> Ordering {
            let mut digits = self.0.clone();
            for i in 0..digits.len() - 1 {
                let carry = digits[i].div_euclid(1 << 32);
                digits[i] -= carry << 32;
                digits[i + 1] += carry;
            }
            let top = digits.pop().unwrap_or(0);
            top.cmp(&0).then(if digits.iter().any(|d| *d != 0) { Ordering::Greater } else { Ordering::Equal })
        }

        /// Twice this number less `x` and `y`: its sign says to which of the two it is nearer.
        fn nearer(&self, x: f64, y: f64) -> Ordering {
            let mut double = self.clone();
            double.0.iter_mut().for_each(|d| *d *= 2);
            // Beyond the largest float comes what would be the next power of two.
            for bound in [x, y] {
                if bound.is_infinite() {
                    double.add_bits(1, 1024, if bound > 0.0 { -1 } else { 1 });
                } else {
                    double.add(bound, -1);
                }
            }
            double.sign()
        }

        /// Whether `value` is the nearest float, the even one of two.
        fn rounds_to(&self, value: f64) -> bool {
            let even = value.to_bits() & 1 == 0;
            let below = self.nearer(value.next_down(), value);
            let above = self.nearer(value, value.next_up());
            (below == Ordering::Greater || (even && below == Ordering::Equal) || value == f64::NEG_INFINITY)
                && (above == Ordering::Less || (even && above == Ordering::Equal) || value == f64::INFINITY)
        }
    }

    /// Floats of several kinds: any bits, like data, near the edges.
    fn float(rng: &mut SmallRng, kind: u32) -> f64 {
        let x = match kind {
            0 => f64::from_bits(rng.random()),
            1 => rng.random_range(-1_000_000..1_000_000) as f64 / 100.0,
            2 => f64::from_bits(rng.random_range(0..1u64 << 54)),
            3 => f64::MAX * if rng.random() { 1.0 } else { -1.0 },
            4 => rng.random_range(-30..30) as f64,
            5 => 2f64.powi(rng.random_range(-1074..1024)),
            _ => rng.random_range(-1.0..1.0) * 2f64.powi(rng.random_range(-60..60)),
        };
        if x.is_finite() { x } else { 1.5 }
    }

    #[test]
    fn a_sum_is_the_rounded_sum_of_what_is_left() {
        for seed in 0..300u64 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let kinds: Vec<u32> = (0..rng.random_range(1..4)).map(|_| rng.random_range(0..7)).collect();
            let (mut sum, mut squares) = (ExactSum::default(), ExactSquares::default());
            let (mut other, mut other_squares) = (ExactSum::default(), ExactSquares::default());
            let (mut model, mut square_model) = (Model::new(), Model::new());
            let mut left = Vec::new();
            for _ in 0..rng.random_range(1..60) {
                let kind = kinds[rng.random_range(0..kinds.len())];
                let x = float(&mut rng, kind);
                let diff = match rng.random_range(0..8) {
                    0 => i64::MAX,
                    1 => -3,
                    2 => rng.random_range(-1 << 40..1 << 40),
                    _ => 1,
                };
                left.push((x, diff));
                model.add(x, diff);
                square_model.add_square(x, diff);
                if rng.random_bool(0.2) {
                    other.add(x, diff);
                    other_squares.add_square(x, diff);
                } else {
                    sum.add(x, diff);
                    squares.add_square(x, diff);
                }
                let (mut all, mut all_squares) = (sum.clone(), squares.clone());
                all.merge(&other);
                all_squares.merge(&other_squares);
                assert!(model.rounds_to(all.value()), "seed {seed}: {left:?} gave {:e}", all.value());
                assert!(square_model.rounds_to(all_squares.value()), "seed {seed}: squares of {left:?}");
                assert_eq!(all.is_empty(), model.sign() == Ordering::Equal);
            }
            sum.merge(&other);
            squares.merge(&other_squares);
            let mut saved = Vec::new();
            sum.save(&mut saved);
            squares.save(&mut saved);
            let mut bytes = &saved[..];
            let (loaded, loaded_squares) =
                (ExactSum::load(&mut bytes).unwrap(), ExactSquares::load(&mut bytes).unwrap());
            assert!(bytes.is_empty());
            assert_eq!(loaded.value().to_bits(), sum.value().to_bits());
            assert_eq!(loaded_squares.value().to_bits(), squares.value().to_bits());
            let (mut sum, mut squares) = (loaded, loaded_squares);
            for (x, diff) in left.into_iter().rev() {
                sum.add(x, -diff);
                squares.add_square(x, -diff);
            }
            assert!(sum.is_empty() && squares.is_empty(), "seed {seed}");
            assert!(sum.value() == 0.0 && sum.value().is_sign_positive());
        }
    }

    #[test]
    fn what_is_not_a_number_leaves_without_trace() {
        let mut sum = ExactSum::default();
        sum.add(0.1, 1);
        sum.add(-0.0, 1);
        for (x, expected) in
            [(f64::INFINITY, f64::INFINITY), (f64::NEG_INFINITY, f64::NEG_INFINITY), (f64::NAN, f64::NAN)]
        {
            sum.add(x, 2);
            assert_eq!(sum.value().to_bits() << 12 >> 12, expected.to_bits() << 12 >> 12);
            assert_eq!(sum.value() > 0.0, expected > 0.0);
            assert!(!sum.is_empty());
            sum.add(x, -2);
            assert_eq!(sum.value(), 0.1);
        }
        sum.add(f64::INFINITY, 1);
        sum.add(f64::NEG_INFINITY, 1);
        assert!(sum.value().is_nan());
        let mut squares = ExactSquares::default();
        squares.add_square(f64::NEG_INFINITY, 1);
        assert_eq!(squares.value(), f64::INFINITY);
    }

    /// What is saved rests on these bytes: they never change.
    #[test]
    fn what_is_saved_never_changes() {
        let saved = |values: &[(f64, i64)]| {
            let mut sum = ExactSum::default();
            values.iter().for_each(|(x, diff)| sum.add(*x, *diff));
            let mut out = Vec::new();
            sum.save(&mut out);
            let again = ExactSum::load(&mut &out[..]).unwrap();
            assert!(again.value() == sum.value() || again.value().is_nan());
            out
        };
        assert_eq!(saved(&[]), [0]);
        assert_eq!(saved(&[(0.5, 1)]), [8, 177, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(saved(&[(-3.0, 2)]), [10, 173, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0]);
        let wide = [
            9, 152, 14, 0, 0, 0, 0, 192, 89, 7, 128, 200, 67, 126, 1, 0, 0, 0, 0, // a window of 1e300
            1, 4, 0, 32, 2, 0, 0, 0, 0, 0, 160, 153, 153, 153, 153, 153, 153, 1, 0, 0, 0, // and the rest
        ];
        assert_eq!(saved(&[(1e300, 1), (0.1, 1), (f64::NAN, -1), (f64::INFINITY, 2)]), wide);
    }

    #[test]
    fn sums_out_of_range_are_infinite_until_they_come_back() {
        let mut sum = ExactSum::default();
        sum.add(f64::MAX, 2);
        assert_eq!(sum.value(), f64::INFINITY);
        sum.add(f64::MAX, -1);
        assert_eq!(sum.value(), f64::MAX);
        assert!(sum.heap_size() < 500);
    }

    #[test]
    fn a_variance_does_not_cancel() {
        let (mut sum, mut squares) = (ExactSum::default(), ExactSquares::default());
        for x in [1e15, 1e15 + 1.0, 1e15 + 2.0] {
            sum.add(x, 1);
            squares.add_square(x, 1);
        }
        assert_eq!(scaled_variance(3, &sum, &squares) / 9.0, 2.0 / 3.0);
    }
}
