//! The books: every connection is counted once when it comes and once when it goes, under a reason of a fixed list, and
//! nothing that a peer chooses makes a series.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Client, HttpClient, Server, authorization, eventually, forged_token, token, token_for, upgrade_request};
use ringpost_gateway::transport::websocket::{Event, Opcode};
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;

/// How often each kind of end is tried.
const TIMES: usize = 200;

/// Closes with a reset instead of FIN.
fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
}

/// Everything closed, and the books balanced.
fn settle(server: &Server) {
    eventually(|| server.metrics().open() == 0.0, "open connections remain");
    server.metrics().check_conservation();
    eventually(|| established(server) == 0, "the kernel does not agree");
}

/// Sockets of the server that the kernel counts as established.
fn established(server: &Server) -> usize {
    let port = format!(":{:04X}", server.listen.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields[1].ends_with(&port) && fields[3] == "01").count()
}

fn http_status(server: &Server, request: &str, expected: u16) {
    for _ in 0..TIMES {
        let answer = server.exchange(request.as_bytes());
        assert!(answer.starts_with(format!("HTTP/1.1 {expected} ").as_bytes()), "{}", answer.escape_ascii());
    }
}

#[test]
fn every_kind_of_end_is_counted_once() {
    let server = Server::start(&["--authenticate-ms", "3000"]);
    let good = authorization(&token("alice", "phone"));
    let mut accepted = 0.0;
    let mut before = server.metrics();
    let mut check = |reason: &str, metric: &str| {
        settle(&server);
        accepted += TIMES as f64;
        let metrics = server.metrics();
        assert_eq!(metrics.sum("ringpost_accepted_total", ""), accepted, "after {reason}");
        let label = format!("reason=\"{reason}\"");
        assert_eq!(metrics.sum(metric, &label) - before.sum(metric, &label), TIMES as f64, "{metric} {reason}");
        before = metrics;
    };

    http_status(&server, &upgrade_request("/v1/connect", "Origin: https://evil.example\r\n"), 403);
    check("origin", "ringpost_refused_total");
    http_status(&server, &upgrade_request("/v1/connect", &authorization(&forged_token("alice", "phone"))), 401);
    check("token", "ringpost_refused_total");
    http_status(&server, "GET / HTTP/1.1\r\nno colon\r\n\r\n", 400);
    check("bad_request", "ringpost_refused_total");
    http_status(&server, "GET /v1/connect HTTP/1.1\r\nHost: localhost\r\n\r\n", 426);
    check("bad_upgrade", "ringpost_refused_total");

    // Half a handshake, and then silence until the deadline.
    let half: Vec<TcpStream> = (0..TIMES)
        .map(|_| {
            let mut stream = server.tcp();
            stream.write_all(b"GET /v1/connect HTTP/1.1\r\nHost: lo").unwrap();
            stream
        })
        .collect();
    eventually(|| server.metrics().open() == TIMES as f64, "all are open");
    eventually(|| established(&server) == TIMES, "the kernel counts the same");
    eventually(|| server.metrics().open() == 0.0, "the deadline passed");
    drop(half);
    check("head_timeout", "ringpost_closed_total");

    for _ in 0..TIMES {
        Client::upgrade(&server, "/v1/connect", &good).close();
    }
    check("normal", "ringpost_closed_total");
    for _ in 0..TIMES {
        let mut client = Client::upgrade(&server, "/v1/connect", &good);
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.event(), None);
    }
    check("peer", "ringpost_closed_total");
    let expired = format!("Sec-WebSocket-Protocol: ringpost.v1.json, bearer.{}\r\n", token_for("alice", "phone", -60));
    for _ in 0..TIMES {
        assert_eq!(Client::upgrade(&server, "/v1/connect", &expired).closed().0, 4502);
    }
    check("token_expired", "ringpost_closed_total");
    for _ in 0..TIMES {
        reset(Client::upgrade(&server, "/v1/connect", &good).stream);
    }
    check("reset", "ringpost_closed_total");
    for _ in 0..TIMES {
        let mut client = Client::open(&server, "alice", "phone");
        client.send_json(&json!({"bye": {}}));
        assert_eq!(client.closed().0, 1000);
    }
    check("normal", "ringpost_closed_total");
    for _ in 0..TIMES {
        let mut client = Client::upgrade(&server, "/v1/connect", &good);
        client.write(b"\x80\x80\0\0\0\0");
        assert_eq!(client.closed().0, 1002);
    }
    check("websocket_error", "ringpost_closed_total");
    // A user of its own each time: takeovers of one device are limited.
    for number in 0..TIMES {
        let mut first = Client::open(&server, &format!("user{number}"), "phone");
        let second = Client::open(&server, &format!("user{number}"), "phone");
        assert_eq!(first.closed().0, 4500);
        reset(second.stream);
    }
    settle(&server);
    assert_eq!(server.metrics().sum("ringpost_closed_total", "reason=\"replaced\""), TIMES as f64);
}

#[test]
fn nothing_that_a_peer_chooses_makes_a_series() {
    let server = Server::start(&[]);
    let visit = |number: usize| {
        let mut http = HttpClient::new(server.tcp());
        let path = format!("GET /x{number} HTTP/1.1\r\nHost: host{number}\r\nUser-Agent: agent{number}\r\n\r\n");
        http.send(path.as_bytes());
        assert_eq!(http.response().status, 404);
        let mut client = Client::open(&server, &format!("user{number}"), &format!("device{number}"));
        let group = json!({"send": {"to": {"user": format!("other{number}")}, "text": "hi"}});
        assert!(client.request(group).get("sent").is_some());
        let code = 3_000 + (number % 2_000) as u16;
        client.send(Opcode::Close, &[&code.to_be_bytes()[..], format!("reason {number}").as_bytes()].concat());
        let closed = client.event();
        assert!(matches!(closed, Some(Event::Close { code: Some(echoed), .. }) if echoed == code), "{closed:?}");
    };
    visit(0);
    settle(&server);
    let before: Vec<String> = server.metrics().series().into_iter().map(str::to_owned).collect();
    (1..=1_000).for_each(visit);
    settle(&server);
    assert_eq!(server.metrics().series(), before);
}

#[test]
fn the_sum_over_shards_is_the_total() {
    let server = Server::start(&["--shards", "3"]);
    let clients: Vec<Client> = (0..60).map(|number| Client::open(&server, &format!("user{number}"), "phone")).collect();
    eventually(|| server.metrics().open() == 60.0, "sixty sessions");
    let metrics = server.metrics();
    assert_eq!(metrics.sum("ringpost_shard_connections", ""), 60.0);
    assert_eq!(metrics.sum("ringpost_connections", "state=\"open\""), 60.0);
    metrics.check_conservation();
    clients.into_iter().for_each(Client::close);
    settle(&server);
}
