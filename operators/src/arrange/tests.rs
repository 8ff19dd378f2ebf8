use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use differential_dataflow::input::InputSession;
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::iterate::Variable;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use timely::dataflow::ProbeHandle;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::{Input, InspectCore, Probe};
use timely::order::Product;

use super::{Arrangement, ReadError, arrange, updates};
use crate::chunk::{RowBatcher, RowBuilder, RowChunker, RowSpine};
use crate::join::tests::pack;
use crate::join::{join, semi};
use crate::keyed::Keyed;
use crate::rows::Rows;
use crate::testing::{Change, changes};
use crate::time::Time;
use crate::updates::Updates;

type Row = (Vec<u8>, Vec<u8>);

fn accumulated(changes: &[Change<Row>], at: Time) -> BTreeMap<Row, i64> {
    let mut sums = BTreeMap::new();
    changes.iter().filter(|(_, t, _)| *t <= at).for_each(|(row, _, d)| *sums.entry(row.clone()).or_default() += d);
    sums.retain(|_, d| *d != 0);
    sums
}

fn read(arrangement: &mut Arrangement, at: Time) -> Result<BTreeMap<Row, i64>, ReadError> {
    let mut contents = arrangement.contents(at)?;
    let mut rows = BTreeMap::new();
    while let Some(content) = contents.next(7) {
        for i in 0..content.diffs.len() {
            let row = (content.keys.get(i).to_vec(), content.vals.get(i).to_vec());
            assert_eq!(rows.insert(row, content.diffs[i]), None, "a row comes once");
        }
    }
    Ok(rows)
}

type Seen = Rc<RefCell<Vec<Change<Row>>>>;

fn random_changes(seed: u64, times: Time) -> Vec<Change<Row>> {
    changes(seed, 150, times, false, |rng| {
        (vec![rng.random_range(0..9u8)], vec![rng.random_range(0..3u8); rng.random_range(0..3)])
    })
}

#[test]
fn a_late_view_sees_what_is_there_and_then_the_changes() {
    for seed in 0..60 {
        let times = [3, 30, 300][seed as usize % 3];
        let all = random_changes(seed, times);
        timely::execute_directly(move |worker| {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut input, mut handle, probe) = worker.dataflow::<Time, _, _>(|scope| {
                let (input, stream) = scope.new_input::<Updates<Keyed<Rows>>>();
                let arranged = arrange(stream, "rows");
                let (probe, _) = arranged.stream.clone().probe();
                (input, Arrangement::new(&arranged), probe)
            });
            let mut late: Vec<(Time, [Seen; 2], Seen, _)> = Vec::new();
            let mut frontier = 0;
            let mut rest = all.clone();
            while frontier <= times {
                frontier += rng.random_range(1..=times.div_ceil(6));
                let open: Vec<_> = rest.extract_if(.., |(_, t, _)| *t < frontier || rng.random_bool(0.2)).collect();
                for part in open.chunks(20) {
                    input.send_batch(&mut pack(part.iter().map(|((k, v), t, d)| (&k[..], &v[..], *t, *d))));
                }
                input.advance_to(frontier);
                worker.step_while(|| probe.less_than(&frontier));
                assert_eq!(handle.upper(), Some(frontier));
                assert_eq!(read(&mut handle, frontier), Err(ReadError::Open(frontier)));
                let since = handle.since().unwrap();
                for at in [since, frontier - 1, rng.random_range(since..frontier)] {
                    assert_eq!(read(&mut handle, at).unwrap(), accumulated(&all, at), "at {at}");
                }
                if since > 0 {
                    assert_eq!(read(&mut handle, since - 1), Err(ReadError::Compacted(since)));
                }
                if rng.random_bool(0.5) {
                    let as_of = rng.random_range(since..frontier);
                    let (seen, joined) = (<[Seen; 2]>::default(), Seen::default());
                    let (see, pairs) = (seen.clone(), joined.clone());
                    let done = worker.dataflow::<Time, _, _>(|scope| {
                        let arranged = handle.import_as_of(scope, "late", as_of).unwrap();
                        let done = ProbeHandle::new();
                        // Every row has its key: two ways to the same rows.
                        let had = semi(arranged.clone(), arranged.clone(), "had");
                        for (stream, see) in [updates(&arranged, "updates"), had].into_iter().zip(see) {
                            stream
                                .inspect_container(move |event| {
                                    if let Ok((held, batch)) = event {
                                        assert!(*held >= as_of && batch.times.iter().all(|t| t >= held));
                                        let row =
                                            |i| (batch.data.keys.get(i).to_vec(), batch.data.vals.get(i).to_vec());
                                        let rows = (0..batch.len()).map(|i| (row(i), batch.times[i], batch.diffs[i]));
                                        see.borrow_mut().extend(rows);
                                    }
                                })
                                .probe_with(&done);
                        }
                        join(arranged.clone(), arranged, "itself")
                            .inspect_container(move |event| {
                                if let Ok((held, batch)) = event {
                                    assert!(*held >= as_of && batch.times.iter().all(|t| t >= held));
                                    let pair = |i| [batch.data.lefts.get(i), &[255], batch.data.rights.get(i)].concat();
                                    let row = |i| (batch.data.keys.get(i).to_vec(), pair(i));
                                    let rows = (0..batch.times.len()).map(|i| (row(i), batch.times[i], batch.diffs[i]));
                                    pairs.borrow_mut().extend(rows);
                                }
                            })
                            .probe_with(&done);
                        done
                    });
                    late.push((as_of, seen, joined, done));
                }
                if rng.random_bool(0.4) {
                    handle.allow_compaction(rng.random_range(since..frontier));
                }
            }
            input.close();
            worker.step_while(|| !probe.done() || late.iter().any(|(.., done)| !done.done()));
            assert_eq!(handle.upper(), None);
            for (as_of, seen, joined, _) in &late {
                let some = (0..6).map(|_| rng.random_range(*as_of..frontier));
                for at in some.chain([*as_of, frontier]) {
                    let rows = accumulated(&all, at);
                    for seen in seen {
                        assert_eq!(accumulated(&seen.borrow(), at), rows, "as of {as_of}, at {at}");
                    }
                    let mut pairs = BTreeMap::new();
                    for ((k, l), n) in &rows {
                        for ((_, r), m) in rows.iter().filter(|((key, _), _)| key == k) {
                            *pairs.entry((k.clone(), [l, &[255][..], r].concat())).or_default() += n * m;
                        }
                    }
                    pairs.retain(|_, n| *n != 0);
                    assert_eq!(accumulated(&joined.borrow(), at), pairs, "as of {as_of}, at {at}");
                }
            }
        });
    }
}

#[test]
fn state_goes_with_the_rows() {
    timely::execute_directly(|worker| {
        let (mut input, mut handle, probe) = worker.dataflow::<Time, _, _>(|scope| {
            let (input, stream) = scope.new_input::<Updates<Keyed<Rows>>>();
            let arranged = arrange(stream, "rows");
            let (probe, _) = arranged.stream.clone().probe();
            (input, Arrangement::new(&arranged), probe)
        });
        for time in 0..200u64 {
            // Each row is there for ten times.
            let row = |time: u64| (0..100u64).map(move |i| (time * 100 + i).to_be_bytes());
            let now: Vec<_> = row(time).collect();
            input.send_batch(&mut pack(now.iter().map(|r| (&r[..], &b"x"[..], time, 1))));
            if time >= 10 {
                let old: Vec<_> = row(time - 10).collect();
                input.send_batch(&mut pack(old.iter().map(|r| (&r[..], &b"x"[..], time, -1))));
            }
            input.advance_to(time + 1);
            worker.step_while(|| probe.less_than(&(time + 1)));
            handle.allow_compaction(time);
        }
        for _ in 0..1000 {
            worker.step();
        }
        assert!(handle.rows() < 5000, "{} rows of 39,000 updates", handle.rows());
        assert!(handle.batches() < 12, "{} batches", handle.batches());
        assert_eq!(read(&mut handle, 199).unwrap().len(), 1000);
    });
}

#[test]
fn many_rows_are_sealed_in_steps() {
    timely::execute_directly(|worker| {
        let (mut input, mut handle, probe) = worker.dataflow::<Time, _, _>(|scope| {
            let (input, stream) = scope.new_input::<Updates<Keyed<Rows>>>();
            let arranged = arrange(stream, "rows");
            let (probe, _) = arranged.stream.clone().probe();
            (input, Arrangement::new(&arranged), probe)
        });
        // One key has 100,000 rows, the others one each; every value comes twice, and every tenth goes again.
        let key = |i: u32| if i.is_multiple_of(2) { b"same".to_vec() } else { (i % 200_000).to_be_bytes().to_vec() };
        for part in 0..8u32 {
            let rows: Vec<_> =
                (part * 50_000..(part + 1) * 50_000).map(|i| (key(i), (i % 200_000).to_be_bytes(), i)).collect();
            input.send_batch(&mut pack(rows.iter().map(|(k, v, i)| {
                let diff = if i % 10 == 0 && *i >= 200_000 { -1 } else { 1 };
                (&k[..], &v[..], u64::from(part % 2), diff)
            })));
        }
        input.close();
        let mut steps = 0;
        worker.step_while(|| {
            steps += 1;
            !probe.done()
        });
        assert!(steps > 3, "{steps} steps");
        assert_eq!(handle.since(), Some(0));
        let rows = read(&mut handle, 1).unwrap();
        assert_eq!(rows.len(), 180_000);
        assert!(rows.values().all(|n| *n == 2));
    });
}

/// Reachable pairs, by differential's own operators over row chunks: the edges' shared arrangement enters the loop.
#[test]
fn recursion_works_on_row_chunks() {
    for seed in 0..6 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let edges: Vec<Change<Row>> =
            changes(seed, 25, 6, false, |_| (vec![rng.random_range(0..8u8)], vec![rng.random_range(0..8u8)]));
        let all = edges.clone();
        let seen: Vec<Change<Row>> = timely::execute_directly(move |worker| {
            let seen = Seen::default();
            let see = seen.clone();
            let mut session = InputSession::<Time, Row, i64>::new();
            let (mut input, probe) = worker.dataflow::<Time, _, _>(|scope| {
                let (input, stream) = scope.new_input::<Updates<Keyed<Rows>>>();
                let edges = arrange(stream, "edges");
                let pairs = session.to_collection(scope);
                let reach = scope.iterative::<u64, _, _>(|inner| {
                    type Inner = Product<Time, u64>;
                    let edges = edges.enter(inner);
                    let start = pairs.enter(inner);
                    let (variable, reach) = Variable::new(inner, Product::new(0, 1));
                    // By its end, so that it joins with the edges' start.
                    let by_end = reach.map(|(from, to): Row| (to, from));
                    let arranged =
                        arrange_core::<_, _, RowChunker<Inner>, RowBatcher<Inner>, RowBuilder<Inner>, RowSpine<Inner>>(
                            by_end.inner,
                            Pipeline,
                            "by end",
                        );
                    let longer = arranged.join_core(edges, |_, from, to| Some((from.to_vec(), to.to_vec())));
                    let whole = longer.concat(start);
                    let counted =
                        arrange_core::<_, _, RowChunker<Inner>, RowBatcher<Inner>, RowBuilder<Inner>, RowSpine<Inner>>(
                            whole.inner,
                            Pipeline,
                            "all",
                        );
                    let distinct = counted
                        .reduce_abelian::<_, RowBuilder<Inner>, RowSpine<Inner>, _, _>(
                            "distinct",
                            |_, input, output| {
                                output.extend(input.iter().filter(|(_, n)| *n > 0).map(|(v, _)| (v.to_vec(), 1)))
                            },
                            |chunk, key, changes| {
                                changes.drain(..).for_each(|(val, time, diff)| chunk.push(key, &val, &time, diff));
                            },
                        )
                        .as_collection(|key, val| (key.bytes.to_vec(), val.to_vec()));
                    variable.set(distinct.clone());
                    distinct.leave(scope)
                });
                let (probe, _) = reach
                    .inner
                    .inspect_container(move |event| {
                        if let Ok((_, batch)) = event {
                            see.borrow_mut().extend(batch.iter().cloned());
                        }
                    })
                    .probe();
                (input, probe)
            });
            for time in 0..6 {
                for (row, t, d) in edges.iter().filter(|(_, t, _)| *t == time) {
                    session.update(row.clone(), *d);
                    input.send_batch(&mut pack(std::iter::once((&row.0[..], &row.1[..], *t, *d))));
                }
                session.advance_to(time + 1);
                session.flush();
                input.advance_to(time + 1);
                worker.step_while(|| probe.less_than(&(time + 1)));
            }
            seen.take()
        });
        for at in 0..6 {
            let edges = accumulated(&all, at);
            let mut reach: BTreeSet<Row> = edges.keys().cloned().collect();
            loop {
                let more: Vec<Row> = reach
                    .iter()
                    .flat_map(|(a, b)| edges.keys().filter(move |(c, _)| c == b).map(|(_, d)| (a.clone(), d.clone())))
                    .filter(|pair| !reach.contains(pair))
                    .collect();
                if more.is_empty() {
                    break;
                }
                reach.extend(more);
            }
            let got = accumulated(&seen, at);
            assert_eq!(got, reach.into_iter().map(|pair| (pair, 1)).collect(), "seed {seed}, at {at}");
        }
    }
}
