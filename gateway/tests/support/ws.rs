//! A blocking WebSocket client that speaks the wire in JSON.

#![allow(dead_code)] // each test binary uses its part

use super::PATIENCE;
use ringpost_gateway::transport::websocket::{Decoder, Event, Opcode, Role, encode};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

pub struct Client {
    stream: TcpStream,
    decoder: Decoder,
    events: VecDeque<Event>,
}

impl Client {
    /// Upgrades; `Err`: the status and what came with it.
    pub fn connect(to: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Result<Self, (u16, String)> {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = format!(
            "GET {target} HTTP/1.1\r\nhost: {to}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed within the head: {head:?}");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        match status {
            101 => Ok(Self { stream, decoder: Decoder::new(Role::Client, 1 << 20), events: VecDeque::new() }),
            _ => Err((status, head)),
        }
    }

    /// On a socket whose upgrade was answered.
    pub fn upgraded(stream: TcpStream) -> Self {
        Self { stream, decoder: Decoder::new(Role::Client, 1 << 20), events: VecDeque::new() }
    }

    /// Bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// With a token in the Authorization header, welcomed.
    pub fn open(to: SocketAddr, token: &str) -> Self {
        let bearer = format!("Bearer {token}");
        let mut client = Self::connect(to, "/v1/connect", &[("authorization", &bearer)]).unwrap();
        client.send(&json!({"id": "1", "hello": {}}));
        let welcome = client.frame();
        assert!(welcome["welcome"].is_object(), "{welcome}");
        client
    }

    pub fn send(&mut self, frame: &Value) {
        let mut bytes = Vec::new();
        encode::masked(&mut bytes, Opcode::Text, frame.to_string().as_bytes(), [7, 1, 9, 3]);
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next frame; a close fails the test.
    pub fn frame(&mut self) -> Value {
        match self.next() {
            Some(Event::Message { payload, .. }) => serde_json::from_slice(&payload).unwrap(),
            other => panic!("a frame was expected, not {other:?}"),
        }
    }

    /// The next frame that answers `re`; those before it are dropped.
    pub fn answer(&mut self, re: &str) -> Value {
        loop {
            let frame = self.frame();
            if frame["re"] == re {
                return frame;
            }
        }
    }

    /// The next frame with this field; those before it are dropped.
    pub fn frame_with(&mut self, field: &str) -> Value {
        loop {
            let frame = self.frame();
            if !frame[field].is_null() {
                return frame;
            }
        }
    }

    /// Reads to the end: the frames before the close, and its code.
    pub fn closed(&mut self) -> (Vec<Value>, u16) {
        let mut frames = Vec::new();
        loop {
            match self.next() {
                Some(Event::Message { payload, .. }) => frames.push(serde_json::from_slice(&payload).unwrap()),
                Some(Event::Close { code, .. }) => return (frames, code.unwrap_or(1005)),
                Some(_) => {}
                None => panic!("the connection ended without a close frame, after {frames:?}"),
            }
        }
    }

    /// A round trip: the session is open and answers.
    pub fn assert_alive(&mut self) {
        self.send(&json!({"id": "4711", "ping": {}}));
        assert!(self.answer("4711")["pong"].is_object());
    }

    fn next(&mut self) -> Option<Event> {
        let mut buffer = [0; 16 << 10];
        while self.events.is_empty() {
            let got = self.stream.read(&mut buffer).unwrap();
            if got == 0 {
                return None;
            }
            let mut chunk = &mut buffer[..got];
            while let Some(event) = self.decoder.next(&mut chunk).unwrap() {
                self.events.push_back(event);
            }
        }
        self.events.pop_front()
    }
}
