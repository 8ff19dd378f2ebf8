//! The operators by hand, without SQL: how many different users there were in each minute, exactly, on two workers.
//!
//! Rows arrive up to 3 s out of order. The stamper gives each its time and counts those that come more than 10 s late. State
//! of a minute is dropped once the watermark has passed its end; its count is final from then on.
//!
//! ```sh
//! cargo run --release -p headwater-examples --bin dataflow
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::mpsc::{Sender, channel};

use headwater_operators::accumulate::{Accumulators, Evaluated, accumulate};
use headwater_operators::distinct::distinct;
use headwater_operators::keyed::NoValue;
use headwater_operators::stamp::{Arrival, Changes, StampConfig, Stamper};
use headwater_operators::time::{Time, from_micros};
use headwater_operators::varint;
use headwater_operators::window::Windows;
use headwater_operators::{Keyed, Rows, UpdateStream, Updates};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::{Input, Probe};

const SECOND: i64 = 1_000_000;
const DELAY: u64 = 10 * SECOND as u64;
const ROUND: usize = 1_000;

/// A change of a minute's count: the minute's start (us since the epoch), the count, how many copies of that row.
type Change = (i64, i64, i64);

/// Counts rows: one number a group.
#[derive(Default)]
struct Counted(Vec<i64>);

impl Accumulators for Counted {
    type Input = NoValue;
    type Output = Vec<i64>;

    fn reserve(&mut self, groups: usize) {
        self.0.resize(groups, 0);
    }
    fn update(&mut self, groups: &[u32], _: &NoValue, _: &[u32], diffs: &[i64]) {
        groups.iter().zip(diffs).for_each(|(&group, diff)| self.0[group as usize] += diff);
    }
    fn evaluate(&mut self, groups: &[u32]) -> Evaluated<Vec<i64>> {
        groups.iter().map(|&group| self.0[group as usize]).collect::<Vec<_>>().into()
    }
    fn changed(old: &Vec<i64>, new: &Vec<i64>, changed: &mut Vec<bool>) {
        changed.extend(old.iter().zip(new).map(|(old, new)| old != new));
    }
    fn clear(&mut self, groups: &[u32]) {
        groups.iter().for_each(|&group| self.0[group as usize] = 0);
    }
    fn save(&self, group: u32, out: &mut Vec<u8>) {
        varint::put_signed(out, self.0[group as usize]);
    }
    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()> {
        self.0[group as usize] += varint::take_signed(bytes)?;
        Some(())
    }
    fn bytes(&self) -> usize {
        8 * self.0.capacity()
    }
}

/// The minute, in the first eight bytes of a key.
fn minute_of(key: &[u8]) -> i64 {
    key.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

/// The same records with only the minute as key.
fn by_minute(visits: UpdateStream<'_, Keyed<NoValue>>) -> UpdateStream<'_, Keyed<NoValue>> {
    visits.unary::<CapacityContainerBuilder<Updates<Keyed<NoValue>>>, _, _, _>(Pipeline, "minute", |_, _| {
        |input, output| {
            input.for_each(|time, batch| {
                let Updates { data, times, diffs } = std::mem::take(batch);
                let mut minutes = Rows::with_capacity(times.len(), 8 * times.len());
                data.keys.iter().for_each(|key| minutes.push(&key[..8]));
                let data = Keyed { buckets: data.buckets, ..Keyed::new(minutes, data.vals) };
                output.session(&time).give_container(&mut Updates { data, times, diffs });
            });
        }
    })
}

/// Visits as they arrive: users with their event times, the clock running on by a millisecond a visit.
fn visits(rows: usize) -> Vec<(u64, i64)> {
    let mut random = SmallRng::seed_from_u64(7);
    (0..rows as i64).map(|i| (random.random_range(0..20_000), i * 1_000 - random.random_range(0..3 * SECOND))).collect()
}

/// Keys of minute and user, each with the time from which its minute is final.
fn keyed(visits: &[(u64, i64)], minutes: Windows, resolution: u64) -> Keyed<NoValue> {
    let mut keys = Rows::with_capacity(visits.len(), 16 * visits.len());
    let mut buckets = Vec::with_capacity(visits.len());
    for (user, time) in visits {
        let minute = minutes.last_start(*time);
        keys.push_pair(&minute.to_be_bytes(), &user.to_be_bytes());
        buckets.push(from_micros(minutes.end(minute)) + DELAY + resolution);
    }
    Keyed { buckets, ..Keyed::new(keys, NoValue(visits.len())) }
}

fn run(visits: Vec<(u64, i64)>, minutes: Windows, changes: Sender<Change>) -> Result<(), String> {
    let guards = timely::execute(timely::Config::process(2), move |worker| {
        let changes = changes.clone();
        let (mut input, probe) = worker.dataflow::<Time, _, _>(|scope| {
            let (input, visits) = scope.new_input::<Updates<Keyed<NoValue>>>();
            let (users, _errors) = distinct(visits, "users of a minute");
            let (counts, _errors) = accumulate(by_minute(users), "count", Counted::default, false);
            let (probe, counts) = counts.probe();
            counts.unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "send", move |_, _| {
                move |input, _| {
                    input.for_each(|_, batch| {
                        for (index, diff) in batch.diffs.iter().enumerate() {
                            let change = (minute_of(batch.data.keys.get(index)), batch.data.vals[index], *diff);
                            // Nobody listens any more: then nobody misses it.
                            let _ = changes.send(change);
                        }
                    });
                }
            });
            (input, probe)
        });
        if worker.index() == 0 {
            let config = StampConfig::new(DELAY).by_round();
            let resolution = config.resolution;
            let mut stamper = Stamper::new(config);
            let split = stamper.add_split("visits", 0, None);
            for (round, rows) in visits.chunks(ROUND).enumerate() {
                let times: Vec<i64> = rows.iter().map(|(_, time)| *time).collect();
                let data = keyed(rows, minutes, resolution);
                let offset = (round * ROUND + rows.len()) as u64;
                let arrival = Arrival { data, event_times: &times, diffs: None, changes: Changes::Each, offset };
                stamper.push(split, arrival, 0);
                stamper.close_round();
                let stamped = stamper.drain();
                stamped.on_time.into_iter().for_each(|mut batch| input.send_batch(&mut batch));
                let frontier = stamper.frontier();
                input.advance_to(frontier);
                while probe.less_than(&frontier) {
                    worker.step();
                }
            }
            assert_eq!(stamper.counts().late, 0, "3 s of disorder are less than 10");
        }
    })?;
    guards.join().into_iter().collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let check = std::env::args().any(|argument| argument == "--check");
    let visits = visits(if check { 200_000 } else { 2_000_000 });
    let minutes = Windows::tumbling(60 * SECOND)?;

    let (sender, receiver) = channel();
    run(visits.clone(), minutes, sender)?;

    // What is left of a changelog when retracted rows are taken out of it.
    let mut rows: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    let mut changes = 0;
    for (minute, count, diff) in receiver {
        *rows.entry((minute, count)).or_default() += diff;
        changes += 1;
    }
    rows.retain(|_, copies| *copies != 0);
    let counts: BTreeMap<i64, i64> = rows.keys().copied().collect();

    let mut expected: BTreeMap<i64, BTreeSet<u64>> = BTreeMap::new();
    for (user, time) in &visits {
        expected.entry(minutes.last_start(*time)).or_default().insert(*user);
    }
    for (minute, count) in &counts {
        println!("minute {:>3}: {count:>6} users", minute / (60 * SECOND));
    }
    println!("{} visits, {changes} changes of {} minutes", visits.len(), counts.len());
    assert!(rows.values().all(|copies| *copies == 1), "one row a minute");
    assert_eq!(counts, expected.iter().map(|(minute, users)| (*minute, users.len() as i64)).collect());
    println!("equal to what a set of users for each minute gives");
    Ok(())
}
