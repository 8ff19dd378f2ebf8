//! Errors of connectors: whose fault, and whether trying again can help.

/// A result of a connector.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong in a connector. Messages name the file, row, column or option, and say what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user's declaration is wrong: an option, a path, a schema.
    #[error("{0}")]
    User(String),
    /// The data does not fit the declaration.
    #[error("{0}")]
    Data(String),
    /// The outside world failed: a disk, a network, a server.
    #[error("{message}")]
    External {
        /// What failed, on what.
        message: String,
        /// Whether the same call may go through later.
        retry: bool,
    },
    /// A fault of this library.
    #[error("internal error: {0}; please report it")]
    Internal(String),
}
