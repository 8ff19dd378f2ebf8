//! The options of a table that are the engine's own, not its connector's.

use std::time::Duration;

use headwater_connectors::Options;

use crate::error::{Error, Result};
use crate::sql::parse_duration;

/// How a table is stamped, as far as its options say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableOptions {
    /// `mode = 'stream'` or `'batch'`.
    pub stream: Option<bool>,
    /// `resolution = '1 s'`.
    pub resolution: Option<Duration>,
    /// `idle_timeout = '10 s'`.
    pub idle_timeout: Option<Duration>,
    /// `max_ahead = '1 hour'`.
    pub max_ahead: Option<Duration>,
    /// `cut = 'data'` or `'round'`.
    pub cut_by_data: Option<bool>,
    /// `time = 'clock'`, or `'session'`.
    pub by_clock: bool,
    /// `append_only = 'true'`: rows that are pushed never leave.
    pub append_only: Option<bool>,
}

/// Takes the engine's options out of a table's; the rest is the connector's.
pub(crate) fn split(options: Options) -> Result<(TableOptions, Options)> {
    let mut own = TableOptions::default();
    let mut rest = Options::default();
    for (name, value) in options.0 {
        let either = |yes: &str, no: &str| match value.to_ascii_lowercase() {
            v if v == yes => Ok(true),
            v if v == no => Ok(false),
            _ => Err(Error::user(format!("option '{name}' takes '{yes}' or '{no}', not '{value}'"))),
        };
        let length = || {
            let micros = parse_duration(&value).ok().and_then(|m| u64::try_from(m).ok());
            micros.map(Duration::from_micros).ok_or_else(|| {
                Error::user(format!("option '{name}' takes a length of time such as '10 s', not '{value}'"))
            })
        };
        match name.as_str() {
            "mode" => own.stream = Some(either("stream", "batch")?),
            "cut" => own.cut_by_data = Some(either("data", "round")?),
            "time" => own.by_clock = either("clock", "session")?,
            "append_only" => own.append_only = Some(either("true", "false")?),
            "resolution" => own.resolution = Some(length()?),
            "idle_timeout" | "scan.watermark.idle-timeout" => own.idle_timeout = Some(length()?),
            "max_ahead" => own.max_ahead = Some(length()?),
            _ => {
                rest.0.insert(name, value);
            }
        }
    }
    Ok((own, rest))
}
