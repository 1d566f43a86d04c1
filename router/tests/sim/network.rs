//! Links between clients and the node: in order and without loss while they live; a cut loses a suffix either way.

use super::dice::Dice;
use bytes::Bytes;
use ringpost_proto::v1;
use ringpost_proto::wire::{DecodeError, Encoding};
use ringpost_router::ConnRef;
use std::collections::VecDeque;

/// One connection, from dialling to its end; an index that is never used again.
pub type LinkId = usize;

#[derive(Debug)]
pub struct Link {
    pub device: usize,
    /// Which process of the node it leads to.
    pub epoch: u32,
    pub conn: ConnRef,
    /// The shard that its user lives on.
    pub home: u16,
    /// Of the token that the upgrade carried, Unix milliseconds.
    pub exp_ms: u64,
    /// When that token was issued.
    pub issued_ms: u64,
    /// Hello was handed to the router.
    pub opened: bool,
    /// Its client said that nobody is there.
    pub away: bool,
    /// The close was sent: nothing more is read.
    pub closing: bool,
    /// The node has it no more: closed by it, or noticed to be gone.
    pub server_done: bool,
    /// The router asked not to be given more requests.
    pub paused: bool,
    pub waiting: VecDeque<v1::ClientFrame>,
    /// The last push that left, and the last that was acknowledged.
    pub pushed: u64,
    pub acked: u64,
    /// So many under way may fill its window; when they last did.
    pub full: u64,
    pub full_us: u64,
    pub up: Direction,
    pub down: Direction,
}

impl Link {
    /// A push left, or an ack came.
    pub fn moves(&mut self, pushed: u64, acked: u64, now: u64) {
        let full = self.pushed - self.acked >= self.full;
        self.pushed = self.pushed.max(pushed);
        self.acked = self.acked.max(acked).min(self.pushed);
        if full || self.pushed - self.acked >= self.full {
            self.full_us = now;
        }
    }

    /// Whether it may have had no room for anything that is never stored at some moment since then.
    pub fn was_full(&self, since: u64) -> bool {
        self.paused || self.pushed - self.acked >= self.full || self.full_us >= since
    }
}

/// One way of a link.
#[derive(Debug, Default)]
pub struct Direction {
    next: u64,
    /// Messages from this number on are lost.
    lost_from: Option<u64>,
    /// When the last one arrives: they do not overtake each other.
    last_us: u64,
    arrived: u64,
}

impl Direction {
    /// When the next message arrives and its number; `None`: it is lost.
    pub fn send(&mut self, now_us: u64, latency_us: u64) -> Option<(u64, u64)> {
        if self.lost_from.is_some() {
            return None;
        }
        self.next += 1;
        self.last_us = self.last_us.max(now_us + latency_us);
        Some((self.last_us, self.next))
    }

    /// Whether message `number` still arrives.
    pub fn arrives(&mut self, number: u64) -> bool {
        let arrives = self.lost_from.is_none_or(|from| number < from);
        if arrives {
            self.arrived = number;
        }
        arrives
    }

    /// From now on nothing gets in, and of what is under way only a random part gets out.
    pub fn cut(&mut self, dice: &mut Dice) {
        if self.lost_from.is_none() {
            self.lost_from = Some(dice.between(self.arrived + 1, self.next + 1));
        }
    }

    /// Nothing gets out any more.
    pub fn sever(&mut self) {
        self.lost_from = Some(self.arrived + 1);
    }

    pub fn last_us(&self) -> u64 {
        self.last_us
    }
}

/// A frame as it arrives after its way through bytes.
pub fn encoded<F>(
    frame: &F,
    encoding: Encoding,
    encode: impl Fn(Encoding, &F, &mut Vec<u8>),
    decode: impl Fn(Encoding, Bytes) -> Result<F, DecodeError>,
) -> F {
    let mut bytes = Vec::new();
    encode(encoding, frame, &mut bytes);
    decode(encoding, bytes.into()).unwrap()
}
