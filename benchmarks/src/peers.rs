//! Runs the peers' side: a program of its own (`benchmarks/peers`), built and run when the feature `peers` is on.

use serde::Deserialize;

use crate::case::Failure;

/// What the peers' program measured.
#[derive(Deserialize)]
pub struct Peer {
    /// From the first push to the last answer.
    pub seconds: f64,
    /// Median time from a round's push to its answer, microseconds.
    pub p50_us: f64,
    /// 99th percentile of it, microseconds.
    pub p99_us: f64,
    /// `ok`, or what differs.
    pub answer: String,
    /// Peak resident memory.
    pub peak_rss_mib: f64,
}

/// Runs W2 on dbsp in rounds of `round` rows.
#[cfg(feature = "peers")]
pub fn dbsp_w2(rows: usize, seed: u64, round: usize, workers: usize) -> Result<Peer, Failure> {
    use std::process::{Command, Stdio};

    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_string());
    // The newest dbsp asks for a later toolchain than ours but builds with it.
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--locked", "--ignore-rust-version"])
        .args(["--manifest-path", &format!("{folder}/Cargo.toml"), "--target-dir", &format!("{folder}/target")])
        .args(["--", "w2", "--rows", &rows.to_string(), "--seed", &seed.to_string()])
        .args(["--round", &round.to_string(), "--workers", &workers.to_string()])
        .env("WARM_BY", std::env::current_exe()?)
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().last() {
        Some(line) if output.status.success() => Ok(serde_json::from_str(line)?),
        _ => Err(format!("the dbsp job ended with {}", output.status).into()),
    }
}

/// Without the feature there is nothing to compare with.
#[cfg(not(feature = "peers"))]
pub fn dbsp_w2(_rows: usize, _seed: u64, _round: usize, _workers: usize) -> Result<Peer, Failure> {
    Err("no baseline: run with --features peers".into())
}
