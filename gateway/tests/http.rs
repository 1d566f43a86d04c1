//! HTTP on the public and the admin port of a running gateway.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use support::{Gateway, PATIENCE, http};

#[test]
fn the_page_and_its_parts_are_served() {
    let gateway = Gateway::start(&[]);
    let page = gateway.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    for part in ["/app.js", "/style.css"] {
        assert!(page.body.contains(&part[1..]), "{part} in the page");
        let answer = gateway.get(part);
        assert_eq!(answer.status, 200);
        let again = http(gateway.listen, "GET", part, &[("if-none-match", answer.header("etag").unwrap())], "");
        assert_eq!((again.status, again.body.as_str()), (304, ""));
    }
}

#[test]
fn both_ports_say_that_the_process_lives_and_is_ready() {
    let gateway = Gateway::start(&[]);
    for port in [gateway.listen, gateway.admin] {
        assert_eq!(http(port, "GET", "/healthz", &[], "").status, 200);
        let ready = http(port, "GET", "/readyz", &[], "");
        let mut expected = json!({"ready": true, "draining": false, "why": ""});
        if port == gateway.admin {
            expected["warnings"] = json!([]);
        }
        assert_eq!((ready.status, ready.readiness()), (200, expected));
    }
}

#[test]
fn metrics_are_on_the_admin_port_only() {
    let gateway = Gateway::start(&[]);
    for path in ["/metrics", "/admin/drain", "/admin/sessions/alice"] {
        let answer = gateway.get(path);
        assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("NOT_FOUND")), "{path}");
    }
    let text = gateway.metrics();
    for name in [
        "ringpost_connections{state=\"open\"}",
        "ringpost_connections{state=\"hello\"}",
        "ringpost_accepted_total",
        "ringpost_refused_total{reason=\"token\"}",
        "ringpost_closed_total{reason=\"heartbeat_missed\"}",
        "ringpost_sessions_established_total",
        "ringpost_appends_total",
        "ringpost_pushes_total",
        "ringpost_acks_total",
        "ringpost_ring_submissions_total",
        "ringpost_ring_overflow_total",
        "ringpost_ring_enobufs_total",
        "process_resident_memory_bytes",
    ] {
        assert!(text.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '))), "{name}");
    }
}

#[test]
fn counters_move_with_what_happens() {
    let gateway = Gateway::start(&[]);
    let before = gateway.metric("ringpost_http_requests_total");
    gateway.get("/");
    gateway.get("/nothing");
    assert_eq!(gateway.metric("ringpost_http_requests_total"), before + 2.0);
    assert!(gateway.metric("ringpost_accepted_total") >= 2.0);
}

#[test]
fn unknown_paths_and_methods_get_the_errors_of_the_wire() {
    let gateway = Gateway::start(&[]);
    let answer = gateway.get("/v1/messages");
    assert_eq!((answer.status, answer.header("content-type")), (404, Some("application/json")));
    assert_eq!(answer.json()["code"], "NOT_FOUND");
    let answer = gateway.get("/v1/ticket");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_eq!(answer.json()["code"], "INVALID");
}

#[test]
fn a_development_token_buys_a_ticket() {
    let gateway = Gateway::start(&[]);
    let bearer = format!("Bearer {}", gateway.dev_token("alice", "web"));
    let answer = http(gateway.listen, "POST", "/v1/ticket", &[("authorization", &bearer)], "");
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    assert!(answer["ticket"].as_str().unwrap().len() >= 16);
    assert!(answer["expiresMs"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    for value in ["Bearer nonsense", "Basic x"] {
        let answer = http(gateway.listen, "POST", "/v1/ticket", &[("authorization", value)], "");
        assert_eq!((answer.status, &answer.json()["code"]), (401, &json!("UNAUTHENTICATED")));
    }
}

#[test]
fn a_body_may_come_in_pieces_and_not_be_too_long() {
    let gateway = Gateway::start(&[]);
    let body = r#"{"user":"alice","device":"web"}"#;
    let head = format!(
        "POST /v1/dev/token HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(gateway.listen).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in head.bytes().chain(body.bytes()) {
        stream.write_all(&[byte]).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"token\""), "{answer}");
    let long = json!({"user": "a".repeat(100_000)}).to_string();
    let answer = http(gateway.listen, "POST", "/v1/dev/token", &[], &long);
    assert_eq!((answer.status, &answer.json()["code"]), (413, &json!("TOO_LARGE")));
}

#[test]
fn one_connection_serves_several_requests() {
    let gateway = Gateway::start(&[]);
    let mut stream = TcpStream::connect(gateway.listen).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let one = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let last = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(format!("{one}{one}{last}").as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
}
