//! Starts that the machine refuses, and how a good start ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use rustix::process::Signal;
use std::net::TcpListener;
use std::process::Command;
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
