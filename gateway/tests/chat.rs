//! `ringpost chat` against a real gateway.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use rustix::process::Signal;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use support::{Dir, Gateway, PATIENCE, finish, refused, ringpost};

/// `ringpost chat` of this user, with its state in `dir`.
fn chat(dir: &Dir, to: SocketAddr, user: &str) -> Command {
    let mut command = ringpost();
    command.args(["chat", "--user", user, "--url", &format!("ws://{to}"), "--state", &dir.path(user)]);
    command
}

/// Runs it with these lines as its whole input.
fn piped(command: &mut Command, lines: &str) -> Output {
    let file = std::env::temp_dir().join(format!("ringpost-chat-input-{}-{:p}", std::process::id(), command));
    std::fs::write(&file, lines).unwrap();
    let output = finish(command.stdin(std::fs::File::open(&file).unwrap()));
    std::fs::remove_file(&file).unwrap();
    output
}

#[track_caller]
fn stdout(output: &Output) -> Vec<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines().filter(|line| !line.starts_with("-- "));
    // Without the time.
    lines.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

/// A chat that runs beside the test; killed when dropped.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    notes: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = listen(child.stdout.take().unwrap());
        let notes = listen(child.stderr.take().unwrap());
        Self { stdin: child.stdin.take(), child, lines, notes }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    #[track_caller]
    fn sees(&self, part: &str) -> String {
        wait(&self.lines, part)
    }

    #[track_caller]
    fn notes(&self, part: &str) -> String {
        wait(&self.notes, part)
    }

    /// Kills it, and waits until its state is nobody's.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends the input and waits for the end.
    fn finish(&mut self) -> bool {
        drop(self.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the chat did not end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).try_for_each(|it| sender.send(it)));
    lines
}

#[track_caller]
fn wait(lines: &Receiver<String>, part: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(part) => return line,
            Ok(line) => seen.push(line),
            Err(_) => panic!("no {part:?} in {seen:#?}"),
        }
    }
}

#[test]
fn a_pipe_sends_and_ends_well_and_the_other_side_gets_it_once() {
    let (gateway, dir) = (Gateway::start(&[]), Dir::new());
    let sent = piped(chat(&dir, gateway.listen, "alice").args(["--to", "bob"]), "hi\nthere\x1b[31m\n");
    assert_eq!(stdout(&sent), ["alice to bob: hi \u{2713}", "alice to bob: there\u{241b}[31m \u{2713}"]);
    let missed = finish(&mut chat(&dir, gateway.listen, "bob"));
    assert_eq!(stdout(&missed), ["alice: hi", "alice: there\u{241b}[31m"]);
    let nothing = finish(&mut chat(&dir, gateway.listen, "bob"));
    assert_eq!(stdout(&nothing), [""; 0]);
}

#[test]
fn two_people_see_each_other_and_the_marks() {
    let (gateway, dir) = (Gateway::start(&[]), Dir::new());
    let mut alice = Running::start(chat(&dir, gateway.listen, "alice").args(["--to", "bob"]));
    let mut bob = Running::start(&mut chat(&dir, gateway.listen, "bob"));
    bob.notes("connected");
    alice.say("hello");
    alice.sees("alice to bob: hello \u{2713}");
    bob.sees("alice: hello");
    alice.sees("bob has received \"hello\" \u{2713}\u{2713}");
    bob.say("/list");
    assert!(bob.sees("1 unread").starts_with("alice"));
    bob.say("/to alice");
    bob.say("/read");
    alice.sees("bob has read \"hello\"");
    bob.say("hey");
    alice.sees("bob: hey");
    alice.say("/history 2");
    alice.sees("alice to bob: hello");
    alice.sees("bob: hey");
    alice.say("/who");
    alice.sees("alice on terminal, online");
    assert!(alice.finish() && bob.finish());
}

#[test]
fn a_killed_server_loses_nothing_that_was_typed() {
    let dir = Dir::new();
    let data = dir.0.join("data");
    let gateway = Gateway::start_in(&data, &["--crash-slot-ms=1000"]);
    let (listen, admin) = (gateway.listen, gateway.admin);
    let mut alice = Running::start(chat(&dir, listen, "alice").args(["--to", "bob"]));
    alice.say("before");
    alice.sees("before \u{2713}");
    gateway.signal(Signal::KILL);
    drop(gateway);
    alice.notes("reconnecting in ");
    alice.say("while it was gone");
    // A crash of the client as well: the message was kept.
    alice.say("/who");
    alice.sees("1 message without a tick");
    alice.kill();
    let mut alice = Running::start(chat(&dir, listen, "alice").args(["--to", "bob"]));
    alice.notes("1 message kept from last time");
    alice.say("after");
    let _gateway = Gateway::start_in(&data, &["--listen", &listen.to_string(), "--admin", &admin.to_string()]);
    alice.sees("while it was gone \u{2713}");
    alice.sees("after \u{2713}");
    assert!(alice.finish());
    let missed = finish(&mut chat(&dir, listen, "bob"));
    assert_eq!(stdout(&missed), ["alice: before", "alice: while it was gone", "alice: after"]);
}

#[test]
fn what_was_not_sent_is_the_exit_status_and_goes_out_at_the_next_start() {
    let dir = Dir::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = piped(chat(&dir, nobody, "alice").args(["--to", "bob", "--wait", "300ms"]), "hi\n");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("1 message not sent yet, kept in"), "{stderr}");
    let gateway = Gateway::start(&[]);
    assert_eq!(stdout(&finish(&mut chat(&dir, gateway.listen, "alice"))), ["alice to bob: hi \u{2713}"]);
}

#[test]
fn bad_starts_are_named() {
    let (gateway, dir) = (Gateway::start(&[]), Dir::new());
    let start = |user| chat(&dir, gateway.listen, user);
    refused(start("alice").args(["--url", "wss://127.0.0.1"]), &["--url", "TLS"]);
    refused(start("a\nb").arg("--to=bob"), &["--user", "control"]);
    let token = finish(ringpost().args(["token", "--user", "bob"]));
    let token = String::from_utf8(token.stdout).unwrap();
    let other = finish(start("alice").args(["--token", token.trim()]));
    assert!(String::from_utf8(other.stderr).unwrap().contains("the token is for bob on phone"));
    let bad = finish(start("alice").args(["--token", "nonsense"]));
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8(bad.stderr).unwrap().contains("401"));
    let first = Running::start(&mut start("carol"));
    first.notes("connected");
    refused(&mut start("carol"), &["in use by another ringpost chat"]);
    let nobody = piped(&mut start("dave"), "to whom?\n");
    assert_eq!(nobody.status.code(), Some(1));
}
