//! Rosters of the conversations that were written to lately: the room's fold over the log, kept so that a record costs one
//! row however many members there are.

use super::{TreeError, Trees};
use crate::Roster;
use crate::recent::Recent;
use ringpost_proto::id::ConversationId;

/// What a roster of two takes on the heap, about.
const ROSTER_BYTES: usize = 256;

/// Bounded by members. Nothing leaves within a batch, whose rows no tree has yet.
pub(super) struct Rosters {
    recent: Recent<ConversationId, Roster>,
    most: usize,
}

impl Rosters {
    pub(super) fn new(most: usize, seed: u64) -> Self {
        Self { recent: Recent::new(most, seed, |roster| roster.members().len()), most }
    }

    /// So many times as much is kept from now on.
    pub(super) fn widen(&mut self, times: usize) {
        self.recent.bound(self.most * times);
    }

    /// For a change; to be put back.
    pub(super) fn take(&mut self, conversation: &ConversationId, trees: &Trees) -> Result<Roster, TreeError> {
        self.recent.take(conversation).map_or_else(|| trees.roster(conversation), Ok)
    }

    pub(super) fn put(&mut self, conversation: ConversationId, roster: Roster) {
        self.recent.put(conversation, roster);
    }

    /// Bytes of what is kept, about: most rosters are of two.
    pub(super) fn cached_bytes(&self) -> u64 {
        self.recent.bytes(ROSTER_BYTES)
    }

    /// Whether some are to go.
    pub(super) fn are_many(&self) -> bool {
        self.recent.is_full()
    }

    /// The batch is in the trees: what is too much may go.
    pub(super) fn settle(&mut self) {
        self.recent.settle();
    }
}
