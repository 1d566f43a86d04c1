//! Rounds of all watchers of a user who is otherwise than it was.
//!
//! Guarantees: a round begins a second after the last one at the earliest, and tells what is true then; many watchers are told
//! some at a time, in turn with those of other users and with other work.

use super::User;
use super::presence::Watched;
use crate::Router;
use ringpost_proto::id::UserKey;
use std::ops::Bound;

/// Between two rounds of all watchers, milliseconds.
const ROUND_MS: u64 = 1_000;
/// Watchers that are looked at before other work has its turn.
const TURN: usize = 128;

impl Router {
    /// The user is otherwise than it was: a round of all watchers, now or a second after the last one.
    pub(crate) fn tell_watchers(&mut self, name: &UserKey) {
        let now_ms = self.now.mono_ms;
        let Some(presence) = self.users.get_mut(name).and_then(User::presence_mut) else { return };
        if presence.round_ms > 0 && now_ms < presence.round_ms + ROUND_MS {
            presence.next_round_ms.get_or_insert(presence.round_ms + ROUND_MS);
            return self.arm_presence(name);
        }
        presence.round_ms = now_ms;
        self.tell_all(name);
    }

    /// Something was read that watchers may wait for: a round of all of them.
    pub(crate) fn tell_all(&mut self, name: &UserKey) {
        let Some(presence) = self.users.get_mut(name).and_then(User::presence_mut) else { return };
        presence.told = None;
        if !std::mem::replace(&mut presence.telling, true) {
            self.tellings.push_back(name.clone());
        }
        if self.tellings.len() == 1 {
            // Most have few watchers: at once.
            self.go_on_telling();
        }
    }

    /// Some more watchers of the user whose turn it is.
    pub(crate) fn go_on_telling(&mut self) {
        let Some(name) = self.tellings.pop_front() else { return };
        let Some(presence) = self.users.get_mut(&name).and_then(User::presence_mut) else { return };
        let after = presence.told.take().map_or(Bound::Unbounded, Bound::Excluded);
        let turn: Vec<Watched> =
            presence.watchers.range((after, Bound::Unbounded)).take(TURN).map(|(watched, _)| watched.clone()).collect();
        presence.telling = turn.len() == TURN;
        presence.told = turn.last().filter(|_| turn.len() == TURN).cloned();
        if presence.telling {
            self.tellings.push_back(name.clone());
        }
        for watched in turn {
            self.tell_one(&name, &watched);
        }
    }
}
