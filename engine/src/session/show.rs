//! What `SHOW` and `DESCRIBE` say, from the catalog.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use headwater_connectors::sql_name;

use super::running::Body;
use super::session::Inner;
use super::statements::{Outcome, TableStatus};
use crate::catalog::{Kind, Node};
use crate::error::Result;
use crate::sql::Show;

impl Inner {
    pub fn show(&self, show: &Show) -> Result<Outcome> {
        let rows = match show {
            Show::Tables => self.tables()?,
            Show::Views => self.nodes(|node| matches!(node.kind, Kind::View | Kind::MaterializedView))?,
            Show::Sinks => self.nodes(|node| node.kind == Kind::Sink)?,
            Show::Functions => text_table(&[("name", self.planner().functions())])?,
            Show::Create(name) => return self.create_text(name).map(Outcome::Text),
            Show::Columns(name) => {
                let plan = self.scan(name)?;
                let fields = plan.schema().fields().iter();
                let columns = fields.map(|field| (field.name().clone(), sql_name(field.data_type())));
                let (names, types) = columns.unzip();
                text_table(&[("column", names), ("type", types)])?
            }
            Show::All => self.show_settings(None)?,
            Show::Setting(key) => self.show_settings(Some(key))?,
        };
        Ok(Outcome::Rows(rows))
    }

    /// The tables, with how many rows they hold, or have read where they keep none, how many of those were late, how far
    /// behind and from where.
    fn tables(&self) -> Result<RecordBatch> {
        let (mut known, mut counts) = (Vec::new(), [Vec::new(), Vec::new()]);
        let mut lateness = Vec::new();
        for (node, body) in self.catalog.named() {
            let Body::Table(run) = &body else { continue };
            let status = TableStatus::of(run);
            let [rows, late] = &mut counts;
            rows.push(run.held().unwrap_or_else(|| i64::try_from(status.counts.rows).unwrap_or(i64::MAX)));
            late.push(i64::try_from(status.counts.late).unwrap_or(i64::MAX));
            lateness.push(status.lateness());
            known.push((node, body));
        }
        let [rows, late] = counts.map(|counts| Arc::new(Int64Array::from(counts)) as ArrayRef);
        let lateness = Arc::new(StringArray::from(lateness)) as ArrayRef;
        let more = [("rows", rows), ("late", late), ("lateness", lateness)];
        let of = states(&known)?;
        let mut fields = of.schema().fields().to_vec();
        let mut arrays = of.columns().to_vec();
        for (name, array) in more {
            fields.push(Arc::new(Field::new(name, array.data_type().clone(), false)));
            arrays.push(array);
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
    }

    fn nodes(&self, wanted: impl Fn(&Node) -> bool) -> Result<RecordBatch> {
        states(&self.catalog.named().into_iter().filter(|(node, _)| wanted(node)).collect::<Vec<_>>())
    }
}

/// What nodes are, and where in their lives.
fn states(nodes: &[(Arc<Node>, Body)]) -> Result<RecordBatch> {
    let kind = |(node, body): &(Arc<Node>, Body)| match (body, node.kind) {
        (Body::Table(run), _) if run.declaration.is_static => "batch".to_owned(),
        (Body::Table(_), _) => "stream".to_owned(),
        (_, Kind::MaterializedView) => "materialized".to_owned(),
        (_, kind) => kind.word().to_owned(),
    };
    text_table(&[
        ("name", nodes.iter().map(|(node, _)| node.name.clone()).collect()),
        ("kind", nodes.iter().map(kind).collect()),
        ("state", nodes.iter().map(|(node, _)| node.state().word().to_owned()).collect()),
    ])
}

pub(super) fn text_table(columns: &[(&str, Vec<String>)]) -> Result<RecordBatch> {
    let fields: Vec<_> = columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, false)).collect();
    let arrays = columns.iter().map(|(_, values)| Arc::new(StringArray::from(values.clone())) as ArrayRef).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}
