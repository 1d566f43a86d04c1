//! All conversations of a user, each once, while the list changes under the reader.
//!
//! The list is sorted by what came last, so a conversation that is written to moves to its front, past a reader that goes
//! down. So what is new at the front since the last pass began is read again. Whatever is still unknown then is among that;
//! and where that is one page, which is read at one moment, nothing is unknown after it.

use super::{Failed, Operator};
use ringpost_persist::{Outcome, StoreRequest, UserEntry, UserPage};
use ringpost_proto::id::{ConversationId, RecordId, UserKey};
use std::collections::HashSet;

/// Conversations read at once.
const PAGE: u32 = 64;
/// Of a user with whom pages full of others talk all the time, so many passes in vain are the end.
const IDLE_PASSES: u32 = 32;

#[derive(Debug, Default)]
pub struct Listing {
    after: Option<(RecordId, ConversationId)>,
    /// This pass ends at what was not written to since the last one began; it begins with the newest.
    floor: RecordId,
    newest: Option<RecordId>,
    seen: HashSet<ConversationId>,
    /// Pages of this pass, and passes that brought nothing.
    pages: u32,
    idle: u32,
    found: bool,
    done: bool,
}

impl Listing {
    /// The next conversations; `None`: there are no more.
    pub async fn next(&mut self, operator: &Operator, user: &UserKey) -> Result<Option<Vec<UserEntry>>, Failed> {
        while !self.done {
            let after = self.after;
            let page = operator
                .ask(|tag| StoreRequest::LoadUser { tag, user: user.clone(), after, limit: PAGE, shown: true })
                .await?;
            let Outcome::User(page) = page else { return Err(Failed::Store) };
            let fresh = self.take(*page);
            if !fresh.is_empty() {
                return Ok(Some(fresh));
            }
        }
        Ok(None)
    }

    /// Of a page, what is not known yet.
    fn take(&mut self, page: UserPage) -> Vec<UserEntry> {
        self.newest = self.newest.or(page.entries.first().map(|entry| entry.last_id));
        self.after = page.entries.last().map(|entry| (entry.last_id, entry.conversation));
        let mut ends = !page.more || page.entries.is_empty();
        let mut fresh = page.entries;
        fresh.retain(|entry| {
            ends |= entry.last_id < self.floor;
            self.seen.insert(entry.conversation)
        });
        self.found |= !fresh.is_empty();
        self.pages += 1;
        if ends {
            self.idle += u32::from(!self.found);
            self.done = self.pages == 1 || self.idle == IDLE_PASSES;
            (self.pages, self.found) = (0, false);
            self.floor = self.newest.take().unwrap_or(RecordId::MAX);
            self.after = None;
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringpost_persist::ConversationKind;
    use std::sync::Arc;

    fn entry(conversation: u8, last_id: RecordId) -> UserEntry {
        UserEntry {
            conversation: ConversationId([conversation; 16]),
            kind: Arc::new(ConversationKind::Group),
            head: 1,
            last_id,
            last: None,
            join: 1,
            title: String::new(),
            last_own: 0,
            delivered: Vec::new(),
            read: 0,
            unread: 0,
            peer_delivered: 0,
            peer_read: 0,
            peer_excluded: Default::default(),
            gone: Default::default(),
            ticks: Vec::new(),
        }
    }

    /// What a store would answer.
    fn page(list: &[(u8, RecordId)], after: Option<(RecordId, ConversationId)>, limit: usize) -> UserPage {
        let mut entries: Vec<_> = list.iter().map(|(conversation, id)| entry(*conversation, *id)).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse((entry.last_id, entry.conversation)));
        entries.retain(|entry| after.is_none_or(|after| (entry.last_id, entry.conversation) < after));
        let more = entries.len() > limit;
        entries.truncate(limit);
        UserPage { entries, more }
    }

    proptest! {
        #[test]
        fn each_conversation_comes_once_however_they_move_between_the_pages(
            count in 0..30_u8,
            writes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 0..20),
            limit in 1..5_usize,
        ) {
            let mut list: Vec<(u8, RecordId)> = (0..count).map(|n| (n, u64::from(n) + 1)).collect();
            let (mut newest, mut listing, mut got) = (100, Listing::default(), Vec::new());
            let mut writes = writes.into_iter();
            while !listing.done {
                got.extend(listing.take(page(&list, listing.after, limit)).into_iter().map(|it| it.conversation.0[0]));
                for n in writes.next().unwrap_or_default() {
                    newest += 1;
                    if let Some(entry) = list.get_mut(usize::from(n) % usize::from(count.max(1))) {
                        entry.1 = newest;
                    }
                }
            }
            got.sort_unstable();
            prop_assert_eq!(got, (0..count).collect::<Vec<_>>());
        }
    }
}
