//! The order-preserving encoding of columns: rows compare as bytes (`memcmp`) in the order asked for.
//!
//! The bytes are our own and never change (see [`ROW_FORMAT`](super::codec::ROW_FORMAT)); golden tests hold them. A value is
//! a mark and, unless it is NULL, a body. The mark is 1; that of NULL is 0 where NULL comes first, 255 where it comes last.
//!
//! | type | body |
//! |---|---|
//! | boolean | a byte |
//! | integers, decimals, dates, times, durations | big-endian, the sign bit turned; intervals part by part |
//! | floats | big-endian; the sign bit turned, or all bits of a negative one: `-0.0` before `0.0`, NaN at the ends |
//! | text, binary | each zero byte is followed by 255; then two zeros |
//! | fixed-size binary | as it is |
//! | struct, fixed-size list | the values of its fields, its elements |
//! | list, map | each element behind a 1; then a zero |
//!
//! Where a column descends, the bits of its body are turned. Within a body NULL comes where it does outside.
//! Dictionaries, run-end encodings and views are encoded by value.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, GenericListArray, MapArray, NullArray,
    OffsetSizeTrait, StructArray, UInt32Array, make_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{SortOptions, cast, take};
use arrow::datatypes::{DataType, FieldRef, Fields, IntervalUnit};
use arrow::error::ArrowError;
use headwater_operators::Rows;

use crate::columns::sound;

/// The mark of a value, and in lists of an element.
const VALUE: u8 = 1;
/// What ends a list.
const END: u8 = 0;
/// What follows a zero byte within text.
const ESCAPE: u8 = 0xff;

/// The encoding of columns; see the module.
#[derive(Debug)]
pub struct Ordered {
    columns: Vec<Column>,
    /// The row of only NULL.
    null: Vec<u8>,
}

#[derive(Debug)]
struct Column {
    /// As in the plan.
    data_type: DataType,
    /// As encoded.
    stored: DataType,
    form: Form,
    options: SortOptions,
}

/// How values of a type are encoded.
#[derive(Debug)]
enum Form {
    Null,
    Bool,
    Number {
        number: Number,
        width: usize,
    },
    /// Text and binary, with offsets of 32 bits or of 64.
    Bytes {
        large: bool,
    },
    FixedBytes(usize),
    Struct(Fields, Vec<Form>),
    List {
        field: FieldRef,
        large: bool,
        element: Box<Form>,
    },
    FixedList {
        field: FieldRef,
        size: usize,
        element: Box<Form>,
    },
    Map {
        field: FieldRef,
        sorted: bool,
        entry: Box<Form>,
    },
}

/// How the bytes of a number are made to ascend.
#[derive(Clone, Copy, Debug)]
enum Number {
    Unsigned,
    Signed,
    Float,
    /// Signed parts of these widths, one after another.
    Parts(&'static [usize]),
}

/// The type by value: without dictionaries, run ends and views, also within it.
pub(super) fn plain(data_type: &DataType) -> DataType {
    let field =
        |field: &FieldRef| -> FieldRef { Arc::new(field.as_ref().clone().with_data_type(plain(field.data_type()))) };
    match data_type {
        DataType::Dictionary(_, value) => plain(value),
        DataType::RunEndEncoded(_, value) => plain(value.data_type()),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(element) | DataType::ListView(element) => DataType::List(field(element)),
        DataType::LargeList(element) | DataType::LargeListView(element) => DataType::LargeList(field(element)),
        DataType::FixedSizeList(element, size) => DataType::FixedSizeList(field(element), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::Map(entry, sorted) => DataType::Map(field(entry), *sorted),
        other => other.clone(),
    }
}

/// How values of a plain type are encoded; an error for a type without an order.
fn form(data_type: &DataType) -> Result<Form, ArrowError> {
    let number = |number| Ok(Form::Number { number, width: data_type.primitive_width().unwrap_or(0) });
    match data_type {
        DataType::Null => Ok(Form::Null),
        DataType::Boolean => Ok(Form::Bool),
        t if t.is_unsigned_integer() => number(Number::Unsigned),
        t if t.is_floating() => number(Number::Float),
        DataType::Interval(IntervalUnit::DayTime) => number(Number::Parts(&[4, 4])),
        DataType::Interval(IntervalUnit::MonthDayNano) => number(Number::Parts(&[4, 4, 8])),
        t if t.primitive_width().is_some() => number(Number::Signed),
        DataType::Utf8 | DataType::Binary => Ok(Form::Bytes { large: false }),
        DataType::LargeUtf8 | DataType::LargeBinary => Ok(Form::Bytes { large: true }),
        DataType::FixedSizeBinary(width) => Ok(Form::FixedBytes(usize::try_from(*width).unwrap_or(0))),
        DataType::Struct(fields) => {
            let forms = fields.iter().map(|field| form(field.data_type())).collect::<Result<_, _>>()?;
            Ok(Form::Struct(fields.clone(), forms))
        }
        DataType::List(field) | DataType::LargeList(field) => {
            let large = matches!(data_type, DataType::LargeList(_));
            Ok(Form::List { field: field.clone(), large, element: Box::new(form(field.data_type())?) })
        }
        DataType::FixedSizeList(field, size) => {
            let size = usize::try_from(*size).unwrap_or(0);
            Ok(Form::FixedList { field: field.clone(), size, element: Box::new(form(field.data_type())?) })
        }
        DataType::Map(field, sorted) => {
            Ok(Form::Map { field: field.clone(), sorted: *sorted, entry: Box::new(form(field.data_type())?) })
        }
        other => Err(ArrowError::NotYetImplemented(format!("values of type {other} have no order"))),
    }
}

impl Ordered {
    /// The encoding of columns of these types, each in its own order.
    pub fn new(columns: impl IntoIterator<Item = (DataType, SortOptions)>) -> Result<Self, ArrowError> {
        let column = |(data_type, options)| {
            let stored = plain(&data_type);
            Ok::<_, ArrowError>(Column { form: form(&stored)?, stored, data_type, options })
        };
        let columns = columns.into_iter().map(column).collect::<Result<Vec<_>, ArrowError>>()?;
        let null = columns.iter().map(|column| null_mark(column.options.nulls_first)).collect();
        Ok(Ordered { columns, null })
    }

    /// The row whose columns are all NULL.
    pub fn null(&self) -> &[u8] {
        &self.null
    }

    /// The rows of these columns; at most 4 GiB of them.
    pub fn encode(&self, columns: &[ArrayRef], rows: usize) -> Rows {
        let values: Vec<Values> = self.columns.iter().zip(columns).map(|(c, array)| c.values(array)).collect();
        let mut bytes = Vec::with_capacity(rows * (16 * columns.len()));
        let mut ends = Vec::with_capacity(rows);
        for row in 0..rows {
            for (column, values) in self.columns.iter().zip(&values) {
                let SortOptions { descending, nulls_first } = column.options;
                let body = bytes.len() + 1;
                values.append(row, nulls_first, descending, &mut bytes);
                if descending {
                    bytes[body..].iter_mut().for_each(|byte| *byte = !*byte);
                }
            }
            ends.push(bytes.len() as u32);
        }
        if bytes.len() > u32::MAX as usize {
            sound::<()>(Err(ArrowError::ComputeError("more than 4 GiB in one batch of rows".into())));
        }
        Rows::from_parts(bytes, ends)
    }

    /// The columns of rows that [`Ordered::encode`] made.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Vec<ArrayRef> {
        let rows: Vec<&[u8]> = rows.into_iter().collect();
        let mut places: Vec<Place> = (0..rows.len() as u32).map(|row| Place { row, at: 0 }).collect();
        let column = |Column { data_type, stored, form, options }: &Column| {
            let reader = Reader { rows: &rows, mask: if options.descending { 0xff } else { 0 } };
            let array = reader.read(form, stored, true, &mut places)?;
            if array.data_type() == data_type { Ok(array) } else { cast(&array, data_type) }
        };
        self.columns.iter().map(column).map(sound).collect()
    }
}

impl Column {
    fn values(&self, array: &ArrayRef) -> Values {
        match array.data_type() == &self.stored {
            true => Values::new(&self.form, array),
            false => Values::new(&self.form, &sound(cast(array, &self.stored))),
        }
    }
}

fn null_mark(first: bool) -> u8 {
    if first { 0 } else { 0xff }
}

/// An array, ready to be encoded value by value.
struct Values {
    nulls: Option<NullBuffer>,
    body: Body,
}

enum Body {
    Null,
    Bool(BooleanBuffer),
    Number { number: Number, width: usize, values: Buffer },
    Short { offsets: OffsetBuffer<i32>, values: Buffer },
    Long { offsets: OffsetBuffer<i64>, values: Buffer },
    FixedBytes { width: usize, values: Buffer },
    Struct(Vec<Values>),
    List { offsets: OffsetBuffer<i32>, elements: Box<Values> },
    LongList { offsets: OffsetBuffer<i64>, elements: Box<Values> },
    FixedList { size: usize, elements: Box<Values> },
}

impl Values {
    fn new(form: &Form, array: &ArrayRef) -> Self {
        let raw = |width: usize| {
            let data = array.to_data();
            data.buffers()[0].slice(data.offset() * width)
        };
        let body = match form {
            Form::Null => Body::Null,
            Form::Bool => Body::Bool(array.as_boolean().values().clone()),
            Form::Number { number, width } => Body::Number { number: *number, width: *width, values: raw(*width) },
            Form::FixedBytes(width) => Body::FixedBytes { width: *width, values: raw(*width) },
            Form::Bytes { large: false } => {
                let (offsets, values) = match array.data_type() {
                    DataType::Utf8 => (array.as_string::<i32>().offsets(), array.as_string::<i32>().values()),
                    _ => (array.as_binary::<i32>().offsets(), array.as_binary::<i32>().values()),
                };
                Body::Short { offsets: offsets.clone(), values: values.clone() }
            }
            Form::Bytes { large: true } => {
                let (offsets, values) = match array.data_type() {
                    DataType::LargeUtf8 => (array.as_string::<i64>().offsets(), array.as_string::<i64>().values()),
                    _ => (array.as_binary::<i64>().offsets(), array.as_binary::<i64>().values()),
                };
                Body::Long { offsets: offsets.clone(), values: values.clone() }
            }
            Form::Struct(_, forms) => {
                let columns = array.as_struct().columns();
                Body::Struct(forms.iter().zip(columns).map(|(form, column)| Values::new(form, column)).collect())
            }
            Form::List { large: false, element, .. } => {
                let list = array.as_list::<i32>();
                Body::List { offsets: list.offsets().clone(), elements: Box::new(Values::new(element, list.values())) }
            }
            Form::List { large: true, element, .. } => {
                let list = array.as_list::<i64>();
                let elements = Box::new(Values::new(element, list.values()));
                Body::LongList { offsets: list.offsets().clone(), elements }
            }
            Form::FixedList { size, element, .. } => {
                let elements = Box::new(Values::new(element, array.as_fixed_size_list().values()));
                Body::FixedList { size: *size, elements }
            }
            Form::Map { entry, .. } => {
                let map = array.as_map();
                let entries: ArrayRef = Arc::new(map.entries().clone());
                Body::List { offsets: map.offsets().clone(), elements: Box::new(Values::new(entry, &entries)) }
            }
        };
        Values { nulls: array.nulls().cloned(), body }
    }

    /// Appends a value, ascending, in a column that descends or not.
    fn append(&self, row: usize, nulls_first: bool, descending: bool, out: &mut Vec<u8>) {
        if matches!(self.body, Body::Null) || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.push(null_mark(nulls_first));
            return;
        }
        out.push(VALUE);
        // The body of a column that descends will be turned, with the marks in it.
        let nulls_first = nulls_first != descending;
        match &self.body {
            Body::Null => {}
            Body::Bool(values) => out.push(u8::from(values.value(row))),
            Body::Number { number, width, values } => {
                let at = out.len();
                out.extend_from_slice(&values[row * width..(row + 1) * width]);
                number.ascend(&mut out[at..]);
            }
            Body::Short { offsets, values } => {
                append_bytes(out, &values[offsets[row] as usize..offsets[row + 1] as usize]);
            }
            Body::Long { offsets, values } => {
                append_bytes(out, &values[offsets[row] as usize..offsets[row + 1] as usize]);
            }
            Body::FixedBytes { width, values } => out.extend_from_slice(&values[row * width..(row + 1) * width]),
            Body::Struct(fields) => fields.iter().for_each(|field| field.append(row, nulls_first, false, out)),
            Body::List { offsets, elements } => {
                elements.append_list(offsets[row] as usize..offsets[row + 1] as usize, nulls_first, out);
            }
            Body::LongList { offsets, elements } => {
                elements.append_list(offsets[row] as usize..offsets[row + 1] as usize, nulls_first, out);
            }
            Body::FixedList { size, elements } => {
                (row * size..(row + 1) * size).for_each(|row| elements.append(row, nulls_first, false, out));
            }
        }
    }

    fn append_list(&self, rows: std::ops::Range<usize>, nulls_first: bool, out: &mut Vec<u8>) {
        for row in rows {
            out.push(VALUE);
            self.append(row, nulls_first, false, out);
        }
        out.push(END);
    }
}

fn append_bytes(out: &mut Vec<u8>, value: &[u8]) {
    let mut rest = value;
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        out.extend_from_slice(&rest[..=zero]);
        out.push(ESCAPE);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, 0]);
}

impl Number {
    /// Makes a value's little-endian bytes ascend as the values do.
    fn ascend(self, bytes: &mut [u8]) {
        match self {
            Number::Unsigned => bytes.reverse(),
            Number::Signed => {
                bytes.reverse();
                bytes[0] ^= 0x80;
            }
            Number::Float => {
                bytes.reverse();
                match bytes[0] & 0x80 {
                    0 => bytes[0] ^= 0x80,
                    _ => bytes.iter_mut().for_each(|byte| *byte = !*byte),
                }
            }
            Number::Parts(widths) => each_part(bytes, widths, |part| Number::Signed.ascend(part)),
        }
    }

    /// The value's little-endian bytes from what [`Number::ascend`] made of them.
    fn restore(self, bytes: &mut [u8]) {
        match self {
            Number::Unsigned => bytes.reverse(),
            Number::Signed => {
                bytes[0] ^= 0x80;
                bytes.reverse();
            }
            Number::Float => {
                match bytes[0] & 0x80 {
                    0 => bytes.iter_mut().for_each(|byte| *byte = !*byte),
                    _ => bytes[0] ^= 0x80,
                }
                bytes.reverse();
            }
            Number::Parts(widths) => each_part(bytes, widths, |part| Number::Signed.restore(part)),
        }
    }
}

fn each_part(mut bytes: &mut [u8], widths: &[usize], change: impl Fn(&mut [u8])) {
    for width in widths {
        let (part, rest) = bytes.split_at_mut(*width);
        change(part);
        bytes = rest;
    }
}

/// Where a value begins.
#[derive(Clone, Copy)]
struct Place {
    row: u32,
    at: usize,
}

/// Reads arrays off rows.
struct Reader<'a> {
    rows: &'a [&'a [u8]],
    /// Turns the bits of a column that descends.
    mask: u8,
}

impl Reader<'_> {
    fn byte(&self, place: Place) -> u8 {
        self.rows[place.row as usize][place.at] ^ self.mask
    }

    /// Whether a value is there, and not NULL; moves past its mark. That of a column itself is never turned.
    fn mark(&self, outer: bool, place: &mut Place) -> bool {
        let mark = self.byte(*place) ^ if outer { self.mask } else { 0 };
        place.at += 1;
        mark == VALUE
    }

    /// Moves past a value.
    fn skip(&self, form: &Form, place: &mut Place) {
        if self.mark(false, place) {
            self.skip_body(form, place);
        }
    }

    fn skip_body(&self, form: &Form, place: &mut Place) {
        match form {
            Form::Null => {}
            Form::Bool => place.at += 1,
            Form::Number { width, .. } | Form::FixedBytes(width) => place.at += width,
            Form::Bytes { .. } => self.bytes(place, |_| {}),
            Form::Struct(_, forms) => forms.iter().for_each(|form| self.skip(form, place)),
            Form::FixedList { size, element, .. } => (0..*size).for_each(|_| self.skip(element, place)),
            Form::List { element, .. } | Form::Map { entry: element, .. } => self.elements(element, place, |_| {}),
        }
    }

    /// Calls `give` for each byte of a text and moves past it.
    fn bytes(&self, place: &mut Place, mut give: impl FnMut(u8)) {
        loop {
            let byte = self.byte(*place);
            place.at += 1;
            if byte == 0 {
                let next = self.byte(*place);
                place.at += 1;
                if next != ESCAPE {
                    return;
                }
            }
            give(byte);
        }
    }

    /// Calls `give` for the place of each element of a list and moves past it.
    fn elements(&self, element: &Form, place: &mut Place, mut give: impl FnMut(Place)) {
        while self.byte(*place) == VALUE {
            place.at += 1;
            give(*place);
            self.skip(element, place);
        }
        place.at += 1;
    }

    /// Reads the values at these places and moves the places past them.
    fn read(
        &self,
        form: &Form,
        data_type: &DataType,
        outer: bool,
        places: &mut [Place],
    ) -> Result<ArrayRef, ArrowError> {
        let len = places.len();
        let valid: Vec<bool> = places.iter_mut().map(|place| self.mark(outer, place)).collect();
        let nulls = valid.contains(&false).then(|| NullBuffer::from(valid.clone()));
        let mut each = valid.iter().zip(places.iter_mut());
        Ok(match form {
            Form::Null => Arc::new(NullArray::new(len)),
            Form::Bool => {
                let mut value = |(valid, place): (&bool, &mut Place)| {
                    let value = *valid && self.byte(*place) != 0;
                    place.at += usize::from(*valid);
                    value
                };
                let values = BooleanBuffer::from_iter(each.by_ref().map(&mut value));
                Arc::new(BooleanArray::new(values, nulls))
            }
            Form::Number { width, .. } | Form::FixedBytes(width) => {
                let mut values = MutableBuffer::from_len_zeroed(len * width);
                for (index, (_, place)) in each.enumerate().filter(|(_, (valid, _))| **valid) {
                    let value = &mut values.as_slice_mut()[index * width..(index + 1) * width];
                    value.copy_from_slice(&self.rows[place.row as usize][place.at..place.at + width]);
                    value.iter_mut().for_each(|byte| *byte ^= self.mask);
                    if let Form::Number { number, .. } = form {
                        number.restore(value);
                    }
                    place.at += width;
                }
                build(data_type, len, vec![values.into()], nulls)?
            }
            Form::Bytes { large } => {
                let mut values = Vec::new();
                let mut ends = vec![0];
                for (valid, place) in each {
                    if *valid {
                        self.bytes(place, |byte| values.push(byte));
                    }
                    ends.push(values.len());
                }
                let offsets = if *large { offsets::<i64>(&ends) } else { offsets::<i32>(&ends) };
                build(data_type, len, vec![offsets?, Buffer::from_vec(values)], nulls)?
            }
            Form::Struct(fields, forms) => {
                let mut inner: Vec<Place> = each.filter(|(valid, _)| **valid).map(|(_, place)| *place).collect();
                let mut columns = Vec::with_capacity(forms.len());
                for (form, field) in forms.iter().zip(fields) {
                    let column = self.read(form, field.data_type(), false, &mut inner)?;
                    columns.push(spread(column, &valid, 1)?);
                }
                put_back(&valid, places, inner);
                match fields.is_empty() {
                    true => Arc::new(StructArray::new_empty_fields(len, nulls)),
                    false => Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?),
                }
            }
            Form::FixedList { field, size, element } => {
                // Element by element, for each begins where the one before ends.
                let mut inner = Vec::new();
                for (valid, place) in each {
                    for _ in 0..if *valid { *size } else { 0 } {
                        inner.push(*place);
                        self.skip(element, place);
                    }
                }
                let elements = self.read(element, field.data_type(), false, &mut inner)?;
                let elements = spread(elements, &valid, *size)?;
                let size = i32::try_from(*size).unwrap_or(i32::MAX);
                Arc::new(FixedSizeListArray::try_new_with_length(field.clone(), size, elements, nulls, len)?)
            }
            Form::List { field, large, element } => {
                let (ends, mut inner) = self.lists(element, each);
                let elements = self.read(element, field.data_type(), false, &mut inner)?;
                match large {
                    true => Arc::new(list::<i64>(field, &ends, elements, nulls)?),
                    false => Arc::new(list::<i32>(field, &ends, elements, nulls)?),
                }
            }
            Form::Map { field, sorted, entry } => {
                let (ends, mut inner) = self.lists(entry, each);
                let entries = self.read(entry, field.data_type(), false, &mut inner)?;
                let ends = OffsetBuffer::new(ScalarBuffer::from(numbers::<i32>(&ends)?));
                Arc::new(MapArray::try_new(field.clone(), ends, entries.as_struct().clone(), nulls, *sorted)?)
            }
        })
    }

    /// Where the lists end among all elements, and where these begin.
    fn lists<'p>(
        &self,
        element: &Form,
        each: impl Iterator<Item = (&'p bool, &'p mut Place)>,
    ) -> (Vec<usize>, Vec<Place>) {
        let (mut ends, mut inner) = (vec![0], Vec::new());
        for (valid, place) in each {
            if *valid {
                self.elements(element, place, |place| inner.push(place));
            }
            ends.push(inner.len());
        }
        (ends, inner)
    }
}

fn build(
    data_type: &DataType,
    len: usize,
    buffers: Vec<Buffer>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    Ok(make_array(ArrayData::builder(data_type.clone()).len(len).buffers(buffers).nulls(nulls).build()?))
}

fn numbers<O: OffsetSizeTrait>(ends: &[usize]) -> Result<Vec<O>, ArrowError> {
    let full = || ArrowError::ComputeError("more than 2 GiB in one column".into());
    ends.iter().map(|&end| O::from_usize(end).ok_or_else(full)).collect()
}

fn offsets<O: OffsetSizeTrait>(ends: &[usize]) -> Result<Buffer, ArrowError> {
    Ok(Buffer::from_vec(numbers::<O>(ends)?))
}

fn list<O: OffsetSizeTrait>(
    field: &FieldRef,
    ends: &[usize],
    elements: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<GenericListArray<O>, ArrowError> {
    let ends = OffsetBuffer::new(ScalarBuffer::from(numbers::<O>(ends)?));
    GenericListArray::try_new(field.clone(), ends, elements, nulls)
}

/// Puts NULL where the value around is: `size` values for each.
fn spread(values: ArrayRef, valid: &[bool], size: usize) -> Result<ArrayRef, ArrowError> {
    if !valid.contains(&false) {
        return Ok(values);
    }
    let mut next = 0u32;
    let indices: UInt32Array = valid
        .iter()
        .flat_map(|valid| std::iter::repeat_n(*valid, size))
        .map(|valid| {
            next += u32::from(valid);
            valid.then(|| next - 1)
        })
        .collect();
    take(&values, &indices, None)
}

/// Moves the places of the values there are to where they were read to.
fn put_back(valid: &[bool], places: &mut [Place], read: Vec<Place>) {
    let there = valid.iter().zip(places).filter(|(valid, _)| **valid);
    there.zip(read).for_each(|((_, place), read)| *place = read);
}

#[cfg(test)]
mod tests;
