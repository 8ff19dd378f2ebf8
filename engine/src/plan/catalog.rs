//! What the planner knows of tables and views.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::{LogicalPlan, TableSource};

use super::{Properties, Relation, Watermark};
use crate::logical::Through;

/// A table's columns and what holds of its rows.
#[derive(Clone, Debug)]
pub struct TableMeta {
    /// Which table of all that ever had the name.
    pub id: u64,
    /// The name.
    pub name: String,
    /// The columns.
    pub schema: SchemaRef,
    /// The event-time column, if it has a watermark.
    pub event_time: Option<EventTime>,
    /// Whether its input ends.
    pub bounded: bool,
    /// The order in which its source is read, for people.
    pub reading_order: Option<String>,
    /// Whether all rows are at the smallest time and the input is closed then.
    pub is_static: bool,
    /// Whether rows are events, which don't leave.
    pub append_only: bool,
    /// Whether whoever pushes rows may take them back all the same.
    pub taken_back: bool,
}

/// How a table's event-time column relates to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTime {
    /// The column.
    pub column: usize,
    /// Declared disorder, microseconds.
    pub delay_us: u64,
    /// The width of a segment, microseconds.
    pub resolution_us: u64,
}

/// A view's columns and what holds of its rows.
#[derive(Clone, Debug)]
pub struct ViewMeta {
    /// Which view of all that ever had the name.
    pub id: u64,
    /// The name.
    pub name: String,
    /// The columns.
    pub schema: SchemaRef,
    /// What is known of its rows: the properties of its plan's root.
    pub properties: Properties,
    /// Whether all its inputs end.
    pub bounded: bool,
    /// Where the view leaves out rows on which an expression fails: what is known of those.
    pub errors: Option<Properties>,
    /// The view's query, if queries over the view are planned over its inputs; else they read the view's output.
    pub definition: Option<LogicalPlan>,
}

/// The columns of a view's rows in error.
pub(crate) fn errors_schema() -> SchemaRef {
    let names = ["row", "expression", "error"];
    Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Utf8, false)).to_vec()))
}

/// The columns of what a table rejected: the name of a file or the like, the number of a line in it, the column that is wrong, the
/// input as text, and what is wrong with it.
pub(crate) fn rejected_schema() -> SchemaRef {
    let text = |name: &str, nullable: bool| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("source", true),
        Field::new("line", DataType::Int64, true),
        text("column", true),
        text("input", false),
        text("reason", false),
    ]))
}

/// A relation as DataFusion's planner sees it: columns only.
#[derive(Clone, Debug)]
pub struct RelationSource {
    /// Of all that ever had the name.
    pub(crate) id: u64,
    pub(crate) relation: Relation,
    pub(crate) schema: SchemaRef,
    pub(crate) properties: Properties,
    pub(crate) bounded: bool,
    definition: Option<LogicalPlan>,
}

impl RelationSource {
    pub(crate) fn table(meta: &TableMeta) -> Self {
        let watermark = meta
            .event_time
            .filter(|_| !meta.is_static)
            .map(|time| Watermark { column: time.column, delay: time.delay_us.saturating_add(time.resolution_us) });
        RelationSource {
            id: meta.id,
            // Whether late rows are dropped is known when the whole plan is.
            relation: Relation::Table { name: meta.name.clone(), drop_late: false },
            schema: meta.schema.clone(),
            properties: Properties {
                retracts: (!meta.append_only && !meta.is_static).then(|| format!("the table {}", meta.name)),
                watermarks: watermark.into_iter().collect(),
                final_at: None,
                is_static: meta.is_static,
                // Until the plan is known to drop them.
                late_rows: watermark.is_some(),
                key: None,
                fails: false,
                taken_back: meta.taken_back && !meta.is_static,
            },
            bounded: meta.bounded || meta.is_static,
            definition: None,
        }
    }

    pub(crate) fn late(meta: &TableMeta) -> Self {
        let mut source = RelationSource::table(meta);
        source.relation = Relation::Late { name: meta.name.clone() };
        source.properties.watermarks.clear();
        source
    }

    pub(crate) fn rejected(meta: &TableMeta) -> Self {
        RelationSource {
            relation: Relation::Rejected { name: meta.name.clone() },
            schema: rejected_schema(),
            properties: Properties { is_static: meta.is_static, ..Properties::default() },
            ..RelationSource::table(meta)
        }
    }

    /// The rows in error that a view leaves out, if it does.
    pub(crate) fn errors(meta: &ViewMeta) -> Option<Self> {
        Some(RelationSource {
            id: meta.id,
            relation: Relation::Errors { name: meta.name.clone() },
            schema: errors_schema(),
            properties: meta.errors.clone()?,
            bounded: meta.bounded,
            definition: None,
        })
    }

    pub(crate) fn view(meta: &ViewMeta) -> Self {
        RelationSource {
            id: meta.id,
            relation: Relation::View { name: meta.name.clone() },
            schema: meta.schema.clone(),
            properties: meta.properties.clone(),
            bounded: meta.bounded,
            definition: meta.definition.clone().map(|query| Through::mark(&meta.name, meta.id, query)),
        }
    }
}

impl TableSource for RelationSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        self.definition.as_ref().map(Cow::Borrowed)
    }
}
