//! The order-preserving encoding against arrow's own order, and its bytes, which never change.

use arrow::array::{
    Date32Array, Decimal128Array, Decimal256Array, DictionaryArray, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int8Array, Int32Array, Int64Array, IntervalDayTimeArray, IntervalMonthDayNanoArray, IntervalYearMonthArray,
    LargeStringArray, ListArray, StringArray, StringViewArray, TimestampMicrosecondArray, UInt64Array, new_null_array,
};
use arrow::datatypes::{Field, Int8Type, Int32Type, IntervalDayTime, IntervalMonthDayNano, i256};
use arrow_row::{RowConverter, SortField};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::render::codec::{Codec, ROW_FORMAT};

fn optional<T>(rng: &mut StdRng, rows: usize, mut value: impl FnMut(&mut StdRng) -> T) -> Vec<Option<T>> {
    (0..rows).map(|_| if rng.random_bool(0.85) { Some(value(rng)) } else { None }).collect()
}

fn text(rng: &mut StdRng) -> String {
    let pieces = ["", "a", "b", "\0", "\u{1}", "ÿ", "longer than eight bytes "];
    (0..rng.random_range(0..4)).map(|_| pieces[rng.random_range(0..pieces.len())]).collect()
}

fn float(rng: &mut StdRng) -> f64 {
    let odd =
        [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN, f64::MIN_POSITIVE, 1.5, -1.5];
    odd[rng.random_range(0..odd.len())]
}

fn int(rng: &mut StdRng) -> i64 {
    [i64::MIN, -1, 0, 1, i64::MAX, rng.random()][rng.random_range(0..6)]
}

fn list_of(rng: &mut StdRng, rows: usize, element: impl FnOnce(&mut StdRng, usize) -> ArrayRef) -> ArrayRef {
    let lengths: Vec<usize> = (0..rows).map(|_| rng.random_range(0..4)).collect();
    let nulls = NullBuffer::from((0..rows).map(|_| rng.random_bool(0.8)).collect::<Vec<_>>());
    let values = element(rng, lengths.iter().sum());
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), values, Some(nulls)))
}

fn struct_of(rng: &mut StdRng, columns: Vec<ArrayRef>) -> ArrayRef {
    let rows = columns[0].len();
    let fields = columns.iter().enumerate().map(|(i, c)| Field::new(format!("f{i}"), c.data_type().clone(), true));
    let nulls = NullBuffer::from((0..rows).map(|_| rng.random_bool(0.8)).collect::<Vec<_>>());
    Arc::new(StructArray::new(fields.collect(), columns, Some(nulls)))
}

/// A column of each kind.
fn columns(rng: &mut StdRng, rows: usize) -> Vec<ArrayRef> {
    let texts = |rng: &mut StdRng, rows| -> ArrayRef { Arc::new(StringArray::from(optional(rng, rows, text))) };
    let ints = |rng: &mut StdRng, rows| -> ArrayRef { Arc::new(Int64Array::from(optional(rng, rows, int))) };
    let days = |rng: &mut StdRng| IntervalDayTime::new(rng.random_range(-2..2), rng.random_range(-2..2));
    let months =
        |rng: &mut StdRng| IntervalMonthDayNano::new(rng.random_range(-2..2), rng.random_range(-2..2), int(rng) >> 2);
    let fixed = optional(rng, rows, |rng| [rng.random_range(0..3u8), rng.random_range(0..3)]);
    let words = optional(rng, rows, text);
    let pairs = struct_of(rng, vec![Arc::new(Float64Array::from_iter_values((0..3 * rows).map(|i| i as f64 - 4.0)))]);
    let triples = FixedSizeListArray::new(
        Arc::new(Field::new_list_field(pairs.data_type().clone(), true)),
        3,
        pairs,
        Some(NullBuffer::from((0..rows).map(|_| rng.random_bool(0.8)).collect::<Vec<_>>())),
    );
    let lengths: Vec<usize> = (0..rows).map(|_| rng.random_range(0..3)).collect();
    let keys = StringArray::from_iter_values((0..lengths.iter().sum()).map(|_| text(rng)));
    let values = ints(rng, keys.len());
    let entries = StructArray::from(vec![
        (Arc::new(Field::new("keys", DataType::Utf8, false)), Arc::new(keys) as ArrayRef),
        (Arc::new(Field::new("values", DataType::Int64, true)), values),
    ]);
    let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let map = MapArray::new(field, OffsetBuffer::from_lengths(lengths), entries, None, false);
    let inner = [texts(rng, rows), ints(rng, rows)];
    vec![
        ints(rng, rows),
        Arc::new(UInt64Array::from(optional(rng, rows, |rng| int(rng) as u64))),
        Arc::new(Int8Array::from(optional(rng, rows, |rng| rng.random()))),
        Arc::new(Float64Array::from(optional(rng, rows, float))),
        Arc::new(Float32Array::from(optional(rng, rows, |rng| float(rng) as f32))),
        Arc::new(BooleanArray::from(optional(rng, rows, |rng| rng.random()))),
        Arc::new(NullArray::new(rows)),
        texts(rng, rows),
        Arc::new(LargeStringArray::from(optional(rng, rows, text))),
        Arc::new(StringViewArray::from_iter(words.iter().map(Option::as_deref))),
        Arc::new(words.iter().map(Option::as_deref).collect::<DictionaryArray<Int8Type>>()),
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(fixed.into_iter(), 2).unwrap()),
        Arc::new(Date32Array::from(optional(rng, rows, |rng| int(rng) as i32))),
        Arc::new(TimestampMicrosecondArray::from(optional(rng, rows, int)).with_timezone("UTC")),
        Arc::new(Decimal128Array::from(optional(rng, rows, |rng| i128::from(int(rng)) << 20))),
        Arc::new(Decimal256Array::from(optional(rng, rows, |rng| i256::from_i128(i128::from(int(rng)) << 40)))),
        Arc::new(IntervalYearMonthArray::from(optional(rng, rows, |rng| int(rng) as i32))),
        Arc::new(IntervalDayTimeArray::from(optional(rng, rows, days))),
        Arc::new(IntervalMonthDayNanoArray::from(optional(rng, rows, months))),
        struct_of(rng, inner.to_vec()),
        list_of(rng, rows, texts),
        list_of(rng, rows, |rng, rows| list_of(rng, rows, ints)),
        list_of(rng, rows, |rng, rows| {
            let columns = vec![texts(rng, rows), ints(rng, rows)];
            struct_of(rng, columns)
        }),
        Arc::new(triples),
        Arc::new(map),
    ]
}

#[test]
fn rows_are_in_order_and_come_back() {
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let all = columns(&mut rng, 60);
        let kinds: Vec<usize> = match seed {
            0..30 => (0..all.len()).map(|i| (i + seed as usize) % all.len()).take(1).collect(),
            _ => (0..rng.random_range(1..4)).map(|_| rng.random_range(0..all.len())).collect(),
        };
        let (offset, len) = (rng.random_range(0..10), rng.random_range(1..50));
        let columns: Vec<ArrayRef> = kinds.iter().map(|&kind| all[kind].slice(offset, len)).collect();
        let typed: Vec<(DataType, SortOptions)> = columns
            .iter()
            .map(|column| {
                let options = SortOptions { descending: rng.random(), nulls_first: rng.random() };
                (column.data_type().clone(), options)
            })
            .collect();
        let ordered = Ordered::new(typed.clone()).unwrap();
        let rows = ordered.encode(&columns, len);
        for (back, column) in ordered.decode(rows.iter()).iter().zip(&columns) {
            assert_eq!(back, column, "seed {seed}");
        }
        let fields = typed.iter().map(|(t, options)| SortField::new_with_options(t.clone(), *options)).collect();
        let arrows = RowConverter::new(fields).unwrap().convert_columns(&columns).unwrap();
        for a in 0..len {
            for b in 0..len {
                let expected = arrows.row(a).cmp(&arrows.row(b));
                assert_eq!(rows.get(a).cmp(rows.get(b)), expected, "seed {seed}, rows {a} and {b} of {typed:?}");
            }
        }
        let nulls: Vec<ArrayRef> = typed.iter().map(|(t, _)| new_null_array(t, 1)).collect();
        assert_eq!(ordered.encode(&nulls, 1).get(0), ordered.null());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A column, the bytes of its values in ascending order, and in the codec.
type Golden = (ArrayRef, &'static [&'static str], &'static [&'static str]);

/// State on disk rests on these bytes: they never change.
#[test]
fn the_bytes_never_change() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), Some(vec![]), None]);
    let pair = StructArray::from(vec![
        (Arc::new(Field::new("a", DataType::Int8, true)), Arc::new(Int8Array::from(vec![Some(5), None])) as ArrayRef),
        (Arc::new(Field::new("b", DataType::Utf8, true)), Arc::new(StringArray::from(vec!["x", "y"])) as ArrayRef),
    ]);
    let nan = f64::from_bits(0x7ff8_0000_0000_0000);
    let golden: Vec<Golden> = vec![
        (
            Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(-1), Some(0), Some(258), Some(i32::MAX), None])),
            &["0100000000", "017fffffff", "0180000000", "0180000102", "01ffffffff", "00"],
            &["0000000080", "00ffffffff", "0000000000", "0002010000", "00ffffff7f", "0100000000"],
        ),
        (Arc::new(UInt64Array::from(vec![1])), &["010000000000000001"], &["000100000000000000"]),
        (Arc::new(BooleanArray::from(vec![false, true])), &["0100", "0101"], &["0000", "0001"]),
        (
            Arc::new(Float64Array::from(vec![0.0, -0.0, 1.5, -1.5, nan, f64::INFINITY])),
            &[
                "018000000000000000",
                "017fffffffffffffff",
                "01bff8000000000000",
                "014007ffffffffffff",
                "01fff8000000000000",
                "01fff0000000000000",
            ],
            &[
                "000000000000000000",
                "000000000000000000",
                "00000000000000f83f",
                "00000000000000f8bf",
                "00000000000000f87f",
                "00000000000000f07f",
            ],
        ),
        (Arc::new(StringArray::from(vec!["", "a\0b"])), &["010000", "016100ff620000"], &["00", "00610062"]),
        (Arc::new(FixedSizeBinaryArray::try_from_iter([[0u8, 7]].into_iter()).unwrap()), &["010007"], &["00010007"]),
        (
            Arc::new(Decimal128Array::from(vec![-2]).with_precision_and_scale(10, 2).unwrap()),
            &["017ffffffffffffffffffffffffffffffe"],
            &["00feffffffffffffffffffffffffffffff"],
        ),
        (Arc::new(TimestampMicrosecondArray::from(vec![-1])), &["017fffffffffffffff"], &["00ffffffffffffffff"]),
        (
            Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, -2, 3)])),
            &["01800000017ffffffe8000000000000003"],
            &["0001000000feffffff0300000000000000"],
        ),
        (
            Arc::new(IntervalDayTimeArray::from(vec![IntervalDayTime::new(-1, 2)])),
            &["017fffffff80000002"],
            &["00ffffffff02000000"],
        ),
        (Arc::new(list), &["01010180000001010000", "0100", "00"], &["0001010180000001010000", "000100", "01"]),
        (Arc::new(pair), &["01018501780000", "010001790000"], &["000578", "020079"]),
    ];
    for (column, ordered_bytes, codec_bytes) in golden {
        let data_type = column.data_type().clone();
        let rows = column.len();
        let columns = [column];
        let ordered = Ordered::new([(data_type.clone(), SortOptions::default())]).unwrap().encode(&columns, rows);
        let codec = Codec::new([data_type.clone()]).unwrap().encode(&columns, rows);
        let of = |rows: &Rows| rows.iter().map(hex).collect::<Vec<_>>();
        assert_eq!(of(&ordered), ordered_bytes, "{data_type}");
        assert_eq!(of(&codec), codec_bytes, "{data_type}");
    }
    // Descending, NULL last; and several columns in the compact encoding: all but the last text behind its length.
    let ints: ArrayRef = Arc::new(Int8Array::from(vec![Some(1), None]));
    let down = SortOptions { descending: true, nulls_first: false };
    let rows = Ordered::new([(DataType::Int8, down)]).unwrap().encode(std::slice::from_ref(&ints), 2);
    assert_eq!([hex(rows.get(0)), hex(rows.get(1))], ["017e", "ff"]);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["ab", "c"]));
    let codec = Codec::new([DataType::Utf8, DataType::Int8, DataType::Utf8]).unwrap();
    let rows = codec.encode(&[texts.clone(), ints, texts], 2);
    assert_eq!([hex(rows.get(0)), hex(rows.get(1))], ["00010261626162".to_owned(), "0200016363".to_owned()]);
    // Windows of a size that is known: the start.
    let bounds = |end| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![Some(end), None])) };
    let fields: Vec<_> = ["start", "end"].map(|name| Field::new(name, bounds(0).data_type().clone(), true)).into();
    let nulls = bounds(0).nulls().cloned();
    let windows: ArrayRef = Arc::new(StructArray::new(fields.into(), vec![bounds(-60), bounds(0)], nulls));
    let codec = Codec::windowed([(windows.data_type().clone(), Some(60))]).unwrap();
    let rows = codec.encode(&[windows], 2);
    assert_eq!([hex(rows.get(0)), hex(rows.get(1))], ["00c4ffffffffffffff", "010000000000000000"]);
    assert_eq!(ROW_FORMAT, 1);
}
