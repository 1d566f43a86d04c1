//! Starts and stops a gateway: store, shards, control plane.
//!
//! Order of start: what can be refused cheaply comes first (keys, admin address), then store, rings, listeners; readiness
//! last. Order of stop: readiness off, sessions closed 4000 DRAINING, shards, store, control plane.

use crate::auth::{self, KeyFileError, Tickets};
use crate::config::Config;
use crate::control::health::Phase;
use crate::control::metrics::Sources;
use crate::control::{Control, ControlError, Health, Shared};
use ringpost_persist::embedded::{self, OpenError, Opened};
use ringpost_persist::files::RealFiles;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Why a gateway did not start. Each is one line that names the cause and, where there is one, the setting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// A running gateway.
pub struct Server {
    ready: Ready,
    health: Arc<Health>,
    control: Control,
    store: Opened,
}

/// What a started gateway says: actual addresses, where a port was left to the kernel.
#[derive(Clone, Debug)]
pub struct Ready {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub shards: u16,
    pub data: PathBuf,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, admin, shards, data } = self;
        write!(f, "ready listen={listen} admin={admin} shards={shards} data={}", data.display())
    }
}

impl Server {
    pub fn start(config: Config) -> Result<Self, StartError> {
        let verifier = Arc::new(auth::verifier(&config)?);
        let store = open_store(&config)?;
        let health = Arc::new(Health::default());
        let shared =
            Shared { verifier, tickets: Arc::new(Tickets::default()), health: Arc::clone(&health), dev: config.dev };
        let (_requests, queue) = mpsc::channel(config.edge_requests as usize);
        let control = Control::start(
            &config,
            shared,
            Sources { shards: Vec::new(), store: Some(Arc::clone(store.store.stats())) },
            queue,
        )?;
        let ready = Ready {
            listen: config.listen,
            admin: control.admin(),
            shards: config.derived.shards,
            data: config.data.clone(),
        };
        health.enter(Phase::Serving);
        Ok(Self { ready, health, control, store })
    }

    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Closes every session with 4000 DRAINING, then ends. Takes at most `drain_ms` and a moment.
    pub fn stop(self) {
        self.health.enter(Phase::Draining);
        self.control.stop();
        drop(self.store);
    }
}

fn open_store(config: &Config) -> Result<Opened, OpenError> {
    let mut options = embedded::Options::new(&config.data, usize::from(config.derived.shards));
    options.queue = config.store_queue as usize;
    options.segment_bytes = config.segment_bytes;
    embedded::open(Arc::new(RealFiles), options)
}
