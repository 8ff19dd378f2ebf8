//! How things live and die in a session: random statements, pushes, failures, cancels and stops, some of them at once on
//! several threads, against a naive model; after each step the catalog, every view and every sink are compared, and when all is
//! dropped the process holds what it held before.
//!
//! The rules are in `model.rs`. `HEADWATER_RACES=1` (acts at once), `HEADWATER_SEED`, `HEADWATER_LIVES` (seeds) and
//! `HEADWATER_STEPS` (a seed) change the run.

mod acts;
mod checks;
mod choices;
mod model;
mod resources;
mod rig;

use std::collections::{BTreeMap, VecDeque};
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use headwater::arrow::datatypes::SchemaRef;
use headwater::connectors::Registry;
use headwater::{Error, Event, Input, Outcome, OutputMode, Result, Session, Subscription};
use rand::Rng;
use rand::rngs::SmallRng;

use self::model::{Act, Existing, Fate, Kind, Mode, Model, Node, Origin, Query, Reader, Rows, Shape, Table, Verdict};
use self::resources::{Held, doing, watch};
use self::rig::{Rig, add, batch, numbers};
use crate::oracle;

/// How long a step may take before it counts as hanging.
const HANGS: Duration = Duration::from_secs(30);
/// How long what comes by itself may take: rows of a source, the end of a sink.
const SOON: Duration = Duration::from_secs(10);
/// Within this time anything can be dropped, cancelled or stopped. More than the second of the contract: the machine has
/// other work.
const AT_ONCE: Duration = Duration::from_secs(3);
/// Bytes that may be left when all is dropped: what an allocator of queues and tables keeps for next time.
const SLACK: i64 = 64 << 10;
/// How often as many steps must leave more than that for it to be a leak.
const ROUNDS: usize = 3;

const NAMES: usize = 14;
const MOST: [(Kind, usize); 3] = [(Kind::Table, 6), (Kind::View, 8), (Kind::Sink, 4)];
const MOST_SUBSCRIPTIONS: usize = 3;

/// Set in the process of one seed.
const CHILD: &str = "HEADWATER_LIVES_CHILD";

#[test]
fn random_lives_follow_the_model() {
    let seeds: Vec<u64> =
        (oracle::setting("HEADWATER_SEED", 1)..).take(oracle::setting("HEADWATER_LIVES", 3) as usize).collect();
    // A process for each, so that what it holds is its own.
    let children = seeds.iter().map(|seed| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["lives_model::one_life", "--exact", "--ignored", "--nocapture", "--test-threads", "1"]);
        child.env(CHILD, "1").env("HEADWATER_SEED", seed.to_string());
        (seed, child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    });
    let failed: Vec<String> = children
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(|(seed, child)| {
            let output = child.wait_with_output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            (!output.status.success()).then(|| format!("HEADWATER_SEED={seed}:\n{}", String::from_utf8_lossy(&said)))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
#[ignore = "random_lives_follow_the_model runs it in a process of its own"]
fn one_life() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    watch(HANGS);
    let (seed, steps) = (oracle::setting("HEADWATER_SEED", 1), oracle::setting("HEADWATER_STEPS", 3_000));
    let workers = 1 + (seed % 2) as usize;
    // What is made once for the process is there before anything is measured.
    drop(begin(seed, workers));
    let before = Held::now();
    let mut life = begin(seed, workers);
    life.run(steps / 10);
    life.end();
    // What leaks, leaks each time; a queue keeps the room of its fullest hour, which comes when the machine has other work.
    let mut grown = Vec::new();
    while grown.len() < ROUNDS {
        let once = Held::now();
        life.run(steps);
        life.end();
        let begin = Instant::now();
        while !once.covers(&Held::now(), SLACK) && begin.elapsed() < AT_ONCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        let now = Held::now();
        if once.covers(&now, SLACK) {
            println!("{} bytes more than {steps} steps before, round {}", now.bytes - once.bytes, grown.len() + 1);
            break;
        }
        grown.push(now.beyond(&once));
    }
    assert!(grown.len() < ROUNDS, "what is held when all is dropped grows with each {steps} steps by {grown:#?}");
    life.run(steps / 20);
    life.stop();
    drop(life);
    eventually(
        AT_ONCE,
        || format!("what is held without a session, beyond what was: {}", Held::now().beyond(&before)),
        || before.covers(&Held::now(), 4 * SLACK),
    );
}

fn begin(seed: u64, workers: usize) -> Life {
    let rig = Rig::default();
    let mut registry = Registry::standard();
    registry.register(Arc::new(rig.clone()));
    let session = Session::builder().workers(workers).connectors(registry).build().unwrap();
    session
        .execute(
            "CREATE TABLE t (k BIGINT, v BIGINT); CREATE MATERIALIZED VIEW w AS SELECT k, sum(v) FROM t GROUP BY k",
        )
        .unwrap();
    session.execute("INSERT INTO t VALUES (1, 1); DROP VIEW w; DROP TABLE t").unwrap();
    Life {
        random: oracle::random(seed),
        session,
        rig,
        model: Model::default(),
        ways: BTreeMap::new(),
        stale: VecDeque::new(),
        followed: BTreeMap::new(),
        next: 0,
        now: 1_704_067_200_000_000,
        log: VecDeque::new(),
        // Where several orders explain the outcomes of what is done at once, the model may take another than the one that was.
        races: oracle::setting("HEADWATER_RACES", 0) > 0,
    }
}

fn eventually(patience: Duration, what: impl Fn() -> String, mut look: impl FnMut() -> bool) {
    let begin = Instant::now();
    let mut pause = Duration::from_micros(100);
    while !look() {
        assert!(begin.elapsed() < patience, "after {:?}: {}", begin.elapsed(), what());
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// A way into a table.
struct Way {
    input: Input,
    schema: SchemaRef,
}

impl Way {
    fn new(session: &Session, table: &str) -> Result<Self> {
        Ok(Way { schema: session.table(table)?.schema(), input: session.input(table)? })
    }

    fn push(&mut self, rows: &[[i64; 3]], diffs: Option<Vec<i64>>) -> Result<()> {
        let rows = batch(&self.schema, rows);
        match diffs {
            Some(diffs) => self.input.push_atomic(rows, diffs),
            None => self.input.push(rows),
        }
        .map(|_| ())
    }
}

/// A subscription and the sum of what it gave.
struct Followed {
    subscription: Subscription,
    rows: Rows,
    ended: bool,
    failed: bool,
    /// Nobody reads it before it is dropped.
    unread: bool,
}

impl Followed {
    fn drain(&mut self) {
        while !(self.ended || self.failed) {
            match self.subscription.next(Duration::from_millis(1)) {
                Ok(Event::Emission(emission)) => add(&mut self.rows, &emission),
                Ok(Event::Idle) => break,
                Ok(Event::End) => self.ended = true,
                Err(error) => {
                    plain(&error);
                    self.failed = true;
                }
            }
        }
    }
}

/// What a thread did: the way it used, and how many rows a statement changed.
type Done = (Option<Way>, Result<Option<u64>>);

struct Life {
    random: SmallRng,
    session: Session,
    rig: Rig,
    model: Model,
    ways: BTreeMap<String, Way>,
    /// Ways into tables that are gone.
    stale: VecDeque<Way>,
    followed: BTreeMap<u64, Followed>,
    /// The next number of a stream, record or subscription.
    next: u64,
    /// Event time.
    now: i64,
    log: VecDeque<String>,
    /// Whether some acts are done at once, on several threads: `HEADWATER_RACES=1`.
    races: bool,
}

impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log.iter().for_each(|line| eprintln!("  {line}"));
        }
    }
}

/// An error must be one of the caller's making or of the world's, never a fault of the engine.
fn plain(error: &Error) {
    assert!(!matches!(error, Error::Internal { .. }), "{error}");
}

fn perform(session: &Session, act: &Act, way: Option<Way>) -> Done {
    if let Act::Push { table, rows, diffs } = act {
        let way = match way {
            Some(way) => Ok(way),
            None => Way::new(session, table),
        };
        return match way {
            Ok(mut way) => {
                let pushed = way.push(rows, diffs.clone());
                (Some(way), pushed.map(|()| None))
            }
            Err(error) => (None, Err(error)),
        };
    }
    let outcomes = session.execute(&act.sql().unwrap());
    let changed = outcomes.map(|outcomes| match outcomes.first() {
        Some(Outcome::Changed(rows)) => Some(*rows),
        _ => None,
    });
    (way, changed)
}

fn orders(n: usize) -> Vec<Vec<usize>> {
    match n {
        0 => vec![vec![]],
        _ => orders(n - 1)
            .into_iter()
            .flat_map(|order| (0..n).map(move |at| [&order[..at], &[n - 1], &order[at..]].concat()))
            .collect(),
    }
}

impl Life {
    fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step();
            self.check();
        }
    }

    fn say(&mut self, what: String) {
        doing(what.clone());
        self.log.push_back(what);
        if self.log.len() > 200 {
            self.log.pop_front();
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.random.random_range(0..of.len())].clone())
    }

    fn count(&self, kind: Kind) -> usize {
        self.model.nodes.values().filter(|node| node.kind() == kind).count()
    }

    fn names(&self, of: impl Fn(&Node) -> bool) -> Vec<String> {
        self.model.names(of)
    }

    fn step(&mut self) {
        match self.random.random_range(0..100) {
            42..57 if self.races => self.race(),
            0..57 => {
                if let Some(act) = self.some_act() {
                    self.do_all(vec![act]);
                }
            }
            57..69 => self.give_stream(),
            69..73 => self.spoil_stream(),
            73..76 => self.mend_stream(),
            76..78 => self.end_table(),
            78..80 => self.refuse_write(),
            80 => self.refuse_sink(),
            81..85 => self.subscribe(),
            85..88 => self.unsubscribe(),
            88..96 => self.ask(),
            96..98 => self.cancel(),
            _ => self.push_stale(),
        }
    }

    /// Some acts at once, each on a thread of its own.
    fn race(&mut self) {
        let mut acts = Vec::new();
        for _ in 0..self.random.random_range(2..4) {
            let act = self.some_act();
            // From when on a reader reads that begins while rows come is not for the model to say.
            let from_now = |act: &Act| matches!(act, Act::Create { node, .. } if node.is_from_now());
            let twice = |act: &Act, other: &Act| match (act, other) {
                (Act::Push { table, .. }, Act::Push { table: other, .. }) => table == other,
                _ => false,
            };
            // Who has a way into a table does not have it into another of its name.
            let into_another = |act: &Act, other: &Act| {
                let made =
                    matches!(other, Act::Create { node: Node::Table(_), .. } | Act::Drop { kind: Kind::Table, .. });
                matches!(act, Act::Push { .. }) && made && act.name() == other.name()
            };
            // Either order of these would give the same outcomes, and leave something else.
            let either_way = |act: &Act, other: &Act| match (act, other) {
                (Act::Drop { name, if_exists, .. }, Act::Create { name: made, existing, .. }) => {
                    name == made && (*if_exists || *existing != Existing::Refuse)
                }
                (Act::Create { name, existing, .. }, Act::Create { name: other, node, .. }) => {
                    (name == other && *existing != Existing::Refuse)
                        || (*existing == Existing::Replace && node.reads(name))
                }
                _ => false,
            };
            let apart = |act: &Act, other: &Act| {
                let both = |bars: &dyn Fn(&Act, &Act) -> bool| bars(act, other) || bars(other, act);
                !both(&twice) && !both(&into_another) && !both(&either_way)
            };
            acts.extend(act.filter(|act| !from_now(act) && acts.iter().all(|other| apart(act, other))));
        }
        self.do_all(acts);
    }

    /// Whether what some acts have left is what a model says: the names that there are, and what the tables in memory that
    /// they were about hold.
    fn has_left(&self, model: &Model, acts: &[Act]) -> bool {
        self.has_names(model)
            && acts.iter().all(|act| {
                if model.table(act.name()).is_none_or(|table| table.origin != Origin::Memory) {
                    return true;
                }
                let query = Query::new(Shape::All, vec![act.name().to_owned()], false);
                let rows = self.session.sql(&query.sql()).and_then(|query| query.collect());
                rows.is_ok_and(|rows| Ok(multiset(&numbers(&rows))) == model.answer(&query))
            })
    }

    /// Does these acts, at once if there are several, and finds an order in which the model does the same.
    fn do_all(&mut self, acts: Vec<Act>) {
        let text = |act: &Act| act.sql().unwrap_or_else(|| format!("{act:?}"));
        let texts: Vec<_> = acts.iter().map(text).collect();
        self.say(texts.join("  ||  "));
        let pushes = |act: &Act| matches!(act, Act::Push { .. });
        let ways: Vec<_> =
            acts.iter().map(|act| if pushes(act) { self.ways.remove(act.name()) } else { None }).collect();
        let begin = Instant::now();
        let done: Vec<Done> = if acts.len() == 1 {
            acts.iter().zip(ways).map(|(act, way)| perform(&self.session, act, way)).collect()
        } else {
            let (session, start) = (&self.session, Barrier::new(acts.len()));
            std::thread::scope(|scope| {
                let start = &start;
                let run = |(act, way)| {
                    scope.spawn(move || {
                        start.wait();
                        perform(session, act, way)
                    })
                };
                let threads: Vec<_> = acts.iter().zip(ways).map(run).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            })
        };
        assert!(begin.elapsed() < AT_ONCE + SOON, "it took {:?}", begin.elapsed());
        let (ways, outcomes): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).for_each(plain);
        let said: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().map_err(ToString::to_string)).collect();
        self.log.push_back(format!("    {said:?}"));
        let all = orders(acts.len());
        let mut explaining = all.iter().filter_map(|order| self.explain(order, &acts, &outcomes)).collect::<Vec<_>>();
        // Where several orders have these outcomes, it is the one that has also left what is there.
        let fitting = explaining.iter().position(|model| explaining.len() == 1 || self.has_left(model, &acts));
        let chosen = fitting.or((!explaining.is_empty()).then_some(0));
        let Some(model) = chosen.map(|at| explaining.swap_remove(at)) else {
            let verdicts: Vec<_> = acts.iter().map(|act| self.model.verdict(act)).collect();
            panic!("{texts:?} gave {said:?}; the model says {verdicts:?}");
        };
        let before = std::mem::replace(&mut self.model, model);
        let made =
            |act: &Act| matches!(act, Act::Create { node: Node::Table(_), .. } | Act::Drop { kind: Kind::Table, .. });
        for (act, way) in acts.iter().zip(ways) {
            if let Some(way) = way
                && !acts.iter().any(|other| made(other) && other.name() == act.name())
            {
                self.ways.insert(act.name().to_owned(), way);
            }
        }
        for (act, outcome) in acts.iter().zip(&outcomes).filter(|(act, outcome)| made(act) && outcome.is_ok()) {
            let kept =
                matches!(act, Act::Create { existing: Existing::Keep, .. }) && before.table(act.name()).is_some();
            if !kept && outcome.is_ok() {
                self.stale.extend(self.ways.remove(act.name()));
            }
        }
        self.look_after_dropped(&before);
    }

    /// The model after these acts in this order, if they can have had these outcomes then.
    fn explain(&self, order: &[usize], acts: &[Act], outcomes: &[Result<Option<u64>>]) -> Option<Model> {
        let mut model = self.model.clone();
        for (act, outcome) in order.iter().map(|i| (&acts[*i], &outcomes[*i])) {
            let (verdict, changes) = (model.verdict(act), model.changes(act));
            match (verdict, outcome) {
                (Verdict::Taken | Verdict::Free, Ok(changed)) if *changed == changes => model.apply(act),
                (Verdict::Refused | Verdict::Free, Err(_)) => {}
                _ => return None,
            }
        }
        Some(model)
    }

    /// What is dropped reads and writes no more, at once. *Stopped finalises nothing.*
    fn look_after_dropped(&self, before: &Model) {
        for (name, node) in &before.nodes {
            match node {
                Node::Table(Table { origin: Origin::Rig(stream), .. }) => {
                    let there = self.names(|node| matches!(node, Node::Table(t) if t.origin == Origin::Rig(*stream)));
                    if there.is_empty() {
                        let open = || self.rig.stream(*stream, |stream| stream.following);
                        eventually(AT_ONCE, || format!("table {name} is dropped and read"), || open() == 0);
                    }
                }
                Node::Sink(sink) => {
                    let there = self.names(|node| matches!(node, Node::Sink(other) if other.record == sink.record));
                    if there.is_empty() && before.has_all(&sink.query) {
                        let open = || self.rig.record(sink.record, |record| record.open);
                        eventually(AT_ONCE, || format!("sink {name} is dropped and open"), || open() == 0);
                        // What came at the same time may have been written before.
                        let (_, before) = before.finals(&sink.query);
                        let (_, after) = self.model.finals(&sink.query);
                        self.nothing_early(name, sink, &if after.len() > before.len() { after } else { before });
                    }
                }
                Node::View(_) | Node::Table(_) => {}
            }
        }
    }

    fn nothing_early(&self, name: &str, sink: &Reader, may: &Rows) {
        if sink.mode == Mode::Append && self.model.is_windowed(&sink.query) {
            let got = self.rig.record(sink.record, |record| record.rows.clone());
            let early: Vec<_> = got.iter().filter(|(row, copies)| may.get(*row) != Some(copies)).collect();
            assert!(early.is_empty(), "sink {name} was given windows that are not final: {early:?}");
        }
    }

    /// Rows for a stream of the rig.
    fn give_stream(&mut self) {
        let Some((name, stream)) = self.some_stream(|table| !table.ended && table.rows.len() < 60) else { return };
        let rows = self.rows(Origin::Rig(stream));
        self.say(format!("stream {stream} of {name} gets {rows:?}"));
        self.rig.stream(stream, |stream| stream.rows.extend(&rows));
        self.model.table_mut(&name).unwrap().rows.extend(rows);
    }

    fn some_stream(&mut self, of: impl Fn(&Table) -> bool) -> Option<(String, u64)> {
        let streams: Vec<_> = (self.model.nodes.iter())
            .filter_map(|(name, node)| match node {
                Node::Table(table @ Table { origin: Origin::Rig(stream), .. }) if of(table) => {
                    Some((name.clone(), *stream))
                }
                _ => None,
            })
            .collect();
        self.pick(&streams)
    }

    /// A stream that can't be opened or read any more.
    fn spoil_stream(&mut self) {
        let Some((name, number)) = self.some_stream(|table| !table.broken) else { return };
        if self.chance(30) {
            self.say(format!("stream {number} of {name} can't be opened"));
            self.rig.stream(number, |stream| stream.closed = true);
            self.model.table_mut(&name).unwrap().broken = true;
            return;
        }
        self.say(format!("stream {number} of {name} fails"));
        // Who reads it again to begin with, or to its end, comes through; the model knows only of those that go on.
        let ended = self.model.table(&name).is_some_and(|table| table.ended);
        let ending = || self.rig.stream(number, |stream| stream.ending + if ended { stream.following } else { 0 });
        eventually(SOON, || format!("table {name} is still read to an end"), || ending() == 0);
        let following = self.rig.stream(number, |stream| {
            stream.failing = true;
            stream.following
        });
        let table = self.model.table_mut(&name).unwrap();
        (table.broken, table.failing) = (true, true);
        if following > 0 && !table.ended {
            self.model.fail(&name);
        }
        let following = || self.rig.stream(number, |stream| stream.following);
        eventually(AT_ONCE, || format!("the stream of {name} has failed and is read"), || following() == 0);
    }

    fn mend_stream(&mut self) {
        let Some((name, stream)) = self.some_stream(|table| table.broken) else { return };
        self.say(format!("stream {stream} of {name} is back"));
        self.rig.stream(stream, |stream| (stream.closed, stream.failing) = (false, false));
        let table = self.model.table_mut(&name).unwrap();
        (table.broken, table.failing) = (false, false);
    }

    /// A table that has all its rows.
    fn end_table(&mut self) {
        let tables = self.names(|node| matches!(node, Node::Table(table) if !table.ended && !table.broken));
        let Some(name) = self.pick(&tables) else { return };
        self.say(format!("table {name} ends"));
        match self.model.table(&name).unwrap().origin {
            Origin::Rig(stream) => self.rig.stream(stream, |stream| stream.ended = true),
            _ => {
                let way = self.ways.remove(&name).map_or_else(|| Way::new(&self.session, &name), Ok).unwrap();
                way.input.close();
            }
        }
        self.model.table_mut(&name).unwrap().ended = true;
    }

    /// A sink whose next write fails.
    fn refuse_write(&mut self) {
        let sinks = self.names(|node| node.kind() == Kind::Sink);
        let Some(name) = self.pick(&sinks) else { return };
        let Some(Node::Sink(sink)) = self.model.nodes.get_mut(&name) else { return };
        let record = sink.record;
        // From its next write on it has failed, and when that is, is not known here.
        sink.fate = sink.fate.max(Fate::Unclear);
        self.say(format!("sink {name} refuses"));
        self.rig.record(record, |record| record.refuse = true);
    }

    /// A sink that can't be opened: its statement is refused and leaves nothing behind.
    fn refuse_sink(&mut self) {
        let Some(act @ Act::Create { node: Node::Sink(_), .. }) = self.create(Kind::Sink) else { return };
        if self.model.nodes.contains_key(act.name()) {
            return;
        }
        let text = act.sql().unwrap();
        self.say(format!("{text}, which can't be opened"));
        self.rig.close_sinks(true);
        let outcome = self.session.execute(&text);
        self.rig.close_sinks(false);
        plain(&outcome.map(|_| ()).expect_err("the sink can't be opened"));
    }

    fn subscribe(&mut self) {
        if self.followed.len() >= MOST_SUBSCRIPTIONS {
            return self.unsubscribe();
        }
        let Some(query) = self.query(false) else { return };
        let query = Query::new(query.shape, query.reads, false);
        let (id, unread) = (self.number(), self.chance(30));
        self.say(format!("subscription {id} to {}", query.sql()));
        let verdict = self.model.reading(&query, None);
        let subscribe = || {
            let writer = self.session.sql(&query.sql())?.write_stream();
            writer.output_mode(OutputMode::Changelog).subscribe()
        };
        match (subscribe(), verdict) {
            (Ok(subscription), Verdict::Taken | Verdict::Free) => {
                let rows = Rows::new();
                self.followed.insert(id, Followed { subscription, rows, ended: false, failed: false, unread });
                self.model.subscribe(id, Reader::new(query, Mode::Changelog, id));
            }
            (Err(error), Verdict::Refused | Verdict::Free) => plain(&error),
            (outcome, verdict) => panic!("{:?}, and the model says {verdict:?}", outcome.map(|_| ())),
        }
    }

    fn unsubscribe(&mut self) {
        let there: Vec<_> = self.followed.keys().copied().collect();
        let Some(id) = self.pick(&there) else { return };
        self.say(format!("subscription {id} goes"));
        self.check_subscription(id, true);
        self.followed.remove(&id);
        self.model.subscriptions.remove(&id);
    }

    /// A question that is answered once: as the model answers it, and nothing changes.
    fn ask(&mut self) {
        let Some(query) = self.query(true) else { return };
        let query = Query::new(query.shape, query.reads, false);
        if !self.model.can_ask(&query) {
            return;
        }
        self.say(format!("asks {}", query.sql()));
        let want = self.model.answer(&query);
        let (fate, known) = (self.model.fate(&query), query.reads.iter().all(|name| self.model.is_relation(name)));
        // What a view has of a stream comes by itself.
        let mut got = None;
        let mut look = || {
            let answer = self.session.sql(&query.sql()).and_then(|query| query.collect());
            let fits = match (&answer, &want) {
                (Ok(rows), Ok(want)) => known && multiset(&numbers(rows)) == *want,
                (Err(error), want) => {
                    plain(error);
                    !known || fate != Fate::Sound || want.is_err()
                }
                (Ok(_), Err(_)) => false,
            };
            got = Some(answer);
            fits
        };
        if self.model.comes_by_itself(&query) {
            eventually(SOON, || format!("{}: not {want:?}", query.sql()), look);
        } else {
            assert!(look(), "{}: {got:?} instead of {want:?}", query.sql());
        }
    }

    /// A question whose answer does not come is given up.
    fn cancel(&mut self) {
        let Some((name, stream)) = self.some_stream(|table| !table.broken) else { return };
        self.say(format!("a question to {name} is cancelled"));
        // Who has come to it late may still read it from its beginning.
        let ending = || self.rig.stream(stream, |stream| stream.ending);
        eventually(SOON, || format!("table {name} is still read from its beginning"), || ending() == 0);
        self.rig.stream(stream, |stream| stream.stalled = true);
        std::thread::scope(|scope| {
            let session = &self.session;
            let asked = scope.spawn(|| session.sql(&format!("SELECT count(*) FROM {name}")).and_then(|q| q.collect()));
            eventually(SOON, || format!("nobody reads {name}"), || ending() > 0);
            let begin = Instant::now();
            session.cancel();
            let answer = asked.join().unwrap();
            assert!(matches!(answer, Err(Error::Cancelled)), "{answer:?}");
            assert!(begin.elapsed() < AT_ONCE, "it took {:?}", begin.elapsed());
            eventually(AT_ONCE, || format!("{name} is still read for a cancelled question"), || ending() == 0);
        });
        self.rig.stream(stream, |stream| stream.stalled = false);
    }

    /// A way into a table that is gone leads nowhere, also where another has the name.
    fn push_stale(&mut self) {
        let Some(mut way) = self.stale.pop_front() else { return };
        self.say("pushes into a table that is gone".to_owned());
        let rows: Vec<_> = self.rows(Origin::Timed);
        plain(&way.push(&rows, None).expect_err("the table is gone"));
    }

    /// Drops everything: what depends on others first, or all with what it stands on.
    fn end(&mut self) {
        while !self.followed.is_empty() {
            self.unsubscribe();
        }
        self.ways.clear();
        self.stale.clear();
        while !self.model.nodes.is_empty() {
            let all = self.names(|_| true);
            let cascade = self.chance(50);
            let free = |name: &String| cascade || self.model.downstream(name).is_empty();
            let free: Vec<_> = all.into_iter().filter(free).collect();
            let Some(name) = self.pick(&free) else { continue };
            let kind = self.model.nodes[&name].kind();
            self.do_all(vec![Act::Drop { kind, name, if_exists: false, cascade }]);
            self.check_catalog();
        }
        eventually(AT_ONCE, || format!("{} sources and sinks are open", self.rig.open()), || self.rig.open() == 0);
        self.rig.clear();
        self.log = VecDeque::new();
        // What the workers do for a drop comes a moment later.
        std::thread::sleep(Duration::from_millis(100));
    }

    /// *Stopped finalises nothing*: what runs ends, and no window becomes final by it.
    fn stop(&mut self) {
        self.say("stops".to_owned());
        let begin = Instant::now();
        self.session.stop();
        assert!(begin.elapsed() < AT_ONCE, "it took {:?}", begin.elapsed());
        eventually(AT_ONCE, || format!("{} sources and sinks are open", self.rig.open()), || self.rig.open() == 0);
        for (name, node) in &self.model.nodes {
            if let Node::Sink(sink) = node
                && self.model.has_all(&sink.query)
            {
                self.nothing_early(name, sink, &self.model.finals(&sink.query).1);
            }
        }
        for (id, followed) in &mut self.followed {
            doing(format!("reads subscription {id} after the stop"));
            let begin = Instant::now();
            while !(followed.ended || followed.failed) {
                followed.drain();
                assert!(begin.elapsed() < AT_ONCE, "subscription {id} goes on after the stop");
            }
        }
    }
}

fn multiset(rows: &[Vec<i64>]) -> Rows {
    let mut out = Rows::new();
    rows.iter().for_each(|row| *out.entry(row.clone()).or_default() += 1);
    out
}
