//! What is done next: mostly what can be done, now and then what must be refused.

use rand::Rng;

use super::model::{Act, Existing, Fate, Kind, Mode, Node, Origin, Query, Reader, Shape, Table, View};
use super::{Life, MOST, NAMES};

impl Life {
    pub(super) fn some_act(&mut self) -> Option<Act> {
        match self.random.random_range(0..100) {
            0..14 => self.create(Kind::Table),
            14..30 => self.create(Kind::View),
            30..40 => self.create(Kind::Sink),
            40..55 => self.drop_some(),
            55..80 => self.change(),
            _ => self.push(),
        }
    }

    fn name(&mut self) -> String {
        format!("x{}", self.random.random_range(0..NAMES))
    }

    pub(super) fn create(&mut self, kind: Kind) -> Option<Act> {
        let most = MOST.iter().find(|(of, _)| *of == kind).map_or(0, |(_, most)| *most);
        if self.count(kind) >= most {
            return self.drop_some();
        }
        let name = self.name();
        let existing = match self.random.random_range(0..10) {
            0 => Existing::Keep,
            1..4 => Existing::Replace,
            _ => Existing::Refuse,
        };
        let node = match kind {
            Kind::Table => {
                let stream = self.number();
                let origin =
                    self.pick(&[Origin::Memory, Origin::Memory, Origin::Channel, Origin::Timed, Origin::Rig(stream)])?;
                Node::Table(Table { origin, rows: vec![], ended: false, failed: false, broken: false, failing: false })
            }
            Kind::View => {
                let materialized = self.chance(70);
                let query = self.query(materialized)?;
                let query = if materialized { query } else { Query::new(query.shape, query.reads, false) };
                Node::View(View { materialized, query, fate: Fate::Sound })
            }
            Kind::Sink => {
                let (query, mode) = self.output()?;
                Node::Sink(Reader::new(query, mode, self.number()))
            }
        };
        Some(Act::Create { name, node, existing })
    }

    /// The one table with event time below a relation, or none where all tables are without.
    fn family(&self, name: &str) -> Option<String> {
        self.model.bases(name).into_iter().find(|base| self.model.table(base).is_some_and(|t| t.origin.has_time()))
    }

    fn relation(&mut self) -> Option<String> {
        let there = self.names(|node| node.kind() != Kind::Sink);
        match self.chance(4) {
            true => Some(self.name()),
            false => self.pick(&there),
        }
    }

    pub(super) fn query(&mut self, materialized: bool) -> Option<Query> {
        let x = self.relation()?;
        let size = self.model.content(&x).map_or(0, |rows| rows.values().sum::<i64>());
        let least = self.random.random_range(0..12);
        let shape = match self.random.random_range(0..11) {
            _ if self.model.depth(&x) > 3 || size > 300 => Shape::Count,
            0 => Shape::All,
            1 => Shape::Sum,
            2 => Shape::Count,
            3 => Shape::Max,
            4 => Shape::Top,
            5 => Shape::Distinct,
            6 if materialized => Shape::Divide,
            7 => Shape::Join,
            8 => Shape::Union,
            9 | 10 if self.model.table(&x).is_some_and(|table| table.origin.has_time()) => Shape::Windowed,
            _ => Shape::Filter(least),
        };
        if !matches!(shape, Shape::Join | Shape::Union) {
            let channel = self.model.table(&x).is_some_and(|t| matches!(t.origin, Origin::Channel | Origin::Timed));
            let from_now = channel && !matches!(shape, Shape::Windowed) && self.chance(40);
            return Some(Query::new(shape, vec![x], from_now));
        }
        let most = if shape == Shape::Join { 1 } else { 3 };
        let partners = self.names(|node| node.kind() != Kind::Sink);
        let fits = |y: &String| self.model.depth(y) <= most && self.family(y) == self.family(&x);
        let partners: Vec<_> = partners.into_iter().filter(fits).collect();
        let deep = self.model.depth(&x) > most;
        match self.pick(&partners) {
            Some(y) if !deep => Some(Query::new(shape, vec![x, y], false)),
            _ => Some(Query::new(Shape::Sum, vec![x], false)),
        }
    }

    /// A query and a mode that it can be written in, or now and then can't.
    fn output(&mut self) -> Option<(Query, Mode)> {
        let query = self.query(false)?;
        // A view that starts late from now on is enough of that.
        let query = Query::new(query.shape, query.reads, false);
        let keyed = matches!(query.shape, Shape::Sum | Shape::Count | Shape::Max);
        let mode = match self.random.random_range(0..4) {
            0 if keyed => Mode::Update,
            1 => Mode::Complete,
            2 | 3 if self.model.can_append(&query) => Mode::Append,
            3 if keyed && self.model.is_relation(&query.reads[0]) && !self.model.has_windows(&query) => Mode::Append,
            _ => Mode::Changelog,
        };
        Some((query, mode))
    }

    fn drop_some(&mut self) -> Option<Act> {
        let there = self.names(|_| true);
        let name = if self.chance(5) { self.name() } else { self.pick(&there)? };
        let right = self.model.nodes.get(&name).map_or(Kind::View, Node::kind);
        let kind = if self.chance(4) { self.pick(&[Kind::Table, Kind::View, Kind::Sink])? } else { right };
        let cascade = self.chance(25);
        Some(Act::Drop { kind, name, if_exists: self.chance(10), cascade })
    }

    fn row(&mut self, origin: Origin) -> [i64; 3] {
        let k = self.random.random_range(0..4);
        // Of what can't be retracted little is in error.
        let least = i64::from(origin != Origin::Memory && !self.chance(2));
        let v = self.random.random_range(least..10);
        if origin.has_time() {
            self.now += self.random.random_range(0..4_000_000);
            return [self.now, k, v];
        }
        [0, k, v]
    }

    pub(super) fn rows(&mut self, origin: Origin) -> Vec<[i64; 3]> {
        (0..self.random.random_range(1..4)).map(|_| self.row(origin)).collect()
    }

    /// A statement that changes a table, or another one, which must be refused.
    fn change(&mut self) -> Option<Act> {
        let memory = self.names(|node| matches!(node, Node::Table(table) if table.origin == Origin::Memory));
        let table = if self.chance(5) { self.name() } else { self.pick(&memory)? };
        let full = self.model.table(&table).is_some_and(|table| table.rows.len() > 25);
        let k = self.random.random_range(0..4);
        Some(match self.random.random_range(0..10) {
            0..5 if !full => {
                let rows = self.rows(Origin::Memory).into_iter().map(|[_, k, v]| (k, v)).collect();
                Act::Insert { table, rows }
            }
            5..8 => Act::Update { table, k, plus: self.random.random_range(1..3) },
            _ => Act::Delete { table, k },
        })
    }

    fn push(&mut self) -> Option<Act> {
        let tables = self.names(|node| matches!(node, Node::Table(table) if !matches!(table.origin, Origin::Rig(_))));
        let table = if self.chance(3) { self.name() } else { self.pick(&tables)? };
        let (origin, there) = self.model.table(&table).map_or((Origin::Memory, 0), |t| (t.origin, t.rows.len()));
        let most = if origin == Origin::Memory { 25 } else { 60 };
        (there <= most).then(|| Act::Push { rows: self.rows(origin), table, diffs: None })
    }
}
