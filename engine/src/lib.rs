//! headwater

pub mod columns;
pub mod error;
pub mod plan;
pub mod render;
pub mod sql;

pub use error::{Error, Result};
