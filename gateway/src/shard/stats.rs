//! What a shard counts, and how others read it.
//!
//! Owns: the closed list of counters and gauges ([`Stat`]), and of histograms ([`Timing`]). Guarantees: a shard counts in plain integers and publishes them
//! together, so that one [`Snapshot`] is consistent: accepted + arrived = open + closed + departed holds exactly in each, and
//! accepted = open + closed + moving in their sum. The number of series is fixed: no label comes from a peer. Never does:
//! make a shard wait.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

/// How a series grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

macro_rules! stats {
    ($($(#[$doc:meta])* $variant:ident: $kind:ident $name:literal $label:literal,)*) => {
        /// One series. The label is empty, or `key="value"` as it stands in the exposition format.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Stat { $($(#[$doc])* $variant,)* }

        impl Stat {
            pub const ALL: &'static [Stat] = &[$(Stat::$variant,)*];

            /// (kind, metric name, label) of each series, in the order of `ALL`; series of one metric stand together.
            pub fn series(self) -> (Kind, &'static str, &'static str) {
                match self { $(Stat::$variant => (Kind::$kind, $name, $label),)* }
            }
        }
    };
}

stats! {
    // Connections by state. Their sum is what is open.
    ConnHead: Gauge "ringpost_connections" "state=\"head\"",
    ConnHttp: Gauge "ringpost_connections" "state=\"http\"",
    ConnEcho: Gauge "ringpost_connections" "state=\"echo\"",
    ConnHello: Gauge "ringpost_connections" "state=\"hello\"",
    ConnOpen: Gauge "ringpost_connections" "state=\"open\"",
    ConnClosing: Gauge "ringpost_connections" "state=\"closing\"",
    Accepted: Counter "ringpost_accepted_total" "",
    /// Sockets that came from, and went to, another shard.
    Arrived: Counter "ringpost_moved_total" "direction=\"in\"",
    Departed: Counter "ringpost_moved_total" "direction=\"out\"",
    MoveFailed: Counter "ringpost_move_failed_total" "",
    Established: Counter "ringpost_sessions_established_total" "",
    HttpRequests: Counter "ringpost_http_requests_total" "",

    // Requests that were answered with a refusal; the connection is counted under closed when it goes.
    RefusedHead: Counter "ringpost_refused_total" "reason=\"bad_request\"",
    RefusedUpgrade: Counter "ringpost_refused_total" "reason=\"bad_upgrade\"",
    RefusedOrigin: Counter "ringpost_refused_total" "reason=\"origin\"",
    RefusedToken: Counter "ringpost_refused_total" "reason=\"token\"",
    RefusedDevices: Counter "ringpost_refused_total" "reason=\"devices\"",
    RefusedAddressConnections: Counter "ringpost_refused_total" "reason=\"address_connections\"",
    RefusedAddressUpgrades: Counter "ringpost_refused_total" "reason=\"address_upgrades\"",
    RefusedAddressTickets: Counter "ringpost_refused_total" "reason=\"address_tickets\"",
    /// On the listener for proxies: from somebody who is none, and without a header that can be read.
    RefusedProxyUntrusted: Counter "ringpost_refused_total" "reason=\"proxy_untrusted\"",
    RefusedProxyHeader: Counter "ringpost_refused_total" "reason=\"proxy_header\"",
    RefusedDraining: Counter "ringpost_refused_total" "reason=\"draining\"",
    RefusedOverloaded: Counter "ringpost_refused_total" "reason=\"overloaded\"",

    // Why connections ended.
    ClosedNormal: Counter "ringpost_closed_total" "reason=\"normal\"",
    ClosedPeer: Counter "ringpost_closed_total" "reason=\"peer\"",
    ClosedReset: Counter "ringpost_closed_total" "reason=\"reset\"",
    ClosedTimeout: Counter "ringpost_closed_total" "reason=\"head_timeout\"",
    ClosedProxy: Counter "ringpost_closed_total" "reason=\"proxy\"",
    ClosedHttp: Counter "ringpost_closed_total" "reason=\"http\"",
    ClosedWebSocket: Counter "ringpost_closed_total" "reason=\"websocket_error\"",
    ClosedTooLarge: Counter "ringpost_closed_total" "reason=\"too_large\"",
    ClosedUnsupported: Counter "ringpost_closed_total" "reason=\"unsupported\"",
    ClosedDraining: Counter "ringpost_closed_total" "reason=\"draining\"",
    ClosedHeartbeat: Counter "ringpost_closed_total" "reason=\"heartbeat_missed\"",
    ClosedSlow: Counter "ringpost_closed_total" "reason=\"slow_consumer\"",
    ClosedOverloaded: Counter "ringpost_closed_total" "reason=\"overloaded\"",
    ClosedInternal: Counter "ringpost_closed_total" "reason=\"internal\"",
    ClosedReplaced: Counter "ringpost_closed_total" "reason=\"replaced\"",
    ClosedUnauthenticated: Counter "ringpost_closed_total" "reason=\"unauthenticated\"",
    ClosedTokenExpired: Counter "ringpost_closed_total" "reason=\"token_expired\"",
    ClosedDeviceRevoked: Counter "ringpost_closed_total" "reason=\"device_revoked\"",
    ClosedDeviceInUse: Counter "ringpost_closed_total" "reason=\"device_in_use\"",
    ClosedProtocol: Counter "ringpost_closed_total" "reason=\"protocol\"",

    // Traffic.
    MessagesIn: Counter "ringpost_messages_total" "direction=\"in\"",
    MessagesOut: Counter "ringpost_messages_total" "direction=\"out\"",
    BytesIn: Counter "ringpost_bytes_total" "direction=\"in\"",
    BytesOut: Counter "ringpost_bytes_total" "direction=\"out\"",
    OutboundBytes: Gauge "ringpost_outbound_bytes" "",

    // The router of the shard.
    Sends: Counter "ringpost_sends_total" "",
    SendsDuplicate: Counter "ringpost_sends_duplicate_total" "",
    SendsRefused: Counter "ringpost_sends_refused_total" "",
    Appends: Counter "ringpost_appends_total" "",
    AppendConflicts: Counter "ringpost_append_conflicts_total" "",
    AppendUnknown: Counter "ringpost_append_unknown_total" "",
    Pushes: Counter "ringpost_pushes_total" "",
    Acks: Counter "ringpost_acks_total" "",
    Ticks: Counter "ringpost_ticks_total" "",
    Syncs: Counter "ringpost_syncs_total" "",
    Reconciles: Counter "ringpost_reconciles_total" "",
    ReconcileFound: Counter "ringpost_reconcile_found_total" "",
    Takeovers: Counter "ringpost_takeovers_total" "",
    SlowConsumers: Counter "ringpost_slow_consumers_total" "",
    RateLimited: Counter "ringpost_rate_limited_total" "",
    Ephemeral: Counter "ringpost_ephemeral_total" "",
    Presence: Counter "ringpost_presence_total" "",
    DeviceMismatches: Counter "ringpost_device_mismatches_total" "",
    DevicesLinked: Counter "ringpost_devices_total" "change=\"linked\"",
    DevicesUnlinked: Counter "ringpost_devices_total" "change=\"unlinked\"",
    DevicesDormant: Counter "ringpost_devices_total" "change=\"dormant\"",
    DeviceLimits: Counter "ringpost_device_limits_total" "",
    SettingsUnreadable: Counter "ringpost_documents_unreadable_total" "document=\"settings\"",
    DevicesUnreadable: Counter "ringpost_documents_unreadable_total" "document=\"devices\"",
    BeginningsRefused: Counter "ringpost_beginnings_refused_total" "",
    ExpiredUndelivered: Counter "ringpost_expired_undelivered_total" "",
    StoreBusy: Counter "ringpost_store_busy_total" "",
    StoreWaiting: Gauge "ringpost_store_waiting" "",

    // What the shard holds in memory.
    Sessions: Gauge "ringpost_sessions" "",
    Users: Gauge "ringpost_users_in_memory" "",
    Conversations: Gauge "ringpost_conversations_in_memory" "",
    TimersConnection: Gauge "ringpost_timers" "of=\"connection\"",
    TimersSession: Gauge "ringpost_timers" "of=\"session\"",
    TimersConversation: Gauge "ringpost_timers" "of=\"conversation\"",

    // Between shards.
    MeshSent: Counter "ringpost_mesh_messages_total" "",
    MeshSpilled: Counter "ringpost_mesh_spilled_total" "",
    MeshSpill: Gauge "ringpost_mesh_spill" "",

    // The ring.
    RingOverflow: Counter "ringpost_ring_overflow_total" "",
    RingNoBuffers: Counter "ringpost_ring_enobufs_total" "",
    RingRearmed: Counter "ringpost_ring_rearm_total" "",
    RingStale: Counter "ringpost_ring_stale_total" "",
    RingSubmissions: Counter "ringpost_ring_submissions_total" "",
    RingCompletions: Counter "ringpost_ring_completions_total" "",
    RingEnters: Counter "ringpost_ring_enters_total" "",
    RingInFlight: Gauge "ringpost_ring_operations_in_flight" "",
    RingSlots: Gauge "ringpost_ring_slots_occupied" "",
    RingSlotsTotal: Gauge "ringpost_ring_slots" "",
    RingBuffersOut: Gauge "ringpost_ring_buffers_out" "",
    RingBuffersTotal: Gauge "ringpost_ring_buffers" "",

    // Memory by owner; the last, for the process adds its own to them.
    MemoryConnection: Gauge "ringpost_memory_bytes" "owner=\"connection\"",
    MemorySession: Gauge "ringpost_memory_bytes" "owner=\"session\"",
    MemoryUser: Gauge "ringpost_memory_bytes" "owner=\"user\"",
    MemoryIndex: Gauge "ringpost_memory_bytes" "owner=\"index\"",
    MemoryTimer: Gauge "ringpost_memory_bytes" "owner=\"timer\"",
    MemoryConversation: Gauge "ringpost_memory_bytes" "owner=\"conversation\"",
    MemoryBuffer: Gauge "ringpost_memory_bytes" "owner=\"buffer\"",
    MemoryQueue: Gauge "ringpost_memory_bytes" "owner=\"queue\"",
    MemoryUnused: Gauge "ringpost_memory_bytes" "owner=\"unused\"",
    MemoryRounding: Gauge "ringpost_memory_bytes" "owner=\"rounding\"",
}

/// How many series there are that are one number.
const SERIES: usize = Stat::ALL.len();

/// What is timed: histograms of durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// A turn of the loop, from the wake-up to the submission.
    Turn,
    /// A direct message, from its completion to the submission of its SENT. Not every one is timed.
    Send,
    /// The same of a message to a group.
    GroupSend,
}

/// Upper bounds of the buckets, microseconds; one more is for what is above them.
pub const BOUNDS_US: [u64; 24] = [
    50, 100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 6_000, 8_000, 10_000, 12_500, 15_000,
    20_000, 30_000, 50_000, 100_000, 200_000, 400_000, 1_000_000,
];
const BUCKETS: usize = BOUNDS_US.len() + 1;
/// Of a histogram: its buckets, and the sum of all durations, microseconds.
const TIMED: usize = BUCKETS + 1;
const CELLS: usize = SERIES + Timing::ALL.len() * TIMED;

impl Timing {
    pub const ALL: [Self; 3] = [Self::Turn, Self::Send, Self::GroupSend];

    /// (metric name, label) of each, in the order of `ALL`; those of one metric stand together.
    pub fn series(self) -> (&'static str, &'static str) {
        match self {
            Self::Turn => ("ringpost_turn_seconds", ""),
            Self::Send => ("ringpost_send_seconds", "to=\"user\""),
            Self::GroupSend => ("ringpost_send_seconds", "to=\"group\""),
        }
    }

    fn cells(self) -> std::ops::Range<usize> {
        let first = SERIES + self as usize * TIMED;
        first..first + TIMED
    }
}

impl Stat {
    pub const STATES: [Stat; 6] =
        [Stat::ConnHead, Stat::ConnHttp, Stat::ConnEcho, Stat::ConnHello, Stat::ConnOpen, Stat::ConnClosing];

    fn is_closed(self) -> bool {
        self.series().1 == "ringpost_closed_total"
    }
}

/// The values of all series at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot([u64; CELLS]);

impl Default for Snapshot {
    fn default() -> Self {
        Self([0; CELLS])
    }
}

impl Snapshot {
    pub fn value(&self, stat: Stat) -> u64 {
        self.0[stat as usize]
    }

    pub fn set(&mut self, stat: Stat, value: u64) {
        self.0[stat as usize] = value;
    }

    pub fn add(&mut self, stat: Stat, by: u64) {
        self.0[stat as usize] += by;
    }

    pub fn sub(&mut self, stat: Stat, by: u64) {
        debug_assert!(self.0[stat as usize] >= by, "{stat:?} below zero");
        self.0[stat as usize] = self.0[stat as usize].saturating_sub(by);
    }

    /// One more duration.
    pub fn observe(&mut self, timing: Timing, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let cells = &mut self.0[timing.cells()];
        cells[BOUNDS_US.partition_point(|bound| *bound < us)] += 1;
        cells[BUCKETS] = cells[BUCKETS].saturating_add(us);
    }

    /// (count in each bucket, not cumulative, the last one above all bounds; sum in microseconds).
    pub fn timing(&self, timing: Timing) -> (&[u64], u64) {
        let cells = &self.0[timing.cells()];
        (&cells[..BUCKETS], cells[BUCKETS])
    }

    /// How many durations there were.
    pub fn observed(&self, timing: Timing) -> u64 {
        self.timing(timing).0.iter().sum()
    }

    /// Connections in any state.
    pub fn open(&self) -> u64 {
        Stat::STATES.iter().map(|&state| self.value(state)).sum()
    }

    /// Requests to the store without an answer.
    pub fn store_waiting(&self) -> u64 {
        self.value(Stat::StoreWaiting)
    }

    /// Connections that ended, for whatever reason.
    pub fn closed(&self) -> u64 {
        Stat::ALL.iter().filter(|stat| stat.is_closed()).map(|&stat| self.value(stat)).sum()
    }

    /// Of a sum over all shards: sockets that left one shard and have not yet been taken by the other.
    pub fn moving(&self) -> u64 {
        self.value(Stat::Departed).saturating_sub(self.value(Stat::Arrived))
    }

    /// Adds another shard's values.
    pub fn merge(&mut self, other: &Snapshot) {
        for (sum, value) in self.0.iter_mut().zip(&other.0) {
            *sum += value;
        }
    }
}

/// Where one shard publishes and others read: values and a version, odd while they are being written.
#[derive(Debug)]
pub struct Board {
    version: AtomicU64,
    wanted: AtomicU64,
    values: [AtomicU64; CELLS],
}

impl Default for Board {
    fn default() -> Self {
        Self { version: AtomicU64::new(0), wanted: AtomicU64::new(0), values: [const { AtomicU64::new(0) }; CELLS] }
    }
}

impl Board {
    /// By the owning shard only: a sequence lock has one writer.
    pub fn publish(&self, snapshot: &Snapshot) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (cell, value) in self.values.iter().zip(&snapshot.0) {
            cell.store(*value, Ordering::Relaxed);
        }
        self.version.store(version + 2, Ordering::Release);
    }

    /// The values that were published last: up to a second old.
    pub fn read(&self) -> Snapshot {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let mut snapshot = Snapshot::default();
            for (value, cell) in snapshot.0.iter_mut().zip(&self.values) {
                *value = cell.load(Ordering::Relaxed);
            }
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                return snapshot;
            }
            std::hint::spin_loop();
        }
    }

    /// How many times values were published.
    pub fn published(&self) -> u64 {
        self.version.load(Ordering::Acquire) / 2
    }

    /// Asks the shard to publish in its next turn; wake it afterwards.
    pub fn want(&self) {
        self.wanted.fetch_add(1, Ordering::Release);
    }

    /// By the shard: requests to publish so far.
    pub fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_one_metric_stand_together_and_are_distinct() {
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for stat in Stat::ALL {
            let (_, name, label) = stat.series();
            assert!(!seen.contains(&(name, label)), "{name} {label} twice");
            let apart = seen.iter().any(|(n, _)| *n == name) && seen.last().is_some_and(|(n, _)| *n != name);
            assert!(!apart, "{name} is scattered");
            seen.push((name, label));
        }
    }

    #[test]
    fn durations_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let mut snapshot = Snapshot::default();
        for us in [50, 51, 4_999, 5_000, 5_001, 9_000_000] {
            snapshot.observe(Timing::Send, Duration::from_micros(us));
        }
        let mut sum = snapshot.clone();
        sum.merge(&snapshot);
        let (buckets, sum_us) = sum.timing(Timing::Send);
        let at = |bound| BOUNDS_US.iter().position(|it| *it == bound).map(|at| buckets[at]);
        assert_eq!([at(50), at(100), at(5_000), at(6_000)], [Some(2), Some(2), Some(4), Some(2)]);
        assert_eq!((buckets.last(), sum.observed(Timing::Send), sum_us), (Some(&2), 12, 2 * 9_015_101));
        assert_eq!(sum.observed(Timing::Turn), 0);
    }

    #[test]
    fn a_reader_never_sees_half_of_a_publication() {
        let board = Board::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=20_000 {
                    let mut snapshot = Snapshot::default();
                    snapshot.set(Stat::Accepted, round);
                    snapshot.set(Stat::RingBuffersTotal, round);
                    board.publish(&snapshot);
                }
            });
            while board.published() < 20_000 {
                let seen = board.read();
                assert_eq!(seen.value(Stat::Accepted), seen.value(Stat::RingBuffersTotal));
            }
        });
    }
}
