//! From a plan to a dataflow: one match over the operators, straight lines.
//!
//! Every decision stands in the plan. Rendering only fuses what has no state into one timely operator (see `chain`),
//! renders a node once however often it is used, and takes arrangements that exist instead of building them again
//! ([`Inputs::arrangement`]). Rows that fail go to a stream of errors beside the rows that don't.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use headwater_operators::accumulate::accumulate;
use headwater_operators::arrange::{Arranged, Arrangement, arrange};
use headwater_operators::combine::{Combiner, SumDiffs};
use headwater_operators::distinct::{Emitter, Keys, distinct_into};
use headwater_operators::emit_final::emit_final;
use headwater_operators::guard::Guard;
use headwater_operators::join::{anti as anti_join, join, semi};
use headwater_operators::keyed::{KEEP, NoValue};
use headwater_operators::retain::retain;
use headwater_operators::run_end::RunEnd;
use headwater_operators::time::{SINCE_EVER, Time};
use headwater_operators::top_k::top_k;
use headwater_operators::{Fault, KeyError, Keyed, Payload, Rows, UpdateStream, Updates};
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::core::Concatenate;
use timely::dataflow::operators::generic::operator::{Operator, empty, source};

use crate::columns::{Columns, FULL};
use crate::plan::{NodeId, OnError, Op, Plan, Relation};

mod accumulators;
mod chain;
pub mod codec;
mod constant;
mod counted;
mod flow;
mod hop;
mod join;
mod keys;
mod limit;
mod mfp;
pub mod ordered;
mod top_k;
mod unnest;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use accumulators::{Blueprint, CombineSums};
use chain::{ErrorStream, Negate, Open};
use codec::Codec;
pub(crate) use constant::constant;
use counted::Counted;
use flow::{Flow, Source};
use hop::Hop;
use join::{Arranging, JoinedColumns};
use keys::{buckets, keyed, pick, private, verbatim};
use limit::Limit;
use mfp::{Mfp, describe};
use top_k::RankedRows;
use unnest::Unnest;

/// A row on which an expression failed, or a group whose result can't be computed: data like any other, retracted when
/// the row leaves or is corrected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RowError {
    /// The row, as `column = value, ..`.
    pub row: String,
    /// The expression, as the planner writes it.
    pub expression: String,
    /// What went wrong.
    pub message: String,
    /// Whether it is a multiplicity below zero, which is in error whatever the query asks for.
    pub negative: bool,
}

impl RowError {
    /// Whether an answer goes on without the row.
    pub fn is_left_out(&self, mode: OnError) -> bool {
        mode == OnError::DeadLetter && !self.negative
    }
}

/// What a dataflow takes from the session: the same on every worker, in the same order.
pub trait Inputs<'scope> {
    /// This worker's share of a relation's updates. Times before the as-of are advanced to it.
    fn relation(&mut self, relation: &Relation) -> UpdateStream<'scope, Columns>;

    /// Where columns of a relation stand in its updates: what is read for this query alone has no others.
    fn places(&self, relation: &Relation, columns: &[usize]) -> Vec<usize> {
        let _ = relation;
        columns.to_vec()
    }

    /// The errors that a relation is in: those of a view are its readers' as well.
    fn errors(&mut self, relation: &Relation) -> Option<UpdateStream<'scope, Vec<RowError>>> {
        let _ = relation;
        None
    }

    /// The earliest time at which the dataflow's output has to be right: the smallest one, or later for a view that is
    /// added over arrangements that were compacted. Output at earlier times is to be read as at this time.
    fn as_of(&self) -> Time;

    /// How the query's run ends, told before its inputs are closed: stopped, nothing more of it becomes final.
    fn run_end(&self) -> RunEnd;

    /// An arrangement that exists on this worker, of the collection with this fingerprint by these columns, readable at the
    /// as-of. Which there are is what [`Sharing::of`] was told.
    fn arrangement(&mut self, collection: u64, key: &[usize]) -> Option<Arrangement>;

    /// A new arrangement for others to share. Whoever keeps it must allow compaction as time goes on.
    fn offer(&mut self, collection: u64, key: &[usize], arrangement: Arrangement);
}

/// A rendered plan.
pub struct Rendered<'scope> {
    /// The answer: this worker's share of its updates.
    pub ok: UpdateStream<'scope, Columns>,
    /// The rows in error.
    pub errors: UpdateStream<'scope, Vec<RowError>>,
}

/// Builds the dataflow of a plan in `scope`.
pub fn render<'scope>(plan: &Plan, scope: Scope<'scope, Time>, cx: &mut dyn Inputs<'scope>) -> Rendered<'scope> {
    let mut renderer = Renderer {
        uses: uses(plan),
        plan,
        scope,
        cx,
        shared: HashMap::new(),
        arranged: HashMap::new(),
        errors: Vec::new(),
    };
    let ok = renderer.columns(plan.root);
    let errors = match renderer.errors.len() {
        0 => empty(scope),
        1 => renderer.errors.swap_remove(0),
        _ => scope.concatenate(renderer.errors),
    };
    Rendered { ok, errors }
}

/// Stored rows as columns.
pub(crate) fn decoded<'scope>(
    stream: UpdateStream<'scope, Keyed<Rows>>,
    codec: Arc<Codec>,
    name: &str,
) -> UpdateStream<'scope, Columns> {
    let open = move |updates: Updates<Keyed<Rows>>| {
        let Updates { data, times, diffs } = updates;
        Updates { data: Columns { arrays: codec.decode(&data.keys), rows: data.keys.len() }, times, diffs }
    };
    let weigh = |keyed: &Keyed<Rows>| keyed.keys.bytes().len();
    chain::run(stream, name, Vec::new(), Open { open, weigh }, |updates| updates, &mut Vec::new())
}

/// Ranges of stored rows whose columns fit a batch each.
pub(crate) fn fitting(rows: &Rows) -> Vec<Range<usize>> {
    let (mut fitting, mut start, mut begin) = (Vec::new(), 0, 0);
    for (place, end) in rows.ends().iter().enumerate() {
        if place > start && (*end - begin) as usize > FULL {
            fitting.push(start..place);
            (start, begin) = (place, rows.ends()[place - 1]);
        }
    }
    if start < rows.len() {
        fitting.push(start..rows.len());
    }
    fitting
}

/// Whether a node's arrangements can be used by other queries: one comes without the errors on the way to it.
fn can_share(plan: &Plan, id: NodeId) -> bool {
    !plan.nodes[id].properties.fails
}

/// Names an arrangement: the collection's fingerprint, and the key's columns.
pub type ArrangementId = (u64, Vec<usize>);

/// What a plan's dataflow takes from others and gives to them.
#[derive(Debug, Default)]
pub struct Sharing {
    /// Arrangements of other dataflows that it reads.
    pub imports: Vec<ArrangementId>,
    /// Arrangements that it makes and others can read.
    pub offers: Vec<ArrangementId>,
    /// Relations that it reads itself.
    pub relations: Vec<Relation>,
}

impl Sharing {
    /// For a plan where the arrangements of which `exists` says so are there already.
    pub fn of(plan: &Plan, exists: &mut dyn FnMut(&ArrangementId) -> bool) -> Self {
        let mut sharing = Sharing::default();
        let mut seen = vec![false; plan.nodes.len()];
        sharing.visit(plan, plan.root, &mut seen, exists);
        sharing
    }

    /// Goes the way that [`render`] goes.
    fn visit(&mut self, plan: &Plan, id: NodeId, seen: &mut [bool], exists: &mut dyn FnMut(&ArrangementId) -> bool) {
        if std::mem::replace(&mut seen[id], true) {
            return;
        }
        let op = &plan.nodes[id].op;
        if let Op::Get { relation, .. } = op
            && !self.relations.contains(relation)
        {
            self.relations.push(relation.clone());
        }
        let (Op::Join { left, right, left_keys, right_keys } | Op::Semi { left, right, left_keys, right_keys, .. }) =
            op
        else {
            op.inputs().into_iter().for_each(|input| self.visit(plan, input, seen, exists));
            return;
        };
        for (input, key) in [(*left, left_keys), (*right, right_keys)] {
            let arrangement = (plan.nodes[input].fingerprint, key.clone());
            if self.imports.contains(&arrangement) {
                continue;
            }
            if can_share(plan, input) {
                if exists(&arrangement) {
                    self.imports.push(arrangement);
                    continue;
                }
                self.offers.push(arrangement);
            }
            self.visit(plan, input, seen, exists);
        }
    }
}

/// How many nodes use each node of those that the root needs.
fn uses(plan: &Plan) -> Vec<usize> {
    let mut uses = vec![0; plan.nodes.len()];
    uses[plan.root] = 1;
    for id in (0..plan.nodes.len()).rev().filter(|&id| id <= plan.root) {
        if uses[id] > 0 {
            plan.nodes[id].op.inputs().into_iter().for_each(|input| uses[input] += 1);
        }
    }
    uses
}

struct Renderer<'a, 'scope> {
    plan: &'a Plan,
    scope: Scope<'scope, Time>,
    cx: &'a mut dyn Inputs<'scope>,
    uses: Vec<usize>,
    /// Nodes that are used more than once, when rendered.
    shared: HashMap<NodeId, UpdateStream<'scope, Columns>>,
    /// Arrangements in this scope, by the collection's fingerprint and the key's columns.
    arranged: HashMap<ArrangementId, Arranged<'scope>>,
    errors: Vec<ErrorStream<'scope>>,
}

impl<'scope> Renderer<'_, 'scope> {
    fn schema(&self, id: NodeId) -> &SchemaRef {
        &self.plan.nodes[id].schema
    }

    /// A node's output as columns.
    fn columns(&mut self, id: NodeId) -> UpdateStream<'scope, Columns> {
        let flow = self.flow(id);
        flow.columns(&format!("{id}: columns"), &mut self.errors)
    }

    /// A node's output for one user.
    fn flow(&mut self, id: NodeId) -> Flow<'scope> {
        if self.uses[id] < 2 {
            return self.node(id);
        }
        let stream = match self.shared.get(&id) {
            Some(stream) => stream.clone(),
            None => {
                let flow = self.node(id);
                let stream = flow.columns(&format!("{id}: shared"), &mut self.errors);
                self.shared.insert(id, stream.clone());
                stream
            }
        };
        Flow::new(Source::Columns(stream))
    }

    fn node(&mut self, id: NodeId) -> Flow<'scope> {
        let plan = self.plan;
        let node = &plan.nodes[id];
        match &node.op {
            Op::Get { relation, projection } => {
                let stream = self.cx.relation(relation);
                self.errors.extend(self.cx.errors(relation));
                let places = self.cx.places(relation, projection);
                Flow::new(Source::Columns(stream)).step(Mfp::projection(&node.schema, &places))
            }
            Op::Constant { rows } => Flow::new(Source::Columns(self.constant(Columns::from_batch(rows)))),
            Op::Mfp { input, predicates, exprs } => {
                let mfp = Mfp::new(self.schema(*input), predicates, exprs);
                self.flow(*input).step(mfp)
            }
            Op::Hop { input, time, size, slide, offset } => {
                self.flow(*input).step(Hop::new(&node.schema, *time, *size, *slide, *offset))
            }
            Op::Unnest { input, column } => self.flow(*input).step(Unnest { column: *column }),
            Op::Negate { input } => self.flow(*input).step(Negate),
            Op::Limit { input, rows } => self.flow(*input).step(Limit { rows: *rows }),
            Op::Union { inputs } => {
                let streams: Vec<_> = inputs.iter().map(|input| self.columns(*input)).collect();
                Flow::new(Source::Columns(self.scope.concatenate(streams)))
            }
            Op::Distinct { .. } => {
                let (stream, keys) = self.distinct(id, |_| Keys::default());
                Flow::new(Source::Keys(stream, keys))
            }
            Op::Reduce { input, keys: key_columns, aggregates, retain, global } => {
                let keys = private(&plan.nodes, *input, key_columns);
                let append_only = plan.nodes[*input].properties.stays();
                let blueprint = Blueprint::new(aggregates, self.schema(*input), append_only);
                let stream = match self.counts_distinct(id, &blueprint) {
                    Some(counted) => {
                        let leading = key_columns.len();
                        self.distinct(*input, |rows| Counted::new(rows, &keys, leading, &counted)).0
                    }
                    None => {
                        let (encode, key_columns, prepare, retain) =
                            (keys.clone(), key_columns.clone(), blueprint.clone(), *retain);
                        let as_of = self.cx.as_of();
                        let combines = self.scope.peers() > 1 && blueprint.adds_up();
                        let mut combiner = combines.then(CombineSums::default);
                        self.flow(*input).close(&format!("{id}: keys"), &mut self.errors, move |updates| {
                            let Updates { data, times, diffs } = updates;
                            let rows = encode.encode(&pick(&data, &key_columns), data.rows);
                            let data = keyed(rows, buckets(&data, retain, as_of), prepare.prepare(&data));
                            combined(&mut combiner, Updates { data, times, diffs })
                        })
                    }
                };
                let (stream, errors) = accumulate(stream, &format!("{id}: reduce"), move || blueprint.make(), *global);
                let (decode, schema) = (keys.clone(), node.schema.clone());
                self.faults(errors, "GROUP BY", move |error| row(&decode, &schema, &error.key));
                Flow::new(Source::Groups(stream, keys))
            }
            Op::TopK { input, group, order, offset, limit } => {
                let ranked = RankedRows::new(&node.schema, group, order);
                let encode = ranked.clone();
                let stream = self.flow(*input).close(&format!("{id}: rank"), &mut self.errors, move |updates| {
                    let Updates { data, times, diffs } = updates;
                    Updates { data: encode.encode(&data), times, diffs }
                });
                let (stream, errors) = top_k(stream, &format!("{id}: top k"), *offset, *limit);
                let (decode, schema) = (ranked.clone(), node.schema.clone());
                self.faults(errors, "ORDER BY", move |error| {
                    let Fault::Negative { row, .. } = &error.fault else { return String::new() };
                    let keyed = Keyed::new(one(&error.key), one(row));
                    describe(&decode.decode(&keyed), &schema, 0)
                });
                Flow::new(Source::Ranked(stream, ranked))
            }
            Op::EmitFinal { input, final_at } => {
                let all: Vec<usize> = (0..node.schema.fields().len()).collect();
                let rows = verbatim(&node.schema, &all);
                let (encode, final_at) = (rows.clone(), *final_at);
                let stream = self.flow(*input).close(&format!("{id}: rows"), &mut self.errors, move |updates| {
                    let Updates { data, times, diffs } = updates;
                    let bytes = encode.encode(&data.arrays, data.rows);
                    Updates {
                        data: keyed(bytes, buckets(&data, final_at, SINCE_EVER), NoValue(data.rows)),
                        times,
                        diffs,
                    }
                });
                let (stream, errors) = self.emit_final(stream);
                let (decode, schema) = (rows.clone(), node.schema.clone());
                self.faults(errors, "the rows to append", move |error| row(&decode, &schema, &error.key));
                Flow::new(Source::Rows(stream, rows))
            }
            Op::Join { left, right, left_keys, right_keys } => {
                let (lefts, left) = self.arranged(*left, left_keys);
                let (rights, right) = self.arranged(*right, right_keys);
                let stream = join(lefts, rights, &format!("{id}: join"));
                Flow::new(Source::Joined(stream, JoinedColumns::new(left, right)))
            }
            Op::Semi { left, right, left_keys, right_keys, anti } => {
                let (rights, _) = self.arranged(*right, right_keys);
                let (lefts, left) = self.arranged(*left, left_keys);
                let stream = match anti {
                    false => semi(lefts, rights, &format!("{id}: semijoin")),
                    true => anti_join(lefts, rights, &format!("{id}: antijoin")),
                };
                Flow::new(Source::Arranged(stream, left))
            }
        }
    }

    /// The distinct rows of a node's input as their consumer takes them, and the rows' encoding.
    fn distinct<E: Emitter>(
        &mut self,
        id: NodeId,
        emitter: impl FnOnce(&Codec) -> E,
    ) -> (UpdateStream<'scope, E::Output>, Rc<Codec>) {
        let node = &self.plan.nodes[id];
        let Op::Distinct { input, retain } = node.op else { unreachable!("{id} is no DISTINCT") };
        let all: Vec<usize> = (0..node.schema.fields().len()).collect();
        let keys = private(&self.plan.nodes, id, &all);
        let (encode, as_of) = (keys.clone(), self.cx.as_of());
        let mut combiner = (self.scope.peers() > 1).then(SumDiffs::default);
        let stream = self.flow(input).close(&format!("{id}: keys"), &mut self.errors, move |updates| {
            let Updates { data, times, diffs } = updates;
            let rows = encode.encode(&data.arrays, data.rows);
            let data = keyed(rows, buckets(&data, retain, as_of), NoValue(data.rows));
            combined(&mut combiner, Updates { data, times, diffs })
        });
        let (stream, errors) = distinct_into(stream, &format!("{id}: distinct"), emitter(&keys));
        let (decode, schema) = (keys.clone(), node.schema.clone());
        self.faults(errors, "DISTINCT", move |error| row(&decode, &schema, &error.key));
        (stream, keys)
    }

    /// Where a reduction does no more than count distinct rows by their leading columns, and nothing else reads the rows: the
    /// columns whose values count.
    fn counts_distinct(&self, id: NodeId, blueprint: &Blueprint) -> Option<Vec<usize>> {
        let Op::Reduce { input, keys, retain, .. } = &self.plan.nodes[id].op else { return None };
        let Op::Distinct { retain: rows_retain, .. } = &self.plan.nodes[*input].op else { return None };
        let counted = blueprint.counted()?;
        let leads = keys.iter().copied().eq(0..keys.len());
        let told = |&column: &usize| *self.schema(*input).field(column).data_type() != DataType::Null;
        (self.uses[*input] == 1 && leads && retain == rows_retain && counted.iter().all(told)).then_some(counted)
    }

    /// Rows once they are final. What is final already where the query begins is given there.
    fn emit_final(
        &self,
        stream: UpdateStream<'scope, Keyed<NoValue>>,
    ) -> (UpdateStream<'scope, Rows>, UpdateStream<'scope, Vec<KeyError>>) {
        let (as_of, end) = (self.cx.as_of(), self.cx.run_end());
        if as_of == SINCE_EVER {
            return emit_final(stream, &end);
        }
        let (open, begun) = retain(stream, move |keyed: &Keyed<NoValue>| {
            let begun = |row| keyed.bucket(row) <= as_of.saturating_add(1);
            (0..keyed.hashes.len()).map(|row| if begun(row) { SINCE_EVER } else { KEEP }).collect()
        });
        let begun = retain(begun, move |keyed| vec![as_of.saturating_add(1); keyed.hashes.len()]).0;
        let begun = map(begun, "final before", |keyed: Keyed<NoValue>| keyed.keys);
        let (rows, errors) = emit_final(open, &end);
        (self.scope.concatenate([begun, rows]), errors)
    }

    /// A node's output arranged by some columns: one that is here, or one that another dataflow shares, or a new one.
    fn arranged(&mut self, id: NodeId, key: &[usize]) -> (Arranged<'scope>, Arranging) {
        let fingerprint = self.plan.nodes[id].fingerprint;
        let arranging = Arranging::new(self.schema(id), key);
        if let Some(arranged) = self.arranged.get(&(fingerprint, key.to_vec())) {
            return (arranged.clone(), arranging);
        }
        let as_of = self.cx.as_of();
        let shares = can_share(self.plan, id);
        let shared = if shares { self.cx.arrangement(fingerprint, key) } else { None };
        let arranged = match shared {
            Some(mut shared) => match shared.import_as_of(self.scope, &format!("{id}: import"), as_of) {
                Ok(arranged) => arranged,
                // The session holds the as-of until all workers have rendered.
                Err(error) => unreachable!("a held time can't be read: {error}"),
            },
            None => {
                let encode = arranging.clone();
                let stream = self.flow(id).close(&format!("{id}: rows"), &mut self.errors, move |updates| {
                    let Updates { data, times, diffs } = updates;
                    Updates { data: encode.encode(&data), times, diffs }
                });
                let arranged = arrange(stream, &format!("{id}: arrange"));
                if shares {
                    self.cx.offer(fingerprint, key, Arrangement::new(&arranged));
                }
                arranged
            }
        };
        self.arranged.insert((fingerprint, key.to_vec()), arranged.clone());
        (arranged, arranging)
    }

    /// Rows that are there since ever, from one worker.
    fn constant(&self, rows: Columns) -> UpdateStream<'scope, Columns> {
        let mine = self.scope.index() == 0 && rows.rows > 0;
        let mut updates = mine.then(|| Updates::uniform(rows, SINCE_EVER, 1));
        source::<_, CapacityContainerBuilder<Updates<Columns>>, _, _>(self.scope, "constant", |capability, _info| {
            let mut capability = Some(capability);
            move |output| {
                if let Some(capability) = capability.take()
                    && let Some(mut updates) = updates.take()
                {
                    output.session(&capability).give_container(&mut updates);
                }
            }
        })
    }

    /// Adds the errors of a stateful operator, each with its row.
    fn faults(
        &mut self,
        stream: UpdateStream<'scope, Vec<KeyError>>,
        operator: &'static str,
        describe: impl Fn(&KeyError) -> String + 'static,
    ) {
        let errors = map(stream, "errors", move |errors: Vec<KeyError>| {
            let error = |error: &KeyError| {
                let row = describe(error);
                match &error.fault {
                    Fault::Evaluation(text) => {
                        let (expression, message) = accumulators::failure(text);
                        RowError { row, expression, message, negative: false }
                    }
                    Fault::Negative { count, .. } => {
                        let message = format!("a row was retracted that was not there ({count} copies)");
                        RowError { row, expression: operator.to_string(), message, negative: true }
                    }
                }
            };
            errors.iter().map(error).collect::<Vec<_>>()
        });
        self.errors.push(errors);
    }
}

/// The updates combined, where they will move to other workers.
fn combined<D: Payload>(combiner: &mut Option<impl Combiner<D>>, updates: Updates<D>) -> Updates<D> {
    match combiner {
        Some(combiner) => combiner.combine(updates),
        None => updates,
    }
}

/// The stream with other data for the same records.
fn map<'scope, C: Payload, D: Payload>(
    stream: UpdateStream<'scope, C>,
    name: &str,
    map: impl Fn(C) -> D + 'static,
) -> UpdateStream<'scope, D> {
    let guard = Guard::new(name);
    stream.unary::<CapacityContainerBuilder<Updates<D>>, _, _, _>(Pipeline, name, move |_capability, _info| {
        move |input, output| {
            input.for_each(|capability, updates| {
                guard.message(capability, |capability| {
                    let Updates { data, times, diffs } = std::mem::take(updates);
                    let mut mapped = Updates { data: map(data), times, diffs };
                    output.session(capability).give_container(&mut mapped);
                });
            });
        }
    })
}

/// The row with these bytes.
fn one(bytes: &[u8]) -> Rows {
    let mut rows = Rows::default();
    rows.push(bytes);
    rows
}

/// A key for people; its columns are the first of the schema.
fn row(codec: &codec::Codec, schema: &SchemaRef, key: &[u8]) -> String {
    describe(&Columns { arrays: codec.decode(&one(key)), rows: 1 }, schema, 0)
}
