//! The planner: names, functions and the way from a query to a plan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DataFusionError, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource};
use datafusion::sql::planner::PlannerContext;
use datafusion::sql::sqlparser::ast::{self, Spanned};

use super::functions::{self, Context};
use super::guarded::guarded;
use super::normalize::{Call, normalize};
use super::optimize::{coerced, optimize};
use super::parse::{parse_query, parse_scalar};
use super::statement::{ExplainKind, Query, Scalar};
use super::{advice, check};
use crate::error::{Error, Result};
use crate::logical::Through;
use crate::plan::catalog::{RelationSource, TableMeta, ViewMeta};
use crate::plan::{OnError, Plan, Purpose, explain, lower};
use crate::shield;

/// Plans queries over the tables and views that it has been told of.
#[derive(Clone)]
pub struct Planner {
    state: SessionState,
    relations: BTreeMap<String, Entry>,
    /// How long a query may be planned.
    pub most: Duration,
}

/// How long a query may be planned, unless something else is said.
pub(crate) const MAX_PLANNING_TIME: Duration = Duration::from_secs(60);

#[derive(Clone)]
enum Entry {
    Table(Arc<TableMeta>),
    View(Arc<ViewMeta>),
}

pub use super::dml::Changes;

/// What tables and views have beside their rows.
const PARTS: [&str; 3] = ["late", "rejected", "errors"];

impl Default for Planner {
    fn default() -> Self {
        Planner::new()
    }
}

impl Planner {
    /// A planner with DataFusion's functions and `window`, and no tables.
    pub fn new() -> Self {
        Planner { state: functions::state(), relations: BTreeMap::new(), most: MAX_PLANNING_TIME }
    }

    /// Adds a table, replacing a table or view of the same name.
    pub fn register_table(&mut self, table: TableMeta) {
        self.relations.insert(table.name.clone(), Entry::Table(Arc::new(table)));
    }

    /// Adds a view, replacing a table or view of the same name.
    pub fn register_view(&mut self, view: ViewMeta) {
        self.relations.insert(view.name.clone(), Entry::View(Arc::new(view)));
    }

    /// Forgets a table or view; whether there was one.
    pub fn drop(&mut self, name: &str) -> bool {
        self.relations.remove(name).is_some()
    }

    /// Whether the table or view called `name` is the one with this id.
    pub fn is_current(&self, name: &str, id: u64) -> bool {
        match self.relations.get(name) {
            Some(Entry::Table(table)) => table.id == id,
            Some(Entry::View(view)) => view.id == id,
            None => false,
        }
    }

    /// Whether all that the plan reads is there as it was when the plan was made.
    pub fn is_current_plan(&self, plan: &LogicalPlan) -> Result<bool> {
        Ok(scanned(plan)?.iter().all(|read| self.is_current(&read.name, read.id)))
    }

    /// Adds a scalar function, replacing one of the same name.
    pub fn register_udf(&mut self, udf: ScalarUDF) {
        functions::register(&mut self.state, guarded(udf.into()));
    }

    /// The names of all functions, sorted.
    pub fn functions(&self) -> Vec<String> {
        let scalar = self.state.scalar_functions().keys();
        let aggregates = lower::AGGREGATES.iter().map(|(name, _)| name.to_string());
        let mut names: Vec<_> = scalar.cloned().chain(aggregates).collect();
        names.sort();
        names.dedup();
        names
    }

    /// What is known of a table.
    pub fn table(&self, name: &str) -> Option<&TableMeta> {
        match self.relations.get(name) {
            Some(Entry::Table(table)) => Some(table),
            _ => None,
        }
    }

    fn source(&self, name: &TableReference) -> Result<RelationSource> {
        let (table, part) = match name {
            TableReference::Bare { table } => (table.as_ref(), None),
            TableReference::Partial { schema, table } if PARTS.contains(&table.as_ref()) => {
                (schema.as_ref(), Some(table.as_ref()))
            }
            _ => {
                let last = name.table();
                return Err(Error::user(format!(
                    "there is no table '{name}': there are no schemas, so write {last}; only <table>.late and \
                     <view>.errors have two parts"
                )));
            }
        };
        match (self.relations.get(table), part) {
            (None, _) => Err(self.unknown(table)),
            (Some(_), Some("errors")) => self.errors_of(table),
            (Some(Entry::Table(meta)), Some("late")) if meta.event_time.is_none() => {
                Err(Error::user(format!("the table '{table}' has no watermark, so it has no late rows")))
            }
            (Some(Entry::Table(meta)), Some("late")) => Ok(RelationSource::late(meta)),
            (Some(Entry::Table(meta)), Some(_)) => Ok(RelationSource::rejected(meta)),
            (Some(Entry::Table(meta)), None) => Ok(RelationSource::table(meta)),
            (Some(Entry::View(_)), Some(part)) => {
                Err(Error::user(format!("'{table}' is a view; {part} rows are those of a table")))
            }
            (Some(Entry::View(meta)), None) => Ok(RelationSource::view(meta)),
        }
    }

    /// The rows in error of a view.
    fn errors_of(&self, view: &str) -> Result<RelationSource> {
        match self.relations.get(view) {
            Some(Entry::View(meta)) => RelationSource::errors(meta).ok_or_else(|| {
                Error::user(format!(
                    "the view '{view}' leaves no rows out: create it as MATERIALIZED VIEW {view} WITH (on_error = \
                     'dead_letter')"
                ))
            }),
            Some(Entry::Table(_)) => {
                Err(Error::user(format!("'{view}' is a table; errors are those of a materialized view")))
            }
            None => Err(self.unknown(view)),
        }
    }

    fn unknown(&self, name: &str) -> Error {
        let known: Vec<_> = self.relations.keys().map(String::as_str).collect();
        Error::user(advice::relation(name, &known))
    }

    /// Refuses functions that have no incremental form where they stand in the text.
    fn check_calls(&self, calls: &[Call], source: &str) -> Result<()> {
        for call in calls {
            let scalar = self.state.scalar_functions().get(&call.name);
            let refused = match scalar {
                Some(function) => check::volatile(function),
                None if call.over => Some(check::over(&call.name)),
                None => {
                    let known = lower::AGGREGATES.iter().any(|(name, _)| *name == call.name);
                    let function = self.state.aggregate_functions().get(&call.name).filter(|_| !known);
                    function.and_then(|function| check::aggregate(function))
                }
            };
            if let Some(message) = refused {
                let (line, column) = (call.place.line as usize, call.place.column as usize);
                return Err(Error::user(format!("not supported: {message}")).at(source, line, column));
            }
        }
        Ok(())
    }

    pub(super) fn context(
        &self,
    ) -> Context<'_, impl Fn(&TableReference) -> datafusion::common::Result<Arc<dyn TableSource>>> {
        Context::new(&self.state, |name: &TableReference| {
            let source = self.source(name).map_err(|error| DataFusionError::External(Box::new(error)))?;
            Ok(Arc::new(source) as Arc<dyn TableSource>)
        })
    }

    /// The logical plan of a query, as written. Whatever is wrong with the query itself is found here; errors point
    /// into its text.
    pub fn logical(&self, query: &Query) -> Result<LogicalPlan> {
        shielded(|| self.parsed(query))
    }

    fn parsed(&self, query: &Query) -> Result<LogicalPlan> {
        let context = self.context();
        let mut ast = query.ast.clone();
        let calls = normalize(&mut ast, &query.source)?;
        self.check_calls(&calls, &query.source)?;
        let statement = ast::Statement::Query(ast);
        let plan = context.sql_to_rel().sql_statement_to_plan(statement);
        let plan = plan.map_err(|error| Error::from_datafusion(&error, &query.source))?;
        // What only shows later is found now, while the text is at hand.
        let start = query.ast.span().start;
        let checked = || -> Result<LogicalPlan> {
            // The columns are of the types that their rows have.
            let plan = coerced(plan, self.state.config_options())?;
            self.physical(&plan, Purpose::View, OnError::Fail)?;
            Ok(plan)
        };
        checked().map_err(|error| error.at(&query.source, start.line as usize, start.column as usize))
    }

    /// The logical plan of one query.
    pub fn logical_from_sql(&self, text: &str) -> Result<LogicalPlan> {
        self.logical(&parse_query(text)?)
    }

    /// All rows and columns of a table, a view, `<table>.late`, `<table>.rejected` or `<view>.errors`, to build on.
    pub fn table_scan(&self, name: &str) -> Result<LogicalPlanBuilder> {
        let reference = match name.rsplit_once('.') {
            Some((of, part)) if PARTS.contains(&part) && !self.relations.contains_key(name) => {
                TableReference::partial(of, part)
            }
            _ => TableReference::bare(name),
        };
        let source = self.source(&reference)?;
        Ok(LogicalPlanBuilder::scan(reference, Arc::new(source), None)?)
    }

    /// An expression over the columns of `schema`, with an alias if `AS` follows.
    pub fn parse_expr(&self, text: &str, schema: &DFSchema) -> Result<Expr> {
        let (scalar, alias) = parse_scalar(text)?;
        let expr = self.expr(&scalar, schema)?;
        Ok(match alias {
            Some(alias) => expr.alias(alias),
            None => expr,
        })
    }

    /// A parsed expression over the columns of `schema`.
    pub fn expr(&self, scalar: &Scalar, schema: &DFSchema) -> Result<Expr> {
        shielded(|| {
            let context = self.context();
            let mut ast = scalar.ast.clone();
            let calls = normalize(&mut ast, &scalar.source)?;
            self.check_calls(&calls, &scalar.source)?;
            let expr = context.sql_to_rel().sql_to_expr(ast, schema, &mut PlannerContext::new());
            expr.map_err(|error| Error::from_datafusion(&error, &scalar.source))
        })
    }

    /// The columns of a query that becomes a view: their names must differ. A column that is NULL where it fails may be so
    /// in `physical` alone.
    pub fn view_schema(&self, plan: &LogicalPlan, physical: &Plan) -> Result<SchemaRef> {
        let mut fields: Vec<Field> = Vec::new();
        for (field, found) in plan.schema().fields().iter().zip(physical.schema.fields()) {
            if fields.iter().any(|other| other.name() == field.name()) {
                let name = field.name();
                return Err(Error::user(format!("the view would have two columns '{name}'; rename one with AS")));
            }
            let nullable = field.is_nullable() || found.is_nullable();
            fields.push(Field::new(field.name(), field.data_type().clone(), nullable));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// The plan with columns of the types that their rows have.
    pub fn coerced(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        shielded(|| Ok(coerced(plan, self.state.config_options())?))
    }

    /// The optimised plan.
    pub fn optimized(&self, plan: &LogicalPlan, on_error: OnError) -> Result<LogicalPlan> {
        shielded(|| {
            check::depth(plan)?;
            Ok(optimize(Through::without(plan.clone())?, on_error, self.state.config_options(), self.most)?)
        })
    }

    /// The incremental plan. Refuses what `purpose` can't have.
    pub fn physical(&self, plan: &LogicalPlan, purpose: Purpose, on_error: OnError) -> Result<Plan> {
        shielded(|| lower::lower(&self.optimized(plan, on_error)?, purpose, on_error))
    }

    /// The optimised plan and the incremental one, as text.
    pub fn explain(&self, plan: &LogicalPlan, kind: ExplainKind, on_error: OnError) -> Result<String> {
        shielded(|| self.explained(plan, kind, on_error))
    }

    fn explained(&self, plan: &LogicalPlan, kind: ExplainKind, on_error: OnError) -> Result<String> {
        let optimized = self.optimized(plan, on_error)?;
        let logical = optimized.display_indent().to_string();
        let order_of = |name: &str| match self.relations.get(name) {
            Some(Entry::Table(table)) => table.reading_order.clone(),
            Some(Entry::View(_)) | None => None,
        };
        let physical = || -> Result<String> {
            Ok(explain::explain(&lower::lower(&optimized, Purpose::View, on_error)?, &order_of))
        };
        Ok(match kind {
            ExplainKind::Logical => logical,
            ExplainKind::Physical => physical()?,
            ExplainKind::Both => {
                let physical = physical()?;
                format!("logical plan\n{}\n\nincremental plan\n{physical}", logical.trim_end())
            }
        })
    }
}

/// Plans with stack enough for what is deep; a panic of a library or a function is an error of the statement.
fn shielded<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    let outcome = shield::ample(|| shield::caught(work));
    outcome.unwrap_or_else(|message| Err(Error::internal(format!("planning failed: {message}"))))
}

/// A table or view that a plan reads.
pub(crate) struct Scanned {
    pub name: String,
    pub id: u64,
    /// Whether it is a plain view, whose query stands in the plan.
    pub through: bool,
}

/// The tables and views that a plan reads.
pub(crate) fn scanned(plan: &LogicalPlan) -> Result<Vec<Scanned>> {
    let mut scanned = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(source) = scan.source.downcast_ref::<RelationSource>()
        {
            scanned.push(Scanned { name: source.relation.name().to_owned(), id: source.id, through: false });
        }
        scanned.extend(Through::of(node).map(|view| Scanned { name: view.name.clone(), id: view.id, through: true }));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(scanned)
}
