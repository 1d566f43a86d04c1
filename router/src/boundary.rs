//! The whole boundary of the router: what goes in, what comes out.
//!
//! Order: outputs come in the order in which they were decided. To one connection, frames are sent in that order; to one
//! shard, envelopes arrive in that order; store requests of one conversation are submitted in that order. An
//! `Output::Close` is the last output for its connection.
//!
//! Budget: `Input` and `Output` are at most 96 B each; bodies are reference-counted. A request other than an ack or a ping
//! costs one box.

use crate::envelope::Envelope;
use crate::rate::Rate;
use crate::told::Told;
use bytes::Bytes;
use ringpost_persist::{Body, ConversationKind, Peer, Record, StoreAnswer, StoreRequest};
use ringpost_proto::close::CloseCode;
use ringpost_proto::id::{ClientMessageId, DeviceId, Seq, UserKey};
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame;
use std::sync::Arc;

/// Which shard of this process.
pub type ShardId = u16;

/// A connection. The generation tells a later connection in the same slot apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnRef {
    pub shard: ShardId,
    pub slot: u32,
    pub generation: u32,
}

/// Who a token says a connection is. Checked by the edge: signature, issuer, audience, names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: UserKey,
    pub device: DeviceId,
    /// Unix milliseconds at which the token was issued, and at which it expires.
    pub issued_ms: u64,
    pub exp_ms: u64,
    /// Whether the token says that this is, or is not, the user's primary device.
    pub primary: Option<bool>,
}

/// The two clocks, read by the caller once per turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic milliseconds: deadlines.
    pub mono_ms: u64,
    /// Unix microseconds: stamps. May jump.
    pub unix_us: u64,
}

#[derive(Debug)]
pub enum Input {
    /// An authenticated connection said hello. `id`: the hello's request number.
    Open {
        conn: ConnRef,
        id: u64,
        identity: Arc<Identity>,
        hello: Box<v1::Hello>,
    },
    /// A request of an open session, decoded. `id` 0: no answer wanted.
    Request {
        conn: ConnRef,
        id: u64,
        request: Request,
    },
    /// The token of a `renew`, checked by the edge; `None`: not valid.
    Renewed {
        conn: ConnRef,
        id: u64,
        identity: Option<Arc<Identity>>,
    },
    /// The connection is gone, for whatever reason. Idempotent.
    Closed {
        conn: ConnRef,
    },
    Store(StoreAnswer),
    /// From another shard of this process. In order per sending shard, never lost.
    Envelope(Box<Envelope>),
    /// A deadline named by `next_deadline_ms` may have passed.
    Timer,
    /// Close every session with DRAINING.
    Drain,
}

/// A client's request. Names and sizes are checked by the router, encoding by the edge.
#[derive(Debug)]
pub enum Request {
    Ack {
        push: u64,
        ranges: bool,
    },
    Ping,
    Bye,
    Send(Box<v1::Send>),
    Lookup(Box<v1::Lookup>),
    Read(Box<v1::Read>),
    Fetch(Box<v1::Fetch>),
    History(Box<v1::History>),
    Conversations(Box<v1::Conversations>),
    /// Every other request that this version knows.
    More(Box<client_frame::Request>),
    /// Hello in an open session, or a request that this version does not know.
    Unexpected {
        hello: bool,
    },
}

#[derive(Debug)]
pub enum Output {
    /// Any frame but pushes of records and pages.
    Frame {
        conn: ConnRef,
        frame: Box<v1::ServerFrame>,
    },
    /// A SENT answer, unboxed for the hot path.
    Sent {
        conn: ConnRef,
        re: u64,
        sent: v1::Sent,
    },
    /// One record as push `n`. `peer`: the conversation from this user's side. `own`: show the client message id.
    PushRecord {
        conn: ConnRef,
        n: u64,
        peer: Peer,
        record: Arc<Record>,
        own: bool,
    },
    /// A page for fetch or history.
    Page {
        conn: ConnRef,
        re: u64,
        page: Box<RecordPage>,
    },
    Close {
        conn: ConnRef,
        code: CloseCode,
        reason: &'static str,
    },
    /// The session has 32 unanswered requests (stop reading its socket), or again fewer (go on).
    Reading {
        conn: ConnRef,
        on: bool,
    },
    Store(StoreRequest),
    Envelope {
        shard: ShardId,
        envelope: Box<Envelope>,
    },
    /// The edge may forget or remember the session for metrics: welcome was sent.
    Established {
        conn: ConnRef,
    },
}

/// Records of one conversation as one user sees it.
#[derive(Debug)]
pub struct RecordPage {
    pub peer: Peer,
    /// With whether the client message id is shown.
    pub records: Vec<(Arc<Record>, bool)>,
    pub skips: Vec<v1::Skip>,
    pub next_before_seq: Seq,
}

/// A message on its way to a conversation: checked and hashed, without a position.
#[derive(Debug, Clone)]
pub struct Proposal {
    pub kind: Arc<ConversationKind>,
    pub sender: UserKey,
    pub device: DeviceId,
    pub cmid: ClientMessageId,
    pub content_hash: [u8; 16],
    pub message_kind: v1::kind::Value,
    pub ref_seq: Seq,
    pub body: Body,
    pub media: Option<Bytes>,
    pub trace: Option<[u8; 16]>,
    /// The epoch of the group that the sender knows; 0: whatever it is now.
    pub group_epoch: u32,
    pub wants: Wants,
}

/// What answers a proposal that lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    Sent,
    /// The group as it is then.
    Group,
    Ok,
}

/// Registers of one request to the store, about: 2 to 3 us each of the one thread that commits (measured), for which what is sent
/// meanwhile waits.
pub const RAISES: usize = 128;

/// What the router is told at start.
#[derive(Clone, Debug)]
pub struct Settings {
    pub shard: ShardId,
    pub shards: ShardId,
    pub node: Arc<str>,
    /// Worker number of record ids, 0 to 8191.
    pub worker: u16,
    pub store_incarnation: [u8; 16],
    pub heartbeat_ms: u64,
    pub window_pushes: u32,
    pub window_bytes: u32,
    pub progress_ms: u64,
    pub crash_slot_ms: u64,
    /// New direct conversations that a user who was never answered may begin in a day; 0: not limited.
    pub new_conversations: u32,
    /// A device that was not seen for this long is unlinked with the next change of its user's devices; 0: never.
    pub dormant_ms: u64,
    /// Conversations held in memory, unless more than these have something to do.
    pub conversations: u32,
    /// See [`RAISES`].
    pub raises: usize,
    /// Sends of a device, sends of a user over all its devices, and other requests of a device (acks and pings aside).
    pub device_sends: Rate,
    pub user_sends: Rate,
    pub requests: Rate,
    /// Who is blocked is refused, instead of being kept from the other side without a word.
    pub refuse_blocked: bool,
    /// Limits that only welcome needs.
    pub told: Told,
    /// For session ids and jitter; the only randomness of a router.
    pub seed: u64,
}

/// Counters that only grow, read by the edge for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub sends: u64,
    pub sends_duplicate: u64,
    pub sends_refused: u64,
    pub appends: u64,
    pub append_conflicts: u64,
    pub append_unknown: u64,
    pub pushes: u64,
    pub acks: u64,
    pub ticks: u64,
    pub syncs: u64,
    /// Sessions that looked whether they have everything, and conversations in which they had not.
    pub reconciles: u64,
    pub reconcile_found: u64,
    pub takeovers: u64,
    pub slow_consumers: u64,
    /// Requests over a rate.
    pub rate_limited: u64,
    /// Typing events sent.
    pub ephemeral: u64,
    /// Presence states sent, answers to watch aside.
    pub presence: u64,
    /// Sends whose slices were not for the devices that there are.
    pub device_mismatches: u64,
    /// Devices linked, unlinked by request, and unlinked because nobody saw them for long; and those beyond the most.
    pub devices_linked: u64,
    pub devices_unlinked: u64,
    pub devices_dormant: u64,
    pub device_limits: u64,
    /// Documents of users that this version cannot read, each time one was looked into.
    pub settings_unreadable: u64,
    pub devices_unreadable: u64,
    /// New conversations of users who were never answered, beyond a day's worth.
    pub beginnings_refused: u64,
    /// Records that had expired before any device of a member was given them, or had a slice for none of them, each time a
    /// member's device passed over one.
    pub expired_undelivered: u64,
}

/// A resume token as it stands in welcome and hello.
pub type ResumeToken = Bytes;

const _: () = assert!(size_of::<Input>() <= 96);
const _: () = assert!(size_of::<Output>() <= 96);
