//! Starts that the machine refuses, and how a good start ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use rustix::process::Signal;
use serde_json::json;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;
use support::ws::Client;
use support::{Dir, Gateway, finish, http, refused, ringpost, serve};

#[test]
fn a_port_that_is_taken_is_named() {
    let dir = Dir::new();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    refused(serve(&dir).args(["--admin", &address]), &[&address, "admin", "in use"]);
    refused(serve(&dir).args(["--listen", &address]), &[&address, "in use"]);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let dir = Dir::new();
    // A file where the directory should be: refused to root as well.
    let file = dir.file("file", "");
    let below = file.join("data");
    refused(serve(&dir).arg("--data").arg(&below), &[below.to_str().unwrap()]);
    refused(serve(&dir).arg("--data").arg(&file), &[file.to_str().unwrap()]);
}

#[test]
fn a_data_directory_in_use_is_named() {
    let dir = Dir::new();
    let data = dir.0.join("data");
    let _first = Gateway::start_in(&data, &[]);
    refused(&mut serve(&dir), &[data.to_str().unwrap(), "in use"]);
}

#[test]
fn where_io_uring_is_refused_the_cause_and_the_setting_are_named() {
    let dir = Dir::new();
    // A seccomp filter that answers io_uring_setup with EPERM, as container runtimes do.
    let mut python = Command::new("python3");
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/deny_io_uring.py"));
    let serve = serve(&dir);
    python.arg(serve.get_program()).args(serve.get_args());
    refused(&mut python, &["io_uring", "seccomp"]);
}

#[test]
fn a_token_of_the_command_is_taken_by_the_gateway() {
    let gateway = Gateway::start(&[]);
    let output = finish(ringpost().args(["token", "--user", "alice", "--device", "laptop"]));
    let bearer = format!("Bearer {}", std::str::from_utf8(&output.stdout).unwrap().trim());
    let answer = http(gateway.listen, "POST", "/v1/ticket", &[("authorization", &bearer)], "");
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn a_signal_stops_it_gracefully() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = Gateway::start(&[]);
        assert_eq!(gateway.get("/readyz").status, 200);
        gateway.signal(signal);
        assert!(gateway.wait().success());
    }
}

#[test]
fn after_a_stop_the_same_directory_and_ports_serve_again() {
    let dir = Dir::new();
    let data = dir.0.join("data");
    let mut first = Gateway::start_in(&data, &[]);
    let (listen, admin) = (first.listen.to_string(), first.admin.to_string());
    first.signal(Signal::TERM);
    first.wait();
    let second = Gateway::start_in(&data, &["--listen", &listen, "--admin", &admin]);
    assert_eq!(second.get("/readyz").status, 200);
}

#[test]
fn without_dev_only_tokens_of_the_key_file_count() {
    let dir = Dir::new();
    dir.file("internal.key", "0123456789abcdef0123456789abcdef\n");
    let keys = dir.file("keys.toml", "[[keys]]\nid = \"internal\"\nalg = \"HS256\"\nsecret_file = \"internal.key\"\n");
    let keys = keys.to_str().unwrap();
    let mut command = ringpost();
    command.args(["serve", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--data", &dir.path("data")]);
    command.args(["--token-keys", keys, "--token-issuer=us"]);
    let gateway = Gateway::spawn(command);
    let ticket = |arguments: &[&str]| {
        let output = finish(ringpost().args(["token", "--user", "alice"]).args(arguments));
        let bearer = format!("Bearer {}", std::str::from_utf8(&output.stdout).unwrap().trim());
        http(gateway.listen, "POST", "/v1/ticket", &[("authorization", &bearer)], "").status
    };
    assert_eq!(ticket(&["--token-keys", keys, "--token-issuer=us", "--key=internal"]), 200);
    assert_eq!(ticket(&["--token-keys", keys, "--token-issuer=them"]), 401);
    assert_eq!(ticket(&[]), 401, "a development token");
    assert_eq!(http(gateway.listen, "POST", "/v1/dev/token", &[], "{\"user\":\"alice\"}").status, 404);
}

#[test]
fn a_signal_while_sessions_talk_loses_nothing_acknowledged() {
    let dir = Dir::new();
    let data = dir.0.join("data");
    let mut gateway = Gateway::start_in(&data, &[]);
    let mut alice = Client::open(gateway.listen, &gateway.dev_token("alice", "web"));
    for n in 1..=20 {
        alice.send(&json!({"id": n.to_string(), "send": {"to": {"user": "bob"}, "text": format!("m{n}")}}));
    }
    // The first answers are there; the others are cut off wherever they are.
    assert_eq!(alice.answer("1")["sent"]["seq"], "1");
    gateway.signal(Signal::TERM);
    let (frames, code) = alice.closed();
    assert_eq!(code, 4000);
    let acknowledged = 1 + frames.iter().filter(|frame| frame["sent"].is_object()).count();
    assert!(gateway.wait().success());
    let gateway = Gateway::start_in(&data, &[]);
    let mut bob = Client::open(gateway.listen, &gateway.dev_token("bob", "web"));
    bob.send(&json!({"id": "7", "history": {"conversation": {"user": "alice"}}}));
    let page = bob.answer("7");
    let texts: Vec<_> = page["page"]["records"].as_array().unwrap().iter().rev().map(|r| r["text"].clone()).collect();
    assert!(texts.len() >= acknowledged, "{acknowledged} acknowledged, {texts:?} stored");
    let sent: Vec<_> = (1..=texts.len()).map(|n| json!(format!("m{n}"))).collect();
    assert_eq!(texts, sent);
}

/// More registers than one request of the store holds.
#[test]
fn what_many_have_read_is_there_after_a_stop() {
    let dir = Dir::new();
    let data = dir.0.join("data");
    let mut gateway = Gateway::start_in(&data, &[]);
    let names: Vec<String> = (0..150).map(|n| format!("m{n}")).collect();
    let mut alice = Client::open(gateway.listen, &gateway.dev_token("alice", "web"));
    alice.send(&json!({"id": "1", "groupCreate": {"name": "many", "members": names}}));
    let group = alice.answer("1")["group"]["group"].clone();
    alice.send(&json!({"id": "2", "send": {"to": {"group": group}, "text": "hi"}}));
    let seq = alice.answer("2")["sent"]["seq"].clone();
    for name in &names {
        let mut member = Client::open(gateway.listen, &gateway.dev_token(name, "web"));
        // The group, and the message.
        for _ in 0..2 {
            let push = member.frame_with("push");
            member.send(&json!({"ack": {"push": push["push"]["n"]}}));
        }
        member.send(&json!({"id": "7", "read": {"conversation": {"group": group}, "seq": seq}}));
        assert!(member.answer("7")["ok"].is_object());
    }
    gateway.signal(Signal::TERM);
    assert!(gateway.wait().success());
    let gateway = Gateway::start_in(&data, &[]);
    let mut alice = Client::open(gateway.listen, &gateway.dev_token("alice", "web"));
    alice.send(&json!({"id": "1", "recordInfo": {"conversation": {"group": group}, "seq": seq}}));
    let members = alice.answer("1")["recordInfo"]["members"].as_array().unwrap().clone();
    assert_eq!(members.len(), names.len());
    assert!(members.iter().all(|member| member["state"] == "READ"), "{members:?}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut gateway = Gateway::start(&["--drain-ms=600000"]);
    // A request whose body does not come: the stop waits for it.
    let mut slow = TcpStream::connect(gateway.listen).unwrap();
    slow.write_all(b"POST /v1/dev/token HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n").unwrap();
    gateway.await_metric("ringpost_connections{state=\"http\"}", 1.0);
    gateway.signal(Signal::TERM);
    while http(gateway.admin, "GET", "/readyz", &[], "").json()["draining"] != true {}
    // Signals closer together than 200 ms are taken for one.
    std::thread::sleep(Duration::from_millis(250));
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(1));
}
