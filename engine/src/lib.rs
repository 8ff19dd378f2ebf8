//! headwater

pub mod columns;
pub mod plan;
