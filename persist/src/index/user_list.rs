//! A user's conversations in the order of their last records.

use ringpost_proto::id::{ConversationId, RecordId};

/// Ascending by (last record id, conversation id), so the newest is at the end, where almost every move happens: a move is
/// a binary search and a shift of what is newer.
#[derive(Debug, Default)]
pub(super) struct UserList(Vec<(RecordId, ConversationId)>);

impl UserList {
    /// The conversation's last record is now `to`; `from` was the one before, `None` for a new conversation.
    pub(super) fn moved(&mut self, id: ConversationId, from: Option<RecordId>, to: RecordId) {
        let old = from.and_then(|from| self.0.binary_search(&(from, id)).ok());
        let new = self.0.partition_point(|entry| *entry < (to, id));
        match old {
            None => self.0.insert(new, (to, id)),
            Some(old) if old < new => {
                self.0[old] = (to, id);
                self.0[old..new].rotate_left(1);
            }
            // Record ids only grow within a log, so this is reached only if a log breaks that rule.
            Some(old) => {
                self.0[old] = (to, id);
                self.0[new..=old].rotate_right(1);
            }
        }
    }

    /// Newest first, strictly after `after` in that order.
    pub(super) fn newest_first(
        &self,
        after: Option<(RecordId, ConversationId)>,
    ) -> impl Iterator<Item = ConversationId> + '_ {
        let end = after.map_or(self.0.len(), |after| self.0.partition_point(|entry| *entry < after));
        self.0[..end].iter().rev().map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_come_newest_first_whatever_moves() {
        let id = |n: u8| ConversationId([n; 16]);
        let mut list = UserList::default();
        let mut last = [0_u64; 12];
        // A fixed walk that moves every conversation from every place.
        for step in 1..500_u64 {
            let n = (step * step % 11 + step % 2) as usize;
            let before = (last[n] > 0).then_some(last[n]);
            last[n] = last[n].max(step / 3) + 1;
            list.moved(id(n as u8), before, last[n]);
            let mut expected: Vec<_> = (0..12).filter(|n| last[*n] > 0).map(|n| (last[n], id(n as u8))).collect();
            expected.sort_by(|a, b| b.cmp(a));
            assert!(list.newest_first(None).eq(expected.iter().map(|(_, id)| *id)));
            let middle = expected[expected.len() / 2];
            assert!(list.newest_first(Some(middle)).eq(expected.iter().filter(|e| **e < middle).map(|(_, id)| *id)));
        }
    }
}
