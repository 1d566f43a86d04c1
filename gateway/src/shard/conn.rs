//! What a shard knows of one connection, and the slab of them.
//!
//! An idle session is one slab entry and holds no buffer: what is incomplete or queued is on the heap only while it is.

use super::edge::Exchange;
use super::preamble::Preamble;
use super::stats::Stat;
use crate::mesh::Errand;
use crate::ring::Handle;
use crate::transport::http::{BodyReader, HeadReader, RequestHead, ResponseFraming};
use crate::transport::websocket::{Decoder, Role};
use ringpost_proto::wire::Encoding;
use ringpost_router::paged::Paged;
use ringpost_router::{Identity, ShardId};
use std::sync::Arc;

/// Where a connection is in its life.
#[derive(Debug, Default)]
pub(super) enum State {
    /// No socket in this slot.
    #[default]
    Free,
    /// From a proxy, waits for the header that says for whom.
    Preamble(Box<Preamble>),
    /// Waits for a request head; boxed while one is incomplete.
    Head(Option<Box<HeadReader>>),
    /// An HTTP request is with the control plane.
    Http(Box<Http>),
    /// WebSocket, echoed.
    Echo,
    /// WebSocket, waits for hello. The identity, if the upgrade carried a token.
    Hello(Option<Arc<Identity>>),
    /// On its way to the shard of its user.
    Moving(Box<Move>),
    /// Came from another shard, waits for its letter.
    Arriving,
    /// A session; its router is on shard `home`.
    Open { home: ShardId },
    /// The last bytes go out; counted under `why` when the socket is closed. `linger`: the close frame or answer was not the
    /// peer's wish, so what it still sends is read and dropped until it has seen the end.
    Closing { why: Stat, linger: bool },
    /// The socket is with another shard; its slot is not free yet.
    Departed,
}

impl State {
    /// The gauge that counts this state. `None`: not counted as open.
    pub fn gauge(&self) -> Option<Stat> {
        Some(match self {
            Self::Free | Self::Departed => return None,
            Self::Preamble(_) | Self::Head(_) => Stat::ConnHead,
            Self::Http(_) => Stat::ConnHttp,
            Self::Echo => Stat::ConnEcho,
            Self::Hello(_) | Self::Moving(_) | Self::Arriving => Stat::ConnHello,
            Self::Open { .. } => Stat::ConnOpen,
            Self::Closing { .. } => Stat::ConnClosing,
        })
    }

    /// Whether WebSocket messages are taken in.
    pub fn is_websocket(&self) -> bool {
        matches!(self, Self::Echo | Self::Hello(_) | Self::Open { .. })
    }
}

/// One HTTP exchange.
#[derive(Debug)]
pub(super) struct Http {
    pub head: RequestHead,
    pub exchange: Exchange,
    pub body: BodyReader,
    /// The next chunk of the request's body.
    pub chunk: Vec<u8>,
    /// A chunk is with the control plane.
    pub awaits_credit: bool,
    pub body_ended: bool,
    /// The response, once its head was sent.
    pub response: Option<ResponseFraming>,
    /// A chunk of the response is in the outbox: credit when that is empty.
    pub owes_credit: bool,
}

/// A connection that leaves for another shard.
#[derive(Debug)]
pub(super) struct Move {
    pub home: ShardId,
    pub tag: u64,
    pub errand: Errand,
    /// What arrived after what is in the errand.
    pub bytes: Vec<u8>,
    /// The socket was handed to the ring.
    pub sent: bool,
}

/// Bits of [`Conn::flags`].
pub(super) mod flag {
    /// A send is with the ring.
    pub const SENDING: u16 = 1;
    /// Listed among those whose outbox is flushed at the end of the turn.
    pub const DIRTY: u16 = 1 << 1;
    /// Not read: too many unanswered requests, or an HTTP exchange that must go on first; or the outbox is over its bound.
    pub const PAUSED_LOGIC: u16 = 1 << 2;
    pub const PAUSED_OUTBOX: u16 = 1 << 3;
    /// Pinged since anything was last heard.
    pub const PINGED: u16 = 1 << 4;
    /// The end was told to the peer's TCP.
    pub const SHUT: u16 = 1 << 5;
    /// The peer has finished sending.
    pub const EOF: u16 = 1 << 6;
    /// The deadline in the wheel watches the outbox.
    pub const WATCHED: u16 = 1 << 7;
    /// The ring has no receive for this socket, and nothing that it received is still on its way here.
    pub const RECV_OFF: u16 = 1 << 8;
    pub const PAUSED: u16 = PAUSED_LOGIC | PAUSED_OUTBOX;
}

/// Bytes that arrived for a connection that is not read. The socket is read again only once all of them were looked at, so
/// it holds no more than what the kernel received before it heard of one pause.
#[derive(Debug, Default)]
pub(super) struct Stash {
    pub bytes: Vec<u8>,
    /// Looked at up to here.
    pub taken: usize,
}

pub(super) struct Conn {
    pub state: State,
    pub generation: u32,
    /// Monotonic milliseconds, their low 32 bits, at which bytes last came.
    pub last_heard: u32,
    /// When the peer must have authenticated or sent a head; while the outbox is watched, when it must have moved.
    pub since: u32,
    pub flags: u16,
    pub encoding: Encoding,
    pub decoder: Decoder,
    /// Bytes to be sent after the send that is with the ring.
    pub out: Vec<u8>,
    /// Received and not looked at while the connection is paused.
    pub stash: Option<Box<Stash>>,
    /// Bytes of the watched send that had been taken when it was last looked at.
    pub progress: u32,
}

/// Per idle session; the ring, the wheel and the router have entries of their own.
const _: () = assert!(size_of::<Conn>() <= 88);

impl Conn {
    fn empty() -> Self {
        Self {
            state: State::Free,
            generation: 0,
            last_heard: 0,
            since: 0,
            flags: flag::RECV_OFF,
            encoding: Encoding::Json,
            decoder: Decoder::new(Role::Server, 0),
            out: Vec::new(),
            stash: None,
            progress: 0,
        }
    }

    pub fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub fn set(&mut self, flag: u16) {
        self.flags |= flag;
    }

    pub fn clear(&mut self, flag: u16) {
        self.flags &= !flag;
    }
}

/// Connections by the slot of their direct descriptor. Grows with the slots that the kernel uses, lowest first.
#[derive(Default)]
pub(super) struct Slab {
    conns: Paged<Conn>,
}

impl Slab {
    /// The connection that the handle means, if it is still that one.
    pub fn get(&mut self, handle: Handle) -> Option<&mut Conn> {
        let conn = self.conns.get_mut(handle.slot as usize)?;
        (conn.generation == handle.generation && !matches!(conn.state, State::Free)).then_some(conn)
    }

    /// The connection in a slot, whichever it is, and its handle.
    pub fn at(&mut self, slot: u32) -> Option<(Handle, &mut Conn)> {
        let conn = self.conns.get_mut(slot as usize)?;
        let handle = Handle { slot, generation: conn.generation };
        (!matches!(conn.state, State::Free)).then_some((handle, conn))
    }

    /// A new connection; its slot must be free.
    pub fn insert(&mut self, handle: Handle, state: State, now_ms: u64) {
        let conn = self.conns.reach(handle.slot as usize, Conn::empty);
        debug_assert!(matches!(conn.state, State::Free));
        *conn = Conn {
            state,
            generation: handle.generation,
            last_heard: now_ms as u32,
            since: now_ms as u32,
            ..Conn::empty()
        };
    }

    /// Frees the slot and gives what was in it.
    pub fn remove(&mut self, handle: Handle) -> Option<Conn> {
        let conn = self.get(handle)?;
        Some(std::mem::replace(conn, Conn::empty()))
    }

    /// Slots that exist.
    pub fn slots(&self) -> u32 {
        self.conns.len() as u32
    }

    /// Bytes of all slots, whether they are used or not.
    pub fn bytes(&self) -> usize {
        self.conns.bytes()
    }
}
