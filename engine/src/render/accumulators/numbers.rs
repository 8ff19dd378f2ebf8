//! Counts, sums, means, variances, and the logical aggregates.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array, Int64Array, PrimitiveArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Float64Type, Int64Type,
    UInt64Type, i256,
};
use headwater_operators::exact_sum::{ExactSquares, ExactSum, scaled_variance};
use headwater_operators::{grow, varint};

use super::Accumulator;
use crate::columns::sound;
use crate::plan::{Aggregate, AggregateFunction};

/// The type in which an argument reaches its accumulator: a few wide ones stand for all.
pub(super) fn prepared_type(function: AggregateFunction, argument: &DataType) -> DataType {
    use AggregateFunction::{
        Avg, BoolAnd, BoolOr, Count, Max, Min, StddevPopulation, StddevSample, Sum, VarPopulation, VarSample,
    };
    let argument = match argument {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    match function {
        Count | Min | Max => argument.clone(),
        BoolAnd | BoolOr => DataType::Boolean,
        VarSample | VarPopulation | StddevSample | StddevPopulation => DataType::Float64,
        Sum | Avg => match argument {
            t if t.is_signed_integer() => DataType::Int64,
            t if t.is_unsigned_integer() => DataType::UInt64,
            DataType::Duration(_) => DataType::Int64,
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => {
                DataType::Decimal128(*p, *s)
            }
            DataType::Decimal256(p, s) => DataType::Decimal256(*p, *s),
            _ => DataType::Float64,
        },
    }
}

/// The accumulator of an aggregate that is neither `min` nor `max`, for an argument of its prepared type.
pub(super) fn accumulator(aggregate: &Aggregate, argument: &DataType) -> Box<dyn Accumulator> {
    use AggregateFunction::{
        Avg, BoolAnd, BoolOr, Count, Max, Min, StddevPopulation, StddevSample, Sum, VarPopulation, VarSample,
    };
    let output = aggregate.output.clone();
    match aggregate.function {
        Count | Min | Max => Box::new(Counts::default()),
        BoolAnd => Box::new(Bools { or: false, trues: Vec::new(), falses: Vec::new() }),
        BoolOr => Box::new(Bools { or: true, trues: Vec::new(), falses: Vec::new() }),
        VarSample => Box::new(Variances::new(1, false)),
        VarPopulation => Box::new(Variances::new(0, false)),
        StddevSample => Box::new(Variances::new(1, true)),
        StddevPopulation => Box::new(Variances::new(0, true)),
        Sum | Avg => {
            let mean = aggregate.function == Avg;
            match argument {
                DataType::Int64 => Box::new(Integers::<Int64Type>::new(mean, output)),
                DataType::UInt64 => Box::new(Integers::<UInt64Type>::new(mean, output)),
                DataType::Decimal128(_, scale) => Box::new(Decimals::<Decimal128Type>::new(mean, *scale, output)),
                DataType::Decimal256(_, scale) => Box::new(Decimals::<Decimal256Type>::new(mean, *scale, output)),
                _ => Box::new(Floats { mean, output, counts: Vec::new(), sums: Vec::new() }),
            }
        }
    }
}

/// `count`: how many rows.
#[derive(Default)]
struct Counts {
    counts: Vec<i64>,
}

impl Accumulator for Counts {
    fn reserve(&mut self, groups: usize) {
        grow::extend(&mut self.counts, groups, 0);
    }

    fn update(&mut self, _argument: Option<&ArrayRef>, groups: &[u32], _rows: &[u32], diffs: &[i64]) {
        for (&group, &diff) in groups.iter().zip(diffs) {
            self.counts[group as usize] += diff;
        }
    }

    fn evaluate(&mut self, groups: &[u32], _fail: &mut dyn FnMut(usize, String)) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(groups.iter().map(|&g| self.counts[g as usize])))
    }

    fn is_empty(&self, group: u32) -> bool {
        self.counts[group as usize] == 0
    }

    fn clear(&mut self, groups: &[u32]) {
        groups.iter().for_each(|&g| self.counts[g as usize] = 0);
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        varint::put_signed(out, self.counts[group as usize]);
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()> {
        self.counts[group as usize] += varint::take_signed(bytes)?;
        Some(())
    }

    fn bytes(&self) -> usize {
        8 * self.counts.capacity()
    }
}

/// `sum` and `avg` of integers: exact in 128 bits.
struct Integers<T> {
    mean: bool,
    output: DataType,
    counts: Vec<i64>,
    sums: Vec<i128>,
    argument: std::marker::PhantomData<T>,
}

impl<T> Integers<T> {
    fn new(mean: bool, output: DataType) -> Self {
        Integers { mean, output, counts: Vec::new(), sums: Vec::new(), argument: std::marker::PhantomData }
    }
}

impl<T: ArrowPrimitiveType<Native: Into<i128>>> Accumulator for Integers<T> {
    fn reserve(&mut self, groups: usize) {
        grow::extend(&mut self.counts, groups, 0);
        grow::extend(&mut self.sums, groups, 0);
    }

    fn update(&mut self, argument: Option<&ArrayRef>, groups: &[u32], rows: &[u32], diffs: &[i64]) {
        let Some(argument) = argument else { return };
        let values = argument.as_primitive::<T>().values();
        for ((&group, &row), &diff) in groups.iter().zip(rows).zip(diffs) {
            self.counts[group as usize] += diff;
            let value: i128 = values[row as usize].into();
            self.sums[group as usize] += value * i128::from(diff);
        }
    }

    fn evaluate(&mut self, groups: &[u32], fail: &mut dyn FnMut(usize, String)) -> ArrayRef {
        let states = groups.iter().map(|&g| (self.counts[g as usize], self.sums[g as usize]));
        let results: ArrayRef = if self.mean && self.output == DataType::Float64 {
            let means = states.map(|(count, sum)| (count != 0).then(|| sum as f64 / count as f64));
            return Arc::new(means.collect::<Float64Array>());
        } else {
            // A mean in a type of whole numbers is a duration's.
            let values = states.map(|(count, sum)| match (count, self.mean) {
                (0, _) => None,
                (count, true) => Some(sum / i128::from(count)),
                (_, false) => Some(sum),
            });
            match &self.output {
                DataType::UInt64 => Arc::new(in_range::<UInt64Type>(values, &self.output, fail)),
                _ => Arc::new(in_range::<Int64Type>(values, &self.output, fail)),
            }
        };
        if results.data_type() == &self.output { results } else { sound(cast(&results, &self.output)) }
    }

    fn is_empty(&self, group: u32) -> bool {
        self.counts[group as usize] == 0 && self.sums[group as usize] == 0
    }

    fn clear(&mut self, groups: &[u32]) {
        for &group in groups {
            self.counts[group as usize] = 0;
            self.sums[group as usize] = 0;
        }
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        varint::put_signed(out, self.counts[group as usize]);
        varint::put_wide_signed(out, self.sums[group as usize]);
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()> {
        self.counts[group as usize] += varint::take_signed(bytes)?;
        self.sums[group as usize] += varint::take_wide_signed(bytes)?;
        Some(())
    }

    fn bytes(&self) -> usize {
        8 * self.counts.capacity() + 16 * self.sums.capacity()
    }
}

fn in_range<T: ArrowPrimitiveType<Native: TryFrom<i128>>>(
    values: impl Iterator<Item = Option<i128>>,
    output: &DataType,
    fail: &mut dyn FnMut(usize, String),
) -> PrimitiveArray<T> {
    let checked = values.enumerate().map(|(place, value)| {
        let value = value?;
        let fits = T::Native::try_from(value).ok();
        if fits.is_none() {
            fail(place, format!("overflow: {value} is out of the range of {output}"));
        }
        fits
    });
    checked.collect()
}

/// `sum` and `avg` of decimals: exact in 256 bits.
struct Decimals<T> {
    mean: bool,
    /// Of the argument.
    scale: i8,
    output: DataType,
    counts: Vec<i64>,
    sums: Vec<i256>,
    argument: std::marker::PhantomData<T>,
}

impl<T> Decimals<T> {
    fn new(mean: bool, scale: i8, output: DataType) -> Self {
        Decimals { mean, scale, output, counts: Vec::new(), sums: Vec::new(), argument: std::marker::PhantomData }
    }

    /// The result in units of the output's scale, rounded towards zero as DataFusion does; `None` where it exceeds 256 bits.
    fn result(&self, count: i64, sum: i256, scale: i8) -> Option<i256> {
        let sum = match scale - self.scale {
            0 => sum,
            up @ 1.. => sum.checked_mul(i256::from_i128(10).checked_pow(u32::from(up.unsigned_abs()))?)?,
            down => sum.checked_div(i256::from_i128(10).checked_pow(u32::from(down.unsigned_abs()))?)?,
        };
        if self.mean { sum.checked_div(i256::from(count)) } else { Some(sum) }
    }

    fn decimals<O: DecimalType>(
        &self,
        groups: &[u32],
        (precision, scale): (u8, i8),
        narrow: impl Fn(i256) -> Option<O::Native>,
        fail: &mut dyn FnMut(usize, String),
    ) -> ArrayRef {
        let results = groups.iter().enumerate().map(|(place, &group)| {
            let (count, sum) = (self.counts[group as usize], self.sums[group as usize]);
            if count == 0 {
                return None;
            }
            let fits = self
                .result(count, sum, scale)
                .and_then(&narrow)
                .filter(|&v| O::validate_decimal_precision(v, precision, scale).is_ok());
            if fits.is_none() {
                fail(place, format!("overflow: the result is out of the range of {}", self.output));
            }
            fits
        });
        Arc::new(results.collect::<PrimitiveArray<O>>().with_data_type(self.output.clone()))
    }
}

impl<T: ArrowPrimitiveType<Native: Into<i256>>> Accumulator for Decimals<T> {
    fn reserve(&mut self, groups: usize) {
        grow::extend(&mut self.counts, groups, 0);
        grow::extend(&mut self.sums, groups, i256::ZERO);
    }

    fn update(&mut self, argument: Option<&ArrayRef>, groups: &[u32], rows: &[u32], diffs: &[i64]) {
        let Some(argument) = argument else { return };
        let values = argument.as_primitive::<T>().values();
        for ((&group, &row), &diff) in groups.iter().zip(rows).zip(diffs) {
            self.counts[group as usize] += diff;
            let value: i256 = values[row as usize].into();
            let sum = &mut self.sums[group as usize];
            *sum = match diff {
                1 => sum.wrapping_add(value),
                -1 => sum.wrapping_sub(value),
                _ => sum.wrapping_add(value.wrapping_mul(i256::from(diff))),
            };
        }
    }

    fn evaluate(&mut self, groups: &[u32], fail: &mut dyn FnMut(usize, String)) -> ArrayRef {
        match self.output {
            DataType::Decimal32(p, s) => {
                let narrow = |v: i256| v.to_i128().and_then(|v| i32::try_from(v).ok());
                self.decimals::<Decimal32Type>(groups, (p, s), narrow, fail)
            }
            DataType::Decimal64(p, s) => {
                let narrow = |v: i256| v.to_i128().and_then(|v| i64::try_from(v).ok());
                self.decimals::<Decimal64Type>(groups, (p, s), narrow, fail)
            }
            DataType::Decimal128(p, s) => self.decimals::<Decimal128Type>(groups, (p, s), |v| v.to_i128(), fail),
            DataType::Decimal256(p, s) => self.decimals::<Decimal256Type>(groups, (p, s), Some, fail),
            _ => {
                let unit = 10f64.powi(i32::from(self.scale));
                let results = groups.iter().map(|&g| {
                    let (count, sum) = (self.counts[g as usize], self.sums[g as usize].to_string());
                    let sum = sum.parse::<f64>().unwrap_or(f64::NAN) / unit;
                    (count != 0).then(|| if self.mean { sum / count as f64 } else { sum })
                });
                Arc::new(results.collect::<Float64Array>())
            }
        }
    }

    fn is_empty(&self, group: u32) -> bool {
        self.counts[group as usize] == 0 && self.sums[group as usize] == i256::ZERO
    }

    fn clear(&mut self, groups: &[u32]) {
        for &group in groups {
            self.counts[group as usize] = 0;
            self.sums[group as usize] = i256::ZERO;
        }
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        varint::put_signed(out, self.counts[group as usize]);
        // The sum without what only repeats its sign.
        let sum = self.sums[group as usize];
        let bytes = sum.to_le_bytes();
        let sign = if sum < i256::ZERO { 0xff } else { 0 };
        let length = 32 - bytes.iter().rev().take_while(|byte| **byte == sign).count();
        out.push((length as u8) << 1 | (sign & 1));
        out.extend_from_slice(&bytes[..length]);
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()> {
        self.counts[group as usize] += varint::take_signed(bytes)?;
        let (&head, rest) = bytes.split_first()?;
        let (saved, rest) = rest.split_at_checked(usize::from(head >> 1))?;
        *bytes = rest;
        let mut whole = [if head & 1 == 1 { 0xff } else { 0 }; 32];
        whole.get_mut(..saved.len())?.copy_from_slice(saved);
        let sum = &mut self.sums[group as usize];
        *sum = sum.wrapping_add(i256::from_le_bytes(whole));
        Some(())
    }

    fn bytes(&self) -> usize {
        8 * self.counts.capacity() + 32 * self.sums.capacity()
    }
}

/// `sum` and `avg` of floats, rounded once.
struct Floats {
    mean: bool,
    output: DataType,
    counts: Vec<i64>,
    sums: Vec<ExactSum>,
}

impl Accumulator for Floats {
    fn reserve(&mut self, groups: usize) {
        grow::extend(&mut self.counts, groups, 0);
        grow::extend(&mut self.sums, groups, ExactSum::default());
    }

    fn update(&mut self, argument: Option<&ArrayRef>, groups: &[u32], rows: &[u32], diffs: &[i64]) {
        let Some(argument) = argument else { return };
        let values = argument.as_primitive::<Float64Type>().values();
        for ((&group, &row), &diff) in groups.iter().zip(rows).zip(diffs) {
            self.counts[group as usize] += diff;
            self.sums[group as usize].add(values[row as usize], diff);
        }
    }

    fn evaluate(&mut self, groups: &[u32], _fail: &mut dyn FnMut(usize, String)) -> ArrayRef {
        let results = groups.iter().map(|&group| {
            let count = self.counts[group as usize];
            (count != 0).then(|| {
                let sum = self.sums[group as usize].value();
                if self.mean { sum / count as f64 } else { sum }
            })
        });
        let results: ArrayRef = Arc::new(results.collect::<Float64Array>());
        if self.output == DataType::Float64 { results } else { sound(cast(&results, &self.output)) }
    }

    fn is_empty(&self, group: u32) -> bool {
        self.counts[group as usize] == 0 && self.sums[group as usize].is_empty()
    }

    fn clear(&mut self, groups: &[u32]) {
        for &group in groups {
            self.counts[group as usize] = 0;
            self.sums[group as usize] = ExactSum::default();
        }
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        varint::put_signed(out, self.counts[group as usize]);
        self.sums[group as usize].save(out);
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()> {
        self.counts[group as usize] += varint::take_signed(bytes)?;
        self.sums[group as usize].merge(&ExactSum::load(bytes)?);
        Some(())
    }

    fn bytes(&self) -> usize {
        let sums = self.sums.capacity() * size_of::<ExactSum>();
        8 * self.counts.capacity() + sums + self.sums.iter().map(|s| s.heap_size()).sum::<usize>()
    }
}

/// Variance and standard deviation, from exact sums of the values and of their squares.
struct Variances {
    /// 1 for a sample, 0 for the population.
    freedom: i64,
    root: bool,
    counts: Vec<i64>,
    sums: Vec<ExactSum>,
    squares: Vec<ExactSquares>,
}

impl Variances {
    fn new(freedom: i64, root: bool) -> Self {
        Variances { freedom, root, counts: Vec::new(), sums: Vec::new(), squares: Vec::new() }
    }
}

impl Accumulator for Variances {
    fn reserve(&mut self, groups: usize) {
        grow::extend(&mut self.counts, groups, 0);
        grow::extend(&mut self.sums, groups, ExactSum::default());
        grow::extend(&mut self.squares, groups, ExactSquares::default());
    }

    fn update(&mut self, argument: Option<&ArrayRef>, groups: &[u32], rows: &[u32], diffs: &[i64]) {
        let Some(argument) = argument else { return };
        let values = argument.as_primitive::<Float64Type>().values();
        for ((&group, &row), &diff) in groups.iter().zip(rows).zip(diffs) {
            self.counts[group as usize] += diff;
            self.sums[group as usize].add(values[row as usize], diff);
            self.squares[group as usize].add_square(values[row as usize], diff);
        }
    }

    fn evaluate(&mut self, groups: &[u32], _fail: &mut dyn FnMut(usize, String)) -> ArrayRef {
        let results = groups.iter().map(|&group| {
            let group = group as usize;
            let count = self.counts[group];
            (count > self.freedom).then(|| {
                let scaled = scaled_variance(count.unsigned_abs(), &self.sums[group], &self.squares[group]);
                let variance = scaled / count as f64 / (count - self.freedom) as f64;
                if self.root { variance.sqrt() } else { variance }
            })
        });
        Arc::new(results.collect::<Float64Array>())
    }

    fn is_empty(&self, group: u32) -> bool {
        let group = group as usize;
        self.counts[group] == 0 && self.sums[group].is_empty() && self.squares[group].is_empty()
    }

    fn clear(&mut self, groups: &[u32]) {
        for &group in groups {
            self.counts[group as usize] = 0;
            self.sums[group as usize] = ExactSum::default();
            self.squares[group as usize] = ExactSquares::default();
        }
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        varint::put_signed(out, self.counts[group as usize]);
        self.sums[group as usize].save(out);
        self.squares[group as usize].save(out);
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()> {
        self.counts[group as usize] += varint::take_signed(bytes)?;
        self.sums[group as usize].merge(&ExactSum::load(bytes)?);
        self.squares[group as usize].merge(&ExactSquares::load(bytes)?);
        Some(())
    }

    fn bytes(&self) -> usize {
        let sums = self.sums.capacity() * size_of::<ExactSum>();
        let squares = self.squares.capacity() * size_of::<ExactSquares>();
        let heap = self.sums.iter().map(|s| s.heap_size()).sum::<usize>();
        8 * self.counts.capacity() + sums + squares + heap + self.squares.iter().map(|s| s.heap_size()).sum::<usize>()
    }
}

/// `bool_and` and `bool_or`: how many are true and false.
struct Bools {
    or: bool,
    trues: Vec<i64>,
    falses: Vec<i64>,
}

impl Accumulator for Bools {
    fn reserve(&mut self, groups: usize) {
        grow::extend(&mut self.trues, groups, 0);
        grow::extend(&mut self.falses, groups, 0);
    }

    fn update(&mut self, argument: Option<&ArrayRef>, groups: &[u32], rows: &[u32], diffs: &[i64]) {
        let Some(argument) = argument else { return };
        let values = argument.as_boolean();
        for ((&group, &row), &diff) in groups.iter().zip(rows).zip(diffs) {
            let counts = if values.value(row as usize) { &mut self.trues } else { &mut self.falses };
            counts[group as usize] += diff;
        }
    }

    fn evaluate(&mut self, groups: &[u32], _fail: &mut dyn FnMut(usize, String)) -> ArrayRef {
        let results = groups.iter().map(|&group| {
            let (trues, falses) = (self.trues[group as usize], self.falses[group as usize]);
            (trues != 0 || falses != 0).then_some(if self.or { trues > 0 } else { falses <= 0 })
        });
        Arc::new(results.collect::<BooleanArray>())
    }

    fn is_empty(&self, group: u32) -> bool {
        self.trues[group as usize] == 0 && self.falses[group as usize] == 0
    }

    fn clear(&mut self, groups: &[u32]) {
        for &group in groups {
            self.trues[group as usize] = 0;
            self.falses[group as usize] = 0;
        }
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        varint::put_signed(out, self.trues[group as usize]);
        varint::put_signed(out, self.falses[group as usize]);
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()> {
        self.trues[group as usize] += varint::take_signed(bytes)?;
        self.falses[group as usize] += varint::take_signed(bytes)?;
        Some(())
    }

    fn bytes(&self) -> usize {
        8 * (self.trues.capacity() + self.falses.capacity())
    }
}
