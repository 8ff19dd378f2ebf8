//! The engine as its users meet it.

mod bad_input;
mod late_views;
mod master;
mod modes;
mod oracle;
mod smoke;
mod transfers;
mod windows;
