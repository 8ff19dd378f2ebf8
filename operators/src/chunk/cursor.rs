//! Cursors over chunks, for differential's own operators.

use std::marker::PhantomData;

use differential_dataflow::trace::chunk::NavigableChunk;
use differential_dataflow::trace::cursor::{Cursor, Navigable};
use differential_dataflow::trace::implementations::{BatchContainer, SliceContainer};

use super::{RowChunk, RowTime};

/// A key, ordered by its hash and then by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey<'a> {
    /// [`hash`](crate::keyed::hash) of the bytes.
    pub hash: u64,
    /// The key's bytes.
    pub bytes: &'a [u8],
}

/// An owned [`RowKey`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKeyBuf {
    /// [`hash`](crate::keyed::hash) of the bytes.
    pub hash: u64,
    /// The key's bytes.
    pub bytes: Vec<u8>,
}

/// A sequence of keys.
#[derive(Default)]
pub struct KeyContainer {
    hashes: Vec<u64>,
    keys: SliceContainer<u8>,
}

impl BatchContainer for KeyContainer {
    type Owned = RowKeyBuf;
    type ReadItem<'a> = RowKey<'a>;

    fn into_owned(item: RowKey<'_>) -> RowKeyBuf {
        RowKeyBuf { hash: item.hash, bytes: item.bytes.to_vec() }
    }
    fn push_ref(&mut self, item: RowKey<'_>) {
        self.hashes.push(item.hash);
        self.keys.push_ref(item.bytes);
    }
    fn push_own(&mut self, item: &RowKeyBuf) {
        self.push_ref(RowKey { hash: item.hash, bytes: &item.bytes });
    }
    fn clear(&mut self) {
        self.hashes.clear();
        self.keys.clear();
    }
    fn with_capacity(size: usize) -> Self {
        KeyContainer { hashes: Vec::with_capacity(size), keys: SliceContainer::with_capacity(size) }
    }
    fn merge_capacity(a: &Self, b: &Self) -> Self {
        KeyContainer::with_capacity(a.len() + b.len())
    }
    fn reborrow<'b, 'a: 'b>(item: RowKey<'a>) -> RowKey<'b> {
        item
    }
    fn index(&self, index: usize) -> RowKey<'_> {
        RowKey { hash: self.hashes[index], bytes: self.keys.index(index) }
    }
    fn len(&self) -> usize {
        self.hashes.len()
    }
}

/// A position in a [`RowChunk`].
pub struct RowChunkCursor<T> {
    key: usize,
    val: usize,
    phantom: PhantomData<T>,
}

impl<T> RowChunk<T> {
    #[inline]
    fn row_key(&self, index: usize) -> RowKey<'_> {
        RowKey { hash: self.hashes()[index], bytes: self.key(index) }
    }
}

impl<T: RowTime> Cursor for RowChunkCursor<T> {
    type Storage = RowChunk<T>;
    type Key<'a> = RowKey<'a>;
    type ValOwn = Vec<u8>;
    type Val<'a> = &'a [u8];
    type Time = T;
    type TimeGat<'a> = &'a T;
    type Diff = i64;
    type DiffGat<'a> = &'a i64;
    type KeyContainer = KeyContainer;
    type ValContainer = SliceContainer<u8>;
    type TimeContainer = Vec<T>;
    type DiffContainer = Vec<i64>;

    #[inline]
    fn key_valid(&self, s: &RowChunk<T>) -> bool {
        self.key < s.len()
    }
    #[inline]
    fn val_valid(&self, s: &RowChunk<T>) -> bool {
        self.val < s.len() && s.row_key(self.val) == s.row_key(self.key)
    }
    #[inline]
    fn key<'a>(&self, s: &'a RowChunk<T>) -> RowKey<'a> {
        s.row_key(self.key)
    }
    #[inline]
    fn val<'a>(&self, s: &'a RowChunk<T>) -> &'a [u8] {
        s.val(self.val)
    }
    fn get_key<'a>(&self, s: &'a RowChunk<T>) -> Option<RowKey<'a>> {
        self.key_valid(s).then(|| self.key(s))
    }
    fn get_val<'a>(&self, s: &'a RowChunk<T>) -> Option<&'a [u8]> {
        self.val_valid(s).then(|| self.val(s))
    }
    fn map_times<L: FnMut(&T, &i64)>(&mut self, s: &RowChunk<T>, mut logic: L) {
        if self.val_valid(s) {
            let mut index = self.val;
            while index < s.len() && s.same_row(self.val, s, index) {
                logic(s.time(index), s.diff_ref(index));
                index += 1;
            }
        }
    }
    fn step_key(&mut self, s: &RowChunk<T>) {
        if self.key_valid(s) {
            let key = s.row_key(self.key);
            while self.key < s.len() && s.row_key(self.key) == key {
                self.key += 1;
            }
            self.val = self.key;
        }
    }
    #[inline]
    fn seek_key(&mut self, s: &RowChunk<T>, key: RowKey<'_>) {
        self.key = super::search::seek(s.hashes(), self.key, key.hash);
        while self.key < s.len() && s.row_key(self.key) < key {
            self.key += 1;
        }
        self.val = self.key;
    }
    fn step_val(&mut self, s: &RowChunk<T>) {
        if self.val_valid(s) {
            let from = self.val;
            while self.val < s.len() && s.same_row(from, s, self.val) {
                self.val += 1;
            }
        }
    }
    fn seek_val(&mut self, s: &RowChunk<T>, val: &[u8]) {
        while self.val_valid(s) && s.val(self.val) < val {
            self.val += 1;
        }
    }
    fn rewind_keys(&mut self, _: &RowChunk<T>) {
        (self.key, self.val) = (0, 0);
    }
    fn rewind_vals(&mut self, _: &RowChunk<T>) {
        self.val = self.key;
    }
}

impl<T: RowTime> Navigable for RowChunk<T> {
    type Cursor = RowChunkCursor<T>;
    fn cursor(&self) -> RowChunkCursor<T> {
        RowChunkCursor { key: 0, val: 0, phantom: PhantomData }
    }
}

impl<T: RowTime> NavigableChunk for RowChunk<T> {
    #[inline]
    fn bounds(&self) -> ((RowKey<'_>, &[u8], &T), (RowKey<'_>, &[u8], &T)) {
        let last = self.len() - 1;
        ((self.row_key(0), self.val(0), self.time(0)), (self.row_key(last), self.val(last), self.time(last)))
    }
}
