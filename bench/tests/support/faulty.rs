//! A gateway that breaks the delivery contract on purpose, small enough to be seen through: a thread per connection, logs
//! in memory.

use bytes::Bytes;
use ringpost_gateway::auth::{KeySet, Verifier, dev};
use ringpost_gateway::transport::http::{HeadReader, upgrade};
use ringpost_gateway::transport::websocket::{Decoder, Event, Opcode, Role, encode};
use ringpost_proto::v1::{self, client_frame::Request, peer, push::Item, record, send, server_frame::Answer};
use ringpost_proto::wire::{Encoding, decode_client, encode_server};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

/// What happens to every tenth message.
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
    /// SENT names a position that is not its own.
    WrongPosition,
    /// Neither stored nor answered.
    Ignored,
    /// Refused for good.
    Refused,
}

struct Session {
    stream: TcpStream,
    pushes: u64,
}

#[derive(Default)]
struct State {
    sessions: HashMap<String, Session>,
    heads: HashMap<[String; 2], u64>,
    sends: u64,
    /// Pushed before the next one's.
    held: Option<(String, v1::Record)>,
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
            Some(Request::Hello(_)) => {
                let session = Session { stream: stream.try_clone().unwrap(), pushes: 0 };
                state.sessions.insert(user.to_owned(), session);
                let welcome = v1::Welcome { user: user.to_owned(), heartbeat_ms: 30_000, ..v1::Welcome::default() };
                state.write(user, frame.id, Answer::Welcome(welcome));
            }
            Some(Request::Ping(_)) => state.write(user, frame.id, Answer::Pong(v1::Pong::default())),
            Some(Request::Send(send)) => self.send(&mut state, user, frame.id, send),
            _ => {}
        }
    }

    fn send(&self, state: &mut State, from: &str, id: u64, send: v1::Send) {
        let (Some(peer::Peer::User(to)), Some(send::Body::Text(text))) = (send.to.unwrap().peer, send.body) else {
            panic!("a load tool sends texts to users");
        };
        state.sends += 1;
        let fault = if state.sends.is_multiple_of(10) { self.fault } else { Fault::None };
        match fault {
            Fault::Ignored => return,
            Fault::Refused => {
                let error = v1::Error { code: v1::code::Value::Forbidden.into(), ..v1::Error::default() };
                return state.write(from, id, Answer::Error(error));
            }
            _ => {}
        }
        let mut pair = [from.to_owned(), to.clone()];
        pair.sort();
        let head = state.heads.entry(pair).or_default();
        *head += if fault == Fault::StoredTwice { 2 } else { 1 };
        let seq = *head;
        let told = if fault == Fault::WrongPosition { seq + 1_000 } else { seq };
        state.write(from, id, Answer::Sent(v1::Sent { seq: told, id: seq, ..v1::Sent::default() }));
        let record = v1::Record {
            conversation: Some(v1::Peer { peer: Some(peer::Peer::User(from.to_owned())) }),
            seq,
            id: seq,
            from: from.to_owned(),
            body: Some(record::Body::Text(text)),
            ..v1::Record::default()
        };
        state.push(&to, record, fault);
    }
}

impl State {
    fn push(&mut self, to: &str, record: v1::Record, fault: Fault) {
        match fault {
            Fault::Lost => return,
            Fault::Swapped => return self.held = Some((to.to_owned(), record)),
            Fault::PushedTwice => self.push_once(to, record.clone()),
            Fault::StoredTwice => self.push_once(to, v1::Record { seq: record.seq - 1, ..record.clone() }),
            _ => {}
        }
        let changed = v1::Record { body: record.body.clone().map(with_another_ending), ..record.clone() };
        self.push_once(to, if fault == Fault::Changed { changed } else { record });
        if self.held.as_ref().is_some_and(|(held_for, _)| held_for == to)
            && let Some((to, held)) = self.held.take()
        {
            self.push_once(&to, held);
        }
    }

    fn push_once(&mut self, to: &str, record: v1::Record) {
        let Some(session) = self.sessions.get_mut(to) else { return };
        session.pushes += 1;
        let push = v1::Push { n: session.pushes, item: Some(Item::Record(record)) };
        self.write(to, 0, Answer::Push(push));
    }

    fn write(&mut self, user: &str, re: u64, answer: Answer) {
        let Some(session) = self.sessions.get_mut(user) else { return };
        let (mut payload, mut out) = (Vec::new(), Vec::new());
        encode_server(Encoding::Protobuf, &v1::ServerFrame { re, answer: Some(answer) }, &mut payload);
        encode::message(&mut out, Opcode::Binary, &payload);
        // A load tool that has gone needs no answer.
        let _ = session.stream.write_all(&out);
    }
}

fn with_another_ending(body: record::Body) -> record::Body {
    match body {
        record::Body::Text(text) => record::Body::Text(format!("{}!", &text[..text.len() - 1])),
        other => other,
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
