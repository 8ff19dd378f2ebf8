//! The hash of keys, and the worker that owns one.
//!
//! State on disk, messages between processes and the owners of keys rest on this hash, so it never changes: it is wyhash,
//! final version 4.2, with its default secret and seed 0, written down here and held by golden vectors. What is written to
//! a file says which hash it was written by ([`HASH_ID`]); another hash would get another number. It is no defence against
//! keys chosen to collide.

/// Names [`hash`] in what leaves memory.
pub const HASH_ID: u32 = 1;

const SECRET: [u64; 4] = [0x2d35_8dcc_aa6c_78a5, 0x8bb8_4b93_962e_acc9, 0x4b33_a62e_d433_d4a3, 0x4d5a_2da5_1de1_aa47];

/// What the seed 0 becomes before the first byte.
const SEED: u64 = seeded(0);

const fn seeded(seed: u64) -> u64 {
    seed ^ mix(seed ^ SECRET[0], SECRET[1])
}

/// The hash of a key's bytes: the same in every operator, worker, process and version. All its bits are equally good.
#[inline(always)]
pub fn hash(key: &[u8]) -> u64 {
    match (key.first_chunk::<16>(), key.last_chunk::<16>()) {
        // What `hash_from` does with the commonest lengths.
        (Some(first), Some(last)) if (17..=32).contains(&key.len()) => {
            let seed = mix(word(first, 0) ^ SECRET[1], word(first, 8) ^ SEED);
            let (a, b) = multiply(word(last, 0) ^ SECRET[1], word(last, 8) ^ seed);
            mix(a ^ SECRET[0] ^ key.len() as u64, b ^ SECRET[1])
        }
        _ => hash_from(SEED, key),
    }
}

/// The worker, of `peers`, that owns a hash: each owns an equal range of all hashes, in ascending order. Sorted runs are in
/// order of the hash, so what a worker owns is a stretch of them; tables index by the lowest bits.
#[inline]
pub fn owner(hash: u64, peers: usize) -> usize {
    ((u128::from(hash) * peers as u128) >> 64) as usize
}

/// The first and the last hash that a worker owns.
pub(crate) fn owned(worker: usize, peers: usize) -> (u64, u64) {
    let first = |worker: usize| ((worker as u128) << 64).div_ceil(peers as u128);
    (first(worker) as u64, (first(worker + 1) - 1) as u64)
}

/// Where a hash lies in its owner's range: ascending with it, and spread over all integers as hashes are.
#[inline]
pub(crate) fn place(hash: u64, peers: usize) -> u64 {
    hash.wrapping_mul(peers as u64)
}

#[inline]
fn hash_from(mut seed: u64, key: &[u8]) -> u64 {
    let len = key.len();
    let (a, b) = if len > 16 {
        seed = absorb(seed, key);
        key.last_chunk::<16>().map_or((0, 0), |last| (word(last, 0), word(last, 8)))
    } else if let (Some(first), Some(last)) = (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        match len {
            16 => (first << 32 | last & 0xffff_ffff, last >> 32 << 32 | first >> 32),
            _ => (first.rotate_left(32), last),
        }
    } else if let (Some(first), Some(last)) = (key.first_chunk::<4>(), key.last_chunk::<4>()) {
        let (first, last) = (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)));
        (first << 32 | first, last << 32 | last)
    } else if let (Some(first), Some(last)) = (key.first(), key.last()) {
        (u64::from(*first) << 16 | u64::from(key[len / 2]) << 8 | u64::from(*last), 0)
    } else {
        (0, 0)
    };
    let (a, b) = multiply(a ^ SECRET[1], b ^ seed);
    mix(a ^ SECRET[0] ^ len as u64, b ^ SECRET[1])
}

/// Takes up a key of more than 16 bytes but for its end.
#[inline]
fn absorb(mut seed: u64, key: &[u8]) -> u64 {
    let mut rest = key;
    if rest.len() >= 48 {
        let (mut one, mut two) = (seed, seed);
        while let Some((head, tail)) = rest.split_first_chunk::<48>() {
            seed = mix(word(head, 0) ^ SECRET[1], word(head, 8) ^ seed);
            one = mix(word(head, 16) ^ SECRET[2], word(head, 24) ^ one);
            two = mix(word(head, 32) ^ SECRET[3], word(head, 40) ^ two);
            rest = tail;
        }
        seed ^= one ^ two;
    }
    while rest.len() > 16
        && let Some((head, tail)) = rest.split_first_chunk::<16>()
    {
        seed = mix(word(head, 0) ^ SECRET[1], word(head, 8) ^ seed);
        rest = tail;
    }
    seed
}

/// Eight of `bytes`, from `at` on.
#[inline]
fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// The product's low half and its high one.
#[inline]
const fn multiply(a: u64, b: u64) -> (u64, u64) {
    let product = a as u128 * b as u128;
    (product as u64, (product >> 64) as u64)
}

#[inline]
const fn mix(a: u64, b: u64) -> u64 {
    let (low, high) = multiply(a, b);
    low ^ high
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors that wyhash 4.2 is published with: the seed is the place in the list.
    #[test]
    fn is_the_published_function() {
        let vectors = [
            ("", 0x9322_8a4d_e0ee_c5a2),
            ("a", 0xc5ba_c3db_1787_13c4),
            ("abc", 0xa97f_2f7b_1d9b_3314),
            ("message digest", 0x786d_1f1d_f380_1df4),
            ("abcdefghijklmnopqrstuvwxyz", 0xdca5_a813_8ad3_7c87),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 0xb9e7_34f1_17cf_af70),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                0x6cc5_eab4_9a92_d617u64,
            ),
        ];
        for (seed, (text, expected)) in vectors.into_iter().enumerate() {
            assert_eq!(hash_from(seeded(seed as u64), text.as_bytes()), expected, "{text}");
        }
    }

    /// Files rest on these: they never change.
    #[test]
    fn never_changes() {
        let bytes: Vec<u8> = (0..=255).collect();
        let golden = [
            (0, 0x9322_8a4d_e0ee_c5a2u64),
            (1, 0x8e6d_4af7_d310_c8c4),
            (2, 0x5121_ba5b_c9a8_28b5),
            (3, 0x78c4_aa0c_972a_522d),
            (4, 0xe08a_eeb6_8058_fb32),
            (7, 0x094e_98fe_b605_5cc6),
            (8, 0xb4d6_ac74_d009_e1d4),
            (9, 0xb429_22e0_19b4_09be),
            (12, 0x44a7_7a3d_5239_4b70),
            (15, 0x87ed_af96_d89a_08ef),
            (16, 0x305f_dea0_ed4a_2619),
            (17, 0xd29f_fdd2_01a4_6f9a),
            (24, 0x552f_d952_02f6_60a3),
            (31, 0xebc1_3906_e501_8315),
            (32, 0x5b00_c06e_f754_0f8f),
            (33, 0x5e1a_2536_ff90_cc32),
            (47, 0xe2cb_58f6_ab8e_4419),
            (48, 0xecbf_b7ff_9e3d_9a97),
            (49, 0x0691_f11b_ac52_3a91),
            (63, 0x9072_20c8_cff2_e2c7),
            (64, 0xe0fe_4c75_f61d_710d),
            (65, 0x7460_2394_786a_8035),
            (96, 0x9481_37d6_9794_b570),
            (97, 0x2501_5757_38d1_09be),
            (128, 0x693d_6d73_1c86_b2ee),
            (200, 0x89b3_8345_f227_3ff6),
            (255, 0x530e_a0c8_a69b_b188),
        ];
        for (len, expected) in golden {
            assert_eq!(hash(&bytes[..len]), expected, "{len} bytes");
        }
        (0..bytes.len()).for_each(|len| assert_eq!(hash(&bytes[..len]), hash_from(SEED, &bytes[..len])));
        assert_eq!(HASH_ID, 1);
    }

    #[test]
    fn owners_are_ranges_of_equal_size() {
        for peers in [1, 2, 3, 5, 8, 64] {
            assert_eq!((owner(0, peers), owner(u64::MAX, peers)), (0, peers - 1));
            let mut before = (0, 0);
            let mut owned = vec![0usize; peers];
            for step in 0..100_000u64 {
                let hash = step * (u64::MAX / 100_000);
                let now = (owner(hash, peers), place(hash, peers));
                assert!(now >= before);
                before = now;
                let (first, last) = super::owned(now.0, peers);
                assert!((first..=last).contains(&hash));
                assert_eq!((owner(first, peers), owner(last, peers)), (now.0, now.0));
                owned[now.0] += 1;
            }
            assert!(owned.iter().all(|n| n.abs_diff(100_000 / peers) < 2), "{owned:?}");
        }
    }

    /// Neighbouring and sparse keys fill buckets evenly, by their lowest bits and by their highest.
    #[test]
    fn both_ends_are_spread() {
        let kinds: [fn(u64) -> Vec<u8>; 5] = [
            |i| i.to_le_bytes().to_vec(),
            |i| i.to_be_bytes().to_vec(),
            |i| (i << 40).to_le_bytes().to_vec(),
            |i| format!("user {i}").into_bytes(),
            |i| [7u64, 60_000_000 * (i / 100), i % 100].iter().flat_map(|word| word.to_le_bytes()).collect(),
        ];
        for (kind, key) in kinds.into_iter().enumerate() {
            let (keys, buckets) = (1 << 18, 1 << 12);
            let (mut low, mut high) = (vec![0u64; buckets], vec![0u64; buckets]);
            for i in 0..keys {
                let hash = hash(&key(i));
                low[hash as usize % buckets] += 1;
                high[owner(hash, buckets)] += 1;
            }
            for counts in [low, high] {
                let mean = keys as f64 / buckets as f64;
                let chi: f64 = counts.iter().map(|n| (*n as f64 - mean).powi(2) / mean).sum();
                // Of 4,095 degrees of freedom; the deviation is 90.
                assert!((chi - 4_095.0).abs() < 600.0, "keys of kind {kind}: {chi}");
            }
        }
    }

    /// Prints nanoseconds a hash; `cargo test --release -- --ignored` says something.
    #[test]
    #[ignore = "a measurement"]
    fn speed() {
        for len in [8, 12, 16, 20, 34, 48, 64] {
            let keys = vec![7u8; len * 4096];
            let start = std::time::Instant::now();
            let mut sum = 0u64;
            for _ in 0..2_000 {
                for key in std::hint::black_box(&keys).chunks_exact(len) {
                    sum = sum.wrapping_add(hash(key));
                }
            }
            let nanos = start.elapsed().as_nanos() as f64 / 2_000.0 / 4_096.0;
            println!("{len} bytes: {nanos:.2} ns ({})", sum & 1);
        }
    }
}
