//! Everything that one shard says to another: one closed enum. Each variant says what would be lost with it; inside one
//! process nothing is.

use crate::address::table::Origin;
use crate::transport::http::Upgrade;
use crate::transport::websocket::Decoder;
use ringpost_proto::v1;
use ringpost_proto::wire::Encoding;
use ringpost_router::envelope::Envelope;
use ringpost_router::{Identity, Input};
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Debug)]
pub enum Message {
    /// From router to router, or from a router to a connection that is elsewhere: see [`Envelope`].
    Envelope(Box<Envelope>),
    /// From the shard that holds a connection to the one whose router has the session. Lost: a request without an answer.
    Input(Box<Input>),
    /// What belongs to a socket that has moved here. Lost: the socket is closed when its time to authenticate is over.
    Letter(Box<Letter>),
    /// Close every session with DRAINING, accept nothing more.
    Drain,
    /// End the shard.
    Stop,
}

const _: () = assert!(size_of::<Message>() <= 16);

/// A connection on its way to another shard: the socket goes from ring to ring, this through the inbox.
#[derive(Debug)]
pub struct Letter {
    /// The same as the socket's.
    pub tag: u64,
    pub encoding: Encoding,
    pub decoder: Decoder,
    pub errand: Errand,
    /// Where the connection comes from. Lost: the address has one connection less that counts.
    pub origin: Option<Origin>,
    /// Bytes that came after what is in the errand.
    pub bytes: Vec<u8>,
    /// Until when the client must have authenticated, on the monotonic clock of the process.
    pub deadline_ms: u64,
}

/// Why a connection moves, and with what it goes on.
#[derive(Debug)]
pub enum Errand {
    /// A fresh socket, to a shard with more room.
    Room,
    /// The same, from this proxy, whose header has not come yet.
    Preamble(IpAddr),
    /// A request to be upgraded, to the shard of its user.
    Upgrade(Box<Claim>),
    /// A session, to the shard of its user.
    Session(Greeting),
}

/// A request to be upgraded whose credential was good.
#[derive(Debug)]
pub struct Claim {
    pub upgrade: Upgrade,
    pub identity: Arc<Identity>,
}

/// Who has said hello.
#[derive(Debug)]
pub struct Greeting {
    pub identity: Arc<Identity>,
    pub hello: Box<v1::Hello>,
    /// The hello's request number.
    pub id: u64,
}
