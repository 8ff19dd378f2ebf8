//! What accumulators save means the same to others, whose groups have other numbers.

use std::sync::Arc;

use arrow::array::{BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{Field, Schema};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::plan::AggregateFunction::{self, *};

const GROUPS: u32 = 7;

fn schema() -> SchemaRef {
    let types = [DataType::Int64, DataType::Float64, DataType::Decimal128(20, 2), DataType::Utf8, DataType::Boolean];
    let fields = types.iter().enumerate().map(|(i, t)| Field::new(format!("c{i}"), t.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// All kinds of aggregates over the columns of [`schema`].
fn aggregates() -> Vec<Aggregate> {
    let aggregate = |function: AggregateFunction, argument: usize, distinct: bool, output: DataType| Aggregate {
        function,
        argument: Some(argument),
        filter: None,
        distinct,
        output,
        name: format!("{function:?}({argument})"),
        or_null: false,
    };
    let decimal = DataType::Decimal128(38, 2);
    let mut all = vec![Aggregate { argument: None, ..aggregate(Count, 0, false, DataType::Int64) }];
    for distinct in [false, true] {
        all.extend([
            aggregate(Count, 3, distinct, DataType::Int64),
            aggregate(Sum, 0, distinct, DataType::Int64),
            aggregate(Sum, 1, distinct, DataType::Float64),
            aggregate(Avg, 1, distinct, DataType::Float64),
            aggregate(Sum, 2, distinct, decimal.clone()),
            aggregate(VarSample, 1, distinct, DataType::Float64),
            aggregate(Min, 0, distinct, DataType::Int64),
            aggregate(Max, 3, distinct, DataType::Utf8),
            aggregate(BoolOr, 4, distinct, DataType::Boolean),
        ]);
    }
    all
}

fn columns(rng: &mut StdRng, rows: usize) -> Columns {
    let mut some = |p: f64| rng.random_bool(p);
    let there: Vec<bool> = (0..rows).map(|_| some(0.9)).collect();
    let ints: Int64Array = there.iter().map(|there| there.then(|| rng.random_range(-4..4) * (1 << 40))).collect();
    let floats: Float64Array = ints.iter().map(|int| int.map(|int| 10f64.powi((int >> 40) as i32 * 30))).collect();
    let decimals: Decimal128Array = ints.iter().map(|int| int.map(|int| i128::from(int) << 20)).collect();
    let texts: StringArray = ints.iter().map(|int| int.map(|int| format!("{}\0", int >> 40).repeat(4))).collect();
    let bools: BooleanArray = ints.iter().map(|int| int.map(|int| int > 0)).collect();
    let decimals = decimals.with_data_type(DataType::Decimal128(20, 2));
    let arrays: Vec<ArrayRef> =
        vec![Arc::new(ints), Arc::new(floats), Arc::new(decimals), Arc::new(texts), Arc::new(bools)];
    Columns { arrays, rows }
}

fn evaluate(accumulators: &mut ArrowAccumulators, groups: &[u32]) -> (Vec<ArrayRef>, Vec<bool>) {
    let Evaluated { output, failures } = accumulators.evaluate(groups);
    assert!(failures.is_empty(), "{failures:?}");
    (output.arrays, groups.iter().map(|&group| accumulators.is_empty(group)).collect())
}

#[test]
fn what_is_saved_goes_on_under_other_numbers() {
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let append_only = seed % 3 == 0;
        let blueprint = Blueprint::new(&aggregates(), &schema(), append_only);
        let mut whole = blueprint.make();
        whole.reserve(GROUPS as usize);
        let mut history: Vec<(Columns, Vec<u32>)> = Vec::new();
        let mut step = |rng: &mut StdRng| -> (Columns, Vec<u32>, Vec<i64>) {
            // What came is retracted now and then.
            if !append_only && !history.is_empty() && rng.random_bool(0.4) {
                let (columns, groups) = history.swap_remove(rng.random_range(0..history.len()));
                let diffs = vec![-1; groups.len()];
                return (columns, groups, diffs);
            }
            let rows = rng.random_range(1..30);
            let input = blueprint.prepare(&columns(rng, rows));
            let groups: Vec<u32> = (0..rows).map(|_| rng.random_range(0..GROUPS)).collect();
            history.push((input.clone(), groups.clone()));
            (input, groups, vec![1; rows])
        };
        let apply = |to: &mut ArrowAccumulators, (input, groups, diffs): &(Columns, Vec<u32>, Vec<i64>)| {
            let rows: Vec<u32> = (0..groups.len() as u32).collect();
            to.update(groups, input, &rows, diffs);
        };
        for _ in 0..rng.random_range(0..12) {
            apply(&mut whole, &step(&mut rng));
        }

        let other = |group: u32| (group + 3) % GROUPS;
        let mut again = blueprint.make();
        again.reserve(GROUPS as usize);
        for group in 0..GROUPS {
            let mut saved = Vec::new();
            whole.save(group, &mut saved);
            let mut bytes = &saved[..];
            assert_eq!(again.load(other(group), &mut bytes), Some(()));
            assert!(bytes.is_empty());
            // Too short, it is refused.
            let cut = rng.random_range(0..saved.len());
            assert_eq!(blueprint.made(GROUPS).load(0, &mut &saved[..cut]), None);
        }
        let (mut place, limit) = (Place::default(), rng.random_range(1..9));
        let mut values = Vec::new();
        while !whole.save_values(&mut place, limit, &mut |group, value| values.push((group, value.to_vec()))) {}
        for (group, value) in values {
            assert_eq!(again.load_value(other(group), &value), Some(()));
        }

        let groups: Vec<u32> = (0..GROUPS).collect();
        let others: Vec<u32> = groups.iter().map(|&group| other(group)).collect();
        for _ in 0..6 {
            assert_eq!(evaluate(&mut whole, &groups), evaluate(&mut again, &others), "seed {seed}");
            let (input, groups, diffs) = step(&mut rng);
            apply(&mut whole, &(input.clone(), groups.clone(), diffs.clone()));
            apply(&mut again, &(input, groups.into_iter().map(other).collect(), diffs));
        }
    }
}

impl Blueprint {
    fn made(&self, groups: u32) -> ArrowAccumulators {
        let mut made = self.make();
        made.reserve(groups as usize);
        made
    }
}
