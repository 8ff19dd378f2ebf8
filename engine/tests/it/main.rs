//! The engine as its users meet it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::type_complexity,
    reason = "tests end where they fail"
)]

mod answers;
mod append;
mod bad_input;
mod formats;
mod host;
mod judge;
mod late_views;
mod lives;
mod lives_model;
mod master;
mod modes;
mod on_error;
mod oracle;
mod rejected;
mod smoke;
mod transfers;
mod types;
mod windows;
