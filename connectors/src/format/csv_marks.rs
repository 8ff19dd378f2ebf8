//! Where the fields of plain CSV text end: no quotes, and every record of the same width. Most files are such text from end
//! to end, and looking at many bytes at once it is cut several times faster than byte by byte.

/// The ends of the fields of plain records.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    /// `width` places for each record: of its delimiters, and of its line end.
    pub(crate) ends: Vec<u32>,
    pub(crate) width: usize,
}

impl Marks {
    /// At most `max` complete records at the front of `bytes`, each of `width` fields; `None` if there are none, or if
    /// something in them is not plain.
    pub(crate) fn of(delimiter: u8, quote: Option<u8>, bytes: &[u8], width: usize, max: usize) -> Option<Marks> {
        let most = max.checked_mul(width)?;
        let mut ends: Vec<u32> = Vec::with_capacity(most.min(bytes.len() / 4));
        let mut at = 0;
        while ends.len() < most {
            let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<64>()) else {
                break;
            };
            let (mut found, quoted) = look(block, delimiter, quote);
            if quoted {
                return None;
            }
            while found != 0 {
                ends.push((at + found.trailing_zeros() as usize) as u32);
                found &= found - 1;
            }
            at += 64;
        }
        if ends.len() < most {
            for (place, byte) in bytes.iter().enumerate().skip(at) {
                if Some(*byte) == quote {
                    return None;
                }
                if *byte == delimiter || *byte == b'\n' {
                    ends.push(place as u32);
                }
            }
        }
        ends.truncate(most.min(ends.len() / width * width));
        for record in ends.chunks_exact(width) {
            let (end, delimiters) = record.split_last()?;
            let end = *end as usize;
            if bytes[end] != b'\n' || delimiters.iter().any(|place| bytes[*place as usize] == b'\n') {
                return None;
            }
        }
        (!ends.is_empty()).then_some(Marks { ends, width })
    }

    pub(crate) fn records(&self) -> usize {
        self.ends.len() / self.width
    }

    /// The bytes of the records.
    pub(crate) fn consumed(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize + 1)
    }

    /// Where a record begins, and where it ends.
    pub(crate) fn record(&self, record: usize) -> (u32, u32) {
        let first = record * self.width;
        let start = first.checked_sub(1).map_or(0, |before| self.ends[before] + 1);
        (start, self.ends[first + self.width - 1] + 1)
    }

    /// Where a field begins and ends in `bytes`.
    #[inline(always)]
    pub(crate) fn field(&self, bytes: &[u8], record: usize, field: usize) -> (usize, usize) {
        let place = record * self.width + field;
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before] as usize + 1);
        let end = self.ends[place] as usize;
        // A line may end with two bytes.
        let returned = field + 1 == self.width && end > start && bytes[end - 1] == b'\r';
        (start, end - usize::from(returned))
    }
}

/// A bit for each byte that ends a field, the first one's the lowest; and whether there is a quote.
#[inline]
fn look(block: &[u8; 64], delimiter: u8, quote: Option<u8>) -> (u64, bool) {
    // In loops over bytes, which the compiler makes ones over vectors of them.
    let (mut ends, mut quotes) = ([0; 64], 0);
    for (end, byte) in ends.iter_mut().zip(block) {
        *end = u8::from(*byte == delimiter) | u8::from(*byte == b'\n');
    }
    if let Some(quote) = quote {
        quotes = block.iter().fold(0, |any, byte| any | u8::from(*byte == quote));
    }
    let (eights, _) = ends.as_chunks::<8>();
    let bits = |eight: &[u8; 8]| u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    let found = eights.iter().enumerate().fold(0, |found, (number, eight)| found | bits(eight) << (8 * number));
    (found, quotes != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_found() {
        let mut block = [0; 64];
        for n in 0..100_000_u32 {
            block[n as usize % 64] = (n.wrapping_mul(2_654_435_761) >> 24) as u8;
            for delimiter in [b',', block[3], 0, 0x80, 0xff] {
                let ends = block.iter().enumerate().filter(|(_, byte)| [delimiter, b'\n'].contains(byte));
                let ends = ends.fold(0, |bits, (place, _)| bits | 1 << place);
                assert_eq!(look(&block, delimiter, Some(block[7])), (ends, true), "{block:?} {delimiter}");
                assert_eq!(look(&block, delimiter, Some(b'"')).1, block.contains(&b'"'));
            }
        }
    }

    /// The fields of each record, split without haste.
    fn slowly(text: &[u8], width: usize, max: usize) -> Option<Vec<Vec<Vec<u8>>>> {
        let mut records = Vec::new();
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |end| &text[..end]);
        for line in whole.split(|byte| *byte == b'\n').take(max) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let fields: Vec<_> = line.split(|byte| *byte == b',').map(<[u8]>::to_vec).collect();
            if line.contains(&b'"') || fields.len() != width {
                return None;
            }
            records.push(fields);
        }
        Some(records)
    }

    #[test]
    fn plain_records_are_cut_as_all_are() {
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut plain = 0;
        for _ in 0..20_000 {
            let (width, records) = (1 + random(4) as usize, random(12));
            let odd = random(3) == 0;
            let mut text = Vec::new();
            for _ in 0..records {
                let fields = if odd && random(10) == 0 { random(6) as usize } else { width };
                for field in 0..fields {
                    if field > 0 {
                        text.push(b',');
                    }
                    let most = if random(10) == 0 { 200 } else { 6 };
                    let length = random(most);
                    text.extend((0..length).map(|_| b"abc xyz0\x80\xff"[random(10) as usize]));
                    if odd && random(40) == 0 {
                        text.push(b'"');
                    }
                }
                text.extend_from_slice([&b"\n"[..], b"\r\n"][random(2) as usize]);
            }
            text.extend((0..random(5)).map(|_| b'y'));
            let max = [3, usize::MAX / 8][random(2) as usize];
            let Some(marks) = Marks::of(b',', Some(b'"'), &text, width, max) else {
                continue;
            };
            plain += 1;
            let field = |record, field| {
                let (start, end) = marks.field(&text, record, field);
                text[start..end].to_vec()
            };
            let got: Vec<Vec<_>> =
                (0..marks.records()).map(|record| (0..width).map(|f| field(record, f)).collect()).collect();
            // What is left, plain or not, is for the next call.
            let slowly = slowly(&text, width, got.len());
            assert_eq!(Some(got), slowly, "{:?}", String::from_utf8_lossy(&text));
            assert_eq!(marks.consumed(), marks.record(marks.records() - 1).1 as usize);
        }
        assert!(plain > 5_000, "{plain}");
        for text in ["", "a", "a,b", "a\n", "a,b,c\n", "a,\"b\n", "\n", "\r\n"] {
            assert_eq!(Marks::of(b',', Some(b'"'), text.as_bytes(), 2, 10), None, "{text:?}");
        }
    }
}
