//! What users hold: sessions, queries, views, readers, sinks; and statements, each one transaction on the catalog.

mod attach;
mod dataframe;
mod ddl;
mod declare;
mod dml;
mod input;
mod install;
mod objects;
mod running;
mod script;
#[expect(clippy::module_inception, reason = "the session itself among what users hold")]
mod session;
mod settings;
mod show;
mod sinks;
mod statements;
mod subscription;
mod view;

pub use dataframe::{DataFrame, Grouped, Reader, StreamWriter, window};
pub use input::{Input, Pushed};
pub use objects::Object;
pub use script::Script;
pub use session::{Session, SessionBuilder};
pub use settings::RuntimeMode;
pub use sinks::{ForEach, Query, op_name};
pub use statements::{Outcome, TableStatus};
pub use subscription::Subscription;
pub use view::{Status, View};
