//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use headwater::{Session, SessionBuilder};

const EXAMPLES: &str = "\
A query has one meaning, whatever way its data arrives: read a file at once or follow it as it grows, the answer at the \
end is the same.

Examples:
  Ask a file:
    headwater sql -c \"SELECT carrier, count(*) FROM 'flights.csv' GROUP BY carrier\"

  Keep an answer up to date over a live feed (Ctrl-C ends it):
    headwater run examples/sql/visitors.sql

  The same statements over what there is now, to the end:
    headwater run --batch examples/sql/visitors.sql

  From a pipe, with the answer as CSV:
    cat query.sql | headwater run --format csv - > answer.csv

  Look around:
    headwater sql
    headwater> CREATE TABLE t (a INT, b TEXT);
    headwater> CREATE VIEW v AS SELECT b, sum(a) AS total FROM t GROUP BY b;
    headwater> INSERT INTO t VALUES (1, 'x'), (2, 'x');
    headwater> SELECT * FROM v;";

/// SQL that stays true while its data changes.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, about, after_long_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a file of statements until its inputs close or Ctrl-C
    ///
    /// Tables, views and sinks are set up in the order of the file and run side by side. A bare SELECT prints its final
    /// answer on standard output; all else goes to standard error. Ctrl-C stops reading, lets the sinks finish what has
    /// been read, and exits 0.
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(Run),
    /// Type statements and see their answers, or run one text of them
    ///
    /// Statements end with a semicolon and may take several lines. A SELECT over views and tables answers as of their
    /// latest closed time, while they keep running. \? lists the commands that are not SQL.
    Sql(Sql),
}

const RUN_EXAMPLES: &str = "\
Examples:
  headwater run query.sql                  as the tables are declared
  headwater run --stream query.sql         every table with a watermark as a stream
  headwater run --batch query.sql          read what there is, then end
  headwater run --format json query.sql    one JSON object a row
  headwater run - < query.sql              statements from standard input";

/// `headwater run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The file of statements; `-` is standard input
    #[arg(value_name = "FILE.sql")]
    pub file: PathBuf,
    /// Read every table to the end of what there is
    #[arg(long, conflicts_with = "stream")]
    pub batch: bool,
    /// Read every table with a watermark as a stream
    #[arg(long)]
    pub stream: bool,
    /// What both commands take.
    #[command(flatten)]
    pub common: Common,
}

/// `headwater sql`.
#[derive(Debug, Args)]
pub struct Sql {
    /// Run these statements and exit
    #[arg(short, long = "command", value_name = "TEXT", allow_hyphen_values = true)]
    pub command: Option<String>,
    /// What both commands take.
    #[command(flatten)]
    pub common: Common,
}

/// What both commands take.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Threads that compute; any number gives the same answers
    #[arg(long, value_name = "N", default_value = "1")]
    pub workers: NonZeroUsize,
    /// Keep each worker on a core of its own; for a machine that has nothing else to do
    #[arg(long)]
    pub pin_workers: bool,
    /// How answers are written
    #[arg(long, value_enum, default_value_t = Format::Table, value_name = "table|csv|json", hide_possible_values = true)]
    pub format: Format,
}

impl Common {
    /// A session as asked for.
    pub fn session(&self) -> SessionBuilder {
        Session::builder().workers(self.workers.get()).pin_workers(self.pin_workers)
    }
}

/// How answers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// Comma-separated values with a header; NULL is an empty field, an empty string is `""`.
    Csv,
    /// One JSON object a row.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn batch_and_stream_exclude_each_other() {
        assert!(Cli::try_parse_from(["headwater", "run", "--batch", "--stream", "x.sql"]).is_err());
        assert!(Cli::try_parse_from(["headwater", "run", "--workers", "0", "x.sql"]).is_err());
        let cli = Cli::try_parse_from(["headwater", "run", "--batch", "-", "--format", "json"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("run is run") };
        assert!(run.batch && run.file.as_os_str() == "-" && run.common.format == Format::Json);
    }
}
