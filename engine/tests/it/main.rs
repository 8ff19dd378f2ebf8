//! The engine as its users meet it.

mod master;
mod modes;
mod oracle;
mod smoke;
mod transfers;
