//! DuckDB, in a Python beside this process.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::generate::Side;
use super::{Judge, Value};

/// Answers each line, a statement, with a line for each value and a dot for its end.
const PROGRAM: &str = r#"
import sys, duckdb
db = duckdb.connect()
for line in sys.stdin:
    try:
        done = db.execute(line)
        rows = done.fetchall() if done.description else []
        print(len(rows))
        for row in rows:
            print(len(row))
            for v in row:
                print("n" if v is None else "i%d" % v if isinstance(v, int) else "t%s" % v if isinstance(v, str) else "r%r" % float(v))
    except Exception as e:
        print("e" + str(e).replace("\n", " "))
    sys.stdout.flush()
"#;

pub struct Duckdb {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Duckdb {
    /// One without tables, in the Python that `python` starts.
    pub fn new(python: &str) -> Self {
        let mut command = Command::new(python);
        command.args(["-c", PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{python}: {e}"));
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Duckdb { child, input, output: BufReader::new(output) }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "DuckDB ended: is the package duckdb installed?");
        line.trim_end_matches('\n').to_owned()
    }
}

impl Drop for Duckdb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Judge for Duckdb {
    fn side(&self) -> Side {
        Side::Duckdb
    }

    fn execute(&mut self, sql: &str) -> Result<(), String> {
        self.answer(sql).map(drop)
    }

    fn answer(&mut self, sql: &str) -> Result<Vec<Vec<Value>>, String> {
        writeln!(self.input, "{sql}").unwrap();
        let first = self.line();
        if let Some(error) = first.strip_prefix('e') {
            return Err(format!("{error}: {sql}"));
        }
        let rows: usize = first.parse().unwrap();
        let mut all = Vec::new();
        for _ in 0..rows {
            let columns: usize = self.line().parse().unwrap();
            let row = (0..columns).map(|_| {
                let line = self.line();
                match line.split_at(1) {
                    ("i", n) => Value::Integer(n.parse().unwrap()),
                    ("r", x) => Value::Real(x.parse().unwrap()),
                    ("t", text) => Value::Text(text.to_owned()),
                    _ => Value::Null,
                }
            });
            all.push(row.collect());
        }
        Ok(all)
    }
}
