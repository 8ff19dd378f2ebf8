//! Answers as tables for people: drawn with the types of the columns, or one record below another.

use std::fmt::Write as _;
use std::io::{self, Write};

use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use headwater::connectors::sql_name;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::notes::counted;

/// What of an answer has room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// The most rows; all of them if not given.
    pub rows: Option<usize>,
    /// The width of the screen; as wide as it takes if not given.
    pub width: Option<usize>,
    /// Whether it is a list of what there is rather than an answer: without the types.
    pub is_list: bool,
}

/// Stands where something is left out.
const CUT: &str = "…";

/// Where a table is too wide, its cells are cut to the first of these that makes it fit; then columns are left out.
const CELLS: [usize; 3] = [60, 40, 28];

/// Draws a table with a row of types and a line that says how many rows there are. What has no room is left out of the
/// middle, and the last line says so.
pub fn draw(out: &mut dyn Write, rows: &RecordBatch, room: Room) -> io::Result<()> {
    let cells = Cells::of(rows)?;
    let shown = Shown::of(rows.num_rows(), room.rows);
    let (names, mut types) = header(rows);
    if room.is_list {
        types.iter_mut().for_each(String::clear);
    }
    let mut widths = cells.widths(shown, &names, &types)?;
    let mut text = String::new();
    let (kept, is_cut) = fit(&mut widths, room.width);
    let right: Vec<bool> = rows.columns().iter().map(|column| column.data_type().is_numeric()).collect();
    let rule = ruled(&kept, &widths);
    let mut line = String::new();
    let mut put = |out: &mut dyn Write, cell: &mut dyn FnMut(usize, &mut String) -> io::Result<()>| {
        line.clear();
        for column in &kept {
            let Some(column) = *column else {
                let _ = write!(line, "| {CUT} ");
                continue;
            };
            cell(column, &mut text)?;
            cut(&mut text, widths[column]);
            let blank = " ".repeat(widths[column] - text.width());
            let _ = if right[column] { write!(line, "| {blank}{text} ") } else { write!(line, "| {text}{blank} ") };
        }
        writeln!(out, "{line}|")
    };
    let given = |texts: &[String]| {
        let texts = texts.to_vec();
        move |column: usize, text: &mut String| {
            texts[column].clone_into(text);
            Ok(())
        }
    };
    writeln!(out, "{rule}")?;
    put(out, &mut given(&names))?;
    if !room.is_list {
        put(out, &mut given(&types))?;
    }
    writeln!(out, "{rule}")?;
    for row in 0..shown.head {
        put(out, &mut |column, text| cells.put(column, row, text))?;
    }
    if shown.is_partial() {
        put(out, &mut given(&vec![CUT.to_owned(); names.len()]))?;
    }
    for row in shown.all - shown.tail..shown.all {
        put(out, &mut |column, text| cells.put(column, row, text))?;
    }
    if shown.all > 0 {
        writeln!(out, "{rule}")?;
    }
    let mut notes = Vec::new();
    if kept.iter().any(Option::is_none) {
        let there = kept.iter().flatten().count();
        notes.push(format!("{there} of {} columns shown, \\x shows all", names.len()));
    } else if is_cut {
        notes.push("long values cut, \\x shows them whole".to_owned());
    }
    footer(out, shown, notes)
}

/// Writes each row as a record, a line a column.
pub fn expand(out: &mut dyn Write, rows: &RecordBatch, room: Room) -> io::Result<()> {
    let cells = Cells::of(rows)?;
    let shown = Shown::of(rows.num_rows(), room.rows);
    let (names, _) = header(rows);
    let width = names.iter().map(|name| name.width()).max().unwrap_or(0);
    let mut text = String::new();
    for row in shown.rows() {
        if shown.is_partial() && row == shown.all - shown.tail {
            writeln!(out, "{CUT}")?;
        }
        let title = format!("-[ RECORD {} ]", row + 1);
        writeln!(out, "{title:-<fill$}", fill = width + 12)?;
        for (column, name) in names.iter().enumerate() {
            cells.put(column, row, &mut text)?;
            writeln!(out, "{name}{blank} | {text}", blank = " ".repeat(width - name.width()))?;
        }
    }
    footer(out, shown, Vec::new())
}

/// Whether a table of all columns is wider than `width`.
pub fn is_wider(rows: &RecordBatch, room: Room) -> io::Result<bool> {
    let Some(width) = room.width else { return Ok(false) };
    let cells = Cells::of(rows)?;
    let shown = Shown::of(rows.num_rows(), room.rows);
    let (names, types) = header(rows);
    let widths = cells.widths(shown, &names, &types)?;
    Ok(total(&widths) > width)
}

fn footer(out: &mut dyn Write, shown: Shown, mut notes: Vec<String>) -> io::Result<()> {
    let all = shown.all;
    if shown.is_partial() {
        notes.insert(0, format!("{} shown, \\rows all shows all", shown.head + shown.tail));
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
    writeln!(out, "{}{notes}", counted(all as u64))
}

fn header(rows: &RecordBatch) -> (Vec<String>, Vec<String>) {
    let schema = rows.schema();
    let fields = schema.fields();
    let mut names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
    names.iter_mut().for_each(tame);
    (names, fields.iter().map(|field| sql_name(field.data_type())).collect())
}

/// Which rows are shown: so many from the start and from the end.
#[derive(Clone, Copy)]
struct Shown {
    all: usize,
    head: usize,
    tail: usize,
}

impl Shown {
    fn of(all: usize, most: Option<usize>) -> Self {
        match most {
            Some(most) if all > most => Shown { all, head: most.div_ceil(2), tail: most / 2 },
            _ => Shown { all, head: all, tail: 0 },
        }
    }

    fn is_partial(self) -> bool {
        self.head + self.tail < self.all
    }

    fn rows(self) -> impl Iterator<Item = usize> {
        (0..self.head).chain(self.all - self.tail..self.all)
    }
}

/// The cells of an answer, as text without line ends.
struct Cells<'a> {
    columns: Vec<ArrayFormatter<'a>>,
}

impl<'a> Cells<'a> {
    fn of(rows: &'a RecordBatch) -> io::Result<Self> {
        const OPTIONS: FormatOptions<'static> = FormatOptions::new().with_null("NULL");
        let columns = rows.columns().iter().map(|column| ArrayFormatter::try_new(column, &OPTIONS));
        Ok(Cells { columns: columns.collect::<Result<_, _>>().map_err(io::Error::other)? })
    }

    /// How wide each column is, with its name and type.
    fn widths(&self, shown: Shown, names: &[String], types: &[String]) -> io::Result<Vec<usize>> {
        let mut widths: Vec<usize> = names.iter().zip(types).map(|(name, of)| name.width().max(of.width())).collect();
        let mut text = String::new();
        for row in shown.rows() {
            for (column, width) in widths.iter_mut().enumerate() {
                self.put(column, row, &mut text)?;
                *width = (*width).max(text.width());
            }
        }
        Ok(widths)
    }

    fn put(&self, column: usize, row: usize, text: &mut String) -> io::Result<()> {
        text.clear();
        self.columns[column].value(row).write(text).map_err(io::Error::other)?;
        tame(text);
        Ok(())
    }
}

/// Writes line ends and other control characters as SQL's escapes, so that a row stays a line.
fn tame(text: &mut String) {
    if text.contains(char::is_control) {
        *text =
            text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect();
    }
}

/// Shortens a cell to `width`.
fn cut(text: &mut String, width: usize) {
    if text.width() <= width {
        return;
    }
    let mut taken = 1;
    let end = text.char_indices().find_map(|(at, character)| {
        taken += character.width().unwrap_or(0);
        (taken > width).then_some(at)
    });
    text.truncate(end.unwrap_or(text.len()));
    text.push_str(CUT);
}

/// Makes columns fit a screen by narrowing them; where that is not enough, some in the middle are left out (`None` stands
/// in their place). Whether cells are cut.
fn fit(widths: &mut [usize], screen: Option<usize>) -> (Vec<Option<usize>>, bool) {
    let all: Vec<Option<usize>> = (0..widths.len()).map(Some).collect();
    let Some(screen) = screen else { return (all, false) };
    if total(widths) <= screen {
        return (all, false);
    }
    let whole = widths.to_vec();
    for most in CELLS {
        widths.iter_mut().for_each(|width| *width = (*width).min(most));
        if total(widths) <= screen {
            return (all, widths != whole);
        }
    }
    // From both ends towards the middle, which takes the width of the mark.
    let (mut head, mut tail, mut taken) = (0, widths.len(), 1 + 4);
    loop {
        let from_head = head <= widths.len() - tail;
        let next = if from_head { head } else { tail - 1 };
        if head == tail || taken + widths[next] + 3 > screen && head > 0 {
            break;
        }
        taken += widths[next] + 3;
        if from_head { head += 1 } else { tail -= 1 }
    }
    if let Some(first) = widths.first_mut() {
        *first = (*first).min(screen.saturating_sub(8).max(8));
    }
    let kept = (0..head).map(Some).chain((head < tail).then_some(None)).chain((tail..widths.len()).map(Some));
    (kept.collect(), widths != whole)
}

/// How wide a table of such columns is.
fn total(widths: &[usize]) -> usize {
    1 + widths.iter().map(|width| width + 3).sum::<usize>()
}

fn ruled(kept: &[Option<usize>], widths: &[usize]) -> String {
    let line: String =
        kept.iter().map(|c| format!("+{}", "-".repeat(2 + c.map_or(CUT.width(), |c| widths[c])))).collect();
    line + "+"
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn numbers(rows: i64) -> RecordBatch {
        let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let text: ArrayRef = Arc::new(StringArray::from_iter((0..rows).map(|n| (n != 1).then(|| format!("r\n{n}")))));
        RecordBatch::try_from_iter([("n", n), ("text", text)]).unwrap()
    }

    fn wide(columns: usize) -> RecordBatch {
        let column = |c: usize| (format!("column_{c}"), Arc::new(Int64Array::from(vec![1])) as ArrayRef);
        RecordBatch::try_from_iter((0..columns).map(column)).unwrap()
    }

    fn drawn(rows: &RecordBatch, room: Room) -> String {
        let mut out = Vec::new();
        draw(&mut out, rows, room).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn types_stand_below_names_and_numbers_to_the_right() {
        let wanted = "\
+--------+---------+
|      n | text    |
| BIGINT | VARCHAR |
+--------+---------+
|      0 | r\\n0    |
|      1 | NULL    |
+--------+---------+
2 rows
";
        assert_eq!(drawn(&numbers(2), Room::default()), wanted);
        assert!(!drawn(&numbers(1), Room { is_list: true, ..Room::default() }).contains("BIGINT"));
        assert!(drawn(&numbers(1), Room::default()).ends_with("\n1 row\n"));
        assert!(drawn(&numbers(0), Room::default()).ends_with("+\n0 rows\n"));
    }

    #[test]
    fn the_middle_of_long_answers_is_left_out_and_that_is_said() {
        let text = drawn(&numbers(1_000), Room { rows: Some(5), width: None, is_list: false });
        let first: Vec<_> = text.lines().skip(4).map(|line| line.trim_start_matches(['|', ' '])).collect();
        let starts = ["0 ", "1 ", "2 ", "…", "998", "999"];
        assert!(starts.iter().zip(&first).all(|(start, line)| line.starts_with(start)), "{text}");
        assert!(text.ends_with("1000 rows (5 shown, \\rows all shows all)\n"), "{text}");
        assert_eq!(drawn(&numbers(1_000), Room::default()).lines().count(), 1_000 + 6);
    }

    #[test]
    fn wide_answers_fit_the_screen_and_that_is_said() {
        for (columns, screen) in [(20, 80), (20, 21), (2, 5), (20, 1), (1, 3)] {
            let text = drawn(&wide(columns), Room { rows: None, width: Some(screen), is_list: false });
            let widest =
                text.lines().filter(|line| line.starts_with(['|', '+'])).map(|line| line.width()).max().unwrap();
            assert!(widest <= screen.max(20), "{text}");
        }
        let text = drawn(&wide(20), Room { rows: None, width: Some(80), is_list: false });
        assert!(
            text.contains("column_0 | column_1 |") && text.contains("| … |") && text.contains("column_19 |"),
            "{text}"
        );
        assert!(text.ends_with("1 row (6 of 20 columns shown, \\x shows all)\n"), "{text}");
        assert!(is_wider(&wide(20), Room { rows: None, width: Some(80), is_list: false }).unwrap());
        assert!(!is_wider(&wide(20), Room::default()).unwrap());
    }

    #[test]
    fn long_values_are_cut_before_columns_are_left_out() {
        let long: ArrayRef = Arc::new(StringArray::from(vec!["日本".repeat(50)]));
        let rows = RecordBatch::try_from_iter([("a", long.clone()), ("b", long)]).unwrap();
        let text = drawn(&rows, Room { rows: None, width: Some(80), is_list: false });
        assert!(text.lines().all(|line| line.width() <= 80) && text.contains('…'), "{text}");
        assert!(text.ends_with("1 row (long values cut, \\x shows them whole)\n"), "{text}");
    }

    #[test]
    fn a_record_is_a_line_a_column_and_whole() {
        let mut out = Vec::new();
        expand(&mut out, &numbers(2), Room { rows: None, width: Some(5), is_list: false }).unwrap();
        let text = String::from_utf8(out).unwrap();
        let wanted = "\
-[ RECORD 1 ]---
n    | 0
text | r\\n0
-[ RECORD 2 ]---
n    | 1
text | NULL
2 rows
";
        assert_eq!(text, wanted);
    }
}
