//! How the tables of a session are read.

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
