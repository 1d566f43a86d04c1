//! A run on several processes: a coordinator that leads, and workers that make the load.
//!
//! The way of a run: `opening` (who is there, and may it ask) -> the worker's [`words::Part`] -> stages down and counts up ->
//! what each worker found. `link` is the connection, `frame` what goes over it, `member` the coordinator's side of a
//! worker; the worker's own side is `command::worker`.
//!
//! Guarantees: no clock of one host is compared with another's; whoever hears nothing from the other side for
//! [`link::SILENCE`] gives the run up. Never does: knowing what is measured; commands do. Never hides: nothing on the connection
//! is encrypted, the signing key neither, so it belongs into a network of one's own.

pub mod frame;
pub mod link;
pub mod member;
pub mod opening;
pub mod secret;
pub mod words;

use std::io;
use std::time::Duration;

/// Why a run with another process does not go on.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the connection ended")]
    Ended,
    #[error("nothing was heard from it for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("{0}")]
    Frame(#[from] frame::FrameError),
    #[error("it is flood {theirs}, and this is flood {ours}")]
    Version { theirs: String, ours: String },
    #[error("it is on another host: nothing is told to it without --secret-file")]
    NoSecret,
    #[error("its secret is another one")]
    Secret,
    #[error("it refuses: {0}")]
    Refused(String),
    #[error("it broke off: {0}")]
    BrokeOff(String),
    #[error("it said something that nobody had asked for")]
    Unexpected,
}

impl FleetError {
    /// Of reading and writing.
    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Ended,
            _ => Self::Io(error),
        }
    }
}
