//! What it costs to send a batch of updates to another process, by codec.
//!
//! Every codec starts from the form that its records have in memory, writes messages of [`MESSAGE`] updates, and reads
//! them until each record can be looked at; the records are then summed up, in the time, so that lazy formats pay too.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use columnar::bytes::indexed;
use columnar::{Borrow, BorrowedOf, Clear, Columnar, FromBytes, Index, Len, Push};
use headwater::columns::Columns;
use headwater_operators::{Keyed, Rows, Updates};
use timely::bytes::arc::BytesMut;
use timely::dataflow::channels::ContainerBytes;

use crate::case::{Better, Case, Failure, Line, Measured, Params};
use crate::workload::{events, mix};

/// All codecs side by side.
pub const CODECS: Case = Case {
    name: "codecs",
    about: "exchange codecs: encode, decode, bytes for 1M rows",
    against: "bincode",
    rows: 1_000_000,
    lines: &[
        Line { case: "codecs-encode", unit: "ns/row", better: Better::Less, reach: 0.0, aim: 1.0 },
        Line { case: "codecs-decode", unit: "ns/row", better: Better::Less, reach: 0.0, aim: 1.0 },
        Line { case: "codecs-bytes", unit: "bytes/row", better: Better::Less, reach: 0.0, aim: 1.0 },
    ],
    ours: |params| {
        let (records, want) = records(params);
        let table = [
            #[cfg(feature = "abomonation")]
            abomonation(&records),
            bincode(&records)?,
            columnar(&records),
            arrow_ipc(&records)?,
            ours(&records)?,
        ];
        let ours = &table[table.len() - 1];
        let differs = table.iter().find(|c| c.sum != want).map(|c| format!("{} lost something", c.name));
        let mut measured = Measured::new(vec![ours.encode, ours.decode, ours.bytes]).checked(differs);
        measured
            .notes
            .push(format!("{:<12} {:>14} {:>14} {:>12}", "codec", "encode ns/row", "decode ns/row", "bytes/row"));
        for Codec { name, encode, decode, bytes, .. } in &table {
            measured.notes.push(format!("{name:<12} {encode:>14.2} {decode:>14.2} {bytes:>12.2}"));
        }
        Ok(measured)
    },
    baseline: |params| {
        let (records, want) = records(params);
        let codec = bincode(&records)?;
        let differs = (codec.sum != want).then(|| "bincode lost something".to_string());
        Ok(Measured::new(vec![codec.encode, codec.decode, codec.bytes]).checked(differs))
    },
};

/// Updates in a message.
const MESSAGE: usize = 8_192;
/// Each message is written and read this often; the fastest counts.
const TRIES: usize = 5;

/// An update of W2 as typed Rust has it: region, user, event time, time, diff.
type Record = (String, u64, i64, u64, i64);

/// A codec's figures.
struct Codec {
    name: &'static str,
    encode: f64,
    decode: f64,
    bytes: f64,
    sum: u64,
}

/// One record's share of the sum that shows that all of it arrived.
#[inline]
fn digest(region: &[u8], user: u64, ts: i64, time: u64, diff: i64) -> u64 {
    let name = region.iter().fold(0u64, |h, b| h.rotate_left(5) ^ u64::from(*b));
    mix(name ^ user ^ (ts as u64).rotate_left(20) ^ time.rotate_left(40)).wrapping_mul(diff as u64)
}

fn records(params: &Params) -> (Vec<Vec<Record>>, u64) {
    let events = events(params.seed, params.rows);
    let record = |e: &crate::workload::Event| {
        (format!("region-{:02}", e.region), e.user, e.ts, headwater_operators::time::from_micros(e.ts), 1)
    };
    let records: Vec<Vec<Record>> = events.chunks(MESSAGE).map(|c| c.iter().map(record).collect()).collect();
    let sum = records.iter().flatten().fold(0u64, |sum, (region, user, ts, time, diff)| {
        sum.wrapping_add(digest(region.as_bytes(), *user, *ts, *time, *diff))
    });
    (records, sum)
}

/// Times `encode` of each batch and `decode` of each message, which gives the sum over its records.
fn measure<B, M>(
    name: &'static str,
    batches: &[B],
    rows: usize,
    mut encode: impl FnMut(&B) -> M,
    size: impl Fn(&M) -> usize,
    mut decode: impl FnMut(&mut M) -> u64,
) -> Codec {
    let mut codec = Codec { name, encode: f64::MAX, decode: f64::MAX, bytes: 0.0, sum: 0 };
    for _ in 0..TRIES {
        let begin = Instant::now();
        let mut messages: Vec<M> = batches.iter().map(|b| black_box(encode(b))).collect();
        codec.encode = codec.encode.min(begin.elapsed().as_secs_f64() * 1e9 / rows as f64);
        codec.bytes = messages.iter().map(&size).sum::<usize>() as f64 / rows as f64;
        let begin = Instant::now();
        codec.sum = messages.iter_mut().fold(0, |sum, m| sum.wrapping_add(decode(m)));
        codec.decode = codec.decode.min(begin.elapsed().as_secs_f64() * 1e9 / rows as f64);
    }
    codec
}

fn rows_of(records: &[Vec<Record>]) -> usize {
    records.iter().map(Vec::len).sum()
}

fn digest_all(records: &[Record]) -> u64 {
    records.iter().fold(0, |sum, (region, user, ts, time, diff)| {
        sum.wrapping_add(digest(region.as_bytes(), *user, *ts, *time, *diff))
    })
}

/// abomonation writes memory as it is and reads it where it lies: sound only in a buffer that is aligned, from a writer
/// that is trusted, on the same compiler.
#[cfg(feature = "abomonation")]
#[expect(unsafe_code, reason = "that is what is measured")]
fn abomonation(records: &[Vec<Record>]) -> Codec {
    let encode = |batch: &Vec<Record>| {
        let mut words = vec![0u64; abomonation::measure(batch).div_ceil(8)];
        let mut rest = bytes_of(&mut words);
        // SAFETY: the records hold no padding that anyone reads as values; writing to a slice of the right size.
        let written = unsafe { abomonation::encode(batch, &mut rest) };
        assert!(written.is_ok(), "the buffer has the measured size");
        words
    };
    let decode = |words: &mut Vec<u64>| {
        // SAFETY: the bytes are what `encode` wrote for this very type, aligned to 8 bytes.
        let decoded = unsafe { abomonation::decode::<Vec<Record>>(bytes_of(words)) };
        decoded.map_or(0, |(records, _)| digest_all(records))
    };
    measure("abomonation", records, rows_of(records), encode, |m| 8 * m.len(), decode)
}

#[cfg(feature = "abomonation")]
#[expect(unsafe_code, reason = "that is what is measured")]
fn bytes_of(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: any word is eight bytes.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 8 * words.len()) }
}

fn bincode(records: &[Vec<Record>]) -> Result<Codec, Failure> {
    bincode::deserialize::<Vec<Record>>(&bincode::serialize(&records[0])?)?;
    let encode = |batch: &Vec<Record>| bincode::serialize(batch).unwrap_or_default();
    let decode =
        |message: &mut Vec<u8>| bincode::deserialize::<Vec<Record>>(message).map_or(0, |records| digest_all(&records));
    Ok(measure("bincode", records, rows_of(records), encode, Vec::len, decode))
}

fn columnar(records: &[Vec<Record>]) -> Codec {
    type Columns = <Record as Columnar>::Container;
    let batches: Vec<Columns> = records
        .iter()
        .map(|batch| {
            let mut columns = Columns::default();
            columns.clear();
            batch.iter().for_each(|record| columns.push(record));
            columns
        })
        .collect();
    let encode = |batch: &Columns| {
        let mut words = Vec::new();
        indexed::encode(&mut words, &batch.borrow());
        words
    };
    let decode = |words: &mut Vec<u64>| {
        let columns = BorrowedOf::<Record>::from_bytes(&mut indexed::decode(words));
        (0..columns.len()).fold(0u64, |sum, i| {
            let (region, user, ts, time, diff) = columns.get(i);
            sum.wrapping_add(digest(region, *user, *ts, *time, *diff))
        })
    };
    measure("columnar", &batches, rows_of(records), encode, |m| 8 * m.len(), decode)
}

/// A message as another process would get it.
fn message<C: ContainerBytes>(batch: &C) -> Vec<u8> {
    let mut bytes = Vec::new();
    batch.into_bytes(&mut bytes);
    bytes
}

fn received<C: ContainerBytes>(message: &mut Vec<u8>) -> C {
    C::from_bytes(BytesMut::from(std::mem::take(message)).freeze())
}

/// The engine's columns: what its stateless operators pass on.
fn arrow_ipc(records: &[Vec<Record>]) -> Result<Codec, Failure> {
    let batches: Vec<Updates<Columns>> = records
        .iter()
        .map(|batch| Updates {
            data: Columns {
                arrays: vec![
                    Arc::new(StringArray::from_iter_values(batch.iter().map(|r| &r.0))),
                    Arc::new(Int64Array::from_iter_values(batch.iter().map(|r| r.1 as i64))),
                    Arc::new(Int64Array::from_iter_values(batch.iter().map(|r| r.2))),
                ],
                rows: batch.len(),
            },
            times: batch.iter().map(|r| r.3).collect(),
            diffs: batch.iter().map(|r| r.4).collect(),
        })
        .collect();
    let decode = |m: &mut Vec<u8>| {
        let batch: Updates<Columns> = received(m);
        let regions = batch.data.arrays[0].as_string::<i32>();
        let users = batch.data.arrays[1].as_primitive::<Int64Type>();
        let stamps = batch.data.arrays[2].as_primitive::<Int64Type>();
        (0..batch.len()).fold(0u64, |sum, i| {
            let region = regions.value(i).as_bytes();
            let user = users.value(i) as u64;
            sum.wrapping_add(digest(region, user, stamps.value(i), batch.times[i], batch.diffs[i]))
        })
    };
    Ok(measure("Arrow IPC", &batches, rows_of(records), message, Vec::len, decode))
}

/// Our keyed rows: what goes to the worker that owns a key.
fn ours(records: &[Vec<Record>]) -> Result<Codec, Failure> {
    let batches: Vec<Updates<Keyed<Rows>>> = records
        .iter()
        .map(|batch| {
            let (mut keys, mut values) = (Rows::default(), Rows::default());
            for (region, user, ts, _, _) in batch {
                keys.push_pair(region.as_bytes(), &user.to_be_bytes());
                values.push(&ts.to_be_bytes());
            }
            Updates {
                data: Keyed::new(keys, values),
                times: batch.iter().map(|r| r.3).collect(),
                diffs: batch.iter().map(|r| r.4).collect(),
            }
        })
        .collect();
    let decode = |m: &mut Vec<u8>| {
        let batch: Updates<Keyed<Rows>> = received(m);
        (0..batch.len()).fold(0u64, |sum, i| {
            let (region, user) = batch.data.keys.get(i).split_last_chunk().unwrap_or((&[], &[0; 8]));
            let ts = batch.data.vals.get(i).try_into().map_or(0, i64::from_be_bytes);
            sum.wrapping_add(digest(region, u64::from_be_bytes(*user), ts, batch.times[i], batch.diffs[i]))
        })
    };
    Ok(measure("ours", &batches, rows_of(records), message, Vec::len, decode))
}
