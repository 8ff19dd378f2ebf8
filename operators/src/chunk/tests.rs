use std::collections::{BTreeMap, VecDeque};

use differential_dataflow::trace::chunk::{Chunk, merge_chains, settle_all};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use timely::progress::Antichain;

use super::{RowBuffer, RowChunk};
use crate::keyed::hash;

type Flat = Vec<(u64, Vec<u8>, Vec<u8>, u64, i64)>;

/// Random updates of few keys and values; `even` gives all keys and all values one width.
fn random(rng: &mut SmallRng, len: usize, even: bool, times: u64) -> Flat {
    (0..rng.random_range(0..=len))
        .map(|_| {
            let width = |rng: &mut SmallRng| if even { 2 } else { rng.random_range(0..3) };
            let key = vec![rng.random_range(0..4u8); width(rng)];
            let val = vec![rng.random_range(0..3u8); width(rng)];
            (hash(&key), key, val, rng.random_range(0..times), if rng.random_bool(0.7) { 1 } else { -1 })
        })
        .collect()
}

fn consolidated(updates: impl IntoIterator<Item = (u64, Vec<u8>, Vec<u8>, u64, i64)>) -> Flat {
    let mut sums = BTreeMap::new();
    for (hash, key, val, time, diff) in updates {
        *sums.entry((hash, key, val, time)).or_insert(0) += diff;
    }
    sums.into_iter().filter(|(_, d)| *d != 0).map(|((hash, key, val, time), d)| (hash, key, val, time, d)).collect()
}

fn flat<'a>(chunks: impl IntoIterator<Item = &'a RowChunk<u64>>) -> Flat {
    let mut all = Vec::new();
    for chunk in chunks {
        assert!(!chunk.is_empty());
        all.extend(
            (0..chunk.len()).map(|i| {
                (chunk.hashes()[i], chunk.key(i).to_vec(), chunk.val(i).to_vec(), *chunk.time(i), chunk.diff(i))
            }),
        );
    }
    all
}

/// Sorts, and cuts into chunks of random sizes.
fn chain(rng: &mut SmallRng, updates: &Flat) -> Vec<RowChunk<u64>> {
    let mut buffer = RowBuffer::default();
    updates.iter().for_each(|(hash, key, val, time, diff)| buffer.push(*hash, key, val, time, *diff));
    let mut sorted = VecDeque::new();
    buffer.sort(&mut sorted);
    let mut cut = Vec::new();
    for chunk in sorted {
        let mut from = 0;
        while from < chunk.len() {
            let to = (from + rng.random_range(1..6)).min(chunk.len());
            cut.push(chunk.slice(from, to));
            from = to;
        }
    }
    cut
}

#[test]
fn sorts_merges_and_packs() {
    for seed in 0..400 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let even = rng.random();
        let times = rng.random_range(1..4);
        let (one, two) = (random(&mut rng, 60, even, times), random(&mut rng, 60, even && seed % 3 > 0, times));
        let (a, b) = (chain(&mut rng, &one), chain(&mut rng, &two));
        assert_eq!(flat(&a), consolidated(one.clone()));
        let mut merged = VecDeque::new();
        merge_chains(a, b, &mut merged);
        let both = consolidated(one.into_iter().chain(two));
        assert_eq!(flat(&merged), both);
        let settled = settle_all(merged);
        assert_eq!(flat(&settled), both);
        assert!(settled.len() <= 1, "small chunks are joined");
    }
}

#[test]
fn splits_by_time() {
    for seed in 0..200 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let updates = random(&mut rng, 60, seed % 2 == 0, 5);
        let mut input = chain(&mut rng, &updates).into();
        let (mut keep, mut ship) = (VecDeque::new(), VecDeque::new());
        let mut residual = Antichain::new();
        let frontier = Antichain::from_elem(2);
        while !VecDeque::is_empty(&input) {
            RowChunk::extract(&mut input, frontier.borrow(), &mut residual, &mut keep, &mut ship);
        }
        let (later, earlier): (Flat, Flat) = consolidated(updates).into_iter().partition(|u| u.3 >= 2);
        assert_eq!(residual.as_option().copied(), later.iter().map(|u| u.3).min());
        assert_eq!((flat(&keep), flat(&ship)), (later, earlier));
    }
}

#[test]
fn advances_times_the_same_in_any_steps() {
    for seed in 0..400 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let updates = random(&mut rng, 80, seed % 2 == 0, 8);
        let expected = consolidated(consolidated(updates.clone()).into_iter().map(|mut u| {
            u.3 = u.3.max(5);
            u
        }));
        let frontier = Antichain::from_elem(5);
        let (mut input, mut advanced, mut out) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        for chunk in chain(&mut rng, &updates) {
            input.push_back(chunk);
            if rng.random() {
                RowChunk::advance(&mut input, frontier.borrow(), false, &mut advanced);
                RowChunk::settle(&mut advanced, false, &mut out);
            }
        }
        RowChunk::advance(&mut input, frontier.borrow(), true, &mut advanced);
        RowChunk::settle(&mut advanced, true, &mut out);
        assert!(input.is_empty() && advanced.is_empty());
        assert_eq!(flat(&out), expected);
    }
}

#[test]
fn takes_few_bytes() {
    let mut buffer = RowBuffer::<u64>::default();
    for row in 0..100_000u64 {
        let key = [&[1][..], &row.to_be_bytes()].concat();
        buffer.push(hash(&key), &key, &key, &7, 1);
    }
    let mut chunks = VecDeque::new();
    buffer.sort(&mut chunks);
    let bytes: usize = chunks.iter().map(RowChunk::heap_size).sum();
    assert!(bytes <= 27 * 100_000, "{bytes}");
}
