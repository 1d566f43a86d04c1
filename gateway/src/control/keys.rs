//! Keeps the keys of tokens fresh: reads the key file again and again, and fetches sets of keys when they are due.
//!
//! Never does: decide anything about keys; that is the key ring's.

use super::fetch;
use crate::auth::{KeyFileError, Keyring, Material};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// How often it looks what is due; a key that nobody knows is asked for so soon.
const TICK: Duration = Duration::from_millis(250);
/// How often the key file is read: no watch of a file system survives every way in which files are replaced.
const REREAD: Duration = Duration::from_secs(2);

/// What was awaited.
enum Done {
    Read(Result<Material, KeyFileError>),
    Fetched(u64, Result<Vec<u8>, String>),
}

/// Runs until the runtime ends. `started` is 0 ms on the ring's clock.
pub async fn run(mut ring: Keyring, started: Instant) {
    let mut awaited = JoinSet::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Just read at the start; `None` while it is being read.
    let mut reread = ring.path().map(|_| started + REREAD);
    loop {
        let done = tokio::select! {
            _ = tick.tick() => None,
            Some(done) = awaited.join_next() => Some(done),
        };
        let line = match done {
            Some(Ok(Done::Read(read))) => {
                reread = Some(Instant::now() + REREAD);
                ring.reread(read, now_ms(started))
            }
            Some(Ok(Done::Fetched(id, answer))) => ring.fetched(id, answer, now_ms(started)),
            // A task that panicked is a bug; the runtime has told it.
            Some(Err(_)) | None => None,
        };
        if let Some(line) = line {
            eprintln!("{line}");
        }
        if let (Some(path), true) = (ring.path(), reread.is_some_and(|at| at <= Instant::now())) {
            let path = path.to_owned();
            awaited.spawn_blocking(move || Done::Read(Material::read(&path)));
            reread = None;
        }
        for fetch in ring.due(now_ms(started)) {
            awaited.spawn(async move {
                Done::Fetched(fetch.id, fetch::get(&fetch.source).await.map_err(|e| e.to_string()))
            });
        }
    }
}

fn now_ms(started: Instant) -> u64 {
    started.elapsed().as_millis() as u64
}
