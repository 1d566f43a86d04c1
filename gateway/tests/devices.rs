//! Devices over real sockets: linking, unlinking, limits, and messages with a ciphertext for each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{Client, Server, authorization, token, upgrade_request};
use ringpost_gateway::transport::websocket::Event;
use serde_json::{Value, json};

fn devices(client: &mut Client) -> Vec<String> {
    let list = client.request(json!({"devices": {}}));
    let devices = list["deviceList"]["devices"].as_array().unwrap_or_else(|| panic!("{list}")).clone();
    devices.iter().map(|it| it["device"].as_str().unwrap().to_owned()).collect()
}

/// Says hello with this token as browsers do, and gives the answer, or the code of the close.
fn hello(server: &Server, token: &str) -> Result<Client, (Value, u16)> {
    let mut client = Client::upgrade(server, "/v1/connect", "");
    client.send_json(&json!({"id": "1", "hello": {"token": token}}));
    let mut answer = Value::Null;
    loop {
        match client.event() {
            Some(Event::Message { payload, .. }) => {
                answer = serde_json::from_slice(&payload).unwrap();
                if answer.get("welcome").is_some() {
                    return Ok(client);
                }
            }
            Some(Event::Close { code, .. }) => return Err((answer, code.expect("a close code"))),
            Some(_) => {}
            None => panic!("closed without a code after {answer}"),
        }
    }
}

fn slice(user: &str, device: &str, bytes: &str) -> Value {
    json!({"user": user, "device": device, "bytes": bytes})
}

fn sliced(to: &str, id: &str, slices: &[Value]) -> Value {
    json!({"send": {"to": {"user": to}, "clientMessageId": id, "kind": "DATA", "slices": slices}})
}

/// The next record that is pushed.
fn record(client: &mut Client) -> Value {
    loop {
        let frame = client.unasked.pop_front().unwrap_or_else(|| client.json());
        if let Some(record) = frame["push"].get("record") {
            return record.clone();
        }
    }
}

#[test]
fn an_unlinked_device_is_closed_and_comes_back_only_with_a_newer_token() {
    let server = Server::start(&[]);
    let old = token("alice", "laptop");
    let mut phone = Client::open(&server, "alice", "phone");
    let mut laptop = hello(&server, &old).expect("a welcome");
    assert_eq!(devices(&mut phone), ["phone", "laptop"]);
    let refused = laptop.request(json!({"deviceUnlink": {"device": "phone"}}));
    assert_eq!(refused["error"]["code"], "FORBIDDEN");
    let left = phone.request(json!({"deviceUnlink": {"device": "laptop"}}));
    assert_eq!(left["deviceList"]["devices"][0]["device"], "phone", "{left}");
    assert_eq!(laptop.closed().0, 4503);
    let (_, code) = hello(&server, &old).err().expect("a close");
    assert_eq!(code, 4501, "as any bad token");
    // Newer is told in milliseconds: a token of the same one as the unlinking counts as issued before it.
    std::thread::sleep(Duration::from_millis(2));
    let fresh = token("alice", "laptop");
    assert!(hello(&server, &fresh).is_ok(), "a newer token links it anew");
    assert_eq!(devices(&mut phone), ["phone", "laptop"]);
    assert_eq!(server.metrics().sum("ringpost_devices_total", "unlinked"), 1.0);
}

#[test]
fn five_devices_are_linked_whether_they_are_there_or_not() {
    let server = Server::start(&[]);
    for number in 1..=5 {
        Client::open(&server, "alice", &format!("device{number}"));
    }
    let (answer, code) = hello(&server, &token("alice", "device6")).err().expect("a close");
    assert_eq!((&answer["error"]["code"], code), (&json!("DEVICE_LIMIT"), 4501));
    let mut first = Client::open(&server, "alice", "device1");
    first.request(json!({"deviceUnlink": {"device": "device4"}}));
    assert!(hello(&server, &token("alice", "device6")).is_ok());
    // While five are connected a header is answered with a status.
    let mut others: Vec<_> = [2, 3, 5].iter().map(|n| Client::open(&server, "alice", &format!("device{n}"))).collect();
    let mut sixth = Client::open(&server, "alice", "device6");
    let upgrade = upgrade_request("/v1/connect", &authorization(&token("alice", "device4")));
    assert_eq!(server.request(upgrade.as_bytes()).status, 409);
    for client in others.iter_mut().chain([&mut sixth, &mut first]) {
        assert!(client.request(json!({"ping": {}})).get("pong").is_some());
    }
}

#[test]
fn slices_reach_their_devices_and_a_wrong_set_is_refused() {
    let server = Server::start(&["--shards", "2"]);
    let [mut phone, mut laptop] = ["phone", "laptop"].map(|device| Client::open(&server, "alice", device));
    let mut bob = Client::open(&server, "bob", "phone");
    let lists = phone.request(json!({"deviceLists": {"users": ["alice", "bob"]}}));
    let named: Vec<_> = lists["deviceLists"]["lists"].as_array().unwrap().iter().map(|it| &it["devices"]).collect();
    assert_eq!(named, [&json!([{"device": "laptop"}]), &json!([{"device": "phone"}])]);
    let id = "AQEBAQEBAQEBAQEBAQEBAQ==";
    let refused = phone.request(sliced("bob", id, &[slice("bob", "phone", "Ym9i"), slice("bob", "old", "Ym9i")]));
    assert_eq!(refused["error"]["code"], "DEVICE_MISMATCH");
    let details = &refused["error"]["details"]["deviceMismatch"];
    assert_eq!(details["missing"], json!([{"user": "alice", "device": "laptop"}]), "{refused}");
    assert_eq!(details["extra"], json!([{"user": "bob", "device": "old"}]));
    let right = [slice("bob", "phone", "Ym9i"), slice("alice", "laptop", "b3du")];
    let sent = phone.request(sliced("bob", id, &right));
    assert_eq!(sent["sent"]["seq"], "1", "{sent}");
    assert_eq!(record(&mut bob)["payload"], "Ym9i");
    let own = record(&mut laptop);
    assert_eq!((&own["payload"], &own["clientMessageId"]), (&json!("b3du"), &json!(id)));
    let again = phone.request(sliced("bob", id, &right));
    assert_eq!(again["sent"]["duplicate"], true, "{again}");
}

#[test]
fn what_one_device_sends_and_reads_the_others_of_its_user_hear() {
    let server = Server::start(&[]);
    let [mut phone, mut laptop] = ["phone", "laptop"].map(|device| Client::open(&server, "alice", device));
    let mut bob = Client::open(&server, "bob", "phone");
    phone.request(json!({"send": {"to": {"user": "bob"}, "text": "hi"}}));
    assert_eq!(record(&mut laptop)["text"], "hi");
    bob.request(json!({"send": {"to": {"user": "alice"}, "text": "hello"}}));
    assert_eq!(record(&mut laptop)["text"], "hello");
    assert_eq!(record(&mut phone)["text"], "hello");
    phone.send_json(&json!({"ack": {"push": "1"}}));
    assert!(phone.request(json!({"read": {"conversation": {"user": "bob"}, "seq": "2"}})).get("ok").is_some());
    let mark = loop {
        let frame = laptop.unasked.pop_front().unwrap_or_else(|| laptop.json());
        if let Some(mark) = frame["push"].get("readMark") {
            break mark.clone();
        }
    };
    assert_eq!(mark, json!({"conversation": {"user": "bob"}, "seq": "2"}));
}

#[test]
fn an_operator_unlinks_a_device_by_command() {
    let server = Server::start(&["--shards", "2"]);
    let mut phone = Client::open(&server, "alice", "phone");
    let revoke = |device: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ringpost"));
        command.args(["revoke", "alice", device, "--admin", &server.admin.to_string()]).output().expect("it runs")
    };
    let unknown = revoke("watch");
    assert!(!unknown.status.success() && String::from_utf8_lossy(&unknown.stderr).contains("no such device"));
    let done = revoke("phone");
    assert_eq!((done.status.success(), &*done.stdout), (true, &b"unlinked: phone of alice\n"[..]), "{done:?}");
    assert_eq!(phone.closed().0, 4503);
    assert!(revoke("phone").status.success(), "done is done");
}
