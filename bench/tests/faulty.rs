//! The load tool against servers that fail on purpose: every failure is told by its name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use support::faulty::{self, Fault};
use support::{Dir, flood, plain_server};

fn echo(mut stream: TcpStream, change: impl Fn(&mut [u8])) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        change(&mut buffer[..count]);
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

#[test]
fn an_echo_with_wrong_bytes_is_not_an_answer() {
    let dir = Dir::new();
    let honest = plain_server(|stream| echo(stream, |_| {}));
    let arguments = "ping --echo --connections 8 --active 8 --rate 200 --duration 1s";
    let (status, report) = flood(&dir, &format!("tcp://{honest}"), arguments);
    assert_eq!(status, 0, "{report}");
    assert_eq!(report["latencies"]["round_trip"]["count"], 200);
    let lying = plain_server(|stream| echo(stream, |bytes| bytes[0] ^= 1));
    let (status, report) = flood(&dir, &format!("tcp://{lying}"), arguments);
    assert_eq!(status, 1);
    assert!(report["missed"].to_string().contains("were wrong"), "{report}");
}

#[test]
fn a_server_that_is_not_there_refuses_and_is_no_local_error() {
    let dir = Dir::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // closed again at once
    let (status, report) = flood(&dir, &format!("ws://{address}"), "connect --connections 20 --hold 0s");
    assert_eq!(status, 1);
    assert_eq!((&report["connections"]["attempted"], &report["connections"]["refused"]), (&20.into(), &20.into()));
    assert_eq!(report["connections"]["local_errors"], serde_json::json!({}));
}

#[test]
fn a_source_that_this_machine_does_not_have_is_a_local_error() {
    let dir = Dir::new();
    let server = plain_server(|stream| echo(stream, |_| {}));
    let arguments = "connect --connections 5 --hold 0s --source 192.0.2.1";
    let (status, report) = flood(&dir, &format!("ws://{server}"), arguments);
    assert_eq!(status, 1);
    assert_eq!(report["connections"]["local_errors"]["EADDRNOTAVAIL"], 5, "{report}");
    assert_eq!(report["connections"]["refused"], 0);
}

#[test]
fn a_server_that_says_nothing_times_out() {
    let dir = Dir::new();
    let server = plain_server(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let arguments = "connect --connections 5 --hold 0s --patience 300ms";
    let (status, report) = flood(&dir, &format!("ws://{server}"), arguments);
    assert_eq!(status, 1);
    assert_eq!((&report["connections"]["timed_out"], &report["connections"]["established"]), (&5.into(), &0.into()));
}

#[test]
fn another_answer_than_101_is_a_refusal_with_its_status() {
    let dir = Dir::new();
    let server = plain_server(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
    });
    let (status, report) = flood(&dir, &format!("ws://{server}"), "connect --connections 5 --hold 0s");
    assert_eq!(status, 1);
    assert_eq!(report["connections"]["refused"], 5);
    assert_eq!(report["connections"]["reasons"]["HTTP/1.1 503 Service Unavailable"], 5);
}

#[test]
fn a_target_beyond_the_ports_is_refused_before_anything_is_opened() {
    let arguments = ["connect", "--url", "ws://127.0.0.1:1", "--connections", "200000", "--source", "127.0.0.9"];
    let output = Command::new(env!("CARGO_BIN_EXE_flood")).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("net.ipv4.ip_local_port_range"), "{stderr}");
}

#[test]
fn a_gateway_whose_metrics_lack_what_is_relied_on_is_refused_before_anything_is_opened() {
    let run = |page: &'static str| {
        let admin = plain_server(move |mut stream| {
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(page.as_bytes());
        });
        let arguments = ["storm", "--users", "10", "--url", "ws://127.0.0.1:1", "--admin", &admin.to_string()];
        let output = Command::new(env!("CARGO_BIN_EXE_flood")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let stderr = run("HTTP/1.1 200 OK\r\n\r\nprocess_resident_memory_bytes 1\n");
    assert!(stderr.contains("its /metrics has no process_cpu_seconds_total"), "{stderr}");
    let stderr = run("HTTP/1.1 404 Not Found\r\n\r\n");
    assert!(stderr.contains("its /metrics has no process_resident_memory_bytes"), "{stderr}");
}

#[test]
fn users_who_cannot_be_paired_are_refused_before_anything_is_opened() {
    for users in ["0", "1", "3", "2001"] {
        let arguments = ["chat", "--url", "ws://127.0.0.1:1", "--users", users];
        let output = Command::new(env!("CARGO_BIN_EXE_flood")).args(arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && stderr.contains("even number"), "{stderr}");
    }
}

/// A run against a gateway with this fault: its status and its account.
fn against(fault: Fault, arguments: &str) -> (i32, Value) {
    let dir = Dir::new();
    let url = format!("ws://{}", faulty::start(fault));
    flood(&dir, &url, arguments)
}

/// Every fault is told by its name, among the counts of messages, and the run has failed. All at once: most of the time is
/// waiting for what does not come.
fn each_is_told(arguments: &str, faults: &[(Fault, &str)]) {
    std::thread::scope(|scope| {
        for &(fault, name) in faults {
            scope.spawn(move || {
                let (status, report) = against(fault, arguments);
                assert_eq!(status, 1, "{fault:?}: {report}");
                assert!(report["messages"][name].as_u64().unwrap() > 0, "{fault:?}: {report}");
            });
        }
    });
}

/// A target that was missed says this.
fn misses(fault: Fault, arguments: &str, sentence: &str) -> Value {
    let (status, report) = against(fault, arguments);
    assert_eq!(status, 1, "{fault:?}: {report}");
    assert!(report["missed"].to_string().contains(sentence), "{fault:?}: {report}");
    report
}

const PAIRS: &str = "chat --users 20 --rate 200 --duration 1s --settle 1s";
const GROUPS: &str = "chat --users 20 --rate 200 --duration 1s --settle 1s --groups 100% --group-size 10";
const MIX: &str = "chat --users 40 --rate 200 --duration 2s --groups 30 --group-size 10 --offline 20 --away 300ms";
const STORM: &str = "storm --users 20 --group-size 6 --messages 40 --rate 400 --away 100ms --within 2s";
const BACKLOG: &str = "backlog --devices 3 --conversations 5 --records 50 --within 2s";
const FANOUT: &str = "fanout --members 40 --online 20 --groups 2 --rate 50 --duration 1s --settle 1s";

#[test]
fn an_honest_gateway_passes() {
    let (status, report) = against(Fault::None, PAIRS);
    assert_eq!(status, 0, "{report}");
    assert_eq!((&report["messages"]["sent"], &report["messages"]["delivered"]), (&200.into(), &200.into()));
    for arguments in [GROUPS, MIX, STORM, BACKLOG, FANOUT] {
        let (status, report) = against(Fault::None, arguments);
        assert_eq!(status, 0, "{arguments}: {report}");
        assert_eq!(report["messages"]["delivered"], report["messages"]["owed"]);
    }
}

/// What may become of a message on its way, and what it is called.
const BREACHES: [(Fault, &str); 8] = [
    (Fault::Lost, "missing"),
    (Fault::PushedTwice, "duplicated"),
    (Fault::StoredTwice, "duplicated"),
    (Fault::Swapped, "out_of_order"),
    (Fault::Changed, "damaged"),
    (Fault::Misplaced, "damaged"),
    (Fault::Forged, "damaged"),
    (Fault::Leaked, "damaged"),
];

#[test]
fn every_breach_of_the_delivery_contract_is_told_by_its_name() {
    let of_sends =
        [(Fault::WrongPosition, "contradicted"), (Fault::Ignored, "unanswered"), (Fault::Refused, "refused")];
    each_is_told(PAIRS, &[&BREACHES[..], &of_sends].concat());
}

#[test]
fn one_member_of_a_group_is_enough_for_a_breach() {
    each_is_told(GROUPS, &BREACHES);
    each_is_told(FANOUT, &BREACHES[..4]);
}

#[test]
fn groups_that_do_not_come_to_be_are_a_failure_and_not_waited_for() {
    misses(Fault::NoGroups, GROUPS, "2 groups were not created");
    misses(Fault::SilentGroups, &format!("{GROUPS} --connect-within 1s"), "18 members were not told of their group");
}

#[test]
fn whoever_comes_back_must_be_given_what_was_missed() {
    let faults = [
        (Fault::LostOnReturn, "missing"),
        (Fault::LostOnReturn, "synced_early"),
        (Fault::TwiceOnReturn, "duplicated"),
        (Fault::SwappedOnReturn, "out_of_order"),
        (Fault::ChangedOnReturn, "damaged"),
        (Fault::EarlySync, "synced_early"),
    ];
    each_is_told(STORM, &faults);
    each_is_told(BACKLOG, &[(Fault::OldestFirst, "older_first"), (Fault::LostOnReturn, "missing")]);
    each_is_told(MIX, &[(Fault::LostOnReturn, "missing"), (Fault::TwiceOnReturn, "duplicated")]);
}

#[test]
fn whoever_is_told_not_to_come_back_is_named_with_the_close_code() {
    let report = misses(Fault::NoReturn, STORM, "20 users did not come back");
    assert_eq!(report["connections"]["reasons"]["close 4503: "], 20, "{report}");
    assert_eq!((&report["connections"]["refused"], &report["connections"]["lost"]), (&20.into(), &0.into()));
}

#[test]
fn a_push_with_a_number_that_does_not_follow_costs_the_server_its_session() {
    let report = misses(Fault::Misnumbered, PAIRS, "sessions were lost");
    let reasons = report["connections"]["reasons"].to_string();
    assert!(reasons.contains("given up by the client"), "{reasons}");
}

#[test]
fn a_server_that_never_says_welcome_has_lost_nobody() {
    let dir = Dir::new();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", mute.local_addr().unwrap());
    let (status, report) = flood(&dir, &url, "chat --users 4 --patience 300ms --duration 0s --settle 0s");
    assert_eq!(status, 1, "{report}");
    let connections = &report["connections"];
    assert_eq!((&connections["timed_out"], &connections["lost"]), (&4.into(), &0.into()), "{report}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_opened() {
    for (arguments, why) in [
        ("chat --users 10 --mix", "--users"),
        ("chat --mix --offline 3%", "--mix"),
        ("chat --groups 101%", "a share in percent"),
        ("fanout --members 10 --online 11", "--online 11"),
        ("fanout --members 1025", "1025"),
        ("storm --users 0", "0"),
        ("backlog --together 1024", "1024"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_flood"))
            .args(arguments.split_whitespace())
            .args(["--url", "ws://127.0.0.1:1"])
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && stderr.contains(why), "{arguments}: {stderr}");
    }
}
