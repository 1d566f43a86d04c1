//! Who is there: what sessions are told of those whom they watch, and whether that settles to the truth.
//!
//! The truth: a user is here while one of its sessions is open at the node and not AWAY; it is shown to whom its settings
//! show it, unless one of the two blocks the other; all as the logs and the committed settings say.

use super::network::{Link, LinkId};
use super::oracle::{Oracle, Verdict, ensure};
use super::plan::{Action, Plan, SECOND};
use super::world::{EPOCH_US, Event, World};
use ringpost_persist::faulty::FaultyStore;
use ringpost_proto::v1::{self, presence::state::Value as State, privacy::Value as Privacy};
use std::collections::{BTreeMap, BTreeSet};

/// Whoever is back within this time was not away.
const GRACE_US: u64 = 15 * SECOND;
/// Within this time everybody is told.
const SETTLE_US: u64 = SECOND;
/// Where the store does not answer what is needed for that is asked for again, a few times.
const ROUGH_US: u64 = 20 * SECOND;
/// How often the views are looked at.
const LOOK_US: u64 = SECOND / 2;

/// What is known of who is here and who is told of it.
#[derive(Default)]
pub struct Presence {
    /// By user: since when it is here or is not.
    here: Vec<(u64, bool)>,
    /// By user: its sessions that make it be here.
    active: Vec<BTreeSet<LinkId>>,
    /// By user: its sessions, AWAY or not, from hello to their end, Unix milliseconds; `u64::MAX`: it goes on. Before all of
    /// them when it was set up.
    sessions: Vec<Vec<Span>>,
    /// Who watches whom; and since when not any more.
    watched: BTreeMap<(LinkId, usize), Option<u64>>,
    views: BTreeMap<(LinkId, usize), View>,
    looking: bool,
    rough: bool,
}

/// When a session was there.
#[derive(Clone, Debug)]
struct Span {
    link: LinkId,
    from_ms: u64,
    to_ms: u64,
}

/// What a session was told of a user, and since when nothing has changed that decides whether it may see it.
struct View {
    online: bool,
    last_seen_ms: u64,
    grounds: Grounds,
    since: u64,
}

/// Blocks and their ends, whether there was a message, and the version of the settings.
type Grounds = (usize, bool, u64);

impl Presence {
    pub fn new(users: usize, plan: &Plan) -> Self {
        let full = plan.actions.iter().any(|(_, action)| matches!(action, Action::Full { .. }));
        let store = &plan.store;
        let faults = [store.slow, store.unavailable, store.full, store.unknown_landed, store.unknown_lost];
        Self {
            here: vec![(0, false); users],
            active: vec![BTreeSet::new(); users],
            sessions: vec![vec![Span { link: LinkId::MAX, from_ms: EPOCH_US / 1_000, to_ms: EPOCH_US / 1_000 }]; users],
            rough: full || store.unknown_late > 0 || faults.iter().any(|rate| *rate > 0),
            ..Self::default()
        }
    }
}

impl World {
    /// It may be written down that it was here, whatever becomes of this.
    pub fn says_hello(&mut self, link: LinkId) {
        let (user, unix_ms) = (self.devices[self.links[link].device].user, self.clocks().unix_us / 1_000);
        self.oracle.presence.sessions[user].push(Span { link, from_ms: unix_ms, to_ms: u64::MAX });
    }

    /// A session opened, ended, or said how it is.
    pub fn session_is(&mut self, link: LinkId, active: bool) {
        let (user, now) = (self.devices[self.links[link].device].user, self.now);
        let presence = &mut self.oracle.presence;
        if active {
            presence.active[user].insert(link)
        } else {
            presence.active[user].remove(&link)
        };
        let here = !presence.active[user].is_empty();
        if here != presence.here[user].1 {
            presence.here[user] = (now, here);
        }
    }

    pub fn session_ends(&mut self, link: LinkId) {
        self.session_is(link, false);
        let (user, unix_ms) = (self.devices[self.links[link].device].user, self.clocks().unix_us / 1_000);
        let sessions = self.oracle.presence.sessions[user].iter_mut();
        sessions.filter(|session| session.link == link).for_each(|it| it.to_ms = it.to_ms.min(unix_ms));
        self.oracle.presence.views.retain(|(by, _), _| *by != link);
    }

    /// The node dies, and all that it knows of who is here and who watches.
    pub fn nobody_is_here(&mut self) {
        let unix_ms = self.clocks().unix_us / 1_000;
        for user in 0..self.oracle.users.len() {
            self.oracle.presence.sessions[user].iter_mut().for_each(|it| it.to_ms = it.to_ms.min(unix_ms));
            for link in self.oracle.presence.active[user].clone() {
                self.session_is(link, false);
            }
        }
        self.oracle.presence.views.clear();
        self.oracle.presence.watched.clear();
    }

    /// A session says how it is, or whom it watches.
    pub fn says_presence(&mut self, link: LinkId, presence: &v1::Presence) {
        if self.oracle.presence.active.iter().any(|links| links.contains(&link)) || self.links[link].away {
            self.links[link].away = presence.state() == State::Away;
            self.session_is(link, !self.links[link].away);
        }
    }

    pub fn watches(&mut self, link: LinkId, watch: &v1::Watch, on: bool) {
        let users: Vec<usize> = watch.users.iter().filter_map(|name| self.oracle.user(name)).collect();
        for user in users {
            let until = if on { None } else { Some(self.now) };
            self.oracle.presence.watched.insert((link, user), until);
            if !on {
                self.oracle.presence.views.remove(&(link, user));
            }
        }
    }

    /// A session is told how somebody is.
    pub fn presence_leaves(&mut self, link: LinkId, state: &v1::PresenceState) -> Verdict {
        let observer = self.devices[self.links[link].device].user;
        let Some(user) = self.oracle.user(&state.user) else {
            let nobody = !state.online && state.last_seen_ms == 0;
            return ensure(nobody, || format!("presence: {state:?} is told of who does not exist"));
        };
        let until = self.oracle.presence.watched.get(&(link, user)).copied();
        let watches = until.is_some_and(|until| until.is_none_or(|until| self.now <= until + self.oracle.under_way_us));
        ensure(watches, || format!("presence: {state:?} is told to {link}, who watches it not ({until:?})"))?;
        if state.online || state.last_seen_ms > 0 {
            let opens = state.online && self.open_links(user).next().is_some();
            self.oracle.may_see_presence(&self.store, (observer, user), self.now, state, opens)?;
        }
        let mark = match (state.online, state.last_seen_ms) {
            (true, _) => "presence: online",
            (false, 0) => "presence: not told",
            (false, _) => "presence: offline",
        };
        self.coverage.mark(mark);
        if until != Some(None) {
            return Ok(());
        }
        let grounds = self.oracle.grounds(&self.store, observer, user);
        let fresh = View { online: false, last_seen_ms: 0, grounds, since: self.now };
        let view = self.oracle.presence.views.entry((link, user)).or_insert(fresh);
        (view.online, view.last_seen_ms) = (state.online, state.last_seen_ms);
        if !std::mem::replace(&mut self.oracle.presence.looking, true) {
            self.at(self.now + LOOK_US, Event::Look);
        }
        Ok(())
    }

    /// The links of a user that said hello and are open at the node.
    fn open_links(&self, user: usize) -> impl Iterator<Item = LinkId> {
        let open = move |it: &Link| it.opened && !it.closing && !it.server_done && it.epoch == self.node.epoch;
        let links = self.links.iter().enumerate();
        links.filter(move |(_, it)| self.devices[it.device].user == user && open(it)).map(|(link, _)| link)
    }

    /// Whether the node may know of a session of which its client does not: its welcome is on its way to another shard.
    fn is_opening(&self, user: usize) -> bool {
        let active = &self.oracle.presence.active[user];
        self.open_links(user).any(|link| !active.contains(&link) && !self.links[link].away)
    }

    /// Whether what everybody sees is what is true.
    pub fn look(&mut self) -> Verdict {
        let mut views = std::mem::take(&mut self.oracle.presence.views);
        for ((link, user), view) in &mut views {
            self.look_at(*link, *user, view)?;
        }
        self.oracle.presence.views = views;
        self.at(self.now + LOOK_US, Event::Look);
        Ok(())
    }

    fn look_at(&mut self, link: LinkId, user: usize, view: &mut View) -> Verdict {
        let (now, slack) = (self.now, SETTLE_US + self.oracle.under_way_us);
        let observer = self.devices[self.links[link].device].user;
        let grounds = self.oracle.grounds(&self.store, observer, user);
        if grounds != view.grounds {
            (view.grounds, view.since) = (grounds, now);
        }
        let rough = if self.oracle.presence.rough { ROUGH_US } else { 0 };
        let known = view.since + slack + rough;
        let room = if self.links[link].was_full(now) { return Ok(()) } else { self.links[link].full_us + slack };
        let (since, here) = self.oracle.presence.here[user];
        let shows = self.oracle.shows(&self.store, observer, user);
        let (told, grace) = ((view.online, view.last_seen_ms), if here { 0 } else { GRACE_US });
        let due = if shows { since + grace + slack } else { 0 };
        if now <= known.max(room).max(due) || (view.online && !here && self.is_opening(user)) {
            return Ok(());
        }
        let right = view.online == (shows && here) && (shows || view.last_seen_ms == 0);
        ensure(right, || {
            format!(
                "presence: {link} (u{observer}) sees u{user} as {told:?}: here {here} since {since} us, shown {shows}"
            )
        })
    }
}

impl Oracle {
    fn grounds(&mut self, store: &FaultyStore, observer: usize, user: usize) -> Grounds {
        let fold = self.fold(store, observer, user);
        (fold.turns(), fold.spoke(user), self.settings(store, user).0)
    }

    /// Whether a user shows an observer when it is here.
    fn shows(&mut self, store: &FaultyStore, observer: usize, user: usize) -> bool {
        let privacy = self.settings(store, user).1.last_seen();
        let upto = self.fold(store, observer, user).head;
        self.would_show(observer, user, privacy, upto)
    }

    fn would_show(&self, observer: usize, user: usize, privacy: Privacy, upto: u64) -> bool {
        let fold = self.folded(observer, user);
        let blocked = fold.blocks(observer, upto) || fold.blocks(user, upto);
        let shown = match privacy {
            Privacy::Unchanged | Privacy::Everyone => true,
            Privacy::Contacts => fold.spoke(user),
            Privacy::Nobody => false,
        };
        observer == user || shown && !blocked
    }

    /// It is shown to nobody who may not see it, and is true.
    fn may_see_presence(
        &mut self,
        store: &FaultyStore,
        (observer, user): (usize, usize),
        now: u64,
        state: &v1::PresenceState,
        opens: bool,
    ) -> Verdict {
        let known = self.known(observer, user, now);
        let head = self.fold(store, observer, user).head;
        let privacies = self.promised(store, user, now, v1::Settings::last_seen);
        let shown = privacies.iter().any(|it| (known..=head).any(|upto| self.would_show(observer, user, *it, upto)));
        ensure(shown, || format!("presence: u{observer} is told {state:?}, which is not shown to it"))?;
        let (since, here) = self.presence.here[user];
        let slack = SETTLE_US + self.under_way_us;
        if state.online {
            return ensure(here || opens || now <= since + GRACE_US + slack, || {
                format!("presence: u{observer} is told {state:?}, who is not here since {since} us")
            });
        }
        // What was written down of it may be a while old, or of a session that was AWAY.
        let (at, slack, sessions) = (state.last_seen_ms, slack / 1_000, &self.presence.sessions[user]);
        let near = |it: &Span| it.from_ms.saturating_sub(slack) <= at && at <= it.to_ms.saturating_add(slack);
        let was_here = !self.steady || sessions.iter().any(near);
        ensure(was_here, || format!("presence: u{observer} is told {state:?}, whose sessions were {sessions:?}"))
    }
}
