//! What is said beside the answers, on standard error.

use std::fmt::Display;
use std::io::{self, Write};

use headwater::{Session, TableStatus};

/// Says something beside the answers, behind those that there are.
pub fn note(out: &mut dyn Write, text: impl Display) -> io::Result<()> {
    out.flush()?;
    say(text);
    Ok(())
}

/// Says something on standard error. Nobody can be told that it is gone.
pub fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// `1 row`, `2 rows`.
pub fn counted(rows: u64) -> String {
    if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") }
}

/// Says how many rows of which tables were late or rejected since the counts were as in `before`.
pub fn note_lost(session: &Session, before: &[TableStatus]) {
    for table in session.tables() {
        let earlier = before.iter().find(|b| b.name == table.name).map(|b| b.counts).unwrap_or_default();
        for (count, earlier, what) in [
            (table.counts.late, earlier.late, "late"),
            (table.counts.rejected, earlier.rejected, "rejected (broken, without event time, or too far ahead)"),
        ] {
            if count > 0 && count != earlier {
                let more = if what == "late" { late(&table) } else { String::new() };
                say(format_args!("note: table '{}': {} {what}{more}", table.name, counted(count)));
            }
        }
    }
}

/// How late the late rows of a table are, where most of them came from, and what can be done.
pub fn late(table: &TableStatus) -> String {
    format!(
        ", {}: left out where state goes by the watermark, and kept in \"{}\".late; a wider WATERMARK takes them in, for files \
         that end also 'scan.order' = 'event-time'",
        table.lateness(),
        table.name
    )
}
