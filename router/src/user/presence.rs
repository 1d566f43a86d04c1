//! Who is there: of a user, on its home shard, for the sessions that watch it.
//!
//! Owns: the watchers, and what they were told. Guarantees: a user is online while one of its sessions is open and ACTIVE, and
//! for [`GRACE_MS`] after that, so that who comes back soon never was away; a watcher is told what the user's settings and
//! blocks let it see, and otherwise "neither online nor last seen", which is also what is told of who was never here; a
//! request to watch is answered once, and a watcher is not told the same again; what changes often is told once a second, as
//! it is then; what cannot be found out now is tried again, later each time. Nothing of it is stored. Never does: ask the
//! store more at once than [`super::asking`] lets it.

use super::settings::{Audience, Prefs};
use super::{Known, User};
use crate::Router;
use crate::envelope::{Envelope, Relation, SessionRef};
use crate::frozen::{frozen, frozen_enum};
use crate::session::State;
use ringpost_persist::Outcome;
use ringpost_proto::id::UserKey;
use ringpost_proto::v1;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;

/// Who comes back within this time was not away, milliseconds.
pub(crate) const GRACE_MS: u64 = 15_000;

/// Of a user that is watched.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    pub(super) watchers: BTreeMap<Watched, Watcher>,
    /// Those of whom it has to be asked what the user is to them.
    pub(super) unrelated: BTreeSet<Watched>,
    /// What the watchers are told.
    pub(super) online: bool,
    /// When that is over, if nobody comes.
    offline_ms: Option<u64>,
    /// When it was last here, as the store says; needed only where no session of it was seen.
    pub(super) seen: Seen,
    /// When to ask again for what could not be read, and how often that was so in a row.
    pub(super) retry_ms: Option<u64>,
    pub(super) failures: u32,
    /// When the last round of all watchers began, and when the next one is to; in between, where it has got.
    pub(super) round_ms: u64,
    pub(super) next_round_ms: Option<u64>,
    pub(crate) telling: bool,
    pub(super) told: Option<Watched>,
}

/// A user's session that watches.
pub(super) type Watched = (UserKey, SessionRef);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Seen {
    #[default]
    No,
    Asked,
    At(u64),
}

#[derive(Debug, Default)]
pub(super) struct Watcher {
    /// `None`: the room is asked, or has to be.
    pub relation: Option<Relation>,
    /// The requests that wait for a first answer.
    pub tickets: SmallVec<[u64; 1]>,
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

/// What there is to see of a user at one moment.
struct View<'a> {
    prefs: Option<&'a Prefs>,
    online: bool,
    /// `None`: it is being read.
    last_seen_ms: Option<u64>,
    hash: u64,
}

impl View<'_> {
    /// What this watcher sees of it; `None`: something is not known yet.
    fn of(&self, watcher: &Watcher) -> Option<Told> {
        let relation = watcher.relation?;
        let audience = self.prefs.map_or(Audience::Everyone, |prefs| prefs.last_seen);
        let sees = match audience {
            _ if relation == Relation::Oneself => true,
            Audience::Everyone => relation != Relation::Blocked,
            Audience::Contacts => relation == Relation::Contact,
            Audience::Nobody => false,
        };
        let (online, last_seen_ms) = if sees { (self.online, self.last_seen_ms?) } else { (false, 0) };
        // The profile is everybody's: to take it away would tell who is blocked.
        Some(Told { online, last_seen_ms, profile: self.hash })
    }
}

impl Presence {
    /// When it has to be looked at again.
    fn due_ms(&self) -> Option<u64> {
        [self.offline_ms, self.retry_ms, self.next_round_ms].into_iter().flatten().min()
    }
}

impl User {
    pub fn is_watched(&self) -> bool {
        self.rare.presence.is_some()
    }

    /// Whether it left so lately that it counts as being here.
    pub fn is_leaving(&self, now_ms: u64) -> bool {
        !self.active && self.rare.left_ms > 0 && now_ms < self.rare.left_ms + GRACE_MS
    }

    /// It has not just left: it is here, or has been away for longer.
    fn come_back(&mut self) {
        if self.rare.left_ms > 0 {
            self.rare.left_ms = 0;
        }
        self.rare.settle();
    }

    fn view(&self) -> Option<View<'_>> {
        let (Known::Yes, Some(presence)) = (self.read, &self.rare.presence) else { return None };
        let prefs = self.prefs();
        let last_seen_ms = match (presence.online, self.active_ms, presence.seen) {
            (true, ..) => Some(0),
            (false, at_ms @ 1.., _) | (false, _, Seen::At(at_ms)) => Some(at_ms),
            _ => None,
        };
        let bytes = prefs.and_then(|prefs| prefs.profile.as_deref()).map(prost::Message::encode_to_vec);
        // Never 0, which is none.
        let hash = bytes.map_or(0, |bytes| foldhash::fast::FixedState::with_seed(0).hash_one(bytes) | 1);
        Some(View { prefs, online: presence.online, last_seen_ms, hash })
    }
}

impl Router {
    /// A session of the user came, went, or said how it is.
    pub(crate) fn presence_changed(&mut self, name: &UserKey) {
        let (now_ms, unix_ms) = (self.now.mono_ms, self.now_ms());
        let Some(user) = self.users.get_mut(name) else { return };
        let sessions = &self.sessions;
        let is_active = |key| sessions.get(key).is_some_and(|it| it.state == State::Open && !it.away);
        let active = user.sessions.iter().any(is_active);
        if active == user.active {
            return;
        }
        user.active = active;
        if !active {
            (user.active_ms, user.rare.left_ms) = (unix_ms, now_ms);
        } else {
            user.active_ms = 0;
            user.come_back();
        }
        if let Some(presence) = user.presence_mut() {
            presence.offline_ms = (!active && presence.online).then_some(now_ms + GRACE_MS);
            let comes = active && !presence.online;
            presence.online |= active;
            if comes {
                self.tell_watchers(name);
            }
        }
        self.arm_presence(name);
    }

    /// The user is erased: when it was here last is not known any more.
    pub(super) fn forget_presence(&mut self, name: &UserKey) {
        let Some(user) = self.users.get_mut(name) else { return };
        let active = user.active;
        user.active_ms = 0;
        user.come_back();
        if let Some(presence) = user.presence_mut() {
            (presence.online, presence.offline_ms, presence.seen) = (active, None, Seen::At(0));
        }
    }

    /// Looks at the user again when something of it is due. One entry a user is enough: what comes later is found then.
    pub(super) fn arm_presence(&mut self, name: &UserKey) {
        let now_ms = self.now.mono_ms;
        let Some(user) = self.users.get_mut(name) else { return };
        // Who has just left is kept until the grace is over, in case somebody begins to watch.
        let leaving = user.is_leaving(now_ms).then_some(user.rare.left_ms + GRACE_MS);
        let due = user.rare.presence.as_ref().and_then(|presence| presence.due_ms());
        let Some(at_ms) = [leaving, due].into_iter().flatten().min() else { return };
        if user.rare.due_ms == 0 || at_ms < user.rare.due_ms {
            let earlier = std::mem::replace(&mut user.rare.due_ms, at_ms);
            self.presence_due.remove(&(earlier, name.clone()));
            self.presence_due.insert((at_ms, name.clone()));
        }
    }

    pub(crate) fn presence_timers(&mut self) {
        let now_ms = self.now.mono_ms;
        while self.presence_due.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms) {
            let Some((_, name)) = self.presence_due.pop_first() else { break };
            let Some(user) = self.users.get_mut(&name) else { continue };
            user.rare.due_ms = 0;
            if !user.is_leaving(now_ms) {
                user.come_back();
            }
            if let Some(presence) = user.presence_mut() {
                let take = |at: &mut Option<u64>| at.take_if(|at| *at <= now_ms).is_some();
                let goes = take(&mut presence.offline_ms);
                presence.online &= !goes;
                let (round, retry) = (take(&mut presence.next_round_ms), take(&mut presence.retry_ms));
                if goes || round {
                    self.tell_watchers(&name);
                }
                if goes || retry {
                    self.ask_for_watchers(&name);
                }
            }
            self.arm_presence(&name);
            self.forget_user(&name);
        }
    }

    /// A session watches these users of this shard.
    pub(crate) fn watched(&mut self, users: &[UserKey], by: SessionRef, watcher: &UserKey, ticket: u64) {
        let now_ms = self.now.mono_ms;
        for name in users {
            let user = self.users.enter(name);
            let leaving = user.is_leaving(now_ms);
            let (online, offline_ms) = (user.active || leaving, leaving.then_some(user.rare.left_ms + GRACE_MS));
            let fresh = || Box::new(Presence { online, offline_ms, ..Presence::default() });
            let presence = user.rare.presence.get_or_insert_with(fresh);
            let entry = presence.watchers.entry((watcher.clone(), by)).or_default();
            entry.tickets.push(ticket);
            if name == watcher {
                entry.relation = Some(Relation::Oneself);
            } else if entry.relation.is_none() && entry.tickets.len() == 1 {
                presence.unrelated.insert((watcher.clone(), by));
            }
            self.arm_presence(name);
            self.ask_for_watchers(name);
            self.tell_one(name, &(watcher.clone(), by));
        }
    }

    pub(crate) fn unwatched(&mut self, users: &[UserKey], by: SessionRef, watcher: &UserKey) {
        for name in users {
            let Some(user) = self.users.get_mut(name) else { continue };
            let Some(presence) = user.presence_mut() else { continue };
            let watched = (watcher.clone(), by);
            let gone = presence.watchers.remove(&watched);
            presence.unrelated.remove(&watched);
            if presence.watchers.is_empty() {
                user.rare.presence = None;
            }
            self.forget_user(name);
            for ticket in gone.into_iter().flat_map(|watcher| watcher.tickets) {
                self.tell_unknown(name, by, ticket);
            }
        }
    }

    pub(crate) fn last_seen_read(&mut self, name: &UserKey, outcome: Outcome) {
        self.presence_answered();
        let answered = matches!(outcome, Outcome::Document(_));
        // A list that cannot be read says nothing.
        let seen_ms = self.devices_in(outcome).map_or(0, |list| list.last_seen_ms());
        let Some(presence) = self.users.get_mut(name).and_then(User::presence_mut) else { return };
        if !answered {
            presence.seen = Seen::No;
            return self.presence_unknown(name);
        }
        presence.seen = Seen::At(seen_ms);
        presence.failures = 0;
        self.tell_all(name);
        self.ask_for_watchers(name);
    }

    /// What one user is to another, from their room; `None`: it could not be read.
    pub(crate) fn related(&mut self, name: &UserKey, watched: (UserKey, SessionRef), relation: Option<Relation>) {
        self.presence_answered();
        let Some(presence) = self.users.get_mut(name).and_then(User::presence_mut) else { return };
        let Some(watcher) = presence.watchers.get_mut(&watched) else { return };
        watcher.relation = relation.or(watcher.relation);
        if watcher.relation.is_none() {
            presence.unrelated.insert(watched.clone());
            self.unknown_to(name, [watched]);
            return self.ask_later(name);
        }
        presence.failures = 0;
        self.tell_one(name, &watched);
        self.ask_for_watchers(name);
    }

    /// The same, unasked: it has changed, for all sessions of the other one.
    pub(crate) fn relates(&mut self, name: &UserKey, other: &UserKey, relation: Relation) {
        let presence = self.users.get_mut(name).and_then(User::presence_mut);
        let sessions = presence.map(|it| sessions_of(&mut it.watchers, other, relation)).unwrap_or_default();
        for watched in sessions {
            self.tell_one(name, &watched);
        }
    }

    /// Something could not be read: who waits is told so, and it is tried again.
    pub(crate) fn presence_unknown(&mut self, name: &UserKey) {
        let Some(presence) = self.users.get_mut(name).and_then(User::presence_mut) else { return };
        let waits = presence.watchers.iter().filter(|(_, watcher)| !watcher.tickets.is_empty());
        let waiting: Vec<Watched> = waits.map(|(watched, _)| watched.clone()).collect();
        self.unknown_to(name, waiting);
        self.ask_later(name);
    }

    fn unknown_to(&mut self, name: &UserKey, waiting: impl IntoIterator<Item = Watched>) {
        for watched in waiting {
            let presence = self.users.get_mut(name).and_then(User::presence_mut);
            let Some(watcher) = presence.and_then(|it| it.watchers.get_mut(&watched)) else { continue };
            watcher.told = Some(Told { online: false, last_seen_ms: 0, profile: 0 });
            for ticket in std::mem::take(&mut watcher.tickets) {
                self.tell_unknown(name, watched.1, ticket);
            }
        }
    }

    fn ask_later(&mut self, name: &UserKey) {
        let (now_ms, random) = (self.now.mono_ms, self.next_random());
        let Some(presence) = self.users.get_mut(name).and_then(User::presence_mut) else { return };
        if presence.retry_ms.is_none() {
            presence.retry_ms = Some(now_ms + super::asking::retry_after_ms(presence.failures, random));
            presence.failures += 1;
            self.arm_presence(name);
        }
    }

    fn tell_unknown(&mut self, name: &UserKey, by: SessionRef, ticket: u64) {
        let state = Box::new(v1::PresenceState { user: name.user().to_owned(), ..Default::default() });
        self.post(by.shard, Envelope::Seen { to: by, ticket, state });
    }

    /// A watcher that waits, or that would see something else than what it was told.
    pub(super) fn tell_one(&mut self, name: &UserKey, watched: &Watched) {
        let user = self.users.get(name);
        let presence = user.and_then(|user| user.rare.presence.as_ref());
        let Some(watcher) = presence.and_then(|presence| presence.watchers.get(watched)) else { return };
        let Some(view) = user.and_then(|user| user.view()) else { return };
        let Some(told) = view.of(watcher) else { return };
        if watcher.tickets.is_empty() && watcher.told == Some(told) {
            return;
        }
        let profile = view.prefs.and_then(|prefs| prefs.profile.as_deref()).cloned();
        let (user, online, last_seen_ms) = (name.user().to_owned(), told.online, told.last_seen_ms);
        let state = v1::PresenceState { user, online, last_seen_ms, profile };
        let presence = self.users.get_mut(name).and_then(User::presence_mut);
        let Some(watcher) = presence.and_then(|presence| presence.watchers.get_mut(watched)) else { return };
        watcher.told = Some(told);
        let to = watched.1;
        let tickets = std::mem::take(&mut watcher.tickets);
        let unasked = tickets.is_empty().then_some(0);
        for ticket in tickets.into_iter().chain(unasked) {
            self.post(to.shard, Envelope::Seen { to, ticket, state: Box::new(state.clone()) });
        }
    }
}

/// Sets what the user with these sessions is to the watched one.
fn sessions_of(watchers: &mut BTreeMap<Watched, Watcher>, user: &UserKey, relation: Relation) -> Vec<Watched> {
    let least = SessionRef { shard: 0, slot: 0, generation: 0 };
    let mut sessions = Vec::new();
    for (watched, watcher) in watchers.range_mut((user.clone(), least)..) {
        if watched.0 != *user {
            break;
        }
        if watcher.relation != Some(Relation::Oneself) {
            watcher.relation = Some(relation);
        }
        sessions.push(watched.clone());
    }
    sessions
}

frozen!(Presence {
    watchers,
    unrelated,
    online,
    offline_ms,
    seen,
    retry_ms,
    failures,
    round_ms,
    next_round_ms,
    telling,
    told,
});
frozen_enum!(Seen { 0 = No {}, 1 = Asked {}, 2 = At { 0: at_ms } });
frozen!(Watcher { relation, tickets, told });
frozen!(Told { online, last_seen_ms, profile });
