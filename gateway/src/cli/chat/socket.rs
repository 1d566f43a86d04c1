//! A WebSocket connection on a blocking socket: a thread that reads, and a writer for everybody else.
//!
//! Guarantees: the thread tells exactly one end of its connection, and ends with it. The channel is bounded: who does not
//! read it stops the server, not memory.

use super::Input;
use crate::transport::http::opening::{self, Answer, Refused};
use crate::transport::websocket::{Decoder, Event, Opcode, Role, encode};
use bytes::Bytes;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// For each step of getting a connection, and for a write that the server does not take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the longest message that a server may send: a page of 100 long records is under it.
const MOST_BYTES: u32 = 16 << 20;

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host and port, as in the Host header.
    pub authority: String,
    pub path: String,
}

impl Target {
    /// # Errors
    /// What is wrong with the URL.
    pub fn parse(url: &str) -> Result<Self, String> {
        let Some(rest) = url.strip_prefix("ws://") else {
            let why =
                if url.starts_with("wss://") { "TLS is not spoken yet, use ws:// and a proxy" } else { "not ws://" };
            return Err(format!("--url {url:?}: {why}"));
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
        let authority = if port.parse::<u16>().is_ok() { authority.to_owned() } else { format!("{authority}:80") };
        let path = if path.len() < 2 { "/v1/connect" } else { path };
        if authority.starts_with(':') || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("--url {url:?}: no host and port"));
        }
        Ok(Self { authority, path: path.to_owned() })
    }
}

/// What the thread of a connection tells.
#[derive(Debug)]
pub enum Told {
    /// The upgrade was accepted; frames may be written.
    Opened(Writer),
    Message(Bytes),
    Ping(Bytes),
    Pong,
    /// The end: the server answered the upgrade with something else,
    Refused(Refused),
    /// there is no connection,
    Unreachable(String),
    /// or it ended.
    Closed {
        code: Option<u16>,
        reason: String,
    },
}

/// Writes frames; dropping it does not close the connection.
#[derive(Debug)]
pub struct Writer(TcpStream);

impl Writer {
    /// Whatever cannot be written shows as the end of the connection.
    pub fn frame(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut bytes = Vec::new();
        encode::masked(&mut bytes, opcode, payload, mask());
        if self.0.write_all(&bytes).is_err() {
            self.close();
        }
    }

    pub fn close(&mut self) {
        // An end that was there before is as good.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Unpredictable, so that nobody can make this client write chosen bytes (RFC 6455 section 10.3).
fn mask() -> [u8; 4] {
    getrandom::u32().unwrap_or_default().to_ne_bytes()
}

/// Connects on a thread of its own. `epoch` goes with everything it tells.
pub fn connect(target: Target, token: String, epoch: u64, tell: SyncSender<Input>) {
    std::thread::spawn(move || {
        let told = |it| drop(tell.send(Input::Socket(epoch, it)));
        match open(&target, &token) {
            Ok((stream, rest)) => match stream.try_clone() {
                Ok(writer) => {
                    told(Told::Opened(Writer(writer)));
                    told(read(stream, rest, &told));
                }
                Err(error) => told(Told::Unreachable(error.to_string())),
            },
            Err(end) => told(end),
        }
    });
}

/// The upgraded connection, and the bytes that came right after the upgrade.
fn open(target: &Target, token: &str) -> Result<(TcpStream, Vec<u8>), Told> {
    let unreachable = |error: std::io::Error| Told::Unreachable(format!("{}: {error}", target.authority));
    let mut stream = tcp(&target.authority).map_err(unreachable)?;
    let prepare = |stream: &TcpStream| {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))
    };
    prepare(&stream).map_err(unreachable)?;
    let mut request = Vec::new();
    opening::request(&mut request, &target.authority, &target.path, Some("ringpost.v1"), Some(token));
    stream.write_all(&request).map_err(unreachable)?;
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).map_err(unreachable)?;
        head.extend_from_slice(buffer.get(..read).unwrap_or_default());
        match opening::answer(&head) {
            Answer::Switched { head: end } => {
                stream.set_read_timeout(None).map_err(unreachable)?;
                return Ok((stream, head.split_off(end)));
            }
            Answer::Refused(refused) => return Err(Told::Refused(refused)),
            Answer::More if read == 0 => {
                return Err(Told::Unreachable(format!("{}: closed without an answer", target.authority)));
            }
            Answer::More => {}
        }
    }
}

/// The first address that answers.
fn tcp(authority: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("no address");
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Tells every frame until the connection ends, and gives its end.
fn read(mut stream: TcpStream, mut bytes: Vec<u8>, told: &impl Fn(Told)) -> Told {
    let ended = |code, reason: &str| Told::Closed { code, reason: reason.to_owned() };
    let mut decoder = Decoder::new(Role::Client, MOST_BYTES);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut chunk = bytes.as_mut_slice();
        loop {
            match decoder.next(&mut chunk) {
                Ok(Some(Event::Message { payload, .. })) => told(Told::Message(payload)),
                Ok(Some(Event::Ping(payload))) => told(Told::Ping(payload)),
                Ok(Some(Event::Pong(_))) => told(Told::Pong),
                Ok(Some(Event::Close { code, reason })) => return ended(code, &String::from_utf8_lossy(&reason)),
                Ok(None) => break,
                Err(violation) => return ended(None, violation.reason()),
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => return ended(None, "the connection broke"),
            Ok(read) => bytes = buffer.get(..read).unwrap_or_default().to_vec(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => bytes = Vec::new(),
            Err(error) => return ended(None, &error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_a_port_and_maybe_a_path() {
        let target = |url| Target::parse(url).map(|target| (target.authority, target.path));
        let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(target("ws://127.0.0.1:7600"), pair("127.0.0.1:7600", "/v1/connect"));
        assert_eq!(target("ws://[::1]:7600/"), pair("[::1]:7600", "/v1/connect"));
        assert_eq!(target("ws://chat.example/other"), pair("chat.example:80", "/other"));
        assert!(target("wss://chat.example").unwrap_err().contains("TLS"));
        assert!(target("http://chat.example").unwrap_err().contains("not ws://"));
        assert!(target("ws://:7600").is_err() && target("ws://a b:1").is_err());
    }
}
