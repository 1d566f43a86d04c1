//! Tokens over the life of a session: bad ones, expiry, renewal, tickets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use ringpost_gateway::auth::dev;
use serde_json::json;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::ws::Client;
use support::{Gateway, http};

const LEEWAY: u64 = 5;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(user: &str, device: &str, ttl: i64) -> String {
    let now = now();
    dev::mint(user, device, now.saturating_add_signed(ttl), (now - 3_600) * 1_000).unwrap()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn a_bad_token_in_the_header_is_a_401() {
    let gateway = Gateway::start(&[]);
    let expired = bearer(&token("alice", "web", -60));
    for value in ["Bearer nonsense", "Bearer ", "Basic YTpi", expired.as_str()] {
        let refused = Client::connect(gateway.listen, "/v1/connect", &[("authorization", value)]);
        assert_eq!(refused.err().map(|(status, _)| status), Some(401), "{value}");
    }
}

#[test]
fn a_bad_token_where_a_browser_puts_it_is_a_close() {
    let gateway = Gateway::start(&[]);
    let expired = token("alice", "web", -60);
    for (token, code) in [("nonsense", 4501), (expired.as_str(), 4502)] {
        let offer = format!("ringpost.v1.json, bearer.{token}");
        let headers = [("sec-websocket-protocol", offer.as_str())];
        let mut client = Client::connect(gateway.listen, "/v1/connect", &headers).unwrap();
        assert_eq!(client.closed(), (vec![], code), "{token}");

        let mut client = Client::connect(gateway.listen, "/v1/connect", &[]).unwrap();
        client.send(&json!({"id": "1", "hello": {"token": token}}));
        assert_eq!(client.closed().1, code, "{token}");
    }
    let mut client = Client::connect(gateway.listen, "/v1/connect?ticket=AAAAAAAAAAAAAAAAAAAAAA", &[]).unwrap();
    assert_eq!(client.closed(), (vec![], 4501));
}

#[test]
fn a_hello_without_any_token_is_refused() {
    let gateway = Gateway::start(&[]);
    let mut client = Client::connect(gateway.listen, "/v1/connect", &[]).unwrap();
    client.send(&json!({"id": "1", "hello": {}}));
    assert_eq!(client.closed().1, 4501);
}

#[test]
fn silence_instead_of_hello_is_closed_in_time() {
    let gateway = Gateway::start(&["--authenticate-ms=300"]);
    let headers = bearer(&token("alice", "web", 60));
    for headers in [vec![], vec![("authorization", headers.as_str())]] {
        let mut client = Client::connect(gateway.listen, "/v1/connect", &headers).unwrap();
        assert_eq!(client.closed().1, 4501);
    }
}

#[test]
fn a_ticket_opens_one_session() {
    let gateway = Gateway::start(&[]);
    let authorization = bearer(&gateway.dev_token("alice", "web"));
    let answer = http(gateway.listen, "POST", "/v1/ticket", &[("authorization", &authorization)], "").json();
    let target = format!("/v1/connect?ticket={}", answer["ticket"].as_str().unwrap());
    let mut client = Client::connect(gateway.listen, &target, &[]).unwrap();
    client.send(&json!({"id": "1", "hello": {}}));
    assert_eq!(client.answer("1")["welcome"]["user"], "alice");
    let mut again = Client::connect(gateway.listen, &target, &[]).unwrap();
    assert_eq!(again.closed().1, 4501);
    client.assert_alive();
}

#[test]
fn a_session_ends_with_its_token_also_when_idle() {
    let gateway = Gateway::start(&[]);
    let exp = now() + 2;
    let token = dev::mint("alice", "web", exp, now() * 1_000).unwrap();
    let mut client = Client::open(gateway.listen, &token);
    // Less than 120 s are left: told at once.
    let soon = client.frame_with("renewSoon");
    assert_eq!(soon["renewSoon"]["expMs"], (exp * 1_000).to_string());
    let (_, code) = client.closed();
    assert_eq!(code, 4502);
    let late = now();
    assert!((exp..=exp + LEEWAY + 1).contains(&late), "closed {late}, expiry {exp}");
}

#[test]
fn a_renewal_extends_the_session_without_a_reconnect() {
    let gateway = Gateway::start(&[]);
    let start = Instant::now();
    let mut client = Client::open(gateway.listen, &token("alice", "web", 1));
    client.send(&json!({"id": "2", "renew": {"token": token("alice", "web", 600)}}));
    assert!(client.answer("2")["ok"].is_object());
    // Past the first token's expiry and the leeway.
    let over = Duration::from_secs(1 + LEEWAY + 1);
    std::thread::sleep(over.saturating_sub(start.elapsed()));
    client.assert_alive();
    assert_eq!(gateway.metric("ringpost_sessions_established_total"), 1.0);
}

#[test]
fn a_renewal_for_somebody_else_or_with_a_bad_token_ends_the_session() {
    let gateway = Gateway::start(&[]);
    let mut bystander = Client::open(gateway.listen, &token("carol", "web", 600));
    for renewal in
        [token("bob", "web", 600), token("alice", "phone", 600), token("alice", "web", -60), "nonsense".to_owned()]
    {
        let mut client = Client::open(gateway.listen, &token("alice", "web", 600));
        client.send(&json!({"id": "9", "renew": {"token": renewal}}));
        let (frames, code) = client.closed();
        let error = frames.iter().find(|frame| frame["re"] == "9").unwrap_or_else(|| panic!("{frames:?}"));
        assert_eq!(error["error"]["code"], "UNAUTHENTICATED");
        assert_eq!(code, 4501);
    }
    bystander.assert_alive();
}

#[test]
fn renewals_are_checked_once_a_second_and_the_others_cost_nothing() {
    let gateway = Gateway::start(&[]);
    let mut client = Client::open(gateway.listen, &token("alice", "web", 600));
    let renewal = token("alice", "web", 600);
    let answers: Vec<_> = (2..30)
        .map(|id: u32| {
            client.send(&json!({"id": id.to_string(), "renew": {"token": renewal}}));
            client.answer(&id.to_string())
        })
        .collect();
    let checked = answers.iter().filter(|answer| answer["ok"].is_object()).count();
    let limited: Vec<_> = answers.iter().filter(|answer| answer["error"]["code"] == "RATE_LIMITED").collect();
    assert!(checked >= 1 && limited.len() >= 20 && checked + limited.len() == answers.len(), "{answers:?}");
    assert!(limited.iter().all(|answer| answer["error"]["retryable"] == true), "{limited:?}");
    gateway.await_metric("ringpost_rate_limited_total", limited.len() as f64);
    client.assert_alive();
}

#[test]
fn what_was_not_acknowledged_before_the_expiry_comes_with_the_next_token() {
    let gateway = Gateway::start(&[]);
    let mut bob = Client::open(gateway.listen, &token("bob", "web", 1));
    let mut alice = Client::open(gateway.listen, &token("alice", "web", 600));
    alice.send(&json!({"id": "2", "send": {"to": {"user": "bob"}, "text": "before"}}));
    assert_eq!(alice.answer("2")["sent"]["seq"], "1");
    assert_eq!(bob.frame_with("push")["push"]["record"]["text"], "before");
    assert_eq!(bob.closed().1, 4502);
    let mut bob = Client::open(gateway.listen, &token("bob", "web", 600));
    assert_eq!(bob.frame_with("push")["push"]["record"]["text"], "before");
}
