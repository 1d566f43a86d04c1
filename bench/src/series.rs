//! The series of the gateway's /metrics that this tool relies on.
//!
//! Owns: their names, each in one place. Guarantees: what asks for a series names one of these, so a page that has
//! [`Series::ALL`] has whatever is asked of it. Never does: reading.

use std::fmt;

/// A metric, or those samples of it whose labels hold a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    pub name: &'static str,
    /// Such as `direction="out"`; empty: all samples.
    pub label: &'static str,
}

macro_rules! series {
    ($($constant:ident = $name:literal $label:literal,)*) => {
        impl Series {
            $(pub const $constant: Series = Series { name: $name, label: $label };)*
            pub const ALL: &'static [Series] = &[$(Series::$constant,)*];
        }
    };
}

series! {
    RESIDENT = "process_resident_memory_bytes" "",
    CPU = "process_cpu_seconds_total" "",
    OUTBOUND = "ringpost_outbound_bytes" "",
    CLOSED_SLOW = "ringpost_closed_total" "reason=\"slow_consumer\"",
    BYTES_OUT = "ringpost_bytes_total" "direction=\"out\"",
    CONNECTIONS = "ringpost_connections" "",
    SLOTS = "ringpost_ring_slots_occupied" "",
    IN_FLIGHT = "ringpost_ring_operations_in_flight" "",
    BUFFERS_OUT = "ringpost_ring_buffers_out" "",
    SESSIONS = "ringpost_sessions" "",
    USERS = "ringpost_users_in_memory" "",
    CONVERSATIONS = "ringpost_conversations_in_memory" "",
    TIMERS_CONNECTION = "ringpost_timers" "of=\"connection\"",
    TIMERS_SESSION = "ringpost_timers" "of=\"session\"",
    TIMERS_CONVERSATION = "ringpost_timers" "of=\"conversation\"",
    STORE_WAITING = "ringpost_store_waiting" "",
    MESH_SPILL = "ringpost_mesh_spill" "",
    ADDRESSES = "ringpost_addresses" "",
    RECORDS = "ringpost_store_records_total" "",
    REGISTERS = "ringpost_store_registers_total" "",
    FDATASYNCS = "ringpost_store_fdatasyncs_total" "",
    LOG_BYTES = "ringpost_store_wal_bytes_total" "",
    UNCOVERED_BYTES = "ringpost_store_uncovered_bytes" "",
    TABLE_BYTES = "ringpost_store_table_bytes" "",
    CACHE_BYTES = "ringpost_store_cache_bytes" "",
    ROOMS = "ringpost_memory_bytes" "owner=\"conversation\"",
    ALLOCATOR = "ringpost_memory_bytes" "owner=\"allocator\"",
    TREE_BYTES = "ringpost_store_tree_bytes" "",
    CHECKPOINTS = "ringpost_store_checkpoints_total" "",
    CHECKPOINT_SECONDS = "ringpost_store_checkpoint_seconds_total" "",
    MERGES = "ringpost_store_compactions_total" "",
    MERGE_SECONDS = "ringpost_store_compaction_seconds_total" "",
    // Buckets of histograms.
    SEND_DIRECT = "ringpost_send_seconds_bucket" "to=\"user\"",
    SEND_GROUP = "ringpost_send_seconds_bucket" "to=\"group\"",
    COMMIT = "ringpost_commit_seconds_bucket" "",
    TURN = "ringpost_turn_seconds_bucket" "",
}

impl Series {
    /// Tells its version as a label; a report has none where it is not there.
    pub const BUILD: Series = Series { name: "ringpost_build_info", label: "" };
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.label {
            "" => f.write_str(self.name),
            label => write!(f, "{}{{{label}}}", self.name),
        }
    }
}
