//! `min` and `max`.
//!
//! Where rows may be retracted, each group keeps an ordered multiset of its values; where the plan says that none is,
//! just the extreme. Values are order-preserving bytes: of 8 or 16 bytes for numbers and times (floats in their total
//! order: NaN is the greatest), of the order-preserving encoding for everything else.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, UInt32Array};
use arrow::compute::{SortOptions, cast, take};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, UInt64Type};
use headwater_operators::ordered::Ordered as OrderedMultiset;
use headwater_operators::saved::Place;
use headwater_operators::{Rows, grow, varint};

use super::Accumulator;
use crate::columns::sound;
use crate::render::ordered::Ordered;

/// The accumulator of `max` (if `greatest`) or `min`.
pub(super) fn accumulator(
    greatest: bool,
    append_only: bool,
    argument: &DataType,
    output: &DataType,
) -> Box<dyn Accumulator> {
    let types = (argument.clone(), output.clone());
    match wide(argument) {
        Some(t @ DataType::Int64) => numbers::<Int64Type>(greatest, append_only, t, types),
        Some(t @ DataType::UInt64) => numbers::<UInt64Type>(greatest, append_only, t, types),
        Some(t @ DataType::Float64) => numbers::<Float64Type>(greatest, append_only, t, types),
        Some(t) => numbers::<Decimal128Type>(greatest, append_only, t, types),
        None => {
            let rows = sound(Ordered::new([(argument.clone(), SortOptions::default())]));
            boxed(greatest, append_only, Encoded { rows, output: output.clone() })
        }
    }
}

fn numbers<T: ArrowPrimitiveType<Native: Number>>(
    greatest: bool,
    append_only: bool,
    wide: DataType,
    (argument, output): (DataType, DataType),
) -> Box<dyn Accumulator> {
    boxed(greatest, append_only, Numbers::<T> { wide, argument, output, native: std::marker::PhantomData })
}

fn boxed<V: Values>(greatest: bool, append_only: bool, values: V) -> Box<dyn Accumulator> {
    if append_only {
        Box::new(Extreme { greatest, values, groups: Vec::new() })
    } else {
        Box::new(Multiset { greatest, values, all: OrderedMultiset::default() })
    }
}

/// The wide type that numbers of a type are compared in, if there is one.
fn wide(t: &DataType) -> Option<DataType> {
    match t {
        t if t.is_signed_integer() => Some(DataType::Int64),
        t if t.is_unsigned_integer() => Some(DataType::UInt64),
        t if t.is_floating() => Some(DataType::Float64),
        DataType::Timestamp(..)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Duration(_) => Some(DataType::Int64),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => {
            Some(DataType::Decimal128(*p, *s))
        }
        _ => None,
    }
}

/// Casts between `narrow` and its wide type, by the representation.
fn recast(array: &ArrayRef, to: &DataType, narrow: &DataType) -> ArrayRef {
    let half = matches!(narrow, DataType::Date32 | DataType::Time32(TimeUnit::Second | TimeUnit::Millisecond));
    let array = if half { &sound(cast(array, &DataType::Int32)) } else { array };
    if array.data_type() == to { array.clone() } else { sound(cast(array, to)) }
}

/// Values of columns as bytes in their order.
trait Values: 'static {
    /// A value that is kept.
    type Value: AsRef<[u8]> + Clone + for<'a> From<Self::Ref<'a>> + 'static;
    /// A value of a column.
    type Ref<'a>: AsRef<[u8]>;
    /// A column's values, prepared for [`Values::get`].
    type Column;

    fn column(&self, array: &ArrayRef, rows: &[u32]) -> Self::Column;
    /// The value of the row `rows[index]` that [`Values::column`] was given.
    fn get(column: &Self::Column, index: usize, row: u32) -> Self::Ref<'_>;
    fn array<'a>(&self, values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef;
    fn heap_size(value: &Self::Value) -> usize;
    /// A value from its bytes; none where they are too many or too few.
    fn load(bytes: &[u8]) -> Option<Self::Value>;
}

/// A number as bytes in its order.
trait Number: Copy {
    type Bytes: AsRef<[u8]> + Copy + 'static;
    fn bytes(self) -> Self::Bytes;
    fn number(bytes: &[u8]) -> Self;
}

impl Number for u64 {
    type Bytes = [u8; 8];
    #[inline]
    fn bytes(self) -> [u8; 8] {
        self.to_be_bytes()
    }
    #[inline]
    fn number(bytes: &[u8]) -> Self {
        u64::from_be_bytes(bytes.try_into().unwrap_or_default())
    }
}

impl Number for i64 {
    type Bytes = [u8; 8];
    #[inline]
    fn bytes(self) -> [u8; 8] {
        (self as u64 ^ 1 << 63).bytes()
    }
    #[inline]
    fn number(bytes: &[u8]) -> Self {
        (u64::number(bytes) ^ 1 << 63) as i64
    }
}

impl Number for f64 {
    type Bytes = [u8; 8];
    #[inline]
    fn bytes(self) -> [u8; 8] {
        // Negative floats ascend as their bits descend.
        let bits = self.to_bits() as i64;
        (bits ^ ((bits >> 63) as u64 >> 1) as i64).bytes()
    }
    #[inline]
    fn number(bytes: &[u8]) -> Self {
        let bits = i64::number(bytes);
        f64::from_bits((bits ^ ((bits >> 63) as u64 >> 1) as i64) as u64)
    }
}

impl Number for i128 {
    type Bytes = [u8; 16];
    #[inline]
    fn bytes(self) -> [u8; 16] {
        (self as u128 ^ 1 << 127).to_be_bytes()
    }
    #[inline]
    fn number(bytes: &[u8]) -> Self {
        (u128::from_be_bytes(bytes.try_into().unwrap_or_default()) ^ 1 << 127) as i128
    }
}

/// Numbers of the native type of `T`, in which `argument` is represented.
struct Numbers<T> {
    wide: DataType,
    argument: DataType,
    output: DataType,
    native: std::marker::PhantomData<T>,
}

impl<T: ArrowPrimitiveType<Native: Number>> Values for Numbers<T> {
    type Value = <T::Native as Number>::Bytes;
    type Ref<'a> = <T::Native as Number>::Bytes;
    type Column = PrimitiveArray<T>;

    fn column(&self, array: &ArrayRef, _rows: &[u32]) -> PrimitiveArray<T> {
        recast(array, &self.wide, &self.argument).as_primitive::<T>().clone()
    }

    #[inline]
    fn get(column: &PrimitiveArray<T>, _index: usize, row: u32) -> Self::Ref<'_> {
        column.values()[row as usize].bytes()
    }

    fn array<'a>(&self, values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
        let array: PrimitiveArray<T> = values.map(|bytes| bytes.map(T::Native::number)).collect();
        recast(&(Arc::new(array.with_data_type(self.wide.clone())) as ArrayRef), &self.output, &self.output)
    }

    fn heap_size(_value: &Self::Value) -> usize {
        0
    }

    fn load(bytes: &[u8]) -> Option<Self::Value> {
        let value = T::Native::number(bytes).bytes();
        (value.as_ref() == bytes).then_some(value)
    }
}

/// Anything else.
struct Encoded {
    rows: Ordered,
    output: DataType,
}

impl Values for Encoded {
    type Value = Box<[u8]>;
    type Ref<'a> = &'a [u8];
    type Column = Rows;

    fn column(&self, array: &ArrayRef, rows: &[u32]) -> Rows {
        let indices = UInt32Array::from(rows.to_vec());
        self.rows.encode(&[sound(take(array, &indices, None))], rows.len())
    }

    fn get(column: &Rows, index: usize, _row: u32) -> &[u8] {
        column.get(index)
    }

    fn array<'a>(&self, values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
        let array = self.rows.decode(values.map(|bytes| bytes.unwrap_or(self.rows.null()))).swap_remove(0);
        if array.data_type() == &self.output { array } else { sound(cast(&array, &self.output)) }
    }

    fn heap_size(value: &Box<[u8]>) -> usize {
        value.len()
    }

    fn load(bytes: &[u8]) -> Option<Box<[u8]>> {
        Some(bytes.into())
    }
}

/// The extreme of values that never leave.
struct Extreme<V: Values> {
    greatest: bool,
    values: V,
    groups: Vec<Option<V::Value>>,
}

impl<V: Values> Accumulator for Extreme<V> {
    fn reserve(&mut self, groups: usize) {
        grow::extend(&mut self.groups, groups, None);
    }

    fn update(&mut self, argument: Option<&ArrayRef>, groups: &[u32], rows: &[u32], _diffs: &[i64]) {
        let Some(argument) = argument else { return };
        let column = self.values.column(argument, rows);
        for (index, (&group, &row)) in groups.iter().zip(rows).enumerate() {
            let value = V::get(&column, index, row);
            let extreme = &mut self.groups[group as usize];
            let beaten = extreme.as_ref().is_none_or(|extreme| {
                let (value, extreme) = (value.as_ref(), extreme.as_ref());
                if self.greatest { value > extreme } else { value < extreme }
            });
            if beaten {
                *extreme = Some(value.into());
            }
        }
    }

    fn evaluate(&mut self, groups: &[u32], _fail: &mut dyn FnMut(usize, String)) -> ArrayRef {
        self.values.array(groups.iter().map(|&group| self.groups[group as usize].as_ref().map(|v| v.as_ref())))
    }

    fn is_empty(&self, _group: u32) -> bool {
        true
    }

    fn clear(&mut self, groups: &[u32]) {
        groups.iter().for_each(|&group| self.groups[group as usize] = None);
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        match &self.groups[group as usize] {
            None => varint::put(out, 0),
            Some(value) => {
                varint::put(out, value.as_ref().len() as u64 + 1);
                out.extend_from_slice(value.as_ref());
            }
        }
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()> {
        let Some(length) = usize::try_from(varint::take(bytes)?).ok()?.checked_sub(1) else { return Some(()) };
        let (value, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        self.groups[group as usize] = Some(V::load(value)?);
        Some(())
    }

    fn bytes(&self) -> usize {
        let heap: usize = self.groups.iter().flatten().map(V::heap_size).sum();
        self.groups.capacity() * size_of::<Option<V::Value>>() + heap
    }
}

/// All values of each group with their copies.
struct Multiset<V: Values> {
    greatest: bool,
    values: V,
    all: OrderedMultiset,
}

impl<V: Values> Accumulator for Multiset<V> {
    fn reserve(&mut self, _groups: usize) {}

    fn update(&mut self, argument: Option<&ArrayRef>, groups: &[u32], rows: &[u32], diffs: &[i64]) {
        let Some(argument) = argument else { return };
        let column = self.values.column(argument, rows);
        for (index, ((&group, &row), &diff)) in groups.iter().zip(rows).zip(diffs).enumerate() {
            self.all.add(group, V::get(&column, index, row).as_ref(), diff);
        }
    }

    fn evaluate(&mut self, groups: &[u32], _fail: &mut dyn FnMut(usize, String)) -> ArrayRef {
        let extreme = |&group: &u32| {
            let extreme = if self.greatest { self.all.last(group) } else { self.all.first(group) };
            extreme.map(|(value, _)| value)
        };
        self.values.array(groups.iter().map(extreme))
    }

    fn is_empty(&self, group: u32) -> bool {
        !self.all.has(group)
    }

    fn clear(&mut self, groups: &[u32]) {
        groups.iter().for_each(|&group| self.all.clear(group));
    }

    fn save(&self, _group: u32, _out: &mut Vec<u8>) {}

    fn load(&mut self, _group: u32, _bytes: &mut &[u8]) -> Option<()> {
        Some(())
    }

    fn save_values(&self, from: &mut Place, limit: usize, give: &mut dyn FnMut(u32, &[u8])) -> bool {
        self.all.save(from, limit, give)
    }

    fn load_value(&mut self, group: u32, bytes: &[u8]) -> Option<()> {
        self.all.load(group, bytes)
    }

    fn bytes(&self) -> usize {
        self.all.bytes()
    }
}
