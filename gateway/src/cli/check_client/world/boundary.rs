//! What goes into the world and what comes out of it.

use crate::transport::websocket::Kind;
use bytes::Bytes;
use ringpost_proto::v1;
use ringpost_proto::wire::Encoding;

/// The time of an input: monotonic and Unix milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    pub ms: u64,
    pub unix_ms: u64,
}

/// What happens at the sockets.
#[derive(Debug)]
pub enum Input {
    /// A connection was upgraded. `token`: what it carried, if anything.
    Opened {
        conn: u64,
        encoding: Encoding,
        token: Option<String>,
    },
    Message {
        conn: u64,
        kind: Kind,
        payload: Bytes,
    },
    Pong {
        payload: Bytes,
    },
    /// The client closed it, or it broke.
    Closed {
        conn: u64,
    },
}

/// What is to be done at them.
#[derive(Debug, PartialEq)]
pub enum Output {
    Message {
        conn: u64,
        kind: Kind,
        payload: Vec<u8>,
    },
    Ping {
        conn: u64,
        payload: &'static [u8],
    },
    /// Close with this code; nothing of this connection is heard any more.
    Close {
        conn: u64,
        code: u16,
        reason: &'static str,
    },
    /// Kill the client and start it anew.
    Restart,
    Say(String),
}

/// What scripts wait for.
#[allow(clippy::large_enum_variant)] // few at a time
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Opened,
    /// A session was welcomed.
    Session(u64),
    Send {
        id: u64,
        send: v1::Send,
    },
    Ack(u64),
    Fetch(v1::Fetch),
    Renew(v1::Renew),
    Pong(Bytes),
    Gone(u64),
}
