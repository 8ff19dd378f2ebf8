//! The one list of connectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::blackhole::Blackhole;
use crate::connector::Connector;
use crate::datagen::Datagen;
use crate::error::{Error, Result};
use crate::filesystem::Filesystem;
use crate::options::nearest;
use crate::print::Print;
use crate::stdin::Stdin;

/// Connectors by name.
#[derive(Clone, Default)]
pub struct Registry {
    connectors: BTreeMap<&'static str, Arc<dyn Connector>>,
}

impl Registry {
    /// The connectors of this crate: `filesystem`, `datagen`, `stdin`, `print` (also called `console`) and `blackhole`.
    pub fn standard() -> Self {
        let mut registry = Registry::default();
        registry.register(Arc::new(Filesystem::default()));
        registry.register(Arc::new(Datagen));
        registry.register(Arc::new(Stdin));
        registry.register(Arc::new(Print::named("print")));
        registry.register(Arc::new(Print::named("console")));
        registry.register(Arc::new(Blackhole::default()));
        registry
    }

    /// Adds a connector, replacing one of the same name.
    pub fn register(&mut self, connector: Arc<dyn Connector>) {
        self.connectors.insert(connector.name(), connector);
    }

    /// The connector called `name`; the error lists those there are.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Connector>> {
        self.connectors.get(name).ok_or_else(|| {
            let known: Vec<_> = self.connectors.keys().map(|k| format!("'{k}'")).collect();
            let meant = nearest(name, self.connectors.keys().copied());
            let meant = meant.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
            Error::User(format!("there is no connector '{name}'{meant} (there are {})", known.join(", ")))
        })
    }

    /// All connectors, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Connector>> {
        self.connectors.values()
    }
}
