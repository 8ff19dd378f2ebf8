//! The stamper against its model, and what is promised of it.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::model::Model;
use super::*;
use crate::time::{STREAM_START, from_micros, to_micros, watermark};

/// What happens to a table.
#[derive(Clone, Debug)]
enum Event {
    /// A split, perhaps announced to begin at a time.
    Add(Option<i64>),
    /// Changes of a split, pushed at once: rows by number, with their event times.
    Push(u32, Vec<Vec<(u64, i64)>>),
    Round,
    Pass(i64),
    End(u32),
}

fn config(rng: &mut SmallRng) -> StampConfig {
    StampConfig {
        delay: [0, 5, 20, 1_000][rng.random_range(0..4)],
        resolution: [1, 3, 10, 64][rng.random_range(0..4)],
        max_ahead: [None, Some(300)][rng.random_range(0..2)],
        idle_timeout: [None, Some(Duration::from_micros(40))][rng.random_range(0..2)],
        cut: [CutBy::Data, CutBy::Round][rng.random_range(0..2)],
        record: true,
    }
}

fn events(rng: &mut SmallRng, steps: usize) -> Vec<Event> {
    let (mut splits, mut number, mut at) = (1, 0, -200);
    let begins = |rng: &mut SmallRng, at: i64| rng.random_bool(0.5).then(|| at + rng.random_range(-60..60));
    let mut events = vec![Event::Add(begins(rng, at))];
    for _ in 0..steps {
        events.push(match rng.random_range(0..20) {
            0 if splits < 4 => {
                splits += 1;
                Event::Add(begins(rng, at))
            }
            1 if rng.random_bool(0.3) => Event::End(rng.random_range(0..splits)),
            2..5 => Event::Round,
            5 => Event::Pass(rng.random_range(0..60)),
            _ => {
                let changes = (0..rng.random_range(1..6)).map(|_| {
                    let rows = if rng.random_bool(0.7) { 1 } else { rng.random_range(1..5) };
                    at += rng.random_range(0..4) * rng.random_range(0..4);
                    let mut row = || {
                        number += 1;
                        let disorder = if rng.random_bool(0.6) { 0 } else { 1 << rng.random_range(0..7) };
                        let time = if rng.random_bool(0.03) { NO_TIME } else { at - disorder };
                        (number, if rng.random_bool(0.01) { at + 2_000 } else { time })
                    };
                    (0..rows).map(|_| row()).collect::<Vec<_>>()
                });
                let changes = changes.collect();
                Event::Push(rng.random_range(0..splits), changes)
            }
        });
    }
    events
}

/// A stamper with what it gave out.
struct Run {
    stamper: Stamper<Vec<u64>>,
    now: i64,
    stamps: BTreeMap<u64, (Time, bool)>,
    rejected: Vec<u64>,
    frontier: Time,
}

impl Run {
    fn new(stamper: Stamper<Vec<u64>>) -> Self {
        Run { stamper, now: 0, stamps: BTreeMap::new(), rejected: Vec::new(), frontier: 0 }
    }

    fn push(&mut self, split: u32, changes: &[Vec<(u64, i64)>]) {
        let rows: Vec<_> = changes.iter().flatten().copied().collect();
        let ends: Vec<u32> = changes
            .iter()
            .scan(0, |end, change| {
                *end += change.len() as u32;
                Some(*end)
            })
            .collect();
        let event_times: Vec<i64> = rows.iter().map(|row| row.1).collect();
        let changes = match (changes.len(), rows.len()) {
            (1, _) => Changes::One,
            (changes, rows) if changes == rows => Changes::Each,
            _ => Changes::Ends(&ends),
        };
        let data = rows.iter().map(|row| row.0).collect();
        let arrival = Arrival { data, event_times: &event_times, diffs: None, changes, offset: rows[rows.len() - 1].0 };
        self.stamper.push(split, arrival, self.now);
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Add(begins) => {
                let name = format!("split {}", self.stamper.splits());
                self.stamper.add_split(&name, self.now, *begins);
            }
            Event::Push(split, changes) => self.push(*split, changes),
            Event::Round => self.stamper.close_round(),
            Event::Pass(time) => {
                self.now += time;
                self.stamper.tick(self.now);
            }
            Event::End(split) => self.stamper.end_split(*split),
        }
    }

    fn drain(&mut self) {
        let stamped = self.stamper.drain();
        for (batches, late) in [(stamped.on_time, false), (stamped.late, true)] {
            for batch in batches {
                for (row, time) in batch.data.into_iter().zip(batch.times) {
                    assert!(time >= self.frontier, "row {row} before the frontier");
                    assert_eq!(self.stamps.insert(row, (time, late)), None, "row {row} twice");
                }
            }
        }
        self.rejected.extend(stamped.rejected.iter().flat_map(|rejected| &rejected.data));
        if let Some(frontier) = stamped.frontier {
            assert!(frontier >= self.frontier, "the frontier stepped back");
            self.frontier = frontier;
        }
    }
}

fn rows(events: &[Event]) -> BTreeMap<u64, i64> {
    let changes =
        events.iter().filter_map(|event| if let Event::Push(_, changes) = event { Some(changes) } else { None });
    changes.flatten().flatten().copied().collect()
}

#[test]
fn stamps_as_the_model() {
    for seed in 0..400 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let config = config(&mut rng);
        let (mut run, mut model) = (Run::new(Stamper::new(config.clone())), Model::new(config.clone()));
        let events = events(&mut rng, 60);
        for event in &events {
            run.event(event);
            match event {
                Event::Add(begins) => model.add_split(run.now, *begins),
                Event::Push(split, changes) => {
                    changes.iter().for_each(|change| model.change(*split as usize, change, run.now));
                }
                Event::Round if config.cut == CutBy::Round => {
                    (0..model.splits.len()).for_each(|split| model.cut(split))
                }
                Event::Round => {}
                Event::Pass(_) => model.tick(run.now),
                Event::End(split) => {
                    model.cut(*split as usize);
                    model.splits[*split as usize].resting = true;
                }
            }
            if rng.random_bool(0.5) {
                run.drain();
                assert_eq!(run.stamps, model.stamps, "seed {seed}");
                assert_eq!(run.frontier, model.frontier().1, "seed {seed}");
                model.shown = run.frontier;
            }
        }
        run.stamper.close();
        run.drain();
        (0..model.splits.len()).for_each(|split| model.cut(split));
        assert_eq!(run.stamps, model.stamps, "seed {seed}");
        run.rejected.sort();
        model.rejected.sort();
        assert_eq!(run.rejected, model.rejected, "seed {seed}");
        // Each row came out once, and none that is not late is beyond what is final at its stamp.
        let rows = rows(&events);
        assert_eq!(run.stamps.len() + run.rejected.len(), rows.len());
        for (row, (stamp, late)) in &run.stamps {
            let event_time = from_micros(rows[row]);
            assert!(*late || event_time >= watermark(*stamp, config.delay, config.resolution), "seed {seed} row {row}");
        }
        let counts = run.stamper.counts();
        assert_eq!(counts.rows, rows.len() as u64);
        assert_eq!(counts.rejected, run.rejected.len() as u64);
        assert_eq!(counts.late, run.stamps.values().filter(|(_, late)| *late).count() as u64);
        assert_eq!(run.stamper.largest(), run.stamps.values().map(|(stamp, _)| *stamp).max());
        assert_eq!(run.stamper.waiting(), 0);
    }
}

#[test]
fn a_change_has_one_stamp() {
    for seed in 0..100 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut run = Run::new(Stamper::new(config(&mut rng)));
        let events = events(&mut rng, 60);
        events.iter().for_each(|event| run.event(event));
        run.stamper.close();
        run.drain();
        for event in &events {
            let Event::Push(_, changes) = event else { continue };
            for change in changes {
                let stamps = change.iter().filter_map(|row| run.stamps.get(&row.0)).map(|(stamp, _)| *stamp);
                assert!(stamps.clone().max() == stamps.min(), "seed {seed}");
            }
        }
    }
}

/// Cut by data, no batching and no moment of a round moves a stamp.
#[test]
fn two_batchings_by_data_give_one_history() {
    for seed in 0..100 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let config = StampConfig { idle_timeout: None, max_ahead: None, cut: CutBy::Data, ..config(&mut rng) };
        let mut changes: Vec<Vec<Vec<(u64, i64)>>> = vec![Vec::new(); 3];
        for event in events(&mut rng, 80) {
            if let Event::Push(split, pushed) = event {
                changes[split as usize % 3].extend(pushed);
            }
        }
        let mut histories = Vec::new();
        for _ in 0..2 {
            let mut run = Run::new(Stamper::new(config.clone()));
            (0..3).for_each(|_| run.event(&Event::Add(None)));
            let mut left: Vec<_> = changes.iter().map(|changes| &changes[..]).collect();
            while left.iter().any(|changes| !changes.is_empty()) {
                let split = rng.random_range(0..3);
                let (now, rest) = left[split].split_at(rng.random_range(0..=left[split].len().min(9)));
                if !now.is_empty() {
                    run.push(split as u32, now);
                }
                left[split] = rest;
                if rng.random_bool(0.2) {
                    run.event(&Event::Round);
                    run.drain();
                }
            }
            run.stamper.close();
            run.drain();
            histories.push(run.stamps);
        }
        assert_eq!(histories[0], histories[1], "seed {seed}");
    }
}

/// Whether a row is late does not depend on where rounds cut, as long as fewer than `resolution` close at one time.
#[test]
fn rounds_make_no_row_late() {
    for seed in 0..100 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let config = StampConfig { resolution: 64, idle_timeout: None, max_ahead: None, ..config(&mut rng) };
        let events: Vec<_> = events(&mut rng, 50);
        let late = |cut: CutBy| {
            let mut run = Run::new(Stamper::new(StampConfig { cut, ..config.clone() }));
            run.event(&Event::Add(None));
            for event in &events {
                match event {
                    Event::Push(_, changes) => run.push(0, changes),
                    Event::Round => run.event(event),
                    _ => {}
                }
            }
            run.stamper.close();
            run.drain();
            run.stamps.into_iter().filter(|(_, (_, late))| *late).map(|(row, _)| row).collect::<Vec<_>>()
        };
        assert_eq!(late(CutBy::Data), late(CutBy::Round), "seed {seed}");
    }
}

#[test]
fn a_replay_stamps_alike_in_other_batches() {
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let config = config(&mut rng);
        let mut run = Run::new(Stamper::new(config.clone()));
        let events = events(&mut rng, 60);
        let mut cuts = Cuts::default();
        for event in &events {
            run.event(event);
            if rng.random_bool(0.2) {
                run.drain();
                cuts.append(run.stamper.take_cuts());
            }
        }
        run.stamper.close();
        run.drain();
        cuts.append(run.stamper.take_cuts());
        let bytes = bincode::serialize(&cuts).unwrap();

        let mut again = Run::new(Stamper::replay(config, bincode::deserialize(&bytes).unwrap()));
        again.now = run.now + 1_000_000;
        let splits = events.iter().filter(|event| matches!(event, Event::Add(_))).count();
        let mut changes: Vec<Vec<Vec<(u64, i64)>>> = vec![Vec::new(); splits];
        for event in &events {
            if let Event::Push(split, pushed) = event {
                changes[*split as usize].extend(pushed.iter().cloned());
            }
        }
        let mut left: Vec<_> = changes.iter().map(|changes| &changes[..]).collect();
        while left.iter().any(|changes| !changes.is_empty()) {
            let split = rng.random_range(0..splits);
            let (now, rest) = left[split].split_at(rng.random_range(0..=left[split].len().min(9)));
            if !now.is_empty() {
                let number = again.stamper.add_split_again(split);
                again.push(number, now);
            }
            left[split] = rest;
            match rng.random_range(0..6) {
                0 => again.event(&Event::Round),
                1 => again.event(&Event::Pass(100)),
                2 => again.drain(),
                _ => {}
            }
        }
        again.stamper.close();
        again.drain();
        assert_eq!(again.stamps, run.stamps, "seed {seed}");
        again.rejected.sort();
        run.rejected.sort();
        assert_eq!(again.rejected, run.rejected, "seed {seed}");
    }
}

/// What is left of `events` from `from` on, for each split.
fn changes_of(events: &[Event], splits: usize) -> Vec<Vec<Vec<(u64, i64)>>> {
    let mut changes = vec![Vec::new(); splits];
    for event in events {
        if let Event::Push(split, pushed) = event {
            changes[*split as usize].extend(pushed.iter().cloned());
        }
    }
    changes
}

fn save<T: serde::Serialize + serde::de::DeserializeOwned>(state: &T) -> T {
    bincode::deserialize(&bincode::serialize(state).unwrap()).unwrap()
}

/// From a saved state stamping goes on as if nothing had been: with the same events, and by the cuts with others.
#[test]
fn a_table_goes_on_from_its_state() {
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let config = config(&mut rng);
        let events = events(&mut rng, 60);
        let (before, after) = events.split_at(rng.random_range(1..events.len()));
        let mut run = Run::new(Stamper::new(config.clone()));
        before.iter().for_each(|event| run.event(event));
        run.drain();
        let mut cuts = Cuts::default();
        if rng.random_bool(0.5) {
            cuts.append(run.stamper.take_cuts());
        }
        let state = save(&run.stamper.state().unwrap());
        let (now, stamps, rejected) = (run.now, run.stamps.clone(), run.rejected.clone());
        let resumed = |cuts: Cuts| {
            let stamper = Stamper::resume(config.clone(), state.clone(), cuts, now).unwrap();
            Run {
                stamper,
                stamps: stamps.clone(),
                rejected: rejected.clone(),
                ..Run::new(Stamper::new(config.clone()))
            }
        };
        let mut again = resumed(Cuts::default());
        (again.now, again.frontier) = (run.now, run.frontier);
        let mut by_cuts = resumed(Cuts::default());
        for event in after {
            run.event(event);
            // Who has been silent since when is not saved.
            if config.idle_timeout.is_none() {
                again.event(event);
            }
            if rng.random_bool(0.2) {
                run.drain();
                again.drain();
            }
        }
        run.stamper.close();
        run.drain();
        if config.idle_timeout.is_none() {
            again.stamper.close();
            again.drain();
            assert_eq!((&again.stamps, &again.rejected), (&run.stamps, &run.rejected), "seed {seed}");
            assert_eq!(again.stamper.frontier(), run.stamper.frontier(), "seed {seed}");
            assert_eq!(again.stamper.counts(), run.stamper.counts(), "seed {seed}");
        }

        cuts.append(run.stamper.take_cuts());
        cuts.truncate(&state);
        by_cuts.stamper = resumed(save(&cuts)).stamper;
        by_cuts.now = run.now + 1_000_000;
        let splits = run.stamper.splits();
        let changes = changes_of(after, splits);
        let mut left: Vec<_> = changes.iter().map(|changes| &changes[..]).collect();
        while left.iter().any(|changes| !changes.is_empty()) {
            let split = rng.random_range(0..splits);
            let (now, rest) = left[split].split_at(rng.random_range(0..=left[split].len().min(9)));
            if !now.is_empty() {
                by_cuts.push(split as u32, now);
            }
            left[split] = rest;
            if rng.random_bool(0.3) {
                by_cuts.event(&Event::Round);
                by_cuts.drain();
            }
        }
        by_cuts.stamper.close();
        by_cuts.drain();
        assert_eq!(by_cuts.stamps, run.stamps, "seed {seed}");
    }
}

/// The logs of several servers over one time, each in order: none has a late row, as long as the one furthest behind is
/// read next.
#[test]
fn splits_found_together_begin_together() {
    for seed in 0..200 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let config = StampConfig {
            delay: [0, 5, 60][rng.random_range(0..3)],
            max_ahead: None,
            // Who waits for its turn to begin is not idle.
            idle_timeout: Some(Duration::from_micros(50)),
            ..config(&mut rng)
        };
        let mut number = 0;
        let mut files: Vec<Vec<(u64, i64)>> = (0..rng.random_range(1..6))
            .map(|_| {
                let mut at = rng.random_range(0..400);
                let rows = rng.random_range(1..80);
                let row = |_| {
                    number += 1;
                    at += rng.random_range(0..12);
                    (number, at)
                };
                (0..rows).map(row).collect()
            })
            .collect();
        let mut run = Run::new(Stamper::new(StampConfig { idle_timeout: None, ..config.clone() }));
        let mut waiting = Run::new(Stamper::new(config));
        for file in &mut files {
            for run in [&mut run, &mut waiting] {
                run.event(&Event::Add(Some(file[0].1)));
            }
            file.reverse();
        }
        let all: usize = files.iter().map(Vec::len).sum();
        // Nothing is read for long: all still hold the frontier at the first of them.
        waiting.event(&Event::Pass(1_000));
        waiting.drain();
        assert_eq!(to_micros(waiting.frontier), files.iter().map(|file| file[file.len() - 1].1).min().unwrap());
        while let Some(behind) =
            (0..files.len()).filter(|file| !files[*file].is_empty()).min_by_key(|file| files[*file].last().unwrap().1)
        {
            let file = &mut files[behind];
            let rows = file.split_off(file.len() - rng.random_range(1..=file.len().min(30)));
            run.push(behind as u32, &each(&rows.into_iter().rev().collect::<Vec<_>>()));
            if file.is_empty() {
                run.event(&Event::End(behind as u32));
            }
            if rng.random_bool(0.5) {
                run.event(&Event::Round);
                run.drain();
            }
        }
        run.stamper.close();
        run.drain();
        assert_eq!(run.stamps.len(), all);
        assert!(run.stamps.values().all(|(_, late)| !late), "seed {seed}");
    }
}

#[test]
fn many_splits_cost_no_more_each() {
    // It would take minutes if a step looked at all of them.
    let config =
        StampConfig { idle_timeout: Some(Duration::from_secs(1)), record: true, ..StampConfig::new(10).by_round() };
    let mut run = Run::new(Stamper::new(config));
    let splits = 40_000;
    for split in 0..splits {
        run.event(&Event::Add(Some(i64::from(split))));
    }
    let mut cuts = Cuts::default();
    for split in 0..splits {
        run.push(split, &each(&[(u64::from(split), i64::from(split))]));
        run.event(&Event::Round);
        run.event(&Event::End(split));
        run.event(&Event::Pass(1));
        run.drain();
        cuts.append(run.stamper.take_cuts());
        assert_eq!(to_micros(run.frontier), i64::from(split) + 1);
    }
    assert_eq!((run.stamps.len(), cuts.splits().len()), (splits as usize, splits as usize));
    assert!(run.stamps.values().all(|(_, late)| !late));
}

impl Stamper<Vec<u64>> {
    fn add_split_again(&mut self, split: usize) -> u32 {
        let known = self.splits();
        let number = self.add_split(&format!("split {split}"), 0, None);
        assert_eq!((number as usize, self.splits()), (split, known));
        number
    }
}

fn table(config: StampConfig) -> Run {
    let mut run = Run::new(Stamper::new(config));
    run.event(&Event::Add(None));
    run
}

fn each(rows: &[(u64, i64)]) -> Vec<Vec<(u64, i64)>> {
    rows.iter().map(|row| vec![*row]).collect()
}

fn stamps(run: &Run) -> Vec<(u64, i64, bool)> {
    run.stamps.iter().map(|(row, (stamp, late))| (*row, to_micros(*stamp), *late)).collect()
}

#[test]
fn a_slow_split_holds_back_but_is_not_late() {
    let mut run = table(StampConfig { resolution: 1, ..StampConfig::new(10).by_round() });
    run.event(&Event::Add(None));
    run.push(0, &each(&[(1, 1_000), (2, 2_000)]));
    run.push(1, &each(&[(3, 100)]));
    run.event(&Event::Round);
    run.drain();
    assert_eq!(to_micros(run.frontier), 101);
    run.push(1, &each(&[(4, 150)]));
    run.event(&Event::Round);
    run.drain();
    assert_eq!(stamps(&run), [(1, 1_000, false), (2, 2_000, false), (3, 100, false), (4, 150, false)]);
    assert_eq!(to_micros(run.frontier), 151);
}

#[test]
fn an_idle_split_holds_nothing_back_and_is_raised_when_it_returns() {
    let idle_timeout = Some(Duration::from_micros(50));
    let mut run = table(StampConfig { resolution: 1, idle_timeout, ..StampConfig::new(10).by_round() });
    run.event(&Event::Add(None));
    run.push(1, &each(&[(1, 100)]));
    run.event(&Event::Pass(40));
    run.push(0, &each(&[(2, 1_000)]));
    run.event(&Event::Round);
    run.drain();
    assert_eq!(to_micros(run.frontier), 101);
    run.event(&Event::Pass(20));
    run.drain();
    assert_eq!(to_micros(run.frontier), 1_001);
    // By the table's frontier one is late, the other is in time; both take effect past what is closed.
    run.push(1, &each(&[(3, 500), (4, 995)]));
    run.event(&Event::Round);
    run.drain();
    assert_eq!(stamps(&run)[2..], [(3, 1_001, true), (4, 1_001, false)]);
    // When all are idle the frontier rests just past the largest stamp.
    run.event(&Event::Pass(100));
    run.drain();
    assert_eq!(to_micros(run.frontier), 1_002);
}

#[test]
fn a_wide_change_makes_its_own_oldest_rows_late() {
    let mut run = table(StampConfig { resolution: 5, ..StampConfig::new(10) });
    run.push(0, &[vec![(1, 100), (2, 86), (3, 85), (4, 84), (5, 0)]]);
    run.stamper.close();
    run.drain();
    let late: Vec<_> = stamps(&run).into_iter().map(|(row, stamp, late)| (row, stamp == 100 && late)).collect();
    assert_eq!(late, [(1, false), (2, false), (3, false), (4, true), (5, true)]);
}

#[test]
fn a_row_far_ahead_of_the_clock_moves_nothing() {
    let mut run = table(StampConfig { max_ahead: Some(100), resolution: 1, ..StampConfig::new(10).by_round() });
    run.now = 1_000;
    run.push(0, &each(&[(1, 1_000), (2, 1_101), (3, 1_100), (4, NO_TIME), (5, 1_099)]));
    run.event(&Event::Round);
    run.drain();
    assert_eq!(run.rejected, [2, 4]);
    assert_eq!(stamps(&run), [(1, 1_000, false), (3, 1_100, false), (5, 1_100, false)]);
    let reason = Reason::Ahead { event_time: 3_000_000, now: Some(1_000_000) };
    assert!(reason.to_string().contains("2 s ahead"));
}

#[test]
fn cells_are_aligned_also_before_the_epoch() {
    let mut run = table(StampConfig { resolution: 10, ..StampConfig::new(100) });
    run.push(0, &each(&[(1, -21), (2, -20), (3, -11), (4, -10), (5, -1), (6, 0), (7, 9), (8, 10)]));
    run.drain();
    let expected = [(1, -21), (2, -11), (3, -11), (4, -1), (5, -1), (6, 9), (7, 9)];
    assert_eq!(stamps(&run), expected.map(|(row, stamp)| (row, stamp, false)));
    assert_eq!((to_micros(run.frontier), run.stamper.waiting()), (10, 1));
}

#[test]
fn a_table_ends_when_it_is_closed_and_not_before() {
    let mut run = table(StampConfig::new(0));
    run.push(0, &each(&[(1, 5)]));
    run.event(&Event::End(0));
    let stamped = run.stamper.drain();
    assert_eq!((stamped.on_time.len(), stamped.frontier.map(to_micros)), (1, Some(6)));
    // A file found later begins where the table is.
    run.event(&Event::Add(None));
    run.push(1, &each(&[(2, 5)]));
    run.stamper.close();
    let stamped = run.stamper.drain();
    assert_eq!((&stamped.on_time[0].times[..], stamped.frontier), (&[from_micros(6)][..], None));
    assert!(stamped.late.is_empty());
    assert_eq!(to_micros(run.stamper.frontier()), 7);
}

#[test]
fn small_pushes_come_out_as_few_batches() {
    let mut run = table(StampConfig::new(10).by_round());
    (0..10_000).for_each(|row| run.push(0, &each(&[(row, row as i64)])));
    run.event(&Event::Round);
    let stamped = run.stamper.drain();
    assert!(stamped.on_time.len() < 5);
    assert_eq!(stamped.on_time.iter().flat_map(|batch| &batch.data).count(), 10_000);
}

#[test]
fn a_table_without_event_time_follows() {
    let session = SessionTime::default();
    let mut follower = Follower::new(Follow::Session(session.clone()), true);
    let split = follower.add_split("dimension");
    let stamps = |stamped: Stamped<Vec<u64>>| -> Vec<(u64, Time)> {
        stamped.on_time.into_iter().flat_map(|batch| batch.data.into_iter().zip(batch.times)).collect()
    };
    follower.push(split, vec![1, 2], vec![1, 1], 2);
    follower.close_round();
    let mut given = stamps(follower.drain());
    session.raise(500);
    follower.push(split, vec![3], vec![1], 3);
    follower.close_round();
    follower.push(split, vec![4], vec![-1], 4);
    follower.close_round();
    given.extend(stamps(follower.drain()));
    assert_eq!(given, [(1, STREAM_START), (2, STREAM_START), (3, 500), (4, 501)]);
    assert_eq!(follower.frontier(), 502);
    session.raise(9_000);
    assert_eq!(follower.frontier(), 9_000);
    assert_eq!((follower.largest(), follower.counts().rows), (Some(501), 4));

    // From its state and what was recorded since.
    let state = save(&follower.state().unwrap());
    let cuts = follower.take_cuts();
    follower.push(split, vec![5], vec![1], 5);
    follower.close_round();
    let mut later = Follower::resume(Follow::Session(session.clone()), false, state, follower.take_cuts());
    later.push(split, vec![5], vec![1], 5);
    assert_eq!(stamps(later.drain()), stamps(follower.drain()));

    // Read again, in other batches, while the session is elsewhere.
    let mut again = Follower::replay(Follow::Session(session), true, cuts);
    let split = again.add_split("dimension");
    assert_eq!(again.frontier(), STREAM_START);
    again.push(split, vec![1], vec![1], 1);
    again.push(split, vec![2, 3, 4, 5], vec![1; 4], 5);
    again.close_round();
    assert_eq!(stamps(again.drain()), [(1, STREAM_START), (2, STREAM_START), (3, 500), (4, 501), (5, 9_000)]);
    again.close();
    assert_eq!(again.drain().frontier, None);
}

#[test]
fn a_table_can_go_by_the_clock() {
    let clock = crate::clock::ManualClock::new(-5);
    let mut follower = Follower::<Vec<u64>>::new(Follow::Clock(std::sync::Arc::new(clock.clone())), false);
    let split = follower.add_split("log");
    follower.push(split, vec![1], vec![1], 1);
    follower.close_round();
    clock.set(100);
    follower.push(split, vec![2], vec![1], 2);
    follower.close_round();
    let times: Vec<_> = follower.drain().on_time.iter().map(|batch| to_micros(batch.times[0])).collect();
    assert_eq!(times, [-5, 100]);
}

/// Not a test of speed, but it would show a loss of the fast path: prints rows a second.
#[test]
fn stamps_many_rows() {
    let mut rng = SmallRng::seed_from_u64(1);
    let (batch, batches) = (40_000, 50);
    let mut stamper = Stamper::<crate::keyed::NoValue>::new(StampConfig::new(10_000_000).by_round());
    let split = stamper.add_split("feed", 0, None);
    // 10,000 rows a second, out of order by up to 3 s.
    let times: Vec<i64> = (0..batch * batches).map(|row| row * 100 - rng.random_range(0..3_000_000)).collect();
    let start = std::time::Instant::now();
    let mut rows = 0;
    for event_times in times.chunks(batch as usize) {
        let data = crate::keyed::NoValue(event_times.len());
        stamper.push(split, Arrival { data, event_times, diffs: None, changes: Changes::Each, offset: 0 }, 0);
        stamper.close_round();
        rows += stamper.drain().on_time.iter().map(Updates::len).sum::<usize>();
    }
    println!("{:.0} M rows/s", rows as f64 / start.elapsed().as_secs_f64() / 1e6);
    assert_eq!((rows as u64, stamper.counts().late), (times.len() as u64, 0));
}
