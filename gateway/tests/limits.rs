//! The limits of a client over real sockets: all are told in welcome, what is told is what holds, and each refusal counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Client, Server};
use serde_json::{Value, json};
use std::time::Instant;

const RATES: [&str; 7] = [
    "--sends-per-second=1",
    "--sends-burst=3",
    "--user-sends-per-second=1",
    "--requests-per-second=1",
    "--new-conversations-per-day=7",
    "--address-connections=41",
    "--address-upgrades-per-second=11",
];

fn hello(server: &Server, user: &str, device: &str) -> (Client, Value) {
    let mut client = Client::authorized(server, user, device);
    let welcome = client.request(json!({"hello": {"client": "test/1"}}));
    let limits = welcome["welcome"]["limits"].clone();
    (client, limits)
}

fn say(client: &mut Client, to: &str) -> Value {
    client.request(json!({"send": {"to": {"user": to}, "text": "hi"}}))
}

/// Asks until it is refused for its rate; how often it was answered.
fn until_limited(mut ask: impl FnMut() -> Value) -> u64 {
    for answered in 0.. {
        let answer = ask();
        let Some(error) = answer.get("error") else { continue };
        assert_eq!(error["code"], "RATE_LIMITED", "{answer}");
        assert_eq!(error["retryable"], true);
        let wait: u64 = error["retryAfterMs"].as_str().expect("a time").parse().unwrap();
        assert!((1..=1_000).contains(&wait), "{answer}");
        return answered;
    }
    unreachable!("limited at last")
}

#[test]
fn welcome_tells_every_limit() {
    let server =
        Server::start(&[&RATES[..], &["--authenticate-ms=9000", "--retention=relay", "--retention-days=33"]].concat());
    let (_, limits) = hello(&server, "alice", "one");
    let told = json!({
        "textBytes": 64 << 10,
        "payloadBytes": 64 << 10,
        "frameBytes": 300 << 10,
        "jsonFrameBytes": 512 << 10,
        "unansweredRequests": 32,
        "fetchRecords": 100,
        "historyRecords": 100,
        "lookupIds": 100,
        "sliceBytes": 64 << 10,
        "slicesBytes": 256 << 10,
        "slices": 64,
        "groupMembers": 1_024,
        "watchedUsers": 200,
        "sendsPerSecond": 1,
        "sendsBurst": 3,
        "requestsPerSecond": 1,
        "requestsBurst": 2,
        "userSendsPerSecond": 1,
        "userSendsBurst": 6,
        "newConversationsPerDay": 7,
        "editMs": (15 * 60_000).to_string(),
        "eraseMs": (48 * 3_600_000).to_string(),
        "addressConnections": 41,
        "addressUpgradesPerSecond": 11,
        "headBytes": 8 << 10,
        "authenticateMs": "9000",
        "devices": 5,
        "retentionDays": 33,
    });
    assert_eq!(limits, told);
}

#[test]
fn the_rates_of_a_device_and_of_its_user_are_what_was_told() {
    let server = Server::start(&RATES);
    let start = Instant::now();
    let (mut phone, limits) = hello(&server, "alice", "phone");
    let (mut laptop, _) = hello(&server, "alice", "laptop");
    let (mut bob, _) = hello(&server, "bob", "phone");
    let burst = |name: &str| limits[name].as_u64().unwrap();
    // A slow machine gives time for one more each second.
    let fits = |answered: u64, burst: u64| (burst..=burst + start.elapsed().as_secs() + 1).contains(&answered);
    let of_phone = until_limited(|| say(&mut phone, "bob"));
    assert!(fits(of_phone, burst("sendsBurst")), "{of_phone}");
    let of_laptop = until_limited(|| say(&mut laptop, "bob"));
    assert!(fits(of_phone + of_laptop, burst("userSendsBurst")), "{of_phone} and {of_laptop}");
    assert_eq!(say(&mut bob, "alice")["error"], Value::Null, "another user has what is his");
    let asked = until_limited(|| bob.request(json!({"conversations": {}})));
    assert!(fits(asked, burst("requestsBurst")), "{asked}");
    assert!(bob.request(json!({"ping": {}})).get("pong").is_some(), "pings are free");
    assert_eq!(server.metrics().sum("ringpost_rate_limited_total", ""), 3.0);
}

#[test]
fn new_conversations_of_who_was_never_answered_are_what_was_told() {
    let server = Server::start(&["--new-conversations-per-day=7"]);
    let (mut alice, limits) = hello(&server, "alice", "one");
    let told = limits["newConversationsPerDay"].as_u64().unwrap();
    for n in 0..told {
        assert!(say(&mut alice, &format!("stranger{n}")).get("sent").is_some(), "{n}");
    }
    let refused = say(&mut alice, "one more");
    assert_eq!(refused["error"]["code"], "RATE_LIMITED", "{refused}");
    let hours = refused["error"]["retryAfterMs"].as_str().unwrap().parse::<u64>().unwrap() / 3_600_000;
    assert!((22..=24).contains(&hours), "{refused}");
    assert_eq!(server.metrics().sum("ringpost_beginnings_refused_total", ""), 1.0);
    assert!(say(&mut alice, "stranger0").get("sent").is_some(), "what was begun goes on");
}
