//! Whether this process lives, and whether a load balancer should send it new sessions.

use super::disk::Disk;
use arc_swap::ArcSwap;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};

/// Where a process is in its life. Only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    Starting = 0,
    Serving = 1,
    Draining = 2,
}

/// Written by the server and the shards, read by both ports.
#[derive(Debug, Default)]
pub struct Health {
    phase: AtomicU8,
    /// Shards, and those whose table is full: where all are, no connection is accepted any more.
    shards: AtomicU16,
    full: AtomicU16,
    /// As many sessions are open as the process is sized for.
    reached: AtomicBool,
    /// The store refuses appends: free space.
    storage_full: AtomicBool,
    /// No key can check a token: nobody can come in.
    no_keys: AtomicBool,
    /// Sources of keys that never answered: their users cannot come in, all others can.
    unanswered: ArcSwap<Vec<String>>,
    /// Of the store, where there is something to know of it.
    disk: OnceLock<Disk>,
}

/// What /readyz answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    pub ready: bool,
    pub draining: bool,
    /// Empty where ready.
    pub why: &'static str,
}

impl Health {
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    /// How many shards there are; before it is called, none is taken to be full.
    pub fn set_shards(&self, shards: u16) {
        self.shards.store(shards, Ordering::Release);
    }

    /// The table of one shard is full now, or no longer. Each shard says so in turns.
    pub fn shard_is_full(&self, full: bool) {
        match full {
            true => self.full.fetch_add(1, Ordering::AcqRel),
            false => self.full.fetch_sub(1, Ordering::AcqRel),
        };
    }

    fn is_full(&self) -> bool {
        let shards = self.shards.load(Ordering::Acquire);
        shards > 0 && self.full.load(Ordering::Acquire) >= shards
    }

    pub fn set_reached(&self, reached: bool) {
        self.reached.store(reached, Ordering::Release);
    }

    pub fn set_storage_full(&self, full: bool) {
        self.storage_full.store(full, Ordering::Release);
    }

    pub fn set_no_keys(&self, none: bool) {
        self.no_keys.store(none, Ordering::Release);
    }

    pub fn set_unanswered(&self, sources: Arc<Vec<String>>) {
        self.unanswered.store(sources);
    }

    /// The disk that is looked at. Once.
    pub fn set_disk(&self, disk: Option<Disk>) {
        let _ = disk.map(|disk| self.disk.set(disk));
    }

    /// What is wrong with a node that may be ready all the same. It names hosts and files: for operators, not for clients.
    pub fn warnings(&self) -> Vec<String> {
        let sources = self.unanswered.load();
        let keys = sources.iter().map(|url| format!("the keys of {url} were never fetched"));
        keys.chain(self.disk.get().and_then(Disk::warning)).collect()
    }

    pub fn readiness(&self) -> Readiness {
        let why = match self.phase() {
            Phase::Starting => "starting",
            Phase::Draining => "draining",
            Phase::Serving if self.is_full() => "every table of connections is full",
            Phase::Serving if self.reached.load(Ordering::Acquire) => "max_sessions is reached",
            Phase::Serving if self.storage_full.load(Ordering::Acquire) => "the disk is nearly full",
            Phase::Serving if self.no_keys.load(Ordering::Acquire) => "no token key is loaded",
            Phase::Serving => "",
        };
        Readiness { ready: why.is_empty(), draining: self.phase() == Phase::Draining, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_while_it_serves_and_has_room() {
        let health = Health::default();
        assert_eq!(health.readiness().why, "starting");
        health.enter(Phase::Serving);
        assert!(health.readiness().ready);
        health.set_reached(true);
        assert_eq!(health.readiness().why, "max_sessions is reached");
        health.set_shards(2);
        health.shard_is_full(true);
        assert_eq!(health.readiness().why, "max_sessions is reached");
        health.shard_is_full(true);
        assert_eq!(health.readiness().why, "every table of connections is full");
        health.shard_is_full(false);
        assert_eq!(health.readiness().why, "max_sessions is reached");
        health.shard_is_full(false);
        health.set_reached(false);
        assert!(health.readiness().ready);
        health.set_storage_full(true);
        assert!(!health.readiness().ready);
    }

    #[test]
    fn draining_is_final() {
        let health = Health::default();
        health.enter(Phase::Draining);
        health.enter(Phase::Serving);
        assert_eq!(health.readiness(), Readiness { ready: false, draining: true, why: "draining" });
    }
}
