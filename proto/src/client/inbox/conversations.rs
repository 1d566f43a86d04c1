//! The conversations that something was heard of, and how far each was received.

use super::excluded::Excluded;
use crate::id::Seq;
use crate::v1::{self, peer::Peer};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Index into [`Conversations`]; stable.
pub(super) type Slot = u32;

#[derive(Debug, Default)]
pub(super) struct Conversations {
    all: Vec<Conversation>,
    /// Slots in the order of their peers.
    sorted: Vec<Slot>,
}

#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) peer: Peer,
    /// Everything up to here was given to the app or is our own. `None`: nothing is known of it.
    pub(super) received: Option<Seq>,
    pub(super) stored: Seq,
    pub(super) delivered_tick: Seq,
    pub(super) read_tick: Seq,
    /// What ticks have named as not delivered, all of them together.
    pub(super) excluded: Excluded,
    pub(super) read_mark: Seq,
    pub(super) moved_in: u32,
    pub(super) gap: Option<Box<Gap>>,
}

#[derive(Debug, Default)]
pub(super) struct Gap {
    pub(super) held: BTreeMap<Seq, v1::Record>,
    /// Our own seqs beyond what was received, as disjoint ranges by their start.
    pub(super) own: BTreeMap<Seq, Seq>,
    /// The highest seq that was pushed.
    pub(super) known: Seq,
}

impl Conversations {
    pub(super) fn get(&self, slot: Slot) -> Option<&Conversation> {
        self.all.get(slot as usize)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Conversation> {
        self.all.get_mut(slot as usize)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Conversation> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Conversation> {
        self.all.iter_mut()
    }

    pub(super) fn of(&self, peer: &Peer) -> Option<&Conversation> {
        let at = self.find(peer).ok()?;
        self.get(*self.sorted.get(at)?)
    }

    /// Of a conversation that is new if nothing was heard of it.
    pub(super) fn slot(&mut self, peer: &Peer) -> Slot {
        match self.find(peer) {
            Ok(at) => self.sorted.get(at).copied().unwrap_or(0),
            Err(at) => {
                let slot = self.all.len() as Slot;
                self.all.push(Conversation::new(peer.clone()));
                self.sorted.insert(at, slot);
                slot
            }
        }
    }

    fn find(&self, peer: &Peer) -> Result<usize, usize> {
        let peer_of = |slot: &Slot| self.get(*slot).map(|c| &c.peer);
        self.sorted.binary_search_by(|slot| peer_of(slot).map_or(Ordering::Less, |other| order(other, peer)))
    }
}

impl Conversation {
    pub(super) fn new(peer: Peer) -> Self {
        let (stored, delivered_tick, read_tick, read_mark, moved_in) = Default::default();
        let (received, excluded, gap) = (None, Excluded::default(), None);
        Self { peer, received, stored, delivered_tick, read_tick, excluded, read_mark, moved_in, gap }
    }

    /// Whether something was pushed that lies beyond a gap.
    pub(super) fn is_behind(&self) -> bool {
        self.gap.as_ref().is_some_and(|gap| gap.known > self.received.unwrap_or(0))
    }
}

fn order(a: &Peer, b: &Peer) -> Ordering {
    match (a, b) {
        (Peer::User(a), Peer::User(b)) => a.cmp(b),
        (Peer::Group(a), Peer::Group(b)) => a.cmp(b),
        (Peer::User(_), Peer::Group(_)) => Ordering::Less,
        (Peer::Group(_), Peer::User(_)) => Ordering::Greater,
    }
}
