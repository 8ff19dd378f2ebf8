//! A result kept on the screen: redrawn in place, never longer than the screen.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write;

use arrow::datatypes::SchemaRef;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::changes::Copies;
use crate::error::Result;
use crate::print::{instant, texts};
use crate::sink::{Emission, Op, OutputMode};

/// Rows beyond this are counted but not kept.
const MOST_ROWS: usize = 10_000;

/// The size of the screen: columns and lines.
pub(crate) type Screen = (usize, usize);

/// The size of the terminal, or a usual one.
pub(crate) fn screen() -> Option<Screen> {
    let size = terminal_size::terminal_size();
    Some(size.map_or((80, 24), |(width, height)| (usize::from(width.0).max(20), usize::from(height.0).max(5))))
}

/// A table and what of it is on the screen.
pub(crate) struct Live {
    schema: SchemaRef,
    key: Vec<usize>,
    title: String,
    /// Complete mode: the rows in their order.
    rows: Vec<Vec<String>>,
    /// Update mode: the rows by key.
    keyed: BTreeMap<Vec<Part>, Vec<String>>,
    total: usize,
    frontier: Option<Option<i64>>,
    /// Whether the screen shows something else.
    changed: bool,
    /// Lines on the screen.
    drawn: usize,
}

/// A value of a key, in the order of its type.
#[derive(Clone, Debug)]
enum Part {
    Number(f64, String),
    Text(String),
}

impl Ord for Part {
    fn cmp(&self, other: &Part) -> Ordering {
        match (self, other) {
            (Part::Number(a, x), Part::Number(b, y)) => a.total_cmp(b).then_with(|| x.cmp(y)),
            (Part::Number(..), Part::Text(_)) => Ordering::Less,
            (Part::Text(_), Part::Number(..)) => Ordering::Greater,
            (Part::Text(a), Part::Text(b)) => a.cmp(b),
        }
    }
}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Part) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Part {
    fn eq(&self, other: &Part) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Part {}

impl Live {
    /// An empty table. `key` says which columns identify a row in update mode.
    pub(crate) fn new(schema: SchemaRef, key: Vec<usize>, title: String) -> Live {
        Live {
            schema,
            key,
            title,
            rows: Vec::new(),
            keyed: BTreeMap::new(),
            total: 0,
            frontier: None,
            changed: false,
            drawn: 0,
        }
    }

    /// Takes a result, or changes of it.
    pub(crate) fn take(&mut self, emission: &Emission) -> Result<()> {
        self.changed = true;
        self.frontier = Some(emission.frontier);
        if emission.mode == OutputMode::Complete {
            self.total = emission.counts.iter().sum::<u64>() as usize;
            let mut shown = emission.clone();
            let most = MOST_ROWS.min(shown.rows.num_rows());
            shown.rows = shown.rows.slice(0, most);
            shown.ops.truncate(most);
            shown.times.truncate(most);
            shown.counts.truncate(most);
            shown.counts.iter_mut().for_each(|count| *count = (*count).min(MOST_ROWS as u64));
            self.rows = texts(&Copies::of(&shown)?.rows)?;
            return Ok(());
        }
        for (row, cells) in texts(&emission.rows)?.into_iter().enumerate() {
            let key: Vec<Part> = self.key.iter().map(|column| self.part(*column, &cells[*column])).collect();
            if emission.ops[row] == Op::Delete {
                self.keyed.remove(&key);
            } else if self.keyed.len() < MOST_ROWS || self.keyed.contains_key(&key) {
                self.keyed.insert(key, cells);
            }
        }
        self.total = self.keyed.len();
        Ok(())
    }

    fn part(&self, column: usize, text: &str) -> Part {
        match self.schema.field(column).data_type().is_numeric() {
            true => Part::Number(text.parse().unwrap_or(f64::INFINITY), text.to_string()),
            false => Part::Text(text.to_string()),
        }
    }

    /// What brings the table to a screen, or to plain text without one; `None` if nothing has changed.
    pub(crate) fn draw(&mut self, screen: Option<Screen>) -> Option<String> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut text = String::new();
        if self.drawn > 0 && screen.is_some() {
            // To the first line of the last drawing, and clear from there.
            let _ = write!(text, "\x1b[{}A\x1b[J", self.drawn);
        }
        let lines = self.lines(screen);
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = lines.len();
        Some(text)
    }

    /// The table as text of whole lines, with nothing about where it stands; `None` if nothing has changed.
    pub(crate) fn draw_anew(&mut self, screen: Option<Screen>) -> Option<String> {
        self.drawn = 0;
        self.draw(screen)
    }

    fn lines(&self, screen: Option<Screen>) -> Vec<String> {
        let rows: Vec<&Vec<String>> = match self.key.is_empty() || self.keyed.is_empty() {
            true => self.rows.iter().collect(),
            false => self.keyed.values().collect(),
        };
        // Title, names, rule, and the line where the cursor rests.
        let room = screen.map_or(usize::MAX, |(_, height)| height.saturating_sub(4).max(1));
        let shown = match rows.len().max(self.total) > room {
            true => &rows[..rows.len().min(room.saturating_sub(1))],
            false => &rows[..],
        };
        let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let clean = |text: &str| text.replace(|c: char| c.is_control(), " ");
        let mut widths: Vec<usize> = names.iter().map(|name| name.width()).collect();
        for row in shown {
            for (width, cell) in widths.iter_mut().zip(row.iter()) {
                *width = (*width).max(clean(cell).width());
            }
        }
        let pad = |text: &str, width: usize, right: bool| {
            let text = clean(text);
            let blank = " ".repeat(width.saturating_sub(text.width()));
            if right { format!(" {blank}{text} ") } else { format!(" {text}{blank} ") }
        };
        let numeric: Vec<bool> = self.schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            cells
                .enumerate()
                .map(|(column, cell)| pad(cell, widths[column], numeric[column]))
                .collect::<Vec<_>>()
                .join("|")
        };
        let at = match self.frontier {
            Some(Some(micros)) => instant(micros),
            _ => "the end".to_string(),
        };
        let plural = if self.total == 1 { "row" } else { "rows" };
        let title = if self.title.is_empty() { String::new() } else { format!("{}  ", self.title) };
        let more = if self.keyed.len() == MOST_ROWS { "+" } else { "" };
        let mut lines = vec![format!("{title}{at}  {}{more} {plural}", self.total)];
        lines.push(line(&mut names.iter().copied()));
        lines.push(widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+"));
        for row in shown {
            lines.push(line(&mut row.iter().map(String::as_str)));
        }
        if shown.len() < self.total {
            lines.push(format!(" … and {} more", self.total - shown.len()));
        }
        if let Some((width, _)) = screen {
            lines.iter_mut().for_each(|line| cut(line, width));
        }
        lines
    }
}

/// Shortens a line to the width of the screen, so that it never takes two.
fn cut(line: &mut String, width: usize) {
    let mut taken = 0;
    let end = line.char_indices().find_map(|(at, character)| {
        taken += character.width().unwrap_or(0);
        (taken > width).then_some(at)
    });
    if let Some(end) = end {
        line.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;

    fn complete(rows: i64) -> Emission {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let rows = rows as usize;
        Emission {
            step: 0,
            mode: OutputMode::Complete,
            frontier: None,
            rows: RecordBatch::try_from_iter([("n", numbers)]).expect("rows"),
            ops: vec![Op::Insert; rows],
            counts: vec![1; rows],
            times: vec![0; rows],
        }
    }

    #[test]
    fn it_fits_the_screen_and_is_redrawn_in_place() {
        let mut live = Live::new(complete(0).rows.schema(), vec![], String::new());
        live.take(&complete(30)).expect("taken");
        let text = live.draw(Some((40, 10))).expect("a drawing");
        assert_eq!(text.lines().count(), 9);
        assert!(text.ends_with(" … and 25 more\n"), "{text}");
        live.take(&complete(2)).expect("taken");
        let text = live.draw(Some((40, 10))).expect("a drawing");
        assert!(text.starts_with("\x1b[9A\x1b[Jthe end  2 rows\n"), "{text:?}");
        assert_eq!(live.draw(Some((40, 10))), None);
        live.take(&complete(0)).expect("taken");
        assert!(live.draw(Some((40, 10))).expect("a drawing").contains("the end  0 rows"));
    }

    #[test]
    fn wide_lines_are_cut() {
        let mut line = "ab日本c".to_string();
        cut(&mut line, 5);
        assert_eq!(line, "ab日");
    }
}
