//! WebSocket on real sockets: fragments, control frames between them, violations, large messages, the closing handshake.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Client, HttpClient, Probe, Server, upgrade_request};
use ringpost_gateway::transport::websocket::{Event, Kind, Opcode};
use serde_json::json;
use std::net::Shutdown;

fn echo(server: &Server) -> Client {
    Client::upgrade(server, "/v1/echo", "")
}

/// O01 a).
#[test]
fn a_ping_between_fragments_is_answered_before_the_message_however_the_bytes_are_cut() {
    let server = Server::start(&[]);
    let frames: [&[u8]; 3] = [
        b"\x01\x85\0\0\0\0hello", // text, not final
        b"\x89\x82\0\0\0\0hi",    // ping
        b"\x80\x85\0\0\0\0world", // continuation, final
    ];
    let bytes = frames.concat();
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    for writes in [&frames[..], &[&bytes], &single] {
        let mut client = echo(&server);
        writes.iter().for_each(|write| client.write(write));
        assert_eq!(client.event(), Some(Event::Pong(b"hi"[..].into())));
        assert_eq!(client.message(), (Kind::Text, b"helloworld".to_vec()));
        client.send(Opcode::Binary, b"still open");
        assert_eq!(client.message(), (Kind::Binary, b"still open".to_vec()));
        client.close();
    }
}

/// O01 b) to e), and more of its kind.
#[test]
fn a_broken_sequence_of_frames_is_closed_with_1002_and_never_becomes_a_message() {
    let server = Server::start(&[]);
    let mut long_ping = b"\x89\xfe\0\x7e\0\0\0\0".to_vec();
    long_ping.extend([0; 126]);
    for bytes in [
        b"\x09\x81\0\0\0\0a".as_slice(),
        &long_ping,
        b"\x80\x81\0\0\0\0a",
        b"\x01\x81\0\0\0\0a\x81\x81\0\0\0\0b",
        b"\xc1\x81\0\0\0\0a", // compressed, which nobody negotiated
        b"\x01\x81\0\0\0\0a\xc0\x81\0\0\0\0b",
        b"\xc9\x80\0\0\0\0",
        b"\x81\x01a",        // not masked
        b"\x83\x80\0\0\0\0", // a reserved opcode
    ] {
        let mut client = echo(&server);
        client.write(bytes);
        let first = client.event();
        assert!(matches!(first, Some(Event::Close { code: Some(1002), .. })), "{first:?} for {}", bytes.escape_ascii());
        assert_eq!(client.event(), None, "the socket is closed");
    }
    // The same on a session; a message before it is still answered.
    let mut client = Client::open(&server, "alice", "phone");
    let ping = Client::json_frame(&json!({"id": "7", "ping": {}}));
    client.write(&[&ping[..], b"\x80\x81\0\0\0\0a"].concat());
    assert!(client.answer("7").get("pong").is_some());
    assert_eq!(client.closed().0, 1002);
}

/// O04: what would inflate to megabytes is refused at its first byte, whole or in ten fragments, a hundred at a time.
#[test]
fn compression_is_not_agreed_to_and_what_comes_compressed_all_the_same_is_not_kept() {
    let server = Server::start(&["--shards=1", "--max-sessions=10000"]);
    let probe = Probe::start(&server);
    let fragment =
        |first: u8, len: u16| [&[first, 0xfe], &len.to_be_bytes()[..], &[0; 4], &vec![0; len.into()]].concat();
    let whole = fragment(0xc2, 16 << 10);
    let mut cut = fragment(0x42, 1_640);
    (0..8).for_each(|_| cut.extend(fragment(0x00, 1_640)));
    cut.extend(fragment(0x80, 1_640));
    let open = || {
        let mut http = HttpClient::new(server.tcp());
        let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
        http.send(upgrade_request("/v1/echo", offer).as_bytes());
        let answer = http.response_to_head();
        assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, None));
        http.switched()
    };
    let before = server.rss();
    for bomb in [whole, cut] {
        let mut clients: Vec<Client> = (0..100).map(|_| open()).collect();
        clients.iter_mut().for_each(|client| client.write(&bomb));
        clients.iter_mut().for_each(|client| assert_eq!(client.closed().0, 1002));
    }
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes");
    probe.finish();
    server.metrics().check_conservation();
}

#[test]
fn text_that_is_not_utf8_is_closed_with_1007() {
    let server = Server::start(&[]);
    for bytes in [&b"\x81\x82\0\0\0\0\xc3\x28"[..], b"\x01\x81\0\0\0\0\xe2\x80\x81\0\0\0\0a"] {
        let mut client = echo(&server);
        client.write(bytes);
        assert_eq!(client.closed().0, 1007);
    }
}

#[test]
fn large_messages_come_back_whole() {
    let server = Server::start(&[]);
    let mut client = echo(&server);
    for len in [0, 1, 125, 126, 65_535, 65_536, 300_000, 1 << 20, 16 << 20] {
        let payload: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        // Written on a thread of its own: the echo starts before the last byte was written and would fill both directions.
        let mut writer = client.stream.try_clone().unwrap();
        let frame = Client::frame(Opcode::Binary, &payload);
        let writing = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &frame).unwrap());
        let (kind, echoed) = client.message();
        assert_eq!((kind, echoed.len()), (Kind::Binary, len));
        assert!(echoed == payload, "{len} bytes came back changed");
        writing.join().unwrap();
    }
    client.close();
}

#[test]
fn many_small_messages_in_one_write_come_back_in_order() {
    let server = Server::start(&[]);
    let mut client = echo(&server);
    let payloads: Vec<String> = (0..5_000).map(|number| format!("message {number}")).collect();
    let bytes: Vec<u8> = payloads.iter().flat_map(|text| Client::frame(Opcode::Text, text.as_bytes())).collect();
    let mut writer = client.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes).unwrap());
    for payload in payloads {
        assert_eq!(client.message(), (Kind::Text, payload.into_bytes()));
    }
    writing.join().unwrap();
    client.close();
}

#[test]
fn a_close_is_answered_with_its_code_and_ends_the_connection() {
    let server = Server::start(&[]);
    for (sent, expected) in [(&b"\x03\xe8bye"[..], Some(1000)), (b"\x0f\xa0", Some(4000)), (b"", None)] {
        let mut client = echo(&server);
        client.send(Opcode::Close, sent);
        client.send(Opcode::Text, b"late");
        let first = client.event();
        assert!(matches!(&first, Some(Event::Close { code, .. }) if *code == expected), "{first:?}");
        assert_eq!(client.event(), None);
    }
    for invalid in [&b"\x03"[..], b"\x03\xec", b"\x03\xed", b"\x03\xee", b"\0\0"] {
        let mut client = echo(&server);
        client.send(Opcode::Close, invalid);
        assert_eq!(client.closed().0, 1002);
    }
}

#[test]
fn answers_still_arrive_when_the_client_has_stopped_writing() {
    let server = Server::start(&[]);
    let mut client = echo(&server);
    client.send(Opcode::Text, b"last words");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.message(), (Kind::Text, b"last words".to_vec()));
    assert_eq!(client.event(), None, "then the server closes too");
}

#[test]
fn memory_of_a_half_received_message_follows_what_was_received() {
    let server = Server::start(&[]);
    let mut idle = echo(&server);
    idle.send(Opcode::Text, b"warm");
    idle.message();
    let before = server.rss();
    // Each announces 16 MiB and sends 1 KiB of them: 16 GiB in all, if the announcement were believed.
    let clients: Vec<Client> = (0..1_000)
        .map(|_| {
            let mut client = echo(&server);
            client.write(b"\x82\xff\0\0\0\0\x01\0\0\0\0\0\0\0");
            client.write(&[0; 1 << 10]);
            client
        })
        .collect();
    idle.send(Opcode::Text, b"still served");
    idle.message();
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for {} connections", clients.len());
}
