//! The connections of one worker: sockets on its ring, and the WebSocket on each.
//!
//! Owns: one small entry per connection; buffers only where bytes are on their way. Guarantees: at most a fixed number of
//! connections is being opened at a time; every connection that was wanted ends in exactly one `Down` per opening, and is
//! counted under what happened to it; WebSocket pings are answered here. Never does: knowing what a message means.

mod opening;
mod receiving;

use super::Shared;
use super::worker::User;
use crate::report::Connections;
use crate::text::mix;
use crate::who::{Names, Tokens};
use bytes::Bytes;
use ringpost_gateway::ring::{self, Handle, Ring};
use ringpost_gateway::transport::websocket::{Decoder, Opcode, Role, encode};
use ringpost_proto::v1;
use ringpost_proto::wire::{Encoding, encode_client};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Bytes of the longest message that is read; beyond the wire's frame limit.
const MOST_MESSAGE: u32 = 1 << 20;
/// Empty buffers that are kept for the next send.
const SPARE_BUFFERS: usize = 1_024;

/// What is spoken on a connection.
#[derive(Clone, Debug)]
pub enum Dialect {
    /// WebSocket after an upgrade for this path.
    WebSocket { path: Path, subprotocol: Option<&'static str>, opcode: Opcode },
    /// Bytes as they come, each chunk a message: for echo servers that know no WebSocket.
    Raw,
}

/// The path of an upgrade.
#[derive(Clone, Debug)]
pub enum Path {
    Same(Cow<'static, str>),
    /// /room/NAME for the first users of a worker, `unit` to a room, and what comes after the rooms to `/echo`.
    Rooms {
        rooms: u32,
        unit: u32,
    },
}

impl Path {
    pub fn of(&self, worker: u32, user: User) -> Cow<'_, str> {
        match self {
            Self::Same(path) => Cow::Borrowed(path),
            Self::Rooms { rooms, unit } => match user.checked_div(*unit) {
                Some(room) if room < *rooms => Cow::Owned(format!("/room/{worker}-{room}")),
                _ => Cow::Borrowed("/echo"),
            },
        }
    }
}

/// Where a worker's connections go, and how.
#[derive(Clone)]
pub struct Target<'a> {
    pub address: SocketAddr,
    /// The request's Host.
    pub host: String,
    pub dialect: Dialect,
    /// In turn; empty: the kernel chooses.
    pub sources: &'a [IpAddr],
    /// Who connects, where a token is needed.
    pub credentials: Option<(&'a Tokens, &'a Names)>,
    /// Direct descriptors of the ring.
    pub slots: u32,
    /// From connect to welcome.
    pub patience: Duration,
    /// Connections that may be on their way to welcome at a time.
    pub at_once: u32,
    /// Every other connection, drawn at random, ends by a reset instead of FIN when it is cut.
    pub resets: bool,
    /// Tells this worker's choices from the others'.
    pub worker: u32,
}

/// Why a connection ended or did not come to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// This machine's own failure.
    Local(&'static str),
    /// Before welcome, by the server.
    Refused {
        code: Option<u16>,
    },
    TimedOut,
    /// After welcome. `code`: of the close frame, if there was one.
    Lost {
        code: Option<u16>,
    },
    /// This side left on purpose: without a word, or the server ended what goodbye was said on.
    Left,
}

impl Down {
    /// The WebSocket close code, if the server sent one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code } | Self::Lost { code } => *code,
            Self::Local(_) | Self::TimedOut | Self::Left => None,
        }
    }
}

#[derive(Debug)]
pub enum Event {
    Opened(User),
    Message { user: User, payload: Bytes, at: u64 },
    Activity { user: User, at: u64 },
    Down { user: User, why: Down },
}

/// What ends a worker.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("{0}")]
    Setup(#[from] ring::SetupError),
    #[error("io_uring: {0}")]
    Ring(#[from] std::io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    Connecting,
    Upgrading,
    /// The upgrade was accepted; welcome is awaited.
    Open,
    Up,
}

struct Link {
    handle: Handle,
    decoder: Decoder,
    outbox: Vec<u8>,
    /// When opening began.
    since: u64,
    /// Counts openings.
    epoch: u32,
    phase: Phase,
    sending: bool,
    /// Its end, whoever brings it about, is what this side wants.
    leaving: bool,
    /// In the list of those with something to send.
    listed: bool,
}

/// See the module's page.
pub struct Links<'a> {
    ring: Ring,
    target: &'a Target<'a>,
    shared: &'a Shared,
    links: Vec<Link>,
    by_slot: Vec<User>,
    wanted: VecDeque<User>,
    /// Openings in order of their beginning: (user, epoch).
    opening: VecDeque<(User, u32)>,
    opening_now: u32,
    to_flush: Vec<User>,
    /// Response heads that came in pieces.
    heads: Vec<(User, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    scratch: Vec<u8>,
    drawn: u64,
    pending: Vec<Event>,
    connections: Connections,
}

impl<'a> Links<'a> {
    pub fn new(target: &'a Target<'a>, users: u32, shared: &'a Shared) -> Result<Self, LinkError> {
        let config =
            ring::Config { slots: 1, connect_slots: target.slots.saturating_sub(1), ..ring::Config::default() };
        let none = Handle { slot: u32::MAX, generation: 0 };
        let link = || Link {
            handle: none,
            decoder: Decoder::new(Role::Client, MOST_MESSAGE),
            outbox: Vec::new(),
            since: 0,
            epoch: 0,
            phase: Phase::Down,
            sending: false,
            leaving: false,
            listed: false,
        };
        Ok(Self {
            ring: Ring::new(&config)?,
            target,
            shared,
            links: (0..users).map(|_| link()).collect(),
            by_slot: vec![User::MAX; target.slots as usize],
            wanted: VecDeque::new(),
            opening: VecDeque::new(),
            opening_now: 0,
            to_flush: Vec::new(),
            heads: Vec::new(),
            spare: Vec::new(),
            scratch: Vec::new(),
            drawn: mix(u64::from(target.worker)),
            pending: Vec::new(),
            connections: Connections::default(),
        })
    }

    /// Opens a connection for `user` as soon as its turn comes. A user that has one keeps it.
    pub fn want(&mut self, user: User) {
        self.wanted.push_back(user);
    }

    /// Welcome has arrived: the opening is over. Gives its beginning the first time.
    pub fn established(&mut self, user: User) -> Option<u64> {
        let link = self.links.get_mut(user as usize).filter(|link| link.phase == Phase::Open)?;
        link.phase = Phase::Up;
        let (since, epoch) = (link.since, link.epoch);
        self.opening_now -= 1;
        if epoch > 1 {
            self.connections.reconnected += 1;
        } else {
            self.connections.established += 1;
        }
        Some(since)
    }

    /// How often a connection was opened for this user.
    pub fn epoch(&self, user: User) -> u32 {
        self.links.get(user as usize).map_or(0, |link| link.epoch)
    }

    /// Sends a frame in protobuf. Nothing happens on a connection that is not open.
    pub fn send(&mut self, user: User, frame: &v1::ClientFrame) {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        encode_client(Encoding::Protobuf, frame, &mut bytes);
        self.send_message(user, &bytes);
        self.scratch = bytes;
    }

    /// Sends a message, or the bytes as they are where no WebSocket is spoken.
    pub fn send_message(&mut self, user: User, payload: &[u8]) {
        let target = self.target;
        let key = self.draw();
        let Some(out) = self.outbox(user) else { return };
        match &target.dialect {
            Dialect::Raw => out.extend_from_slice(payload),
            Dialect::WebSocket { opcode, .. } => encode::masked(out, *opcode, payload, key),
        }
    }

    /// Notes something that the server said that is no reason to end the connection.
    pub fn complain(&mut self, _user: User, what: &str) {
        self.connections.reason(what);
    }

    /// Gives the connection up, as refused or lost by whether welcome had come; `Down` follows.
    pub fn give_up(&mut self, user: User, why: &str) {
        self.down(user, why, None);
    }

    /// Cuts the connection, as a device that loses its network does; `Down` follows.
    pub fn leave(&mut self, user: User) {
        self.down(user, "", Some(Down::Left));
    }

    /// The end of the connection will be no loss: goodbye is being said. `Down` follows when the server has ended it.
    pub fn let_go(&mut self, user: User) {
        if let Some(link) = self.links.get_mut(user as usize).filter(|link| link.phase != Phase::Down) {
            link.leaving = true;
        }
    }

    /// Submits what is to be sent and opened, waits at most `wait` for something to happen, and gives what did.
    pub fn turn(&mut self, wait: Duration, events: &mut Vec<Event>) -> Result<(), LinkError> {
        self.open_wanted();
        self.flush();
        let wait = if self.pending.is_empty() { wait } else { Duration::ZERO };
        self.ring.turn(Some(wait))?;
        let now = self.shared.clock.now();
        while let Some(completion) = self.ring.poll() {
            self.complete(completion, now);
        }
        self.expire(now);
        events.append(&mut self.pending);
        Ok(())
    }

    /// What became of all connections.
    pub fn finish(self) -> Connections {
        self.connections
    }

    /// Ends a connection and says so once. `why` is refused or lost, by phase, where it is not given.
    fn down(&mut self, user: User, reason: &str, why: Option<Down>) {
        let Some(link) = self.links.get_mut(user as usize).filter(|link| link.phase != Phase::Down) else { return };
        let up = link.phase == Phase::Up;
        let why = why.unwrap_or(if up { Down::Lost { code: None } } else { Down::Refused { code: None } });
        let why = if std::mem::take(&mut link.leaving) { Down::Left } else { why };
        self.opening_now -= u32::from(!up);
        (link.phase, link.sending) = (Phase::Down, false);
        link.decoder = Decoder::new(Role::Client, MOST_MESSAGE);
        link.outbox = Vec::new();
        if let Some(slot) = self.by_slot.get_mut(link.handle.slot as usize) {
            *slot = User::MAX;
        }
        self.ring.close(link.handle);
        self.heads.retain(|(of, _)| *of != user);
        self.count(&why, reason);
        self.pending.push(Event::Down { user, why });
    }

    fn count(&mut self, why: &Down, reason: &str) {
        let connections = &mut self.connections;
        match why {
            Down::Local(name) => return *connections.local_errors.entry((*name).into()).or_default() += 1,
            Down::Left => return,
            Down::Refused { .. } => connections.refused += 1,
            Down::TimedOut => connections.timed_out += 1,
            Down::Lost { .. } => connections.lost += 1,
        }
        connections.reason(reason);
    }

    fn flush(&mut self) {
        for user in std::mem::take(&mut self.to_flush) {
            let Some(link) = self.links.get_mut(user as usize) else { continue };
            link.listed = false;
            if link.sending || link.outbox.is_empty() || link.phase == Phase::Down {
                continue;
            }
            // Refused only where the socket is on its way out; then its receive ends, and that is heard of.
            link.sending = self.ring.send(link.handle, std::mem::take(&mut link.outbox)).is_ok();
        }
    }

    /// Where bytes for this user go; `None` when it has no connection.
    fn outbox(&mut self, user: User) -> Option<&mut Vec<u8>> {
        self.list(user);
        let link =
            self.links.get_mut(user as usize).filter(|link| !matches!(link.phase, Phase::Down | Phase::Connecting))?;
        if link.outbox.capacity() == 0 {
            link.outbox = self.spare.pop().unwrap_or_default();
        }
        Some(&mut link.outbox)
    }

    fn list(&mut self, user: User) {
        if let Some(link) = self.links.get_mut(user as usize).filter(|link| !link.listed) {
            link.listed = true;
            self.to_flush.push(user);
        }
    }

    /// The user whose connection this is; `None` when it was given up.
    fn user(&self, handle: Handle) -> Option<User> {
        let user = *self.by_slot.get(handle.slot as usize)?;
        self.links.get(user as usize).filter(|link| link.handle == handle).map(|_| user)
    }

    fn draw_number(&mut self) -> u64 {
        self.drawn = mix(self.drawn);
        self.drawn
    }

    fn draw(&mut self) -> [u8; 4] {
        (self.draw_number() as u32).to_ne_bytes()
    }
}
