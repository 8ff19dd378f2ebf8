//! Builds the graph: equal nodes are made once, and each knows its properties from the start.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use headwater_connectors::OutputMode;

use crate::error::{Error, Result};
use crate::plan::analysis::{fingerprint, properties, watermarks};
use crate::plan::catalog::RelationSource;
use crate::plan::exprs::{self, PExpr, column_of};
use crate::plan::{Aggregate, AnyRows, Node, NodeId, OnError, Op, Order, Plan, Properties, Purpose, Relation};

/// A plan under construction.
#[derive(Default)]
pub(super) struct Builder {
    nodes: Vec<Node>,
    by_fingerprint: BTreeMap<u64, NodeId>,
    /// For each relation whether it ends.
    bounded: Vec<bool>,
    /// The catalog's word on the relations, by the node that reads all of its columns.
    relations: Vec<(Relation, RelationSource)>,
}

impl Builder {
    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    pub(super) fn schema(&self, id: NodeId) -> &SchemaRef {
        &self.nodes[id].schema
    }

    fn add(&mut self, op: Op, schema: SchemaRef) -> NodeId {
        let properties = properties(&op, &self.nodes);
        self.add_with(op, schema, properties)
    }

    fn add_with(&mut self, op: Op, schema: SchemaRef, properties: Properties) -> NodeId {
        let fingerprint = fingerprint::of(&op, &self.nodes);
        if let Some(id) = self.by_fingerprint.get(&fingerprint) {
            return *id;
        }
        self.nodes.push(Node { op, schema, properties, fingerprint });
        self.by_fingerprint.insert(fingerprint, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    pub(super) fn get(&mut self, source: &RelationSource, projection: Vec<usize>) -> NodeId {
        if !self.relations.iter().any(|(relation, _)| *relation == source.relation) {
            self.relations.push((source.relation.clone(), source.clone()));
            self.bounded.push(source.bounded);
        }
        let fields: Vec<_> = projection.iter().map(|column| source.schema.field(*column).clone()).collect();
        let properties = projected(&source.properties, &projection);
        let op = Op::Get { relation: source.relation.clone(), projection };
        self.add_with(op, Arc::new(Schema::new(fields)), properties)
    }

    pub(super) fn constant(&mut self, rows: arrow::array::RecordBatch) -> NodeId {
        let schema = rows.schema();
        let mut properties = properties(&Op::Constant { rows: rows.clone() }, &self.nodes);
        properties.is_static = true;
        self.add_with(Op::Constant { rows }, schema, properties)
    }

    /// `input` filtered and projected; `input` itself if that changes nothing.
    pub(super) fn mfp(
        &mut self,
        input: NodeId,
        predicates: &[PExpr],
        exprs: &[PExpr],
        names: &SchemaRef,
    ) -> Result<NodeId> {
        let (input, predicates, exprs) = self.pruned(input, predicates, exprs)?;
        let schema = self.schema(input).clone();
        let identity = exprs.len() == schema.fields().len()
            && exprs.iter().enumerate().all(|(index, expr)| column_of(expr) == Some(index));
        if predicates.is_empty() && identity {
            return Ok(input);
        }
        let mut fields = Vec::new();
        for (index, expr) in exprs.iter().enumerate() {
            let name = match (names.fields().get(index), column_of(expr)) {
                (Some(field), _) => field.name().clone(),
                (None, Some(column)) => schema.field(column).name().clone(),
                (None, None) => expr.to_string(),
            };
            fields.push(Field::new(name, expr.data_type(&schema)?, expr.nullable(&schema)?));
        }
        Ok(self.add(Op::Mfp { input, predicates, exprs }, Arc::new(Schema::new(fields))))
    }

    /// A `Get` that reads the columns that are used, in the order of the projection if it is one.
    fn pruned(
        &mut self,
        input: NodeId,
        predicates: &[PExpr],
        exprs: &[PExpr],
    ) -> Result<(NodeId, Vec<PExpr>, Vec<PExpr>)> {
        let unchanged = |input| Ok((input, predicates.to_vec(), exprs.to_vec()));
        let Op::Get { relation, projection } = &self.nodes[input].op else { return unchanged(input) };
        let Some((_, source)) = self.relations.iter().find(|(known, _)| known == relation) else {
            return unchanged(input);
        };
        let (source, projection) = (source.clone(), projection.clone());
        let mut used: Vec<usize> = Vec::new();
        let mut note = |index: usize| {
            if !used.contains(&index) {
                used.push(index);
            }
        };
        exprs.iter().filter_map(column_of).for_each(&mut note);
        exprs.iter().chain(predicates).for_each(|expr| exprs::each_column(expr, &mut note));
        // Only a plain projection may reorder columns: otherwise one `Get` serves more users.
        let plain = predicates.is_empty() && exprs.iter().all(|expr| column_of(expr).is_some());
        if !plain {
            used.sort_unstable();
        }
        if used.iter().copied().eq(0..projection.len()) {
            return unchanged(input);
        }
        let get = self.get(&source, used.iter().map(|index| projection[*index]).collect());
        let schema = self.schema(get).clone();
        let moved = |expr: &PExpr| {
            exprs::remap(expr, &schema, |index| used.iter().position(|u| *u == index).unwrap_or_default())
        };
        let predicates = predicates.iter().map(moved).collect::<Result<Vec<_>>>()?;
        let exprs = exprs.iter().map(moved).collect::<Result<Vec<_>>>()?;
        Ok((get, predicates, exprs))
    }

    pub(super) fn hop(&mut self, input: NodeId, time: usize, shape: (i64, i64, i64), window: Field) -> NodeId {
        let mut fields: Vec<_> = self.schema(input).fields().iter().cloned().collect();
        fields.push(Arc::new(window));
        let (size, slide, offset) = shape;
        self.add(Op::Hop { input, time, size, slide, offset }, Arc::new(Schema::new(fields)))
    }

    pub(super) fn unnest(&mut self, input: NodeId, column: usize, schema: SchemaRef) -> NodeId {
        self.add(Op::Unnest { input, column }, schema)
    }

    pub(super) fn join(
        &mut self,
        left: NodeId,
        right: NodeId,
        left_keys: Vec<usize>,
        right_keys: Vec<usize>,
    ) -> NodeId {
        let fields: Vec<_> =
            self.schema(left).fields().iter().chain(self.schema(right).fields().iter()).cloned().collect();
        self.add(Op::Join { left, right, left_keys, right_keys }, Arc::new(Schema::new(fields)))
    }

    /// `label` names the operator of the query in messages.
    pub(super) fn semi(
        &mut self,
        left: NodeId,
        right: NodeId,
        keys: (Vec<usize>, Vec<usize>),
        anti: bool,
        label: &str,
    ) -> NodeId {
        let (left_keys, right_keys) = keys;
        let schema = self.schema(left).clone();
        let op = Op::Semi { left, right, left_keys, right_keys, anti };
        let mut properties = properties(&op, &self.nodes);
        let inherits = [left, right].iter().any(|input| self.nodes[*input].properties.retracts.is_some());
        if properties.retracts.is_some() && !inherits {
            properties.retracts = Some(label.into());
        }
        self.add_with(op, schema, properties)
    }

    pub(super) fn distinct(&mut self, input: NodeId) -> NodeId {
        let all: Vec<usize> = (0..self.schema(input).fields().len()).collect();
        let retain = watermarks::earliest(&self.nodes[input].properties.watermarks, &all);
        let schema = self.schema(input).clone();
        self.add(Op::Distinct { input, retain }, schema)
    }

    pub(super) fn reduce(
        &mut self,
        input: NodeId,
        keys: Vec<usize>,
        aggregates: Vec<Aggregate>,
        schema: SchemaRef,
    ) -> NodeId {
        let retain = watermarks::earliest(&self.nodes[input].properties.watermarks, &keys);
        let global = keys.is_empty();
        self.add(Op::Reduce { input, keys, aggregates, retain, global }, schema)
    }

    pub(super) fn top_k(&mut self, input: NodeId, order: Vec<Order>, offset: usize, limit: Option<usize>) -> NodeId {
        let schema = self.schema(input).clone();
        self.add(Op::TopK { input, group: vec![], order, offset, limit }, schema)
    }

    pub(super) fn union(&mut self, inputs: Vec<NodeId>) -> Result<NodeId> {
        let Some(first) = inputs.first() else { return Err(Error::internal("a union without inputs")) };
        if inputs.len() == 1 {
            return Ok(*first);
        }
        let schema = self.schema(*first).clone();
        for input in &inputs {
            let (own, other) = (schema.fields(), self.schema(*input).fields());
            let same = own.len() == other.len() && own.iter().zip(other).all(|(a, b)| a.data_type() == b.data_type());
            if !same {
                return Err(Error::internal(format!("a union of {schema} and {}", self.schema(*input))));
            }
        }
        let fields: Vec<_> = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(column, field)| {
                let nullable = inputs.iter().any(|input| self.schema(*input).field(column).is_nullable());
                field.as_ref().clone().with_nullable(nullable)
            })
            .collect();
        Ok(self.add(Op::Union { inputs }, Arc::new(Schema::new(fields))))
    }

    /// The plan of what `root` needs, with late rows dropped or not, and checked for its purpose.
    pub(super) fn finish(
        self,
        root: NodeId,
        schema: SchemaRef,
        presentation: Vec<Order>,
        purpose: Purpose,
        on_error: OnError,
    ) -> Result<Plan> {
        let bounded = self.bounded.iter().all(|bounded| *bounded);
        let (mut nodes, root) = reachable(self.nodes, root);
        let any = if purpose == Purpose::Answer { any_rows(&mut nodes, root) } else { None };
        let releases = nodes.iter().any(|node| node.op.retain().is_some());
        for id in 0..nodes.len() {
            let node = &mut nodes[id];
            if let Op::Get { relation: Relation::Table { drop_late, .. }, .. } = &mut node.op {
                *drop_late = releases && node.properties.late_rows;
                node.properties.late_rows &= !releases;
            } else {
                let inputs = node.op.inputs();
                let late = inputs.iter().any(|input| nodes[*input].properties.late_rows);
                let node = &mut nodes[id];
                node.properties.late_rows = if inputs.is_empty() { node.properties.late_rows } else { late };
            }
            if nodes[id].properties.late_rows {
                // Late rows come through, so nothing bounds how far behind a row's time may be.
                nodes[id].properties.watermarks.clear();
                nodes[id].properties.final_at = None;
            }
            nodes[id].fingerprint = fingerprint::of(&nodes[id].op, &nodes[..id]);
        }
        let root = match purpose {
            Purpose::Output(OutputMode::Append) => emit_final(&mut nodes, root, bounded)?,
            Purpose::Output(OutputMode::Update | OutputMode::Complete | OutputMode::Changelog)
            | Purpose::View
            | Purpose::Answer => root,
        };
        Ok(Plan { nodes, root, schema, presentation, bounded, on_error, any })
    }
}

/// Append gives rows that never change: those that may wait until they are final. There must be a time at which that is
/// known.
fn emit_final(nodes: &mut Vec<Node>, root: NodeId, bounded: bool) -> Result<NodeId> {
    let Properties { retracts, final_at, .. } = &nodes[root].properties;
    let Some(operator) = retracts else { return Ok(root) };
    if final_at.is_none() && !bounded {
        return Err(Error::user(format!(
            "mode 'append' can't be used here: no row could ever be final, because of {operator}. Group by \
             window(ts, ..) over a table with WATERMARK FOR ts, or use mode 'update', 'complete' or 'changelog'"
        )));
    }
    let op = Op::EmitFinal { input: root, final_at: *final_at };
    let (properties, fingerprint) = (properties(&op, nodes), fingerprint::of(&op, nodes));
    nodes.push(Node { op, schema: nodes[root].schema.clone(), properties, fingerprint });
    Ok(nodes.len() - 1)
}

/// Has an answer that is limited without an order take the rows that come first. What may be retracted is no answer yet.
fn any_rows(nodes: &mut [Node], root: NodeId) -> Option<AnyRows> {
    let mut id = root;
    while let Op::Mfp { input, predicates, .. } = &nodes[id].op {
        if !predicates.is_empty() {
            return None;
        }
        id = *input;
    }
    let Op::TopK { input, group, order, offset, limit: Some(limit) } = &nodes[id].op else { return None };
    let (input, any) = (*input, AnyRows { offset: *offset, limit: *limit });
    if !group.is_empty() || !order.is_empty() || !nodes[input].properties.stays() {
        return None;
    }
    nodes[id].op = Op::Limit { input, rows: any.offset.saturating_add(any.limit) };
    Some(any)
}

/// The nodes that `root` needs, renumbered in the same order.
fn reachable(nodes: Vec<Node>, root: NodeId) -> (Vec<Node>, NodeId) {
    let mut needed = vec![false; nodes.len()];
    needed[root] = true;
    for id in (0..=root).rev() {
        if needed[id] {
            nodes[id].op.inputs().into_iter().for_each(|input| needed[input] = true);
        }
    }
    let mut place = vec![0; nodes.len()];
    let mut kept = Vec::new();
    for (id, mut node) in nodes.into_iter().enumerate().filter(|(id, _)| needed[*id]) {
        match &mut node.op {
            Op::Get { .. } | Op::Constant { .. } => {}
            Op::Mfp { input, .. }
            | Op::Hop { input, .. }
            | Op::Unnest { input, .. }
            | Op::Distinct { input, .. }
            | Op::Reduce { input, .. }
            | Op::TopK { input, .. }
            | Op::Limit { input, .. }
            | Op::EmitFinal { input, .. }
            | Op::Negate { input } => *input = place[*input],
            Op::Join { left, right, .. } | Op::Semi { left, right, .. } => {
                *left = place[*left];
                *right = place[*right];
            }
            Op::Union { inputs } => inputs.iter_mut().for_each(|input| *input = place[*input]),
        }
        place[id] = kept.len();
        kept.push(node);
    }
    (kept, place[root])
}

/// A relation's properties in terms of the columns that are read.
fn projected(all: &Properties, projection: &[usize]) -> Properties {
    let place = |column: usize| projection.iter().position(|p| *p == column);
    let moved = |w: crate::plan::Watermark| place(w.column).map(|column| crate::plan::Watermark { column, ..w });
    Properties {
        retracts: all.retracts.clone(),
        taken_back: all.taken_back,
        watermarks: all.watermarks.iter().copied().filter_map(moved).collect(),
        final_at: all.final_at.and_then(moved),
        is_static: all.is_static,
        late_rows: all.late_rows,
        fails: all.fails,
        key: all.key.as_ref().and_then(|key| key.iter().map(|column| place(*column)).collect()),
    }
}
