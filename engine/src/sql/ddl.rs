//! Declarations: names, column types, modes and triggers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Location;
use headwater_connectors::OutputMode;

use super::functions::NoTables;
use super::statement::{Trigger, WatermarkClause};
use crate::error::{Error, Result};
use crate::logical::parse_duration;

/// What stands between the parentheses of `CREATE TABLE`.
#[derive(Default)]
pub(super) struct Declared {
    pub columns: Vec<Column>,
    pub watermark: Option<(WatermarkClause, Location)>,
    pub primary_key: Vec<(String, Location)>,
}

impl Declared {
    /// The columns that the other clauses name, and where.
    pub(super) fn named(&self) -> impl Iterator<Item = (&str, Location)> {
        let watermark = self.watermark.iter().map(|(watermark, place)| (watermark.column.as_str(), *place));
        watermark.chain(self.primary_key.iter().map(|(column, place)| (column.as_str(), *place)))
    }
}

/// A declared column.
pub(super) struct Column {
    pub name: String,
    pub data_type: ast::DataType,
    pub nullable: bool,
    pub place: Location,
}

/// The declared columns in Arrow's types; `None` if there are none.
pub(super) fn schema(declared: &Declared, source: &str) -> Result<Option<SchemaRef>> {
    if declared.columns.is_empty() {
        return Ok(None);
    }
    let functions = NoTables::shared();
    let planner = functions.sql_to_rel();
    let mut seen = BTreeSet::new();
    let mut fields = Vec::new();
    for column in &declared.columns {
        let (line, at) = (column.place.line as usize, column.place.column as usize);
        if !seen.insert(&column.name) {
            return Err(Error::user(format!("the column '{}' is declared twice", column.name)).at(source, line, at));
        }
        let definition = ast::ColumnDef {
            name: ast::Ident::with_quote('"', &column.name),
            data_type: column.data_type.clone(),
            options: vec![],
        };
        let schema = planner.build_schema(vec![definition]).map_err(|error| {
            let message = match &error {
                DataFusionError::NotImplemented(_) => format!("the type {} is not supported", column.data_type),
                _ => format!("the type {}: {}", column.data_type, Error::from(error).message()),
            };
            Error::user(message).at(source, line, at)
        })?;
        // Rows that a primary key names are still allowed to be NULL where a file has none.
        fields.push(Field::new(&column.name, schema.field(0).data_type().clone(), column.nullable));
    }
    Ok(Some(Arc::new(Schema::new(fields))))
}

/// An output mode by name.
pub fn output_mode(text: &str) -> Result<OutputMode> {
    match text.to_lowercase().as_str() {
        "append" => Ok(OutputMode::Append),
        "update" => Ok(OutputMode::Update),
        "complete" => Ok(OutputMode::Complete),
        "changelog" => Ok(OutputMode::Changelog),
        _ => Err(Error::user(format!(
            "there is no output mode '{text}'; there are 'append', 'update', 'complete' and 'changelog'"
        ))),
    }
}

/// A trigger by name: `continuous`, a longest wait such as `100 ms`, `interval 1 s`, `available-now`.
pub fn trigger(text: &str) -> Result<Trigger> {
    let lower = text.trim().to_lowercase();
    let length = |text: &str| -> Result<Duration> {
        match u64::try_from(parse_duration(text)?) {
            Ok(micros) if micros > 0 => Ok(Duration::from_micros(micros)),
            _ => Err(Error::user(format!("the trigger '{text}' must be longer than nothing"))),
        }
    };
    let every = lower.strip_prefix("interval").or_else(|| lower.strip_prefix("every"));
    match lower.replace('_', "-").as_str() {
        "continuous" => Ok(Trigger::Continuous),
        "available-now" | "availablenow" | "available now" | "once" => Ok(Trigger::AvailableNow),
        _ => match every {
            Some(rest) => length(rest).map(Trigger::Every),
            None => length(lower.strip_prefix("continuous").unwrap_or(&lower)).map(Trigger::Within).map_err(|_| {
                Error::user(format!(
                    "there is no trigger '{text}'; there are 'continuous', a longest wait such as '100 ms', \
                     'interval 1 s' and 'available-now'"
                ))
            }),
        },
    }
}
