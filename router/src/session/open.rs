//! From hello to a registered session: window, takeover, token deadlines, renewal.

use super::{Loading, Session, State};
use crate::Router;
use crate::boundary::{ConnRef, Identity, Output};
use crate::refusal;
use crate::slab::Key;
use bytes::Bytes;
use ringpost_persist::Peer;
use ringpost_proto::close::CloseCode;
use ringpost_proto::id::{ConversationId, Seq, UserKey};
use ringpost_proto::limits::{DEVICES, HAVE_POSITIONS};
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The store's incarnation, and the id of a session in hexadecimal digits.
const RESUME_TOKEN_BYTES: usize = 32;

impl Router {
    pub(crate) fn open(&mut self, conn: ConnRef, id: u64, identity: Arc<Identity>, hello: v1::Hello) {
        if self.session_of(conn).is_some() {
            return;
        }
        let mut have = match positions(&identity.user, &hello.have) {
            Ok(have) => have,
            Err(error) => {
                self.refuse_now(conn, id, error);
                let reason = "hello is out of bounds";
                return self.emit(conn, Output::Close { conn, code: CloseCode::Protocol, reason });
            }
        };
        if !self.take_over(&identity) {
            let reason = "the device was taken over too often";
            return self.emit(conn, Output::Close { conn, code: CloseCode::DeviceInUse, reason });
        }
        let window = hello.window.unwrap_or_default();
        let reconcile_ms = self.next_reconcile_ms();
        let key = self.sessions.insert(Session {
            conn,
            user: identity.user.clone(),
            device: identity.device,
            issued_ms: identity.issued_ms,
            state: State::Loading,
            opened_ms: self.now.mono_ms,
            told_renew: false,
            away: false,
            reading: true,
            unanswered: 0,
            pushed: 0,
            acked: 0,
            window_pushes: at_most(self.settings.window_pushes, window.pushes),
            window_bytes: at_most(self.settings.window_bytes, window.bytes),
            floor_ms: 0,
            seen_ms: 0,
            expires_ms: self.monotonic(identity.exp_ms),
            exp_ms: identity.exp_ms,
            reconcile_ms,
            work: None,
            watching: None,
        });
        self.of_conns.insert(conn, key);
        // Registered first, read after: whatever commits from here on is either in what is read or noted.
        self.users.enter(&identity.user).sessions.push(key);
        self.counters.syncs += 1;
        let void = self.is_of_another_store(&hello.resume_token);
        if void {
            // Beyond every log: each is reset.
            have.values_mut().for_each(|(_, seq)| *seq = Seq::MAX);
        }
        let resuming = !void && (!hello.resume_token.is_empty() || !have.is_empty());
        if let Some(session) = self.sessions.get_mut(key) {
            session.work().loading = Some(Box::new(Loading::new(id, identity, have, resuming)));
        }
        self.load(key);
        self.settle_session(key);
    }

    /// Opaque to the client and no credential: resume works from registers. It says of which store a client's positions are:
    /// one that was restored since may have other records there.
    pub(super) fn resume_token(&self, session_id: &str) -> Bytes {
        [&self.settings.store_incarnation[..], session_id.as_bytes()].concat().into()
    }

    /// Tokens of an older build say nothing of the store.
    fn is_of_another_store(&self, resume_token: &[u8]) -> bool {
        let told = resume_token.split_first_chunk::<16>().filter(|_| resume_token.len() == RESUME_TOKEN_BYTES);
        told.is_some_and(|(told, _)| *told != self.settings.store_incarnation)
    }

    /// Whether a device finds a place beside those that are connected. Asked where the user lives, before an upgrade is
    /// answered: a status is all that some clients see. What counts is the answer to hello, which knows those that are away.
    pub fn has_place(&self, identity: &Identity) -> bool {
        let Some(user) = self.users.get(&identity.user) else { return true };
        let sessions = user.sessions.iter().filter_map(|key| self.sessions.get(key));
        let linked = sessions.filter(|session| session.state == State::Open).map(|session| session.device);
        let (mut count, mut is_one) = (0, false);
        linked.for_each(|device| (count, is_one) = (count + 1, is_one || device == identity.device));
        count < DEVICES || is_one
    }

    /// Ends this device's session, if it has one. `false`: it was taken over too often.
    fn take_over(&mut self, identity: &Identity) -> bool {
        let Some(user) = self.users.get_mut(&identity.user) else { return true };
        let sessions = &self.sessions;
        let is_same = |key: &Key| sessions.get(*key).is_some_and(|s| s.device == identity.device);
        let Some(old) = user.sessions.iter().find(is_same) else { return true };
        if !user.take_over(identity.device, self.now.mono_ms) {
            return false;
        }
        self.counters.takeovers += 1;
        // The user's entry, which remembers takeovers, must outlive its only session.
        let kept = self.users.remove(&identity.user);
        if kept.as_ref().is_some_and(|kept| kept.lingers) {
            self.users.enter(&identity.user).lingers = true;
        }
        self.end(old, CloseCode::Replaced, "another connection of this device");
        if let Some(mut kept) = kept {
            kept.sessions.remove(old);
            // Of a user's entry all that the end of a session writes.
            if let Some(mut fresh) = self.users.remove(&identity.user) {
                kept.rare.acked.append(&mut fresh.rare.acked);
                kept.rare.used.append(&mut fresh.rare.used);
                kept.lingers |= fresh.lingers;
            }
            self.users.insert(identity.user.clone(), kept);
        }
        true
    }

    pub(crate) fn renewed(&mut self, conn: ConnRef, id: u64, identity: Option<Arc<Identity>>) {
        let Some(key) = self.session_of(conn) else { return };
        let Some(session) = self.sessions.get(key).filter(|session| session.state != State::Ended) else { return };
        let counts = |new: &Identity| session.floor_ms == 0 || new.issued_ms > session.floor_ms;
        let valid = identity.filter(|new| new.user == session.user && new.device == session.device && counts(new));
        let Some(identity) = valid else {
            let error = refusal::unauthenticated("not a valid token of this user and device");
            self.refuse_now(conn, id, error);
            return self.end(key, CloseCode::Unauthenticated, "renewal with a token that is not valid here");
        };
        let expires_ms = self.monotonic(identity.exp_ms);
        if let Some(session) = self.sessions.get_mut(key) {
            (session.expires_ms, session.exp_ms, session.issued_ms) = (expires_ms, identity.exp_ms, identity.issued_ms);
            if let Some(loading) = session.work.as_mut().and_then(|work| work.loading.as_mut()) {
                loading.identity = Some(identity);
            }
            session.told_renew = false;
        }
        if id != 0 {
            self.frame(conn, id, Answer::Ok(v1::Ok {}));
        }
        self.tell_renew(key);
        self.settle_session(key);
    }

    /// The session of exactly this connection.
    pub(crate) fn session_of(&self, conn: ConnRef) -> Option<Key> {
        self.of_conns.get(conn, &self.sessions)
    }

    /// A wall-clock instant on the monotonic clock: fixed once, so that a later step of the wall clock moves nothing.
    fn monotonic(&self, unix_ms: u64) -> u64 {
        self.now.mono_ms.saturating_add(unix_ms.saturating_sub(self.now_ms()))
    }
}

fn at_most(limit: u32, asked: u32) -> u32 {
    if asked == 0 { limit } else { asked.min(limit) }
}

/// The client's positions by conversation.
fn positions(user: &UserKey, have: &[v1::Position]) -> Result<BTreeMap<ConversationId, (Peer, Seq)>, v1::Error> {
    if have.len() > HAVE_POSITIONS {
        return Err(refusal::invalid("have", format!("at most {HAVE_POSITIONS} positions")));
    }
    let mut positions = BTreeMap::new();
    for position in have {
        let named = super::request::named(user, position.conversation.as_ref(), "have.conversation")?;
        positions.insert(named.id, (named.kind.peer_of(named.id, user), position.seq));
    }
    Ok(positions)
}
