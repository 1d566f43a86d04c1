//! What bad input gets, row by row, with sessions beside it that must not notice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Client, HttpClient, Probe, Server, authorization, forged_token, token, token_for, upgrade_request};
use ringpost_gateway::transport::websocket::Opcode;
use serde_json::{Value, json};

/// One shard, so that the probe shares it with the offender; runs `case` beside the probe.
fn beside_a_probe(args: &[&str], case: impl FnOnce(&Server)) {
    let server = Server::start(&[&["--shards", "1", "--max-sessions", "10000"], args].concat());
    let probe = Probe::start(&server);
    case(&server);
    probe.finish();
    server.metrics().check_conservation();
}

fn bearer(token: &str) -> String {
    format!("Sec-WebSocket-Protocol: ringpost.v1.json, bearer.{token}\r\n")
}

fn hello() -> Value {
    json!({"id": "1", "hello": {"client": "test/1"}})
}

/// A bad token in each place that can carry one, in the header last.
#[test]
fn bad_and_expired_tokens() {
    beside_a_probe(&[], |server| {
        for (bad, code) in [
            (forged_token("alice", "phone"), 4501),
            ("not-a-token".to_owned(), 4501),
            (token_for("alice", "phone", -3_600), 4502),
        ] {
            let mut client = Client::upgrade(server, "/v1/connect", &bearer(&bad));
            assert_eq!(client.closed().0, code, "as subprotocol");
            let mut client = Client::upgrade(server, "/v1/connect", "");
            client.send_json(&json!({"id": "1", "hello": {"token": bad}}));
            assert_eq!(client.closed().0, code, "in hello");
            let response = server.request(upgrade_request("/v1/connect", &authorization(&bad)).as_bytes());
            assert_eq!((response.status, &response.json()["code"]), (401, &json!("UNAUTHENTICATED")));
        }
        let mut client = Client::upgrade(server, "/v1/connect?ticket=AAAAAAAAAAAAAAAAAAAAAA", "");
        assert_eq!(client.closed().0, 4501, "as ticket");
    });
}

#[test]
fn a_ticket_works_once() {
    beside_a_probe(&[], |server| {
        let request = format!(
            "POST /v1/ticket HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: 0\r\n\r\n",
            authorization(&token("alice", "phone"))
        );
        let ticket = server.request(request.as_bytes()).json()["ticket"].as_str().unwrap().to_owned();
        let target = format!("/v1/connect?ticket={ticket}");
        let mut client = Client::upgrade(server, &target, "");
        assert_eq!(client.request(hello())["welcome"]["user"], "alice");
        assert_eq!(Client::upgrade(server, &target, "").closed().0, 4501);
        client.close();
    });
}

#[test]
fn only_a_bearer_subprotocol() {
    beside_a_probe(&[], |server| {
        let offer = format!("Sec-WebSocket-Protocol: bearer.{}\r\n", token("alice", "phone"));
        assert_eq!(server.request(upgrade_request("/v1/connect", &offer).as_bytes()).status, 400);
    });
}

#[test]
fn no_authentication_in_time() {
    beside_a_probe(&["--authenticate-ms", "1000"], |server| {
        let mut silent = Client::upgrade(server, "/v1/connect", "");
        let mut authorized = Client::authorized(server, "alice", "phone");
        let mut pinging = Client::upgrade(server, "/v1/connect", "");
        pinging.send(Opcode::Ping, b"I am here");
        for client in [&mut silent, &mut authorized, &mut pinging] {
            assert_eq!(client.closed().0, 4501);
        }
    });
}

#[test]
fn a_request_before_hello() {
    beside_a_probe(&[], |server| {
        let mut client = Client::authorized(server, "alice", "phone");
        client.send_json(&json!({"id": "1", "send": {"to": {"user": "bob"}, "text": "too early"}}));
        let (code, _) = client.closed();
        assert!(code == 4501 || code == 4505, "{code}");
    });
}

#[test]
fn renewal_for_somebody_else() {
    beside_a_probe(&[], |server| {
        for other in [token("mallory", "phone"), token("alice", "tablet"), forged_token("alice", "phone")] {
            let mut client = Client::open(server, "alice", "phone");
            let answer = client.request(json!({"renew": {"token": other}}));
            assert_eq!(answer["error"]["code"], "UNAUTHENTICATED");
            assert_eq!(client.closed().0, 4501);
        }
        let mut client = Client::open(server, "alice", "phone");
        assert!(client.request(json!({"renew": {"token": token("alice", "phone")}})).get("ok").is_some());
        client.close();
    });
}

#[test]
fn frames_that_cannot_be_decoded() {
    beside_a_probe(&[], |server| {
        for (text, field) in [
            ("{", ""),
            ("", ""),
            ("[]", ""),
            (r#"{"id":"1","send":{"to":{"user":5},"text":"hi"}}"#, "send.to.user"),
            (r#"{"id":"1","read":{"conversation":{"user":"bob"},"seq":"many"}}"#, "read.seq"),
            (r#"{"id":{},"ping":{}}"#, "id"),
        ] {
            let mut client = Client::open(server, "alice", "phone");
            client.send(Opcode::Text, text.as_bytes());
            let (code, reason) = client.closed();
            assert_eq!(code, 4505, "{text}");
            assert!(reason.contains(field) && !reason.is_empty(), "{text}: {reason}");
        }
        let offer = format!("Sec-WebSocket-Protocol: ringpost.v1\r\n{}", authorization(&token("alice", "phone")));
        let mut client = Client::upgrade(server, "/v1/connect", &offer);
        // Field 3 (send) of the frame, and within it field 1 (to) as a number.
        client.send(Opcode::Binary, &[0x1a, 0x02, 0x08, 0x01]);
        let (code, reason) = client.closed();
        assert_eq!(code, 4505);
        assert!(reason.contains("to"), "{reason}");
    });
}

#[test]
fn a_message_of_the_other_encoding() {
    beside_a_probe(&[], |server| {
        let mut client = Client::open(server, "alice", "phone");
        client.send(Opcode::Binary, b"{}");
        assert_eq!(client.closed().0, 1003);
        let offer = format!("Sec-WebSocket-Protocol: ringpost.v1\r\n{}", authorization(&token("alice", "phone")));
        let mut client = Client::upgrade(server, "/v1/connect", &offer);
        client.send(Opcode::Text, b"{}");
        assert_eq!(client.closed().0, 1003);
    });
}

#[test]
fn a_sixth_device() {
    beside_a_probe(&[], a_sixth_device_is_refused);
}

/// The answer to an upgrade may have to come from the shard of the user, and to be taken there.
#[test]
fn a_sixth_device_that_the_kernel_gives_to_another_shard() {
    a_sixth_device_is_refused(&Server::start(&["--shards", "4"]));
}

fn a_sixth_device_is_refused(server: &Server) {
    let mut devices: Vec<Client> =
        (1..=5).map(|number| Client::open(server, "alice", &format!("device{number}"))).collect();
    // A status where the token came with the upgrade, unless it came in a way of browsers, which see none.
    let sixth = token("alice", "device6");
    for _ in 0..16 {
        let response = server.request(upgrade_request("/v1/connect", &authorization(&sixth)).as_bytes());
        assert_eq!((response.status, &response.json()["code"]), (409, &json!("DEVICE_LIMIT")));
    }
    for (headers, token) in [(String::new(), &*sixth), (bearer(&sixth), "")] {
        let mut client = Client::upgrade(server, "/v1/connect", &headers);
        let answer = client.request(json!({"hello": {"token": token}}));
        assert_eq!(answer["error"]["code"], "DEVICE_LIMIT");
        assert_eq!(client.closed().0, 4501);
    }
    for device in &mut devices {
        assert!(device.request(json!({"ping": {}})).get("pong").is_some(), "the five are not disturbed");
    }
    // One of the five comes again.
    let mut again = Client::open(server, "alice", "device5");
    assert_eq!(devices[4].closed().0, 4500);
    assert!(again.request(json!({"ping": {}})).get("pong").is_some());
    assert_eq!(server.metrics().sum("ringpost_refused_total", "devices"), 16.0);
}

#[test]
fn the_fourth_takeover_in_a_minute() {
    beside_a_probe(&[], |server| {
        let mut holder = Client::open(server, "alice", "phone");
        for _ in 0..3 {
            let newcomer = Client::open(server, "alice", "phone");
            assert_eq!(holder.closed().0, 4500);
            holder = newcomer;
        }
        let mut newcomer = Client::authorized(server, "alice", "phone");
        newcomer.send_json(&hello());
        assert_eq!(newcomer.closed().0, 4504);
        assert!(holder.request(json!({"ping": {}})).get("pong").is_some(), "the holder stays");
        Client::open(server, "alice", "tablet").close();
    });
}

#[test]
fn well_formed_but_out_of_bounds() {
    beside_a_probe(&[], |server| {
        let mut client = Client::open(server, "alice", "phone");
        let long = "u".repeat(65);
        for (request, field) in [
            (json!({"send": {"to": {"user": long}, "text": "hi"}}), "to"),
            (json!({"send": {"to": {"user": ""}, "text": "hi"}}), "to"),
            (json!({"send": {"to": {"user": "a\u{7}b"}, "text": "hi"}}), "to"),
            (json!({"send": {"text": "hi"}}), "to"),
            (json!({"send": {"to": {"user": "bob"}, "clientMessageId": "AAAA", "text": "hi"}}), "clientMessageId"),
            (json!({"lookup": {"conversation": {"user": "bob"}, "clientMessageIds": ["AAAA"]}}), "clientMessageIds"),
            (json!({"read": {"seq": "1"}}), "conversation"),
        ] {
            let error = client.request(request.clone())["error"].clone();
            assert_eq!(error["code"], "INVALID", "{request}");
            let named = error["field"].as_str().unwrap_or_default();
            assert!(named.contains(field), "{request}: {error}");
        }
        assert!(client.request(json!({"ping": {}})).get("pong").is_some(), "the session stays");
        client.close();
    });
}

#[test]
fn a_text_and_a_frame_over_their_limits() {
    beside_a_probe(&[], |server| {
        let mut client = Client::open(server, "alice", "phone");
        let send = |bytes: usize| json!({"send": {"to": {"user": "bob"}, "text": "x".repeat(bytes)}});
        assert_eq!(client.request(send((64 << 10) + 1))["error"]["code"], "TOO_LARGE");
        assert_eq!(client.request(send(64 << 10))["sent"]["seq"], "1", "the limit itself is allowed");
        // Refused at its header: no byte of the payload is needed.
        let mut header = Client::frame(Opcode::Text, &vec![b' '; (512 << 10) + 1]);
        header.truncate(14);
        client.write(&header);
        assert_eq!(client.closed().0, 1009);
        // The sum of fragments counts.
        let mut client = Client::open(server, "alice", "phone");
        let mut fragment = Client::frame(Opcode::Text, &vec![b' '; 300 << 10]);
        fragment[0] &= 0x7f;
        let mut next = Client::frame(Opcode::Continuation, &vec![b' '; 300 << 10]);
        next.truncate(14);
        client.write(&[fragment, next].concat());
        assert_eq!(client.closed().0, 1009);
    });
}

/// A control character takes six bytes in JSON, and a window counts it as one.
#[test]
fn texts_that_grow_in_json_do_not_cut_their_reader() {
    beside_a_probe(&[], |server| {
        let mut alice = Client::open(server, "alice", "phone");
        for _ in 0..4 {
            let send = json!({"send": {"to": {"user": "bob"}, "text": "\u{1}".repeat(64 << 10)}});
            assert!(alice.request(send).get("sent").is_some());
        }
        let mut bob = Client::open(server, "bob", "phone");
        for n in 1..=4 {
            let push = bob.unasked("push");
            assert_eq!(push["record"]["seq"], n.to_string());
            bob.send_json(&json!({"ack": {"push": push["n"]}}));
        }
        bob.close();
    });
}

#[test]
fn unknown_requests_and_fields() {
    beside_a_probe(&[], |server| {
        let mut client = Client::open(server, "alice", "phone");
        client.send_json(&json!({"fly": {"to": "the moon"}}));
        assert_eq!(client.request(json!({"fly": {"to": "the moon"}}))["error"]["code"], "UNIMPLEMENTED");
        assert!(client.request(json!({"ping": {"x": 1}, "y": [2]})).get("pong").is_some());
        let ignored = client.unasked.iter().filter(|frame| frame.get("error").is_some()).count();
        assert_eq!(ignored, 0, "without an id nothing is answered");
        client.close();
    });
}

#[test]
fn an_ack_of_what_was_never_sent() {
    beside_a_probe(&[], |server| {
        let mut alice = Client::open(server, "alice", "phone");
        let mut bob = Client::open(server, "bob", "phone");
        assert!(alice.request(json!({"send": {"to": {"user": "bob"}, "text": "hi"}})).get("sent").is_some());
        let push = bob.unasked("push");
        bob.send_json(&json!({"ack": {"push": "99"}}));
        assert_eq!(bob.unasked("error")["code"], "INVALID");
        assert_eq!(bob.request(json!({"ack": {"push": "99"}}))["error"]["code"], "INVALID");
        bob.close();
        // Nothing moved: the message comes again.
        let mut bob = Client::open(server, "bob", "phone");
        assert_eq!(bob.unasked("push")["record"], push["record"]);
        bob.close();
    });
}

#[test]
fn more_requests_than_may_be_unanswered() {
    beside_a_probe(&[], |server| {
        let requests: Vec<u8> = (1_001..=1_200)
            .flat_map(|id| {
                let history = json!({"id": id.to_string(), "history": {"conversation": {"user": "bob"}}});
                Client::json_frame(&history)
            })
            .collect();
        let mut client = Client::open(server, "alice", "phone");
        client.write(&requests);
        expect_pages(&mut client);
        client.close();
        // Behind hello in the same bytes: nothing is answered before welcome.
        let mut client = Client::authorized(server, "alice", "phone");
        client.write(&[Client::json_frame(&hello()), requests].concat());
        let first = client.json();
        assert!(first.get("welcome").is_some(), "{first}");
        expect_pages(&mut client);
        client.close();
    });
}

/// One page for each of the requests above.
fn expect_pages(client: &mut Client) {
    let mut missing: std::collections::BTreeSet<String> = (1_001..=1_200).map(|id| id.to_string()).collect();
    while !missing.is_empty() {
        let frame = client.json();
        if let Some(re) = frame["re"].as_str() {
            assert!(frame.get("page").is_some(), "{frame}");
            assert!(missing.remove(re), "{re} answered twice");
        }
    }
}

/// Bytes that are nothing at all, many times, on every path that takes bytes.
#[test]
fn garbage() {
    beside_a_probe(&[], |server| {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |len: usize| -> Vec<u8> {
            std::iter::repeat_with(|| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            })
            .take(len)
            .collect()
        };
        for round in 0..200 {
            let _ = server.exchange(&[b"GET ".to_vec(), random(round), b"\r\n\r\n".to_vec()].concat());
            let mut http = HttpClient::new(server.tcp());
            let request = upgrade_request("/v1/connect", &authorization(&token("alice", "phone")));
            http.send(request.as_bytes());
            let mut client = http.upgraded();
            client.write(&Client::json_frame(&hello()));
            client.write(&random(round + 2));
            let _ = client.stream.shutdown(std::net::Shutdown::Write);
            // Whatever it is, the server ends it: with a close frame, or because this side has ended.
            while client.event().is_some() {}
        }
    });
}
