//! What /metrics says after all the ways in which a connection can begin and end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::ws::Client;
use support::{Gateway, PATIENCE, http};

type Samples = BTreeMap<String, f64>;

/// Of each way.
const ROUNDS: usize = 50;

fn samples(gateway: &Gateway) -> Samples {
    let text = gateway.metrics();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

fn sum(samples: &Samples, family: &str) -> f64 {
    samples.iter().filter(|(name, _)| name.split('{').next() == Some(family)).map(|(_, value)| value).sum()
}

/// The samples of a moment at which as many connections are open as given.
fn quiet(gateway: &Gateway, open: f64) -> Samples {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let samples = samples(gateway);
        let moving =
            samples["ringpost_moved_total{direction=\"out\"}"] - samples["ringpost_moved_total{direction=\"in\"}"];
        if sum(&samples, "ringpost_connections") == open && moving == 0.0 {
            return samples;
        }
        assert!(Instant::now() < deadline, "not quiet: {samples:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn token(gateway: &Gateway, user: &str) -> String {
    gateway.dev_token(user, "web")
}

fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

/// Every way to come and go, `ROUNDS` times; `round` makes users and paths differ.
fn everything(gateway: &Gateway, round: usize) {
    let to = gateway.listen;
    let good = token(gateway, &format!("user{round}"));
    let bearer = format!("Bearer {good}");
    for n in 0..ROUNDS {
        let foreign = format!("https://site{round}-{n}.example");
        assert!(Client::connect(to, "/v1/connect", &[("authorization", &bearer), ("origin", &foreign)]).is_err());
        assert!(Client::connect(to, "/v1/connect", &[("authorization", "Bearer nonsense")]).is_err());
        assert_eq!(gateway.get(&format!("/x{round}-{n}")).status, 404);
        assert_eq!(http(to, "GET", "/ bad", &[], "").status, 400);
        // A head that never ends, and a reset in the middle of one.
        TcpStream::connect(to).unwrap().write_all(b"GET / HT").unwrap();
        let stream = TcpStream::connect(to).unwrap();
        reset(&stream);
    }
    for _ in 0..5 {
        let mut client = Client::open(to, &good);
        client.send(&json!({"id": "2", "bye": {}}));
        assert_eq!(client.closed().1, 1000);
    }
}

#[test]
fn every_connection_is_counted_in_and_out_once() {
    let gateway = Gateway::start(&[]);
    everything(&gateway, 0);
    let samples = quiet(&gateway, 0.0);
    assert!(samples.values().all(|value| *value >= 0.0), "{samples:#?}");
    assert_eq!(samples["ringpost_accepted_total"], sum(&samples, "ringpost_closed_total"));
    let rounds = ROUNDS as f64;
    assert_eq!(samples["ringpost_refused_total{reason=\"origin\"}"], rounds);
    assert_eq!(samples["ringpost_refused_total{reason=\"token\"}"], rounds);
    assert_eq!(samples["ringpost_refused_total{reason=\"bad_request\"}"], rounds);
    assert_eq!(samples["ringpost_sessions_established_total"], 5.0);
    assert!(samples["ringpost_ring_slots_occupied"] <= 1.0, "{samples:#?}");

    let sessions: Vec<_> = (0..10).map(|n| Client::open(gateway.listen, &token(&gateway, &format!("u{n}")))).collect();
    let samples = quiet(&gateway, 10.0);
    assert_eq!(samples["ringpost_connections{state=\"open\"}"], 10.0);
    assert_eq!(sum(&samples, "ringpost_shard_connections"), 10.0);
    assert_eq!(samples["ringpost_accepted_total"], 10.0 + sum(&samples, "ringpost_closed_total"));
    drop(sessions);
    quiet(&gateway, 0.0);
}

#[test]
fn what_sessions_hold_is_told_and_comes_back() {
    let gateway = Gateway::start(&[]);
    let held = |samples: &Samples| {
        ["sessions", "users_in_memory", "timers{of=\"connection\"}", "timers{of=\"session\"}"]
            .map(|what| samples[&format!("ringpost_{what}")])
    };
    let sessions: Vec<_> = (0..10).map(|n| Client::open(gateway.listen, &token(&gateway, &format!("u{n}")))).collect();
    let full = quiet(&gateway, 10.0);
    // Each connection has its heartbeat, each session the end of its token.
    assert_eq!(held(&full), [10.0; 4], "{full:#?}");
    drop(sessions);
    let deadline = Instant::now() + PATIENCE;
    while held(&samples(&gateway)) != [0.0; 4] {
        assert!(Instant::now() < deadline, "{:#?}", samples(&gateway));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(samples(&gateway)["ringpost_conversations_in_memory"], 0.0);

    // A conversation stays for a while, and its timer with it.
    let mut alice = Client::open(gateway.listen, &token(&gateway, "alice"));
    alice.send(&json!({"id": "1", "send": {"to": {"user": "bob"}, "text": "hi"}}));
    assert!(alice.answer("1")["sent"].is_object());
    let now = samples(&gateway);
    let of_conversations = ["ringpost_conversations_in_memory", "ringpost_timers{of=\"conversation\"}"];
    assert_eq!(of_conversations.map(|name| now[name]), [1.0; 2], "{now:#?}");
}

#[test]
fn no_series_comes_from_a_peer() {
    let gateway = Gateway::start(&[]);
    everything(&gateway, 0);
    let names = |samples: Samples| samples.into_keys().collect::<Vec<_>>();
    let before = names(quiet(&gateway, 0.0));
    (1..4).for_each(|round| everything(&gateway, round));
    assert_eq!(names(quiet(&gateway, 0.0)), before);
}

#[test]
fn a_takeover_closes_the_older_session_and_counts_it() {
    let gateway = Gateway::start(&[]);
    let token = token(&gateway, "alice");
    let mut older = Client::open(gateway.listen, &token);
    let mut newer = Client::open(gateway.listen, &token);
    assert_eq!(older.closed().1, 4500);
    newer.assert_alive();
    let samples = quiet(&gateway, 1.0);
    assert_eq!(samples["ringpost_closed_total{reason=\"replaced\"}"], 1.0);
    assert_eq!(samples["ringpost_takeovers_total"], 1.0);
}

#[test]
fn messages_show_in_the_counters_of_router_and_store() {
    let gateway = Gateway::start(&[]);
    let mut bob = Client::open(gateway.listen, &token(&gateway, "bob"));
    let mut alice = Client::open(gateway.listen, &token(&gateway, "alice"));
    for n in 1..=5 {
        alice.send(&json!({"id": n.to_string(), "send": {"to": {"user": "bob"}, "text": "hi"}}));
        assert!(alice.answer(&n.to_string())["sent"].is_object());
        let push = bob.frame_with("push");
        bob.send(&json!({"ack": {"push": push["push"]["n"]}}));
    }
    bob.assert_alive();
    let samples = samples(&gateway);
    assert_eq!(samples["ringpost_sends_total"], 5.0);
    assert_eq!(samples["ringpost_store_records_total"], 5.0);
    assert!(samples["ringpost_pushes_total"] >= 5.0 && samples["ringpost_acks_total"] >= 5.0, "{samples:#?}");
    assert!(samples["ringpost_store_fdatasyncs_total"] >= 1.0);
    assert_eq!(samples["ringpost_commit_seconds_count"], samples["ringpost_store_commits_total"]);
    assert!(samples["ringpost_turn_seconds_count"] > 0.0);
    assert!(samples.contains_key("ringpost_send_seconds_count{to=\"user\"}"));
}

#[test]
fn a_signal_tells_every_session_to_come_back_later() {
    let mut gateway = Gateway::start(&[]);
    let mut sessions: Vec<_> =
        ["alice", "bob", "carol"].map(|user| Client::open(gateway.listen, &token(&gateway, user))).into();
    gateway.signal(rustix::process::Signal::TERM);
    for session in &mut sessions {
        assert_eq!(session.closed().1, 4000);
    }
    drop(sessions);
    assert!(gateway.wait().success());
}
