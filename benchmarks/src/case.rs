//! What a case is: two sides that do the same work, and how their figures compare.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::workload::peak_rss_mib;

/// Why a side could not be measured.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How a side is run.
#[derive(Clone, Debug)]
pub struct Params {
    /// How much data: what it counts depends on the case.
    pub rows: usize,
    /// Everything random is a function of it.
    pub seed: u64,
    /// Worker threads of ours, and threads of a baseline that has some.
    pub workers: usize,
    /// Whether ours keep to a core each.
    pub pinned: bool,
    /// A folder that all sides of a run share, for input that is made once. It goes away with the run.
    pub folder: PathBuf,
    /// A command `headwater` of an earlier build, to compare with.
    pub before: Option<PathBuf>,
}

/// What one side measured, in a process of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// A figure for each of the case's [`Line`]s.
    pub values: Vec<f64>,
    /// `ok`, or how the answer differs from what it must be.
    pub answer: String,
    /// Peak resident memory before the answer was checked.
    pub peak_rss_mib: f64,
    /// More figures, shown below the table.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Measured {
    /// Figures whose answer is not checked yet; notes the peak of memory so far.
    pub fn new(values: Vec<f64>) -> Self {
        Measured { values, answer: "ok".to_string(), peak_rss_mib: peak_rss_mib(), notes: Vec::new() }
    }

    /// With what differs in the answer, if anything does.
    pub fn checked(self, differs: Option<String>) -> Self {
        Measured { answer: differs.unwrap_or_else(|| "ok".to_string()), ..self }
    }
}

/// Which way a figure is better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// As with rows a second.
    More,
    /// As with microseconds.
    Less,
}

/// One comparison of a case: a line of the table.
pub struct Line {
    /// Its name in the report.
    pub case: &'static str,
    /// Of the figures.
    pub unit: &'static str,
    /// Which way they are better.
    pub better: Better,
    /// The ratio that is required.
    pub reach: f64,
    /// The ratio that is hoped for.
    pub aim: f64,
}

/// One case.
pub struct Case {
    /// What to call it on the command line.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// What it is compared with.
    pub against: &'static str,
    /// The rows it runs with unless said.
    pub rows: usize,
    /// Its comparisons.
    pub lines: &'static [Line],
    /// Our side.
    pub ours: fn(&Params) -> Result<Measured, Failure>,
    /// The other side.
    pub baseline: fn(&Params) -> Result<Measured, Failure>,
}

/// The p50 and p99 of latencies in microseconds.
pub fn percentiles(mut micros: Vec<f64>) -> [f64; 2] {
    micros.sort_by(f64::total_cmp);
    [0.5, 0.99].map(|q| crate::workload::quantile(&micros, q))
}
