//! Sessions, inward: frames of a client become inputs of the router that has its session.

use super::Shard;
use super::conn::State;
use crate::auth::AuthError;
use crate::mesh::{Errand, Greeting, Message};
use crate::ring::Handle;
use bytes::Bytes;
use ringpost_proto::close::CloseCode;
use ringpost_proto::id::ClientMessageId;
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::peer::Peer;
use ringpost_proto::wire::{self, Encoding};
use ringpost_router::{Input, Request, ShardId, home_of_user};
use std::sync::Arc;

impl Shard {
    /// One message of a client that may be a frame.
    pub(super) fn frame(&mut self, handle: Handle, payload: Bytes) {
        let Some(conn) = self.conns.get(handle) else { return };
        let encoding = conn.encoding;
        let frame = match wire::decode_client(encoding, payload) {
            Ok(frame) => frame,
            Err(error) => return self.close_session(handle, CloseCode::Protocol, error.reason()),
        };
        match conn.state {
            State::Hello(_) => match frame.request {
                Some(Wire::Hello(hello)) => self.hello(handle, frame.id, Box::new(hello)),
                _ => self.close_session(handle, CloseCode::Unauthenticated, "the first frame must be hello"),
            },
            State::Open { home } => self.request_of(handle, home, encoding, frame),
            _ => {}
        }
    }

    /// The first frame: who it is, and where that user's home is.
    fn hello(&mut self, handle: Handle, id: u64, hello: Box<v1::Hello>) {
        let Some(conn) = self.conns.get(handle) else { return };
        let State::Hello(known) = &mut conn.state else { return };
        let identity = match known.take() {
            Some(identity) => Ok(identity),
            None if hello.token.is_empty() => Err(AuthError::Invalid("no token")),
            None => self.setup.verifier.verify(&hello.token, self.unix_ms()).map(Arc::new),
        };
        let identity = match identity {
            Ok(identity) => identity,
            Err(error) => return self.close_unauthenticated(handle, error),
        };
        let home = home_of_user(&identity.user, self.mesh.shards());
        let greeting = Greeting { identity, hello, id };
        match home == self.id {
            true => self.open(handle, home, greeting),
            false => self.start_move(handle, home, Errand::Session(greeting)),
        }
    }

    /// Hands an authenticated connection to the router of its user.
    pub(super) fn open(&mut self, handle: Handle, home: ShardId, greeting: Greeting) {
        if self.draining {
            return self.close_session(handle, CloseCode::Draining, "this node is draining");
        }
        self.enter(handle, State::Open { home });
        self.start_heartbeat(handle);
        let conn = self.conn_ref(handle);
        let Greeting { identity, hello, id } = greeting;
        self.route(home, Input::Open { conn, id, identity, hello });
    }

    /// The connection of a session is ending.
    pub(super) fn session_closed(&mut self, handle: Handle, home: ShardId) {
        let conn = self.conn_ref(handle);
        self.route(home, Input::Closed { conn });
    }

    fn request_of(&mut self, handle: Handle, home: ShardId, encoding: Encoding, frame: v1::ClientFrame) {
        let (conn, id) = (self.conn_ref(handle), frame.id);
        let request = match frame.request {
            Some(Wire::Ack(ack)) => Request::Ack { push: ack.push, ranges: !ack.ranges.is_empty() },
            Some(Wire::Ping(_)) => Request::Ping,
            Some(Wire::Bye(_)) => Request::Bye,
            Some(Wire::Send(mut send)) => {
                if encoding == Encoding::Json && send.client_message_id.is_empty() {
                    send.client_message_id = made_id(self.unix_ms());
                }
                let to_group = matches!(send.to.as_ref().and_then(|to| to.peer.as_ref()), Some(Peer::Group(_)));
                self.timings.send(conn, id, to_group);
                Request::Send(Box::new(send))
            }
            Some(Wire::Lookup(lookup)) => Request::Lookup(Box::new(lookup)),
            Some(Wire::Read(read)) => Request::Read(Box::new(read)),
            Some(Wire::Fetch(fetch)) => Request::Fetch(Box::new(fetch)),
            Some(Wire::History(history)) => Request::History(Box::new(history)),
            Some(Wire::Conversations(page)) => Request::Conversations(Box::new(page)),
            Some(Wire::Renew(renew)) => return self.renew(conn, home, id, &renew.token),
            Some(Wire::Hello(_)) => Request::Unexpected { hello: true },
            Some(mut other) => {
                if encoding == Encoding::Json {
                    make_id(&mut other, self.unix_ms());
                }
                Request::More(Box::new(other))
            }
            None => Request::Unexpected { hello: false },
        };
        self.route(home, Input::Request { conn, id, request });
    }

    /// To the router that has the session: this shard's, or another's where the socket could not move.
    pub(super) fn route(&mut self, home: ShardId, input: Input) {
        match home == self.id {
            true => self.decide(input),
            false => self.mesh.send(home, Message::Input(Box::new(input))),
        }
    }
}

/// The same for the changes of a group.
fn make_id(request: &mut Wire, unix_ms: u64) {
    let id = match request {
        Wire::GroupCreate(create) => &mut create.client_message_id,
        Wire::GroupUpdate(update) => &mut update.client_message_id,
        Wire::GroupAdd(users) | Wire::GroupRemove(users) => &mut users.client_message_id,
        Wire::GroupLeave(leave) => &mut leave.client_message_id,
        Wire::GroupRole(role) => &mut role.client_message_id,
        _ => return,
    };
    if id.is_empty() {
        *id = made_id(unix_ms);
    }
}

/// For who typed a send by hand; a retry gets another one and is stored twice.
fn made_id(unix_ms: u64) -> Bytes {
    let mut random = [0; 16];
    // Without randomness the time alone tells them apart, nearly.
    let _ = getrandom::fill(&mut random);
    ClientMessageId::uuid_v7(unix_ms, u128::from_ne_bytes(random)).to_bytes()
}
