//! A WebSocket client in JSON and an HTTP client, both on a blocking socket.

use super::{Server, authorization, token, upgrade_request};
use ringpost_gateway::transport::websocket::{Decoder, Event, Kind, Opcode, Role, encode};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;

/// The masking key of all frames: any other than zero, so that a server that forgets to unmask is seen.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An upgraded connection.
pub struct Client {
    pub stream: TcpStream,
    decoder: Decoder,
    events: VecDeque<Event>,
    /// Frames that came while an answer was awaited.
    pub unasked: VecDeque<Value>,
    next_id: u64,
}

impl Client {
    /// Takes over a connection whose 101 was read; `rest` came after it.
    pub fn new(stream: TcpStream, rest: &[u8]) -> Self {
        let mut client = Self {
            stream,
            decoder: Decoder::new(Role::Client, 64 << 20),
            events: VecDeque::new(),
            unasked: VecDeque::new(),
            next_id: 1,
        };
        client.decode(&mut rest.to_vec());
        client
    }

    /// Upgrades; panics if the server does not.
    pub fn upgrade(server: &Server, target: &str, headers: &str) -> Self {
        let mut http = HttpClient::new(server.tcp());
        http.send(upgrade_request(target, headers).as_bytes());
        http.upgraded()
    }

    /// Upgraded with a token in the header; hello is still to be said.
    pub fn authorized(server: &Server, user: &str, device: &str) -> Self {
        Self::upgrade(server, "/v1/connect", &authorization(&token(user, device)))
    }

    /// A session that was welcomed.
    pub fn open(server: &Server, user: &str, device: &str) -> Self {
        let mut client = Self::authorized(server, user, device);
        let welcome = client.request(json!({"hello": {"client": "test/1"}}));
        assert_eq!(welcome["welcome"]["user"], user, "{welcome}");
        client
    }

    /// One frame with this payload.
    pub fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode::masked(&mut out, opcode, payload, KEY);
        out
    }

    pub fn json_frame(frame: &Value) -> Vec<u8> {
        Self::frame(Opcode::Text, frame.to_string().as_bytes())
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("write");
    }

    pub fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        self.write(&Self::frame(opcode, payload));
    }

    pub fn send_json(&mut self, frame: &Value) {
        self.write(&Self::json_frame(frame));
    }

    /// The next event; `None` when the server has closed the socket.
    pub fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let mut buffer = [0; 16 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(read) => self.decode(buffer.get_mut(..read).expect("read bytes")),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// The next message; panics on anything else.
    pub fn message(&mut self) -> (Kind, Vec<u8>) {
        match self.event() {
            Some(Event::Message { kind, payload }) => (kind, payload.to_vec()),
            other => panic!("no message but {other:?}"),
        }
    }

    /// The next frame. Pings of the server are answered.
    pub fn json(&mut self) -> Value {
        loop {
            match self.event() {
                Some(Event::Message { kind: Kind::Text, payload }) => {
                    return serde_json::from_slice(&payload).expect("JSON");
                }
                Some(Event::Ping(payload)) => self.send(Opcode::Pong, &payload),
                other => panic!("no frame but {other:?}"),
            }
        }
    }

    /// Sends a request and gives its answer; what else comes meanwhile is kept in `unasked`.
    pub fn request(&mut self, mut frame: Value) -> Value {
        let id = self.next_id.to_string();
        self.next_id += 1;
        frame["id"] = json!(id);
        self.send_json(&frame);
        self.answer(&id)
    }

    pub fn answer(&mut self, id: &str) -> Value {
        loop {
            let frame = self.json();
            if frame["re"] == id {
                return frame;
            }
            self.unasked.push_back(frame);
        }
    }

    /// The next unasked frame with this member, kept or new; others are dropped.
    pub fn unasked(&mut self, member: &str) -> Value {
        loop {
            let frame = match self.unasked.pop_front() {
                Some(frame) => frame,
                None => self.json(),
            };
            if let Some(found) = frame.get(member) {
                return found.clone();
            }
        }
    }

    /// Reads until the server closes: the code and the reason. Fails if it goes without a close frame, or says anything
    /// after it.
    pub fn closed(&mut self) -> (u16, String) {
        loop {
            match self.event() {
                Some(Event::Close { code, reason }) => {
                    assert_eq!(self.event(), None, "something after the close frame");
                    let reason = String::from_utf8(reason.to_vec()).expect("text");
                    return (code.expect("a close code"), reason);
                }
                Some(_) => {}
                None => panic!("closed without a close frame"),
            }
        }
    }

    /// Closes from this side and waits for the server's answer and the end of the connection.
    pub fn close(mut self) {
        self.send(Opcode::Close, &1000u16.to_be_bytes());
        assert_eq!(self.closed().0, 1000);
    }

    fn decode(&mut self, bytes: &mut [u8]) {
        let mut chunk = bytes;
        while let Some(event) = self.decoder.next(&mut chunk).expect("frames that follow the protocol") {
            self.events.push_back(event);
        }
    }
}

/// A connection that speaks HTTP.
pub struct HttpClient {
    stream: TcpStream,
    received: Vec<u8>,
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// The head in lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl HttpClient {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, received: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("write");
    }

    /// The next response with a body of known length or none (1xx, 204, 304); use [`Self::response_to_head`] after HEAD.
    pub fn response(&mut self) -> Response {
        let mut response = self.response_to_head();
        if response.header("transfer-encoding") == Some("chunked") {
            response.body = self.chunked();
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().expect("a length");
            self.fill(length);
            response.body = self.received.drain(..length).collect();
        }
        response
    }

    /// The next response head, nothing of what follows it.
    pub fn response_to_head(&mut self) -> Response {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.read_more(), "the connection ended within a response head");
        };
        let original = String::from_utf8(self.received.drain(..end).collect()).expect("text");
        let status = original.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        // Letter case is kept in values that matter: keys in base64.
        let head = original.lines().map(|line| match line.split_once(':') {
            Some((name, value)) => format!("{}:{value}\n", name.to_ascii_lowercase()),
            None => format!("{line}\n"),
        });
        Response { status, head: head.collect(), body: Vec::new() }
    }

    /// Reads the 101; panics on any other answer.
    pub fn upgraded(mut self) -> Client {
        let response = self.response();
        assert_eq!(response.status, 101, "{response:?}");
        Client::new(self.stream, &self.received)
    }

    /// After the 101 was read.
    pub fn switched(self) -> Client {
        Client::new(self.stream, &self.received)
    }

    /// Reads the 101, or the answer that came instead.
    pub fn try_upgraded(mut self) -> Result<Client, Response> {
        let response = self.response();
        if response.status == 101 { Ok(Client::new(self.stream, &self.received)) } else { Err(response) }
    }

    /// Whether the server closes the connection without another byte.
    pub fn ends(mut self) -> bool {
        self.received.is_empty() && !self.read_more()
    }

    fn chunked(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                if let Some(at) = self.received.windows(2).position(|window| window == b"\r\n") {
                    break at;
                }
                assert!(self.read_more(), "the connection ended within a body");
            };
            let line: Vec<u8> = self.received.drain(..line_end + 2).take(line_end).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&line).expect("text"), 16).expect("a size");
            self.fill(size + 2);
            body.extend(self.received.drain(..size + 2).take(size));
            if size == 0 {
                return body;
            }
        }
    }

    fn fill(&mut self, bytes: usize) {
        while self.received.len() < bytes {
            assert!(self.read_more(), "the connection ended within a body");
        }
    }

    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(read) => {
                self.received.extend_from_slice(buffer.get(..read).expect("read bytes"));
                read > 0
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}
