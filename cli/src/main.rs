//! `headwater`: SQL over live and closed data, on the command line.

mod above;
mod args;
mod commands;
mod complete;
mod failure;
mod files;
mod interrupt;
mod look;
mod notes;
mod output;
mod progress;
mod prompt;
mod run;
mod scan;
mod script;
mod shell;
mod sql;
mod table;
mod typed;

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
        Command::Sql(args) => sql::sql(args, &mut out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            notes::say(failure);
            ExitCode::FAILURE
        }
    }
}
