//! A server whose data was put back from a backup: clients lose nothing of what comes afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use support::ws::Client;
use support::{Dir, Gateway, finish, refused, ringpost};

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn stop(mut gateway: Gateway) {
    gateway.signal(Signal::TERM);
    assert!(gateway.wait().success());
}

fn say(gateway: &Gateway, texts: &[&str]) {
    let mut alice = Client::open(gateway.listen, &gateway.dev_token("alice", "phone"));
    for (n, text) in texts.iter().enumerate() {
        let id = (n + 2).to_string();
        alice.send(&json!({"id": id, "send": {"to": {"user": "bob"}, "text": text}}));
        assert!(alice.answer(&id)["sent"].is_object());
    }
}

/// Bob's hello, the welcome, and so many texts, acknowledged.
fn bob(gateway: &Gateway, hello: &Value, texts: usize) -> (Value, Vec<String>) {
    let bearer = format!("Bearer {}", gateway.dev_token("bob", "phone"));
    let mut client = Client::connect(gateway.listen, "/v1/connect", &[("authorization", &bearer)]).unwrap();
    client.send(&json!({"id": "1", "hello": hello}));
    let welcome = client.answer("1")["welcome"].clone();
    let mut got = Vec::new();
    while got.len() < texts {
        let push = client.frame_with("push")["push"].clone();
        got.extend(push["record"]["text"].as_str().map(str::to_owned));
        client.send(&json!({"ack": {"push": push["n"]}}));
    }
    client.assert_alive();
    (welcome, got)
}

#[test]
fn who_was_ahead_of_the_backup_gets_what_took_the_place_of_what_is_lost() {
    let dir = Dir::new();
    let (data, backup) = (dir.0.join("data"), dir.0.join("backup"));
    let gateway = Gateway::start_in(&data, &[]);
    say(&gateway, &["one", "two", "three"]);
    bob(&gateway, &json!({}), 3);
    stop(gateway);
    copy(&data, &backup);
    let gateway = Gateway::start_in(&data, &[]);
    say(&gateway, &["lost four", "lost five"]);
    let (before, got) = bob(&gateway, &json!({}), 2);
    assert_eq!(got, ["lost four", "lost five"]);
    let data_of_a_running = ["restored", "--data", data.to_str().unwrap()];
    refused(ringpost().args(data_of_a_running), &["in use"]);
    stop(gateway);

    copy(&backup, &data);
    let output = finish(ringpost().args(data_of_a_running));
    assert!(output.status.success(), "{output:?}");
    let gateway = Gateway::start_in(&data, &[]);
    say(&gateway, &["four", "five", "six"]);
    let have = json!([{"conversation": {"user": "alice"}, "seq": "5"}]);
    let hello = json!({"resumeToken": before["resumeToken"], "have": have});
    let (welcome, got) = bob(&gateway, &hello, 3);
    assert_eq!(got, ["four", "five", "six"], "none is taken for what was lost");
    assert_ne!(welcome["storeIncarnation"], before["storeIncarnation"]);
    assert_eq!(welcome["reset"], json!([{"conversation": {"user": "alice"}, "headSeq": "6"}]));
    // From here on it is as ever.
    let have = json!([{"conversation": {"user": "alice"}, "seq": "6"}]);
    let hello = json!({"resumeToken": welcome["resumeToken"], "have": have});
    let (again, _) = bob(&gateway, &hello, 0);
    assert!(again["reset"].is_null());
    assert_eq!(again["storeIncarnation"], welcome["storeIncarnation"]);
    stop(gateway);
    refused(ringpost().args(["restored", "--data", &dir.path("nothing")]), &["nothing"]);
}
