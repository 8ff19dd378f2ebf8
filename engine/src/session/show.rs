//! What `SHOW` and `DESCRIBE` say, from the catalog.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::running::Body;
use super::session::Inner;
use super::statements::Outcome;
use crate::catalog::{Kind, Node};
use crate::error::{Error, Result};
use crate::sql::Show;

impl Inner {
    pub fn show(&self, show: &Show) -> Result<Outcome> {
        let rows = match show {
            Show::Tables => self.nodes(|node| node.kind == Kind::Table)?,
            Show::Views => self.nodes(|node| matches!(node.kind, Kind::View | Kind::MaterializedView))?,
            Show::Sinks => self.nodes(|node| node.kind == Kind::Sink)?,
            Show::Functions => text_table(&[("name", self.planner().functions())])?,
            Show::Create(name) => {
                let text = self.catalog.text(name).map(Outcome::Text);
                return text.ok_or_else(|| Error::user(format!("there is no table, view or sink '{name}'")));
            }
            Show::Columns(name) => {
                let plan = self.scan(name)?;
                let fields = plan.schema().fields().iter();
                let columns = fields.map(|field| (field.name().clone(), field.data_type().to_string()));
                let (names, types) = columns.unzip();
                text_table(&[("column", names), ("type", types)])?
            }
            Show::All => self.show_settings(None)?,
            Show::Setting(key) => self.show_settings(Some(key))?,
        };
        Ok(Outcome::Rows(rows))
    }

    fn nodes(&self, wanted: impl Fn(&Node) -> bool) -> Result<RecordBatch> {
        let (mut names, mut kinds, mut states) = (Vec::new(), Vec::new(), Vec::new());
        for (node, body) in self.catalog.named().into_iter().filter(|(node, _)| wanted(node)) {
            names.push(node.name.clone());
            let kind = match (&body, node.kind) {
                (Body::Table(run), _) => {
                    if run.declaration.is_static {
                        "batch"
                    } else {
                        "stream"
                    }
                }
                (_, Kind::MaterializedView) => "materialized",
                (_, kind) => kind.word(),
            };
            kinds.push(kind.to_owned());
            states.push(node.state().word().to_owned());
        }
        text_table(&[("name", names), ("kind", kinds), ("state", states)])
    }
}

pub(super) fn text_table(columns: &[(&str, Vec<String>)]) -> Result<RecordBatch> {
    let fields: Vec<_> = columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, false)).collect();
    let arrays = columns.iter().map(|(_, values)| Arc::new(StringArray::from(values.clone())) as ArrayRef).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}
