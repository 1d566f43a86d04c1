//! What has to be read to answer watchers: settings, when somebody was last here, what two users are to each other.
//!
//! Guarantees: a shard has at most [`IN_FLIGHT`] of these reads under way, however many watch, so that messages find room in
//! the store; who is no longer watched is not read for; what failed is tried again later each time, and not by all at once.

use super::Known;
use super::presence::{Seen, Watched};
use crate::Router;
use crate::envelope::Envelope;
use crate::pending::Pending;
use crate::session::request::direct;
use ringpost_persist::{DocumentKey, StoreRequest};
use ringpost_proto::id::UserKey;
use std::sync::Arc;

/// Reads for watchers at once, of a shard.
const IN_FLIGHT: u32 = 64;
const RETRY_MS: u64 = 2_000;
const RETRY_MOST_MS: u64 = 60_000;

/// After how long it is tried again, after so many failures in a row.
pub(super) fn retry_after_ms(failures: u32, random: u64) -> u64 {
    let most = RETRY_MOST_MS.min(RETRY_MS << failures.min(5));
    most / 2 + random % (most / 2 + 1)
}

/// What is to be read next.
enum Lack {
    Settings,
    LastSeen,
    Relation(Watched),
}

impl Router {
    /// Something may have to be read for those who watch this user.
    pub(crate) fn ask_for_watchers(&mut self, name: &UserKey) {
        let Some(user) = self.users.get_mut(name).filter(|user| user.is_watched()) else { return };
        if !std::mem::replace(&mut user.asking, true) {
            self.asking.push_back(name.clone());
        }
        self.go_on_asking();
    }

    /// One of the reads has its answer.
    pub(super) fn presence_answered(&mut self) {
        self.presence_reads = self.presence_reads.saturating_sub(1);
        self.go_on_asking();
    }

    fn go_on_asking(&mut self) {
        while self.presence_reads < IN_FLIGHT
            && let Some(name) = self.asking.pop_front()
        {
            let Some(lack) = self.lack(&name) else {
                if let Some(user) = self.users.get_mut(&name) {
                    user.asking = false;
                }
                continue;
            };
            // There may be more, after the others.
            self.asking.push_back(name.clone());
            match lack {
                Lack::Settings => {
                    self.presence_reads += 1;
                    self.read_settings(&name, true);
                }
                Lack::LastSeen => {
                    self.presence_reads += 1;
                    let (key, user) = (DocumentKey::Devices(name.clone()), name);
                    self.ask(Pending::LastSeen { user }, |tag| StoreRequest::ReadDocument { tag, key });
                }
                Lack::Relation((watcher, by)) => {
                    self.presence_reads += 1;
                    let conversation = name.direct_with(&watcher);
                    let kind = Arc::new(direct(name.clone(), watcher.clone()));
                    let relate = Envelope::Relate { conversation, kind, user: name, watcher, by };
                    self.post_to_conversation(conversation, relate);
                }
            }
        }
    }

    /// What of a watched user is neither known nor on its way; notes that it is.
    fn lack(&mut self, name: &UserKey) -> Option<Lack> {
        let user = self.users.get_mut(name)?;
        let (has_settings, active_ms) = (user.read != Known::No, user.active_ms);
        let presence = user.presence_mut()?;
        if presence.retry_ms.is_some() {
            return None;
        }
        if !has_settings {
            return Some(Lack::Settings);
        }
        if presence.seen == Seen::No && !presence.online && active_ms == 0 {
            presence.seen = Seen::Asked;
            return Some(Lack::LastSeen);
        }
        presence.unrelated.pop_first().map(Lack::Relation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_tried_again_later_each_time_and_never_by_all_at_once() {
        for failures in 0..100 {
            let waits: Vec<u64> = (0..100).map(|n| retry_after_ms(failures, n * 7_919)).collect();
            let most = (RETRY_MS << failures.min(5)).min(RETRY_MOST_MS);
            assert!(waits.iter().all(|wait| (most / 2..=most).contains(wait)), "{failures}: {waits:?}");
            assert!(waits.iter().collect::<std::collections::BTreeSet<_>>().len() > 50);
        }
    }
}
