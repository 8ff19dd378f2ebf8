//! The aggregates of a reduction over Arrow columns, one accumulator of each for every group.
//!
//! Everything is exact under retraction (semantics 20): integer and decimal sums are wider than their type and
//! range-checked on output, so that an overflow heals; float sums are rounded once. `min` and `max` keep an ordered
//! multiset, or just the extreme where the plan says that no row is retracted. A distinct aggregate feeds each value once.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, make_comparator};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, SchemaRef};
use headwater_operators::accumulate::{Accumulators, Evaluated};
use headwater_operators::saved::Place;
use headwater_operators::varint;

use crate::columns::{Columns, sound};
use crate::plan::{Aggregate, AggregateFunction};

mod combine;
mod distinct;
mod extreme;
mod numbers;

pub(super) use combine::CombineSums;
use distinct::Distinct;

/// One aggregate of all groups.
trait Accumulator: 'static {
    /// There are groups `0..groups`; new ones are empty.
    fn reserve(&mut self, groups: usize);

    /// Adds `diffs[i]` copies of the argument at `rows[i]`, never NULL, to group `groups[i]`.
    fn update(&mut self, argument: Option<&ArrayRef>, groups: &[u32], rows: &[u32], diffs: &[i64]);

    /// The result of each of `groups`; failures are NULL, and given with their place in the list.
    fn evaluate(&mut self, groups: &[u32], fail: &mut dyn FnMut(usize, String)) -> ArrayRef;

    /// Whether nothing is left in a group.
    fn is_empty(&self, group: u32) -> bool;

    /// These groups are empty again.
    fn clear(&mut self, groups: &[u32]);

    /// Appends what there is to save of a group, but for its values.
    fn save(&self, group: u32, out: &mut Vec<u8>);

    /// Adds what was saved to an empty group; none where the bytes are no such thing.
    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()>;

    /// Gives the values that groups keep, about `limit` from a place on; true when there are no more.
    fn save_values(&self, _from: &mut Place, _limit: usize, _give: &mut dyn FnMut(u32, &[u8])) -> bool {
        true
    }

    /// Adds a value to a group; none where the bytes are no value.
    fn load_value(&mut self, _group: u32, _bytes: &[u8]) -> Option<()> {
        None
    }

    /// Bytes held.
    fn bytes(&self) -> usize;
}

/// What is prepared of the input for the accumulators: it crosses the exchange.
#[derive(Clone, Debug, PartialEq)]
enum Prepared {
    /// A column, as this type.
    Column(usize, DataType),
    /// Whether the row counts: its argument is not NULL and its filter is true.
    Counts { argument: Option<usize>, filter: Option<usize> },
}

/// How an aggregate is computed from prepared columns.
#[derive(Clone, Debug)]
struct Spec {
    aggregate: Aggregate,
    argument: Option<usize>,
    /// A boolean column that must be true.
    filter: Option<usize>,
    /// The type of the prepared argument.
    argument_type: DataType,
}

/// The aggregates of one reduction: prepares their input and makes their accumulators.
#[derive(Clone, Debug)]
pub(super) struct Blueprint {
    prepared: Vec<Prepared>,
    specs: Vec<Spec>,
    append_only: bool,
}

impl Blueprint {
    /// `append_only` says that no input row is ever retracted.
    pub(super) fn new(aggregates: &[Aggregate], input: &SchemaRef, append_only: bool) -> Self {
        let mut prepared: Vec<Prepared> = Vec::new();
        let mut place = |wanted: Prepared| match prepared.iter().position(|p| *p == wanted) {
            Some(place) => place,
            None => {
                prepared.push(wanted);
                prepared.len() - 1
            }
        };
        let specs = aggregates
            .iter()
            .map(|aggregate| {
                let aggregate = aggregate.clone();
                if aggregate.function == AggregateFunction::Count && !aggregate.distinct {
                    let argument = aggregate.argument.filter(|&a| input.field(a).is_nullable());
                    let counts = Prepared::Counts { argument, filter: aggregate.filter };
                    let filter = (argument.is_some() || aggregate.filter.is_some()).then(|| place(counts));
                    return Spec { aggregate, argument: None, filter, argument_type: DataType::Null };
                }
                let argument_type = match aggregate.argument {
                    Some(a) => numbers::prepared_type(aggregate.function, input.field(a).data_type()),
                    None => DataType::Null,
                };
                let argument = aggregate.argument.map(|a| place(Prepared::Column(a, argument_type.clone())));
                let filter =
                    aggregate.filter.map(|_| place(Prepared::Counts { argument: None, filter: aggregate.filter }));
                Spec { aggregate, argument, filter, argument_type }
            })
            .collect();
        Blueprint { prepared, specs, append_only }
    }

    /// The columns that the accumulators take.
    pub(super) fn prepare(&self, columns: &Columns) -> Columns {
        let arrays = self.prepared.iter().map(|prepared| match prepared {
            Prepared::Column(column, t) => {
                let array = &columns.arrays[*column];
                if array.data_type() == t { array.clone() } else { sound(cast(array, t)) }
            }
            Prepared::Counts { argument, filter } => {
                let mut counts = BooleanBuffer::new_set(columns.rows);
                if let Some(nulls) = argument.and_then(|a| columns.arrays[a].logical_nulls()) {
                    counts = nulls.into_inner();
                }
                if let Some(filter) = filter {
                    let filter = columns.arrays[*filter].as_boolean();
                    counts = &counts & filter.values();
                    if let Some(nulls) = filter.nulls() {
                        counts = &counts & nulls.inner();
                    }
                }
                std::sync::Arc::new(BooleanArray::new(counts, None))
            }
        });
        Columns { arrays: arrays.collect(), rows: columns.rows }
    }

    /// Whether all aggregates count rows or add up whole numbers, so that equal keys can be added up beforehand.
    pub(super) fn adds_up(&self) -> bool {
        use AggregateFunction::{Avg, Count, Sum};
        self.specs.iter().all(|Spec { aggregate, argument_type, .. }| match aggregate.function {
            _ if aggregate.distinct => false,
            Count => true,
            Sum | Avg => matches!(argument_type, DataType::Int64 | DataType::UInt64),
            _ => false,
        })
    }

    /// Where all that is taken of a row is whether some of its columns are NULL: these columns, as they are prepared.
    pub(super) fn counted(&self) -> Option<Vec<usize>> {
        let column = |prepared: &Prepared| match prepared {
            Prepared::Counts { argument, filter: None } => *argument,
            _ => None,
        };
        self.prepared.iter().map(column).collect()
    }

    /// Empty accumulators.
    pub(super) fn make(&self) -> ArrowAccumulators {
        let aggregates = self.specs.iter().map(|spec| One {
            argument: spec.argument,
            filter: spec.filter,
            name: spec.aggregate.name.clone(),
            or_null: spec.aggregate.or_null,
            accumulator: self.accumulator(spec),
        });
        ArrowAccumulators { aggregates: aggregates.collect(), groups: Vec::new(), rows: Vec::new(), diffs: Vec::new() }
    }

    fn accumulator(&self, spec: &Spec) -> Box<dyn Accumulator> {
        let Spec { aggregate, argument_type, .. } = spec;
        // A distinct minimum is the minimum.
        let extreme = match aggregate.function {
            AggregateFunction::Min => Some(false),
            AggregateFunction::Max => Some(true),
            _ => None,
        };
        if let Some(greatest) = extreme {
            return extreme::accumulator(greatest, self.append_only, argument_type, &aggregate.output);
        }
        let plain = numbers::accumulator(aggregate, argument_type);
        if aggregate.distinct { Box::new(Distinct::new(plain, argument_type)) } else { plain }
    }
}

struct One {
    argument: Option<usize>,
    filter: Option<usize>,
    name: String,
    /// Whether a result that can't be computed is NULL.
    or_null: bool,
    accumulator: Box<dyn Accumulator>,
}

/// All aggregates of a reduction.
pub(super) struct ArrowAccumulators {
    aggregates: Vec<One>,
    /// The rows that one aggregate takes, where it doesn't take all.
    groups: Vec<u32>,
    rows: Vec<u32>,
    diffs: Vec<i64>,
}

/// Separates the aggregate's name from the message of a failure.
const SEPARATOR: char = '\n';

/// The expression and the message of a failed evaluation.
pub(super) fn failure(text: &str) -> (String, String) {
    let (name, message) = text.split_once(SEPARATOR).unwrap_or(("", text));
    (name.to_string(), message.to_string())
}

impl Accumulators for ArrowAccumulators {
    type Input = Columns;
    type Output = Columns;

    fn reserve(&mut self, groups: usize) {
        self.aggregates.iter_mut().for_each(|a| a.accumulator.reserve(groups));
    }

    fn update(&mut self, groups: &[u32], input: &Columns, rows: &[u32], diffs: &[i64]) {
        for aggregate in &mut self.aggregates {
            let argument = aggregate.argument.map(|a| &input.arrays[a]);
            let nulls = argument.and_then(|a| a.logical_nulls()).filter(|n| n.null_count() > 0);
            let filter = aggregate.filter.map(|f| input.arrays[f].as_boolean());
            if nulls.is_none() && filter.is_none_or(|f| f.true_count() == f.len()) {
                aggregate.accumulator.update(argument, groups, rows, diffs);
                continue;
            }
            self.groups.clear();
            self.rows.clear();
            self.diffs.clear();
            for ((&group, &row), &diff) in groups.iter().zip(rows).zip(diffs) {
                let index = row as usize;
                if nulls.as_ref().is_none_or(|n| n.is_valid(index)) && filter.is_none_or(|f| f.value(index)) {
                    self.groups.push(group);
                    self.rows.push(row);
                    self.diffs.push(diff);
                }
            }
            aggregate.accumulator.update(argument, &self.groups, &self.rows, &self.diffs);
        }
    }

    fn evaluate(&mut self, groups: &[u32]) -> Evaluated<Columns> {
        let mut failures: Vec<(u32, String)> = Vec::new();
        let arrays = self.aggregates.iter_mut().map(|One { accumulator, name, or_null, .. }| {
            accumulator.evaluate(groups, &mut |place, message| {
                if !*or_null {
                    failures.push((place as u32, format!("{name}{SEPARATOR}{message}")));
                }
            })
        });
        let output = Columns { arrays: arrays.collect(), rows: groups.len() };
        // The first aggregate that fails speaks for its group.
        failures.sort_by_key(|(place, _)| *place);
        failures.dedup_by_key(|(place, _)| *place);
        Evaluated { output, failures }
    }

    fn changed(old: &Columns, new: &Columns, changed: &mut Vec<bool>) {
        let base = changed.len();
        changed.resize(base + old.rows, false);
        for (old, new) in old.arrays.iter().zip(&new.arrays) {
            let compare = sound(make_comparator(old, new, SortOptions::default()));
            for (row, changed) in changed[base..].iter_mut().enumerate() {
                *changed = *changed || compare(row, row).is_ne();
            }
        }
    }

    fn is_empty(&self, group: u32) -> bool {
        self.aggregates.iter().all(|a| a.accumulator.is_empty(group))
    }

    fn clear(&mut self, groups: &[u32]) {
        self.aggregates.iter_mut().for_each(|a| a.accumulator.clear(groups));
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        self.aggregates.iter().for_each(|a| a.accumulator.save(group, out));
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()> {
        self.aggregates.iter_mut().try_for_each(|a| a.accumulator.load(group, bytes))
    }

    fn save_values(&self, from: &mut Place, limit: usize, give: &mut dyn FnMut(u32, &[u8])) -> bool {
        let mut saved = Vec::new();
        let mut given = 0;
        while let Some(aggregate) = self.aggregates.get(from.part) {
            let part = from.part;
            let done = aggregate.accumulator.save_values(from, limit.saturating_sub(given), &mut |group, value| {
                saved.clear();
                varint::put(&mut saved, part as u64);
                saved.extend_from_slice(value);
                given += 1;
                give(group, &saved);
            });
            if !done {
                return false;
            }
            *from = Place { part: part + 1, ..Place::default() };
        }
        true
    }

    fn load_value(&mut self, group: u32, mut bytes: &[u8]) -> Option<()> {
        let part = usize::try_from(varint::take(&mut bytes)?).ok()?;
        self.aggregates.get_mut(part)?.accumulator.load_value(group, bytes)
    }

    fn bytes(&self) -> usize {
        self.aggregates.iter().map(|a| a.accumulator.bytes()).sum()
    }
}

#[cfg(test)]
mod tests;
