//! A plan as text that lasts: the same query has the same text on every machine, in every run and with every version of
//! the libraries below. Fingerprints, and with them the names of operators in durable state, are hashes of it.
//!
//! Every node and expression is written by us, by what it does. Columns are known by their places, never by their names.
//! An expression that has no form here is written as `unstable(..)` with the library's own words: it tells plans apart
//! within one build only, and [`Plan::lasts`] says so. What is written here never changes; what is new gets new words.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NegativeExpr,
    NotExpr, TryCastExpr,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::one_zero::OneZero;
use super::or_null::OrNull;
use super::{Aggregate, AggregateFunction, NodeId, Op, Order, Plan, Relation, Watermark};

/// The version of the form: it stands at the head of a plan's text.
const FORM: u32 = 1;

impl Plan {
    /// The plan as text that lasts: a line for each node, which names its inputs by their numbers.
    pub fn canonical(&self) -> String {
        let mut text = format!("plan {FORM} root {}\n", self.root);
        for (id, node) in self.nodes.iter().enumerate() {
            let _ = writeln!(text, "{id} {}", op(&node.op, |input| input.to_string()));
        }
        text
    }

    /// Whether the fingerprints hold for other builds, too: whether every expression has a form of ours.
    pub fn lasts(&self) -> bool {
        self.nodes.iter().all(|node| text(&node.op, |_| String::new()).lasts)
    }
}

/// An operator; `input` says how its inputs are named.
pub(super) fn op(op: &Op, input: impl Fn(NodeId) -> String) -> String {
    text(op, input).words
}

fn text(op: &Op, input: impl Fn(NodeId) -> String) -> Text {
    let mut text = Text { words: String::new(), lasts: true };
    match op {
        Op::Get { relation, projection } => {
            match relation {
                Relation::Table { name, drop_late } => {
                    text.word("get table").quoted(name).flag("drop-late", *drop_late)
                }
                Relation::Late { name } => text.word("get late").quoted(name),
                Relation::Rejected { name } => text.word("get rejected").quoted(name),
                Relation::View { name } => text.word("get view").quoted(name),
                Relation::Errors { name } => text.word("get errors").quoted(name),
            };
            text.places(projection);
        }
        Op::Constant { rows } => {
            text.word("constant").word(&rows.num_rows().to_string());
            for column in rows.columns() {
                text.word("[").data_type(column.data_type());
                (0..column.len()).for_each(|row| text.cell(column, row));
                text.word("]");
            }
        }
        Op::Mfp { predicates, exprs, .. } => {
            text.word("mfp");
            predicates.iter().for_each(|predicate| text.word("filter").expr(predicate));
            exprs.iter().for_each(|expr| text.word("map").expr(expr));
        }
        Op::Hop { time, size, slide, offset, .. } => {
            text.word("hop").places(&[*time]).word(&format!("{size} {slide} {offset}"));
        }
        Op::Unnest { column, .. } => {
            text.word("unnest").places(&[*column]);
        }
        Op::Join { left_keys, right_keys, .. } => {
            text.word("join").places(left_keys).places(right_keys);
        }
        Op::Semi { left_keys, right_keys, anti, .. } => {
            text.word(if *anti { "anti" } else { "semi" }).places(left_keys).places(right_keys);
        }
        Op::Distinct { retain, .. } => {
            text.word("distinct").watermark("retain", retain);
        }
        Op::Reduce { keys, aggregates, retain, global, .. } => {
            text.word("reduce").places(keys).watermark("retain", retain).flag("global", *global);
            aggregates.iter().for_each(|aggregate| text.aggregate(aggregate));
        }
        Op::TopK { group, order, offset, limit, .. } => {
            text.word("top").places(group);
            order.iter().for_each(|order| text.order(order));
            text.word(&format!("offset {offset}"));
            if let Some(limit) = limit {
                text.word(&format!("limit {limit}"));
            }
        }
        Op::Limit { rows, .. } => {
            text.word("any").word(&rows.to_string());
        }
        Op::EmitFinal { final_at, .. } => {
            text.word("emit-final").watermark("at", final_at);
        }
        Op::Union { .. } => {
            text.word("union");
        }
        Op::Negate { .. } => {
            text.word("negate");
        }
    }
    op.inputs().into_iter().for_each(|id| {
        text.word(&format!("<{}", input(id)));
    });
    text
}

/// Words with spaces between them.
struct Text {
    words: String,
    /// Whether all of them are ours.
    lasts: bool,
}

impl Text {
    fn word(&mut self, word: &str) -> &mut Self {
        if !self.words.is_empty() && !self.words.ends_with(['(', ' ']) && word != ")" {
            self.words.push(' ');
        }
        self.words.push_str(word);
        self
    }

    /// A text in quotes, on one line.
    fn quoted(&mut self, text: &str) -> &mut Self {
        let mut quoted = String::from("\"");
        for character in text.chars() {
            match character {
                '"' | '\\' => quoted.extend(['\\', character]),
                c if c.is_control() => {
                    let _ = write!(quoted, "\\u{{{:x}}}", u32::from(c));
                }
                c => quoted.push(c),
            }
        }
        quoted.push('"');
        self.word(&quoted)
    }

    fn hex(&mut self, bytes: &[u8]) -> &mut Self {
        let mut hex = String::from("x");
        bytes.iter().for_each(|byte| {
            let _ = write!(hex, "{byte:02x}");
        });
        self.word(&hex)
    }

    fn flag(&mut self, name: &str, set: bool) -> &mut Self {
        if set { self.word(name) } else { self }
    }

    fn places(&mut self, places: &[usize]) -> &mut Self {
        let places: Vec<_> = places.iter().map(|place| format!("#{place}")).collect();
        self.word(&format!("[{}]", places.join(",")))
    }

    fn watermark(&mut self, name: &str, watermark: &Option<Watermark>) -> &mut Self {
        match watermark {
            Some(w) => self.word(&format!("{name} #{}+{}", w.column, w.delay)),
            None => self,
        }
    }

    fn order(&mut self, order: &Order) {
        let direction = if order.options.descending { "desc" } else { "asc" };
        let nulls = if order.options.nulls_first { "nulls-first" } else { "nulls-last" };
        self.word(&format!("by #{} {direction} {nulls}", order.column));
    }

    fn aggregate(&mut self, aggregate: &Aggregate) {
        let function = match aggregate.function {
            AggregateFunction::Count => "count(",
            AggregateFunction::Sum => "sum(",
            AggregateFunction::Avg => "avg(",
            AggregateFunction::Min => "min(",
            AggregateFunction::Max => "max(",
            AggregateFunction::VarSample => "var-sample(",
            AggregateFunction::VarPopulation => "var-population(",
            AggregateFunction::StddevSample => "stddev-sample(",
            AggregateFunction::StddevPopulation => "stddev-population(",
            AggregateFunction::BoolAnd => "bool-and(",
            AggregateFunction::BoolOr => "bool-or(",
        };
        self.word(function).flag("distinct", aggregate.distinct);
        aggregate.argument.iter().for_each(|argument| {
            self.places(&[*argument]);
        });
        self.word(")");
        aggregate.filter.iter().for_each(|filter| {
            self.word("filter").places(&[*filter]);
        });
        self.flag("or-null", aggregate.or_null).data_type(&aggregate.output);
    }

    fn expr(&mut self, expr: &Arc<dyn PhysicalExpr>) {
        if let Some(column) = expr.downcast_ref::<Column>() {
            self.word(&format!("#{}", column.index()));
        } else if let Some(literal) = expr.downcast_ref::<Literal>() {
            self.value(literal.value());
        } else if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            match operator(binary.op()) {
                Some(name) => self.call(name, [binary.left(), binary.right()]),
                None => self.unstable(&format!("{expr:?}")),
            }
        } else if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            self.cast(if cast.cast_options().safe { "cast-or-null(" } else { "cast(" }, cast.expr(), cast.cast_type());
        } else if let Some(cast) = expr.downcast_ref::<TryCastExpr>() {
            self.cast("cast-or-null(", cast.expr(), cast.cast_type());
        } else if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
            self.word("call(").quoted(call.fun().name()).data_type(call.return_type());
            call.args().iter().for_each(|arg| self.expr(arg));
            self.word(")");
        } else if let Some(case) = expr.downcast_ref::<CaseExpr>() {
            self.word("case(");
            case.expr().iter().for_each(|of| self.word("of").expr(of));
            for (when, then) in case.when_then_expr() {
                self.word("when").expr(when);
                self.word("then").expr(then);
            }
            case.else_expr().iter().for_each(|otherwise| self.word("else").expr(otherwise));
            self.word(")");
        } else if let Some(like) = expr.downcast_ref::<LikeExpr>() {
            let name = match (like.negated(), like.case_insensitive()) {
                (false, false) => "like",
                (false, true) => "ilike",
                (true, false) => "not-like",
                (true, true) => "not-ilike",
            };
            self.call(name, [like.expr(), like.pattern()]);
        } else if let Some(list) = expr.downcast_ref::<InListExpr>() {
            let name = if list.negated() { "not-in" } else { "in" };
            self.call(name, std::iter::once(list.expr()).chain(list.list()));
        } else if let Some(not) = expr.downcast_ref::<NotExpr>() {
            self.call("not", [not.arg()]);
        } else if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
            self.call("minus", [negative.arg()]);
        } else if let Some(test) = expr.downcast_ref::<IsNullExpr>() {
            self.call("is-null", [test.arg()]);
        } else if let Some(test) = expr.downcast_ref::<IsNotNullExpr>() {
            self.call("is-not-null", [test.arg()]);
        } else if let Some(or_null) = expr.downcast_ref::<OrNull>() {
            self.call("or-null", [&or_null.0]);
        } else if let Some(one_zero) = expr.downcast_ref::<OneZero>() {
            self.call("one-zero", [&one_zero.0]);
        } else {
            self.unstable(&format!("{expr:?}"));
        }
    }

    fn call<'a>(&mut self, name: &str, args: impl IntoIterator<Item = &'a Arc<dyn PhysicalExpr>>) {
        self.word(name).words.push('(');
        args.into_iter().for_each(|arg| self.expr(arg));
        self.word(")");
    }

    fn cast(&mut self, name: &str, expr: &Arc<dyn PhysicalExpr>, to: &DataType) {
        self.word(name).data_type(to).expr(expr);
        self.word(")");
    }

    /// What has no form of ours, in the words of the library.
    fn unstable(&mut self, text: &str) {
        self.lasts = false;
        self.word("unstable(").quoted(text).word(")");
    }

    /// A constant with its type.
    fn value(&mut self, value: &ScalarValue) {
        let data_type = value.data_type();
        self.word("value(").data_type(&data_type);
        match value.to_array() {
            Ok(array) => self.cell(&array, 0),
            Err(error) => self.unstable(&error.to_string()),
        }
        self.word(")");
    }

    /// A value of an array, whose type was said.
    fn cell(&mut self, array: &ArrayRef, row: usize) {
        if array.is_null(row) || array.data_type() == &DataType::Null {
            self.word("null");
            return;
        }
        let list = |text: &mut Self, values: ArrayRef| {
            text.word("(");
            (0..values.len()).for_each(|row| text.cell(&values, row));
            text.word(")");
        };
        match array.data_type() {
            DataType::Boolean => {
                self.word(if array.as_boolean().value(row) { "true" } else { "false" });
            }
            DataType::Utf8 => {
                self.quoted(array.as_string::<i32>().value(row));
            }
            DataType::LargeUtf8 => {
                self.quoted(array.as_string::<i64>().value(row));
            }
            DataType::Utf8View => {
                self.quoted(array.as_string_view().value(row));
            }
            DataType::Binary => {
                self.hex(array.as_binary::<i32>().value(row));
            }
            DataType::LargeBinary => {
                self.hex(array.as_binary::<i64>().value(row));
            }
            DataType::BinaryView => {
                self.hex(array.as_binary_view().value(row));
            }
            DataType::FixedSizeBinary(_) => {
                self.hex(array.as_fixed_size_binary().value(row));
            }
            DataType::List(_) => list(self, array.as_list::<i32>().value(row)),
            DataType::LargeList(_) => list(self, array.as_list::<i64>().value(row)),
            DataType::FixedSizeList(..) => list(self, array.as_fixed_size_list().value(row)),
            DataType::Map(..) => list(self, Arc::new(array.as_map().value(row))),
            DataType::Struct(_) => {
                self.word("(");
                array.as_struct().columns().iter().for_each(|column| self.cell(column, row));
                self.word(")");
            }
            // Whole numbers, floats, decimals, dates, times and intervals: their bits, the lowest byte first.
            other => match other.primitive_width() {
                Some(width) => {
                    let data = array.to_data();
                    let start = (data.offset() + row) * width;
                    self.hex(&data.buffers()[0].as_slice()[start..start + width]);
                }
                None => {
                    self.unstable(&arrow::util::display::array_value_to_string(array, row).unwrap_or_default());
                }
            },
        }
    }

    fn data_type(&mut self, data_type: &DataType) -> &mut Self {
        let unit = |unit: &TimeUnit| match unit {
            TimeUnit::Second => "s",
            TimeUnit::Millisecond => "ms",
            TimeUnit::Microsecond => "us",
            TimeUnit::Nanosecond => "ns",
        };
        let word = match data_type {
            DataType::Null => "nothing".into(),
            DataType::Boolean => "bool".into(),
            DataType::Int8 => "i8".into(),
            DataType::Int16 => "i16".into(),
            DataType::Int32 => "i32".into(),
            DataType::Int64 => "i64".into(),
            DataType::UInt8 => "u8".into(),
            DataType::UInt16 => "u16".into(),
            DataType::UInt32 => "u32".into(),
            DataType::UInt64 => "u64".into(),
            DataType::Float16 => "f16".into(),
            DataType::Float32 => "f32".into(),
            DataType::Float64 => "f64".into(),
            DataType::Utf8 => "text".into(),
            DataType::LargeUtf8 => "large-text".into(),
            DataType::Utf8View => "text-view".into(),
            DataType::Binary => "bytes".into(),
            DataType::LargeBinary => "large-bytes".into(),
            DataType::BinaryView => "bytes-view".into(),
            DataType::FixedSizeBinary(width) => format!("bytes-{width}"),
            DataType::Date32 => "date".into(),
            DataType::Date64 => "date-ms".into(),
            DataType::Time32(of) | DataType::Time64(of) => format!("time-{}", unit(of)),
            DataType::Duration(of) => format!("duration-{}", unit(of)),
            DataType::Interval(IntervalUnit::YearMonth) => "interval-months".into(),
            DataType::Interval(IntervalUnit::DayTime) => "interval-days-ms".into(),
            DataType::Interval(IntervalUnit::MonthDayNano) => "interval-months-days-ns".into(),
            DataType::Timestamp(of, None) => format!("timestamp-{}", unit(of)),
            DataType::Timestamp(of, Some(zone)) => {
                self.word(&format!("timestamp-{}(", unit(of))).quoted(zone);
                ")".into()
            }
            DataType::Decimal32(precision, scale) => format!("decimal32-{precision}-{scale}"),
            DataType::Decimal64(precision, scale) => format!("decimal64-{precision}-{scale}"),
            DataType::Decimal128(precision, scale) => format!("decimal128-{precision}-{scale}"),
            DataType::Decimal256(precision, scale) => format!("decimal256-{precision}-{scale}"),
            DataType::List(item) => return self.of("list(", [item.data_type()]),
            DataType::LargeList(item) => return self.of("large-list(", [item.data_type()]),
            DataType::FixedSizeList(item, width) => return self.of(&format!("list-{width}("), [item.data_type()]),
            DataType::ListView(item) => return self.of("list-view(", [item.data_type()]),
            DataType::LargeListView(item) => return self.of("large-list-view(", [item.data_type()]),
            DataType::Map(entry, _) => return self.of("map(", [entry.data_type()]),
            DataType::Dictionary(key, value) => return self.of("dictionary(", [key.as_ref(), value.as_ref()]),
            DataType::RunEndEncoded(ends, values) => return self.of("runs(", [ends.data_type(), values.data_type()]),
            DataType::Struct(fields) => {
                self.word("struct(");
                fields.iter().for_each(|field| {
                    self.quoted(field.name()).data_type(field.data_type());
                });
                ")".into()
            }
            DataType::Union(..) => {
                self.unstable(&data_type.to_string());
                return self;
            }
        };
        self.word(&word)
    }

    fn of<'a>(&mut self, name: &str, inner: impl IntoIterator<Item = &'a DataType>) -> &mut Self {
        self.word(name);
        inner.into_iter().for_each(|inner| {
            self.data_type(inner);
        });
        self.word(")")
    }
}

/// Our names of DataFusion's operators; `None` for those of other dialects.
fn operator(operator: &Operator) -> Option<&'static str> {
    Some(match operator {
        Operator::Eq => "eq",
        Operator::NotEq => "ne",
        Operator::Lt => "lt",
        Operator::LtEq => "le",
        Operator::Gt => "gt",
        Operator::GtEq => "ge",
        Operator::Plus => "add",
        Operator::Minus => "sub",
        Operator::Multiply => "mul",
        Operator::Divide => "div",
        Operator::Modulo => "mod",
        Operator::And => "and",
        Operator::Or => "or",
        Operator::IsDistinctFrom => "distinct",
        Operator::IsNotDistinctFrom => "not-distinct",
        Operator::RegexMatch => "regex",
        Operator::RegexIMatch => "iregex",
        Operator::RegexNotMatch => "not-regex",
        Operator::RegexNotIMatch => "not-iregex",
        Operator::LikeMatch => "like",
        Operator::ILikeMatch => "ilike",
        Operator::NotLikeMatch => "not-like",
        Operator::NotILikeMatch => "not-ilike",
        Operator::BitwiseAnd => "bit-and",
        Operator::BitwiseOr => "bit-or",
        Operator::BitwiseXor => "bit-xor",
        Operator::BitwiseShiftRight => "shift-right",
        Operator::BitwiseShiftLeft => "shift-left",
        Operator::StringConcat => "concat",
        _ => return None,
    })
}
