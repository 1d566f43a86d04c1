//! What each metric says, in one line; gateway/docs/operations.md says what to do about it.

/// The help text of a metric. A test asserts that every metric has one.
pub fn of(name: &str) -> &'static str {
    HELP.iter().find(|(known, _)| *known == name).map_or("", |(_, help)| help)
}

const HELP: &[(&str, &str)] = &[
    ("ringpost_ready", "Whether /readyz answers 200: this node should be sent new sessions."),
    ("ringpost_draining", "Whether this node is closing its sessions and will end."),
    ("ringpost_warnings", "Warnings that /readyz of the admin port has in words."),
    ("ringpost_max_sessions", "The setting max_sessions: with as many sessions open the node is not ready."),
    ("ringpost_disk_bytes", "The file system of the data: what is free for it, and all of it."),
    ("ringpost_connections", "Open connections by state; their sum is what is open."),
    ("ringpost_accepted_total", "Connections accepted."),
    ("ringpost_moved_total", "Sockets moved between shards."),
    ("ringpost_move_failed_total", "Sockets that stayed where they were because the other shard was full."),
    ("ringpost_sessions_established_total", "Sessions that were welcomed."),
    ("ringpost_http_requests_total", "HTTP requests passed to the control plane."),
    ("ringpost_refused_total", "Requests answered with a refusal, by reason."),
    ("ringpost_addresses", "Client addresses that have a connection or used an upgrade in the last second."),
    ("ringpost_closed_total", "Connections that ended, by reason."),
    ("ringpost_memory_bytes", "Resident memory by owner; other is what no owner explains."),
    ("ringpost_kernel_memory_bytes", "Memory of the kernel, for all processes of this machine."),
    ("ringpost_messages_total", "WebSocket messages."),
    ("ringpost_bytes_total", "Bytes received from and sent to sockets."),
    ("ringpost_sends_total", "Messages that clients asked to send."),
    ("ringpost_sends_duplicate_total", "Sends answered from the log because they were there already."),
    ("ringpost_sends_refused_total", "Sends refused."),
    ("ringpost_appends_total", "Append requests to the store."),
    ("ringpost_append_conflicts_total", "Appends decided again because the head had moved."),
    ("ringpost_append_unknown_total", "Appends whose outcome had to be looked up."),
    ("ringpost_pushes_total", "Records and marks pushed to sessions."),
    ("ringpost_acks_total", "Ack frames from sessions."),
    ("ringpost_ticks_total", "Delivered and read ticks pushed to senders."),
    ("ringpost_syncs_total", "Syncs after a hello."),
    ("ringpost_reconciles_total", "Sessions of more than half a day that looked whether they have everything."),
    ("ringpost_reconcile_found_total", "Conversations in which they lacked something that no hint had told them of."),
    ("ringpost_takeovers_total", "Sessions replaced by a newer one of the same device."),
    ("ringpost_slow_consumers_total", "Sessions closed because they acknowledged nothing for too long."),
    ("ringpost_rate_limited_total", "Requests answered RATE_LIMITED."),
    ("ringpost_turn_seconds", "Turns of the shards' loops, from the wake-up to the submission."),
    (
        "ringpost_send_seconds",
        "Messages to a user or a group, from their completion to the submission of SENT; one in four is timed.",
    ),
    ("ringpost_presence_total", "Presence states sent to sessions that watch; answers to watch aside."),
    ("ringpost_ephemeral_total", "Typing events sent to sessions; a session without room is not told."),
    (
        "ringpost_device_mismatches_total",
        "Messages with a slice for each device that were not for the devices that there are.",
    ),
    (
        "ringpost_devices_total",
        "Devices that were linked, unlinked by request, and unlinked because nobody saw them for long.",
    ),
    ("ringpost_device_limits_total", "Hellos of a device beyond the five that a user may have."),
    (
        "ringpost_documents_unreadable_total",
        "Times that a user's settings or list of devices were looked into and could not be read by this version.",
    ),
    (
        "ringpost_beginnings_refused_total",
        "First messages of new conversations beyond what a user who was never answered may begin in a day.",
    ),
    (
        "ringpost_expired_undelivered_total",
        "Records that had expired before any device of a member was given them, or had a slice for none of them, counted when \
         one passes over them.",
    ),
    ("ringpost_store_busy_total", "Store requests refused because its queue was full."),
    ("ringpost_mesh_messages_total", "Messages from shard to shard."),
    ("ringpost_store_waiting", "Requests to the store that have no answer yet."),
    ("ringpost_sessions", "Sessions that said hello and are not closed yet."),
    ("ringpost_users_in_memory", "Users that the shards hold: those with a session, and those who just had one."),
    ("ringpost_conversations_in_memory", "Conversations that the shards hold: those used in the last ten minutes."),
    ("ringpost_timers", "Armed deadlines of connections, sessions and conversations."),
    ("ringpost_mesh_spilled_total", "Messages that had to wait because another shard's inbox was full."),
    ("ringpost_mesh_spill", "Messages waiting for a place in another shard's inbox."),
    (
        "ringpost_outbound_bytes",
        "Bytes kept for sessions' sockets: waiting, or with the kernel and not taken as a whole yet.",
    ),
    ("ringpost_ring_overflow_total", "Times a completion queue overflowed."),
    ("ringpost_ring_enobufs_total", "Receives that found no provided buffer."),
    ("ringpost_ring_rearm_total", "Multishot operations that ended and were armed again."),
    ("ringpost_ring_stale_total", "Completions of connections that were gone, dropped by generation."),
    ("ringpost_ring_submissions_total", "Operations submitted."),
    ("ringpost_ring_completions_total", "Completions taken."),
    ("ringpost_ring_enters_total", "io_uring_enter calls."),
    ("ringpost_ring_operations_in_flight", "Operations submitted and not completed."),
    ("ringpost_ring_slots_occupied", "Slots of the connection tables in use."),
    ("ringpost_ring_slots", "Slots of the connection tables."),
    ("ringpost_ring_buffers_out", "Receive buffers held by connections."),
    ("ringpost_ring_buffers", "Receive buffers."),
    ("ringpost_tokens_refused_total", "Tokens refused, by reason: of connections, renewals and tickets."),
    ("ringpost_token_keys", "Keys that tokens are checked with, by algorithm."),
    ("ringpost_token_keys_unused", "Keys of fetched sets that cannot be used."),
    (
        "ringpost_token_keys_refresh_failures_total",
        "Failed readings of the key file and failed fetches of sets of keys.",
    ),
    ("ringpost_token_keys_failing", "Whether the key file, and how many sets of keys, failed when last asked for."),
    ("ringpost_token_keys_unanswered", "Sets of keys that were never fetched since the start."),
    ("ringpost_jwks_age_seconds", "Time since the last successful fetch, of the set of keys that has waited longest."),
    ("ringpost_store_requests_total", "Requests that the store answered, by kind."),
    ("ringpost_store_records_total", "Records made durable."),
    ("ringpost_store_registers_total", "Registers (acks, reads) raised."),
    ("ringpost_store_commits_total", "Group commits."),
    ("ringpost_store_fdatasyncs_total", "fdatasync calls; records over these is the batching."),
    (
        "ringpost_store_segments_total",
        "Segments of the log made: ahead, or late, when a message waited for them already. The first of each start is late.",
    ),
    ("ringpost_store_wal_bytes_total", "Bytes written to the write-ahead log."),
    ("ringpost_store_full_total", "Appends refused because less of the disk is free than disk_floor."),
    ("ringpost_store_full", "Whether appends are refused now because less of the disk is free than disk_floor."),
    ("ringpost_commit_seconds", "Duration of group commits: write, fdatasync, apply."),
    ("ringpost_commit_records", "Records per group commit."),
    ("ringpost_store_stalled_total", "Writes answered as unavailable: the trees could not take them, or tell of them."),
    ("ringpost_store_uncovered_bytes", "Bytes of the log that the trees on disk do not hold: what a start would read."),
    (
        "ringpost_store_table_bytes",
        "Bytes of the store's memory tables, those that are being written to disk among them.",
    ),
    (
        "ringpost_store_cache_bytes",
        "Bytes of what the store keeps of its trees: blocks, and rows and rosters that decisions need.",
    ),
    ("ringpost_store_checkpoints_total", "Times that memory tables were written to the trees on disk."),
    ("ringpost_store_checkpoint_seconds_total", "Time that checkpoints took."),
    ("ringpost_store_checkpointed_bytes_total", "Bytes of the log that checkpoints covered."),
    ("ringpost_store_compactions_total", "Merges of tables of the trees."),
    ("ringpost_store_compaction_seconds_total", "Time that merges took."),
    ("ringpost_store_compaction_errors_total", "Trees that could not be compacted; tried again every minute."),
    ("ringpost_store_tree_errors_total", "Requests that the trees could not serve."),
    ("ringpost_store_expired_months_total", "Months of relayed messages that were removed."),
    (
        "ringpost_store_tree_bytes",
        "Bytes of the trees on disk: state beside the records, and records by retention class.",
    ),
    ("ringpost_store_leaving_bytes", "Bytes of removed tables that are not given back to the disk yet."),
    (
        "ringpost_store_trickled_bytes_total",
        "Bytes of tables that went to the disk while they were written, not at the end.",
    ),
    ("ringpost_store_rows_read_total", "Rows that reads looked at, by what was asked for."),
    ("ringpost_store_row_lookups_total", "Rows that decisions needed, by where they were found."),
    ("ringpost_recovery_records", "Records of the log that the start brought into the trees."),
    ("ringpost_recovery_segments", "Log segments read at start."),
    ("ringpost_recovery_cut_bytes", "Bytes of the torn last batch that the start cut off."),
    ("ringpost_recovery_seconds", "Time that recovery took."),
    ("ringpost_user_exports_total", "Exports of a user's data, by how they ended."),
    ("ringpost_user_erasures_total", "Erasures of users, by how they ended."),
    ("ringpost_user_records_erased_total", "Records whose body was taken by erasures of users."),
    ("ringpost_shard_connections", "Open connections of each shard."),
    ("ringpost_build_info", "The version that runs."),
    ("process_resident_memory_bytes", "Resident memory."),
    ("process_start_time_seconds", "When the process started, in seconds since 1970."),
    ("process_cpu_seconds_total", "User and system CPU time."),
    ("process_open_fds", "Open file descriptors; sockets of sessions are not among them."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_find_every_metric_and_setting_in_the_manual() {
        let manual = include_str!("../../../docs/operations.md");
        let names = |of: &str| manual.contains(&format!("`{of}`")) || manual.contains(&format!("`{of}{{"));
        for (name, _) in HELP {
            assert!(names(name), "{name}");
        }
        for setting in crate::config::SETTINGS {
            assert!(names(setting.key), "{}", setting.key);
        }
    }
}
