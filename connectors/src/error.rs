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

impl Error {
    /// The error for a failed call to the operating system: what was tried (e.g. `read`), and on what.
    pub(crate) fn io(tried: &str, on: impl std::fmt::Display, error: &std::io::Error) -> Error {
        use std::io::ErrorKind;
        let advice = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; free some space and start again",
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "; it needs other permissions",
            _ => "",
        };
        let retry = matches!(
            error.kind(),
            ErrorKind::StorageFull
                | ErrorKind::QuotaExceeded
                | ErrorKind::Interrupted
                | ErrorKind::TimedOut
                | ErrorKind::ResourceBusy
        );
        Error::External { message: format!("can't {tried} {on}: {error}{advice}"), retry }
    }
}
