//! The listener for proxies that speak the PROXY protocol, over real sockets. 127.10.0.0/16 stands for trusted proxies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Client, HttpClient, PATIENCE, Response, Server, authorization, eventually, token, upgrade_request};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use std::io::Write;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};

const PROXY: &str = "127.10.0.1";
const STRANGER: &str = "127.51.100.7";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Five connections an address, and nothing exempt.
fn server(args: &[&str]) -> Server {
    let base = [
        "--listen-proxied=127.0.0.1:0",
        "--trusted-proxies=127.10.0.0/16",
        "--exempt-addresses=127.99.0.1",
        "--address-connections=5",
        "--address-upgrades-per-second=0",
        "--shards=2",
    ];
    Server::start(&[&base, args].concat())
}

fn tcp(to: SocketAddr, from: &str) -> TcpStream {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    connect(&fd, &to).unwrap();
    sockopt::set_tcp_nodelay(&fd, true).unwrap();
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family], &(body.len() as u16).to_be_bytes(), body].concat()
}

/// A header for a TCP connection of this client.
fn for_client(client: &str) -> Vec<u8> {
    with_tlvs(client, &[])
}

fn with_tlvs(client: &str, tlvs: &[u8]) -> Vec<u8> {
    match client.parse().unwrap() {
        IpAddr::V4(client) => header(0x21, 0x11, &[&client.octets()[..], &[10, 0, 0, 1, 1, 2, 3, 4], tlvs].concat()),
        IpAddr::V6(client) => header(0x21, 0x21, &[&client.octets()[..], &[7; 20], tlvs].concat()),
    }
}

fn request(user: &str, headers: &str) -> Vec<u8> {
    upgrade_request("/v1/connect", &(authorization(&token(user, "one")) + headers)).into_bytes()
}

/// Header and request in one write: the connection, or the answer that refused it.
fn upgrade(server: &Server, header: &[u8], user: &str, headers: &str) -> Result<Client, Response> {
    let mut http = HttpClient::new(tcp(server.proxied(), PROXY));
    http.send(&[header, &request(user, headers)].concat());
    http.try_upgraded()
}

fn refusals(server: &Server, reason: &str) -> f64 {
    server.metrics().sum("ringpost_refused_total", &format!("reason=\"{reason}\""))
}

/// Nothing is left of any connection, and all are accounted for.
fn settled(server: &Server) {
    eventually(|| server.metrics().open() == 0.0, "connections are left");
    let metrics = server.metrics();
    assert_eq!(metrics.sum("ringpost_addresses", ""), 0.0);
    metrics.check_conservation();
}

#[test]
fn the_address_in_the_header_is_the_one_that_is_limited() {
    let server = server(&[]);
    let open = |n: usize| upgrade(&server, &for_client("198.51.100.7"), &format!("user{n}"), "");
    let first: Vec<Client> = (0..5).map(|n| open(n).unwrap_or_else(|refused| panic!("{n}: {refused:?}"))).collect();
    let refused = open(5).err().expect("a refusal");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("10")));
    assert_eq!(server.metrics().sum("ringpost_addresses", ""), 1.0);
    // Others through the same proxy have their own, an IPv6 client its network.
    let other = upgrade(&server, &for_client("198.51.100.8"), "other", "").unwrap();
    let six = (0..5).map(|n| upgrade(&server, &for_client(&format!("2001:db8::{n}")), &format!("six{n}"), "").unwrap());
    let six: Vec<Client> = six.collect();
    assert!(upgrade(&server, &for_client("2001:db8::9"), "six9", "").is_err());
    assert!(upgrade(&server, &for_client("2001:db8:0:1::"), "six1", "").is_ok());
    drop((first, other, six));
    settled(&server);
}

#[test]
fn a_header_may_come_in_pieces_alone_or_together_with_the_request() {
    let server = server(&["--address-connections=0"]);
    let bytes = [with_tlvs("198.51.100.7", &[3, 0, 4, 1, 2, 3, 4]), HEALTH.to_vec()].concat();
    // Every cut into two, and then every byte by itself.
    let mut cuts: Vec<Vec<&[u8]>> = (1..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]).collect();
    cuts.push(vec![&bytes]);
    cuts.push(bytes.chunks(1).collect());
    for pieces in cuts {
        let mut stream = tcp(server.proxied(), PROXY);
        for piece in &pieces {
            stream.write_all(piece).unwrap();
        }
        assert_eq!(HttpClient::new(stream).response().status, 200, "{} pieces", pieces.len());
    }
    // Also where the server has seen half of it: the first half is answered by nothing, and counted as a head.
    let mut stream = tcp(server.proxied(), PROXY);
    stream.write_all(&bytes[..20]).unwrap();
    eventually(|| server.metrics().sum("ringpost_connections", "state=\"head\"") == 1.0, "not accepted");
    stream.write_all(&bytes[20..]).unwrap();
    let mut http = HttpClient::new(stream);
    assert_eq!(http.response().status, 200);
    // The header is one of the connection, not of the request.
    http.send(HEALTH);
    assert_eq!(http.response().status, 200);
    drop(http);
    settled(&server);
}

#[test]
fn what_follows_the_addresses_is_skipped_however_long_it_is() {
    let server = server(&[]);
    for tlvs in [vec![4; 1], vec![4; 5_000], vec![0; 65_535 - 12]] {
        let header = with_tlvs("198.51.100.7", &tlvs);
        assert!(upgrade(&server, &header, "alice", "").is_ok(), "{} bytes", tlvs.len());
    }
    let six = with_tlvs("2001:db8::7", &vec![9; 65_535 - 36]);
    assert!(upgrade(&server, &six, "alice", "").is_ok());
    settled(&server);
}

#[test]
fn a_proxy_that_names_no_client_speaks_for_itself() {
    let server = server(&[]);
    let local = [header(0x20, 0, b""), header(0x20, 0x11, &[1; 12]), header(0x20, 0, &[4; 300])];
    let unspecified = [header(0x21, 0, b""), header(0x21, 0, &[1; 40])];
    let unix = [header(0x21, 0x31, &[b'a'; 216]), header(0x21, 0x32, &[0; 216])];
    // More than an address may have: the checks of a balancer are not limited.
    let mut open = Vec::new();
    for header in local.iter().chain(&unspecified).chain(&unix) {
        let mut http = HttpClient::new(tcp(server.proxied(), PROXY));
        http.send(&[header, HEALTH].concat());
        assert_eq!(http.response().status, 200, "{header:x?}");
        open.push(http);
    }
    assert_eq!(server.metrics().sum("ringpost_addresses", ""), 0.0);
    // Its sessions are, by what it says of them at the upgrade, as on the other listener.
    let named = "X-Forwarded-For: 198.51.100.7\r\n";
    let sessions: Vec<_> =
        (0..5).map(|n| upgrade(&server, &local[0], &format!("user{n}"), named).expect("a session")).collect();
    assert!(upgrade(&server, &local[0], "user5", named).is_err());
    drop((open, sessions));
    settled(&server);
}

#[test]
fn behind_a_named_client_forwarded_addresses_count_only_if_it_is_a_proxy_too() {
    let server = server(&[]);
    let forwarded = |n: usize| format!("X-Forwarded-For: 203.0.113.{n}\r\n");
    // A client: what it writes counts for nothing.
    let client = for_client("198.51.100.7");
    let open: Vec<_> =
        (0..5).map(|n| upgrade(&server, &client, &format!("user{n}"), &forwarded(n)).expect("a session")).collect();
    assert!(upgrade(&server, &client, "user5", &forwarded(5)).is_err());
    // A second proxy behind the first: it says for whom.
    let proxy = for_client("127.10.0.9");
    let more: Vec<_> =
        (0..10).map(|n| upgrade(&server, &proxy, &format!("more{n}"), &forwarded(n)).expect("a session")).collect();
    assert_eq!(server.metrics().sum("ringpost_addresses", ""), 11.0);
    drop((open, more));
    settled(&server);
}

#[test]
fn who_is_no_trusted_proxy_is_closed_unheard() {
    let server = server(&[]);
    for n in 1..=10 {
        let mut http = HttpClient::new(tcp(server.proxied(), STRANGER));
        http.send(&[for_client("203.0.113.1"), HEALTH.to_vec()].concat());
        assert!(http.ends());
        assert_eq!(refusals(&server, "proxy_untrusted"), f64::from(n));
    }
    assert_eq!(server.metrics().sum("ringpost_closed_total", "reason=\"proxy\""), 10.0);
    // Nothing was used up: neither the stranger's nor that of whom it named.
    let victim = |n: usize| upgrade(&server, &for_client("203.0.113.1"), &format!("user{n}"), "");
    let open: Vec<_> = (0..5).map(|n| victim(n).expect("a session")).collect();
    let mut http = HttpClient::new(tcp(server.listen, STRANGER));
    http.send(HEALTH);
    assert_eq!(http.response().status, 200, "the other listener takes everybody");
    drop((open, http));
    settled(&server);
}

#[test]
fn anything_but_a_header_is_closed_at_its_first_wrong_byte() {
    let server = server(&["--heartbeat-ms=600000"]);
    let short = header(0x21, 0x11, &[1; 11]);
    let short_of_six = header(0x21, 0x21, &[1; 35]);
    let wrong: [&[u8]; 8] = [
        HEALTH,
        b"PROXY TCP4 198.51.100.7 10.0.0.1 1 2\r\nGET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n\r\n\0\r\nQUIX",
        &header(0x31, 0x11, &[1; 12]),
        &header(0x22, 0x11, &[1; 12]),
        &short,
        &short_of_six,
    ];
    for (n, bytes) in wrong.iter().enumerate() {
        let mut http = HttpClient::new(tcp(server.proxied(), PROXY));
        http.send(bytes);
        assert!(http.ends(), "{bytes:x?}");
        assert_eq!(refusals(&server, "proxy_header"), (n + 1) as f64);
    }
    // On the other listener the header is no HTTP.
    let mut http = HttpClient::new(tcp(server.listen, PROXY));
    http.send(&for_client("198.51.100.7"));
    assert_eq!(http.response().status, 400);
    drop(http);
    settled(&server);
}

#[test]
fn a_header_that_does_not_end_is_given_up() {
    let server = server(&["--authenticate-ms=500"]);
    let header = for_client("198.51.100.7");
    let silent = tcp(server.proxied(), PROXY);
    let mut half = tcp(server.proxied(), PROXY);
    half.write_all(&header[..15]).unwrap();
    // The time is one for all: a late header leaves the request no more.
    let mut late = tcp(server.proxied(), PROXY);
    late.write_all(&header).unwrap();
    for stream in [silent, half, late] {
        assert!(HttpClient::new(stream).ends());
    }
    let metrics = server.metrics();
    assert_eq!(metrics.sum("ringpost_closed_total", "reason=\"head_timeout\""), 3.0);
    // A check that only connects, or goes in the middle, is a peer that left.
    for bytes in [&header[..0], &header[..9]] {
        let mut stream = tcp(server.proxied(), PROXY);
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(HttpClient::new(stream).ends());
    }
    settled(&server);
    assert_eq!(server.metrics().sum("ringpost_closed_total", "reason=\"peer\""), 2.0);
    assert_eq!(refusals(&server, "proxy_header") + refusals(&server, "proxy_untrusted"), 0.0);
}
