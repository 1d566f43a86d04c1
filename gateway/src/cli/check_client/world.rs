//! The scripted server: what a gateway would do, a log that lives in memory, and the rules that hold at every moment.
//!
//! Owns: connections, logs, sends. Guarantees: every request that no script holds back is answered as a gateway would.
//! Never does: sockets, clocks.

mod boundary;
mod sends;

pub use boundary::{Event, Input, Now, Output};

use super::rules::{self, Report};
use crate::transport::websocket::Kind;
use bytes::Bytes;
use ringpost_proto::v1::{self, client_frame::Request, code::Value as Code, peer::Peer, server_frame::Answer};
use ringpost_proto::wire::{Encoding, decode_client, encode_server};
use sends::Followed;
use std::collections::{BTreeMap, VecDeque};

/// Connections at a time; more are refused.
const CONNECTIONS: usize = 64;
/// Events that no script has looked at.
const EVENTS: usize = 10_000;
const HELLO_MS: u64 = 10_000;
/// Of every welcome here.
const RESUME_TOKEN: &[u8] = b"check-client, the only session so far";
const INCARNATION: [u8; 16] = [0xcc; 16];

pub struct Conn {
    pub encoding: Encoding,
    pub token: Option<String>,
    opened_ms: u64,
    pub greeted: bool,
    pub have: Vec<v1::Position>,
    pub pushed: u64,
    acked: u64,
}

#[derive(Default)]
pub struct World {
    pub now: Now,
    pub report: Report,
    pub outputs: VecDeque<Output>,
    pub events: VecDeque<Event>,
    /// When the script wants to be woken.
    pub wake_ms: Option<u64>,
    pub conns: BTreeMap<u64, Conn>,
    /// The session that scripts speak of.
    pub current: Option<u64>,
    /// Sends are not answered but by the script.
    pub hold: bool,
    held: Vec<(u64, v1::Send)>,
    sends: BTreeMap<(String, Bytes), Followed>,
    /// `None`: not for this device.
    pub logs: BTreeMap<String, BTreeMap<u64, Option<v1::Record>>>,
    /// For the next welcome.
    pub resets: Vec<(String, u64)>,
}

pub fn user(name: &str) -> v1::Peer {
    v1::Peer { peer: Some(Peer::User(name.to_owned())) }
}

fn name(peer: &Option<v1::Peer>) -> String {
    match peer.as_ref().and_then(|peer| peer.peer.as_ref()) {
        Some(Peer::User(name)) => name.clone(),
        other => format!("{other:?}"),
    }
}

impl World {
    pub fn new(now: Now) -> Self {
        Self { now, ..Self::default() }
    }

    pub fn input(&mut self, now: Now, input: Input) {
        self.now = now;
        match input {
            Input::Opened { conn, .. } if self.conns.len() >= CONNECTIONS => self.close(conn, 4003, "too many"),
            Input::Opened { conn, encoding, token } => {
                let opened_ms = now.ms;
                let fresh = Conn { encoding, token, opened_ms, greeted: false, have: Vec::new(), pushed: 0, acked: 0 };
                self.conns.insert(conn, fresh);
                self.event(Event::Opened);
            }
            Input::Message { conn, kind, payload } => self.message(conn, kind, payload),
            Input::Pong { payload } => self.event(Event::Pong(payload)),
            Input::Closed { conn } => self.gone(conn),
        }
    }

    pub fn timeout(&mut self, now: Now) {
        self.now = now;
        let late = |conn: &&Conn| !conn.greeted && conn.opened_ms + HELLO_MS <= now.ms;
        let late: Vec<u64> = self.conns.iter().filter(|(_, c)| late(c)).map(|(conn, _)| *conn).collect();
        for conn in late {
            self.report.broken(rules::HELLO, "hello within 10 s", "a silent connection");
            self.close(conn, 4501, "no hello");
        }
    }

    pub fn next_timeout_ms(&self) -> Option<u64> {
        let hello = self.conns.values().filter(|conn| !conn.greeted).map(|conn| conn.opened_ms + HELLO_MS).min();
        [self.wake_ms, hello].into_iter().flatten().min()
    }

    fn event(&mut self, event: Event) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        }
    }

    fn gone(&mut self, conn: u64) {
        if self.conns.remove(&conn).is_some() {
            self.current = self.current.filter(|current| *current != conn);
            self.event(Event::Gone(conn));
        }
    }

    pub fn close(&mut self, conn: u64, code: u16, reason: &'static str) {
        self.outputs.push_back(Output::Close { conn, code, reason });
        self.gone(conn);
    }

    fn message(&mut self, conn: u64, kind: Kind, payload: Bytes) {
        let Some(known) = self.conns.get(&conn) else { return };
        let right = if known.encoding == Encoding::Json { Kind::Text } else { Kind::Binary };
        if kind != right {
            self.report.broken(rules::FRAMES, format!("{right:?} messages"), format!("{kind:?}"));
            return self.close(conn, 1003, "wrong kind of message");
        }
        let frame = match decode_client(known.encoding, payload) {
            Ok(frame) => frame,
            Err(error) => {
                self.report.broken(rules::FRAMES, "a frame", error.reason());
                return self.close(conn, 4505, "no frame");
            }
        };
        self.report.kept(rules::FRAMES);
        match (frame.request, known.greeted) {
            (Some(Request::Hello(hello)), false) => self.hello(conn, frame.id, hello),
            (request, false) => {
                let seen = request.map_or("an unknown frame".to_owned(), |it| format!("{it:?}"));
                self.report.broken(rules::HELLO, "hello first", seen.chars().take(60).collect::<String>());
                self.close(conn, 4505, "hello first");
            }
            (Some(request), true) => self.request(conn, frame.id, request),
            (None, true) => self.error(conn, frame.id, Code::Unimplemented, "unknown request"),
        }
    }

    fn hello(&mut self, conn: u64, id: u64, hello: v1::Hello) {
        let Some(known) = self.conns.get_mut(&conn) else { return };
        known.greeted = true;
        if !hello.token.is_empty() {
            known.token = Some(hello.token);
        }
        known.have = hello.have;
        if hello.resume_token == RESUME_TOKEN {
            self.report.kept(rules::RESUME);
        }
        let (have, claims) = (known.have.clone(), known.token.as_deref().and_then(claims));
        self.report.kept(rules::HELLO);
        match &claims {
            Some(_) => self.report.kept(rules::TOKEN),
            None => self.report.broken(rules::TOKEN, "a token with sub and dev", "none that can be read"),
        }
        let resets = std::mem::take(&mut self.resets);
        for position in &have {
            let log = name(&position.conversation);
            let head = self.head(&log);
            // Positions of the time before the log lost its end; and of runs before this one.
            let excused = resets.iter().any(|(of, _)| *of == log) || !self.logs.contains_key(&log);
            if position.seq > head && !excused {
                let seen = format!("{log}: {}", position.seq);
                self.report.broken(rules::HAVE, format!("at most {head}, the last that was pushed"), seen);
            }
        }
        let reset = |(log, head): &(String, u64)| v1::Reset { conversation: Some(user(log)), head_seq: *head };
        let (user, device) = claims.unwrap_or_default();
        let welcome = v1::Welcome {
            user,
            device,
            session_id: format!("check-{conn}"),
            node: "check-client".to_owned(),
            server_time_ms: self.now.unix_ms,
            heartbeat_ms: 30_000,
            window: Some(v1::Window { pushes: 64, bytes: 256 << 10 }),
            reset: resets.iter().map(reset).collect(),
            resume_token: Bytes::from_static(RESUME_TOKEN),
            store_incarnation: Bytes::copy_from_slice(&INCARNATION),
            ..Default::default()
        };
        self.answer(conn, id, Answer::Welcome(welcome));
        self.answer(conn, 0, Answer::SyncDone(v1::SyncDone::default()));
        self.current = Some(conn);
        self.event(Event::Session(conn));
    }

    fn request(&mut self, conn: u64, id: u64, request: Request) {
        match request {
            Request::Send(send) => self.send(conn, id, send),
            Request::Ack(ack) => self.ack(conn, ack.push),
            Request::Fetch(fetch) => {
                let page = self.fetch(&fetch);
                self.answer(conn, id, Answer::Page(page));
                self.event(Event::Fetch(fetch));
            }
            Request::History(history) => {
                let page = self.history(&history);
                self.answer(conn, id, Answer::Page(page));
            }
            Request::Lookup(lookup) => {
                let result = self.lookup(&lookup);
                self.answer(conn, id, Answer::LookupResult(result));
            }
            Request::Conversations(_) => {
                self.answer(conn, id, Answer::ConversationPage(v1::ConversationPage::default()));
            }
            Request::Read(_) => self.answer(conn, id, Answer::Ok(v1::Ok {})),
            Request::Renew(renew) => {
                self.answer(conn, id, Answer::Ok(v1::Ok {}));
                self.event(Event::Renew(renew));
            }
            Request::Ping(_) => {
                self.answer(conn, id, Answer::Pong(v1::Pong { server_time_ms: self.now.unix_ms }));
            }
            Request::Bye(_) => self.close(conn, 1000, ""),
            Request::Hello(_) => self.error(conn, id, Code::Invalid, "hello was said"),
            #[allow(unreachable_patterns)] // requests that the wire learns later
            _ => self.error(conn, id, Code::Unimplemented, "not part of this check"),
        }
    }

    fn ack(&mut self, conn: u64, push: u64) {
        let Some(known) = self.conns.get_mut(&conn) else { return };
        if push > known.pushed || push < known.acked {
            let expected = format!("from {} to {}", known.acked, known.pushed);
            return self.report.broken(rules::ACK, expected, format!("ack of {push}"));
        }
        known.acked = push;
        self.event(Event::Ack(push));
    }

    pub fn head(&self, log: &str) -> u64 {
        self.logs.get(log).and_then(|log| log.keys().next_back().copied()).unwrap_or(0)
    }

    fn fetch(&self, fetch: &v1::Fetch) -> v1::Page {
        let mut page = v1::Page::default();
        let to = fetch.to_seq.min(fetch.from_seq.saturating_add(99)).max(fetch.from_seq);
        let log = self.logs.get(&name(&fetch.conversation));
        for (&seq, record) in log.iter().flat_map(|log| log.range(fetch.from_seq..=to)) {
            match record {
                Some(record) => page.records.push(record.clone()),
                None => page.skips.push(v1::Skip { from_seq: seq, to_seq: seq }),
            }
        }
        page
    }

    fn history(&self, history: &v1::History) -> v1::Page {
        let before = if history.before_seq == 0 { u64::MAX } else { history.before_seq };
        let log = self.logs.get(&name(&history.conversation));
        let records = log.iter().flat_map(|log| log.range(..before).rev()).filter_map(|(_, record)| record.clone());
        v1::Page { records: records.take(50).collect(), ..Default::default() }
    }

    fn lookup(&self, lookup: &v1::Lookup) -> v1::LookupResult {
        let log = name(&lookup.conversation);
        let found = |id: &Bytes| {
            let known = self.sends.get(&(log.clone(), id.clone()))?;
            Some(v1::Found { client_message_id: id.clone(), seq: known.seq, id: known.seq, ..Default::default() })
        };
        v1::LookupResult { found: lookup.client_message_ids.iter().filter_map(found).collect() }
    }

    fn error(&mut self, conn: u64, id: u64, code: Code, message: &str) {
        if id != 0 {
            let error = v1::Error { code: code as i32, message: message.to_owned(), ..Default::default() };
            self.answer(conn, id, Answer::Error(error));
        }
    }

    pub fn answer(&mut self, conn: u64, re: u64, answer: Answer) {
        let Some(known) = self.conns.get(&conn) else { return };
        let mut payload = Vec::new();
        encode_server(known.encoding, &v1::ServerFrame { re, answer: Some(answer) }, &mut payload);
        self.raw(conn, payload);
    }

    pub fn raw(&mut self, conn: u64, payload: Vec<u8>) {
        let Some(known) = self.conns.get(&conn) else { return };
        let kind = if known.encoding == Encoding::Json { Kind::Text } else { Kind::Binary };
        self.outputs.push_back(Output::Message { conn, kind, payload });
    }
}

/// User and device of a token whose signature nobody checks.
fn claims(token: &str) -> Option<(String, String)> {
    use base64::Engine;
    #[derive(serde::Deserialize)]
    struct Claims {
        sub: String,
        dev: String,
    }
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    let Claims { sub, dev } = serde_json::from_slice(&bytes).ok()?;
    Some((sub, dev))
}
