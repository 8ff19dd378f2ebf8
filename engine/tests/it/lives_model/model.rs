//! What a session must hold after any sequence of statements, pushes and failures: maps and loops, one thread, no engine.
//!
//! The rules of lives are in [`rules`] and in [`Model::verdict`] and [`Model::apply`]; nothing else here decides anything.

use std::collections::{BTreeMap, BTreeSet};

pub use super::acts::{Act, Existing};

/// Rows as whole numbers, each with its number of copies. Times are microseconds, a window is its start.
pub type Rows = BTreeMap<Vec<i64>, i64>;

/// What may happen to a statement or a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It must be taken.
    Taken,
    /// It must be refused, and then nothing has changed.
    Refused,
    /// Either; whichever it is must then hold. Where the engine may know more than the model does.
    Free,
}

/// How nodes live and die: the one place to change when the contract does.
pub mod rules {
    use super::Verdict;

    /// *Dropped is refused while others read it.* Views always do, as long as they are there; sinks and subscriptions as
    /// long as they run.
    pub const DROP_WHILE_READ: Verdict = Verdict::Refused;
    /// *Replacing what has readers* is a drop, and refused like one.
    pub const REPLACE_WHILE_READ: Verdict = Verdict::Refused;
    /// A subscription is a reader like a sink, though it has no name.
    pub const DROP_WHILE_SUBSCRIBED: Verdict = Verdict::Refused;
    /// *Failed carries its error downstream*: whoever comes to something that has failed is refused with the reason, or
    /// is taken and fails, too, or is right because the source has come back. Never: taken, and short of rows.
    pub const READ_WHAT_FAILED: Verdict = Verdict::Free;
    /// What went by on a channel is gone: a late reader is refused, or starts from what others have arranged.
    pub const READ_CHANNEL_LATE: Verdict = Verdict::Free;
    /// What has ended or failed can be dropped like anything else: why it failed was said where it was asked for.
    pub const DROP_WHAT_FAILED: Verdict = Verdict::Taken;
    /// An append sink over a materialized view whose rows become final.
    pub const APPEND_FROM_MATERIALIZED: Verdict = Verdict::Taken;
}

/// The width of windows, and the delay of watermarks, microseconds.
pub const WINDOW: i64 = 10_000_000;
pub const DELAY: i64 = 10_000_000;
/// More than the resolution that a table has with that delay.
const RESOLUTION: i64 = 2_000_000;

/// Where a table's rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Statements and pushes; `k, v`.
    Memory,
    /// Pushes; `k, v`.
    Channel,
    /// Pushes with event time; `ts, k, v`.
    Timed,
    /// The stream of this number in the rig, with event time.
    Rig(u64),
}

impl Origin {
    pub fn has_time(self) -> bool {
        matches!(self, Origin::Timed | Origin::Rig(_))
    }
}

/// A query, by name of what it reads; always with columns `k` and `v` at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub shape: Shape,
    pub reads: Vec<String>,
    /// `FROM NOW`: without the rows that a channel has had before.
    pub from_now: bool,
    /// How many rows those are.
    skipped: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    All,
    Filter(i64),
    Sum,
    Count,
    Max,
    Top,
    Distinct,
    /// In error while a row has `v = 0`.
    Divide,
    Join,
    Union,
    /// Of a table with event time.
    Windowed,
}

impl Query {
    pub fn new(shape: Shape, reads: Vec<String>, from_now: bool) -> Self {
        Query { shape, reads, from_now, skipped: 0 }
    }

    pub fn sql(&self) -> String {
        let x = &self.reads[0];
        match self.shape {
            Shape::All => format!("SELECT * FROM {x}"),
            Shape::Filter(least) => format!("SELECT k, v FROM {x} WHERE v >= {least}"),
            Shape::Sum => format!("SELECT k, sum(v) AS v FROM {x} GROUP BY k"),
            Shape::Count => format!("SELECT k, count(*) AS v FROM {x} GROUP BY k"),
            Shape::Max => format!("SELECT k, max(v) AS v FROM {x} GROUP BY k"),
            Shape::Top => format!("SELECT k, v FROM {x} ORDER BY v DESC, k LIMIT 3"),
            Shape::Distinct => format!("SELECT DISTINCT k, v FROM {x}"),
            Shape::Divide => format!("SELECT k, 100 / v AS v FROM {x}"),
            Shape::Join => format!("SELECT a.k, a.v + b.v AS v FROM {x} AS a JOIN {} AS b ON a.k = b.k", self.reads[1]),
            Shape::Union => format!("SELECT k, v FROM {x} UNION ALL SELECT k, v FROM {}", self.reads[1]),
            Shape::Windowed => format!(
                "SELECT window(ts, '10 seconds') AS w, k, count(*) AS v FROM {x} GROUP BY window(ts, '10 seconds'), k"
            ),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub origin: Origin,
    /// `ts, k, v`, in order; `ts` is 0 without event time.
    pub rows: Vec<[i64; 3]>,
    /// *Ended finalises everything*: there will be no more.
    pub ended: bool,
    /// Its reader has failed once.
    pub failed: bool,
    /// Its source can't be opened or read now.
    pub broken: bool,
    /// It can't be read, though it can be opened: whoever is taken makes it fail.
    pub failing: bool,
}

/// How sure it is that a node works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It must be right.
    Sound,
    /// It must be right, or say why it is not.
    Unclear,
    /// It must say why it is not right.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub materialized: bool,
    pub query: Query,
    pub fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Append,
    Update,
    Complete,
    Changelog,
}

impl Mode {
    pub fn sql(self) -> &'static str {
        match self {
            Mode::Append => "append",
            Mode::Update => "update",
            Mode::Complete => "complete",
            Mode::Changelog => "changelog",
        }
    }
}

/// A sink or a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    pub query: Query,
    pub mode: Mode,
    pub fate: Fate,
    /// The number of its record in the rig, or of the subscription.
    pub record: u64,
    /// What it reads by plain views that are gone.
    pub beyond: Vec<String>,
}

impl Reader {
    pub fn new(query: Query, mode: Mode, record: u64) -> Self {
        Reader { query, mode, fate: Fate::Sound, record, beyond: Vec::new() }
    }

    fn reads(&self, name: &str) -> bool {
        self.query.reads.iter().chain(&self.beyond).any(|read| read == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Table(Table),
    View(View),
    Sink(Reader),
}

/// What can be created, in the words of `DROP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Table,
    View,
    Sink,
}

impl Kind {
    pub fn sql(self) -> &'static str {
        match self {
            Kind::Table => "TABLE",
            Kind::View => "VIEW",
            Kind::Sink => "SINK",
        }
    }
}

impl Node {
    pub fn kind(&self) -> Kind {
        match self {
            Node::Table(_) => Kind::Table,
            Node::View(_) => Kind::View,
            Node::Sink(_) => Kind::Sink,
        }
    }

    pub fn reads(&self, name: &str) -> bool {
        match self {
            Node::Table(_) => false,
            Node::View(view) => view.query.reads.iter().any(|read| read == name),
            Node::Sink(sink) => sink.reads(name),
        }
    }

    pub fn is_from_now(&self) -> bool {
        self.query().is_some_and(|query| query.from_now)
    }

    fn query(&self) -> Option<&Query> {
        match self {
            Node::Table(_) => None,
            Node::View(view) => Some(&view.query),
            Node::Sink(sink) => Some(&sink.query),
        }
    }
}

/// A row in error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InError;

/// Everything that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub nodes: BTreeMap<String, Node>,
    pub subscriptions: BTreeMap<u64, Reader>,
}

impl Model {
    /// The names that are seen, of some nodes, in order.
    pub fn names(&self, of: impl Fn(&Node) -> bool) -> Vec<String> {
        self.nodes.iter().filter(|(_, node)| of(node)).map(|(name, _)| name.clone()).collect()
    }

    pub fn table(&self, name: &str) -> Option<&Table> {
        match self.nodes.get(name) {
            Some(Node::Table(table)) => Some(table),
            _ => None,
        }
    }

    pub fn table_mut(&mut self, name: &str) -> Option<&mut Table> {
        match self.nodes.get_mut(name) {
            Some(Node::Table(table)) => Some(table),
            _ => None,
        }
    }

    pub fn view(&self, name: &str) -> Option<&View> {
        match self.nodes.get(name) {
            Some(Node::View(view)) => Some(view),
            _ => None,
        }
    }

    /// Whether a query can read it: a table or view that has a name.
    pub fn is_relation(&self, name: &str) -> bool {
        matches!(self.nodes.get(name), Some(Node::Table(_) | Node::View(_)))
    }

    /// The tables below a relation.
    pub fn bases(&self, name: &str) -> BTreeSet<String> {
        match self.nodes.get(name) {
            Some(Node::Table(_)) => BTreeSet::from([name.to_owned()]),
            Some(node) => node.query().map(|query| self.bases_of(query)).unwrap_or_default(),
            None => BTreeSet::new(),
        }
    }

    pub fn bases_of(&self, query: &Query) -> BTreeSet<String> {
        query.reads.iter().flat_map(|name| self.bases(name)).collect()
    }

    pub fn base_tables(&self, query: &Query) -> Vec<&Table> {
        self.bases_of(query).iter().filter_map(|name| self.table(name)).collect()
    }

    /// How many views stand on one another here.
    pub fn depth(&self, name: &str) -> usize {
        let query = self.nodes.get(name).and_then(Node::query);
        query.map_or(0, |query| 1 + query.reads.iter().map(|name| self.depth(name)).max().unwrap_or(0))
    }

    /// Whether all inputs of a query have ended. *Ended finalises everything.*
    pub fn has_ended(&self, query: &Query) -> bool {
        self.base_tables(query).iter().all(|table| table.ended)
    }

    /// Whether a sink or subscription still reads.
    pub fn is_running(&self, reader: &Reader) -> bool {
        reader.fate != Fate::Failed && !self.has_ended(&reader.query)
    }

    fn sinks_of(&self, name: &str) -> impl Iterator<Item = &Reader> {
        self.nodes.values().filter_map(move |node| match node {
            Node::Sink(sink) if sink.reads(name) => Some(sink),
            _ => None,
        })
    }

    fn views_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a String> {
        self.nodes.iter().filter_map(move |(reader, node)| match node {
            Node::View(view) if view.query.reads.iter().any(|read| read == name) => Some(reader),
            _ => None,
        })
    }

    fn subscribed<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Reader> {
        self.subscriptions.values().filter(move |reader| reader.reads(name))
    }

    /// Whether all that a query reads is still there.
    pub fn has_all(&self, query: &Query) -> bool {
        query.reads.iter().all(|name| match self.nodes.get(name) {
            Some(node) => node.query().is_none_or(|query| self.has_all(query)),
            None => false,
        })
    }

    /// Everything that reads it, over any number of views.
    pub fn downstream(&self, name: &str) -> BTreeSet<String> {
        let reads = |node: &Node, of: &BTreeSet<String>| of.iter().any(|name| node.reads(name));
        let mut all = BTreeSet::from([name.to_owned()]);
        loop {
            let more: Vec<_> =
                self.nodes.iter().filter(|(n, node)| !all.contains(*n) && reads(node, &all)).map(|(n, _)| n).collect();
            if more.is_empty() {
                break;
            }
            let more: Vec<String> = more.into_iter().cloned().collect();
            all.extend(more);
        }
        all.remove(name);
        all
    }

    /// What those who read it say to its going.
    fn held(&self, name: &str, while_read: Verdict) -> Vec<Verdict> {
        let mut verdicts: Vec<_> = self.views_of(name).map(|_| while_read).collect();
        let sinks = self.sinks_of(name).map(|sink| (sink, while_read));
        let subscriptions = self.subscribed(name).map(|reader| (reader, rules::DROP_WHILE_SUBSCRIBED));
        for (reader, verdict) in sinks.chain(subscriptions) {
            match reader.fate {
                // Whether one of which it is not known if it has failed still reads is not known either.
                Fate::Unclear => verdicts.push(Verdict::Free),
                _ if self.is_running(reader) => verdicts.push(verdict),
                _ => {}
            }
        }
        verdicts
    }

    fn drop_verdict(&self, name: &str, while_read: Verdict) -> Verdict {
        let verdicts = self.held(name, while_read);
        match (verdicts.contains(&Verdict::Refused), verdicts.iter().all(|v| *v == Verdict::Taken)) {
            (_, true) => self.drop_unread(name),
            (true, false) => Verdict::Refused,
            (false, false) => Verdict::Free,
        }
    }

    fn drop_unread(&self, name: &str) -> Verdict {
        match self.nodes.get(name) {
            Some(Node::Sink(sink)) if !self.is_running(sink) => rules::DROP_WHAT_FAILED,
            Some(Node::View(view)) if view.fate != Fate::Sound => rules::DROP_WHAT_FAILED,
            _ => Verdict::Taken,
        }
    }

    /// What may come of reading `query` from now on.
    pub fn reading(&self, query: &Query, mode: Option<Mode>) -> Verdict {
        if !query.reads.iter().all(|name| self.is_relation(name)) {
            return Verdict::Refused;
        }
        if mode == Some(Mode::Append) && !self.can_append(query) {
            return Verdict::Refused;
        }
        if self.fate(query) != Fate::Sound {
            return rules::READ_WHAT_FAILED;
        }
        if mode == Some(Mode::Append) && self.view(&query.reads[0]).is_some_and(|view| view.materialized) {
            return rules::APPEND_FROM_MATERIALIZED;
        }
        let gone = |table: &&Table| {
            matches!(table.origin, Origin::Channel | Origin::Timed) && (table.ended || !table.rows.is_empty())
        };
        // What a materialized view keeps is read from there.
        let reads_gone = !query.from_now && query.reads.iter().any(|name| self.reads_gone(name, &gone));
        if reads_gone { rules::READ_CHANNEL_LATE } else { Verdict::Taken }
    }

    fn reads_gone(&self, name: &str, gone: &impl Fn(&&Table) -> bool) -> bool {
        match self.nodes.get(name) {
            Some(Node::Table(table)) => gone(&table),
            Some(Node::View(view)) if !view.materialized => view.query.reads.iter().any(|n| self.reads_gone(n, gone)),
            _ => false,
        }
    }

    /// *Failed carries its error downstream.* The fate of someone who begins to read this now.
    pub fn fate(&self, query: &Query) -> Fate {
        query.reads.iter().map(|name| self.fate_of(name)).max().unwrap_or(Fate::Sound)
    }

    fn fate_of(&self, name: &str) -> Fate {
        match self.nodes.get(name) {
            Some(Node::Table(table)) if table.failed || table.broken => Fate::Unclear,
            Some(Node::View(view)) if !view.materialized => self.fate(&view.query),
            // One that comes to a failed view may be taken: the next look finds it failed.
            Some(Node::View(view)) if view.fate != Fate::Sound => Fate::Unclear,
            _ => Fate::Sound,
        }
    }

    /// What must come of an act now.
    pub fn verdict(&self, act: &Act) -> Verdict {
        match act {
            Act::Create { name, node, existing } => match (self.nodes.get(name), existing) {
                (Some(_), Existing::Refuse) => Verdict::Refused,
                (Some(_), Existing::Keep) => Verdict::Taken,
                (Some(there), Existing::Replace) if there.kind() != node.kind() => Verdict::Refused,
                (Some(_), Existing::Replace) => {
                    let itself = node.query().is_some_and(|query| query.reads.contains(name));
                    let dropped = self.drop_verdict(name, rules::REPLACE_WHILE_READ);
                    if itself { Verdict::Refused } else { both(dropped, self.create_verdict(node)) }
                }
                (None, _) => self.create_verdict(node),
            },
            Act::Drop { kind, name, if_exists, cascade } => match self.nodes.get(name) {
                Some(node) if node.kind() == *kind && *cascade => Verdict::Taken,
                Some(node) if node.kind() == *kind => self.drop_verdict(name, rules::DROP_WHILE_READ),
                _ if *if_exists => Verdict::Taken,
                _ => Verdict::Refused,
            },
            Act::Insert { table, .. } | Act::Update { table, .. } | Act::Delete { table, .. } => {
                match self.table(table) {
                    Some(Table { origin: Origin::Memory, ended: false, .. }) => Verdict::Taken,
                    // A statement that changes no row need not notice.
                    Some(Table { origin: Origin::Memory, .. }) if self.changes(act) == Some(0) => Verdict::Free,
                    _ => Verdict::Refused,
                }
            }
            Act::Push { table, .. } => match self.table(table) {
                Some(Table { ended: false, origin, .. }) if !matches!(origin, Origin::Rig(_)) => Verdict::Taken,
                _ => Verdict::Refused,
            },
        }
    }

    fn create_verdict(&self, node: &Node) -> Verdict {
        let timed = |name: &String| self.table(name).is_some_and(|table| table.origin.has_time());
        match node {
            // The table that had the name when this was thought of had event time.
            Node::View(View { query, .. }) | Node::Sink(Reader { query, .. })
                if query.shape == Shape::Windowed && !query.reads.iter().all(timed) =>
            {
                Verdict::Refused
            }
            Node::Table(_) => Verdict::Taken,
            // A plain view reads nothing yet.
            Node::View(view) if !view.materialized => match view.query.reads.iter().all(|n| self.is_relation(n)) {
                true => Verdict::Taken,
                false => Verdict::Refused,
            },
            Node::View(view) => self.reading(&view.query, None),
            Node::Sink(sink) => self.reading(&sink.query, Some(sink.mode)),
        }
    }

    /// The rows that a statement changes, where it is one that does.
    pub fn changes(&self, act: &Act) -> Option<u64> {
        let matching = |table: &str, key: i64| {
            self.table(table).map(|table| table.rows.iter().filter(|row| row[1] == key).count() as u64)
        };
        match act {
            Act::Insert { rows, .. } => Some(rows.len() as u64),
            Act::Update { table, k, .. } | Act::Delete { table, k } => matching(table, *k),
            Act::Create { .. } | Act::Drop { .. } | Act::Push { .. } => None,
        }
    }

    /// What an act that was taken does.
    pub fn apply(&mut self, act: &Act) {
        match act {
            Act::Create { name, node, existing } => {
                if *existing == Existing::Keep && self.nodes.contains_key(name) {
                    return;
                }
                let mut node = node.clone();
                self.remove(name);
                match &node {
                    Node::View(view) if !view.materialized => {}
                    Node::View(View { query, .. }) | Node::Sink(Reader { query, .. }) => self.start(query),
                    Node::Table(_) => {}
                }
                match &mut node {
                    Node::Table(_) => {}
                    Node::View(view) => (view.fate, view.query.skipped) = self.begin(&view.query),
                    Node::Sink(sink) => (sink.fate, sink.query.skipped) = self.begin(&sink.query),
                }
                self.nodes.insert(name.clone(), node);
            }
            Act::Drop { name, kind, cascade, .. } => {
                if self.nodes.get(name).is_none_or(|node| node.kind() != *kind) {
                    return;
                }
                if *cascade {
                    for reader in self.downstream(name) {
                        self.remove(&reader);
                    }
                }
                self.remove(name);
            }
            Act::Insert { table, rows } => {
                let Some(table) = self.table_mut(table) else { return };
                table.rows.extend(rows.iter().map(|(k, v)| [0, *k, *v]));
            }
            Act::Update { table, k, plus } => {
                let Some(table) = self.table_mut(table) else { return };
                table.rows.iter_mut().filter(|row| row[1] == *k).for_each(|row| row[2] += plus);
            }
            Act::Delete { table, k } => {
                let Some(table) = self.table_mut(table) else { return };
                table.rows.retain(|row| row[1] != *k);
            }
            Act::Push { table, rows, diffs } => {
                let Some(table) = self.table_mut(table) else { return };
                for (i, row) in rows.iter().enumerate() {
                    if diffs.as_ref().is_none_or(|diffs| diffs[i] > 0) {
                        table.rows.push(*row);
                    } else if let Some(at) = table.rows.iter().position(|there| there == row) {
                        table.rows.remove(at);
                    }
                }
            }
        }
    }

    /// The fate of a reader that begins now, and the rows that are not for it.
    pub fn begin(&self, query: &Query) -> (Fate, usize) {
        let skipped = self.table(&query.reads[0]).map_or(0, |table| table.rows.len());
        (self.fate(query), if query.from_now { skipped } else { 0 })
    }

    /// The tables that a reader begins to read: one whose source can't be read has failed by it.
    fn start(&mut self, query: &Query) {
        for name in &query.reads {
            match self.nodes.get_mut(name) {
                Some(Node::Table(table)) => table.failed |= table.failing,
                Some(Node::View(view)) if !view.materialized => {
                    let query = view.query.clone();
                    self.start(&query);
                }
                _ => {}
            }
        }
    }

    pub fn subscribe(&mut self, id: u64, mut reader: Reader) {
        self.start(&reader.query);
        (reader.fate, reader.query.skipped) = self.begin(&reader.query);
        self.subscriptions.insert(id, reader);
    }

    /// Takes a node away. Subscriptions to it are over.
    fn remove(&mut self, name: &str) {
        let Some(node) = self.nodes.remove(name) else { return };
        let beyond = match node {
            Node::View(view) if !view.materialized => view.query.reads,
            _ => Vec::new(),
        };
        let sinks = self.nodes.values_mut().filter_map(|node| match node {
            Node::Sink(sink) => Some(sink),
            _ => None,
        });
        for reader in sinks.chain(self.subscriptions.values_mut()).filter(|reader| reader.reads(name)) {
            reader.beyond.retain(|read| read != name);
            reader.beyond.extend(beyond.iter().cloned());
        }
        // Who has ended, or reads on without it, is not to be taken for a reader of what has the name next.
        let gone = format!("{name} #gone");
        let nodes = self.nodes.values_mut().filter_map(|node| match node {
            Node::Table(_) => None,
            Node::View(view) => Some((&mut view.query, &mut view.fate)),
            Node::Sink(sink) => Some((&mut sink.query, &mut sink.fate)),
        });
        let subscriptions = self.subscriptions.values_mut().map(|reader| (&mut reader.query, &mut reader.fate));
        for (query, fate) in nodes.chain(subscriptions) {
            for read in query.reads.iter_mut().filter(|read| *read == name) {
                read.clone_from(&gone);
                *fate = (*fate).max(Fate::Unclear);
            }
        }
    }

    /// A reader of the table has failed: all that is downstream has.
    pub fn fail(&mut self, table: &str) {
        let Some(failed) = self.table_mut(table) else { return };
        failed.failed = true;
        for name in self.downstream(table) {
            match self.nodes.get_mut(&name) {
                Some(Node::View(view)) if view.materialized => view.fate = Fate::Failed,
                Some(Node::Sink(sink)) => sink.fate = Fate::Failed,
                _ => {}
            }
        }
        let over: Vec<u64> = self
            .subscriptions
            .iter()
            .filter(|(_, s)| self.bases_of(&s.query).contains(table))
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            if let Some(reader) = self.subscriptions.get_mut(&id) {
                reader.fate = Fate::Failed;
            }
        }
    }

    /// The rows of a relation.
    pub fn content(&self, name: &str) -> Result<Rows, InError> {
        match self.nodes.get(name) {
            Some(Node::Table(table)) => Ok(rows(table, 0)),
            Some(Node::View(view)) => self.answer(&view.query),
            Some(Node::Sink(_)) | None => Ok(Rows::new()),
        }
    }

    /// The answer of a query, by its meaning.
    pub fn answer(&self, query: &Query) -> Result<Rows, InError> {
        let first = match self.table(&query.reads[0]) {
            Some(table) => rows(table, query.skipped),
            None => self.content(&query.reads[0])?,
        };
        let mut out = Rows::new();
        let mut add = |row: Vec<i64>, copies: i64| *out.entry(row).or_default() += copies;
        let pair = |row: &Vec<i64>| (row[row.len() - 2], row[row.len() - 1]);
        let mut groups: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (row, copies) in &first {
            let (k, v) = pair(row);
            groups.entry(k).or_default().extend((0..*copies).map(|_| v));
        }
        match query.shape {
            Shape::All => first.into_iter().for_each(|(row, copies)| add(row, copies)),
            Shape::Filter(least) => first.iter().filter(|(row, _)| pair(row).1 >= least).for_each(|(row, copies)| {
                add(vec![pair(row).0, pair(row).1], *copies);
            }),
            Shape::Sum => groups.iter().for_each(|(k, vs)| add(vec![*k, vs.iter().sum()], 1)),
            Shape::Count => groups.iter().for_each(|(k, vs)| add(vec![*k, vs.len() as i64], 1)),
            Shape::Max => groups.iter().for_each(|(k, vs)| add(vec![*k, vs.iter().copied().max().unwrap_or(0)], 1)),
            Shape::Top => {
                let mut all: Vec<_> = groups.iter().flat_map(|(k, vs)| vs.iter().map(|v| (-*v, *k))).collect();
                all.sort_unstable();
                all.iter().take(3).for_each(|(v, k)| add(vec![*k, -*v], 1));
            }
            Shape::Distinct => {
                let distinct: BTreeSet<_> = first.keys().map(pair).collect();
                distinct.into_iter().for_each(|(k, v)| add(vec![k, v], 1));
            }
            Shape::Divide => {
                for (row, copies) in &first {
                    let (k, v) = pair(row);
                    add(vec![k, 100i64.checked_div(v).ok_or(InError)?], *copies);
                }
            }
            Shape::Join | Shape::Union => {
                let second = self.content(&query.reads[1])?;
                if query.shape == Shape::Union {
                    first.iter().chain(&second).for_each(|(row, copies)| add(vec![pair(row).0, pair(row).1], *copies));
                } else {
                    for ((a, n), (b, m)) in first.iter().flat_map(|a| second.iter().map(move |b| (a, b))) {
                        if pair(a).0 == pair(b).0 {
                            add(vec![pair(a).0, pair(a).1 + pair(b).1], n * m);
                        }
                    }
                }
            }
            Shape::Windowed => first.iter().for_each(|(row, copies)| {
                let group = vec![row[0] - row[0].rem_euclid(WINDOW), row[1]];
                add(group, *copies);
            }),
        }
        if query.shape == Shape::Windowed {
            out = out.into_iter().map(|(group, count)| ([group, vec![count]].concat(), 1)).collect();
        }
        Ok(out)
    }

    /// What an append sink over windows must have been given by now, and what it may have been given. *Stopped finalises
    /// nothing* that the watermark had not.
    pub fn finals(&self, query: &Query) -> (Rows, Rows) {
        let all = self.answer(query).unwrap_or_default();
        if self.has_ended(query) {
            return (all.clone(), all);
        }
        if !self.has_windows(query) {
            return (all.clone(), all);
        }
        let newest = self.base_tables(query).iter().flat_map(|table| table.rows.iter().map(|row| row[0])).max();
        let Some(newest) = newest else { return Default::default() };
        let ending =
            |by: i64| all.iter().filter(|(row, _)| row[0] + WINDOW <= by).map(|(r, n)| (r.clone(), *n)).collect();
        (ending(newest - DELAY - RESOLUTION), ending(newest - DELAY))
    }

    pub fn has_windows(&self, query: &Query) -> bool {
        query.shape == Shape::Windowed
            || query.reads.iter().any(|name| self.view(name).is_some_and(|view| self.has_windows(&view.query)))
    }

    /// Whether the rows of a query are never retracted once they are final, and become final.
    pub fn can_append(&self, query: &Query) -> bool {
        let relation = |name: &String| match self.nodes.get(name) {
            Some(Node::Table(table)) => table.origin != Origin::Memory,
            Some(Node::View(view)) => self.can_append(&view.query),
            Some(Node::Sink(_)) | None => false,
        };
        match query.shape {
            Shape::Windowed => true,
            Shape::All => relation(&query.reads[0]),
            // Without their window rows of windows are no more known to be final.
            Shape::Filter(_) => relation(&query.reads[0]) && !self.has_windows(query),
            _ => false,
        }
    }

    /// Whether a question can be answered at once: what is only pushed into a channel has no end.
    pub fn can_ask(&self, query: &Query) -> bool {
        query.reads.iter().all(|name| match self.nodes.get(name) {
            Some(Node::Table(table)) => matches!(table.origin, Origin::Memory | Origin::Rig(_)),
            Some(Node::View(view)) => view.materialized || self.can_ask(&view.query),
            Some(Node::Sink(_)) | None => true,
        })
    }

    /// Whether its rows are read by a thread of their own, so that they come a moment later.
    pub fn comes_by_itself(&self, query: &Query) -> bool {
        self.base_tables(query).iter().any(|table| matches!(table.origin, Origin::Rig(_)))
    }

    /// Whether a query's rows are `w, k, v` of windows that become final.
    pub fn is_windowed(&self, query: &Query) -> bool {
        match query.shape {
            Shape::Windowed => true,
            Shape::All => self.view(&query.reads[0]).is_some_and(|view| self.is_windowed(&view.query)),
            _ => false,
        }
    }
}

fn rows(table: &Table, skipped: usize) -> Rows {
    let mut rows = Rows::new();
    for row in &table.rows[skipped.min(table.rows.len())..] {
        let row = if table.origin.has_time() { row.to_vec() } else { row[1..].to_vec() };
        *rows.entry(row).or_default() += 1;
    }
    rows
}

/// What comes of an act that needs both.
fn both(a: Verdict, b: Verdict) -> Verdict {
    match (a, b) {
        (Verdict::Refused, _) | (_, Verdict::Refused) => Verdict::Refused,
        (Verdict::Taken, Verdict::Taken) => Verdict::Taken,
        _ => Verdict::Free,
    }
}
