//! Requests of an open session: bounds, and where each goes.

use super::State;
use crate::Router;
use crate::boundary::{ConnRef, Proposal, Request};
use crate::envelope::{Envelope, SendOutcome};
use crate::refusal;
use crate::slab::Key;
use bytes::Bytes;
use ringpost_persist::{Body, ConversationKind, record};
use ringpost_proto::close::CloseCode;
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::limits::BODY_BYTES;
use ringpost_proto::v1;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::peer::Peer;
use ringpost_proto::v1::server_frame::Answer;
use std::sync::Arc;

impl Router {
    pub(crate) fn request(&mut self, conn: ConnRef, id: u64, request: Request) {
        let Some(&key) = self.by_conn.get(&conn) else { return };
        let Some(session) = self.sessions.get(key) else { return };
        if session.state == State::Ended && !matches!(request, Request::Ack { .. }) {
            return;
        }
        if session.state == State::Loading {
            return self.hold_request(key, id, request);
        }
        match request {
            Request::Ack { push, ranges } => {
                self.ack(conn, key, id, push, ranges);
                self.settle_session(key);
            }
            Request::Ping if id != 0 => {
                let server_time_ms = self.now_ms();
                self.frame(conn, id, Answer::Pong(v1::Pong { server_time_ms }));
            }
            Request::Ping => {}
            Request::Bye => self.end(key, CloseCode::Normal, "bye"),
            Request::Send(send) => self.send(key, conn, id, *send),
            Request::Read(read) => self.read(key, conn, id, *read),
            Request::Lookup(lookup) => self.lookup(key, conn, id, *lookup),
            Request::Fetch(fetch) => self.fetch(key, conn, id, *fetch),
            Request::History(history) => self.history(key, conn, id, *history),
            Request::Conversations(request) => self.conversations(key, conn, id, *request),
            Request::Unexpected { hello: true } => {
                let error = refusal::invalid("hello", "only the first frame of a connection may be hello");
                self.frame(conn, id, Answer::Error(error));
            }
            Request::Unexpected { hello: false } if id != 0 => {
                let error = refusal::unimplemented("", "this server does not know the request");
                self.frame(conn, id, Answer::Error(error));
            }
            Request::Unexpected { hello: false } => {}
        }
    }

    /// Before welcome nothing is answered; like other requests that wait, at most 32 do before the socket is not read.
    fn hold_request(&mut self, key: Key, id: u64, request: Request) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(loading) = session.work.as_mut().and_then(|work| work.loading.as_mut()) else { return };
        loading.held.push((id, request));
        self.begin_request(key);
    }

    pub(crate) fn identity_of(&self, key: Key) -> Option<(UserKey, DeviceId)> {
        self.sessions.get(key).map(|session| (session.identity.user.clone(), session.identity.device))
    }

    fn send(&mut self, key: Key, conn: ConnRef, id: u64, send: v1::Send) {
        let Some((user, device)) = self.identity_of(key) else { return };
        self.counters.sends += 1;
        match propose(user, device, send) {
            Ok((conversation, proposal)) => {
                self.begin_request(key);
                let from = self.session_ref(key);
                self.post_to_conversation(conversation, Envelope::Propose { conversation, from, re: id, proposal });
            }
            Err(error) => {
                self.counters.sends_refused += 1;
                self.frame(conn, id, Answer::Error(error));
            }
        }
    }

    /// What became of a send, back at the sender's session.
    pub(crate) fn send_outcome(&mut self, to: crate::envelope::SessionRef, re: u64, outcome: SendOutcome) {
        let key = Key { slot: to.slot, generation: to.generation };
        let Some(session) = self.sessions.get(key) else { return };
        match outcome {
            SendOutcome::Refused(error) => {
                self.counters.sends_refused += 1;
                self.answer(key, re, Answer::Error(*error));
            }
            SendOutcome::Sent(sent) => {
                let conn = session.conn;
                if re != 0 && session.state != State::Ended {
                    self.emit(conn, crate::boundary::Output::Sent { conn, re, sent });
                }
                self.finish_request(key);
            }
        }
    }

    fn read(&mut self, key: Key, conn: ConnRef, id: u64, read: v1::Read) {
        let Some((user, _)) = self.identity_of(key) else { return };
        let peer = match peer(&user, read.conversation.as_ref(), "conversation") {
            Ok(peer) => peer,
            Err(error) => return self.frame(conn, id, Answer::Error(error)),
        };
        let conversation = user.direct_with(&peer);
        let kind = Arc::new(direct(user.clone(), peer));
        let from = self.session_ref(key);
        self.begin_request(key);
        self.post_to_conversation(
            conversation,
            Envelope::Read { conversation, kind, user, from, re: id, seq: read.seq },
        );
    }

    /// The read position moved, or not: the answer, and the user's other sessions.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn read_done(
        &mut self,
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        user: UserKey,
        to: crate::envelope::SessionRef,
        re: u64,
        seq: Seq,
        moved: bool,
    ) {
        let reader = Key { slot: to.slot, generation: to.generation };
        self.answer(reader, re, Answer::Ok(v1::Ok {}));
        if moved {
            self.push_marks(conversation, &kind, &user, Some(reader), seq);
        }
    }
}

/// The kind of the direct conversation between two users.
pub(crate) fn direct(a: UserKey, b: UserKey) -> ConversationKind {
    ConversationKind::Direct(if a.user() <= b.user() { [a, b] } else { [b, a] })
}

/// The user that a direct conversation is with, or the error that names the field.
pub(crate) fn peer(own: &UserKey, peer: Option<&v1::Peer>, field: &str) -> Result<UserKey, v1::Error> {
    match peer.and_then(|peer| peer.peer.as_ref()) {
        Some(Peer::User(name)) => {
            own.sibling(name).map_err(|error| refusal::invalid(&format!("{field}.user"), error.to_string()))
        }
        Some(Peer::Group(_)) => Err(refusal::unimplemented(&format!("{field}.group"), "there are no groups yet")),
        None => Err(refusal::invalid(field, "names no user")),
    }
}

/// Checks a send; what comes out needs no further check but against the log.
fn propose(sender: UserKey, device: DeviceId, send: v1::Send) -> Result<(ConversationId, Proposal), v1::Error> {
    let peer = peer(&sender, send.to.as_ref(), "to")?;
    let Some(cmid) = ClientMessageId::from_bytes(&send.client_message_id) else {
        return Err(refusal::invalid("clientMessageId", "must be 16 bytes"));
    };
    let message_kind = send.kind();
    let body = match send.body {
        // In buffers of their own size: they stay, while what they came in was made for a whole frame.
        Some(v1::send::Body::Text(text)) => Body::Text(text.into_boxed_str().into_boxed_bytes().into()),
        Some(v1::send::Body::Payload(payload)) => Body::Payload(Bytes::copy_from_slice(&payload)),
        None => return Err(refusal::invalid("text", "a send needs a text or a payload")),
    };
    let field = if matches!(body, Body::Text(_)) { "text" } else { "payload" };
    if body.bytes().len() > BODY_BYTES {
        return Err(refusal::too_large(field, BODY_BYTES));
    }
    match (message_kind, &body) {
        (Kind::Text, Body::Text(_)) | (Kind::Data | Kind::Media, Body::Payload(_)) => {}
        (Kind::Text, Body::Payload(_)) => return Err(refusal::invalid("kind", "a payload is not a TEXT")),
        (Kind::Data | Kind::Media, Body::Text(_)) => {
            return Err(refusal::invalid("kind", "DATA and MEDIA take a payload"));
        }
        _ => return Err(refusal::unimplemented("kind", "TEXT, DATA and MEDIA can be sent")),
    }
    let trace = match send.trace.len() {
        0 => None,
        _ => Some(send.trace[..].try_into().map_err(|_| refusal::invalid("trace", "must be 16 bytes"))?),
    };
    let content_hash = record::content_hash(message_kind, send.ref_seq, &body);
    let conversation = sender.direct_with(&peer);
    let kind = Arc::new(direct(sender.clone(), peer));
    let ref_seq = send.ref_seq;
    Ok((conversation, Proposal { kind, sender, device, cmid, content_hash, message_kind, ref_seq, body, trace }))
}
