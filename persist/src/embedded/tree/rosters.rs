//! Rosters of the conversations that were written to lately: the room's fold over the log, kept so that a record costs one
//! row however many members there are.

use super::{TreeError, Trees};
use crate::Roster;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringpost_proto::id::ConversationId;

/// Bounded by members: what leaves `young` when that is full stays in `old` until the next time. Nothing leaves within a
/// batch, whose rows no tree has yet.
pub(super) struct Rosters {
    young: HashMap<ConversationId, Roster, FixedState>,
    old: HashMap<ConversationId, Roster, FixedState>,
    /// Members in `young`, and how many there may be.
    members: usize,
    most: usize,
}

impl Rosters {
    pub(super) fn new(most: usize, seed: u64) -> Self {
        let map = || HashMap::with_hasher(FixedState::with_seed(seed));
        Self { young: map(), old: map(), members: 0, most }
    }

    /// For a change; to be put back.
    pub(super) fn take(&mut self, conversation: &ConversationId, trees: &Trees) -> Result<Roster, TreeError> {
        if let Some(roster) = self.young.remove(conversation) {
            self.members -= roster.members().len();
            return Ok(roster);
        }
        match self.old.remove(conversation) {
            Some(roster) => Ok(roster),
            None => trees.roster(conversation),
        }
    }

    pub(super) fn put(&mut self, conversation: ConversationId, roster: Roster) {
        self.members += roster.members().len();
        self.young.insert(conversation, roster);
    }

    /// The batch is in the trees: what is too much may go.
    pub(super) fn settle(&mut self) {
        if self.members > self.most {
            self.old = std::mem::replace(&mut self.young, HashMap::with_hasher(self.old.hasher().clone()));
            self.members = 0;
        }
    }
}
