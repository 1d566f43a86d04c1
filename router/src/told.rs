//! The limits that welcome tells: those of the wire, those that the router keeps, and those that it knows only to tell them.

use crate::Settings;
use ringpost_proto::{limits, v1};

/// Limits that others keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// From accept to an authenticated hello, milliseconds.
    pub authenticate_ms: u64,
    /// Connections that one client address may have open; 0: not limited.
    pub address_connections: u32,
    /// Upgrades of one client address; 0: not limited.
    pub address_upgrades_per_second: u32,
    /// Days for which a message is kept at least, delivered or not; 0: until somebody deletes it.
    pub retention_days: u32,
}

impl Settings {
    pub(crate) fn limits(&self) -> v1::Limits {
        v1::Limits {
            text_bytes: limits::BODY_BYTES as u32,
            payload_bytes: limits::BODY_BYTES as u32,
            frame_bytes: limits::FRAME_BYTES as u32,
            json_frame_bytes: limits::JSON_FRAME_BYTES as u32,
            unanswered_requests: limits::UNANSWERED_REQUESTS,
            fetch_records: limits::FETCH_RECORDS,
            history_records: limits::HISTORY_RECORDS,
            lookup_ids: limits::LOOKUP_IDS,
            slice_bytes: limits::SLICE_BYTES as u32,
            slices_bytes: limits::SLICES_BYTES as u32,
            slices: limits::SLICES as u32,
            group_members: limits::GROUP_MEMBERS as u32,
            watched_users: limits::WATCHED_USERS as u32,
            sends_per_second: self.device_sends.per_second,
            sends_burst: self.device_sends.burst,
            requests_per_second: self.requests.per_second,
            new_conversations_per_day: self.new_conversations,
            edit_ms: limits::EDIT_MS,
            erase_ms: limits::ERASE_MS,
            requests_burst: self.requests.burst,
            user_sends_per_second: self.user_sends.per_second,
            user_sends_burst: self.user_sends.burst,
            address_connections: self.told.address_connections,
            address_upgrades_per_second: self.told.address_upgrades_per_second,
            head_bytes: limits::HEAD_BYTES as u32,
            authenticate_ms: self.told.authenticate_ms,
            devices: limits::DEVICES as u32,
            retention_days: self.told.retention_days,
        }
    }
}
