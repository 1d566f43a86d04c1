//! Who is there: of a user, on its home shard, for the sessions that watch it.
//!
//! Owns: the watchers, and what they were told. Guarantees: a user is online while one of its sessions is open and ACTIVE, and
//! for [`GRACE_MS`] after that, so that who comes back soon never was away; a watcher is told what the user's settings and
//! blocks let it see, and otherwise "neither online nor last seen", which is also what is told of who was never here; what
//! cannot be found out now is tried again. Nothing of it is stored but when a device was last seen. Never does: tell a
//! session twice the same.

use super::devices::DeviceList;
use super::settings::{Audience, Prefs};
use super::{Known, User};
use crate::Router;
use crate::envelope::{Envelope, Relation, SessionRef};
use crate::frozen::{frozen, frozen_enum};
use crate::pending::Pending;
use crate::session::State;
use crate::session::request::direct;
use ringpost_persist::{DocumentKey, Outcome, StoreRequest};
use ringpost_proto::id::UserKey;
use ringpost_proto::v1;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Who comes back within this time was not away, milliseconds.
pub(crate) const GRACE_MS: u64 = 15_000;
const RETRY_MS: u64 = 2_000;

/// Of a user that is watched.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    watchers: Vec<Watcher>,
    /// What the watchers are told.
    online: bool,
    /// When that is over, if nobody comes.
    offline_ms: Option<u64>,
    /// When it was last here, as the store says; needed only where no session of it was seen.
    seen: Seen,
    /// When to ask again for what could not be read.
    retry_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    #[default]
    No,
    Asked,
    At(u64),
}

#[derive(Debug)]
struct Watcher {
    by: SessionRef,
    user: UserKey,
    /// `None`: the room was asked, or has to be.
    relation: Option<Relation>,
    asked: bool,
    /// The request that waits for a first answer; 0: none.
    ticket: u64,
    told: Option<Told>,
}

/// What a watcher knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    online: bool,
    last_seen_ms: u64,
    /// Of the profile; 0: none.
    profile: u64,
}

impl Presence {
    /// When it has to be looked at again.
    pub fn due_ms(&self) -> Option<u64> {
        [self.offline_ms, self.retry_ms].into_iter().flatten().min()
    }
}

impl Watcher {
    /// Whether it may see when the user is here.
    fn sees(&self, prefs: Option<&Prefs>) -> Option<bool> {
        let relation = self.relation?;
        let audience = prefs.map_or(Audience::Everyone, |prefs| prefs.last_seen);
        Some(match audience {
            _ if relation == Relation::Oneself => true,
            Audience::Everyone => relation != Relation::Blocked,
            Audience::Contacts => relation == Relation::Contact,
            Audience::Nobody => false,
        })
    }
}

impl User {
    pub fn is_watched(&self) -> bool {
        self.presence.is_some()
    }
}

impl Router {
    /// A session of the user came, went, or said how it is.
    pub(crate) fn presence_changed(&mut self, name: &UserKey) {
        let (now_ms, unix_ms) = (self.now.mono_ms, self.now_ms());
        let Some(user) = self.users.get_mut(name) else { return };
        let sessions = &self.sessions;
        let is_active = |key| sessions.get(key).is_some_and(|it| it.state == State::Open && !it.away);
        let active = user.sessions.iter().any(|key| is_active(*key));
        if active == user.active {
            return;
        }
        user.active = active;
        if !active {
            user.active_ms = unix_ms;
        }
        let Some(presence) = &mut user.presence else { return };
        presence.offline_ms = (!active && presence.online).then_some(now_ms + GRACE_MS);
        let comes = active && !presence.online;
        presence.online |= active;
        self.arm_presence(name);
        if comes {
            self.tell_watchers(name);
        }
    }

    fn arm_presence(&mut self, name: &UserKey) {
        let presence = self.users.get(name).and_then(|user| user.presence.as_ref());
        if let Some(at_ms) = presence.and_then(|presence| presence.due_ms()) {
            self.presence_due.insert((at_ms, name.clone()));
        }
    }

    /// What is due. An entry that is no longer true finds nothing to do.
    pub(crate) fn presence_timers(&mut self) {
        let now_ms = self.now.mono_ms;
        while self.presence_due.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms) {
            let Some((_, name)) = self.presence_due.pop_first() else { return };
            let Some(presence) = self.users.get_mut(&name).and_then(|user| user.presence.as_mut()) else { continue };
            let is_due = |at: Option<u64>| at.is_some_and(|at| at <= now_ms);
            if is_due(presence.offline_ms) {
                (presence.offline_ms, presence.online) = (None, false);
                self.tell_watchers(&name);
            } else if is_due(presence.retry_ms) {
                presence.retry_ms = None;
                self.ask_for_watchers(&name);
            }
            self.arm_presence(&name);
        }
    }

    /// A session watches these users of this shard.
    pub(crate) fn watched(&mut self, users: &[UserKey], by: SessionRef, watcher: &UserKey, ticket: u64) {
        for name in users {
            let user = self.users.entry(name.clone()).or_default();
            let online = user.active;
            let presence = user.presence.get_or_insert_with(|| Box::new(Presence { online, ..Presence::default() }));
            match presence.watchers.iter_mut().find(|other| other.by == by) {
                Some(again) => again.ticket = ticket,
                None => {
                    let relation = (name == watcher).then_some(Relation::Oneself);
                    let user = watcher.clone();
                    presence.watchers.push(Watcher { by, user, relation, asked: false, ticket, told: None });
                }
            }
            self.ask_for_watchers(name);
            self.tell_watchers(name);
        }
    }

    pub(crate) fn unwatched(&mut self, users: &[UserKey], by: SessionRef) {
        for name in users {
            let Some(user) = self.users.get_mut(name) else { continue };
            let Some(presence) = &mut user.presence else { continue };
            let gone = presence.watchers.iter().position(|watcher| watcher.by == by);
            let gone = gone.map(|at| presence.watchers.swap_remove(at));
            if presence.watchers.is_empty() {
                user.presence = None;
            }
            self.forget_user(name);
            if let Some(watcher) = gone.filter(|watcher| watcher.ticket != 0) {
                self.tell_unknown(name, by, watcher.ticket);
            }
        }
    }

    /// Asks for whatever is needed to answer the watchers and neither known nor on its way.
    fn ask_for_watchers(&mut self, name: &UserKey) {
        self.need_settings(name);
        let Some(user) = self.users.get_mut(name) else { return };
        let Some(presence) = &mut user.presence else { return };
        let mut unrelated = Vec::new();
        for watcher in presence.watchers.iter_mut().filter(|it| it.relation.is_none() && !it.asked) {
            watcher.asked = true;
            unrelated.push((watcher.user.clone(), watcher.by));
        }
        let reads = presence.seen == Seen::No && !presence.online && user.active_ms == 0;
        if reads {
            presence.seen = Seen::Asked;
            let (key, user) = (DocumentKey::Devices(name.clone()), name.clone());
            self.ask(Pending::LastSeen { user }, |tag| StoreRequest::ReadDocument { tag, key });
        }
        for (watcher, by) in unrelated {
            let (conversation, user) = (name.direct_with(&watcher), name.clone());
            let kind = Arc::new(direct(user.clone(), watcher));
            self.post_to_conversation(conversation, Envelope::Relate { conversation, kind, user, by });
        }
    }

    pub(crate) fn last_seen_read(&mut self, name: &UserKey, outcome: Outcome) {
        let Some(presence) = self.users.get_mut(name).and_then(|user| user.presence.as_mut()) else { return };
        if let Outcome::Document(found) = outcome {
            // A list that cannot be read says nothing.
            let list = found.and_then(|(_, bytes)| DeviceList::decode(&bytes).ok());
            presence.seen = Seen::At(list.map_or(0, |list| list.last_seen_ms()));
            return self.tell_watchers(name);
        }
        presence.seen = Seen::No;
        self.presence_unknown(name);
    }

    /// What one user is to another, from their room; `None`: it could not be read.
    pub(crate) fn related(&mut self, name: &UserKey, by: SessionRef, relation: Option<Relation>) {
        let presence = self.users.get_mut(name).and_then(|user| user.presence.as_mut());
        let watcher = presence.and_then(|it| it.watchers.iter_mut().find(|watcher| watcher.by == by));
        let Some(watcher) = watcher else { return };
        (watcher.relation, watcher.asked) = (relation.or(watcher.relation), false);
        match watcher.relation {
            Some(_) => self.tell_watchers(name),
            None => self.presence_unknown(name),
        }
    }

    /// The same, unasked: it has changed.
    pub(crate) fn relates(&mut self, name: &UserKey, to: &UserKey, relation: Relation) {
        let Some(presence) = self.users.get_mut(name).and_then(|user| user.presence.as_mut()) else { return };
        for watcher in presence.watchers.iter_mut().filter(|watcher| watcher.user == *to) {
            watcher.relation = Some(relation);
        }
        self.tell_watchers(name);
    }

    /// Something could not be read: who waits is told so, and it is tried again.
    pub(crate) fn presence_unknown(&mut self, name: &UserKey) {
        let now_ms = self.now.mono_ms;
        let Some(presence) = self.users.get_mut(name).and_then(|user| user.presence.as_mut()) else { return };
        presence.retry_ms.get_or_insert(now_ms + RETRY_MS);
        let waits = |watcher: &&mut Watcher| watcher.ticket != 0;
        let take = |watcher: &mut Watcher| (watcher.by, std::mem::take(&mut watcher.ticket));
        let waiting: Vec<_> = presence.watchers.iter_mut().filter(waits).map(take).collect();
        for (by, ticket) in waiting {
            self.tell_unknown(name, by, ticket);
        }
        self.arm_presence(name);
    }

    fn tell_unknown(&mut self, name: &UserKey, by: SessionRef, ticket: u64) {
        let state = Box::new(v1::PresenceState { user: name.user().to_owned(), ..Default::default() });
        self.post(by.shard, Envelope::Seen { to: by, ticket, state });
    }

    /// Every watcher that waits, or that would see something else than what it was told.
    pub(crate) fn tell_watchers(&mut self, name: &UserKey) {
        let Some(user) = self.users.get_mut(name) else { return };
        let (Known::Yes(prefs), Some(presence)) = (&user.settings, &mut user.presence) else { return };
        let prefs = prefs.as_deref();
        let profile = prefs.and_then(|prefs| prefs.profile.as_deref());
        // Never 0, which is none.
        let hash =
            |profile| foldhash::fast::FixedState::with_seed(0).hash_one(prost::Message::encode_to_vec(profile)) | 1;
        let hashed = profile.map_or(0, hash);
        let last_seen_ms = match (presence.online, user.active_ms, presence.seen) {
            (true, ..) => Some(0),
            (false, at_ms @ 1.., _) | (false, _, Seen::At(at_ms)) => Some(at_ms),
            _ => None,
        };
        let (mut telling, mut lacks) = (Vec::new(), false);
        for watcher in &mut presence.watchers {
            let Some(sees) = watcher.sees(prefs) else { continue };
            let seen = if sees { last_seen_ms.map(|at_ms| (presence.online, at_ms)) } else { Some((false, 0)) };
            let Some((online, last_seen_ms)) = seen else {
                lacks = true;
                continue;
            };
            let known = watcher.relation != Some(Relation::Blocked);
            let told = Told { online, last_seen_ms, profile: if known { hashed } else { 0 } };
            if watcher.ticket == 0 && watcher.told == Some(told) {
                continue;
            }
            watcher.told = Some(told);
            let (user, profile) = (name.user().to_owned(), profile.filter(|_| known).cloned());
            let state = Box::new(v1::PresenceState { user, online, last_seen_ms, profile });
            telling.push((watcher.by, std::mem::take(&mut watcher.ticket), state));
        }
        for (to, ticket, state) in telling {
            self.post(to.shard, Envelope::Seen { to, ticket, state });
        }
        if lacks {
            self.ask_for_watchers(name);
        }
    }
}

frozen!(Presence { watchers, online, offline_ms, seen, retry_ms });
frozen_enum!(Seen { 0 = No {}, 1 = Asked {}, 2 = At { 0: at_ms } });
frozen!(Watcher { by, user, relation, asked, ticket, told });
frozen!(Told { online, last_seen_ms, profile });
