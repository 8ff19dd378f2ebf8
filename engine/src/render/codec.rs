//! Columns as flat bytes and back: keys and values of stateful operators.
//!
//! Two encodings. [`Codec`] is compact and made for equality: equal rows are equal bytes, in no useful order.
//! [`Ordered`] preserves order (`memcmp` order is SQL order) and is used where order matters.
//!
//! A [`Codec`] row is a head (a NULL bit for each column and struct field, then the fixed-width values, little-endian,
//! zero under NULL), then the bytes of variable-length columns, each behind its length except for the last. Structs are
//! flattened; of windows whose size the plan knows only the start is kept ([`Codec::windowed`]); dictionaries and views are
//! encoded by value; lists, maps and fixed-size binary as the order-preserving encoding has them. On the keys of unique
//! visitors (a region, a window, a user) it takes 26 bytes a row where arrow's rows take 47.
//!
//! **Equality** (semantics 21): in keys NULL equals NULL, `-0.0` equals `0.0`, all NaN are equal. What is decoded is the
//! normal form, `0.0` and the positive quiet NaN: so a group of `-0.0` and `0.0` shows `0.0`. Values that are only
//! carried, as those of a join, keep their bits ([`Codec::verbatim`]).

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait,
    PrimitiveArray, StructArray, TimestampMicrosecondArray, make_array, new_empty_array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Fields, Float16Type, Float32Type, Float64Type, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use headwater_operators::Rows;

use super::ordered::{Ordered, plain};
use crate::columns::sound;

/// Rows handled at a time while encoding, so that their bytes stay in the first-level cache.
const BLOCK: usize = 512;

/// The version of the bytes of [`Codec`] and [`Ordered`]. State on disk and messages between
/// processes rest on them: they never change without this number, and golden tests hold them.
pub const ROW_FORMAT: u32 = 1;

/// The compact encoding of columns of given types; see the module.
#[derive(Debug)]
pub struct Codec {
    trees: Vec<Tree>,
    /// Bytes of NULL bits at the start of a row.
    bits: usize,
    /// Bytes of a row before its variable part.
    head: usize,
    /// The number of variable-length columns.
    vars: usize,
    /// Whether floats keep their bits.
    verbatim: bool,
}

/// One column or struct field.
#[derive(Debug)]
struct Tree {
    /// As in the plan.
    data_type: DataType,
    /// As encoded: dictionaries and views by value.
    stored: DataType,
    /// The number of its NULL bit.
    bit: usize,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    /// `width` bytes at `at` in the head.
    Fixed {
        at: usize,
        width: usize,
    },
    Bool {
        at: usize,
    },
    /// Strings and binaries with 32-bit offsets.
    Bytes,
    /// Strings and binaries with 64-bit offsets.
    LargeBytes,
    Struct(Fields, Vec<Tree>),
    /// The start at `at` in the head, of a window that ends `size` microseconds later.
    Window {
        at: usize,
        size: i64,
        fields: Fields,
    },
    /// The type of only NULL.
    Null,
    /// A value as the order-preserving encoding has it.
    Other(Ordered),
}

impl Codec {
    /// The encoding of keys of these types: equal values are equal bytes.
    pub fn new(types: impl IntoIterator<Item = DataType>) -> Result<Self, ArrowError> {
        Codec::windowed(types.into_iter().map(|data_type| (data_type, None)))
    }

    /// The same for columns of which some hold windows of one size, in microseconds: only their starts are kept.
    pub fn windowed(columns: impl IntoIterator<Item = (DataType, Option<i64>)>) -> Result<Self, ArrowError> {
        Codec::build(columns, false)
    }

    /// The encoding of columns that come back bit by bit: `-0.0` and `0.0` are two values, and so are two NaN.
    pub fn verbatim(types: impl IntoIterator<Item = DataType>) -> Result<Self, ArrowError> {
        Codec::build(types.into_iter().map(|data_type| (data_type, None)), true)
    }

    fn build(columns: impl IntoIterator<Item = (DataType, Option<i64>)>, verbatim: bool) -> Result<Self, ArrowError> {
        let mut layout = Layout::default();
        let tree = |(data_type, size)| match size {
            Some(size) => layout.window(data_type, size),
            None => layout.tree(data_type),
        };
        let mut trees = columns.into_iter().map(tree).collect::<Result<Vec<_>, _>>()?;
        let bits = layout.nodes.div_ceil(8);
        trees.iter_mut().for_each(|t| t.shift(bits));
        Ok(Codec { trees, bits, head: bits + layout.fixed, vars: layout.vars, verbatim })
    }

    /// The rows of these columns. Aborts past 4 GiB.
    pub fn encode(&self, columns: &[ArrayRef], rows: usize) -> Rows {
        let mut flat = Flat { verbatim: self.verbatim, ..Flat::default() };
        for (tree, column) in self.trees.iter().zip(columns) {
            tree.flatten(column, None, &mut flat);
        }
        let ends = self.ends(&flat, rows);
        let mut bytes = Vec::with_capacity(ends.last().map_or(0, |&e| e as usize));
        let mut starts = Vec::with_capacity(BLOCK.min(rows));
        for base in (0..rows).step_by(BLOCK) {
            let block = base..rows.min(base + BLOCK);
            starts.clear();
            starts.push(if base == 0 { 0 } else { ends[base - 1] });
            starts.extend_from_slice(&ends[base..block.end - 1]);
            bytes.resize(ends[block.end - 1] as usize, 0);
            for (bit, nulls) in &flat.nulls {
                for (row, &start) in block.clone().zip(&starts) {
                    bytes[start as usize + bit / 8] |= u8::from(nulls.is_null(row)) << (bit % 8);
                }
            }
            for leaf in &flat.fixed {
                leaf.write(&mut bytes, &starts, base);
            }
            starts.iter_mut().for_each(|s| *s += self.head as u32);
            for (index, leaf) in flat.vars.iter().enumerate() {
                leaf.write(&mut bytes, &mut starts, base, index + 1 < self.vars);
            }
        }
        Rows::from_parts(bytes, ends)
    }

    fn ends(&self, flat: &Flat, rows: usize) -> Vec<u32> {
        let mut ends = vec![self.head as u32; rows];
        for (index, leaf) in flat.vars.iter().enumerate() {
            let prefixed = index + 1 < self.vars;
            for (row, len) in ends.iter_mut().enumerate() {
                let bytes = leaf.range(row).len() as u32;
                *len += bytes + if prefixed { varint_len(bytes) } else { 0 };
            }
        }
        let mut total = 0u64;
        for end in &mut ends {
            total += u64::from(*end);
            *end = total as u32;
        }
        if total > u64::from(u32::MAX) {
            sound::<()>(Err(ArrowError::ComputeError("more than 4 GiB in one batch of rows".into())));
        }
        ends
    }

    /// What takes the first `columns` columns from rows. `of` is the encoding of those columns alone.
    pub fn leading(&self, columns: usize, of: &Codec) -> Leading {
        debug_assert_eq!((of.trees.len(), of.verbatim), (columns, self.verbatim));
        let nodes = self.trees.get(columns).map(|tree| tree.bit);
        let last = nodes.map_or(u8::MAX, |nodes| u8::MAX >> ((8 - nodes % 8) % 8));
        let (fixed, more) = (self.bits..self.bits + of.head - of.bits, of.vars < self.vars);
        let packs = fixed.start == of.bits && fixed.end <= size_of::<u128>() && (of.vars == 0 || !more);
        let mut mask = [0; size_of::<u128>()];
        if packs {
            mask[..fixed.end].fill(u8::MAX);
            mask[..of.bits].iter_mut().rev().take(1).for_each(|byte| *byte = last);
        }
        let mask = packs.then(|| u128::from_le_bytes(mask));
        Leading { bits: of.bits, last, fixed, head: self.head, vars: of.vars, more, mask }
    }

    /// The place of a column's NULL bit: a row's byte, and the bit in it.
    pub fn null(&self, column: usize) -> (usize, u8) {
        let bit = self.trees[column].bit;
        (bit / 8, 1 << (bit % 8))
    }

    /// The columns of rows that [`Codec::encode`] made.
    pub fn decode(&self, rows: &Rows) -> Vec<ArrayRef> {
        if rows.is_empty() {
            return self.trees.iter().map(|t| new_empty_array(&t.data_type)).collect();
        }
        let mut any = vec![0u8; self.bits];
        for start in starts(rows) {
            for (any, bits) in any.iter_mut().zip(&rows.bytes()[start..start + self.bits]) {
                *any |= bits;
            }
        }
        let mut reader = Reader { rows, any, cursors: Vec::new(), vars_left: self.vars, head: self.head };
        self.trees.iter().map(|t| sound(t.read(&mut reader))).collect()
    }
}

/// The leading columns of rows, taken from the rows' bytes: the same as their own [`Codec`] would make.
#[derive(Debug)]
pub struct Leading {
    /// Bytes of NULL bits of the leading columns, and what of the last one is theirs.
    bits: usize,
    last: u8,
    /// Where their fixed-width values are in a row.
    fixed: Range<usize>,
    /// Where the variable part begins.
    head: usize,
    /// How many of the variable-length columns are theirs, and whether there are more behind.
    vars: usize,
    more: bool,
    /// What of a row's first bytes is theirs, where these have the NULL bits and all fixed-width values.
    mask: Option<u128>,
}

/// The leading columns of a short row: its first bytes, then the variable part with its length in the last byte.
pub type Packed = [u128; 2];

/// The longest variable part of a packed row.
const PACKED: usize = 14;

impl Leading {
    /// The leading columns of a row as two numbers, if it is a short one. The last byte but one is left free.
    #[inline]
    pub fn packed(&self, row: &[u8]) -> Option<Packed> {
        let (mask, first) = (self.mask?, beginning(row));
        let len = if self.vars > 0 { row.len() - self.head } else { 0 };
        let var = match row.last_chunk() {
            _ if len > PACKED => return None,
            _ if len == 0 => 0,
            Some(last) => u128::from_le_bytes(*last) >> (8 * (size_of::<u128>() - len)),
            None => beginning(&row[self.head..]),
        };
        Some([first & mask, var | (len as u128) << 120])
    }

    /// Appends the columns that were [packed](Leading::packed).
    pub fn unpack(&self, [first, var]: Packed, out: &mut Vec<u8>) {
        out.extend_from_slice(&first.to_le_bytes()[..self.fixed.end]);
        out.extend_from_slice(&var.to_le_bytes()[..(var >> 120) as usize]);
    }

    /// Appends the leading columns of a row.
    pub fn append(&self, row: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&row[..self.bits]);
        if let Some(last) = out.last_mut().filter(|_| self.bits > 0) {
            *last &= self.last;
        }
        out.extend_from_slice(&row[self.fixed.clone()]);
        if !self.more {
            return out.extend_from_slice(&row[self.head..]);
        }
        let mut at = self.head;
        for var in 1..=self.vars {
            let (len, value) = get_varint(row, at);
            // The last one has no length before it.
            let begin = if var == self.vars { value } else { at };
            at = value + len as usize;
            out.extend_from_slice(&row[begin..at]);
        }
    }
}

/// The first bytes as a number. Whole words of them: bytes that were just written one by one are slow to read as words.
#[inline]
fn beginning(bytes: &[u8]) -> u128 {
    match (bytes.first_chunk(), bytes.first_chunk(), bytes.last_chunk()) {
        (Some(all), _, _) => u128::from_le_bytes(*all),
        (None, Some(first), Some(last)) => {
            let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
            u128::from(first) | u128::from(last) << (8 * (bytes.len() - size_of::<u64>()))
        }
        _ => bytes.iter().rev().fold(0, |number, byte| number << 8 | u128::from(*byte)),
    }
}

/// Where each row starts.
fn starts(rows: &Rows) -> impl Iterator<Item = usize> {
    std::iter::once(0).chain(rows.ends()[..rows.len().saturating_sub(1)].iter().map(|&e| e as usize))
}

/// Counts of what has been laid out.
#[derive(Default)]
struct Layout {
    nodes: usize,
    fixed: usize,
    vars: usize,
}

impl Layout {
    fn tree(&mut self, data_type: DataType) -> Result<Tree, ArrowError> {
        let stored = match &data_type {
            DataType::Dictionary(_, value) => value.as_ref().clone(),
            DataType::RunEndEncoded(_, value) => value.data_type().clone(),
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            // The columns within are encoded one by one.
            DataType::Struct(_) => data_type.clone(),
            other => plain(other),
        };
        let bit = self.nodes;
        self.nodes += 1;
        let shape = match &stored {
            DataType::Null => Shape::Null,
            DataType::Boolean => Shape::Bool { at: self.fixed(1) },
            DataType::Utf8 | DataType::Binary => self.var(Shape::Bytes),
            DataType::LargeUtf8 | DataType::LargeBinary => self.var(Shape::LargeBytes),
            DataType::Struct(fields) => {
                let children = fields.iter().map(|f| self.tree(f.data_type().clone())).collect::<Result<_, _>>()?;
                Shape::Struct(fields.clone(), children)
            }
            other => match other.primitive_width() {
                Some(width) => Shape::Fixed { at: self.fixed(width), width },
                None => self.var(Shape::Other(Ordered::new([(other.clone(), SortOptions::default())])?)),
            },
        };
        Ok(Tree { data_type, stored, bit, shape })
    }

    /// Of a window: a struct of its start and its end.
    fn window(&mut self, data_type: DataType, size: i64) -> Result<Tree, ArrowError> {
        let fields = match &data_type {
            DataType::Struct(fields) if fields.len() == 2 && fields.iter().all(|field| is_bound(field.data_type())) => {
                fields.clone()
            }
            _ => return self.tree(data_type),
        };
        let bit = self.nodes;
        self.nodes += 1;
        let shape = Shape::Window { at: self.fixed(size_of::<i64>()), size, fields };
        Ok(Tree { stored: data_type.clone(), data_type, bit, shape })
    }

    fn fixed(&mut self, width: usize) -> usize {
        self.fixed += width;
        self.fixed - width
    }

    fn var(&mut self, shape: Shape) -> Shape {
        self.vars += 1;
        shape
    }
}

/// Whether a field of this type can be a bound of a window.
fn is_bound(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _))
}

/// The leaves of a batch, ready to be written.
#[derive(Default)]
struct Flat {
    fixed: Vec<FixedLeaf>,
    vars: Vec<VarLeaf>,
    nulls: Vec<(usize, NullBuffer)>,
    verbatim: bool,
}

impl Flat {
    /// The array as it is encoded.
    fn normal(&self, array: &ArrayRef) -> ArrayRef {
        if self.verbatim { array.clone() } else { normalise(array) }
    }
}

struct FixedLeaf {
    at: usize,
    width: usize,
    values: Buffer,
    nulls: Option<NullBuffer>,
}

impl FixedLeaf {
    fn write(&self, bytes: &mut [u8], starts: &[u32], base: usize) {
        match self.width {
            1 => self.put::<1>(bytes, starts, base),
            2 => self.put::<2>(bytes, starts, base),
            4 => self.put::<4>(bytes, starts, base),
            8 => self.put::<8>(bytes, starts, base),
            16 => self.put::<16>(bytes, starts, base),
            _ => self.put::<32>(bytes, starts, base),
        }
    }

    fn put<const W: usize>(&self, bytes: &mut [u8], starts: &[u32], base: usize) {
        let (values, _) = self.values[base * W..(base + starts.len()) * W].as_chunks::<W>();
        let mut put = |start: u32, value: &[u8; W]| {
            let at = start as usize + self.at;
            bytes[at..at + W].copy_from_slice(value);
        };
        match &self.nulls {
            None => starts.iter().zip(values).for_each(|(&start, value)| put(start, value)),
            Some(nulls) => {
                for (row, (&start, value)) in starts.iter().zip(values).enumerate() {
                    if nulls.is_valid(base + row) {
                        put(start, value);
                    }
                }
            }
        }
    }
}

struct VarLeaf {
    offsets: VarOffsets,
    values: Buffer,
    nulls: Option<NullBuffer>,
}

enum VarOffsets {
    Short(OffsetBuffer<i32>),
    Long(OffsetBuffer<i64>),
}

impl VarLeaf {
    #[inline]
    fn range(&self, row: usize) -> Range<usize> {
        if self.nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            return 0..0;
        }
        match &self.offsets {
            VarOffsets::Short(o) => o[row] as usize..o[row + 1] as usize,
            VarOffsets::Long(o) => o[row] as usize..o[row + 1] as usize,
        }
    }

    /// Writes at the cursors and moves them.
    fn write(&self, bytes: &mut [u8], cursors: &mut [u32], base: usize, prefixed: bool) {
        for (row, cursor) in cursors.iter_mut().enumerate() {
            let value = &self.values[self.range(base + row)];
            let mut at = *cursor as usize;
            if prefixed {
                at = put_varint(bytes, at, value.len() as u32);
            }
            copy(&mut bytes[at..at + value.len()], value);
            *cursor = (at + value.len()) as u32;
        }
    }
}

/// Copies a value to a place of its length. Most are short, and two overlapping words are faster than a call.
#[inline]
fn copy(to: &mut [u8], from: &[u8]) {
    match from.len() {
        4..8 => words::<4>(to, from),
        8..=16 => words::<8>(to, from),
        _ => to.copy_from_slice(from),
    }
}

#[inline]
fn words<const W: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(first), Some(last)) = (from.first_chunk::<W>(), from.last_chunk::<W>()) {
        to[..W].copy_from_slice(first);
        let end = to.len() - W;
        to[end..].copy_from_slice(last);
    }
}

#[inline]
fn varint_len(value: u32) -> u32 {
    (38 - (value | 1).leading_zeros()) / 7
}

#[inline]
fn put_varint(bytes: &mut [u8], mut at: usize, mut value: u32) -> usize {
    while value >= 0x80 {
        bytes[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    bytes[at] = value as u8;
    at + 1
}

#[inline]
fn get_varint(bytes: &[u8], mut at: usize) -> (u32, usize) {
    let (mut value, mut shift) = (0u32, 0);
    loop {
        let byte = bytes[at];
        at += 1;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (value, at);
        }
        shift += 7;
    }
}

impl Tree {
    /// Moves the head behind `bits` bytes of NULL bits.
    fn shift(&mut self, bits: usize) {
        match &mut self.shape {
            Shape::Fixed { at, .. } | Shape::Bool { at } | Shape::Window { at, .. } => *at += bits,
            Shape::Struct(_, children) => children.iter_mut().for_each(|c| c.shift(bits)),
            Shape::Bytes | Shape::LargeBytes | Shape::Null | Shape::Other(..) => {}
        }
    }

    fn flatten(&self, array: &ArrayRef, parent: Option<&NullBuffer>, flat: &mut Flat) {
        let cast_array;
        let array = if array.data_type() == &self.stored {
            array
        } else {
            cast_array = sound(cast(array, &self.stored));
            &cast_array
        };
        let nulls = NullBuffer::union(parent, array.nulls()).filter(|n| n.null_count() > 0);
        if let Some(nulls) = &nulls {
            flat.nulls.push((self.bit, nulls.clone()));
        }
        match &self.shape {
            Shape::Null => {}
            Shape::Fixed { at, width } => {
                let data = flat.normal(array).to_data();
                let values = data.buffers()[0].slice(data.offset() * width);
                flat.fixed.push(FixedLeaf { at: *at, width: *width, values, nulls });
            }
            Shape::Bool { at } => {
                let values: Vec<u8> = array.as_boolean().values().iter().map(u8::from).collect();
                flat.fixed.push(FixedLeaf { at: *at, width: 1, values: Buffer::from_vec(values), nulls });
            }
            Shape::Bytes => {
                let (offsets, values) = match self.stored {
                    DataType::Utf8 => {
                        (array.as_string::<i32>().offsets().clone(), array.as_string::<i32>().values().clone())
                    }
                    _ => (array.as_binary::<i32>().offsets().clone(), array.as_binary::<i32>().values().clone()),
                };
                flat.vars.push(VarLeaf { offsets: VarOffsets::Short(offsets), values, nulls });
            }
            Shape::LargeBytes => {
                let (offsets, values) = match self.stored {
                    DataType::LargeUtf8 => {
                        (array.as_string::<i64>().offsets().clone(), array.as_string::<i64>().values().clone())
                    }
                    _ => (array.as_binary::<i64>().offsets().clone(), array.as_binary::<i64>().values().clone()),
                };
                flat.vars.push(VarLeaf { offsets: VarOffsets::Long(offsets), values, nulls });
            }
            Shape::Struct(_, children) => {
                for (child, column) in children.iter().zip(array.as_struct().columns()) {
                    child.flatten(column, nulls.as_ref(), flat);
                }
            }
            Shape::Window { at, .. } => {
                let starts = array.as_struct().column(0).as_primitive::<TimestampMicrosecondType>();
                let values = starts.values().inner().clone();
                flat.fixed.push(FixedLeaf { at: *at, width: size_of::<i64>(), values, nulls });
            }
            Shape::Other(ordered) => {
                let rows = ordered.encode(&[flat.normal(array)], array.len());
                let ends = rows.ends().iter().map(|&end| i64::from(end));
                let offsets = OffsetBuffer::new(std::iter::once(0).chain(ends).collect());
                let values = Buffer::from_slice_ref(rows.bytes());
                flat.vars.push(VarLeaf { offsets: VarOffsets::Long(offsets), values, nulls });
            }
        }
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<ArrayRef, ArrowError> {
        let len = reader.rows.len();
        let nulls = reader.nulls(self.bit);
        let array: ArrayRef = match &self.shape {
            Shape::Null => new_null_array(&DataType::Null, len),
            Shape::Fixed { at, width } => {
                let data = ArrayData::builder(self.stored.clone())
                    .len(len)
                    .add_buffer(reader.fixed(*at, *width))
                    .nulls(nulls)
                    .build()?;
                make_array(data)
            }
            Shape::Bool { at } => {
                let bytes = reader.fixed(*at, 1);
                Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(len, |i| bytes[i] != 0), nulls))
            }
            Shape::Bytes => {
                let (offsets, values) = reader.vars::<i32>();
                self.bytes(len, offsets, values, nulls)?
            }
            Shape::LargeBytes => {
                let (offsets, values) = reader.vars::<i64>();
                self.bytes(len, offsets, values, nulls)?
            }
            Shape::Struct(fields, children) => {
                let columns = children.iter().map(|c| c.read(reader)).collect::<Result<_, _>>()?;
                Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?)
            }
            Shape::Window { at, size, fields } => {
                let starts = ScalarBuffer::<i64>::from(reader.fixed(*at, size_of::<i64>()));
                let ends = starts.iter().map(|start| start.wrapping_add(*size)).collect();
                let bounds = fields.iter().zip([starts, ends]).map(|(field, bounds)| {
                    let bounds = TimestampMicrosecondArray::new(bounds, nulls.clone());
                    Arc::new(bounds.with_data_type(field.data_type().clone())) as ArrayRef
                });
                Arc::new(StructArray::try_new(fields.clone(), bounds.collect(), nulls.clone())?)
            }
            Shape::Other(ordered) => {
                let (offsets, values) = reader.vars::<i64>();
                let rows = (0..len).map(|row| match &nulls {
                    Some(nulls) if nulls.is_null(row) => ordered.null(),
                    _ => &values[offsets[row] as usize..offsets[row + 1] as usize],
                });
                ordered.decode(rows).swap_remove(0)
            }
        };
        if array.data_type() == &self.data_type { Ok(array) } else { cast(&array, &self.data_type) }
    }

    fn bytes<O: OffsetSizeTrait>(
        &self,
        len: usize,
        offsets: OffsetBuffer<O>,
        values: Buffer,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, ArrowError> {
        let data = ArrayData::builder(self.stored.clone())
            .len(len)
            .add_buffer(offsets.into_inner().into_inner())
            .add_buffer(values)
            .nulls(nulls)
            .build()?;
        Ok(make_array(data))
    }
}

/// Reads columns off rows, variable-length ones in their order.
struct Reader<'a> {
    rows: &'a Rows,
    /// All rows' NULL bits together.
    any: Vec<u8>,
    /// Where each row's next variable-length value starts, once the first was read.
    cursors: Vec<u32>,
    vars_left: usize,
    head: usize,
}

impl Reader<'_> {
    fn nulls(&self, bit: usize) -> Option<NullBuffer> {
        let (byte, mask) = (bit / 8, 1u8 << (bit % 8));
        (self.any[byte] & mask != 0).then(|| {
            let bytes = self.rows.bytes();
            let valid: Vec<bool> = starts(self.rows).map(|start| bytes[start + byte] & mask == 0).collect();
            NullBuffer::from(valid)
        })
    }

    fn fixed(&self, at: usize, width: usize) -> Buffer {
        match width {
            1 => self.get::<1>(at),
            2 => self.get::<2>(at),
            4 => self.get::<4>(at),
            8 => self.get::<8>(at),
            16 => self.get::<16>(at),
            _ => self.get::<32>(at),
        }
    }

    fn get<const W: usize>(&self, at: usize) -> Buffer {
        let mut out = MutableBuffer::from_len_zeroed(self.rows.len() * W);
        let bytes = self.rows.bytes();
        let (values, _) = out.as_slice_mut().as_chunks_mut::<W>();
        for (value, start) in values.iter_mut().zip(starts(self.rows)) {
            value.copy_from_slice(&bytes[start + at..start + at + W]);
        }
        out.into()
    }

    fn vars<O: OffsetSizeTrait>(&mut self) -> (OffsetBuffer<O>, Buffer) {
        let bytes = self.rows.bytes();
        let mut values = vec![0u8; bytes.len().saturating_sub(self.rows.len() * self.head)];
        let mut filled = 0;
        let mut offsets = Vec::with_capacity(self.rows.len() + 1);
        offsets.push(O::default());
        let head = self.head as u32;
        if self.cursors.is_empty() {
            self.cursors.extend(starts(self.rows).map(|s| s as u32 + head));
        }
        self.vars_left -= 1;
        for (cursor, &end) in self.cursors.iter_mut().zip(self.rows.ends()) {
            let (len, at) = match self.vars_left {
                0 => ((end - *cursor), *cursor as usize),
                _ => get_varint(bytes, *cursor as usize),
            };
            let next = at + len as usize;
            let value = &bytes[at..next];
            copy(&mut values[filled..filled + value.len()], value);
            filled += value.len();
            offsets.push(O::usize_as(filled));
            *cursor = next as u32;
        }
        values.truncate(filled);
        if filled * 2 < values.capacity() {
            values.shrink_to_fit();
        }
        (OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(values))
    }
}

/// The array with `0.0` for `-0.0` and one NaN, also inside of lists and structs.
fn normalise(array: &ArrayRef) -> ArrayRef {
    fn floats<T: ArrowPrimitiveType>(
        array: &ArrayRef,
        odd: impl Fn(T::Native) -> bool,
        normal: impl Fn(T::Native) -> T::Native,
    ) -> ArrayRef {
        let floats = array.as_primitive::<T>();
        if !floats.values().iter().any(|&v| odd(v)) {
            return array.clone();
        }
        let values: ScalarBuffer<T::Native> = floats.values().iter().map(|&v| normal(v)).collect();
        Arc::new(PrimitiveArray::<T>::new(values, floats.nulls().cloned()))
    }
    fn list<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> ArrayRef {
        let (DataType::List(field) | DataType::LargeList(field)) = list.data_type() else {
            return Arc::new(list.clone());
        };
        let values = normalise(list.values());
        Arc::new(GenericListArray::new(field.clone(), list.offsets().clone(), values, list.nulls().cloned()))
    }
    match array.data_type() {
        DataType::Float64 => floats::<Float64Type>(
            array,
            |v| v.is_nan() || v.to_bits() == (-0.0f64).to_bits(),
            |v| if v.is_nan() { f64::NAN } else { v + 0.0 },
        ),
        DataType::Float32 => floats::<Float32Type>(
            array,
            |v| v.is_nan() || v.to_bits() == (-0.0f32).to_bits(),
            |v| if v.is_nan() { f32::NAN } else { v + 0.0 },
        ),
        DataType::Float16 => {
            type F16 = <Float16Type as ArrowPrimitiveType>::Native;
            floats::<Float16Type>(
                array,
                |v| v.is_nan() || v.to_bits() == F16::NEG_ZERO.to_bits(),
                |v| if v.is_nan() { F16::NAN } else { v + F16::ZERO },
            )
        }
        DataType::List(_) => list(array.as_list::<i32>()),
        DataType::LargeList(_) => list(array.as_list::<i64>()),
        DataType::FixedSizeList(field, size) => {
            let list: &FixedSizeListArray = array.as_fixed_size_list();
            Arc::new(FixedSizeListArray::new(field.clone(), *size, normalise(list.values()), list.nulls().cloned()))
        }
        DataType::Map(field, sorted) => {
            let map = array.as_map();
            let entries = normalise(&(Arc::new(map.entries().clone()) as ArrayRef)).as_struct().clone();
            Arc::new(MapArray::new(field.clone(), map.offsets().clone(), entries, map.nulls().cloned(), *sorted))
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().map(normalise).collect();
            Arc::new(StructArray::new(fields.clone(), columns, array.nulls().cloned()))
        }
        _ => array.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        DictionaryArray, Float64Array, Int32Array, Int64Array, LargeStringArray, ListArray, NullArray, StringArray,
        StringViewArray, UInt8Array,
    };
    use arrow::datatypes::{Field, Int32Type};
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};

    fn random_columns(rng: &mut StdRng, rows: usize) -> Vec<ArrayRef> {
        let mut some = |p: f64| rng.random_bool(p);
        let ints: Int64Array = (0..rows).map(|i| some(0.8).then_some(i as i64 % 3)).collect();
        let bytes: UInt8Array = (0..rows).map(|i| (i % 5) as u8).map(Some).collect();
        let bools: BooleanArray = (0..rows).map(|_| if some(0.7) { Some(some(0.5)) } else { None }).collect();
        let words = ["", "a", "bc", "some longer text that needs no more than a byte", "\u{1f980}"];
        let long = "x".repeat(300);
        let mut word = |p: f64| {
            rng.random_bool(p).then(|| match rng.random_range(0..=words.len()) {
                5 => long.clone(),
                i => words[i].to_string(),
            })
        };
        let strings: StringArray = (0..rows).map(|_| word(0.9)).collect();
        let large: LargeStringArray = (0..rows).map(|_| word(0.9)).collect();
        let view: StringViewArray = (0..rows).map(|_| word(0.9)).collect();
        let dictionary: DictionaryArray<Int32Type> =
            (0..rows).map(|_| word(0.9)).collect::<Vec<_>>().iter().map(|w| w.as_deref()).collect();
        let start = TimestampMicrosecondArray::from_iter_values((0..rows).map(|i| i as i64 - 2));
        let window = StructArray::new(
            vec![Field::new("start", start.data_type().clone(), true), Field::new("label", DataType::Utf8, true)]
                .into(),
            vec![Arc::new(start), Arc::new(strings.clone())],
            Some(NullBuffer::from((0..rows).map(|i| i % 4 != 1).collect::<Vec<_>>())),
        );
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(
            (0..rows).map(|i| (i % 3 != 2).then(|| (0..i as i32 % 4).map(Some).collect::<Vec<_>>())),
        );
        vec![
            Arc::new(ints),
            Arc::new(strings),
            Arc::new(bytes),
            Arc::new(large),
            Arc::new(bools),
            Arc::new(NullArray::new(rows)),
            Arc::new(window),
            Arc::new(lists),
            Arc::new(view),
            Arc::new(dictionary),
        ]
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let mut rng = StdRng::seed_from_u64(1);
        for rows in [0, 1, 2, 17, 700, 1500] {
            let all = random_columns(&mut rng, rows);
            for _ in 0..20 {
                let columns: Vec<ArrayRef> = all.iter().filter(|_| rng.random_bool(0.5)).cloned().collect();
                let offset = rng.random_range(0..=rows);
                let len = rng.random_range(0..=rows - offset);
                let columns: Vec<ArrayRef> = columns.iter().map(|c| c.slice(offset, len)).collect();
                let codec = Codec::new(columns.iter().map(|c| c.data_type().clone())).unwrap();
                let encoded = codec.encode(&columns, len);
                assert_eq!(encoded.len(), len);
                for (back, column) in codec.decode(&encoded).iter().zip(&columns) {
                    assert_eq!(back, column);
                }
                // Encoded again, decoded columns give the same bytes: the encoding is canonical.
                assert_eq!(codec.encode(&codec.decode(&encoded), len), encoded);
                let ordered =
                    Ordered::new(columns.iter().map(|c| (c.data_type().clone(), SortOptions::default()))).unwrap();
                let encoded = ordered.encode(&columns, len);
                assert_eq!(encoded.len(), len);
                for (back, column) in ordered.decode(encoded.iter()).iter().zip(&columns) {
                    assert_eq!(back, column);
                }
            }
        }
    }

    #[test]
    fn leading_columns_are_taken_from_the_bytes() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut packs = 0;
        for _ in 0..200 {
            let rows = rng.random_range(1..40);
            let mut columns = random_columns(&mut rng, rows);
            columns.shuffle(&mut rng);
            columns.truncate(rng.random_range(1..=columns.len()));
            let codec = |columns: &[ArrayRef]| Codec::new(columns.iter().map(|c| c.data_type().clone())).unwrap();
            let all = codec(&columns);
            let encoded = all.encode(&columns, rows);
            for count in 0..=columns.len() {
                let of = codec(&columns[..count]);
                let leading = all.leading(count, &of);
                let mut taken = Rows::default();
                for row in encoded.iter() {
                    let mut bytes = Vec::new();
                    leading.append(row, &mut bytes);
                    taken.push(&bytes);
                    if let Some(packed) = leading.packed(row) {
                        let mut unpacked = Vec::new();
                        leading.unpack(packed, &mut unpacked);
                        assert_eq!(unpacked, bytes);
                        packs += 1;
                    }
                }
                assert_eq!(taken, of.encode(&columns[..count], rows));
            }
            for (place, column) in columns.iter().enumerate() {
                let (byte, bit) = all.null(place);
                let nulls = column.logical_nulls();
                for (row, bytes) in encoded.iter().enumerate() {
                    let null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
                    assert_eq!(bytes[byte] & bit != 0, null && *column.data_type() != DataType::Null);
                }
            }
        }
        assert!(packs > 100, "{packs} rows were packed");
    }

    /// Windows of one size by their starts, with and without a zone, NULL ones too.
    #[test]
    fn windows_come_back_from_their_starts() {
        for zone in [None, Some("+02:00".into())] {
            let time = DataType::Timestamp(TimeUnit::Microsecond, zone);
            let fields = Fields::from(vec![Field::new("start", time.clone(), true), Field::new("end", time, true)]);
            let starts: TimestampMicrosecondArray =
                [Some(-60), None, Some(0), Some(i64::MAX - 60), Some(-60)].into_iter().collect();
            let bounds = [starts.clone(), starts.unary(|start| start.wrapping_add(60))];
            let bounds = bounds
                .into_iter()
                .zip(&fields)
                .map(|(bounds, field)| Arc::new(bounds.with_data_type(field.data_type().clone())) as ArrayRef);
            let windows: ArrayRef =
                Arc::new(StructArray::new(fields.clone(), bounds.collect(), starts.nulls().cloned()));
            let users: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("b"), None, Some("d"), Some("a")]));
            let (whole, user) = (windows.data_type().clone(), users.data_type().clone());
            let codec = Codec::windowed([(whole, Some(60)), (user, None)]).unwrap();
            let rows = codec.encode(&[windows.clone(), users.clone()], 5);
            assert_eq!(rows.get(0).len(), 1 + 8 + 1);
            assert_eq!(rows.get(0), rows.get(4));
            assert_eq!(codec.decode(&rows), [windows.clone(), users]);
            let of = Codec::windowed([(windows.data_type().clone(), Some(60))]).unwrap();
            let mut first = Vec::new();
            codec.leading(1, &of).append(rows.get(3), &mut first);
            assert_eq!(first, of.encode(&[windows.slice(3, 1)], 1).get(0));
        }
        // What is no window is encoded as it is.
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        let codec = |size| Codec::windowed([(DataType::Int64, size)]).unwrap();
        assert_eq!(codec(Some(60)).encode(std::slice::from_ref(&numbers), 1), codec(None).encode(&[numbers], 1));
    }

    #[test]
    fn equal_values_are_equal_bytes() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.5]));
        let list = ListArray::new(
            Arc::new(Field::new_list_field(DataType::Float64, true)),
            OffsetBuffer::from_lengths([1, 1, 1, 1, 1]),
            floats.clone(),
            None,
        );
        for column in [floats, Arc::new(list)] {
            let codec = Codec::new([column.data_type().clone()]).unwrap();
            let rows = codec.encode(&[column], 5);
            assert_eq!(rows.get(0), rows.get(1));
            assert_eq!(rows.get(2), rows.get(3));
            assert_ne!(rows.get(0), rows.get(2));
            assert_ne!(rows.get(0), rows.get(4));
        }
        // What lies under a NULL doesn't count.
        let nulls = Some(NullBuffer::from(vec![false, false]));
        let ints: ArrayRef = Arc::new(Int32Array::new(vec![1, 2].into(), nulls));
        let rows = Codec::new([DataType::Int32]).unwrap().encode(&[ints], 2);
        assert_eq!(rows.get(0), rows.get(1));
    }

    #[test]
    fn lengths_of_varints() {
        for value in [0, 1, 127, 128, 16383, 16384, u32::MAX] {
            let mut bytes = [0; 8];
            let end = put_varint(&mut bytes, 0, value);
            assert_eq!(end as u32, varint_len(value));
            assert_eq!(get_varint(&bytes, 0), (value, end));
        }
    }
}
