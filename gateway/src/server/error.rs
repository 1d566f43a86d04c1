//! Why a gateway did not start. Each is one line that names the cause and, where there is one, the setting.

use crate::auth::KeyFileError;
use crate::control::ControlError;
use crate::ring::SetupError;
use ringpost_persist::embedded::OpenError;
use std::net::SocketAddr;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Ring(#[from] SetupError),
    #[error("cannot start the threads of the data plane: {0}")]
    Threads(std::io::Error),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Control(#[from] ControlError),
}
