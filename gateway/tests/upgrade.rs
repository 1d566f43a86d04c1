//! The upgrade request on real sockets: how it may be spelled, what is refused, and what arrives together with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Client, HttpClient, Server, authorization, forged_token, token, upgrade_request};
use ringpost_gateway::transport::websocket::{Event, Opcode};
use serde_json::json;
use std::io::Write;

const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The upgrade request of the tests with one line replaced, or left out where `by` is empty.
fn with(line: &str, by: &str) -> String {
    let request = upgrade_request("/v1/connect", &authorization(&token("alice", "phone")));
    let replaced = request.replace(&format!("{line}\r\n"), by);
    assert_ne!(request, replaced);
    replaced
}

/// O02.
#[test]
fn real_clients_spell_the_upgrade_in_many_ways() {
    let server = Server::start(&[]);
    for request in [
        upgrade_request("/v1/connect", &authorization(&token("alice", "phone"))),
        with("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade\r\n"),
        with("Connection: Upgrade", "Connection: keep-alive, Upgrade\r\n"),
        with("Connection: Upgrade", "connection: UPGRADE\r\n"),
        with("Upgrade: websocket", "Upgrade: WebSocket\r\n"),
        with("Upgrade: websocket", "Upgrade: foo, websocket\r\n"),
    ] {
        let response = server.request(request.as_bytes());
        assert_eq!((response.status, response.header("sec-websocket-accept")), (101, Some(ACCEPT)), "{request}");
        assert_eq!(response.header("sec-websocket-extensions"), None);
    }
}

/// O02, what is refused.
#[test]
fn what_is_no_upgrade_gets_no_101_and_leaves_no_trace() {
    let server = Server::start(&[]);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for request in [
        with("Connection: Upgrade", "Connection: keep-alive\r\n"),
        with("Connection: Upgrade", "Connection: Upgrade-Insecure\r\n"),
        with("GET /v1/connect HTTP/1.1", "GET /v1/connect HTTP/1.0\r\n"),
        with("GET /v1/connect HTTP/1.1", "POST /v1/connect HTTP/1.1\r\n"),
        with(key, "Sec-WebSocket-Key: dG9vIHNob3J0\r\n"),
        with(key, ""),
        with("Upgrade: websocket", ""),
    ] {
        let response = server.request(request.as_bytes());
        assert!((400..500).contains(&response.status), "{request}{}", response.head);
        assert_eq!(response.json()["code"], "INVALID");
    }
    let response = server.request(with("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8\r\n").as_bytes());
    assert_eq!((response.status, response.header("sec-websocket-version")), (426, Some("13")));

    let metrics = server.metrics();
    assert_eq!(metrics.sum("ringpost_refused_total", "bad_upgrade"), 8.0);
    assert_eq!(metrics.sum("ringpost_refused_total", "token"), 0.0, "no token was looked at");
    assert_eq!(metrics.sum("ringpost_sessions_established_total", ""), 0.0);
    metrics.check_conservation();
}

#[test]
fn a_foreign_origin_is_refused_and_an_absent_one_is_not() {
    let server = Server::start(&["--allowed-origins", "https://app.example"]);
    let bearer = authorization(&token("alice", "phone"));
    let status = |origin: &str| {
        let request = upgrade_request("/v1/connect", &format!("{bearer}{origin}"));
        server.request(request.as_bytes()).status
    };
    assert_eq!(status(""), 101);
    assert_eq!(status("Origin: http://localhost\r\n"), 101);
    assert_eq!(status("Origin: https://app.example\r\n"), 101);
    assert_eq!(status("Origin: https://evil.example\r\n"), 403);
    assert_eq!(status("Origin: null\r\n"), 403);
}

#[test]
fn the_subprotocol_is_chosen_and_a_token_among_them_not_echoed() {
    let server = Server::start(&[]);
    for protocol in ["ringpost.v1", "ringpost.v1.json"] {
        let offer = format!("Sec-WebSocket-Protocol: {protocol}, bearer.{}\r\n", token("alice", "phone"));
        let response = server.request(upgrade_request("/v1/connect", &offer).as_bytes());
        assert_eq!((response.status, response.header("sec-websocket-protocol")), (101, Some(protocol)));
        assert!(!response.head.contains("bearer"));
    }
    let response = server.request(upgrade_request("/v1/connect", &authorization(&token("alice", "phone"))).as_bytes());
    assert_eq!((response.status, response.header("sec-websocket-protocol")), (101, None));
}

/// What follows the upgrade request in the same bytes: a ping, hello, and a request.
fn first_frames(padding: usize) -> Vec<u8> {
    let hello = json!({"id": "1", "hello": {"client": "test/1"}, "unknownField": "x".repeat(padding)});
    let ping = json!({"id": "2", "ping": {}});
    [Client::frame(Opcode::Ping, b"hello"), Client::json_frame(&hello), Client::json_frame(&ping)].concat()
}

/// 101, then the pong, the welcome, and the answer, in this order.
fn expect_first_answers(http: HttpClient, case: &str) {
    let mut client = http.upgraded();
    assert_eq!(client.event(), Some(Event::Pong(b"hello"[..].into())), "{case}");
    let welcome = client.json();
    assert_eq!((&welcome["re"], &welcome["welcome"]["user"]), (&json!("1"), &json!("alice")), "{case}");
    assert!(client.answer("2").get("pong").is_some(), "{case}");
    client.close();
}

/// O03. Of several shards most sockets move to another one before the upgrade is answered.
#[test]
fn frames_that_arrive_with_the_upgrade_are_processed_wherever_the_bytes_are_cut() {
    cut_everywhere(&Server::start(&["--heartbeat-ms", "600000", "--shards", "1", "--max-sessions", "1000"]));
    cut_everywhere(&Server::start(&["--heartbeat-ms", "600000", "--shards", "4"]));
}

fn cut_everywhere(server: &Server) {
    let request = upgrade_request("/v1/connect", &authorization(&token("alice", "phone")));
    let bytes = [request.as_bytes(), &first_frames(0)].concat();
    for cut in 0..=bytes.len() {
        let (first, second) = bytes.split_at(cut);
        let mut http = HttpClient::new(server.tcp());
        http.send(first);
        // Nothing tells this side that the first part was read; without a pause both would be read together.
        std::thread::sleep(std::time::Duration::from_millis(1));
        http.send(second);
        expect_first_answers(http, &format!("cut after {cut} bytes"));
    }
    let mut http = HttpClient::new(server.tcp());
    bytes.chunks(1).for_each(|byte| http.send(byte));
    expect_first_answers(http, "byte by byte");
}

/// O03.
#[test]
fn the_head_limit_does_not_count_the_frames_behind_it() {
    let server = Server::start(&[]);
    let request = upgrade_request("/v1/connect", &authorization(&token("alice", "phone")));
    let mut http = HttpClient::new(server.tcp());
    http.send(&[request.as_bytes(), &first_frames(20 << 10)].concat());
    expect_first_answers(http, "20 KiB in the first message");

    let padded = upgrade_request("/v1/connect", &format!("Padding: {}\r\n", "x".repeat(8 << 10)));
    assert_eq!(server.request(padded.as_bytes()).status, 431);
}

/// O03.
#[test]
fn after_a_refused_token_the_rest_is_no_second_request() {
    let server = Server::start(&[]);
    let request = upgrade_request("/v1/connect", &authorization(&forged_token("alice", "phone")));
    for rest in [b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), first_frames(0)] {
        let answer = server.exchange(&[request.as_bytes(), &rest].concat());
        let text = String::from_utf8(answer).unwrap();
        assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
    }
    // Refused after the 101, as a browser has to hear it: the frames behind it are dropped too.
    let offer = format!("Sec-WebSocket-Protocol: ringpost.v1.json, bearer.{}\r\n", forged_token("alice", "phone"));
    let mut stream = server.tcp();
    stream.write_all(&[upgrade_request("/v1/connect", &offer).as_bytes(), &first_frames(0)].concat()).unwrap();
    let mut client = HttpClient::new(stream).upgraded();
    let first = client.event();
    assert!(matches!(first, Some(Event::Close { code: Some(4501), .. })), "{first:?}");
    assert_eq!(client.event(), None);
}

/// The server stops reading a client that does not read; hello then waits in what had arrived, and what follows from it,
/// a move to the user's shard, must end all the same.
#[test]
fn a_hello_that_waited_because_its_client_did_not_read_is_answered() {
    let server = Server::start(&["--shards", "4", "--send-buffer-bytes", "4096"]);
    for user in ["ann", "bob", "carol", "dave"] {
        let mut stream = server.tcp();
        stream.write_all(upgrade_request("/v1/connect", "").as_bytes()).unwrap();
        let mut client = HttpClient::new(stream.try_clone().unwrap()).upgraded();
        let hello = Client::json_frame(&json!({"id": "1", "hello": {"token": token(user, "phone")}}));
        let ask = Client::json_frame(&json!({"id": "2", "ping": {}}));
        let pings = Client::frame(Opcode::Ping, &[b'x'; 125]).repeat(20_000);
        let writer = std::thread::spawn(move || stream.write_all(&[pings, hello, ask].concat()));
        // Pongs pile up until the server has enough of it.
        std::thread::sleep(std::time::Duration::from_millis(100));
        for _ in 0..20_000 {
            assert!(matches!(client.event(), Some(Event::Pong(_))));
        }
        assert_eq!(client.answer("1")["welcome"]["user"], user);
        assert!(client.answer("2").get("pong").is_some());
        writer.join().unwrap().unwrap();
    }
}

/// A socket moves once everything written to it has gone out; a client that does not let it is late.
#[test]
fn a_client_that_reads_nothing_on_its_way_to_a_session_is_late_and_no_fault_of_the_server() {
    const CLIENTS: usize = 16;
    let server = Server::start(&["--shards", "4", "--send-buffer-bytes", "4096", "--authenticate-ms", "1000"]);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut stream = server.tcp();
            rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
            let pings = Client::frame(Opcode::Ping, &[b'x'; 125]).repeat(1_900);
            let hello =
                Client::json_frame(&json!({"id": "1", "hello": {"token": token(&format!("u{number}"), "phone")}}));
            let upgrade = upgrade_request("/v1/connect", "");
            stream.write_all(&[upgrade.as_bytes(), &pings, &hello].concat()).unwrap();
            stream
        })
        .collect();
    let closed = |why: &str| server.metrics().sum("ringpost_closed_total", why);
    common::eventually(
        || closed("timeout") > 0.0 && server.metrics().sum("ringpost_connections", "hello") == 0.0,
        "late",
    );
    assert_eq!(closed("internal"), 0.0);
    drop(clients);
}
