//! The bytes of rows, with the hash of each row's key.

use std::ops::Range;

use crate::bytes;
use crate::rows::Rows;

/// Rows' keys and values in one buffer: key, value, key, value.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    /// The hash of each row's key.
    pub(super) hashes: Vec<u64>,
    bytes: Vec<u8>,
    ends: Ends,
}

/// Where each row's key and value end.
#[derive(Clone, Debug)]
enum Ends {
    /// All keys have one width, and all rows have.
    Fixed { key: u32, row: u32 },
    /// The end of each row's key and of the row, in the buffer.
    Each(Vec<[u32; 2]>),
}

impl Default for Ends {
    fn default() -> Self {
        Ends::Fixed { key: 0, row: 0 }
    }
}

impl Body {
    pub(super) fn with_capacity(rows: usize, bytes: usize) -> Self {
        Body { hashes: Vec::with_capacity(rows), bytes: Vec::with_capacity(bytes), ends: Ends::default() }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    pub(super) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn heap_size(&self) -> usize {
        let ends = match &self.ends {
            Ends::Fixed { .. } => 0,
            Ends::Each(ends) => 8 * ends.capacity(),
        };
        8 * self.hashes.capacity() + self.bytes.capacity() + ends
    }

    /// Where row `index` begins, its value begins, and it ends.
    #[inline]
    fn span(&self, index: usize) -> (usize, usize, usize) {
        match &self.ends {
            Ends::Fixed { key, row } => {
                let start = index * *row as usize;
                (start, start + *key as usize, start + *row as usize)
            }
            Ends::Each(ends) => {
                let start = if index == 0 { 0 } else { ends[index - 1][1] as usize };
                (start, ends[index][0] as usize, ends[index][1] as usize)
            }
        }
    }

    /// Where row `index` begins; the end of the buffer when there are just as many rows.
    fn start(&self, index: usize) -> usize {
        match &self.ends {
            Ends::Fixed { row, .. } => index * *row as usize,
            Ends::Each(_) if index == 0 => 0,
            Ends::Each(ends) => ends[index - 1][1] as usize,
        }
    }

    #[inline]
    pub(super) fn key(&self, index: usize) -> &[u8] {
        let (start, mid, _) = self.span(index);
        &self.bytes[start..mid]
    }

    #[inline]
    pub(super) fn val(&self, index: usize) -> &[u8] {
        let (_, mid, end) = self.span(index);
        &self.bytes[mid..end]
    }

    /// Reads all rows through in the order in which they lie, which is quick, so that they are in the cache when they are
    /// taken in another order, which would wait for each.
    pub(super) fn touch(&self) {
        const LINE: usize = 64;
        std::hint::black_box(self.bytes.iter().step_by(LINE).fold(0u8, |all, byte| all ^ byte));
    }

    pub(super) fn bytes_between(&self, from: usize, to: usize) -> usize {
        self.start(to) - self.start(from)
    }

    #[inline]
    pub(super) fn push(&mut self, hash: u64, key: &[u8], val: &[u8]) {
        self.push_ranges(hash, (key, 0..key.len()), (val, 0..val.len()));
    }

    /// Appends the row of a key and a value in their buffers.
    #[inline]
    pub(super) fn push_row(&mut self, hash: u64, keys: &Rows, vals: &Rows, index: usize) {
        self.push_ranges(hash, (keys.bytes(), keys.span(index)), (vals.bytes(), vals.span(index)));
    }

    /// Appends the row of a key and a value, each a range of a buffer.
    #[inline]
    fn push_ranges(&mut self, hash: u64, key: (&[u8], Range<usize>), val: (&[u8], Range<usize>)) {
        let (key_width, val_width) = (key.1.len(), val.1.len());
        self.admit(key_width, key_width + val_width, 1);
        self.hashes.push(hash);
        bytes::append(&mut self.bytes, key.0, key.1);
        bytes::append(&mut self.bytes, val.0, val.1);
        if let Ends::Each(ends) = &mut self.ends {
            let end = self.bytes.len();
            ends.push([(end - val_width) as u32, end as u32]);
        }
    }

    /// Appends row `index` of another body.
    #[inline]
    pub(super) fn push_from(&mut self, other: &Body, index: usize) {
        let (from, mid, to) = other.span(index);
        let (key, row) = (mid - from, to - from);
        self.admit(key, row, 1);
        self.hashes.push(other.hashes[index]);
        let start = self.bytes.len();
        bytes::append(&mut self.bytes, &other.bytes, from..from + row);
        if let Ends::Each(ends) = &mut self.ends {
            ends.push([(start + key) as u32, self.bytes.len() as u32]);
        }
    }

    /// Appends the rows `from..to` of another body.
    #[inline]
    pub(super) fn extend_from(&mut self, other: &Body, from: usize, to: usize) {
        let base = self.bytes.len();
        let start = other.start(from);
        match &other.ends {
            Ends::Fixed { key, row } => {
                let (key, row) = (*key as usize, *row as usize);
                self.admit(key, row, to - from);
                if let Ends::Each(ends) = &mut self.ends {
                    ends.extend((0..to - from).map(|i| {
                        let start = base + i * row;
                        [(start + key) as u32, (start + row) as u32]
                    }));
                }
            }
            Ends::Each(theirs) => {
                self.offsets(to - from);
                if let Ends::Each(ends) = &mut self.ends {
                    let shift = |end: u32| (end as usize - start + base) as u32;
                    ends.extend(theirs[from..to].iter().map(|&[mid, end]| [shift(mid), shift(end)]));
                }
            }
        }
        self.hashes.extend_from_slice(&other.hashes[from..to]);
        self.bytes.extend_from_slice(&other.bytes[start..other.start(to)]);
    }

    /// Prepares for rows of these widths: keeps offsets from now on when they differ from those so far.
    #[inline]
    fn admit(&mut self, key: usize, row: usize, rows: usize) {
        if let Ends::Fixed { key: k, row: r } = &mut self.ends
            && (*k as usize != key || *r as usize != row)
        {
            if self.hashes.is_empty() {
                (*k, *r) = (key as u32, row as u32);
            } else {
                self.offsets(rows);
            }
        }
    }

    /// Keeps offsets from now on, with room for `rows` more.
    #[cold]
    fn offsets(&mut self, rows: usize) {
        if let Ends::Fixed { key, row } = self.ends {
            let mut ends = Vec::with_capacity(self.hashes.capacity().max(self.hashes.len() + rows));
            ends.extend((0..self.hashes.len() as u32).map(|i| [i * row + key, (i + 1) * row]));
            self.ends = Ends::Each(ends);
        }
    }

    /// Gives back room that was reserved for more rows, where it is much.
    pub(super) fn shrink(&mut self) {
        fn shrink<T>(vec: &mut Vec<T>) {
            if vec.capacity() > vec.len() + vec.len() / 8 {
                vec.shrink_to_fit();
            }
        }
        shrink(&mut self.hashes);
        shrink(&mut self.bytes);
        if let Ends::Each(ends) = &mut self.ends {
            shrink(ends);
        }
    }
}
