//! The settings of a session.

use std::time::Duration;

use arrow::array::RecordBatch;

use super::session::Inner;
use super::show::text_table;
use crate::error::{Error, Result};
use crate::logical::parse_duration;
use crate::plan::OnError;
use crate::sql::MAX_PLANNING_TIME;
use crate::worker::Load;

/// Whether tables are read once or as streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeMode {
    /// As each table declares: a table with a watermark is a stream, another one a batch.
    #[default]
    Declared,
    /// Every table of a connector once, as it is now: static, closed at a single time.
    Batch,
    /// Every table that has a watermark as a stream, also where it declares `mode = 'batch'`.
    Streaming,
}

impl RuntimeMode {
    fn name(self) -> &'static str {
        match self {
            RuntimeMode::Declared => "declared",
            RuntimeMode::Batch => "batch",
            RuntimeMode::Streaming => "streaming",
        }
    }
}

impl std::str::FromStr for RuntimeMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "declared" | "automatic" => Ok(RuntimeMode::Declared),
            "batch" => Ok(RuntimeMode::Batch),
            "stream" | "streaming" => Ok(RuntimeMode::Streaming),
            _ => Err(format!("there is no runtime mode '{text}'; there are 'declared', 'batch' and 'streaming'")),
        }
    }
}

/// What statements can set.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How tables that are declared from here on are read.
    pub mode: RuntimeMode,
    /// What queries do with rows that fail, unless they say.
    pub on_error: OnError,
    /// How much of a table may be on its way to operators before its source waits.
    pub max_in_flight: Load,
    /// How long a query may be planned.
    pub max_planning_time: Duration,
    /// How many bytes may wait for a subscription's reader.
    pub max_unread: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            mode: RuntimeMode::default(),
            on_error: OnError::default(),
            max_in_flight: Load { rows: 1 << 20, bytes: 1 << 28 },
            max_planning_time: MAX_PLANNING_TIME,
            max_unread: 1 << 30,
        }
    }
}

const RUNTIME_MODE: &str = "execution.runtime-mode";
const ON_ERROR: &str = "execution.on-error";
const MAX_IN_FLIGHT: &str = "max_in_flight";
const MAX_IN_FLIGHT_BYTES: &str = "max_in_flight_bytes";
const PLANNING_TIME: &str = "max_planning_time";
const MAX_UNREAD: &str = "max_unread";
const ALL: [&str; 6] = [RUNTIME_MODE, ON_ERROR, MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES, PLANNING_TIME, MAX_UNREAD];

/// The setting that a name means.
fn setting(key: &str) -> Result<&'static str> {
    match key {
        RUNTIME_MODE | "runtime-mode" | "runtime_mode" => Ok(RUNTIME_MODE),
        ON_ERROR | "on-error" | "on_error" => Ok(ON_ERROR),
        MAX_IN_FLIGHT | "max-in-flight" => Ok(MAX_IN_FLIGHT),
        MAX_IN_FLIGHT_BYTES | "max-in-flight-bytes" => Ok(MAX_IN_FLIGHT_BYTES),
        PLANNING_TIME | "max-planning-time" => Ok(PLANNING_TIME),
        MAX_UNREAD | "max-unread" => Ok(MAX_UNREAD),
        _ => {
            let known = ALL.map(|key| format!("'{key}'")).join(", ");
            Err(Error::user(format!("there is no setting '{key}'; there are {known}")))
        }
    }
}

impl Inner {
    /// Sets what a name means: a sentence that says what that does.
    pub fn set(&self, key: &str, value: &str) -> Result<String> {
        let number = |what: &str| match value.trim().parse::<usize>() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(Error::user(format!("'{key}' takes a number of {what} above 0, not '{value}'"))),
        };
        let mut settings = self.change_settings();
        Ok(match setting(key)? {
            RUNTIME_MODE => {
                settings.mode = value.parse().map_err(Error::user)?;
                format!("tables declared from here on are read as '{value}'")
            }
            ON_ERROR => {
                settings.on_error = value.parse()?;
                format!("queries from here on have on_error = '{value}' unless they say otherwise")
            }
            MAX_IN_FLIGHT => {
                settings.max_in_flight.rows = number("rows")?;
                self.fabric.context.max_in_flight.set(settings.max_in_flight);
                format!("a table's source waits while more than {value} of its rows are on their way")
            }
            MAX_IN_FLIGHT_BYTES => {
                settings.max_in_flight.bytes = number("bytes")?;
                self.fabric.context.max_in_flight.set(settings.max_in_flight);
                format!("a table's source waits while rows of more than {value} bytes are on their way")
            }
            PLANNING_TIME => {
                let micros = parse_duration(value)?;
                let most = u64::try_from(micros).ok().filter(|micros| *micros > 0);
                let most = most.ok_or_else(|| Error::user(format!("'{key}' takes a length of time above 0")))?;
                settings.max_planning_time = Duration::from_micros(most);
                drop(settings);
                self.planner_mut().most = Duration::from_micros(most);
                format!("a query from here on that takes longer than {value} to plan is refused")
            }
            _ => {
                settings.max_unread = number("bytes")?;
                format!("a subscription made from here on fails when more than {value} bytes wait for its reader")
            }
        })
    }

    /// The settings and their values: the one that a name means, or all.
    pub fn show_settings(&self, key: Option<&str>) -> Result<RecordBatch> {
        let keys = match key {
            Some(key) => vec![setting(key)?],
            None => ALL.to_vec(),
        };
        let settings = self.settings();
        let value = |key: &&str| match *key {
            RUNTIME_MODE => settings.mode.name().to_owned(),
            ON_ERROR => settings.on_error.name().to_owned(),
            MAX_IN_FLIGHT => settings.max_in_flight.rows.to_string(),
            MAX_IN_FLIGHT_BYTES => settings.max_in_flight.bytes.to_string(),
            PLANNING_TIME => format!("{:?}", settings.max_planning_time),
            _ => settings.max_unread.to_string(),
        };
        let values = keys.iter().map(value).collect();
        text_table(&[("setting", keys.iter().map(|key| (*key).to_owned()).collect()), ("value", values)])
    }
}
