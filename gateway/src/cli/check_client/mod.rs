//! `ringpost check-client`: a scripted server that leads a client through the rules of the wire and judges it.
//!
//! Reads as its data flow: [`server`] (sockets) -> [`judge`] (pure: [`world`] is what a gateway would do, [`scripts`] what
//! happens to the client, [`rules`] what is found) -> [`server`], and the report on stdout.

mod judge;
#[cfg(test)]
mod judge_tests;
mod rules;
mod scripts;
mod server;
mod world;

use super::Outcome;
use crate::transport::websocket::Opcode;
use clap::{Arg, ArgAction, ArgMatches, Command};
use judge::{Judge, Options};
use rustix::process::{Pid, Signal, kill_process_group};
use server::Told;
use std::collections::HashMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use world::{Now, Output};

pub fn command() -> Command {
    let arg = |name: &'static str, value: &'static str| Arg::new(name).long(name).value_name(value);
    let duration = |name: &'static str, default: &'static str| {
        arg(name, "DURATION").default_value(default).value_parser(humantime::parse_duration)
    };
    Command::new("check-client")
        .about("Judge a client: a scripted server that leads it through the rules of the wire")
        .long_about(
            "A scripted server on loopback for authors of clients. It speaks the wire in JSON and protobuf, takes any \
             token that names a user and a device without checking its signature, and leads the client through \
             accidents: lost answers, gaps, repeated pushes, closes. Then it prints a verdict for each rule. The client \
             has to send a message to any user every second or so, for as long as it is connected. Status 1: a rule was \
             broken or not shown.",
        )
        .arg(arg("listen", "ADDR").default_value("127.0.0.1:7650").help("Where the client is to connect"))
        .arg(arg("json", "FILE").value_parser(clap::value_parser!(PathBuf)).help("Write the report there as well"))
        .arg(arg("run", "COMMAND").help(
            "Start the client with this shell command, and anew whenever a scenario needs it (RINGPOST_URL holds the \
             URL); without it you are asked to",
        ))
        .arg(
            Arg::new("durable")
                .long("durable")
                .action(ArgAction::SetTrue)
                .requires("run")
                .help("The client keeps its state on disk: kill it and see"),
        )
        .arg(duration("patience", "2m").help("How long to wait for the client to connect or to send"))
        .arg(duration("quiet", "5s").help("How long a client that must not come back has to stay away"))
        .after_help(
            "Examples:\n  \
             ringpost check-client                       then start the client against ws://127.0.0.1:7650\n  \
             ringpost check-client --run './my-client --url $RINGPOST_URL --user probe --to peer'\n  \
             ringpost check-client --json report.json --quiet 70s",
        )
}

pub fn run(matches: &ArgMatches) -> Outcome {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let ms = |name: &str| {
        let duration = matches.get_one::<Duration>(name).copied().unwrap_or_default();
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
    };
    let listen = text("listen").unwrap_or_default();
    let listener = TcpListener::bind(listen).map_err(|e| format!("cannot listen on {listen}: {e}"))?;
    let address = listener.local_addr().map_err(|e| format!("cannot listen on {listen}: {e}"))?;
    if !address.ip().is_loopback() {
        return Err(format!("--listen {listen}: tokens are not checked here, so only loopback will do"));
    }
    let (tell, inputs) = sync_channel(1_024);
    server::serve(listener, tell);
    let options = Options { patience_ms: ms("patience"), quiet_ms: ms("quiet"), durable: matches.get_flag("durable") };
    let client = Client { command: text("run").map(str::to_owned), url: format!("ws://{address}"), child: None };
    eprintln!("listening on ws://{address}");
    let report = Driver { inputs, writers: HashMap::new(), client, began: Instant::now() }.run(options)?;
    for line in report.lines() {
        // A closed stdout is the reader's choice.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    if let Some(file) = matches.get_one::<PathBuf>("json") {
        let json = format!("{:#}\n", report.json());
        std::fs::write(file, json).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    }
    if report.passed() { Ok(()) } else { Err("the client broke rules, or did not show that it keeps them".to_owned()) }
}

struct Driver {
    inputs: Receiver<Told>,
    writers: HashMap<u64, TcpStream>,
    client: Client,
    began: Instant,
}

impl Driver {
    fn now(&self) -> Now {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { ms: ms(self.began.elapsed()), unix_ms: ms(unix) }
    }

    fn run(mut self, options: Options) -> Result<rules::Report, String> {
        self.client.start()?;
        let mut judge = Judge::new(self.now(), options);
        loop {
            while let Some(output) = judge.poll() {
                self.perform(output)?;
            }
            if judge.is_done() {
                return Ok(judge.report());
            }
            let now = self.now();
            let due = judge.next_timeout_ms().map_or(1_000, |at| at.saturating_sub(now.ms));
            match self.inputs.recv_timeout(Duration::from_millis(due)) {
                Ok(Told::Writer(conn, stream)) => drop(self.writers.insert(conn, stream)),
                Ok(Told::Ping(conn, payload)) => {
                    if let Some(stream) = self.writers.get_mut(&conn) {
                        server::write(stream, Opcode::Pong, &payload);
                    }
                }
                Ok(Told::Input(input)) => {
                    if let world::Input::Closed { conn } = input {
                        self.writers.remove(&conn);
                    }
                    judge.input(self.now(), input);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("the listener ended".to_owned()),
            }
            judge.timeout(self.now());
        }
    }

    fn perform(&mut self, output: Output) -> Result<(), String> {
        match output {
            Output::Message { conn, kind, payload } => {
                if let Some(stream) = self.writers.get_mut(&conn) {
                    server::write(stream, server::opcode(kind), &payload);
                }
            }
            Output::Ping { conn, payload } => {
                if let Some(stream) = self.writers.get_mut(&conn) {
                    server::write(stream, Opcode::Ping, payload);
                }
            }
            Output::Close { conn, code, reason } => {
                if let Some(mut stream) = self.writers.remove(&conn) {
                    server::close(&mut stream, code, reason);
                }
            }
            Output::Restart => return self.client.start(),
            Output::Say(line) => eprintln!("{line}"),
        }
        Ok(())
    }
}

/// The client under test, where it is ours to start. Killed with everything it started when dropped.
struct Client {
    command: Option<String>,
    url: String,
    child: Option<Child>,
}

impl Client {
    fn start(&mut self) -> Result<(), String> {
        self.kill();
        let Some(command) = &self.command else {
            eprintln!("start the client now (end the one that runs): ws URL {}", self.url);
            return Ok(());
        };
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", command]).env("RINGPOST_URL", &self.url).process_group(0);
        shell.stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(shell.spawn().map_err(|e| format!("cannot start sh: {e}"))?);
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            let _ = child.wait();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.kill();
    }
}
