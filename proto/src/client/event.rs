//! What the app and the driver of the transport are told.

use super::{Outcome, Peer};
use crate::id::Seq;
use crate::v1;

/// In the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Open a connection now; then `connected`, `refused` or `disconnected`.
    Connect,
    /// Close the connection and say `disconnected(ABNORMAL)`: it is silent, or broke the protocol.
    Drop,
    /// The session is open. `resumed`: nothing was missed.
    Welcome { resumed: bool },
    /// The next record of its conversation. Deliveries are numbered; `stored(delivery)` covers all up to it.
    Record { delivery: u64, record: Box<v1::Record> },
    /// The other side's progress over our records; only grows. `excluded`: ranges up to there, both ends included, that were
    /// not delivered and will not be.
    Tick { delivery: u64, peer: Peer, delivered: Seq, read: Seq, excluded: Vec<(Seq, Seq)> },
    /// Another of the user's devices has read up to here.
    ReadMark { delivery: u64, peer: Peer, seq: Seq },
    /// What became of a send; given once.
    Outcome { send: Box<v1::Send>, outcome: Outcome },
    /// The server's log ends before what we have: the app drops its state of this conversation and asks for its history.
    Reset { peer: Peer, head: Seq },
    /// Everything that was missed has been pushed.
    Synced,
    /// Fetch a new token and `renew`. `exp_ms`: Unix time at which the old one ends; 0: it has, and nothing happens until then.
    TokenWanted { exp_ms: u64 },
    /// An error that belongs to no request of ours.
    Error(Box<v1::Error>),
    /// The server said not to come back by oneself, or `bye` was said. `reconnect` starts again.
    Stopped { code: u16 },
}
