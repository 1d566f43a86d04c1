//! The sockets of the scripted server: one thread accepts, one reads each connection, the judge's thread writes.

use super::world::Input;
use crate::transport::http::upgrade::{Credential, decide};
use crate::transport::http::{HeadReader, response};
use crate::transport::websocket::{Decoder, Event, Kind, Opcode, Role, encode};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// For a request head, and for a write that a client does not take.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_BYTES: u32 = 1 << 20;

#[derive(Debug)]
pub enum Told {
    /// Frames for this connection are written there.
    Writer(u64, TcpStream),
    Input(Input),
    /// A ping of the client, answered here.
    Ping(u64, bytes::Bytes),
}

pub fn serve(listener: TcpListener, tell: SyncSender<Told>) {
    std::thread::spawn(move || {
        for (conn, stream) in listener.incoming().enumerate() {
            let (Ok(stream), tell) = (stream, tell.clone()) else { continue };
            std::thread::spawn(move || connection(conn as u64 + 1, stream, &tell));
        }
    });
}

fn connection(conn: u64, mut stream: TcpStream, tell: &SyncSender<Told>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let mut bytes = upgrade(conn, &mut stream, tell)?;
    stream.set_read_timeout(None).ok()?;
    let mut decoder = Decoder::new(Role::Server, MOST_BYTES);
    let mut buffer = vec![0; 16 << 10];
    loop {
        let mut chunk = bytes.as_mut_slice();
        let ended = loop {
            let told = match decoder.next(&mut chunk) {
                Ok(Some(Event::Message { kind, payload })) => Told::Input(Input::Message { conn, kind, payload }),
                Ok(Some(Event::Ping(payload))) => Told::Ping(conn, payload),
                Ok(Some(Event::Pong(payload))) => Told::Input(Input::Pong { payload }),
                Ok(None) => break false,
                Ok(Some(Event::Close { .. })) | Err(_) => break true,
            };
            tell.send(told).ok()?;
        };
        let read = if ended { 0 } else { stream.read(&mut buffer).unwrap_or(0) };
        if read == 0 {
            let _ = stream.shutdown(Shutdown::Both);
            return tell.send(Told::Input(Input::Closed { conn })).ok();
        }
        bytes = buffer.get(..read).unwrap_or_default().to_vec();
    }
}

/// Upgrades, and gives what came after the head; anything but an upgrade is refused.
fn upgrade(conn: u64, stream: &mut TcpStream, tell: &SyncSender<Told>) -> Option<Vec<u8>> {
    let mut reader = HeadReader::default();
    let mut buffer = [0; 4096];
    let (head, rest) = loop {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        let mut chunk = buffer.get(..read).unwrap_or_default();
        match reader.read(&mut chunk) {
            Ok(Some(head)) => break (Ok(head), chunk.to_vec()),
            Ok(None) => {}
            Err(refusal) => break (Err(refusal), Vec::new()),
        }
    };
    let mut out = Vec::new();
    let decided = head.and_then(|head| decide(&head, &[]));
    match &decided {
        Ok(upgrade) => upgrade.write_response(&mut out),
        Err(refusal) => response::refusal(&mut out, refusal, false),
    }
    let upgrade = match decided {
        Ok(upgrade) => upgrade,
        Err(_) => return stream.write_all(&out).ok().and(None),
    };
    let token = upgrade.credential.map(|credential| match credential {
        Credential::Header(token) | Credential::Subprotocol(token) | Credential::Ticket(token) => token.into(),
    });
    tell.send(Told::Writer(conn, stream.try_clone().ok()?)).ok()?;
    tell.send(Told::Input(Input::Opened { conn, encoding: upgrade.encoding, token })).ok()?;
    stream.write_all(&out).ok()?;
    Some(rest)
}

/// Writes one frame; what cannot be written shows as the end of the connection.
pub fn write(stream: &mut TcpStream, opcode: Opcode, payload: &[u8]) {
    let mut bytes = Vec::new();
    encode::message(&mut bytes, opcode, payload);
    if stream.write_all(&bytes).is_err() {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

pub fn close(stream: &mut TcpStream, code: u16, reason: &str) {
    let mut bytes = Vec::new();
    encode::close(&mut bytes, code, reason);
    // Gone already is as good. The reader ends when the client closes its side.
    let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
}

pub fn opcode(kind: Kind) -> Opcode {
    match kind {
        Kind::Text => Opcode::Text,
        Kind::Binary => Opcode::Binary,
    }
}
