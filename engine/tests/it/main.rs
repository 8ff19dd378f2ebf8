//! The engine as its users meet it.

mod smoke;
