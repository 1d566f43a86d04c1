//! The load tool against a gateway in this process: what it reports is what was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use ringpost_gateway::config::Config;
use ringpost_gateway::server::Server;
use serde_json::Value;
use std::collections::HashSet;
use support::{Dir, figure, flood};

fn gateway(dir: &Dir) -> Server {
    let data = dir.path("data");
    let pairs = [("dev", "true"), ("listen", "127.0.0.1:0"), ("admin", "127.0.0.1:0"), ("data", data.as_str())];
    Server::start(Config::from_pairs(&pairs).unwrap()).unwrap()
}

#[test]
fn sessions_are_held_all_answer_a_ping_and_pairs_exchange_messages() {
    let dir = Dir::new();
    let server = gateway(&dir);
    let url = format!("ws://{}", server.ready().listen);
    let (status, report) = flood(&dir, &url, "connect --connections 300 --hold 1s --ping-all --pairs 50");
    assert_eq!(status, 0, "{report}");
    assert_eq!(report["connections"]["established"], 300);
    assert_eq!(figure(&report, "answered_ping"), 300.0);
    assert_eq!((&report["messages"]["acknowledged"], &report["messages"]["delivered"]), (&100.into(), &100.into()));
    server.stop();
}

#[test]
fn every_message_of_a_chat_is_acknowledged_delivered_and_on_file() {
    let dir = Dir::new();
    let server = gateway(&dir);
    let url = format!("ws://{}", server.ready().listen);
    let file = dir.path("sent.jsonl");
    let (status, report) = flood(&dir, &url, &format!("chat --users 60 --rate 500 --duration 3s --sent {file}"));
    assert_eq!(status, 0, "{report}");
    let messages = &report["messages"];
    assert_eq!((&messages["sent"], &messages["acknowledged"]), (&1_500.into(), &1_500.into()));
    assert_eq!((&messages["delivered"], &messages["missing"]), (&1_500.into(), &0.into()));
    assert_eq!(report["latencies"]["send_to_push"]["count"], 1_500);
    let lines = std::fs::read_to_string(&file).unwrap();
    let positions: HashSet<(String, u64)> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| (line["conversation"].as_str().unwrap().to_owned(), line["seq"].as_u64().unwrap()))
        .collect();
    assert_eq!(positions.len(), 1_500, "each acknowledged message has a position of its own");
    server.stop();
}

#[test]
fn the_wire_ping_and_the_echo_endpoint_answer() {
    let dir = Dir::new();
    let server = gateway(&dir);
    let url = format!("ws://{}", server.ready().listen);
    for question in ["", "--echo"] {
        let (status, report) =
            flood(&dir, &url, &format!("ping --connections 50 --active 20 --duration 1s {question}"));
        assert_eq!(status, 0, "{question} {report}");
        assert_eq!(report["connections"]["established"], 50);
    }
    server.stop();
}
