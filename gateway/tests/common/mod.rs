//! What the socket tests share: a server in a process of its own, and clients on raw sockets, so that a test decides about
//! every byte and every cut.
#![allow(dead_code, unused_imports)] // each test file uses its part

mod client;
mod metrics;
mod probe;
#[path = "../support/mod.rs"]
mod support;

pub use client::{Client, HttpClient, Response};
pub use metrics::Metrics;
pub use probe::Probe;

use ringpost_gateway::auth::Minter;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// For anything that should happen at once, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// `ringpost serve --dev` on free ports with a new data directory; stopped and removed when dropped.
pub struct Server {
    gateway: support::Gateway,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
}

impl Server {
    /// With more arguments, like `["--shards", "1"]`.
    pub fn start(args: &[&str]) -> Self {
        let gateway = support::Gateway::start(args);
        Self { listen: gateway.listen, admin: gateway.admin, gateway }
    }

    /// The address for proxies, where `--listen-proxied` asked for one.
    pub fn proxied(&self) -> SocketAddr {
        let found = self.gateway.ready.split(' ').find_map(|word| word.strip_prefix("proxied="));
        found.expect("proxied= in the ready line").parse().expect("an address")
    }

    pub fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.listen).expect("the server accepts");
        stream.set_nodelay(true).expect("set_nodelay");
        stream.set_read_timeout(Some(PATIENCE)).expect("set_read_timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("set_write_timeout");
        stream
    }

    /// Sends bytes on a connection of their own and gives all that comes back until the server closes.
    pub fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.tcp();
        stream.write_all(bytes).expect("write");
        let mut answer = Vec::new();
        // A reset after the answer is the server's right: it did not read everything.
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    /// The answer to one request, whose connection may stay open.
    pub fn request(&self, bytes: &[u8]) -> Response {
        let mut http = HttpClient::new(self.tcp());
        http.send(bytes);
        http.response()
    }

    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(self.admin)
    }

    /// Bytes of the process in memory.
    pub fn rss(&self) -> usize {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.gateway.pid().as_raw_nonzero())).expect("/proc");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
    }
}

/// A development token that is good for an hour.
pub fn token(user: &str, device: &str) -> String {
    token_for(user, device, 3_600)
}

/// A development token that expires in so many seconds, or expired that long ago.
pub fn token_for(user: &str, device: &str, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now_ms = now.as_millis() as u64;
    let issued_ms = if seconds < 0 { now_ms.saturating_add_signed(2_000 * seconds) } else { now_ms };
    Minter::dev().mint_at(user, device, now.as_secs().saturating_add_signed(seconds), issued_ms).expect("a token")
}

/// A token that looks right and whose signature is wrong.
pub fn forged_token(user: &str, device: &str) -> String {
    let mut token = token(user, device);
    let last = token.pop();
    let before = token.pop();
    token.push(if before == Some('A') { 'B' } else { 'A' });
    token.extend(last);
    token
}

/// An upgrade request for `target` with more header lines, each ended by CR LF.
pub fn upgrade_request(target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
}

pub fn authorization(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Waits until `done`; panics after [`PATIENCE`].
pub fn eventually(done: impl Fn() -> bool, otherwise: &str) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{otherwise}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
