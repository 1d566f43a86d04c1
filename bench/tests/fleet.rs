//! One run on several processes: a coordinator, workers, and a gateway in this process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use ringpost_gateway::config::Config;
use ringpost_gateway::server::Server;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::{Dir, figure, flood};

fn gateway(dir: &Dir) -> Server {
    gateway_with(dir, &[])
}

fn gateway_with(dir: &Dir, more: &[(&str, &str)]) -> Server {
    let data = dir.path("data");
    let pairs = [
        ("dev", "true"),
        ("listen", "127.0.0.1:0"),
        ("admin", "127.0.0.1:0"),
        ("data", data.as_str()),
        // Sends are not refused because the machine's disk is rather full.
        ("disk_floor", "1"),
    ];
    Server::start(Config::from_pairs(&[&pairs, more].concat()).unwrap()).unwrap()
}

/// A worker process, killed at the end.
struct Worker {
    process: Child,
    address: String,
}

impl Worker {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_flood"))
            .args(["worker", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines.next().unwrap().unwrap().strip_prefix("waiting on ").unwrap().to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn addresses(workers: &[Worker]) -> String {
    workers.iter().map(|worker| worker.address.as_str()).collect::<Vec<_>>().join(",")
}

fn start(url: &str, arguments: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_flood"))
        .args(arguments.split_whitespace())
        .args(["--quiet", "--url", url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn refused(url: &str, arguments: &str) -> String {
    let Output { status, stderr, .. } = start(url, arguments).wait_with_output().unwrap();
    assert_eq!(status.code(), Some(1));
    String::from_utf8(stderr).unwrap()
}

/// Waits until the gateway has so many sessions.
fn sessions(server: &Server, wanted: f64) {
    let began = Instant::now();
    let mut last = -1.0;
    while began.elapsed() < Duration::from_secs(30) {
        let mut stream = TcpStream::connect(server.ready().admin).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let open = page.lines().filter_map(|line| line.strip_prefix("ringpost_connections{state=\"open\"} "));
        last = open.filter_map(|count| count.parse::<f64>().ok()).sum();
        if last == wanted {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{last} sessions instead of {wanted}");
}

#[test]
fn two_workers_find_together_what_one_process_would() {
    let (dir, workers) = (Dir::new(), [Worker::start(&[]), Worker::start(&[])]);
    let server = gateway(&dir);
    let (url, admin) = (format!("ws://{}", server.ready().listen), server.ready().admin);
    let common = format!("--admin {admin} --workers {}", addresses(&workers));
    let run = |arguments: &str| {
        let (status, report) = flood(&dir, &url, &format!("{arguments} {common}"));
        assert_eq!(status, 0, "{report}");
        report
    };
    let count = |report: &Value, what: &str| report["messages"][what].as_u64().unwrap();

    let report = run("connect --connections 301 --hold 1s --ping-all --pairs 51");
    assert_eq!(report["connections"]["established"], 301);
    assert_eq!((figure(&report, "answered_ping"), count(&report, "delivered")), (301.0, 102));
    assert_eq!(report["latencies"]["connect_to_welcome"]["count"], 301);
    assert!(figure(&report, "own_cpu_each") > 0.0, "of the workers");

    let report = run("chat --mix --users 120 --rate 300 --messages 601 --duration 10s --prefix mix");
    assert_eq!((count(&report, "sent"), count(&report, "acknowledged")), (601, 601));
    assert_eq!(count(&report, "owed"), count(&report, "delivered"));
    assert!(report["latencies"]["send_to_push_group"]["count"].as_u64().unwrap() > 0);
    let over_time: u64 = report["over_time"].as_array().unwrap().iter().map(|it| it["sent"].as_u64().unwrap()).sum();
    assert_eq!(over_time, report["latencies"]["send_to_sent"]["count"].as_u64().unwrap());

    let report = run("storm --users 105 --group-size 6 --messages 201 --rate 400 --within 20s --prefix storm");
    assert_eq!(count(&report, "sent"), 201);
    assert_eq!((count(&report, "missing"), &report["latencies"]["return_to_synced"]["count"]), (0, &105.into()));
    assert!(figure(&report, "all_synced") > 0.0);

    let report = run("fanout --members 40 --online 20 --groups 4 --rate 50 --duration 2s --prefix fan");
    assert_eq!((count(&report, "sent"), count(&report, "delivered")), (100, 1_900));
    assert_eq!(report["connections"]["established"], 80);

    let report = run("backlog --devices 8 --together 4 --records 60 --conversations 4 --rate 400 --prefix back");
    assert_eq!((count(&report, "sent"), count(&report, "older_first")), (120, 0));

    let report =
        run("fanout --members 20 --online 20 --groups 2 --ack-every 8 --rate 40 --duration 1s --prefix together");
    assert_eq!((count(&report, "sent"), count(&report, "delivered")), (40, 760));

    let report = run("ping --connections 20 --active 10 --rate 200 --duration 1s");
    assert_eq!((&report["latencies"]["round_trip"]["count"], &report["missed"]), (&200.into(), &serde_json::json!([])));
    server.stop();
}

#[test]
fn workers_sign_with_the_private_key_that_they_are_told_and_none_is_told_what_is_no_key() {
    const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../gateway/tests/keys");
    let (dir, workers) = (Dir::new(), [Worker::start(&[]), Worker::start(&[])]);
    let file = dir.path("keys.toml");
    let key = format!(
        "[[keys]]\nid = \"ed\"\nalg = \"EdDSA\"\npublic_key_pem_file = \"{KEYS}/ed.pub.pem\"\ntenant = \"acme\"\n"
    );
    std::fs::write(&file, key).unwrap();
    let server = gateway_with(&dir, &[("token_keys", file.as_str())]);
    let url = format!("ws://{}", server.ready().listen);
    let command = format!("connect --connections 40 --hold 0s --workers {} --alg EdDSA", addresses(&workers));
    let (status, report) = flood(&dir, &url, &format!("{command} --private-key {KEYS}/ed.pem --key ed --tenant acme"));
    assert_eq!((status, &report["connections"]["established"]), (0, &40.into()), "{report}");
    for (told, why) in [
        (format!("--private-key {KEYS}/ed.pub.pem --key ed"), "ed.pub.pem: not a PEM file of a private key for EdDSA"),
        (
            format!("--private-key {KEYS}/ed.pem --key ed --tenant {}", "x".repeat(33)),
            "the tenant must have 1 to 32 bytes",
        ),
    ] {
        let stderr = refused(&url, &format!("{command} {told}"));
        assert!(stderr.contains(why), "{stderr}");
    }
    server.stop();
}

#[test]
fn a_worker_that_vanishes_is_named_and_the_others_stop_and_serve_again() {
    let (dir, mut workers) = (Dir::new(), [Worker::start(&[]), Worker::start(&[])]);
    let server = gateway(&dir);
    let url = format!("ws://{}", server.ready().listen);
    let command = format!("connect --connections 40 --hold 60s --workers {}", addresses(&workers));
    let coordinator = start(&url, &command);
    sessions(&server, 40.0);
    workers[1].process.kill().unwrap();
    let began = Instant::now();
    let output = coordinator.wait_with_output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains(&format!("worker {}: the connection ended", workers[1].address)), "{stderr}");
    sessions(&server, 0.0);
    let stderr = refused(&url, &command);
    assert!(stderr.contains(&format!("worker {}: ", workers[1].address)), "{stderr}");
    let alone = format!("connect --connections 10 --hold 0s --workers {}", workers[0].address);
    assert_eq!(flood(&dir, &url, &alone).0, 0);
    server.stop();
}

#[test]
fn a_worker_serves_one_run_at_a_time_and_waits_again_when_its_coordinator_is_gone() {
    let (dir, worker) = (Dir::new(), Worker::start(&[]));
    let server = gateway(&dir);
    let url = format!("ws://{}", server.ready().listen);
    let command = format!("connect --connections 40 --hold 60s --workers {}", worker.address);
    let mut coordinator = start(&url, &command);
    sessions(&server, 40.0);
    let stderr = refused(&url, &command);
    assert!(stderr.contains("it is busy with a run of 127.0.0.1:"), "{stderr}");
    coordinator.kill().unwrap();
    coordinator.wait().unwrap();
    sessions(&server, 0.0);
    let (status, report) = flood(&dir, &url, &command.replace("60s", "0s"));
    assert_eq!((status, &report["connections"]["established"]), (0, &40.into()));
    server.stop();
}

#[test]
fn who_does_not_know_the_secret_gets_nothing_from_a_worker() {
    let dir = Dir::new();
    let (ours, other) = (dir.path("ours"), dir.path("other"));
    std::fs::write(&ours, "0123456789abcdef\n").unwrap();
    std::fs::write(&other, "fedcba9876543210\n").unwrap();
    let worker = Worker::start(&["--secret-file", &ours]);
    let server = gateway(&dir);
    let url = format!("ws://{}", server.ready().listen);
    let command = format!("connect --connections 10 --hold 0s --workers {}", worker.address);
    let told = format!("worker {}: it refuses: it has another secret", worker.address);
    assert!(refused(&url, &command).contains(&told));
    assert!(refused(&url, &format!("{command} --secret-file {other}")).contains(&told));
    assert_eq!(flood(&dir, &url, &format!("{command} --secret-file {ours}")).0, 0);
    let open = ["worker", "--listen", "0.0.0.0:0"];
    let output = Command::new(env!("CARGO_BIN_EXE_flood")).args(open).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("it needs --secret-file"));
    server.stop();
}

#[test]
fn what_is_not_divided_or_not_possible_is_refused_with_a_sentence() {
    let workers = [Worker::start(&["--source", "127.0.0.9"]), Worker::start(&["--source", "::1"])];
    let (both, url) = (addresses(&workers), "ws://127.0.0.1:1");
    for (arguments, why) in [
        ("search", "cannot be divided"),
        ("slow --admin 127.0.0.1:1", "cannot be divided"),
        ("storm --users 10 --beside 5", "--beside is for one process"),
        ("chat --sent /nowhere", "--sent is for one process"),
        ("ping --source 127.0.0.1", "--source is of a host"),
        ("fanout", "2 workers have too few users: 900, of whom 900 are not to be split"),
    ] {
        let stderr = refused(url, &format!("{arguments} --workers {both}"));
        assert!(stderr.contains(why), "{arguments}: {stderr}");
    }
    // The limits are those of the worker's own host.
    let stderr = refused(url, &format!("connect --connections 10 --workers {both}"));
    let named = format!("worker {}: it refuses: --source ::1 and the destination 127.0.0.1", workers[1].address);
    assert!(stderr.contains(&named), "{stderr}");
    let stderr = refused(url, &format!("connect --connections 200000 --workers {}", workers[0].address));
    assert!(stderr.contains("it refuses: net.ipv4.ip_local_port_range"), "{stderr}");
}
