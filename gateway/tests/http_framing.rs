//! HTTP/1.1 on the public port: framing, reuse of connections, limits, and what is not there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{HttpClient, Server};
use std::io::Write;

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn dev_token(framing: &str, body: &str) -> Vec<u8> {
    format!("POST /v1/dev/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{framing}\r\n{body}")
        .into_bytes()
}

#[test]
fn a_connection_serves_one_request_after_another() {
    let server = Server::start(&[]);
    let body = r#"{"user":"alice","device":"phone"}"#;
    let with_length = dev_token(&format!("Content-Length: {}\r\n", body.len()), body);
    let chunks = format!("5\r\n{}\r\n{:x};x=y\r\n{}\r\n0\r\nT: x\r\n\r\n", &body[..5], body.len() - 5, &body[5..]);
    let chunked = dev_token("Transfer-Encoding: chunked\r\n", &chunks);
    let mut http = HttpClient::new(server.tcp());
    for request in [HEALTH, &with_length, HEALTH, &chunked, HEALTH] {
        http.send(request);
        let response = http.response();
        assert_eq!(response.status, 200, "{}", response.head);
        if request != HEALTH {
            assert!(response.json()["token"].is_string());
        }
    }
    // Pipelined in one write, and byte by byte.
    let all = [HEALTH, &with_length, &chunked, HEALTH].concat();
    http.send(&all);
    let statuses: Vec<u16> = (0..4).map(|_| http.response().status).collect();
    assert_eq!(statuses, [200; 4]);
    all.chunks(1).for_each(|byte| http.send(byte));
    let statuses: Vec<u16> = (0..4).map(|_| http.response().status).collect();
    assert_eq!(statuses, [200; 4]);
}

#[test]
fn head_has_the_length_and_no_body() {
    let server = Server::start(&[]);
    let mut http = HttpClient::new(server.tcp());
    http.send(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = http.response_to_head();
    assert_eq!((head.status, head.header("content-length")), (200, Some("3")));
    http.send(HEALTH);
    assert_eq!(http.response().body, b"ok\n", "nothing stood between the two");
}

#[test]
fn the_connection_ends_when_either_side_wants_it() {
    let server = Server::start(&[]);
    for request in [
        &b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"[..],
        b"GET /healthz HTTP/1.0\r\n\r\n",
    ] {
        let mut http = HttpClient::new(server.tcp());
        http.send(request);
        let response = http.response();
        assert_eq!((response.status, response.header("connection")), (200, Some("close")));
        assert!(http.ends());
    }
}

#[test]
fn a_client_that_asks_before_it_sends_a_body_is_told_to_go_on() {
    let server = Server::start(&[]);
    let body = r#"{"user":"alice"}"#;
    let head = dev_token(&format!("Content-Length: {}\r\nExpect: 100-continue\r\n", body.len()), "");
    let mut http = HttpClient::new(server.tcp());
    http.send(&head);
    assert_eq!(http.response().status, 100);
    http.send(body.as_bytes());
    assert_eq!(http.response().status, 200);
}

#[test]
fn what_two_parsers_may_read_differently_is_refused_and_closed() {
    let server = Server::start(&[]);
    let smuggled = String::from_utf8(HEALTH.to_vec()).unwrap();
    for (framing, status) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("Content-Length: -5\r\n", 400),
        ("Content-Length: 5, 5\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding: identity\r\n", 501),
        ("A: b\r\n folded\r\n", 400),
        ("A: b\nC: d\r\n", 400),
    ] {
        let answer = server.exchange(&dev_token(framing, &format!("0\r\n\r\n{smuggled}")));
        let text = String::from_utf8(answer).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{framing}{text}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "the rest was read as another request: {text}");
    }
    let answer = server.exchange(&dev_token("Transfer-Encoding: chunked\r\n", "5\r\nhello\n0\r\n\r\n"));
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", answer.escape_ascii());
}

#[test]
fn limits_are_answered_and_not_waited_for() {
    let server = Server::start(&["--authenticate-ms", "500"]);
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(9 << 10));
    assert_eq!(server.request(long.as_bytes()).status, 431);
    assert_eq!(server.request(&dev_token("Content-Length: 99999999\r\n", "")).status, 413);
    // Not HTTP at all: refused at the first byte.
    assert!(server.exchange(b"\x16\x03\x01\x02\x00\x01").starts_with(b"HTTP/1.1 400 "));
    // A head that never ends, and a connection that never says a word: both are closed.
    for silent in [&b"GET /healthz HTTP/1.1\r\nHost: loc"[..], b""] {
        let answer = server.exchange(silent);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 "), "{}", answer.escape_ascii());
    }
}

#[test]
fn the_public_port_shows_health_and_nothing_of_the_admin_side() {
    let server = Server::start(&[]);
    let status =
        |path: &str| server.request(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).status;
    assert_eq!((status("/healthz"), status("/readyz")), (200, 200));
    for path in ["/metrics", "/admin", "/admin/drain", "//metrics", "/./metrics", "/%6detrics", "/Metrics", "/metrics/"]
    {
        assert_eq!(status(path), 404, "{path}");
    }
    let absolute = format!("GET http://{}/metrics HTTP/1.1\r\nHost: {}\r\n\r\n", server.admin, server.admin);
    assert_eq!(server.request(absolute.as_bytes()).status, 404);
}

#[test]
fn a_client_that_goes_in_the_middle_of_a_body_leaves_nothing_behind() {
    let server = Server::start(&[]);
    for _ in 0..100 {
        let mut stream = server.tcp();
        stream.write_all(&dev_token("Content-Length: 30\r\n", r#"{"user":"#)).unwrap();
    }
    // The connections end by themselves; the books say so.
    common::eventually(|| server.metrics().open() == 0.0, "open connections remain");
    server.metrics().check_conservation();
    assert_eq!(server.request(HEALTH).status, 200);
}

/// What waits for an answer is read once, not again with every answer: the sockets hold the rest, and its sender waits.
#[test]
fn requests_without_end_are_answered_one_by_one_and_not_hoarded() {
    const REQUESTS: usize = 150_000;
    let server = Server::start(&["--shards", "1", "--max-sessions", "1000"]);
    let mut http = HttpClient::new(server.tcp());
    http.send(HEALTH);
    assert_eq!(http.response().status, 200);
    let before = server.rss();
    let mut writer = server.tcp();
    let mut http = HttpClient::new(writer.try_clone().unwrap());
    let writing = std::thread::spawn(move || writer.write_all(&HEALTH.repeat(REQUESTS)));
    let mut most = before;
    for number in 0..REQUESTS {
        assert_eq!(http.response().status, 200);
        if number % 1_000 == 0 {
            most = most.max(server.rss());
        }
    }
    writing.join().unwrap().unwrap();
    // Read again and again they would take several times their size; what else the process does meanwhile takes some.
    let sent = REQUESTS * HEALTH.len();
    assert!(most - before < sent / 2, "{} bytes for one connection that sent {sent}", most - before);
}
