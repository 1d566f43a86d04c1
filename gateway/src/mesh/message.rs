//! Everything that one shard says to another: one closed enum. Each variant says what would be lost with it; inside one
//! process nothing is.

use crate::transport::websocket::Decoder;
use ringpost_proto::v1;
use ringpost_proto::wire::Encoding;
use ringpost_router::envelope::Envelope;
use ringpost_router::{Identity, Input};
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
    /// A session on its way to the shard of its user; `None`: a fresh socket on its way to a shard with more room.
    pub session: Option<Greeting>,
    /// Bytes that came after the hello.
    pub bytes: Vec<u8>,
}

/// Who has said hello.
#[derive(Debug)]
pub struct Greeting {
    pub identity: Arc<Identity>,
    pub hello: Box<v1::Hello>,
    /// The hello's request number.
    pub id: u64,
}
