//! SQLite, within this process.

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::generate::Side;
use super::{Judge, Value};

pub struct Sqlite(Connection);

impl Sqlite {
    /// One without tables.
    pub fn new() -> Self {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("PRAGMA case_sensitive_like = ON").unwrap();
        Sqlite(connection)
    }
}

impl Judge for Sqlite {
    fn side(&self) -> Side {
        Side::Sqlite
    }

    fn execute(&mut self, sql: &str) -> Result<(), String> {
        self.0.execute_batch(sql).map_err(|error| format!("{error}: {sql}"))
    }

    fn answer(&mut self, sql: &str) -> Result<Vec<Vec<Value>>, String> {
        let mut statement = self.0.prepare(sql).map_err(|error| error.to_string())?;
        let columns = statement.column_count();
        let mut rows = statement.query([]).map_err(|error| error.to_string())?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(|error| error.to_string())? {
            let value = |column| match row.get_ref_unwrap(column) {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(n) => Value::Integer(n.into()),
                ValueRef::Real(x) => Value::Real(x),
                ValueRef::Text(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
                ValueRef::Blob(bytes) => panic!("a blob: {bytes:?}"),
            };
            all.push((0..columns).map(value).collect());
        }
        Ok(all)
    }
}
