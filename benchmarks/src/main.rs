//! The benchmark: each case against its baseline in the same run, answers checked. See `benchmarks/README.md`.

mod case;
mod cases;
mod machine;
mod memory;
mod ours;
mod peers;
mod workload;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::json;

use case::{Better, Case, Failure, Measured, Params};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

const USAGE: &str = "\
Usage: headwater-benchmarks [CASE..] [--rows N] [--workers N] [--seed N] [--repeat N] [--json FILE]
                            [--before BINARY]

Runs the given cases (all unless said), each side in a process of its own, the sides taking turns, and prints the
medians. A ratio above 1 means that we are better.

  --rows N         rows of each case (its own default unless said; what it counts depends on the case)
  --workers N      worker threads of ours, and of baselines that have threads (1)
  --seed N         of everything random (42)
  --repeat N       runs of each side (3)
  --json FILE      also write a JSON object a line per comparison
  --before BINARY  a `headwater` of an earlier build, for the cases that compare with one

Cases:
";

struct Args {
    cases: Vec<&'static Case>,
    rows: Option<usize>,
    workers: usize,
    seed: u64,
    repeat: usize,
    json: Option<String>,
    before: Option<PathBuf>,
    /// Set in a child: the folder of the whole run.
    folder: Option<PathBuf>,
    /// Set in a child: run this side of the one case and print what it measured.
    side: Option<String>,
}

fn args() -> Result<Option<Args>, String> {
    let mut args = Args {
        cases: Vec::new(),
        rows: None,
        workers: 1,
        seed: 42,
        repeat: 3,
        json: None,
        before: None,
        folder: None,
        side: None,
    };
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        if arg == "--help" || arg == "-h" {
            return Ok(None);
        }
        if !arg.starts_with('-') {
            let case = cases::ALL.iter().find(|c| c.name == arg);
            args.cases.push(case.ok_or_else(|| format!("no case is named {arg}; --help lists them"))?);
            continue;
        }
        let value = given.next().ok_or_else(|| format!("{arg} needs a value"))?;
        let number = || value.replace('_', "").parse::<usize>().map_err(|e| format!("{arg} {value}: {e}"));
        match arg.as_str() {
            "--rows" => args.rows = Some(number()?),
            "--workers" => args.workers = number()?.max(1),
            "--seed" => args.seed = number()? as u64,
            "--repeat" => args.repeat = number()?.max(1),
            "--json" => args.json = Some(value),
            "--before" => args.before = Some(value.into()),
            "--folder" => args.folder = Some(value.into()),
            "--side" => args.side = Some(value),
            _ => return Err(format!("unknown option {arg}; --help lists them")),
        }
    }
    if args.cases.is_empty() {
        args.cases = cases::ALL.iter().collect();
    }
    Ok(Some(args))
}

fn main() -> ExitCode {
    let outcome = match args() {
        Ok(None) => {
            print!("{USAGE}");
            cases::ALL.iter().for_each(|c| println!("  {:<20} {}; against {}", c.name, c.about, c.against));
            Ok(true)
        }
        Ok(Some(args)) => match &args.side {
            Some(side) => child(&args, side).map(|()| true),
            None => parent(&args),
        },
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("headwater-benchmarks: {error}");
            ExitCode::from(2)
        }
    }
}

/// So much of the cores' time that the host took during a run is said.
const STOLEN: f64 = 0.05;

fn child(args: &Args, side: &str) -> Result<(), Failure> {
    let case = args.cases[0];
    if side == memory::WARM {
        memory::touch();
        return Ok(());
    }
    let params = Params {
        rows: args.rows.unwrap_or(case.rows),
        seed: args.seed,
        workers: args.workers,
        pinned: false,
        folder: args.folder.clone().unwrap_or_else(std::env::temp_dir),
        before: args.before.clone(),
    };
    let before = machine::stolen_seconds();
    let mut measured = if side == "ours" { (case.ours)(&params) } else { (case.baseline)(&params) }?;
    let stolen = machine::stolen_seconds() - before;
    if stolen > STOLEN {
        measured.notes.push(format!("the host took {stolen:.2} s of the cores"));
    }
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// Runs one side of a case in a process of its own, so that neither memory nor allocator state leaks between them.
fn run(case: &Case, side: &str, args: &Args, folder: &Path) -> Result<Measured, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    // What a side has it keeps, as `memory::start` says why.
    command.env("MIMALLOC_PURGE_DELAY", "-1");
    command.args([case.name, "--side", side, "--seed", &args.seed.to_string(), "--workers", &args.workers.to_string()]);
    if let Some(rows) = args.rows {
        command.args(["--rows", &rows.to_string()]);
    }
    command.arg("--folder").arg(folder);
    if let Some(before) = &args.before {
        command.arg("--before").arg(before);
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().last() {
        Some(line) if output.status.success() => Ok(serde_json::from_str(line)?),
        _ => Err(format!("{} of {} ended with {}", side, case.name, output.status).into()),
    }
}

fn median(runs: &[Measured], index: usize) -> f64 {
    let mut values: Vec<f64> = runs.iter().filter_map(|m| m.values.get(index).copied()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Three significant digits, with thousands set apart.
fn figure(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.3}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 && c.is_ascii_digit() {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// Runs the cases; whether all answers are right and all that is required is reached.
fn parent(args: &Args) -> Result<bool, Failure> {
    println!("machine   {}", machine::machine());
    println!("versions  {}", machine::versions());
    println!("seed {}, workers {}, median of {}\n", args.seed, args.workers, args.repeat);
    println!(
        "{:<22} {:>14} {:>14} {:<10} {:>7} {:>6} {:>5} {:>9}  answer",
        "case", "ours", "baseline", "unit", "ratio", "reach", "aim", "MiB"
    );
    let mut json = args.json.as_ref().map(std::fs::File::create).transpose()?;
    let mut fine = true;
    let mut notes = Vec::new();
    let folder = tempfile::tempdir()?;
    for case in &args.cases {
        let (mut ours, mut baseline) = (Vec::new(), Vec::new());
        let mut failures = Vec::new();
        for _ in 0..args.repeat {
            for (side, runs) in [("ours", &mut ours), ("baseline", &mut baseline)] {
                match run(case, side, args, folder.path()) {
                    Ok(measured) => runs.push(measured),
                    Err(error) => failures.push(error.to_string()),
                }
            }
            if !failures.is_empty() {
                break;
            }
        }
        let all = || ours.iter().chain(&baseline);
        failures.extend(all().map(|m| m.answer.clone()).filter(|a| a != "ok"));
        let answer = failures.first().cloned().unwrap_or_else(|| "ok".to_string());
        let peak = ours.iter().map(|m| m.peak_rss_mib).fold(0.0, f64::max);
        notes.extend(
            ours.last()
                .into_iter()
                .chain(baseline.last())
                .flat_map(|m| m.notes.iter())
                .map(|n| format!("{}: {n}", case.name)),
        );
        for (index, line) in case.lines.iter().enumerate() {
            let (a, b) = (median(&ours, index), median(&baseline, index));
            let ratio = match line.better {
                Better::More => a / b,
                Better::Less => b / a,
            };
            let ratio = if ratio.is_finite() { ratio } else { 0.0 };
            fine &= answer == "ok" && ratio >= line.reach;
            println!(
                "{:<22} {:>14} {:>14} {:<10} {:>7.3} {:>6} {:>5} {:>9.0}  {answer}",
                line.case,
                figure(a),
                figure(b),
                line.unit,
                ratio,
                line.reach,
                line.aim,
                peak
            );
            if let Some(file) = &mut json {
                let row = json!({
                    "case": line.case, "ours": a, "baseline": b, "unit": line.unit, "ratio": ratio,
                    "reach": line.reach, "aim": line.aim, "answer": answer, "peak_rss_mib": peak,
                });
                writeln!(file, "{row}")?;
            }
        }
    }
    if !notes.is_empty() {
        println!();
        notes.iter().for_each(|n| println!("{n}"));
    }
    Ok(fine)
}
