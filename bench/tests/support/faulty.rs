//! A gateway that breaks the delivery contract on purpose, small enough to be seen through: a thread per connection, logs
//! in memory.

use super::log::Logs;
use bytes::Bytes;
use ringpost_gateway::auth::{KeySet, Verifier, dev};
use ringpost_gateway::transport::http::{HeadReader, upgrade};
use ringpost_gateway::transport::websocket::{Decoder, Event, Opcode, Role, encode};
use ringpost_proto::id::{ClientMessageId, ConversationId};
use ringpost_proto::v1::{self, client_frame::Request, peer::Peer, push::Item, record, send, server_frame::Answer};
use ringpost_proto::wire::{Encoding, decode_client, encode_server};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

/// What happens to every tenth message (at one of its receivers, where it has several), or to everybody who comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// SENT, but never pushed.
    Lost,
    /// Pushed twice on one connection.
    PushedTwice,
    /// At two positions of the log.
    StoredTwice,
    /// Pushed after the one behind it.
    Swapped,
    /// Pushed with another text.
    Changed,
    /// Pushed as one of another conversation.
    Misplaced,
    /// Pushed in another's name.
    Forged,
    /// Pushed to somebody else, too.
    Leaked,
    /// SENT names a position that is not its own.
    WrongPosition,
    /// Neither stored nor answered.
    Ignored,
    /// Refused for good.
    Refused,
    /// Pushed under a number that does not follow.
    Misnumbered,
    /// No group is created.
    NoGroups,
    /// Groups are created, and their members hear nothing.
    SilentGroups,
    /// The last record that was missed is not pushed on return.
    LostOnReturn,
    TwiceOnReturn,
    SwappedOnReturn,
    ChangedOnReturn,
    /// syncDone is said before anything is pushed.
    EarlySync,
    /// The conversation that rested longest first.
    OldestFirst,
    /// Who comes back is told not to (close code 4503).
    NoReturn,
}

struct Session {
    stream: TcpStream,
    pushes: u64,
    /// What was pushed and not acknowledged: number, conversation, position.
    outstanding: VecDeque<(u64, String, u64)>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<String, Session>,
    /// Who has had a session.
    known: HashSet<String>,
    logs: Logs,
    sends: u64,
    /// Pushed before the next one's.
    held: Option<(String, String, v1::Record)>,
}

struct Gateway {
    fault: Fault,
    state: Mutex<State>,
}

/// Starts one, for as long as the test runs.
pub fn start(fault: Fault) -> SocketAddr {
    let gateway = Arc::new(Gateway { fault, state: Mutex::default() });
    super::plain_server(move |stream| drop(gateway.serve(stream)))
}

impl Gateway {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let Some(user) = upgrade(&mut stream) else { return Ok(()) };
        let mut decoder = Decoder::new(Role::Server, 1 << 20);
        let mut buffer = [0; 16 << 10];
        loop {
            let count = stream.read(&mut buffer)?;
            let mut chunk = &mut buffer[..count];
            if count == 0 {
                return Ok(());
            }
            while let Ok(Some(Event::Message { payload, .. })) = decoder.next(&mut chunk) {
                self.frame(&user, &stream, payload);
            }
        }
    }

    fn frame(&self, user: &str, stream: &TcpStream, payload: Bytes) {
        let frame = decode_client(Encoding::Protobuf, payload).unwrap();
        let mut state = self.state.lock().unwrap();
        match frame.request {
            Some(Request::Hello(_)) => self.hello(&mut state, user, frame.id, stream),
            Some(Request::Ping(_)) => state.write(user, frame.id, Answer::Pong(v1::Pong::default())),
            Some(Request::Send(send)) => self.send(&mut state, user, frame.id, send),
            Some(Request::GroupCreate(create)) => self.create(&mut state, user, frame.id, create),
            Some(Request::Ack(ack)) => state.acknowledged(user, ack.push),
            _ => {}
        }
    }

    fn hello(&self, state: &mut State, user: &str, id: u64, stream: &TcpStream) {
        let session = Session { stream: stream.try_clone().unwrap(), pushes: 0, outstanding: VecDeque::new() };
        state.sessions.insert(user.to_owned(), session);
        let is_back = !state.known.insert(user.to_owned());
        if is_back && self.fault == Fault::NoReturn {
            return state.close(user, 4503);
        }
        let welcome = v1::Welcome { user: user.to_owned(), heartbeat_ms: 30_000, ..v1::Welcome::default() };
        state.write(user, id, Answer::Welcome(welcome));
        if self.fault == Fault::EarlySync {
            state.write(user, 0, Answer::SyncDone(v1::SyncDone::default()));
        }
        let mut missed = state.logs.missed(user, self.fault == Fault::OldestFirst);
        match self.fault {
            Fault::LostOnReturn => drop(missed.pop()),
            Fault::TwiceOnReturn => missed.extend(missed.last().cloned()),
            // Of one conversation, for the tests have them so.
            Fault::SwappedOnReturn if missed.len() > 1 => missed.swap(0, 1),
            Fault::ChangedOnReturn => missed.iter_mut().take(1).for_each(|(_, record)| change(record)),
            _ => {}
        }
        for (key, record) in missed {
            state.push_once(user, &key, record);
        }
        if self.fault != Fault::EarlySync {
            state.write(user, 0, Answer::SyncDone(v1::SyncDone::default()));
        }
    }

    fn create(&self, state: &mut State, from: &str, id: u64, create: v1::GroupCreate) {
        if self.fault == Fault::NoGroups {
            return state.refuse(from, id);
        }
        let cmid = ClientMessageId::from_bytes(&create.client_message_id).unwrap();
        let group = ConversationId::group("default", from, "flood", &cmid).0;
        let key = state.logs.create(&group, from, create.members);
        let change = v1::Record { from: from.to_owned(), change: Some(v1::Change::default()), ..v1::Record::default() };
        let record = state.logs.append(&key, change);
        let answer = v1::Group { group: Bytes::copy_from_slice(&group), name: create.name, ..v1::Group::default() };
        state.write(from, id, Answer::Group(answer));
        for member in state.logs.receivers(&key, from) {
            if self.fault != Fault::SilentGroups {
                let record = state.logs.as_seen_by(&member, &key, &record);
                state.push_once(&member, &key, record);
            }
        }
    }

    fn send(&self, state: &mut State, from: &str, id: u64, send: v1::Send) {
        let (Some(to), Some(send::Body::Text(text))) = (send.to.unwrap().peer, send.body) else {
            panic!("a load tool sends texts");
        };
        let key = state.logs.key(from, &to);
        if let Some(sent) = state.logs.sent(&key, &send.client_message_id) {
            return state.write(from, id, Answer::Sent(sent));
        }
        state.sends += 1;
        let fault = if state.sends.is_multiple_of(10) { self.fault } else { Fault::None };
        match fault {
            Fault::Ignored => return,
            Fault::Refused => return state.refuse(from, id),
            _ => {}
        }
        let body = Some(record::Body::Text(text));
        let record = v1::Record { from: from.to_owned(), body, ..v1::Record::default() };
        let first = state.logs.append(&key, record.clone());
        let last = if fault == Fault::StoredTwice { state.logs.append(&key, record) } else { first.clone() };
        let told = if fault == Fault::WrongPosition { last.seq + 1_000 } else { last.seq };
        let sent = v1::Sent { seq: told, id: last.id, ..v1::Sent::default() };
        state.logs.remember(&key, send.client_message_id, sent);
        state.write(from, id, Answer::Sent(sent));
        let mut receivers = state.logs.receivers(&key, from);
        if let Some(at) = receivers.iter().rposition(|receiver| state.sessions.contains_key(receiver)) {
            let victim = receivers.swap_remove(at);
            state.push(&victim, &key, first, last.clone(), fault);
        }
        for receiver in receivers {
            state.push(&receiver, &key, last.clone(), last.clone(), Fault::None);
        }
    }
}

impl State {
    /// `first` and `last` differ where a message is stored twice.
    fn push(&mut self, to: &str, key: &str, first: v1::Record, last: v1::Record, fault: Fault) {
        let mut record = self.logs.as_seen_by(to, key, &last);
        match fault {
            Fault::Lost => return self.logs.delivered(to, key, last.seq),
            Fault::Swapped => return self.held = Some((to.to_owned(), key.to_owned(), record)),
            Fault::PushedTwice => self.push_once(to, key, record.clone()),
            Fault::StoredTwice => self.push_once(to, key, self.logs.as_seen_by(to, key, &first)),
            Fault::Changed => change(&mut record),
            Fault::Misplaced => record.conversation = Some(v1::Peer { peer: Some(Peer::User("nobody".to_owned())) }),
            Fault::Forged => record.from = "nobody".to_owned(),
            Fault::Leaked => {
                let members = self.logs.members(key);
                if let Some(stranger) = self.sessions.keys().find(|user| !members.contains(user)).cloned() {
                    self.push_once(&stranger, key, record.clone());
                }
            }
            Fault::Misnumbered => self.sessions.get_mut(to).into_iter().for_each(|session| session.pushes += 1),
            _ => {}
        }
        self.push_once(to, key, record);
        if let Some((held_for, held_key, held)) = self.held.take_if(|(held_for, ..)| held_for == to) {
            self.push_once(&held_for, &held_key, held);
        }
    }

    fn push_once(&mut self, to: &str, key: &str, record: v1::Record) {
        let Some(session) = self.sessions.get_mut(to) else { return };
        session.pushes += 1;
        session.outstanding.push_back((session.pushes, key.to_owned(), record.seq));
        let push = v1::Push { n: session.pushes, item: Some(Item::Record(record)) };
        self.write(to, 0, Answer::Push(push));
    }

    fn acknowledged(&mut self, user: &str, push: u64) {
        let Some(session) = self.sessions.get_mut(user) else { return };
        while let Some((_, key, seq)) = session.outstanding.pop_front_if(|(n, ..)| *n <= push) {
            self.logs.delivered(user, &key, seq);
        }
    }

    fn refuse(&mut self, user: &str, id: u64) {
        let error = v1::Error { code: v1::code::Value::Forbidden.into(), ..v1::Error::default() };
        self.write(user, id, Answer::Error(error));
    }

    fn write(&mut self, user: &str, re: u64, answer: Answer) {
        let Some(session) = self.sessions.get_mut(user) else { return };
        let (mut payload, mut out) = (Vec::new(), Vec::new());
        encode_server(Encoding::Protobuf, &v1::ServerFrame { re, answer: Some(answer) }, &mut payload);
        encode::message(&mut out, Opcode::Binary, &payload);
        // A load tool that has gone needs no answer.
        let _ = session.stream.write_all(&out);
    }

    fn close(&mut self, user: &str, code: u16) {
        let Some(session) = self.sessions.get_mut(user) else { return };
        let mut out = Vec::new();
        encode::close(&mut out, code, "");
        let _ = session.stream.write_all(&out);
    }
}

fn change(record: &mut v1::Record) {
    if let Some(record::Body::Text(text)) = &mut record.body {
        *text = format!("{}!", &text[..text.len() - 1]);
    }
}

/// Answers the upgrade; the user is whom the development token names.
fn upgrade(stream: &mut TcpStream) -> Option<String> {
    let (mut reader, mut buffer) = (HeadReader::default(), [0; 8 << 10]);
    let head = loop {
        let count = stream.read(&mut buffer).ok().filter(|&count| count > 0)?;
        if let Some(head) = reader.read(&mut &buffer[..count]).ok()? {
            break head;
        }
    };
    let upgrade = upgrade::decide(&head, &[]).ok()?;
    let token = head.values("authorization").next()?.strip_prefix("Bearer ")?.to_owned();
    let now_ms = std::time::UNIX_EPOCH.elapsed().ok()?.as_millis() as u64;
    let identity = Verifier::new(KeySet::default().with_dev(), dev::AUDIENCE).verify(&token, now_ms).ok()?;
    let mut out = Vec::new();
    upgrade.write_response(&mut out);
    stream.write_all(&out).ok()?;
    Some(identity.user.user().to_owned())
}
