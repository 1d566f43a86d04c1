//! Answers to requests, and the count of those that have none yet.
//!
//! Guarantees: at [`UNANSWERED_REQUESTS`] without an answer the socket of the session is not read, and it is again below that.

use super::State;
use crate::Router;
use crate::boundary::{ConnRef, Output};
use crate::slab::Key;
use ringpost_proto::limits::UNANSWERED_REQUESTS;
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;

impl Router {
    /// Refuses a request before anything waits for it.
    pub(crate) fn refuse_now(&mut self, conn: ConnRef, re: u64, error: v1::Error) {
        self.frame(conn, re, Answer::Error(error));
    }

    pub(crate) fn frame(&mut self, conn: ConnRef, re: u64, answer: Answer) {
        let frame = Box::new(v1::ServerFrame { re, answer: Some(answer) });
        self.emit(conn, Output::Frame { conn, frame });
    }

    /// One more request of this session waits for something; at the limit its socket is not read.
    pub(crate) fn begin_request(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.unanswered += 1;
        if session.unanswered >= UNANSWERED_REQUESTS && session.reading {
            session.reading = false;
            let conn = session.conn;
            self.emit(conn, Output::Reading { conn, on: false });
        }
    }

    /// A request that waited has its answer.
    pub(crate) fn finish_request(&mut self, key: Key) {
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.unanswered = session.unanswered.saturating_sub(1);
        if !session.reading && session.unanswered < UNANSWERED_REQUESTS && session.state != State::Ended {
            session.reading = true;
            if let Some(work) = &mut session.work {
                work.progress_ms = now_ms;
            }
            let conn = session.conn;
            self.emit(conn, Output::Reading { conn, on: true });
            self.settle_session(key);
        }
    }

    /// Answers a request that waited; `re` 0 wants none, but an error is told all the same.
    pub(crate) fn answer(&mut self, key: Key, re: u64, answer: Answer) {
        let Some(session) = self.sessions.get(key) else { return };
        let (conn, ended) = (session.conn, session.state == State::Ended);
        if !ended && (re != 0 || matches!(answer, Answer::Error(_))) {
            self.frame(conn, re, answer);
        }
        self.finish_request(key);
    }
}
