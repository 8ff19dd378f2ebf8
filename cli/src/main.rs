//! `headwater`: SQL over live and closed data, on the command line.

mod args;
mod failure;
mod files;
mod interrupt;
mod output;
mod progress;
mod run;
mod scan;
mod shell;

use std::io::BufWriter;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Not locked: a sink on another thread may print as well.
    let mut out = BufWriter::new(std::io::stdout());
    let done = match &cli.command {
        Command::Run(args) => run::run(args, &mut out),
        Command::Sql(args) => shell::sql(args, &mut out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
