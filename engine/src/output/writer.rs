//! Writing a query's output to a sink.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use headwater_connectors::{Emission, OutputMode, Sink};

use super::reader::{Event, Reader};
use crate::error::Result;

/// How often a writer looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(50);

/// How far a writer is, and whether it is to go on.
#[derive(Default)]
pub(crate) struct Writing {
    pub stop: AtomicBool,
    /// Whether it has returned.
    pub done: AtomicBool,
    /// Rows written.
    pub rows: AtomicU64,
}

/// Writes emissions until the query ends, or until it is to stop: then what is closed is written, and no more.
pub(crate) fn write(reader: &mut Reader, sink: &mut dyn Sink, writing: &Writing) -> Result<()> {
    loop {
        if writing.stop.load(Ordering::Acquire) {
            if let Some(emission) = reader.rest()? {
                put(sink, &emission, writing)?;
            }
            break;
        }
        match reader.next(LOOK)? {
            Event::Emission(emission) => put(sink, &emission, writing)?,
            Event::Idle => {}
            Event::End => break,
        }
    }
    Ok(sink.close()?)
}

/// An empty emission tells a sink nothing, except that a whole result is empty.
fn put(sink: &mut dyn Sink, emission: &Emission, writing: &Writing) -> Result<()> {
    if emission.ops.is_empty() && emission.mode != OutputMode::Complete {
        return Ok(());
    }
    sink.write(emission)?;
    sink.commit()?;
    writing.rows.fetch_add(emission.counts.iter().sum(), Ordering::Relaxed);
    Ok(())
}
