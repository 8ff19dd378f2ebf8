//! Things that are done to a session, and how they are written in SQL.

use super::model::{Kind, Node, Origin};

/// `IF NOT EXISTS`, `OR REPLACE`, or neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    Keep,
    Replace,
}

/// One thing that is done to a session.
#[derive(Clone, Debug)]
pub enum Act {
    Create {
        name: String,
        node: Node,
        existing: Existing,
    },
    Drop {
        kind: Kind,
        name: String,
        if_exists: bool,
        cascade: bool,
    },
    Insert {
        table: String,
        rows: Vec<(i64, i64)>,
    },
    Update {
        table: String,
        k: i64,
        plus: i64,
    },
    Delete {
        table: String,
        k: i64,
    },
    /// Rows pushed from Rust, with diffs where they are one change.
    Push {
        table: String,
        rows: Vec<[i64; 3]>,
        diffs: Option<Vec<i64>>,
    },
}

impl Act {
    /// As a statement; pushes are calls.
    pub fn sql(&self) -> Option<String> {
        Some(match self {
            Act::Create { name, node, existing } => create(name, node, *existing),
            Act::Drop { kind, name, if_exists, cascade } => format!(
                "DROP {} {}{name}{}",
                kind.sql(),
                if *if_exists { "IF EXISTS " } else { "" },
                if *cascade { " CASCADE" } else { "" }
            ),
            Act::Insert { table, rows } => {
                let rows: Vec<_> = rows.iter().map(|(k, v)| format!("({k}, {v})")).collect();
                format!("INSERT INTO {table} VALUES {}", rows.join(", "))
            }
            Act::Update { table, k, plus } => format!("UPDATE {table} SET v = v + {plus} WHERE k = {k}"),
            Act::Delete { table, k } => format!("DELETE FROM {table} WHERE k = {k}"),
            Act::Push { .. } => return None,
        })
    }

    /// The name that it concerns.
    pub fn name(&self) -> &str {
        match self {
            Act::Create { name, .. } | Act::Drop { name, .. } => name,
            Act::Insert { table, .. } | Act::Update { table, .. } | Act::Delete { table, .. } => table,
            Act::Push { table, .. } => table,
        }
    }
}

fn create(name: &str, node: &Node, existing: Existing) -> String {
    let (replace, keep) = match existing {
        Existing::Refuse => ("", ""),
        Existing::Keep => ("", "IF NOT EXISTS "),
        Existing::Replace => ("OR REPLACE ", ""),
    };
    match node {
        Node::Table(table) => {
            let timed = "ts TIMESTAMP, k BIGINT, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND";
            let rest = match table.origin {
                Origin::Memory => "(k BIGINT, v BIGINT)".to_owned(),
                Origin::Channel => "(k BIGINT, v BIGINT) WITH (connector = 'channel')".to_owned(),
                Origin::Timed => format!("({timed}) WITH (connector = 'channel', cut = 'round')"),
                Origin::Rig(stream) => format!("({timed}) WITH (connector = 'rig', id = '{stream}', cut = 'round')"),
            };
            format!("CREATE {replace}TABLE {keep}{name} {rest}")
        }
        Node::View(view) => {
            let materialized = if view.materialized { "MATERIALIZED " } else { "" };
            let from_now = if view.query.from_now { " FROM NOW" } else { "" };
            format!("CREATE {replace}{materialized}VIEW {keep}{name}{from_now} AS {}", view.query.sql())
        }
        Node::Sink(sink) => {
            let options = format!("connector = 'rig', id = '{}', mode = '{}'", sink.record, sink.mode.sql());
            format!("CREATE {replace}SINK {keep}{name} WITH ({options}) AS {}", sink.query.sql())
        }
    }
}
