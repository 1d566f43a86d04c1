//! Starts that are refused before anything runs, and what the commands print.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::{Dir, finish, refused, ringpost, serve};

#[test]
fn an_unknown_key_is_named_with_the_nearest_known_one() {
    let dir = Dir::new();
    let file = dir.file("ringpost.toml", "dev = true\nmax_sesions = 5\n");
    refused(serve(&dir).arg("--config").arg(file), &["max_sesions", "did you mean \"max_sessions\""]);
    refused(serve(&dir).arg("--max-sesions=5"), &["--max-sesions", "--max-sessions"]);
    refused(serve(&dir).env("RINGPOST_MAX_SESIONS", "5"), &["max_sesions", "max_sessions", "environment"]);
}

#[test]
fn a_value_out_of_bounds_is_named_with_its_bounds() {
    let dir = Dir::new();
    refused(serve(&dir).arg("--heartbeat-ms=1"), &["heartbeat_ms", "100 to 600000"]);
    refused(serve(&dir).env("RINGPOST_WORKER", "x"), &["worker", "0 to 8191", "environment"]);
}

#[test]
fn a_configuration_file_that_cannot_be_used_is_named() {
    let dir = Dir::new();
    refused(serve(&dir).args(["--config", &dir.path("absent.toml")]), &["absent.toml", "No such file"]);
    let file = dir.file("bad.toml", "dev = \n\n[x\n");
    refused(serve(&dir).arg("--config").arg(file), &["bad.toml", "line "]);
}

#[test]
fn an_unreadable_key_file_is_named() {
    let dir = Dir::new();
    refused(serve(&dir).args(["--token-keys", &dir.path("absent.toml")]), &["token key file", "absent.toml"]);
    let keys = "[[keys]]\nid = \"a\"\nalg = \"HS256\"\nsecret_file = \"absent.key\"\n";
    let file = dir.file("keys.toml", keys);
    refused(serve(&dir).arg("--token-keys").arg(file), &["keys.toml: key \"a\": ", "absent.key"]);
    refused(serve(&dir).args(["--token-keys", dir.0.to_str().unwrap()]), &["not a regular file"]);
}

#[test]
fn no_key_at_all_is_refused() {
    let dir = Dir::new();
    refused(ringpost().args(["serve", "--data", &dir.path("data")]), &["token_keys", "--dev"]);
}

#[test]
fn development_tokens_are_refused_beyond_loopback() {
    let dir = Dir::new();
    refused(serve(&dir).arg("--listen=0.0.0.0:0"), &["loopback", "0.0.0.0:0"]);
    refused(serve(&dir).arg("--listen=[::]:0"), &["loopback"]);
}

#[test]
fn bad_arguments_are_one_line_as_well() {
    refused(&mut ringpost(), &["serve", "--help"]);
    refused(ringpost().arg("sevre"), &["sevre", "serve"]);
    refused(ringpost().arg("token"), &["--user"]);
    refused(ringpost().args(["token", "--user", "", "--ttl", "1h"]), &["user", "1 to 64 bytes"]);
    refused(ringpost().args(["token", "--user", "alice", "--ttl", "soon"]), &["soon", "--ttl"]);
    refused(ringpost().args(["token", "--user", "alice", "--key", "k"]), &["--token-keys"]);
}

#[test]
fn every_command_has_help_with_examples() {
    for command in ["serve", "token", "config"] {
        let output = finish(ringpost().args([command, "--help"]));
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("Examples:") && text.contains(&format!("ringpost {command}")), "{text}");
    }
}

#[test]
fn config_shows_also_what_serve_would_refuse() {
    let output = finish(ringpost().args(["config", "--max-sessions=77"]));
    assert!(String::from_utf8(output.stdout).unwrap().contains("\nmax_sessions = 77 "));
    assert!(String::from_utf8(output.stderr).unwrap().contains("token_keys"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn config_prints_what_serve_reads() {
    let dir = Dir::new();
    let output = finish(ringpost().args(["config", "--dev", "--max-sessions=77"]).env("RINGPOST_NODE", "n7"));
    assert!(output.status.success());
    let file = dir.file("ringpost.toml", std::str::from_utf8(&output.stdout).unwrap());
    let again = finish(ringpost().arg("config").arg("--config").arg(file));
    let text = String::from_utf8(again.stdout).unwrap();
    for line in ["dev = true ", "max_sessions = 77 ", "node = \"n7\" "] {
        assert!(text.lines().any(|l| l.starts_with(line)), "{line} in {text}");
    }
}
