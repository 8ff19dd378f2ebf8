//! Joins of every kind, composed from the inner join and the semi and anti join.
//!
//! A left outer join is the inner join and, beside it, the left rows without a match with NULLs for the right columns.
//! With predicates other than equalities a left row's matches are the joined rows that pass them: what a row's match
//! depends on (its keys and the columns that the predicates use) is taken from those, each once, and semi-joined back.
//! All of it happens at one time, so no state between is ever seen.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Join, Operator};

use super::{Flow, Lowering, output_schema, place, unsupported};
use crate::error::Result;
use crate::plan::NodeId;
use crate::plan::exprs::{self, PExpr};

/// One side of a join: its columns as a flow, the keys behind or among them.
struct Side {
    flow: Flow,
    /// The query's columns; what is behind them are keys that are expressions.
    width: usize,
    keys: Vec<usize>,
    /// Which keys match nothing where they are NULL.
    strict: Vec<bool>,
    names: SchemaRef,
    /// Whether some key can be NULL where that means no match.
    nullable: bool,
    /// Whether the rows are needed both with and without those whose key is NULL.
    both: bool,
}

/// The pairs of an inner join before the other predicates, seen from the side whose rows are kept.
struct Matched {
    node: NodeId,
    predicates: Vec<PExpr>,
    /// Where the columns of that side start.
    kept_at: usize,
}

/// A join with the left side as the one whose rows are kept.
struct Spec<'a> {
    left: &'a Side,
    right: &'a Side,
    /// Predicates over the left columns and, behind all of them, the right ones.
    residual: &'a [PExpr],
    label: &'a str,
}

impl Lowering {
    pub(super) fn join(&mut self, join: &Join) -> Result<Flow> {
        let nulls_match = join.null_equality == NullEquality::NullEqualsNull;
        let (mut left_keys, mut right_keys): (Vec<_>, Vec<_>) = join.on.iter().cloned().unzip();
        let mut strict = vec![!nulls_match; join.on.len()];
        let mut conditions = Vec::new();
        for condition in join.filter.iter().flat_map(split_conjunction) {
            match null_safe(condition, join.left.schema(), join.right.schema()) {
                Some((left, right)) if !join.null_aware => {
                    left_keys.push(left);
                    right_keys.push(right);
                    strict.push(false);
                }
                _ => conditions.push(condition),
            }
        }
        let both = !matches!(join.join_type, JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi);
        let left = self.side(&join.left, &left_keys, &strict, both)?;
        let right = self.side(&join.right, &right_keys, &strict, both)?;
        let both = join.left.schema().join(join.right.schema())?;
        let residual = conditions.into_iter().map(|expr| exprs::compile(expr, &both)).collect::<Result<Vec<_>>>()?;
        // The predicates see the query's columns; the nodes have keys behind them.
        let (lw, rw, ln) = (left.width, right.width, left.flow.exprs.len());
        let joined = |index: usize| if index < lw { index } else { ln + index - lw };
        let names = joined_names(&left, &right);
        let residual = residual.iter().map(|e| exprs::remap(e, &names, joined)).collect::<Result<Vec<_>>>()?;
        let label = join_name(join.join_type);
        if join.null_aware && !residual.is_empty() {
            return Err(unsupported("NOT IN with a subquery that depends on the row; use NOT EXISTS"));
        }
        // The same join seen from the right.
        let rn = right.flow.exprs.len();
        let mirrored_names = joined_names(&right, &left);
        let turned = |index: usize| if index < ln { rn + index } else { index - ln };
        let mirrored = residual.iter().map(|e| exprs::remap(e, &mirrored_names, turned)).collect::<Result<Vec<_>>>()?;
        let spec = Spec { left: &left, right: &right, residual: &residual, label };
        let mirror = Spec { left: &right, right: &left, residual: &mirrored, label };
        match join.join_type {
            JoinType::Inner => self.inner(&spec, true, true).map(|(flow, _)| flow),
            JoinType::Left | JoinType::Right | JoinType::Full => {
                let schema = output_schema(&datafusion::logical_expr::LogicalPlan::Join(join.clone()));
                let (keeps_left, keeps_right) = (join.join_type != JoinType::Right, join.join_type != JoinType::Left);
                let (matched, node) = self.inner(&spec, !keeps_left, !keeps_right)?;
                let mut parts = vec![matched];
                if keeps_left {
                    let seen = Matched { node, predicates: residual.clone(), kept_at: 0 };
                    let mut unmatched = self.semi(&spec, true, Some(seen))?;
                    for field in &schema.fields()[lw..] {
                        unmatched.exprs.push(exprs::null(field)?);
                    }
                    parts.push(unmatched);
                }
                if keeps_right {
                    let seen = Matched { node, predicates: residual.clone(), kept_at: ln };
                    let mut unmatched = self.semi(&mirror, true, Some(seen))?;
                    let mut padded =
                        schema.fields()[..lw].iter().map(|f| exprs::null(f)).collect::<Result<Vec<_>>>()?;
                    padded.append(&mut unmatched.exprs);
                    unmatched.exprs = padded;
                    parts.push(unmatched);
                }
                debug_assert!(parts.iter().all(|part| part.exprs.len() == lw + rw));
                self.union(parts, &schema)
            }
            JoinType::LeftSemi => self.semi(&spec, false, None),
            JoinType::RightSemi => self.semi(&mirror, false, None),
            JoinType::LeftAnti if join.null_aware => {
                let (kept, _) = self.not_in(&spec)?;
                self.union(kept, &left.names)
            }
            JoinType::LeftAnti => self.semi(&spec, true, None),
            JoinType::RightAnti => self.semi(&mirror, true, None),
            JoinType::LeftMark => self.mark(&spec, join.null_aware),
            JoinType::RightMark => self.mark(&mirror, join.null_aware),
        }
    }

    fn side(
        &mut self,
        plan: &datafusion::logical_expr::LogicalPlan,
        keys: &[datafusion::logical_expr::Expr],
        strict: &[bool],
        both: bool,
    ) -> Result<Side> {
        let mut flow = self.plan(plan)?;
        flow.order.clear();
        let width = flow.exprs.len();
        let node_schema = self.builder.schema(flow.node).clone();
        let mut columns = Vec::new();
        let mut nullable = false;
        for (key, strict) in super::compile_all(keys, plan.schema())?.iter().zip(strict) {
            let key = exprs::substitute(key, &flow.exprs)?;
            nullable |= *strict && key.nullable(&node_schema)?;
            columns.push(place(&mut flow.exprs, key));
        }
        let mut fields: Vec<Field> = output_schema(plan).fields().iter().map(|f| f.as_ref().clone()).collect();
        for (i, expr) in flow.exprs.iter().enumerate().skip(width) {
            fields.push(Field::new(format!("__key_{i}"), expr.data_type(&node_schema)?, true));
        }
        let names = Arc::new(Schema::new(fields));
        Ok(Side { flow, width, keys: columns, strict: strict.to_vec(), names, nullable, both })
    }

    /// A side as a node; `no_nulls` leaves out the rows with a NULL key, which match nothing.
    fn side_node(&mut self, side: &Side, no_nulls: bool) -> Result<NodeId> {
        let mut flow = side.flow.clone();
        if side.both {
            // The expressions are evaluated once, and fail once.
            let node = self.node(&flow, &side.names)?;
            flow = self.all(node);
        }
        if no_nulls && side.nullable {
            let schema = self.builder.schema(flow.node).clone();
            for (key, _) in side.keys.iter().zip(&side.strict).filter(|(_, strict)| **strict) {
                let key = flow.exprs[*key].clone();
                let test = exprs::is_not_null(key.clone());
                if key.nullable(&schema)? && !flow.predicates.contains(&test) {
                    flow.predicates.push(test);
                }
            }
        }
        self.node(&flow, &side.names)
    }

    /// The rows of a side whose key is NULL.
    fn null_key_node(&mut self, side: &Side) -> Result<NodeId> {
        let node = self.node(&side.flow, &side.names)?;
        let mut flow = self.all(node);
        let tests: Vec<_> = side.keys.iter().map(|key| exprs::is_null(flow.exprs[*key].clone())).collect();
        flow.predicates.extend(tests);
        self.node(&flow, &side.names)
    }

    /// The pairs that match, as the left columns and then the right ones; and the node before the other predicates.
    fn inner(&mut self, spec: &Spec<'_>, filter_left: bool, filter_right: bool) -> Result<(Flow, NodeId)> {
        let left = self.side_node(spec.left, filter_left)?;
        // One side without NULL keys is enough to keep them apart.
        let right = self.side_node(spec.right, filter_right || !filter_left)?;
        let node = self.builder.join(left, right, spec.left.keys.clone(), spec.right.keys.clone());
        let mut flow = self.all(node);
        flow.predicates = spec.residual.to_vec();
        let from_right = spec.left.flow.exprs.len();
        let exprs = flow.exprs;
        let left_columns = exprs[..spec.left.width].iter();
        flow.exprs = left_columns.chain(&exprs[from_right..from_right + spec.right.width]).cloned().collect();
        Ok((flow, node))
    }

    /// The left rows with a match, or (`anti`) without one; `matched` if the pairs are there already.
    fn semi(&mut self, spec: &Spec<'_>, anti: bool, matched: Option<Matched>) -> Result<Flow> {
        let left = self.side_node(spec.left, !anti)?;
        let node = if spec.residual.is_empty() {
            let right = self.side_node(spec.right, true)?;
            self.builder.semi(left, right, (spec.left.keys.clone(), spec.right.keys.clone()), anti, spec.label)
        } else {
            // What a left row's match depends on.
            let width = spec.left.flow.exprs.len();
            let mut columns = spec.left.keys.clone();
            for expr in spec.residual {
                exprs::each_column(expr, |index| columns.push(index));
            }
            columns.retain(|index| *index < width);
            columns.sort_unstable();
            columns.dedup();
            let matched = match matched {
                Some(matched) => matched,
                None => {
                    let right = self.side_node(spec.right, true)?;
                    let node = self.builder.join(left, right, spec.left.keys.clone(), spec.right.keys.clone());
                    Matched { node, predicates: spec.residual.to_vec(), kept_at: 0 }
                }
            };
            let mut flow = self.all(matched.node);
            flow.predicates = matched.predicates;
            flow.exprs = columns.iter().map(|index| flow.exprs[matched.kept_at + index].clone()).collect();
            let fields: Vec<_> = columns.iter().map(|index| spec.left.names.field(*index).clone()).collect();
            let matches = self.node(&flow, &Arc::new(Schema::new(fields)))?;
            let matches = self.builder.distinct(matches);
            let places = (0..columns.len()).collect();
            self.builder.semi(left, matches, (columns, places), anti, spec.label)
        };
        let mut flow = self.all(node);
        flow.exprs.truncate(spec.left.width);
        Ok(flow)
    }

    /// Whether there is a row in a node, as a relation without columns and with at most one row.
    fn any_row(&mut self, node: NodeId) -> Result<NodeId> {
        let mut flow = self.all(node);
        flow.exprs.clear();
        let empty = self.node(&flow, &Arc::new(Schema::empty()))?;
        Ok(self.builder.distinct(empty))
    }

    /// `x NOT IN (right)` in SQL's three values: the left rows for which it is true, and those for which it is NULL.
    fn not_in(&mut self, spec: &Spec<'_>) -> Result<(Vec<Flow>, Vec<Flow>)> {
        let (mut yes, mut unknown) = (Vec::new(), Vec::new());
        let none = || (vec![], vec![]);
        let left = self.side_node(spec.left, true)?;
        let right = self.side_node(spec.right, true)?;
        let keys = (spec.left.keys.clone(), spec.right.keys.clone());
        let unmatched = self.builder.semi(left, right, keys, true, spec.label);
        if spec.right.nullable {
            // A NULL among the right values: it may have been the one.
            let nulls = self.null_key_node(spec.right)?;
            let nulls = self.any_row(nulls)?;
            yes.push(self.builder.semi(unmatched, nulls, none(), true, spec.label));
            unknown.push(self.builder.semi(unmatched, nulls, none(), false, spec.label));
        } else {
            yes.push(unmatched);
        }
        if spec.left.nullable {
            // NULL is not in nothing; of anything else it can't be said.
            let nulls = self.null_key_node(spec.left)?;
            let all = self.side_node(spec.right, false)?;
            let any = self.any_row(all)?;
            yes.push(self.builder.semi(nulls, any, none(), true, spec.label));
            unknown.push(self.builder.semi(nulls, any, none(), false, spec.label));
        }
        let flows = |nodes: Vec<NodeId>| -> Vec<Flow> {
            let cut = |node| {
                let mut flow = self.all(node);
                flow.exprs.truncate(spec.left.width);
                flow
            };
            nodes.into_iter().map(cut).collect()
        };
        Ok((flows(yes), flows(unknown)))
    }

    /// The left rows with a column that says whether they have a match.
    fn mark(&mut self, spec: &Spec<'_>, null_aware: bool) -> Result<Flow> {
        let mut parts = Vec::new();
        let mut marked = |flows: Vec<Flow>, mark: Option<bool>| {
            for mut flow in flows {
                flow.exprs.push(exprs::boolean(mark));
                parts.push(flow);
            }
        };
        marked(vec![self.semi(spec, false, None)?], Some(true));
        if null_aware {
            let (no, unknown) = self.not_in(spec)?;
            marked(no, Some(false));
            marked(unknown, None);
        } else {
            marked(vec![self.semi(spec, true, None)?], Some(false));
        }
        let mut fields: Vec<_> = spec.left.names.fields()[..spec.left.width].to_vec();
        fields.push(Arc::new(Field::new("mark", DataType::Boolean, true)));
        self.union(parts, &Arc::new(Schema::new(fields)))
    }
}

/// `left IS NOT DISTINCT FROM right`, each over columns of its side alone: a key that matches where both are NULL.
fn null_safe(condition: &Expr, left: &DFSchema, right: &DFSchema) -> Option<(Expr, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left: one, op: Operator::IsNotDistinctFrom, right: two }) = condition else {
        return None;
    };
    let of = |expr: &Expr, schema: &DFSchema| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.into_iter().all(|column| schema.has_column(column))
    };
    let (one, two) = (one.as_ref(), two.as_ref());
    match () {
        () if of(one, left) && of(two, right) => Some((one.clone(), two.clone())),
        () if of(one, right) && of(two, left) => Some((two.clone(), one.clone())),
        () => None,
    }
}

fn joined_names(left: &Side, right: &Side) -> SchemaRef {
    let fields: Vec<_> = left.names.fields().iter().chain(right.names.fields().iter()).cloned().collect();
    Arc::new(Schema::new(fields))
}

/// What a join is called in messages.
fn join_name(join_type: JoinType) -> &'static str {
    match join_type {
        JoinType::Inner => "JOIN",
        JoinType::Left => "LEFT JOIN (a row's NULLs may be replaced by a match)",
        JoinType::Right => "RIGHT JOIN (a row's NULLs may be replaced by a match)",
        JoinType::Full => "FULL JOIN (a row's NULLs may be replaced by a match)",
        JoinType::LeftSemi | JoinType::RightSemi => "IN / EXISTS (semi join)",
        JoinType::LeftAnti | JoinType::RightAnti => "NOT IN / NOT EXISTS (anti join)",
        JoinType::LeftMark | JoinType::RightMark => "IN / EXISTS beside other conditions",
    }
}
