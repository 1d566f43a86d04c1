//! Sessions on plain sockets that take little or nothing of what they are sent.
//!
//! Owns: one socket with a small receive buffer per session, and what it has been sent. Guarantees: after the handshake it reads
//! exactly as much as its [`Pace`] says, until it is drained; it never acknowledges; what it got is judged: pushes are numbered
//! without a gap, records of a conversation only rise, and a close says a code. Never does: sending a message.

use super::links::{Dialect, Target};
use ringpost_gateway::transport::http::opening;
use ringpost_gateway::transport::websocket::{Decoder, Event, Opcode, Role, encode};
use ringpost_proto::v1::{self, client_frame::Request, push::Item, server_frame::Answer};
use ringpost_proto::wire::{Encoding, decode_server, encode_client};
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// SO_RCVBUF: as little as a phone without reception takes. The kernel doubles it.
const RECEIVE_BUFFER: usize = 4_096;
/// For the handshake; then nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
const MOST_MESSAGE: u32 = 1 << 20;

/// How much is read after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Nothing.
    Stopped,
    /// A byte whenever [`Slow::byte`] is called.
    Trickle,
    /// Everything; it only never acknowledges.
    Mute,
}

/// What a session got, and whether that is in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Got {
    pub records: u64,
    /// Pushes whose number does not follow, or records that do not rise in their conversation.
    pub out_of_order: u64,
    /// Of the close frame, where one came.
    pub code: Option<u16>,
    /// The server's end of the connection is over.
    pub ended: bool,
}

/// What the next push must be.
#[derive(Debug, Default)]
struct Order {
    last_push: u64,
    /// By conversation.
    last_seq: HashMap<String, u64>,
}

impl Order {
    fn frame(&mut self, frame: v1::ServerFrame, got: &mut Got) {
        let Some(Answer::Push(push)) = frame.answer else { return };
        got.out_of_order += u64::from(push.n != self.last_push + 1);
        self.last_push = push.n;
        let Some(Item::Record(record)) = push.item else { return };
        got.records += 1;
        let conversation = record.conversation.map(|peer| format!("{:?}", peer.peer)).unwrap_or_default();
        let last = self.last_seq.entry(conversation).or_default();
        got.out_of_order += u64::from(record.seq <= *last);
        *last = record.seq;
    }
}

/// One such session.
pub struct Slow {
    stream: TcpStream,
    pace: Pace,
    decoder: Decoder,
    got: Got,
    order: Order,
    /// The window that welcome named: bytes, pushes.
    window: (u64, u64),
}

impl Slow {
    /// Connects as the user that the token is for, says hello, and reads up to welcome. Blocks.
    pub fn open(target: &Target<'_>, token: &str, pace: Pace) -> io::Result<Self> {
        let family = if target.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
        sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
        rustix::net::connect(&socket, &target.address)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        let decoder = Decoder::new(Role::Client, MOST_MESSAGE);
        let mut slow = Self { stream, pace, decoder, got: Got::default(), order: Order::default(), window: (0, 0) };
        slow.shake_hands(target, token)?;
        slow.stream.set_nonblocking(true)?;
        Ok(slow)
    }

    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Bytes and pushes that welcome allows to be without an ack.
    pub fn window(&self) -> (u64, u64) {
        self.window
    }

    fn shake_hands(&mut self, target: &Target<'_>, token: &str) -> io::Result<()> {
        let Dialect::WebSocket { path, subprotocol, .. } = &target.dialect else {
            return Err(io::Error::other("sessions need WebSocket"));
        };
        let mut out = Vec::new();
        opening::request(&mut out, &target.host, &path.of(target.worker, 0), *subprotocol, Some(token));
        self.stream.write_all(&out)?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        // Byte by byte, so that nothing behind the head is taken.
        loop {
            self.stream.read_exact(&mut byte)?;
            head.extend_from_slice(&byte);
            match opening::answer(&head) {
                opening::Answer::More => {}
                opening::Answer::Switched { .. } => break,
                opening::Answer::Refused(why) => return Err(io::Error::other(why.line)),
            }
        }
        let hello = v1::ClientFrame { id: 1, request: Some(Request::Hello(v1::Hello::default())) };
        let (mut payload, mut out) = (Vec::new(), Vec::new());
        encode_client(Encoding::Protobuf, &hello, &mut payload);
        encode::masked(&mut out, Opcode::Binary, &payload, [1, 2, 3, 4]);
        self.stream.write_all(&out)?;
        while self.window == (0, 0) && !self.got.ended {
            self.stream.read_exact(&mut byte)?;
            self.take(&mut byte);
        }
        match self.window {
            (0, 0) => Err(io::Error::other("closed before welcome")),
            _ => Ok(()),
        }
    }

    /// Reads one byte, if there is one.
    pub fn byte(&mut self) {
        self.read(1);
    }

    /// Reads all that is there now. Whether there was something.
    pub fn all(&mut self) -> bool {
        self.read(usize::MAX)
    }

    fn read(&mut self, mut most: usize) -> bool {
        let (mut buffer, mut any) = ([0; 16 << 10], false);
        while most > 0 && !self.got.ended {
            let length = buffer.len().min(most);
            let Some(part) = buffer.get_mut(..length) else { return any };
            match self.stream.read(part) {
                Ok(0) => self.got.ended = true,
                Ok(count) => {
                    any = true;
                    most -= count;
                    if let Some(chunk) = buffer.get_mut(..count) {
                        self.take(chunk);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return any,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.got.ended = true,
            }
        }
        any
    }

    fn take(&mut self, mut chunk: &mut [u8]) {
        while let Ok(Some(event)) = self.decoder.next(&mut chunk) {
            match event {
                Event::Message { payload, .. } => match decode_server(Encoding::Protobuf, payload) {
                    Ok(v1::ServerFrame { answer: Some(Answer::Welcome(welcome)), .. }) => {
                        let window = welcome.window.unwrap_or_default();
                        self.window = (u64::from(window.bytes), u64::from(window.pushes));
                    }
                    Ok(frame) => self.order.frame(frame, &mut self.got),
                    Err(_) => self.got.out_of_order += 1,
                },
                Event::Close { code, .. } => (self.got.code, self.got.ended) = (Some(code.unwrap_or(1005)), true),
                Event::Ping(_) | Event::Pong(_) => {}
            }
        }
    }

    /// What it got.
    pub fn into_got(self) -> Got {
        self.got
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(n: u64, from: &str, seq: u64) -> v1::ServerFrame {
        let peer = v1::Peer { peer: Some(v1::peer::Peer::User(from.to_owned())) };
        let record = v1::Record { conversation: Some(peer), seq, ..v1::Record::default() };
        v1::ServerFrame { re: 0, answer: Some(Answer::Push(v1::Push { n, item: Some(Item::Record(record)) })) }
    }

    #[test]
    fn gaps_between_pushes_and_records_that_do_not_rise_are_out_of_order() {
        let (mut order, mut got) = (Order::default(), Got::default());
        for (n, from, seq) in [(1, "a", 1), (2, "b", 7), (3, "a", 2)] {
            order.frame(push(n, from, seq), &mut got);
        }
        assert_eq!((got.records, got.out_of_order), (3, 0));
        order.frame(push(5, "a", 3), &mut got);
        assert_eq!(got.out_of_order, 1);
        order.frame(push(6, "b", 7), &mut got);
        assert_eq!((got.records, got.out_of_order), (5, 2));
    }
}
