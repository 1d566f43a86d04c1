//! A user's data, exported and erased by command while the server runs and others talk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Output;
use std::time::Duration;
use support::ws::Client;
use support::{Dir, Gateway, PATIENCE, finish, http, ringpost};

const ONE_SHARD: [&str; 4] = ["--shards", "1", "--max-sessions", "1000"];

fn open(gateway: &Gateway, user: &str) -> Client {
    Client::open(gateway.listen, &gateway.dev_token(user, "phone"))
}

/// The answer to a request; anything but an error.
fn ask(client: &mut Client, id: u32, request: Value) -> Value {
    let mut frame = request;
    frame["id"] = json!(id.to_string());
    client.send(&frame);
    let answer = client.answer(&id.to_string());
    assert!(answer["error"].is_null(), "{frame}: {answer}");
    answer
}

fn send(client: &mut Client, id: u32, to: &Value, more: Value) {
    let mut send = json!({ "to": to });
    send.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ask(client, id, json!({ "send": send }));
}

fn user(gateway: &Gateway, arguments: &[&str]) -> Output {
    finish(ringpost().arg("user").args(arguments).args(["--admin", &gateway.admin.to_string()]))
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The lines of an export: (name, what follows).
fn export(gateway: &Gateway, name: &str) -> Vec<(String, Value)> {
    let text = stdout(&user(gateway, &["export", name]));
    let line = |line: &str| {
        let json: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let (name, value) = json.as_object().unwrap().iter().next().unwrap();
        (name.clone(), value.clone())
    };
    text.lines().map(line).collect()
}

fn named<'a>(lines: &'a [(String, Value)], name: &str) -> Vec<&'a Value> {
    lines.iter().filter(|(found, _)| found == name).map(|(_, value)| value).collect()
}

/// Alice has written to bob, in a group of both, and to carl, whom she blocked; the group's id.
fn talk(gateway: &Gateway, alice: &mut Client, bob: &mut Client) -> Value {
    let to_bob = json!({"user": "bob"});
    ask(alice, 2, json!({"settings": {"profile": {"name": "Alice"}, "lastSeen": "NOBODY"}}));
    send(alice, 3, &to_bob, json!({"text": "helo bob"}));
    send(alice, 4, &to_bob, json!({"kind": "EDIT", "refSeq": "1", "text": "hello bob"}));
    send(bob, 5, &json!({"user": "alice"}), json!({"text": "hello alice"}));
    send(alice, 6, &to_bob, json!({"kind": "REACTION", "refSeq": "3", "text": "+"}));
    send(alice, 7, &json!({"user": "carl"}), json!({"payload": "c2VjcmV0", "kind": "DATA"}));
    ask(alice, 8, json!({"block": {"user": "carl"}}));
    let created = ask(alice, 9, json!({"groupCreate": {"name": "climbing", "members": ["bob"]}}));
    let group = created["group"]["group"].clone();
    send(alice, 10, &json!({ "group": group }), json!({"text": "who comes?"}));
    send(bob, 11, &json!({ "group": group }), json!({"text": "me"}));
    // What is not hers: between others.
    send(&mut open(gateway, "carl"), 2, &to_bob, json!({"text": "between carl and bob"}));
    group
}

#[test]
fn an_export_holds_what_the_user_may_see_and_nothing_else() {
    let gateway = Gateway::start(&[]);
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| open(&gateway, name));
    let group = talk(&gateway, &mut alice, &mut bob);
    let lines = export(&gateway, "alice");
    assert_eq!(lines[0], ("user".to_owned(), json!({"tenant": "default", "user": "alice"})));
    assert_eq!(named(&lines, "settings"), [&json!({"profile": {"name": "Alice"}, "lastSeen": "NOBODY"})]);
    let mut peers: Vec<_> = named(&lines, "conversation").iter().map(|it| it["peer"].to_string()).collect();
    peers.sort();
    let mut expected =
        [json!({"user": "bob"}), json!({"user": "carl"}), json!({ "group": group })].map(|it| it.to_string());
    expected.sort();
    assert_eq!(peers, expected);
    let records = named(&lines, "record");
    let texts: Vec<_> = records.iter().filter_map(|record| record["text"].as_str()).collect();
    for text in ["helo bob", "hello bob", "hello alice", "+", "who comes?", "me"] {
        assert!(texts.contains(&text), "{text} in {texts:?}");
    }
    let group_title =
        named(&lines, "conversation").iter().find(|it| it["title"] == "climbing").map(|it| it["headSeq"].clone());
    assert_eq!(group_title, Some(json!("3")));
    let secret = records.iter().find(|record| record["payload"] == "c2VjcmV0").expect("the payload");
    assert_eq!((&secret["conversation"], secret["seq"].as_str()), (&json!({"user": "carl"}), Some("1")));
    assert!(secret["clientMessageId"].is_string(), "her own");
    assert_eq!(named(&lines, "blocked"), [&json!({"user": "carl"})]);
    assert_eq!(lines.last().unwrap(), &("end".to_owned(), json!({"conversations": 3, "records": records.len()})));
    // Carl was blocked afterwards: he has the message, and no word of the block.
    let carl = export(&gateway, "carl");
    assert_eq!(named(&carl, "record").len(), 2, "{carl:?}");
    // Whoever was never here has nothing; other tenants have nothing.
    assert_eq!(export(&gateway, "nobody").last().unwrap().1, json!({"conversations": 0, "records": 0}));
    let elsewhere = stdout(&user(&gateway, &["export", "alice", "--tenant", "acme"]));
    assert_eq!(elsewhere.lines().count(), 2, "{elsewhere}");
    assert_eq!(gateway.metric("ringpost_user_exports_total{outcome=\"done\"}"), 4.0);
}

#[test]
fn an_erasure_is_first_said_then_done_and_heard_by_who_is_there() {
    let dir = Dir::new();
    let data = dir.0.join("data");
    let mut gateway = Gateway::start_in(&data, &[]);
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| open(&gateway, name));
    let group = talk(&gateway, &mut alice, &mut bob);
    let before = export(&gateway, "alice");
    let dry = stdout(&user(&gateway, &["erase", "alice"]));
    assert!(dry.starts_with("would erase: 5 records in 3 conversations, 1 groups, "), "{dry}");
    assert_eq!(export(&gateway, "alice"), before, "nothing has changed");
    bob.send(&json!({"id": "30", "ping": {}}));
    bob.answer("30");

    let done = stdout(&user(&gateway, &["erase", "alice", "--yes"]));
    assert!(done.starts_with("erased: 5 records in 3 conversations, 1 groups, "), "{done}");
    assert_eq!(alice.closed().1, 4503);
    // Bob hears of each: three erasures between the two, one in the group, and that she left it.
    let mut erased: Vec<(String, String)> = Vec::new();
    let mut left = false;
    while erased.len() < 4 || !left {
        let record = bob.frame_with("push")["push"]["record"].clone();
        if record["kind"] == "ERASE" {
            erased.push((record["conversation"].to_string(), record["refSeq"].as_str().unwrap().to_owned()));
        }
        left |= record["change"]["left"].is_object();
    }
    erased.sort();
    let with_alice = json!({"user": "alice"}).to_string();
    let seqs = |erased: &[(String, String)], of: &str| -> Vec<String> {
        erased.iter().filter(|(peer, _)| peer == of).map(|(_, seq)| seq.clone()).collect()
    };
    assert_eq!(seqs(&erased, &with_alice), ["1", "2", "4"]);
    assert_eq!(seqs(&erased, &json!({ "group": group }).to_string()), ["2"]);
    let got = ask(&mut bob, 31, json!({"groupGet": {"group": group}}));
    assert_eq!(got["group"]["members"].as_array().unwrap().len(), 1);
    assert_eq!(got["group"]["members"][0]["role"], "ADMIN", "the heir");

    let check = |gateway: &Gateway| {
        let lines = export(gateway, "alice");
        let text = format!("{lines:?}");
        for gone in ["helo bob", "hello bob", "who comes?", "c2VjcmV0", "Alice"] {
            assert!(!text.contains(gone), "{gone} in {text}");
        }
        assert!(named(&lines, "settings").is_empty());
        let own =
            |record: &&&Value| record["from"] == "alice" && record["change"].is_null() && record["kind"] != "ERASE";
        let records = named(&lines, "record");
        let own: Vec<_> = records.iter().filter(own).collect();
        assert_eq!(own.len(), 5);
        assert!(own.iter().all(|record| record["erased"] == true && record["text"].is_null()));
        assert!(text.contains("hello alice") && text.contains("\"me\""), "what others said to her is theirs");
    };
    check(&gateway);
    let again = stdout(&user(&gateway, &["erase", "alice", "--yes"]));
    assert!(again.starts_with("erased: 0 records in 3 conversations, 0 groups, "), "{again}");
    assert_eq!(gateway.metric("ringpost_user_records_erased_total"), 5.0);
    assert_eq!(gateway.metric("ringpost_user_erasures_total{outcome=\"done\"}"), 2.0);
    gateway.signal(rustix::process::Signal::KILL);
    gateway.wait();
    check(&Gateway::start_in(&data, &[]));
}

#[test]
fn an_erasure_that_was_cut_off_is_finished_by_the_next_one() {
    const MESSAGES: u32 = 1_500;
    let dir = Dir::new();
    let data = dir.0.join("data");
    let mut gateway = Gateway::start_in(&data, &ONE_SHARD);
    let mut alice = open(&gateway, "alice");
    for n in 0..MESSAGES {
        alice
            .send(&json!({"id": (n + 2).to_string(), "send": {"to": {"user": format!("peer{}", n % 7)}, "text": "x"}}));
    }
    let last = (MESSAGES + 1).to_string();
    assert!(alice.answer(&last)["sent"].is_object());
    let mut running = post(&gateway, "/admin/users/alice/erase?yes=true");
    // As soon as some are gone the server is killed.
    let erased = "ringpost_user_records_erased_total";
    while gateway.metric(erased) < 20.0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    gateway.signal(rustix::process::Signal::KILL);
    gateway.wait();
    let mut line = String::new();
    while matches!(running.read_line(&mut line), Ok(read) if read > 0) {}
    assert!(!line.contains("\"end\""), "{line}");

    let gateway = Gateway::start_in(&data, &ONE_SHARD);
    // One whose reader goes away ends as well.
    drop(post(&gateway, "/admin/users/alice/erase?yes=true"));
    let done = stdout(&user(&gateway, &["erase", "alice", "--yes"]));
    assert!(done.contains(" in 7 conversations"), "{done}");
    let lines = export(&gateway, "alice");
    let texts = named(&lines, "record").into_iter().filter(|record| record["kind"].is_null());
    let (mut all, mut gone) = (0, 0);
    for record in texts {
        all += 1;
        gone += u32::from(record["erased"] == true);
    }
    assert_eq!((all, gone), (MESSAGES, MESSAGES));
    let erasures = named(&lines, "record").into_iter().filter(|record| record["kind"] == "ERASE").count() as u32;
    assert_eq!(erasures, MESSAGES, "each once");
}

#[test]
fn what_is_on_its_way_when_the_sessions_end_is_erased_as_well() {
    const AHEAD: u32 = 24;
    let gateway = Gateway::start(&[]);
    for round in 0..4 {
        let name = format!("alice{round}");
        let mut client = open(&gateway, &name);
        let peer = format!("bob{round}");
        // Ends with the panic that the close is for this client.
        let writing = std::thread::spawn(move || {
            for id in 2.. {
                client.send(&json!({"id": id.to_string(), "send": {"to": {"user": peer}, "text": "secret"}}));
                if id >= 2 + AHEAD {
                    client.answer(&(id - AHEAD).to_string());
                }
            }
        });
        std::thread::sleep(Duration::from_millis(100));
        let done = stdout(&user(&gateway, &["erase", &name, "--yes"]));
        assert!(done.starts_with("erased: "), "{done}");
        assert!(writing.join().is_err(), "it was closed");
        let lines = export(&gateway, &name);
        let left = named(&lines, "record").into_iter().filter(|record| record["text"] == "secret").count();
        assert_eq!(left, 0, "after {done}");
    }
}

fn post(gateway: &Gateway, target: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(gateway.admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "POST {target} HTTP/1.0\r\nhost: x\r\ncontent-length: 0\r\n\r\n").unwrap();
    BufReader::new(stream)
}

#[test]
fn who_must_not_or_cannot_is_told_why() {
    let gateway = Gateway::start(&ONE_SHARD);
    let export = "/admin/users/alice/export";
    assert_eq!(http(gateway.admin, "POST", export, &[], "").status, 200);
    assert_eq!(http(gateway.admin, "GET", export, &[], "").status, 405);
    let page = [("origin", "http://127.0.0.1:7601")];
    for path in [export, "/admin/users/alice/erase?yes=true"] {
        assert_eq!(http(gateway.admin, "POST", path, &page, "").status, 403, "a page in a browser");
        assert_eq!(http(gateway.listen, "POST", path, &[], "").status, 404, "not on the public port");
    }
    for path in ["/admin/users/alice/erase?yes=perhaps", "/admin/revoke?user=alice", "/admin/users/%ff/export"] {
        let answer = http(gateway.admin, "POST", path, &[], "");
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("INVALID")), "{path}");
    }
    let failed = |output: &Output, part: &str| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(part), "{part:?} in {stderr:?}");
    };
    failed(&user(&gateway, &["export", "a\u{1}b"]), "refused by the server");
    failed(&user(&gateway, &["erase", &"x".repeat(65), "--yes"]), "refused by the server");
    failed(&finish(ringpost().args(["user", "export", "alice", "--admin", "127.0.0.1:1"])), "admin port 127.0.0.1:1");
    failed(&finish(ringpost().args(["user", "burn", "alice"])), "burn");
    failed(&finish(ringpost().args(["user", "erase"])), "USER");
}
