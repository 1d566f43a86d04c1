//! The load tool against a gateway in this process: what it reports is what was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use ringpost_gateway::config::Config;
use ringpost_gateway::server::Server;
use ringpost_gateway::shard::stats::Stat;
use serde_json::Value;
use std::collections::HashSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Dir, figure, flood};

fn gateway(dir: &Dir) -> Server {
    gateway_with(dir, &[])
}

fn gateway_with(dir: &Dir, more: &[(&str, &str)]) -> Server {
    let data = dir.path("data");
    let mut pairs = vec![
        ("dev", "true"),
        ("listen", "127.0.0.1:0"),
        ("admin", "127.0.0.1:0"),
        ("data", data.as_str()),
        // Sends are not refused because the machine's disk is rather full.
        ("disk_floor", "1"),
    ];
    pairs.extend(more);
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
fn sessions_are_held_until_standard_input_ends() {
    let dir = Dir::new();
    let server = gateway(&dir);
    let mut run = Command::new(env!("CARGO_BIN_EXE_flood"))
        .args(["connect", "--quiet", "--connections", "20", "--hold", "10m", "--hold-until-eof", "--ping-all"])
        .args(["--url", &format!("ws://{}", server.ready().listen)])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let open = || server.stats().value(Stat::ConnOpen);
    let began = Instant::now();
    while open() < 20 {
        assert!(began.elapsed() < Duration::from_secs(30), "{} sessions", open());
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((run.try_wait().unwrap(), open()), (None, 20));
    drop(run.stdin.take());
    assert!(run.wait().unwrap().success(), "all are there and answer a ping");
    assert!(began.elapsed() < Duration::from_secs(60));
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
fn a_number_of_messages_is_sent_as_fast_as_the_gateway_answers_and_fewer_are_a_failure() {
    let dir = Dir::new();
    let server = gateway(&dir);
    let url = format!("ws://{}", server.ready().listen);
    let admin = server.ready().admin;
    let fill = format!("chat --users 20 --bytes 32000 --rate 100000 --unanswered 8 --admin {admin}");
    let (status, report) = flood(&dir, &url, &format!("{fill} --messages 300 --duration 1m --prefix fill"));
    assert_eq!(status, 0, "{report}");
    assert_eq!((&report["messages"]["sent"], &report["messages"]["delivered"]), (&300.into(), &300.into()));
    assert!(figure(&report, "checkpoints") >= 0.0, "the gateway was asked for its upkeep");
    // All of them lie outside of any upkeep, or the store was busy meanwhile; none is left out.
    let of = |name: &str| report["latencies"][name]["count"].as_u64().unwrap_or(0);
    let beside: u64 =
        ["checkpoints", "merges", "neither"].map(|what| of(&format!("send_to_sent_in_{what}"))).iter().sum();
    assert!(beside >= 300, "{report}");
    let (status, report) = flood(&dir, &url, &format!("{fill} --messages 1000000 --duration 200ms --prefix short"));
    assert_eq!(status, 1);
    let sent = report["messages"]["sent"].as_u64().unwrap();
    assert!(sent > 0 && sent < 1_000_000 && report["messages"]["delivered"] == sent, "{report}");
    assert_eq!(report["missed"][0], format!("only {sent} of 1000000 messages were sent in time"));
    assert_eq!(report["missed"].as_array().unwrap().len(), 1);
    server.stop();
}

#[test]
fn a_mix_of_pairs_and_groups_is_whole_though_users_come_and_go() {
    let dir = Dir::new();
    let server = gateway(&dir);
    let url = format!("ws://{}", server.ready().listen);
    let arguments = "chat --users 200 --rate 400 --duration 3s --mix --away 500ms --settle 30s --admin";
    let (status, report) = flood(&dir, &url, &format!("{arguments} {}", server.ready().admin));
    assert_eq!(status, 0, "{report}");
    assert!(figure(&report, "server_rss_first") > 1.0 && figure(&report, "server_rss_last") > 1.0);
    let messages = &report["messages"];
    assert_eq!((&messages["sent"], &messages["acknowledged"]), (&1_200.into(), &1_200.into()));
    assert_eq!(messages["delivered"], messages["owed"]);
    // 30 % of 1,200 to 19 others each, within six standard deviations of a fair draw.
    let owed = messages["owed"].as_u64().unwrap();
    assert!((840 + 265 * 19..=840 + 455 * 19).contains(&owed), "{owed}");
    for latency in ["send_to_push_direct", "send_to_push_group", "send_to_sent_direct", "send_to_sent_group"] {
        assert!(report["latencies"][latency]["count"].as_u64().unwrap() > 0, "{latency}: {report}");
    }
    for inside in ["server_send_direct", "server_send_group", "server_commit", "server_turn"] {
        assert!(report["server"][inside]["count"].as_u64().unwrap() > 0, "{inside}: {report}");
    }
    let over_time = report["over_time"].as_array().unwrap();
    assert_eq!((over_time.len(), over_time[0]["seconds"].as_f64()), (3, Some(1.0)), "{report}");
    assert!(over_time.iter().all(|slice| slice["push_p99_us"].as_u64() > Some(0) && slice["rss_mib"].is_f64()));
    // Ten at a time for half a second each.
    assert!(report["latencies"]["return_to_synced"]["count"].as_u64().unwrap() >= 20, "{report}");
    server.stop();
}

#[test]
fn all_who_drop_at_once_come_back_to_everything_that_they_missed() {
    let dir = Dir::new();
    let server = gateway(&dir);
    let url = format!("ws://{}", server.ready().listen);
    for spread in ["0s", "500ms"] {
        let arguments = format!("storm --users 190 --messages 300 --rate 1000 --away 200ms --spread {spread}");
        let (status, report) = flood(&dir, &url, &arguments);
        assert_eq!(status, 0, "{report}");
        assert_eq!(report["messages"]["delivered"], 300 * 19);
        assert_eq!(report["latencies"]["return_to_synced"]["count"], 190);
        assert_eq!(report["connections"]["reconnected"], 190);
        assert!(figure(&report, "all_synced") > 0.0);
    }
    let (status, report) = flood(&dir, &url, "storm --users 100 --away 0s");
    assert_eq!((status, &report["messages"]["sent"]), (0, &0.into()), "{report}");
    server.stop();
}

#[test]
fn devices_that_were_away_are_given_their_backlog_newest_conversation_first() {
    let dir = Dir::new();
    let server = gateway(&dir);
    let url = format!("ws://{}", server.ready().listen);
    let (status, report) = flood(&dir, &url, "backlog --devices 5 --together 2 --conversations 30 --records 900");
    assert_eq!(status, 0, "{report}");
    // Three sets; one has one device.
    assert_eq!((&report["messages"]["sent"], &report["messages"]["delivered"]), (&2_700.into(), &4_500.into()));
    assert_eq!(figure(&report, "records_on_return"), 4_500.0);
    server.stop();
}

#[test]
fn every_online_member_of_a_large_group_is_pushed_every_message() {
    let dir = Dir::new();
    let server = gateway(&dir);
    let url = format!("ws://{}", server.ready().listen);
    let admin = server.ready().admin;
    for (arguments, pushes) in [
        ("--members 300 --online 101 --rate 20 --duration 1s", Some(20 * 100)),
        ("--members 60 --online 50 --groups 4 --rate 40 --duration 1s", Some(40 * 49)),
        ("--members 60 --online 50 --groups 4 --shared --duration 500ms", None),
    ] {
        let (status, report) = flood(&dir, &url, &format!("fanout {arguments} --admin {admin}"));
        assert_eq!(status, 0, "{arguments}: {report}");
        let delivered = report["messages"]["delivered"].as_u64().unwrap();
        assert!(delivered > 0 && pushes.is_none_or(|pushes| delivered == pushes), "{arguments}: {report}");
        assert_eq!(report["latencies"]["send_to_last_push"]["count"], report["messages"]["sent"]);
        assert!(figure(&report, "log_bytes_per_message") > 200.0 && figure(&report, "socket_bytes_per_push") > 200.0);
        assert!(figure(&report, "server_cpu_per_recipient") > 0.0);
    }
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

#[test]
fn what_others_write_beside_is_verified_and_an_aim_that_is_missed_fails_the_run() {
    let dir = Dir::new();
    let server = gateway(&dir);
    let url = format!("ws://{}", server.ready().listen);
    let beside = format!("--beside 300 --beside-users 20 --admin {}", server.ready().admin);
    for (command, aim, status) in [
        ("fanout --members 40 --online 30 --rate 20 --duration 2s", "--aim-server-p99 1m", 0),
        ("backlog --devices 20 --conversations 10 --records 2000", "--aim-server-p99 1m --aim-push-p99 1m", 0),
        ("storm --users 50 --away 0s", "--aim-server-p99 1us", 1),
    ] {
        let (got, report) = flood(&dir, &url, &format!("{command} {beside} {aim}"));
        assert_eq!(got, status, "{command}: {report}");
        let others = &report["beside"];
        assert!(others["sent"].as_u64() > Some(0) && others["delivered"] == others["owed"], "{command}: {report}");
        // Only of what was written in the measured time.
        let measured = report["latencies"]["beside_send_to_push"]["count"].as_u64().unwrap_or(0);
        assert!(measured < others["sent"].as_u64().unwrap(), "{command}: {report}");
    }
    let (_, report) = flood(&dir, &url, &format!("storm --users 50 --away 0s {beside} --aim-server-p99 1us"));
    assert!(report["missed"][0].as_str().unwrap().contains("p99 of direct messages"), "{report}");
    server.stop();
}

#[test]
fn slow_readers_are_closed_and_have_everything_once_they_return() {
    let dir = Dir::new();
    let server = gateway_with(&dir, &[("progress_ms", "1000")]);
    let url = format!("ws://{}", server.ready().listen);
    for (grouped, messages) in [("", 8 * 128 * 3 * 2), ("--grouped", 3 * 128 * 3 * 2)] {
        let sessions = "--readers 4 --trickle 2 --mute 2 --together 3 --every 500ms --duration 1500ms";
        let arguments = format!("slow {sessions} {grouped} --recover-within 1s --admin {}", server.ready().admin);
        let (_, report) = flood(&dir, &url, &format!("{arguments} --prefix s{grouped}"));
        // The other tests of this process have memory, too.
        let missed = report["missed"].as_array().unwrap();
        assert!(missed.iter().all(|sentence| sentence.as_str().unwrap().starts_with("memory ")), "{report}");
        assert_eq!(report["messages"]["sent"], messages, "{report}");
        assert_eq!(report["messages"]["delivered"], report["messages"]["owed"]);
        assert_eq!((figure(&report, "closed_4002"), figure(&report, "close_frames_4002_seen")), (8.0, 2.0), "{report}");
        assert!(figure(&report, "outbound_peak") > 0.5, "{report}");
        assert!(report["server"]["server_send_direct"]["count"].as_u64() > Some(0), "{report}");
    }
    server.stop();
}

#[test]
fn a_report_tells_what_it_ran_under_and_the_whole_run_and_becomes_a_page_and_a_comparison() {
    let dir = Dir::new();
    let server = gateway(&dir);
    let (url, admin) = (format!("ws://{}", server.ready().listen), server.ready().admin);
    let (status, report) = flood(&dir, &url, &format!("chat --users 20 --rate 100 --duration 3s --admin {admin}"));
    assert_eq!(status, 0, "{report}");
    let conditions = &report["conditions"];
    assert!(conditions["flood"]["command_line"].as_str().unwrap().contains(" chat --users 20 --rate 100 "), "{report}");
    // The gateway is in this process.
    let own = std::env::args().next().unwrap();
    assert!(conditions["gateway"]["command_line"].as_str().unwrap().starts_with(&own), "{conditions}");
    assert!(
        conditions["gateway"]["version"].is_string() && conditions["machine"]["kernel"].is_string(),
        "{conditions}"
    );
    let timeline = report["timeline"].as_array().unwrap();
    let mut stages: Vec<&str> = timeline.iter().map(|entry| entry["stage"].as_str().unwrap()).collect();
    assert_eq!((stages[0], timeline[0]["established"].as_u64()), ("start", Some(0)), "before the first connection");
    stages.dedup();
    assert!(stages.contains(&"chat") && stages.last() == Some(&"finish"), "{stages:?}");
    let chat: Vec<&Value> = timeline.iter().filter(|entry| entry["stage"] == "chat").collect();
    assert!((3..=5).contains(&chat.len()), "about one a second: {timeline:?}");
    assert!(chat.iter().all(|entry| entry["established"] == 20 && entry["server_rss_mib"].is_f64()), "{timeline:?}");

    let (json, page) = (dir.path("report.json"), dir.path("page.html"));
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_flood")).args(arguments).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(&["report", &json, "--out", &page]).0, 0);
    assert!(std::fs::read_to_string(&page).unwrap().contains("<b>From send to push</b>"));
    let (status, said) = run(&["compare", &json, &json, "--fail-above", "0%"]);
    assert!(status == 0 && !said.contains("DIFFERS") && said.ends_with("ok\n"), "{said}");
    let mut slower = report.clone();
    let p50 = slower["latencies"]["send_to_push"]["p50_us"].as_u64().unwrap();
    slower["latencies"]["send_to_push"]["p50_us"] = (3 * p50).into();
    let after = dir.path("after.json");
    std::fs::write(&after, slower.to_string()).unwrap();
    let (status, said) = run(&["compare", &json, &after, "--fail-above", "100%"]);
    assert!(status == 1 && said.contains("WORSE: send to push p50 went from "), "{said}");
    assert_eq!(said.matches("WORSE").count(), 1, "{said}");
    server.stop();
}

#[test]
fn everything_that_sessions_took_comes_back() {
    let dir = Dir::new();
    let server = gateway(&dir);
    let url = format!("ws://{}", server.ready().listen);
    let load = "--sessions 400 --churn 100 --away 500ms --rate 300 --storm-every 1500ms --storm-share 25%";
    let times = "--duration 5s --warm-up 1s --quiet-within 20s";
    let (_, report) = flood(&dir, &url, &format!("soak {load} {times} --admin {}", server.ready().admin));
    // Memory and the kernel are those of all tests that run.
    let missed: Vec<&str> = report["missed"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(missed.iter().all(|it| it.starts_with("memory ") || it.starts_with("kernel_")), "{missed:?}");
    let messages = &report["messages"];
    assert_eq!((&messages["sent"], &messages["delivered"]), (&1_500.into(), &messages["owed"]));
    // 50 are away at any time, 100 leave a second; three storms of a quarter.
    let (left, goodbyes) = (figure(&report, "left_and_came_back"), figure(&report, "goodbyes"));
    assert!((475.0..=560.0).contains(&left) && goodbyes > left / 4.0 && goodbyes < left * 3.0 / 4.0, "{report}");
    assert_eq!(figure(&report, "storms"), 3.0);
    assert!(figure(&report, "dropped_by_storms") > 100.0, "{report}");
    let held = ["connections", "operations_in_flight", "sessions", "users_in_memory", "timers_of_sessions"];
    for what in held {
        let unit = report["figures"].as_array().unwrap().iter().find(|it| it["name"] == what).unwrap()["unit"].clone();
        assert!(!unit.as_str().unwrap().ends_with(" 0 with all"), "{what}: {unit}");
    }
    assert_eq!(figure(&report, "sessions"), 0.0);
    server.stop();
}

#[test]
fn a_connection_that_stays_is_named_as_what_did_not_come_back() {
    let dir = Dir::new();
    let server = gateway_with(&dir, &[("authenticate_ms", "60000")]);
    let (listen, admin) = (server.ready().listen, server.ready().admin);
    let stays = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(1));
        std::net::TcpStream::connect(listen).unwrap()
    });
    let load = "--sessions 40 --churn 10 --away 500ms --rate 50 --storm-every 0s";
    let times = "--duration 3s --warm-up 1s --quiet-within 5s";
    let (status, report) = flood(&dir, &format!("ws://{listen}"), &format!("soak {load} {times} --admin {admin}"));
    drop(stays.join().unwrap());
    assert_eq!(status, 1);
    let named =
        |what: &str| report["missed"].as_array().unwrap().iter().any(|it| it.as_str().unwrap().starts_with(what));
    assert!(named("connections: 1 after the last session, 0 before the first: 1 did not come back"), "{report}");
    assert!(named("slots_occupied: ") && named("timers_of_connections: ") && !named("sessions: "), "{report}");
    server.stop();
}
