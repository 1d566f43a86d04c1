//! What a session watches: the answer once every user's shard has said its part, changes as they come.
//!
//! Guarantees: at most [`WATCHED_USERS`] users; an answer never follows a later state of the same user; a state that comes
//! while the window is full is told when there is room, the last one of each user; a session that ends watches nobody.

use super::State;
use crate::Router;
use crate::boundary::ConnRef;
use crate::envelope::{Envelope, SessionRef};
use crate::frozen::frozen;
use crate::refusal;
use crate::shard::home_of_user;
use crate::slab::Key;
use ringpost_proto::id::UserKey;
use ringpost_proto::limits::WATCHED_USERS;
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Watching {
    users: BTreeSet<UserKey>,
    /// Requests that wait for states, the oldest first.
    gathers: Vec<Gather>,
    tickets: u64,
    /// What there was no room for, by user.
    held: BTreeMap<String, v1::PresenceState>,
}

#[derive(Debug)]
struct Gather {
    ticket: u64,
    re: u64,
    left: u32,
    states: BTreeMap<String, v1::PresenceState>,
}

impl Router {
    /// How this session is, as its client says.
    pub(crate) fn presence_request(&mut self, key: Key, conn: ConnRef, id: u64, presence: &v1::Presence) {
        let Ok(state) = v1::presence::state::Value::try_from(presence.state) else {
            let error = refusal::invalid("state", "is none that this server knows");
            return self.refuse_now(conn, id, error);
        };
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.away = state == v1::presence::state::Value::Away;
        let user = session.user.clone();
        self.presence_changed(&user);
    }

    pub(crate) fn watch(&mut self, key: Key, conn: ConnRef, re: u64, watch: &v1::Watch) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let watcher = session.user.clone();
        let users = match siblings(&watcher, &watch.users) {
            Ok(users) => users,
            Err(error) => return self.refuse_now(conn, re, error),
        };
        let watching = session.watching.get_or_insert_default();
        if watching.users.union(&users).count() > WATCHED_USERS {
            let error = refusal::too_many("users", WATCHED_USERS as u32);
            return self.refuse_now(conn, re, error);
        }
        if users.is_empty() {
            return self.frame(conn, re, Answer::PresenceStates(v1::PresenceStates::default()));
        }
        watching.tickets += 1;
        let ticket = watching.tickets;
        watching.gathers.push(Gather { ticket, re, left: users.len() as u32, states: BTreeMap::new() });
        watching.users.extend(users.iter().cloned());
        self.begin_request(key);
        let by = self.session_ref(key);
        for (shard, users) in self.by_home(users) {
            self.post(shard, Envelope::Watch { users, by, watcher: watcher.clone(), ticket });
        }
    }

    pub(crate) fn unwatch(&mut self, key: Key, conn: ConnRef, re: u64, watch: &v1::Watch) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let users = match siblings(&session.user, &watch.users) {
            Ok(users) => users,
            Err(error) => return self.refuse_now(conn, re, error),
        };
        if let Some(watching) = &mut session.watching {
            let gone: BTreeSet<UserKey> = watching.users.intersection(&users).cloned().collect();
            watching.users.retain(|user| !gone.contains(user));
            gone.iter().for_each(|user| drop(watching.held.remove(user.user())));
            self.tell_unwatched(key, gone);
        }
        if re != 0 {
            self.frame(conn, re, Answer::PresenceStates(v1::PresenceStates::default()));
        }
    }

    /// The session ends.
    pub(crate) fn stop_watching(&mut self, key: Key) {
        let watching = self.sessions.get_mut(key).and_then(|session| session.watching.take());
        if let Some(watching) = watching {
            self.tell_unwatched(key, watching.users);
        }
    }

    fn tell_unwatched(&mut self, key: Key, users: BTreeSet<UserKey>) {
        let (by, watcher) = (self.session_ref(key), self.identity_of(key).map(|(user, _)| user));
        let Some(watcher) = watcher else { return };
        for (shard, users) in self.by_home(users) {
            self.post(shard, Envelope::Unwatch { users, by, watcher: watcher.clone() });
        }
    }

    fn by_home(&self, users: BTreeSet<UserKey>) -> BTreeMap<u16, Vec<UserKey>> {
        let mut by_home: BTreeMap<u16, Vec<UserKey>> = BTreeMap::new();
        for user in users {
            by_home.entry(home_of_user(&user, self.settings.shards)).or_default().push(user);
        }
        by_home
    }

    /// How a watched user is: an answer's part, or news.
    pub(crate) fn seen(&mut self, to: SessionRef, ticket: u64, state: v1::PresenceState) {
        let key = Key { slot: to.slot, generation: to.generation };
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.state == State::Open) else { return };
        let Some(watching) = &mut session.watching else { return };
        if ticket == 0 {
            // An answer that is not complete yet must not say later what was true earlier.
            let mut gathered = false;
            for earlier in watching.gathers.iter_mut().filter_map(|gather| gather.states.get_mut(&state.user)) {
                *earlier = state.clone();
                gathered = true;
            }
            if !gathered && watching.users.iter().any(|user| user.user() == state.user) {
                watching.held.insert(state.user.clone(), state);
            }
            return self.tell_held(key);
        }
        let Some(at) = watching.gathers.iter().position(|gather| gather.ticket == ticket) else { return };
        let gather = &mut watching.gathers[at];
        gather.states.insert(state.user.clone(), state);
        gather.left = gather.left.saturating_sub(1);
        if gather.left == 0 {
            let Gather { re, states, .. } = watching.gathers.remove(at);
            let states = states.into_values().collect();
            self.answer(key, re, Answer::PresenceStates(v1::PresenceStates { states }));
        }
    }

    /// States that there was no room for.
    pub(crate) fn tell_held(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.hears_ephemera()) else { return };
        let conn = session.conn;
        let Some(watching) = session.watching.as_mut().filter(|watching| !watching.held.is_empty()) else { return };
        for state in std::mem::take(&mut watching.held).into_values() {
            self.counters.presence += 1;
            self.frame(conn, 0, Answer::PresenceState(state));
        }
    }
}

/// The users of the same tenant with these names, each once.
fn siblings(own: &UserKey, names: &[String]) -> Result<BTreeSet<UserKey>, v1::Error> {
    let sibling = |name: &String| own.sibling(name).map_err(|error| refusal::invalid("users", error.to_string()));
    names.iter().map(sibling).collect()
}

frozen!(Watching { users, gathers, tickets, held });
frozen!(Gather { ticket, re, left, states });
