//! DataFusion's functions and types for its SQL planner, apart from any table.

use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result, TableReference};
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::functions::datetime;
use datafusion::logical_expr::planner::{
    ContextProvider, ExprPlanner, PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
    TypePlanner,
};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion::prelude::SessionConfig;
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::TableFactor;

use super::dialect::TimesInterval;
use super::types::Types;
use super::{advice, guarded, shared_columns};
use crate::logical::{date_bin, date_trunc, window_udf};

/// A state with DataFusion's functions and ours; its optimizer and catalog are not used.
pub(super) fn state() -> SessionState {
    let mut config = SessionConfig::new();
    let options = config.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.collect_spans = true;
    options.sql_parser.parse_float_as_decimal = true;
    // A scalar subquery becomes a join, which is maintained; DataFusion would run it once, before the query.
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    options.optimizer.skip_failed_rules = false;
    let mut state = SessionStateBuilder::new_with_default_features().with_config(config).build();
    register(&mut state, window_udf());
    register(&mut state, date_trunc(datetime::date_trunc()));
    register(&mut state, date_bin(datetime::date_bin()));
    for name in guarded::MAKES_LARGE {
        if let Some(function) = state.scalar_functions().get(*name).cloned() {
            register(&mut state, guarded::guarded(function));
        }
    }
    state
}

/// Adds a scalar function, replacing one of the same name.
pub(super) fn register(state: &mut SessionState, udf: Arc<ScalarUDF>) {
    use datafusion::execution::registry::FunctionRegistry;
    // Only a function factory can refuse, and there is none.
    let _ = state.register_udf(udf);
}

/// What the SQL planner asks for, over a source of tables.
pub(super) struct Context<'a, T> {
    pub state: &'a SessionState,
    pub tables: T,
    exprs: Vec<Arc<dyn ExprPlanner>>,
    relations: Vec<Arc<dyn RelationPlanner>>,
    types: Arc<dyn TypePlanner>,
}

impl<'a, T> Context<'a, T>
where
    T: Fn(&TableReference) -> Result<Arc<dyn TableSource>>,
{
    pub(super) fn new(state: &'a SessionState, tables: T) -> Self {
        let mut exprs: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(TimesInterval)];
        exprs.extend_from_slice(state.expr_planners());
        Context { state, tables, exprs, relations: vec![Arc::new(Relations)], types: Arc::new(Types) }
    }

    pub(super) fn sql_to_rel(&self) -> SqlToRel<'_, Self> {
        let options = &self.state.config_options().sql_parser;
        let options = ParserOptions::new()
            .with_collect_spans(true)
            .with_map_string_types_to_utf8view(false)
            .with_parse_float_as_decimal(options.parse_float_as_decimal)
            .with_support_varchar_with_length(true);
        SqlToRel::new_with_options(self, options)
    }
}

impl<T> ContextProvider for Context<'_, T>
where
    T: Fn(&TableReference) -> Result<Arc<dyn TableSource>>,
{
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        (self.tables)(&name)
    }

    fn get_table_function_source(
        &self,
        name: &str,
        _args: Vec<datafusion::prelude::Expr>,
    ) -> Result<Arc<dyn TableSource>> {
        let hint = advice::table_function(name);
        Err(DataFusionError::NotImplemented(format!("the table function {name}(){hint}")))
    }

    fn create_cte_work_table(&self, name: &str, _schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Err(DataFusionError::NotImplemented(format!(
            "recursive queries (WITH RECURSIVE {name}); WITH without recursion is supported"
        )))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.exprs
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relations
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(self.types.clone())
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn get_variable_field(&self, _variable_names: &[String]) -> Option<FieldRef> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// Refuses what DataFusion's planner reads over in a table's name, and plans the joins that it gets wrong.
#[derive(Debug)]
struct Relations;

impl RelationPlanner for Relations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let refuse = |what: &str| -> Result<Box<PlannedRelation>> { Err(DataFusionError::NotImplemented(what.into())) };
        if let TableFactor::Table { version, sample, with_hints, partitions, with_ordinality, .. } = &relation {
            if version.is_some() {
                Err(DataFusionError::Plan(advice::SYSTEM_TIME.to_owned()))?;
            }
            if sample.is_some() {
                refuse("TABLESAMPLE: a maintained view can't be a random choice")?;
            }
            if !with_hints.is_empty() || !partitions.is_empty() || *with_ordinality {
                refuse("hints, partitions and ordinality after a table's name")?;
            }
        }
        shared_columns::plan(relation, context)
    }
}

/// Functions and types for texts that may name no table.
pub(super) struct NoTables;

type NoSource = fn(&TableReference) -> Result<Arc<dyn TableSource>>;

impl NoTables {
    pub(super) fn shared() -> &'static Context<'static, NoSource> {
        static STATE: OnceLock<SessionState> = OnceLock::new();
        static CONTEXT: OnceLock<Context<'static, NoSource>> = OnceLock::new();
        CONTEXT.get_or_init(|| {
            let none: NoSource = |name| Err(DataFusionError::Plan(format!("table '{name}' not found")));
            Context::new(STATE.get_or_init(state), none)
        })
    }
}
