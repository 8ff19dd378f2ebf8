//! Finding a hash in ascending hashes, which are spread evenly over the integers unless keys repeat.

/// The first index, from `from` on, whose hash is at least `hash`.
///
/// Looks at a few neighbours, then guesses by proportion and closes in by doubling steps, so that a far jump costs
/// about two cache misses; hashes that are not spread evenly cost a logarithm more.
#[inline]
pub(crate) fn seek(hashes: &[u64], from: usize, hash: u64) -> usize {
    const NEAR: usize = 4;
    let near = (from + NEAR).min(hashes.len());
    for (index, &candidate) in hashes.iter().enumerate().take(near).skip(from) {
        if candidate >= hash {
            return index;
        }
    }
    if near == hashes.len() { near } else { near + far(&hashes[near..], hash) }
}

#[inline(never)]
fn far(hashes: &[u64], hash: u64) -> usize {
    let (first, last) = (hashes[0], hashes[hashes.len() - 1]);
    if hash <= first {
        return 0;
    }
    if hash > last {
        return hashes.len();
    }
    // Here first < hash <= last.
    let part = (hash - first) as f64 / (last - first) as f64;
    let guess = ((part * (hashes.len() - 1) as f64) as usize).min(hashes.len() - 1);
    let mut step = 8;
    if hashes[guess] < hash {
        let mut low = guess;
        loop {
            let high = low + step;
            if high >= hashes.len() {
                return low + 1 + hashes[low + 1..].partition_point(|&h| h < hash);
            }
            if hashes[high] >= hash {
                return low + 1 + hashes[low + 1..high].partition_point(|&h| h < hash);
            }
            low = high;
            step *= 2;
        }
    }
    let mut high = guess;
    loop {
        if step > high {
            return hashes[..high].partition_point(|&h| h < hash);
        }
        let low = high - step;
        if hashes[low] < hash {
            return low + 1 + hashes[low + 1..high].partition_point(|&h| h < hash);
        }
        high = low;
        step *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::seek;

    #[test]
    fn seeks_like_a_scan() {
        let even: Vec<u64> = (0..1000u64).map(|i| i.wrapping_mul(u64::MAX / 1000)).collect();
        let skewed: Vec<u64> = (0..1000u64).map(|i| if i < 900 { 7 } else { u64::MAX - 1000 + i }).collect();
        for hashes in [even, skewed, vec![5], vec![]] {
            let probes =
                hashes.iter().flat_map(|h| [h.saturating_sub(1), *h, h.saturating_add(1)]).chain([0, u64::MAX]);
            for probe in probes {
                for from in [0, 1, 3, hashes.len() / 2, hashes.len()] {
                    let from = from.min(hashes.len());
                    let scan = (from..hashes.len()).find(|&i| hashes[i] >= probe).unwrap_or(hashes.len());
                    assert_eq!(seek(&hashes, from, probe), scan);
                }
            }
        }
    }
}
