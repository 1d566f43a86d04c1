//! What follows from the settings and this machine. Pure: the machine is an argument.

use super::{Layers, Origin, Settings};

/// What the machine gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores that this process may run on.
    pub cores: u16,
    /// Open files that this process may have; also caps the direct descriptors of one ring.
    pub files: u64,
}

/// Descriptors that a process needs beside its sessions: store, rings, listeners, admin connections, logs.
pub const OTHER_FILES: u64 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derived {
    /// Threads of the data plane, one ring each.
    pub shards: u16,
    /// Whether each shard is pinned to a core of its own: only where there are no more shards than cores.
    pub pinned: bool,
    /// Sessions of one shard at most. Above the even share, because addresses hash unevenly.
    pub sessions_per_shard: u32,
    /// Entries of one ring's table of direct descriptors: its sessions, and connections on their way in or through HTTP.
    pub descriptors_per_shard: u32,
}

impl Settings {
    /// Development has no limits for addresses of loopback, unless others are named.
    pub(super) fn exempt_loopback(&mut self, layers: &Layers) {
        if layers.origin("exempt_addresses") == Origin::Default {
            self.exempt_addresses = ["127.0.0.0/8", "::1"].iter().filter_map(|range| range.parse().ok()).collect();
        }
    }

    /// Where there are more shards than cores, the queues of one are a quarter, unless others are asked for: together they do
    /// the same work. A completion queue is never smaller than the submission queue that was asked for.
    pub(super) fn fit_queues(&mut self, layers: &Layers) {
        let fit = |key: &str, entries: u32| if layers.origin(key) == Origin::Default { entries / 4 } else { entries };
        self.sq_entries = fit("sq_entries", self.sq_entries);
        self.cq_entries = match layers.origin("cq_entries") {
            Origin::Default => (self.cq_entries / 4).max(self.sq_entries),
            _ => self.cq_entries,
        };
        self.inbox_entries = fit("inbox_entries", self.inbox_entries);
    }

    /// Development has no rates but those that were asked for.
    pub(super) fn lift_rates(&mut self, layers: &Layers) {
        let rates = [
            ("sends_per_second", &mut self.sends_per_second),
            ("user_sends_per_second", &mut self.user_sends_per_second),
            ("requests_per_second", &mut self.requests_per_second),
            ("new_conversations_per_day", &mut self.new_conversations_per_day),
        ];
        for (key, rate) in rates {
            if layers.origin(key) == Origin::Default {
                *rate = 0;
            }
        }
    }
}

impl Machine {
    /// This process's cores and its hard limit of open files (which `serve` raises the soft limit to).
    pub fn detect() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get().min(1_024)) as u16;
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
        Self { cores, files }
    }

    /// Sessions that one ring can hold: 85 % of its descriptors, the rest is for uneven spreading.
    fn sessions_per_ring(&self) -> u64 {
        (self.files.saturating_mul(85) / 100).max(1)
    }
}

impl Derived {
    pub fn new(settings: &Settings, machine: &Machine) -> Self {
        let sessions = u64::from(settings.max_sessions);
        let needed = sessions.div_ceil(machine.sessions_per_ring());
        let shards = match settings.shards {
            0 => needed.max(u64::from(machine.cores)).clamp(1, 1_024) as u16,
            asked => asked,
        };
        let share = sessions.div_ceil(u64::from(shards));
        // An eighth and 64 over the even share; the whole where there is one shard.
        let uneven = if shards == 1 { share } else { share + share / 8 + 64 };
        let per_shard = uneven.min(sessions).max(1);
        let descriptors = (per_shard + 64 + per_shard / 16).min(machine.files);
        Self {
            shards,
            pinned: shards <= machine.cores,
            sessions_per_shard: per_shard.min(descriptors) as u32,
            descriptors_per_shard: descriptors as u32,
        }
    }
}
