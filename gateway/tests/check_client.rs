//! `ringpost check-client` as a command: how it starts, and what its exit status says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::TcpListener;
use support::{Dir, finish, refused, ringpost};

#[test]
fn bad_starts_are_named() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    refused(ringpost().args(["check-client", "--listen", &taken]), &[&taken, "in use"]);
    refused(ringpost().args(["check-client", "--listen", "0.0.0.0:0"]), &["only loopback"]);
}

#[test]
fn a_client_that_never_comes_has_shown_nothing() {
    let dir = Dir::new();
    let json = dir.path("report.json");
    let mut command = ringpost();
    command.args(["check-client", "--listen=127.0.0.1:0", "--patience=50ms", "--quiet=50ms", "--run=true"]);
    let output = finish(command.args(["--json", &json]));
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(report["passed"], false);
    let rules = report["rules"].as_array().unwrap();
    assert!(rules.iter().all(|rule| rule["verdict"] == "notShown"), "{report}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("NOT SHOWN  hello-first"));
}
