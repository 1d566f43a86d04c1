//! `ringpost serve`: run the gateway until a signal.

use super::{Outcome, args};
use crate::config::{Config, Machine};
use crate::server::Server;
use clap::ArgMatches;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

pub fn run(matches: &ArgMatches) -> Outcome {
    let layers = args::layers(matches).map_err(|e| e.to_string())?;
    raise_file_limit();
    let config = Config::new(&layers, &Machine::detect()).map_err(|e| e.to_string())?;
    // Only for signals; everything else has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|e| format!("cannot start the signal runtime: {e}"))?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(|e| format!("cannot listen to signals: {e}"))?;
        let server = Server::start(config).map_err(|e| e.to_string())?;
        announce(&server);
        eprintln!("{}: draining; once more to end at once", signals.next().await);
        stop(server, &mut signals).await;
        Ok(())
    })
}

/// The one line on stdout: scripts wait for it.
fn announce(server: &Server) {
    let mut stdout = std::io::stdout().lock();
    // Whoever closed stdout does not want to know.
    let _ = writeln!(stdout, "{}", server.ready());
    let _ = stdout.flush();
}

/// Stops on a thread of its own, so that a second signal is heard meanwhile.
async fn stop(server: Server, signals: &mut Signals) {
    let (done, stopped) = oneshot::channel();
    let stopping = std::thread::Builder::new().name("stop".into()).spawn(move || {
        server.stop();
        // Nobody listens after a second signal.
        let _ = done.send(());
    });
    if let Err(error) = stopping {
        eprintln!("cannot stop gracefully: {error}");
        return;
    }
    tokio::select! {
        _ = stopped => eprintln!("stopped"),
        name = signals.next() => {
            eprintln!("{name}: ending at once");
            // Acknowledged messages are on disk whatever is cut off here.
            std::process::exit(1);
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The soft limit is for programs that use select(2); rings take as many descriptors as the hard limit gives.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused: the configuration was derived from the limit that stays, and says so where it does not suffice.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
