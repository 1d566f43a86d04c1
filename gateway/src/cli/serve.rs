//! `ringpost serve`: run the gateway until a signal.

use super::{Outcome, args};
use crate::config::{Config, Machine};
use crate::control::disk::Disk;
use crate::server::Server;
use clap::ArgMatches;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Signals closer together than this are one.
const TWICE_WITHIN: Duration = Duration::from_millis(200);

pub fn run(matches: &ArgMatches) -> Outcome {
    let layers = args::layers(matches).map_err(|e| e.to_string())?;
    raise_file_limit();
    small_pages();
    let config = Config::new(&layers, &Machine::detect()).map_err(|e| e.to_string())?;
    let data = config.data.clone();
    // Only for signals; everything else has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|e| format!("cannot start the signal runtime: {e}"))?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(|e| format!("cannot listen to signals: {e}"))?;
        let server = tokio::select! {
            server = elsewhere("start", move || Server::start(config)) => server?.map_err(|e| e.to_string())?,
            // A long recovery is not waited for: it writes nothing that a later one could not do without.
            name = signals.next() => return Err(format!("{name} while starting")),
        };
        announce(&server);
        if let Some(warning) = Disk::of(&data).and_then(|disk| disk.warning()) {
            eprintln!("{warning}");
        }
        eprintln!("{}: draining; once more to end at once", signals.next().await);
        let first = Instant::now();
        tokio::select! {
            stopped = elsewhere("stop", move || server.stop()) => stopped,
            // Acknowledged messages are on disk whatever is cut off here.
            name = signals.second(first) => Err(format!("{name}: ended at once")),
        }
    })
}

/// Runs what blocks on a thread of its own, so that signals are heard meanwhile. Dropped, it leaves the thread behind: the
/// process is about to end.
async fn elsewhere<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    // Nobody listens after a second signal.
    let spawned = thread.spawn(move || drop(done.send(work())));
    spawned.map_err(|e| format!("cannot {name}: {e}"))?;
    result.await.map_err(|_| format!("{name}: the thread ended early"))
}

/// The one line on stdout: scripts wait for it.
fn announce(server: &Server) {
    let mut stdout = std::io::stdout().lock();
    // Whoever closed stdout does not want to know.
    let _ = writeln!(stdout, "{}", server.ready());
    let _ = stdout.flush();
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

    /// A signal that is meant as a second one: some supervisors send the first to the process and to its group.
    async fn second(&mut self, first: Instant) -> &'static str {
        loop {
            let name = self.next().await;
            if first.elapsed() > TWICE_WITHIN {
                return name;
            }
        }
    }
}

/// No transparent huge pages in this process: the allocator asks for them, and each thread's half-filled ones are memory
/// that no session uses (100,000 sessions on 8 shards: 84 MB instead of 120). A kernel without the call has none to disable.
fn small_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// The soft limit is for programs that use select(2); rings take as many descriptors as the hard limit gives.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused: the configuration was derived from the limit that stays, and says so where it does not suffice.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
