//! The life of a session: its deadlines, and its end from either side.
//!
//! Guarantees: one timer a session, armed for the earliest of its deadlines; a session that ended stays, for its acks, until
//! its connection is gone; what ends late never removes what came after it.

use super::{Session, State, Work};
use crate::Router;
use crate::boundary::{ConnRef, Output};
use crate::slab::Key;
use ringpost_proto::close::CloseCode;
use ringpost_proto::id::UserKey;
use ringpost_proto::limits::{RENEW_SOON_MS, TOKEN_LEEWAY_MS};
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;

impl Session {
    /// When it is to be looked at next, monotonic milliseconds; `progress_ms`: how long it may leave pushes without an ack.
    fn deadline_ms(&self, progress_ms: u64) -> u64 {
        if self.state == State::Ended {
            return u64::MAX;
        }
        let renew = self.expires_ms.saturating_sub(RENEW_SOON_MS);
        let told = self.told_renew || self.state == State::Loading;
        let token = if told { self.expires_ms.saturating_add(TOKEN_LEEWAY_MS) } else { renew };
        let token = if self.state == State::Open { token.min(self.reconcile_ms) } else { token };
        let Some(work) = &self.work else { return token };
        // Who is not read cannot acknowledge.
        let progress =
            if work.outstanding.is_empty() || !self.reading { u64::MAX } else { work.progress_ms + progress_ms };
        let timers = [work.retry_ms, work.write_ms, work.forget_ms];
        timers.into_iter().flatten().fold(token.min(progress), u64::min)
    }
}

impl Router {
    /// After anything that may have changed a session: frees what it no longer needs and arms its next deadline.
    pub(crate) fn settle_session(&mut self, key: Key) {
        self.tell_held(key);
        let Some(session) = self.sessions.get_mut(key) else { return };
        let sum = &mut self.work_bytes;
        session.work = session.work.take().and_then(|mut work| work.settle(sum).then_some(work));
        let at_ms = session.deadline_ms(self.settings.progress_ms);
        // A deadline that is later than what is armed is found when that one fires: acks do not move timers.
        match self.session_wheel.deadline_ms(key.slot) {
            Some(armed) if armed <= at_ms => {}
            _ if at_ms == u64::MAX => self.session_wheel.cancel(key.slot),
            _ => self.session_wheel.arm(key.slot, at_ms),
        }
    }

    pub(crate) fn session_deadline(&mut self, key: Key) {
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.state == State::Ended {
            return;
        }
        if now_ms >= session.expires_ms.saturating_add(TOKEN_LEEWAY_MS) {
            return self.end(key, CloseCode::TokenExpired, "the token expired");
        }
        if let Some(work) = &mut session.work {
            let awaits = !work.outstanding.is_empty() && session.reading;
            if awaits && now_ms >= work.progress_ms + self.settings.progress_ms {
                self.counters.slow_consumers += 1;
                return self.end(key, CloseCode::SlowConsumer, "no ack while pushes are outstanding");
            }
            if work.forget_ms.is_some_and(|at| now_ms >= at) {
                work.forget(now_ms);
            }
            let write = work.write_ms.is_some_and(|at| now_ms >= at);
            if work.retry_ms.is_some_and(|at| now_ms >= at) {
                work.retry_ms = None;
                let loading = work.loading.is_some();
                if loading { self.load(key) } else { self.pump(key) }
            }
            if write {
                self.write_heard(key);
            }
        }
        self.tell_renew(key);
        if self.sessions.get(key).is_some_and(|session| now_ms >= session.reconcile_ms) {
            self.note_seen(key);
            self.reconcile(key);
        }
        self.settle_session(key);
    }

    /// renewSoon, once per token, if it is time.
    pub(super) fn tell_renew(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let due = self.now.mono_ms >= session.expires_ms.saturating_sub(RENEW_SOON_MS);
        if !due || session.told_renew || session.state != State::Open {
            return;
        }
        session.told_renew = true;
        let (conn, exp_ms) = (session.conn, session.exp_ms);
        self.frame(conn, 0, Answer::RenewSoon(v1::RenewSoon { exp_ms }));
    }

    /// Ends a session from this side. It stays, for its acks, until the connection is gone.
    pub(crate) fn end(&mut self, key: Key, code: CloseCode, reason: &'static str) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.state == State::Ended {
            return;
        }
        let goes = !matches!(code, CloseCode::Replaced | CloseCode::DeviceRevoked);
        if std::mem::replace(&mut session.state, State::Ended) == State::Open && goes {
            self.note_seen(key);
        }
        self.linger_while_rated(key);
        self.write_heard(key);
        self.linger(key);
        self.stop_watching(key);
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Some(work) = &mut session.work {
            // Acks that are on their way still count, and for what they count.
            let (outstanding, gone) = (std::mem::take(&mut work.outstanding), std::mem::take(&mut work.gone));
            let counted = std::mem::take(&mut work.counted);
            **work = Work { outstanding, gone, counted, ..Work::default() };
        }
        let (conn, user) = (session.conn, session.user.clone());
        self.forget(&user, key);
        self.emit(conn, Output::Close { conn, code, reason });
        self.settle_session(key);
    }

    /// Takes a session out of its user's entry. Compares the key, so a late clean-up never removes a newer session.
    fn forget(&mut self, name: &UserKey, key: Key) {
        if let Some(user) = self.users.get_mut(name) {
            user.sessions.remove(key);
        }
        self.presence_changed(name);
        self.forget_user(name);
    }

    pub(crate) fn closed(&mut self, conn: ConnRef) {
        let Some(key) = self.session_of(conn) else { return };
        self.of_conns.remove(conn);
        if self.sessions.get(key).is_some_and(|session| session.state == State::Open) {
            self.note_seen(key);
        }
        if self.sessions.get(key).is_some_and(|session| session.state != State::Ended) {
            self.linger_while_rated(key);
        }
        self.write_heard(key);
        self.linger(key);
        self.stop_watching(key);
        let Some(mut session) = self.sessions.remove(key) else { return };
        session.stop_work(&mut self.work_bytes);
        self.session_wheel.cancel(key.slot);
        self.forget(&session.user, key);
    }

    pub(crate) fn drain(&mut self) {
        let keys: Vec<Key> = self.sessions.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.end(key, CloseCode::Draining, "the node drains");
        }
        self.flush_all();
    }
}
