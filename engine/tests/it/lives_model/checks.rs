//! What must hold after each step.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use headwater::Outcome;
use headwater::arrow::array::AsArray;

use super::model::{Fate, Kind, Mode, Model, Node, Reader, View};
use super::resources::doing;
use super::rig::numbers;
use super::{Life, SOON, eventually, multiset, plain};

impl Life {
    pub(super) fn check(&mut self) {
        let refused = |sink: &Reader| self.rig.record(sink.record, |record| record.refused);
        for node in self.model.nodes.values_mut() {
            if let Node::Sink(sink) = node
                && refused(sink)
            {
                sink.fate = Fate::Failed;
            }
        }
        self.check_catalog();
        let nodes: Vec<_> = self.model.nodes.iter().map(|(name, node)| (name.clone(), node.clone())).collect();
        for (name, node) in &nodes {
            match node {
                Node::View(view) if view.materialized => self.check_view(name, view),
                Node::Sink(sink) => self.check_sink(name, sink),
                Node::View(_) | Node::Table(_) => {}
            }
        }
        let read: Vec<_> = self.followed.iter().filter(|(_, f)| !f.unread).map(|(id, _)| *id).collect();
        read.into_iter().for_each(|id| self.check_subscription(id, false));
    }

    fn shown(&self, what: &str) -> BTreeMap<String, String> {
        let outcomes = self.session.execute(&format!("SHOW {what}")).unwrap();
        let Some(Outcome::Rows(rows)) = outcomes.first() else { panic!("SHOW {what} shows no rows") };
        // Of sinks it is their state that counts.
        let second = if what == "SINKS" { 2 } else { 1 };
        let [names, kinds] = [0, second].map(|column| rows.column(column).as_string::<i32>());
        (0..rows.num_rows()).map(|row| (names.value(row).to_owned(), kinds.value(row).to_owned())).collect()
    }

    /// Whether the session knows the names that a model does.
    pub(super) fn has_names(&self, model: &Model) -> bool {
        [("TABLES", Kind::Table), ("VIEWS", Kind::View), ("SINKS", Kind::Sink)].into_iter().all(|(what, kind)| {
            let shown = self.shown(what).into_keys().collect::<Vec<_>>();
            shown == model.names(|node| node.kind() == kind)
        })
    }

    pub(super) fn check_catalog(&self) {
        let names = |shown: BTreeMap<String, String>| shown.into_keys().collect::<Vec<_>>();
        assert_eq!(names(self.shown("TABLES")), self.names(|node| node.kind() == Kind::Table), "SHOW TABLES");
        let kind = |name: &String| match self.model.view(name) {
            Some(view) if view.materialized => "materialized".to_owned(),
            _ => "view".to_owned(),
        };
        let views = self.names(|node| node.kind() == Kind::View);
        let views: BTreeMap<_, _> = views.into_iter().map(|name| (name.clone(), kind(&name))).collect();
        assert_eq!(self.shown("VIEWS"), views, "SHOW VIEWS");
        assert_eq!(names(self.shown("SINKS")), self.names(|node| node.kind() == Kind::Sink), "SHOW SINKS");
        let tables: Vec<_> = self.session.tables().into_iter().map(|table| table.name).collect();
        assert_eq!(tables, self.names(|node| node.kind() == Kind::Table), "tables()");
    }

    fn check_view(&self, name: &str, view: &View) {
        doing(format!("looks at view {name}; after {:?}", self.log.back()));
        let there = self.session.view(name).unwrap();
        let want = self.model.answer(&view.query);
        let mut got = None;
        let mut look = || {
            let snapshot = there.snapshot();
            let failed = there.status().failure.is_some();
            let fits = match (&snapshot, &want) {
                (Ok(rows), Ok(want)) => view.fate != Fate::Failed && multiset(&numbers(rows)) == *want,
                // *Failed carries its error downstream.*
                (Err(_), _) if failed => view.fate != Fate::Sound,
                (Err(error), want) => {
                    plain(error);
                    view.fate != Fate::Failed && want.is_err()
                }
                (Ok(_), Err(_)) => false,
            };
            got = Some(snapshot.map(|rows| multiset(&numbers(&rows))));
            fits
        };
        if !look() && (view.fate != Fate::Sound || self.model.comes_by_itself(&view.query)) {
            let begin = Instant::now();
            while !look() && begin.elapsed() < SOON {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let fits = look();
        let status = there.status();
        assert!(
            fits,
            "view {name} ({}, {:?}) has {got:?} instead of {want:?}; {status:?}",
            view.query.sql(),
            view.fate
        );
    }

    fn check_sink(&self, name: &str, sink: &Reader) {
        doing(format!("looks at sink {name}; after {:?}", self.log.back()));
        if !self.model.has_all(&sink.query) {
            return;
        }
        let want = self.model.answer(&sink.query);
        let (must, may) = self.model.finals(&sink.query);
        let got = || self.rig.record(sink.record, |record| record.rows.clone());
        let what =
            || format!("sink {name} ({:?} of {}) got {:?} instead of {want:?}", sink.mode, sink.query.sql(), got());
        self.nothing_early(name, sink, &may);
        let refuses = self.rig.record(sink.record, |record| record.refuse);
        if sink.fate == Fate::Sound
            && !refuses
            && let Ok(want) = &want
        {
            eventually(SOON, what, || match sink.mode {
                Mode::Append => {
                    let got = got();
                    must.iter().all(|(row, copies)| got.get(row) == Some(copies))
                }
                _ => got() == *want,
            });
        }
        if sink.fate != Fate::Unclear && !refuses {
            let running = self.model.is_running(sink);
            let shown = || self.shown("SINKS").get(name).cloned();
            let what = || format!("sink {name} is shown as {:?}, and runs: {running}", shown());
            eventually(SOON, what, || (shown().as_deref() == Some("running")) == running);
        }
    }

    pub(super) fn check_subscription(&mut self, id: u64, last: bool) {
        doing(format!("reads subscription {id}; after {:?}", self.log.back()));
        let (Some(followed), Some(reader)) = (self.followed.get_mut(&id), self.model.subscriptions.get(&id)) else {
            return;
        };
        followed.drain();
        let (ended, sql) = (self.model.has_ended(&reader.query), reader.query.sql());
        match (reader.fate, self.model.answer(&reader.query)) {
            (Fate::Sound, Ok(want)) => {
                let begin = Instant::now();
                while (followed.rows != want || followed.ended != ended) && begin.elapsed() < SOON {
                    std::thread::sleep(Duration::from_micros(200));
                    followed.drain();
                }
                assert!(!followed.failed, "subscription {id} ({sql}) has failed");
                assert_eq!(followed.rows, want, "subscription {id} ({sql})");
                assert_eq!(followed.ended, ended, "whether subscription {id} ({sql}) has ended");
            }
            // *Failed carries its error downstream.*
            (Fate::Failed, _) => {
                let begin = Instant::now();
                while !followed.failed && begin.elapsed() < SOON {
                    followed.drain();
                }
                assert!(followed.failed, "subscription {id} ({sql}) has not failed");
            }
            // A row in error, or something that is gone: nothing is sure but that it comes back.
            (Fate::Sound | Fate::Unclear, _) => {
                assert!(last || !followed.ended || ended || reader.fate == Fate::Unclear)
            }
        }
    }
}
