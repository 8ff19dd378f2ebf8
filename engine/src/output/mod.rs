//! From closed times to readers: changes become emissions, which somebody takes or a sink writes.

mod emit;
mod reader;
mod writer;

pub(crate) use emit::{Emitter, Shape};
pub use reader::Event;
pub(crate) use reader::{Pace, Reader};
pub(crate) use writer::{Writing, write};
