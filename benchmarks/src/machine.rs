//! What a figure depends on besides the code: the machine and the versions.

use std::fmt::Write;

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find(|l| l.starts_with(name)).and_then(|l| l.split_once(':')).map(|(_, v)| v.trim())
}

/// Processor, cores and memory, in a line.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: f64 = field(&memory, "MemTotal").and_then(|m| m.trim_end_matches("kB").trim().parse().ok()).unwrap_or(0.0);
    let model = field(&cpu, "model name").unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {cores} cores, {:.1} GiB, {}", kib / 1024.0 / 1024.0, std::env::consts::OS)
}

/// The versions of what is compared, from the lock files this program was built with.
pub fn versions() -> String {
    let locks = [include_str!("../../Cargo.lock"), include_str!("../peers/Cargo.lock")];
    let mut out = format!("headwater {}", env!("CARGO_PKG_VERSION"));
    for (lock, names) in
        locks.iter().zip([&["timely", "differential-dataflow", "datafusion", "arrow", "mimalloc"][..], &["dbsp"][..]])
    {
        for name in names {
            let version = lock
                .split_once(&format!("name = \"{name}\"\nversion = \""))
                .and_then(|(_, rest)| rest.split_once('"'))
                .map_or("?", |(version, _)| version);
            let _ = write!(out, ", {name} {version}");
        }
    }
    out
}

/// Processor time of this process so far, all threads, seconds. Linux counts it in hundredths.
pub fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in brackets may have blanks; user and system time are the 14th and 15th field.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Time of the cores that the host of this virtual machine has given to others so far, seconds. Linux counts it in hundredths.
pub fn stolen_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    // All cores together come first; the eighth number is what was stolen.
    let stolen = stat.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse::<f64>().ok());
    stolen.unwrap_or(0.0) / 100.0
}
