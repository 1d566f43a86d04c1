//! Requests of an open session: bounds, and where each goes.

use super::State;
use super::partners::Partners;
use crate::Router;
use crate::boundary::{ConnRef, Proposal, Request, Settings, Wants};
use crate::envelope::{Envelope, SendOutcome};
use crate::refusal;
use crate::slab::Key;
use bytes::Bytes;
use ringpost_persist::{Body, ConversationKind, record};
use ringpost_proto::close::CloseCode;
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, NameError, Seq, UserKey};
use ringpost_proto::limits::{AVATAR_BYTES, BODY_BYTES, MEDIA_BYTES, REACTION_BYTES};
use ringpost_proto::v1;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::peer::Peer;
use ringpost_proto::v1::server_frame::Answer;
use std::sync::Arc;

impl Router {
    pub(crate) fn request(&mut self, conn: ConnRef, id: u64, request: Request) {
        let Some(key) = self.session_of(conn) else { return };
        let Some(session) = self.sessions.get(key) else { return };
        if session.state == State::Ended && !matches!(request, Request::Ack { .. }) {
            return;
        }
        if session.state == State::Loading {
            return self.hold_request(key, id, request);
        }
        if let Err(retry_after_ms) = self.within_rates(key, &request) {
            self.counters.rate_limited += 1;
            return self.refuse_now(conn, id, refusal::rate_limited(retry_after_ms));
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
            Request::More(request) => self.more(key, conn, id, *request),
            Request::Unexpected { hello: true } => {
                let error = refusal::invalid("hello", "only the first frame of a connection may be hello");
                self.refuse_now(conn, id, error);
            }
            Request::Unexpected { hello: false } if id != 0 => {
                let error = refusal::unimplemented("", "this server does not know the request");
                self.refuse_now(conn, id, error);
            }
            Request::Unexpected { hello: false } => {}
        }
    }

    /// A send counts for the device and for the user; an ack, a ping and a bye for nobody.
    fn within_rates(&mut self, key: Key, request: &Request) -> Result<(), u64> {
        let now_ms = self.now.mono_ms;
        if matches!(request, Request::Ack { .. } | Request::Ping | Request::Bye) {
            return Ok(());
        }
        let Settings { device_sends, user_sends, requests, .. } = self.settings;
        let Some(session) = self.sessions.get(key) else { return Ok(()) };
        let Some(user) = self.users.get_mut(&session.user) else { return Ok(()) };
        let was_cold = user.rare.used.is_empty();
        let taken = match request {
            Request::Send(_) => user.take_send(session.device, device_sends, user_sends, now_ms),
            _ => user.take_request(session.device, requests, now_ms),
        };
        if was_cold && !user.rare.used.is_empty() {
            self.linger_while_rated(key);
        }
        taken
    }

    /// Before welcome nothing is answered; like other requests that wait, at most 32 do before the socket is not read.
    fn hold_request(&mut self, key: Key, id: u64, request: Request) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(loading) = session.work.as_mut().and_then(|work| work.loading.as_mut()) else { return };
        loading.held.push((id, request));
        self.begin_request(key);
    }

    pub(crate) fn identity_of(&self, key: Key) -> Option<(UserKey, DeviceId)> {
        self.sessions.get(key).map(|session| (session.user.clone(), session.device))
    }

    fn send(&mut self, key: Key, conn: ConnRef, id: u64, send: v1::Send) {
        let Some((user, device)) = self.identity_of(key) else { return };
        self.counters.sends += 1;
        let proposed = propose(&mut self.partners, user, device, send);
        self.propose_or_refuse(key, conn, id, proposed);
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
            SendOutcome::Answer(answer) => self.answer(key, re, *answer),
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
        let Named { id: conversation, kind } = match named(&user, read.conversation.as_ref(), "conversation") {
            Ok(named) => named,
            Err(error) => return self.refuse_now(conn, id, error),
        };
        let (from, receipts) = (self.session_ref(key), self.receipts_of(&user));
        self.begin_request(key);
        let read = Envelope::Read { conversation, kind, user, from, re: id, seq: read.seq, receipts };
        self.post_to_conversation(conversation, read);
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

/// A conversation that a request names.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub id: ConversationId,
    pub kind: Arc<ConversationKind>,
}

/// The conversation that `peer` is from one's own side, or the error that names the field.
pub(crate) fn named(own: &UserKey, peer: Option<&v1::Peer>, field: &str) -> Result<Named, v1::Error> {
    match peer.and_then(|peer| peer.peer.as_ref()) {
        Some(Peer::User(name)) => direct_named(own, name).map_err(|error| not_a_user(field, &error)),
        Some(Peer::Group(id)) => {
            let id = id[..].try_into();
            let id = id.map_err(|_| refusal::invalid(&format!("{field}.group"), "must be 16 bytes"))?;
            Ok(Named { id: ConversationId(id), kind: Arc::new(ConversationKind::Group) })
        }
        None => Err(refusal::invalid(field, "names neither user nor group")),
    }
}

/// The direct conversation of `own` with the user of the same tenant who has this name.
pub(super) fn direct_named(own: &UserKey, name: &str) -> Result<Named, NameError> {
    let peer = own.sibling(name)?;
    Ok(Named { id: own.direct_with(&peer), kind: Arc::new(direct(own.clone(), peer)) })
}

fn not_a_user(field: &str, error: &NameError) -> v1::Error {
    refusal::invalid(&format!("{field}.user"), error.to_string())
}

/// Checks a send; what comes out needs no further check but against the log.
fn propose(
    partners: &mut Partners,
    sender: UserKey,
    device: DeviceId,
    send: v1::Send,
) -> Result<(ConversationId, Proposal), v1::Error> {
    let Named { id: conversation, kind } = match send.to.as_ref().and_then(|to| to.peer.as_ref()) {
        Some(Peer::User(name)) => partners.named(&sender, name).map_err(|error| not_a_user("to", &error))?,
        _ => named(&sender, send.to.as_ref(), "to")?,
    };
    let Some(cmid) = ClientMessageId::from_bytes(&send.client_message_id) else {
        return Err(refusal::invalid("clientMessageId", "must be 16 bytes"));
    };
    let message_kind = send.kind();
    let body = match send.body {
        Some(_) if !send.slices.is_empty() => {
            return Err(refusal::invalid("slices", "stand instead of a text or payload"));
        }
        None if !send.slices.is_empty() => super::slices::body(&sender, send.slices)?,
        // In buffers of their own size: they stay, while what they came in was made for a whole frame.
        Some(v1::send::Body::Text(text)) => Body::Text(text.into_boxed_str().into_boxed_bytes().into()),
        Some(v1::send::Body::Payload(payload)) => Body::Payload(Bytes::copy_from_slice(&payload)),
        // A picture may say all there is.
        None if message_kind == Kind::Media && send.media.is_some() => Body::Text(Bytes::new()),
        None if message_kind == Kind::Erase => Body::Text(Bytes::new()),
        None if message_kind == Kind::Media => {
            return Err(refusal::invalid("media", "a MEDIA needs media, a text or a payload"));
        }
        None => return Err(refusal::invalid("text", "a send needs a text or a payload")),
    };
    let field = if matches!(body, Body::Text(_)) { "text" } else { "payload" };
    let sliced = matches!(body, Body::Slices(_));
    if !sliced && body.bytes().len() > BODY_BYTES {
        return Err(refusal::too_large(field, BODY_BYTES));
    }
    check_kind(message_kind, &body, send.ref_seq)?;
    let media = media(message_kind, send.media)?;
    let trace = match send.trace.len() {
        0 => None,
        _ => Some(send.trace[..].try_into().map_err(|_| refusal::invalid("trace", "must be 16 bytes"))?),
    };
    let content_hash = record::content_hash(message_kind, send.ref_seq, &body, media.as_ref());
    let (ref_seq, group_epoch, wants) = (send.ref_seq, send.group_epoch, Wants::Sent);
    let proposal = Proposal {
        kind,
        sender,
        device,
        cmid,
        content_hash,
        message_kind,
        ref_seq,
        body,
        media,
        trace,
        group_epoch,
        wants,
    };
    Ok((conversation, proposal))
}

/// What each kind of message is made of.
fn check_kind(kind: Kind, body: &Body, ref_seq: Seq) -> Result<(), v1::Error> {
    let is_text = matches!(body, Body::Text(_));
    match kind {
        Kind::Text if matches!(body, Body::Payload(_)) => {
            return Err(refusal::invalid("kind", "a payload is not a TEXT"));
        }
        Kind::Data if is_text => return Err(refusal::invalid("kind", "DATA takes a payload")),
        Kind::Edit | Kind::Erase | Kind::Reaction if ref_seq == 0 => {
            return Err(refusal::invalid("refSeq", "must name the message that this is about"));
        }
        Kind::Erase if !body.bytes().is_empty() => return Err(refusal::invalid("text", "an erasure says nothing")),
        // A ciphertext is longer than what it says.
        Kind::Reaction if !matches!(body, Body::Slices(_)) && body.bytes().len() > REACTION_BYTES => {
            return Err(refusal::too_large("text", REACTION_BYTES));
        }
        Kind::KeyDistribution if is_text => return Err(refusal::invalid("kind", "KEY_DISTRIBUTION takes a payload")),
        Kind::Change => return Err(refusal::invalid("kind", "changes have requests of their own")),
        _ => {}
    }
    Ok(())
}

/// The media of a message of kind MEDIA, which may also carry a text or payload alone.
fn media(kind: Kind, media: Option<v1::Media>) -> Result<Option<Bytes>, v1::Error> {
    let Some(media) = media else { return Ok(None) };
    if kind != Kind::Media {
        return Err(refusal::invalid("media", "belongs to a message of kind MEDIA"));
    }
    if media.media_id.is_empty() || media.media_id.len() > AVATAR_BYTES {
        return Err(refusal::invalid("media.mediaId", format!("must be 1 to {AVATAR_BYTES} bytes")));
    }
    if !matches!(media.sha256.len(), 0 | 32) {
        return Err(refusal::invalid("media.sha256", "must be 32 bytes"));
    }
    let encoded = prost::Message::encode_to_vec(&media);
    if encoded.len() > MEDIA_BYTES {
        return Err(refusal::too_large("media", MEDIA_BYTES));
    }
    Ok(Some(encoded.into()))
}
