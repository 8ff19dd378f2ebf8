//! A plan as text: a tree from the answer down, a node that is used more than once by its number.

use std::fmt::Write;

use super::{Aggregate, Node, NodeId, OnError, Op, Plan, Relation, Watermark};

/// The plan as an indented tree; `order` says in which order a table is read, where it has one.
pub fn explain(plan: &Plan, order_of: &dyn Fn(&str) -> Option<String>) -> String {
    let mut uses = vec![0usize; plan.nodes.len()];
    uses[plan.root] += 1;
    plan.nodes.iter().for_each(|node| node.op.inputs().into_iter().for_each(|input| uses[input] += 1));
    let mut tree = Tree { plan, order_of, uses, shown: vec![false; plan.nodes.len()], text: String::new() };
    tree.node(plan.root, 0);
    let mut text = tree.text;
    let root = &plan.nodes[plan.root];
    if !plan.presentation.is_empty() {
        let order: Vec<_> = plan.presentation.iter().map(|o| order(o, root)).collect();
        text = format!("Present by {}\n{text}", order.join(", "));
    }
    if plan.visible() < root.schema.fields().len() {
        let hidden: Vec<_> = root.schema.fields()[plan.visible()..].iter().map(|f| f.name().as_str()).collect();
        text = format!("Hide {}\n{text}", hidden.join(", "));
    }
    match plan.on_error {
        OnError::Fail => {}
        OnError::Null => text = format!("On error NULL\n{text}"),
        OnError::DeadLetter => text = format!("On error leave the row out\n{text}"),
    }
    text
}

struct Tree<'a> {
    plan: &'a Plan,
    order_of: &'a dyn Fn(&str) -> Option<String>,
    uses: Vec<usize>,
    shown: Vec<bool>,
    text: String,
}

impl Tree<'_> {
    fn node(&mut self, id: NodeId, depth: usize) {
        let node = &self.plan.nodes[id];
        let shared = if self.uses[id] > 1 { format!("#{id} ") } else { String::new() };
        let indent = "  ".repeat(depth);
        if std::mem::replace(&mut self.shown[id], true) {
            // Writing to a string can't fail, here and below.
            let _ = writeln!(self.text, "{indent}{shared}(above)");
            return;
        }
        let line = self.line(node);
        let facts = facts(node);
        let _ = writeln!(self.text, "{indent}{shared}{line}{facts}");
        node.op.inputs().into_iter().for_each(|input| self.node(input, depth + 1));
    }

    fn line(&self, node: &Node) -> String {
        let below = |input: NodeId, columns: &[usize]| names(&self.plan.nodes[input], columns);
        match &node.op {
            Op::Get { relation, projection: _ } => {
                let columns = names(node, &(0..node.schema.fields().len()).collect::<Vec<_>>());
                let get = match relation {
                    Relation::Table { name, drop_late: true } => format!("Get {name} [{columns}] late rows dropped"),
                    Relation::Table { name, drop_late: false } if node.properties.late_rows => {
                        format!("Get {name} [{columns}] late rows read")
                    }
                    Relation::Table { name, drop_late: false } => format!("Get {name} [{columns}]"),
                    Relation::Late { name } => format!("Get {name}.late [{columns}]"),
                    Relation::Rejected { name } => format!("Get {name}.rejected [{columns}]"),
                    Relation::View { name } => format!("Get view {name} [{columns}]"),
                    Relation::Errors { name } => format!("Get {name}.errors [{columns}]"),
                };
                match relation.is_of_table().then(|| (self.order_of)(relation.name())).flatten() {
                    Some(order) => format!("{get} reading {order}"),
                    None => get,
                }
            }
            Op::Constant { rows } => format!("Constant {} rows", rows.num_rows()),
            Op::Mfp { predicates, exprs, input } => {
                let mut line = String::from("Mfp");
                if !predicates.is_empty() {
                    let texts: Vec<_> = predicates.iter().map(|p| p.to_string()).collect();
                    let _ = write!(line, " filter {}", texts.join(" AND "));
                }
                let whole = exprs.len() == self.plan.nodes[*input].schema.fields().len()
                    && exprs.iter().enumerate().all(|(i, e)| super::exprs::column_of(e) == Some(i));
                if !whole {
                    let texts: Vec<_> = exprs
                        .iter()
                        .zip(node.schema.fields())
                        .map(|(expr, field)| match super::exprs::column_of(expr) {
                            Some(_) => expr.to_string(),
                            None => format!("{expr} AS {}", field.name()),
                        })
                        .collect();
                    let _ = write!(line, " map [{}]", texts.join(", "));
                }
                line
            }
            Op::Hop { input, time, size, slide, offset } => {
                let offset = if *offset == 0 { String::new() } else { format!(" offset {}", length(*offset)) };
                format!("Hop {} size {} slide {}{offset}", below(*input, &[*time]), length(*size), length(*slide))
            }
            Op::Unnest { input, column } => format!("Unnest {}", below(*input, &[*column])),
            Op::Join { left, right, left_keys, .. } if left_keys.is_empty() => {
                debug_assert!(left < &self.plan.nodes.len() && right < &self.plan.nodes.len());
                "Join (cross)".into()
            }
            Op::Join { left, right, left_keys, right_keys } => {
                format!("Join [{}] = [{}]", below(*left, left_keys), below(*right, right_keys))
            }
            Op::Semi { left, right, left_keys, right_keys, anti } => {
                let kind = if *anti { "Anti" } else { "Semi" };
                format!("{kind} [{}] = [{}]", below(*left, left_keys), below(*right, right_keys))
            }
            Op::Distinct { input, retain } => format!("Distinct{}", self.retain(*input, retain)),
            Op::Reduce { input, keys, aggregates, retain, global } => {
                let texts: Vec<_> = aggregates.iter().map(|a| self.aggregate(*input, a)).collect();
                let keys = if *global { "all".into() } else { format!("[{}]", below(*input, keys)) };
                format!("Reduce {keys} {}{}", texts.join(", "), self.retain(*input, retain))
            }
            Op::TopK { input, group, order: by, offset, limit } => {
                let mut line = String::from("TopK");
                if !group.is_empty() {
                    let _ = write!(line, " per [{}]", below(*input, group));
                }
                let by: Vec<_> = by.iter().map(|o| order(o, &self.plan.nodes[*input])).collect();
                let _ = write!(line, " by [{}]", by.join(", "));
                if *offset > 0 {
                    let _ = write!(line, " offset {offset}");
                }
                if let Some(limit) = limit {
                    let _ = write!(line, " limit {limit}");
                }
                line
            }
            Op::Limit { rows, .. } => format!("Limit any {rows}"),
            Op::Union { .. } => "Union".into(),
            Op::EmitFinal { input, final_at: Some(at) } => {
                format!("EmitFinal {} behind {}", delay(at.delay), below(*input, &[at.column]))
            }
            Op::EmitFinal { final_at: None, .. } => "EmitFinal at the end".into(),
            Op::Negate { .. } => "Negate".into(),
        }
    }

    fn aggregate(&self, input: NodeId, aggregate: &Aggregate) -> String {
        let name = |column: usize| names(&self.plan.nodes[input], &[column]);
        let argument = aggregate.argument.map_or_else(|| "*".into(), name);
        let distinct = if aggregate.distinct { "DISTINCT " } else { "" };
        let filter = aggregate.filter.map_or_else(String::new, |f| format!(" FILTER {}", name(f)));
        let or_null = if aggregate.or_null { " or NULL" } else { "" };
        format!("{:?}({distinct}{argument}){filter}{or_null}", aggregate.function)
    }

    fn retain(&self, input: NodeId, retain: &Option<Watermark>) -> String {
        match retain {
            Some(w) => {
                format!(", state released {} behind {}", delay(w.delay), names(&self.plan.nodes[input], &[w.column]))
            }
            None => String::new(),
        }
    }
}

/// What is known of a node's output.
fn facts(node: &Node) -> String {
    let properties = &node.properties;
    let mut facts = Vec::new();
    if properties.is_static {
        facts.push("static".to_string());
    } else {
        facts.push(match &properties.retracts {
            None => "append-only".to_string(),
            Some(_) => "retracts".to_string(),
        });
    }
    if let Some(at) = properties.final_at {
        facts.push(format!("final {} behind {}", delay(at.delay), names(node, &[at.column])));
    }
    if let Some(key) = properties.key.as_ref().filter(|key| key.len() < node.schema.fields().len()) {
        facts.push(format!("key [{}]", names(node, key)));
    }
    format!("  -- {}", facts.join(", "))
}

fn names(node: &Node, columns: &[usize]) -> String {
    let names: Vec<_> = columns.iter().map(|column| node.schema.field(*column).name().as_str()).collect();
    names.join(", ")
}

fn order(order: &super::Order, node: &Node) -> String {
    let direction = if order.options.descending { "DESC" } else { "ASC" };
    let nulls = if order.options.nulls_first { "NULLS FIRST" } else { "NULLS LAST" };
    format!("{} {direction} {nulls}", names(node, &[order.column]))
}

fn delay(us: u64) -> String {
    i64::try_from(us).map_or_else(|_| format!("{us} us"), length)
}

/// A length of time in its largest whole unit.
fn length(us: i64) -> String {
    let units = [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1_000, "ms")];
    for (size, name) in units {
        if us != 0 && us % size == 0 {
            return format!("{} {name}", us / size);
        }
    }
    format!("{us} us")
}
