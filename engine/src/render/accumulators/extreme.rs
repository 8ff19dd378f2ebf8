//! `min` and `max`.
//!
//! Where rows may be retracted, each group keeps an ordered multiset of its values; where the plan says that none is,
//! just the extreme. Numbers and times are compared as they are (floats in their total order: NaN is the greatest),
//! everything else as bytes of arrow's order-preserving rows.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{ArrowNativeTypeOp, DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, UInt64Type};
use headwater_operators::Rows;

use super::Accumulator;
use crate::columns::sound;
use crate::render::codec::Ordered;

/// The accumulator of `max` (if `greatest`) or `min`.
pub(super) fn accumulator(
    greatest: bool,
    append_only: bool,
    argument: &DataType,
    output: &DataType,
) -> Box<dyn Accumulator> {
    let values = (argument.clone(), output.clone());
    match wide(argument) {
        Some(t @ DataType::Int64) => numbers::<Int64Type>(greatest, append_only, t, values),
        Some(t @ DataType::UInt64) => numbers::<UInt64Type>(greatest, append_only, t, values),
        Some(t @ DataType::Float64) => numbers::<Float64Type>(greatest, append_only, t, values),
        Some(t) => numbers::<Decimal128Type>(greatest, append_only, t, values),
        None => {
            let options = SortOptions { descending: false, nulls_first: true };
            let rows = sound(Ordered::new([(argument.clone(), options)]));
            boxed(greatest, append_only, Encoded { rows, output: output.clone() })
        }
    }
}

fn numbers<T: ArrowPrimitiveType>(
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
        Box::new(Multiset { greatest, values, groups: Vec::new() })
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

/// Casts between a type and its wide one, by the representation.
fn recast(array: &ArrayRef, to: &DataType, narrow: &DataType) -> ArrayRef {
    let half = matches!(narrow, DataType::Date32 | DataType::Time32(TimeUnit::Second | TimeUnit::Millisecond));
    let array = if half { &sound(cast(array, &DataType::Int32)) } else { array };
    if array.data_type() == to { array.clone() } else { sound(cast(array, to)) }
}

/// Values of columns as keys in a total order.
trait Values: 'static {
    type Value: Ord + Clone + 'static;
    /// A column's values, prepared for [`Values::get`].
    type Column;

    fn column(&self, array: &ArrayRef, rows: &[u32]) -> Self::Column;
    /// The value of the row `rows[index]` that [`Values::column`] was given.
    fn get(column: &Self::Column, index: usize, row: u32) -> Self::Value;
    fn array<'a>(&self, values: impl Iterator<Item = Option<&'a Self::Value>>) -> ArrayRef;
    fn heap_size(value: &Self::Value) -> usize;
}

/// Numbers of the native type of `T`, in which `argument` is represented.
struct Numbers<T> {
    wide: DataType,
    argument: DataType,
    output: DataType,
    native: std::marker::PhantomData<T>,
}

/// A native number in its total order.
#[derive(Clone, Copy)]
struct Number<N>(N);

impl<N: ArrowNativeTypeOp> PartialEq for Number<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_eq(other.0)
    }
}
impl<N: ArrowNativeTypeOp> Eq for Number<N> {}
impl<N: ArrowNativeTypeOp> PartialOrd for Number<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<N: ArrowNativeTypeOp> Ord for Number<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.compare(other.0)
    }
}

impl<T: ArrowPrimitiveType> Values for Numbers<T> {
    type Value = Number<T::Native>;
    type Column = PrimitiveArray<T>;

    fn column(&self, array: &ArrayRef, _rows: &[u32]) -> PrimitiveArray<T> {
        recast(array, &self.wide, &self.argument).as_primitive::<T>().clone()
    }

    #[inline]
    fn get(column: &PrimitiveArray<T>, _index: usize, row: u32) -> Number<T::Native> {
        Number(column.values()[row as usize])
    }

    fn array<'a>(&self, values: impl Iterator<Item = Option<&'a Number<T::Native>>>) -> ArrayRef {
        let array: PrimitiveArray<T> = values.map(|v| v.map(|v| v.0)).collect();
        recast(&(Arc::new(array.with_data_type(self.wide.clone())) as ArrayRef), &self.output, &self.output)
    }

    fn heap_size(_value: &Number<T::Native>) -> usize {
        0
    }
}

/// Anything else, as order-preserving bytes.
struct Encoded {
    rows: Ordered,
    output: DataType,
}

impl Values for Encoded {
    type Value = Box<[u8]>;
    type Column = Rows;

    fn column(&self, array: &ArrayRef, rows: &[u32]) -> Rows {
        let rows = arrow::array::UInt32Array::from(rows.to_vec());
        let taken = sound(arrow::compute::take(array, &rows, None));
        self.rows.encode(&[taken], rows.len())
    }

    fn get(column: &Rows, index: usize, _row: u32) -> Box<[u8]> {
        column.get(index).into()
    }

    fn array<'a>(&self, values: impl Iterator<Item = Option<&'a Box<[u8]>>>) -> ArrayRef {
        let null = self.rows.null();
        let array = self.rows.decode(values.map(|v| v.map_or(null, |v| v.as_ref()))).swap_remove(0);
        if array.data_type() == &self.output { array } else { sound(cast(&array, &self.output)) }
    }

    fn heap_size(value: &Box<[u8]>) -> usize {
        value.len()
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
        self.groups.resize(groups, None);
    }

    fn update(&mut self, argument: Option<&ArrayRef>, groups: &[u32], rows: &[u32], _diffs: &[i64]) {
        let Some(argument) = argument else { return };
        let column = self.values.column(argument, rows);
        for (index, (&group, &row)) in groups.iter().zip(rows).enumerate() {
            let value = V::get(&column, index, row);
            let extreme = &mut self.groups[group as usize];
            if extreme.as_ref().is_none_or(|e| if self.greatest { value > *e } else { value < *e }) {
                *extreme = Some(value);
            }
        }
    }

    fn evaluate(&mut self, groups: &[u32], _fail: &mut dyn FnMut(usize, String)) -> ArrayRef {
        self.values.array(groups.iter().map(|&group| self.groups[group as usize].as_ref()))
    }

    fn is_empty(&self, _group: u32) -> bool {
        true
    }

    fn clear(&mut self, groups: &[u32]) {
        groups.iter().for_each(|&group| self.groups[group as usize] = None);
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
    groups: Vec<Bag<V::Value>>,
}

/// A multiset; mostly of one value or none. Copies may be negative for a while, never 0.
enum Bag<K> {
    Empty,
    One(K, i64),
    Many(Box<BTreeMap<K, i64>>),
}

impl<K: Ord> Bag<K> {
    fn add(&mut self, value: K, diff: i64) {
        match self {
            Bag::Empty => *self = Bag::One(value, diff),
            Bag::One(one, copies) if *one == value => {
                *copies += diff;
                if *copies == 0 {
                    *self = Bag::Empty;
                }
            }
            Bag::One(..) => {
                if let Bag::One(one, copies) = std::mem::replace(self, Bag::Empty) {
                    *self = Bag::Many(Box::new([(one, copies), (value, diff)].into()));
                }
            }
            Bag::Many(all) => {
                use std::collections::btree_map::Entry;
                match all.entry(value) {
                    Entry::Vacant(entry) => {
                        entry.insert(diff);
                    }
                    Entry::Occupied(mut entry) => {
                        *entry.get_mut() += diff;
                        if *entry.get() == 0 {
                            entry.remove();
                            if all.is_empty() {
                                *self = Bag::Empty;
                            }
                        }
                    }
                }
            }
        }
    }

    fn extreme(&self, greatest: bool) -> Option<&K> {
        match self {
            Bag::Empty => None,
            Bag::One(value, copies) => (*copies > 0).then_some(value),
            Bag::Many(all) if greatest => all.iter().rev().find(|(_, c)| **c > 0).map(|(v, _)| v),
            Bag::Many(all) => all.iter().find(|(_, c)| **c > 0).map(|(v, _)| v),
        }
    }
}

impl<V: Values> Accumulator for Multiset<V> {
    fn reserve(&mut self, groups: usize) {
        self.groups.resize_with(groups, || Bag::Empty);
    }

    fn update(&mut self, argument: Option<&ArrayRef>, groups: &[u32], rows: &[u32], diffs: &[i64]) {
        let Some(argument) = argument else { return };
        let column = self.values.column(argument, rows);
        for (index, ((&group, &row), &diff)) in groups.iter().zip(rows).zip(diffs).enumerate() {
            self.groups[group as usize].add(V::get(&column, index, row), diff);
        }
    }

    fn evaluate(&mut self, groups: &[u32], _fail: &mut dyn FnMut(usize, String)) -> ArrayRef {
        self.values.array(groups.iter().map(|&group| self.groups[group as usize].extreme(self.greatest)))
    }

    fn is_empty(&self, group: u32) -> bool {
        matches!(self.groups[group as usize], Bag::Empty)
    }

    fn clear(&mut self, groups: &[u32]) {
        groups.iter().for_each(|&group| self.groups[group as usize] = Bag::Empty);
    }

    fn bytes(&self) -> usize {
        let heap = self.groups.iter().map(|bag| match bag {
            Bag::Empty => 0,
            Bag::One(value, _) => V::heap_size(value),
            Bag::Many(all) => {
                let entry = size_of::<(V::Value, i64)>() * 3 / 2;
                all.keys().map(|v| entry + V::heap_size(v)).sum()
            }
        });
        self.groups.capacity() * size_of::<Bag<V::Value>>() + heap.sum::<usize>()
    }
}
