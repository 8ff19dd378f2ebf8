//! `stdin`: CSV or JSON lines from standard input, as they come.

use std::io::{ErrorKind, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::connector::{Connector, TableSpec, Wanted};
use crate::error::{Error, Result};
use crate::format::kind::Format;
use crate::format::record::{Bad, Stand, line_ends, rejected, rejection};
use crate::format::text::{TextDecoder, TextReading, text_options};
use crate::format::{BATCH_ROWS, infer};
use crate::options::{Checked, OptionSpec};
use crate::source::{Changes, Guarantee, Offsets, Poll, Progress, Source, SourceBatch};
use crate::spawn::spawn;

/// The connector `stdin`.
#[derive(Clone, Copy, Debug)]
pub struct Stdin;

const OPTIONS: &[OptionSpec] = text_options!();

/// There is one standard input: it is read by one table, whose columns may have been judged before by its beginning.
static INPUT: Mutex<Input> = Mutex::new(Input::Untouched);

enum Input {
    Untouched,
    Looked(Pump),
    Taken,
}

impl Input {
    fn lock() -> MutexGuard<'static, Input> {
        INPUT.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&mut self) -> Result<Pump> {
        match std::mem::replace(self, Input::Taken) {
            Input::Untouched => Pump::start(std::io::stdin()),
            Input::Looked(pump) => Ok(pump),
            Input::Taken => Err(Error::User(
                "standard input is read by another table already; it can be read once only".to_string(),
            )),
        }
    }
}

impl Connector for Stdin {
    fn name(&self) -> &'static str {
        "stdin"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn schema(&self, table: &TableSpec) -> Result<SchemaRef> {
        let (format, reading) = config(&table.checked(self)?)?;
        if let Some(schema) = &table.schema {
            reading.decoder(format, &Wanted::all(schema.clone()), NAME)?;
            return Ok(schema.clone());
        }
        let mut input = Input::lock();
        let mut pump = input.take()?;
        let schema = pump.infer(format, &reading);
        *input = Input::Looked(pump);
        schema
    }

    fn is_stream(&self, _table: &TableSpec) -> bool {
        true
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Once
    }

    fn source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        let (format, reading) = config(&table.checked(self)?)?;
        let decoder = reading.decoder(format, &table.wanted()?, NAME)?;
        let pump = Input::lock().take()?;
        Ok(Box::new(Lines::new(pump, decoder, reading.tolerant)))
    }
}

const NAME: &str = "standard input";

fn config(options: &Checked<'_>) -> Result<(Format, TextReading)> {
    let format = match options.choice("format", &["csv", "json"])? {
        Some(0) => Format::Csv,
        Some(_) => Format::Json,
        None => {
            return Err(Error::User(format!("{} needs the option 'format': 'csv' or 'json'", options.subject())));
        }
    };
    Ok((format, TextReading::of(options, false)?))
}

/// A thread that reads, so that waiting for input has an end.
struct Pump {
    blocks: Receiver<std::io::Result<Vec<u8>>>,
    /// Text received and not decoded yet.
    text: Vec<u8>,
    ended: bool,
    bytes: u64,
}

impl Pump {
    fn start(mut input: impl Read + Send + 'static) -> Result<Pump> {
        // A few blocks ahead; a reader that lags slows the writer.
        let (send, blocks) = bounded(4);
        let read = move || {
            let mut buffer = vec![0; 256 << 10];
            loop {
                let block = match input.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(length) => Ok(buffer[..length].to_vec()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = block.is_err();
                if send.send(block).is_err() || failed {
                    return;
                }
            }
        };
        // It ends with the input: a read of standard input can't be given up.
        spawn("stdin", read)?;
        Ok(Pump { blocks, text: Vec::new(), ended: false, bytes: 0 })
    }

    /// Receives a block, waiting until `until`; whether there was one.
    fn receive(&mut self, until: Instant) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        match self.blocks.recv_deadline(until) {
            Ok(Ok(block)) => {
                self.bytes += block.len() as u64;
                self.text.extend_from_slice(&block);
                Ok(true)
            }
            Ok(Err(error)) => Err(Error::io("read", NAME, &error)),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => {
                self.ended = true;
                Ok(false)
            }
        }
    }

    /// The columns, judged by what comes at first: it waits for a row, and then a moment for more.
    fn infer(&mut self, format: Format, reading: &TextReading) -> Result<SchemaRef> {
        let enough = if format == Format::Csv && reading.dialect.header { 2 } else { 1 };
        while !self.ended && line_ends(&self.text) < enough {
            self.receive(Instant::now() + Duration::from_secs(1))?;
        }
        let until = Instant::now() + Duration::from_millis(100);
        while self.text.len() < 4 << 20 && self.receive(until)? {}
        let guesses = reading.guess(format, &self.text, self.ended, reading.infer_rows, NAME)?.unwrap_or_default();
        if guesses.columns.is_empty() {
            return Err(guesses.no_columns(NAME, NAME));
        }
        Ok(std::sync::Arc::new(infer::schema(&guesses.columns)))
    }
}

struct Lines {
    pump: Pump,
    decoder: TextDecoder,
    tolerant: bool,
    announced: bool,
    closed: bool,
    /// Bytes of the pump's text that are done with.
    done: usize,
    /// Whether the rest of the text has no complete record.
    dry: bool,
    records: u64,
    rows: u64,
    lines: u64,
}

impl Lines {
    fn new(pump: Pump, decoder: TextDecoder, tolerant: bool) -> Lines {
        Lines {
            pump,
            decoder,
            tolerant,
            announced: false,
            closed: false,
            done: 0,
            dry: false,
            records: 0,
            rows: 0,
            lines: 0,
        }
    }

    /// The complete records that are there.
    fn decode(&mut self) -> Result<Option<SourceBatch>> {
        loop {
            let text = &self.pump.text[self.done..];
            let Some(head) = self.decoder.head(text, self.pump.ended)? else {
                self.dry = true;
                return Ok(None);
            };
            self.lines += line_ends(&text[..head]) as u64;
            self.done += head;
            let text = &text[head..];
            let decoded = self.decoder.records(text, self.pump.ended, BATCH_ROWS)?;
            let line = self.lines;
            let stand = |bad: &Bad| Stand { source: NAME, unit: "line", number: line + bad.lines as u64 + 1 };
            // Before going on, so that the next poll fails again.
            if let Some(bad) = decoded.bad.first().filter(|_| !self.tolerant) {
                return Err(rejection(stand(bad), bad));
            }
            self.lines += line_ends(&text[..decoded.consumed]) as u64;
            self.done += decoded.consumed;
            if decoded.records == 0 {
                if decoded.consumed > 0 {
                    continue;
                }
                self.dry = true;
                self.pump.text.drain(..self.done);
                self.done = 0;
                return Ok(None);
            }
            let rejected = decoded.bad.iter().map(|bad| rejected(self.records, stand(bad), bad)).collect();
            self.records += decoded.records as u64;
            self.rows += decoded.rows.num_rows() as u64;
            return Ok(Some(SourceBatch {
                split: 0,
                rows: decoded.rows,
                diffs: None,
                changes: Changes::Each,
                offset: self.records,
                offsets: Offsets::Dense,
                rejected,
            }));
        }
    }
}

impl Source for Lines {
    fn poll(&mut self, wait: Duration) -> Result<Poll> {
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(Poll::Split { split: 0, name: "stdin".to_string(), begins: None });
        }
        let until = Instant::now() + wait;
        loop {
            if !self.dry
                && let Some(batch) = self.decode()?
            {
                return Ok(Poll::Batch(batch));
            }
            if self.pump.ended {
                return Ok(match std::mem::replace(&mut self.closed, true) {
                    false => Poll::SplitEnd(0),
                    true => Poll::End,
                });
            }
            if self.pump.receive(until)? {
                // Whatever else is there already makes a larger batch.
                while self.pump.text.len() < 4 << 20 && self.pump.receive(Instant::now())? {}
            } else if !self.pump.ended {
                return Ok(Poll::Idle);
            }
            self.dry = false;
        }
    }

    fn resume(&mut self, positions: &[(String, u64)]) -> Result<()> {
        match positions.iter().any(|(_, position)| *position > 0) {
            true => Err(Error::User(format!("{NAME} can't be read again from a saved position"))),
            false => Ok(()),
        }
    }

    fn progress(&self) -> Progress {
        Progress { rows: self.rows, bytes: self.pump.bytes, total_bytes: None }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::options::Options;

    fn reading(options: &[(&str, &str)]) -> TextReading {
        let options: Options = options.iter().copied().collect();
        TextReading::of(&options.check("stdin", OPTIONS).expect("known"), false).expect("a reading")
    }

    #[test]
    fn columns_are_inferred_and_nothing_is_lost() {
        let reading = reading(&[("csv.null-literal", "NA"), ("infer-rows", "1000")]);
        let text: String = (0..50_000).map(|n| format!("{n},x{n}\n")).collect();
        let text = format!("n,s\n{text}NA,last\nbroken,x\n7,no line end");
        let mut pump = Pump::start(Cursor::new(text)).expect("a pump");
        let schema = pump.infer(Format::Csv, &reading).expect("columns");
        assert_eq!(schema.field(0).data_type(), &arrow::datatypes::DataType::Int64);
        let decoder = reading.decoder(Format::Csv, &Wanted::all(schema), NAME).expect("a decoder");
        let mut source = Lines::new(pump, decoder, true);
        let (mut rows, mut rejected) = (0, Vec::new());
        loop {
            match source.poll(Duration::from_secs(1)).expect("a poll") {
                Poll::Batch(batch) => {
                    rows += batch.rows.num_rows();
                    rejected.extend(batch.rejected);
                }
                Poll::End => break,
                _ => {}
            }
        }
        assert_eq!(rows, 50_002);
        assert_eq!(rejected.len(), 1);
        assert_eq!((rejected[0].place.as_str(), rejected[0].offset), ("standard input line 50003", 50_002));
    }

    #[test]
    fn a_slow_writer_is_waited_for() {
        struct Slow(Vec<&'static [u8]>);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                std::thread::sleep(Duration::from_millis(30));
                if self.0.is_empty() {
                    return Ok(0);
                }
                let block = self.0.remove(0);
                buffer[..block.len()].copy_from_slice(block);
                Ok(block.len())
            }
        }
        let reading = reading(&[]);
        let fields = vec![arrow::datatypes::Field::new("n", arrow::datatypes::DataType::Int64, true)];
        let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(fields));
        let pump = Pump::start(Slow(vec![b"{\"n\"", b":1}\n{\"n\":2", b"}\n"])).expect("a pump");
        let mut source =
            Lines::new(pump, reading.decoder(Format::Json, &Wanted::all(schema), NAME).expect("a decoder"), false);
        let mut seen = Vec::new();
        loop {
            match source.poll(Duration::from_millis(5)).expect("a poll") {
                Poll::Batch(batch) => seen.push(batch.rows.num_rows()),
                Poll::End => break,
                _ => {}
            }
        }
        assert_eq!(seen, [1, 1]);
    }
}
