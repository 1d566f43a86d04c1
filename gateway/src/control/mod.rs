//! The control plane of one process: HTTP on the public port, the admin port, health, metrics, what operators ask for users.
//!
//! Owns: the `edge` runtime (tokio, on threads of its own), its routes and its admin listener. Guarantees: whatever happens
//! here never delays a shard: requests come through a bounded queue, answers go back with credit, and a full queue is a 503.
//! Never does: touch a client's socket, or decide about messages.

pub mod admin;
pub mod assets;
pub mod disk;
pub mod edge;
pub mod fetch;
pub mod health;
pub mod keys;
pub mod metrics;
pub mod operator;
pub mod problem;
pub mod readiness;
pub mod routes;

pub use health::Health;

use crate::auth::{Keyring, Tickets, Verifier};
use crate::config::Config;
use crate::shard::edge::EdgeRequest;
use metrics::Sources;
use operator::Operator;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

/// What the control plane shares with the data plane.
#[derive(Clone)]
pub struct Shared {
    pub verifier: Arc<Verifier>,
    pub tickets: Arc<Tickets>,
    pub health: Arc<Health>,
    /// Whether to serve development tokens. Only ever true on a loopback address (the configuration asserts it).
    pub dev: bool,
}

/// Why the control plane did not start. One line.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("cannot listen on {address} (admin): {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot start the edge runtime: {0}")]
    Runtime(std::io::Error),
}

/// A running control plane. Dropped, it ends at once.
pub struct Control {
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
    admin: SocketAddr,
}

impl Control {
    /// Binds the admin address and starts serving it and `requests`, and keeping `keys` fresh; `started` is 0 ms on the
    /// clock of the keys.
    pub fn start(
        config: &Config,
        shared: Shared,
        sources: Sources,
        keys: (Keyring, Instant),
        operator: Option<operator::Parts>,
        requests: mpsc::Receiver<EdgeRequest>,
    ) -> Result<Self, ControlError> {
        let listener = bind(config.admin)?;
        let admin = listener.local_addr().map_err(|source| ControlError::Listen { address: config.admin, source })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(2)
            .thread_name("edge")
            .enable_all()
            .build()
            .map_err(ControlError::Runtime)?;
        let (stop, stopped) = watch::channel(false);
        let sources = Arc::new(sources);
        let public = routes::public(shared.clone());
        runtime.spawn(edge::serve(public, requests, config.edge_requests as usize));
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(ControlError::Runtime)?
        };
        let (keyring, started) = keys;
        runtime.spawn(keys::run(keyring, started));
        runtime.spawn(readiness::run(Arc::clone(&shared.health), Arc::clone(&sources), config.max_sessions));
        let operator = operator.map(|parts| Operator::start(parts, &runtime));
        runtime.spawn(admin::serve(listener, admin::routes(shared.health, sources, operator), stopped));
        Ok(Self { runtime: Some(runtime), stop, admin })
    }

    /// The admin address, with the port that was chosen where 0 was asked for.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Stops taking admin requests and gives those in progress a moment.
    pub fn stop(mut self) {
        let _ = self.stop.send(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_millis(500));
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, ControlError> {
    let fail = |source| ControlError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(fail)?;
    listener.set_nonblocking(true).map_err(fail)?;
    Ok(listener)
}
