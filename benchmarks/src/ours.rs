//! Our side: the engine as a program would use it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
pub use headwater::Session;
use headwater::{Event, Op, OutputMode, Pushed, Subscription, Trigger, View};

use crate::case::{Failure, Params};

/// How long an answer may take before a side gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The values of a column of strings, whatever its encoding.
pub fn strings(column: &dyn Array) -> Result<StringArray, Failure> {
    let plain = arrow::compute::cast(column, &DataType::Utf8)?;
    Ok(plain.as_string::<i32>().clone())
}

/// The final answer of `query` over a Parquet file, its table being `visits`.
pub fn batch(workers: usize, path: &Path, query: &str) -> Result<Vec<RecordBatch>, Failure> {
    let session = Session::builder().workers(workers).build()?;
    let path = path.display();
    session.execute(&format!(
        "CREATE TABLE visits WITH (connector = 'filesystem', path = '{path}', format = 'parquet')"
    ))?;
    Ok(vec![session.sql(query)?.collect()?])
}

/// A session with the tables of `ddl`.
pub fn session(params: &Params, ddl: &str) -> Result<Session, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pinned = params.pinned && params.workers <= cores;
    let session = Session::builder().workers(params.workers).pin_workers(pinned).build()?;
    session.execute(ddl)?;
    Ok(session)
}

/// Waits until `ready` gives something, looking every `pause`; `what` says in the error what did not come.
pub fn until<T>(
    what: &str,
    pause: Duration,
    mut ready: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let begin = Instant::now();
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("{what} did not come in {PATIENCE:?}").into());
        }
        std::thread::sleep(pause);
    }
}

/// The rows of a view of whole numbers; NULL is 0.
pub fn numbers(view: &View) -> Result<Vec<Vec<i64>>, Failure> {
    let rows = view.snapshot()?;
    let columns = rows.columns().iter().map(|column| arrow::compute::cast(column, &DataType::Int64));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let columns: Vec<_> = columns.iter().map(|column| column.as_primitive::<Int64Type>().values()).collect();
    Ok((0..rows.num_rows()).map(|row| columns.iter().map(|column| column[row]).collect()).collect())
}

/// A feed into a table.
pub struct Feed {
    input: headwater::Input,
    schema: SchemaRef,
}

impl Feed {
    /// A feed into the table `name`.
    pub fn new(session: &Session, name: &str) -> Result<Self, Failure> {
        Ok(Feed { input: session.input(name)?, schema: session.table(name)?.schema() })
    }

    /// The rows with the very types of the table's columns.
    pub fn fit(&self, rows: RecordBatch) -> Result<RecordBatch, Failure> {
        let fields = self.schema.fields().iter().zip(rows.columns());
        let columns = fields.map(|(field, column)| arrow::compute::cast(column, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// Pushes rows that [`Feed::fit`].
    pub fn push(&mut self, rows: RecordBatch) -> Result<Pushed, Failure> {
        Ok(self.input.push(rows)?)
    }

    /// Ends the table.
    pub fn close(self) {
        self.input.close();
    }
}

/// A running query whose changes are followed.
pub struct Live {
    subscription: Subscription,
    closed: Option<i64>,
    diffs: Vec<i64>,
}

impl Live {
    /// Starts to follow the changes of `query`.
    pub fn follow(session: &Session, query: &str) -> Result<Self, Failure> {
        let stream = session.sql(query)?.write_stream();
        let subscription = stream.output_mode(OutputMode::Changelog).trigger(Trigger::Continuous).subscribe()?;
        Ok(Live { subscription, closed: Some(i64::MIN), diffs: Vec::new() })
    }

    /// Waits for the next emission and takes its changes; how many there were.
    fn receive(&mut self, mut take: impl FnMut(&RecordBatch, &[i64]) -> Result<(), Failure>) -> Result<usize, Failure> {
        match self.subscription.next(PATIENCE)? {
            Event::Emission(emission) => {
                let diffs = emission.ops.iter().zip(&emission.counts).map(|(op, count)| match op {
                    Op::Delete => -(*count as i64),
                    _ => *count as i64,
                });
                self.diffs.clear();
                self.diffs.extend(diffs);
                take(&emission.rows, &self.diffs)?;
                self.closed = emission.frontier;
                Ok(self.diffs.len())
            }
            Event::End => {
                self.closed = None;
                Ok(0)
            }
            Event::Idle => {
                let closed = self.subscription.frontier();
                Err(format!("no answer in {PATIENCE:?}: closed {closed:?}").into())
            }
        }
    }

    /// Waits for the next changes and takes them.
    pub fn changes(
        &mut self,
        mut take: impl FnMut(&RecordBatch, &[i64]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while self.closed.is_some() && self.receive(&mut take)? == 0 {}
        Ok(())
    }

    /// Takes all changes before `frontier` (all there are, for `None`) as rows and diffs; waits for them.
    pub fn wait(
        &mut self,
        frontier: Option<i64>,
        mut take: impl FnMut(&RecordBatch, &[i64]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while self.closed.is_some_and(|closed| frontier.is_none_or(|frontier| closed < frontier)) {
            self.receive(&mut take)?;
        }
        Ok(())
    }

    /// Pushes a round and takes its changes.
    pub fn round(
        &mut self,
        input: &mut Feed,
        rows: RecordBatch,
        take: impl FnMut(&RecordBatch, &[i64]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let pushed = input.push(rows)?;
        self.wait(pushed.frontier, take)
    }
}

/// A query that hydrates while others run.
pub struct Hydration<T> {
    done: Arc<AtomicBool>,
    thread: JoinHandle<Result<(f64, T), String>>,
}

impl<T: Send + 'static> Hydration<T> {
    /// Starts `query` in a thread, and takes its changes until those before `frontier` are there.
    pub fn start(
        session: &Session,
        query: &'static str,
        frontier: Option<i64>,
        mut taken: T,
        take: fn(&mut T, &RecordBatch, &[i64]),
    ) -> Self {
        let session = session.clone();
        let done = Arc::new(AtomicBool::new(false));
        let flag = done.clone();
        #[expect(clippy::disallowed_methods, reason = "the caller joins it and sees its end")]
        let thread = std::thread::spawn(move || {
            let begin = Instant::now();
            let mut run = || -> Result<f64, Failure> {
                let mut live = Live::follow(&session, query)?;
                live.wait(frontier, |rows, diffs| {
                    take(&mut taken, rows, diffs);
                    Ok(())
                })?;
                Ok(begin.elapsed().as_secs_f64())
            };
            let outcome = run().map_err(|e| e.to_string());
            flag.store(true, Ordering::SeqCst);
            outcome.map(|seconds| (seconds, taken))
        });
        Hydration { done, thread }
    }

    /// Whether it has hydrated, or failed.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    /// The seconds that it took, and what was taken.
    pub fn finish(self) -> Result<(f64, T), Failure> {
        Ok(self.thread.join().map_err(|_| "the hydration failed")??)
    }
}
