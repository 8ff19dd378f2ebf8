//! `blackhole`: a sink that counts rows and forgets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::connector::{Connector, TableSpec};
use crate::error::Result;
use crate::options::OptionSpec;
use crate::sink::{Emission, OutputMode, Sink};

/// The connector `blackhole`.
#[derive(Clone, Debug, Default)]
pub struct Blackhole {
    rows: Arc<AtomicU64>,
}

impl Blackhole {
    /// Copies of rows that all sinks opened by this connector have taken.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

impl Connector for Blackhole {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    fn sink(&self, table: &TableSpec, _mode: OutputMode) -> Result<Box<dyn Sink>> {
        table.checked(self)?;
        Ok(Box::new(Counter { rows: self.rows.clone() }))
    }
}

struct Counter {
    rows: Arc<AtomicU64>,
}

impl Sink for Counter {
    fn write(&mut self, emission: &Emission) -> Result<()> {
        self.rows.fetch_add(emission.counts.iter().sum(), Ordering::Relaxed);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
