//! `ringpost chat`: a terminal client.
//!
//! Reads as its data flow: stdin and [`socket`] -> [`app`] (decides, pure) -> stdout, [`state`], [`socket`]. Messages go to
//! stdout, everything else to stderr, so that both can be pipes. One thread owns the app; one reads stdin and one each
//! connection.

mod app;
#[cfg(test)]
mod app_tests;
mod ask;
mod command;
mod keys;
mod show;
mod socket;
mod state;
mod stdin;
mod terminal;

use super::Outcome;
use crate::auth::{KeySet, Minter};
use crate::transport::websocket::Opcode;
use app::{App, Now, Options, Output};
use clap::{Arg, ArgMatches, Command};
use keys::Key;
use ringpost_proto::id::{check_device, check_user};
use ringpost_proto::wire::{Encoding, encode_client};
use socket::{Target, Told, Writer};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use terminal::Terminal;

/// A token of ours is good for this long, seconds; the server asks for a new one in time.
const TOKEN_TTL: u64 = 3_600;
/// Lines that are read ahead, and inputs that are taken before what they changed is saved.
const AHEAD: usize = 64;

pub fn command() -> Command {
    let arg = |name: &'static str, value: &'static str| Arg::new(name).long(name).value_name(value);
    Command::new("chat")
        .about("Write and read messages on a terminal, or from a pipe")
        .long_about(format!(
            "Write and read messages on a terminal, or from a pipe. Messages are printed on stdout, everything else on \
             stderr. When the input ends, the command waits until everything is sent and shown; status 0 means that \
             every message has its tick and every other line was obeyed.\n\nWhile it runs:\n{}",
            command::HELP
        ))
        .args_override_self(true)
        .arg(arg("user", "NAME").required(true).help("Who you are"))
        .arg(arg("device", "NAME").default_value("terminal").help("The name of this device"))
        .arg(arg("url", "URL").default_value("ws://127.0.0.1:7600").help("The gateway"))
        .arg(arg("to", "NAME").help("Whom to write to; /to NAME changes it"))
        .arg(
            arg("token", "TOKEN")
                .conflicts_with("token-key")
                .env("RINGPOST_CHAT_TOKEN")
                .hide_env_values(true)
                .help("A token for this user and device; without one the development key signs"),
        )
        .arg(
            arg("token-key", "FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Sign tokens with the only HS256 key of this key file"),
        )
        .arg(arg("token-issuer", "NAME").default_value("ringpost").help("The issuer that --token-key tokens name"))
        .arg(arg("token-audience", "NAME").default_value("ringpost").help("The audience that --token-key tokens name"))
        .arg(
            arg("state", "FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Where positions and messages without a tick are kept [default: a file under XDG_STATE_HOME]"),
        )
        .arg(
            arg("wait", "DURATION")
                .default_value("60s")
                .value_parser(humantime::parse_duration)
                .help("How long to wait for ticks when the input has ended"),
        )
        .after_help(
            "Examples:\n  \
             ringpost chat --user alice --to bob\n  \
             printf 'hi\\n' | ringpost chat --user alice --to bob && echo on disk\n  \
             ringpost chat --user bob < /dev/null        what bob has missed\n  \
             RINGPOST_CHAT_TOKEN=$(ringpost token --user alice --device pi) ringpost chat --user alice --device pi",
        )
}

/// What the one thread waits for.
#[derive(Debug)]
pub enum Input {
    Line(String),
    /// Bytes of a keyboard.
    Keys(Vec<u8>),
    /// A line that cannot be sent, and why.
    BadLine(&'static str),
    End,
    /// Of the connection with this number.
    Socket(u64, Told),
}

pub fn run(matches: &ArgMatches) -> Outcome {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str).unwrap_or_default();
    let (user, device) = (text("user"), text("device"));
    check_user(user).map_err(|e| format!("--user {e}"))?;
    check_device(device).map_err(|e| format!("--device {e}"))?;
    let to = matches.get_one::<String>("to").map(|name| command::peer(name)).transpose()?;
    let target = Target::parse(text("url"))?;
    let tokens = Tokens::new(matches, user, device)?;
    let path = match matches.get_one::<PathBuf>("state") {
        Some(path) => path.clone(),
        None => state::default_path(&target.authority, user, device)?,
    };
    let (file, state) = state::File::open(&path, user, device)?;
    let wait = matches.get_one::<Duration>("wait").copied().unwrap_or_default();
    let options = Options {
        user: user.to_owned(),
        device: device.to_owned(),
        to,
        reads: std::io::stdout().is_terminal(),
        interactive: std::io::stdout().is_terminal() && std::io::stdin().is_terminal(),
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX / 2),
        kept_in: file.path().display().to_string(),
        seed: getrandom::u64().map_err(|e| format!("no randomness: {e}"))?,
    };
    let (sender, inputs) = sync_channel(4 * AHEAD);
    let terminal = if options.interactive { Terminal::open() } else { None };
    let credit = if terminal.is_some() { stdin::keys(sender.clone()) } else { stdin::lines(sender.clone()) };
    let fresh = || {
        let mut bytes = [0; 16];
        // The operating system had some a moment ago, above.
        let _ = getrandom::fill(&mut bytes);
        u128::from_ne_bytes(bytes)
    };
    let clock = Clock(Instant::now());
    let app = App::new(clock.now(), options, state, Box::new(fresh));
    Driver { app, clock, file, target, tokens, writer: None, epoch: 0, sender, inputs, credit, owed: AHEAD, terminal }
        .run()
}

/// Where tokens are from.
enum Tokens {
    Fixed(String),
    Signed { minter: Box<Minter>, user: String, device: String },
}

impl Tokens {
    fn new(matches: &ArgMatches, user: &str, device: &str) -> Result<Self, String> {
        let text = |name: &str| matches.get_one::<String>(name).map(String::as_str).unwrap_or_default();
        let minter = match (matches.get_one::<String>("token"), matches.get_one::<PathBuf>("token-key")) {
            (Some(token), _) => return Ok(Self::Fixed(token.clone())),
            (None, Some(file)) => {
                let keys = KeySet::load(file, text("token-issuer")).map_err(|e| e.to_string())?;
                Minter::from_keys(&keys, None, text("token-audience")).map_err(|e| e.to_string())?
            }
            (None, None) => Minter::dev(),
        };
        Ok(Self::Signed { minter: Box::new(minter), user: user.to_owned(), device: device.to_owned() })
    }

    /// A fresh one, where that can be made.
    fn fresh(&self, now: Now) -> Option<String> {
        let Self::Signed { minter, user, device } = self else { return None };
        let seconds = now.unix_ms / 1_000;
        minter.mint_at(user, device, seconds + TOKEN_TTL, now.unix_ms).ok()
    }

    fn any(&self, now: Now) -> String {
        match self {
            Self::Fixed(token) => token.clone(),
            Self::Signed { .. } => self.fresh(now).unwrap_or_default(),
        }
    }
}

struct Clock(Instant);

impl Clock {
    fn now(&self) -> Now {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { ms: ms(self.0.elapsed()), unix_ms: ms(unix) }
    }
}

struct Driver {
    app: App,
    clock: Clock,
    file: state::File,
    target: Target,
    tokens: Tokens,
    writer: Option<Writer>,
    /// Of the connection; what belongs to an older one is ignored.
    epoch: u64,
    sender: SyncSender<Input>,
    inputs: Receiver<Input>,
    /// For lines of stdin.
    credit: std::sync::mpsc::Sender<()>,
    /// Credits that were not given yet.
    owed: usize,
    /// Where somebody types keys.
    terminal: Option<Terminal>,
}

impl Driver {
    fn run(mut self) -> Outcome {
        loop {
            if let Some(outcome) = self.drain() {
                return outcome;
            }
            while self.owed > 0 && self.app.wants_lines() {
                self.owed -= 1;
                // The input may have ended.
                let _ = self.credit.send(());
            }
            if let Some(terminal) = &mut self.terminal {
                terminal.draw();
            }
            let now = self.clock.now();
            let due = self.app.next_timeout_ms().map_or(60_000, |at| at.saturating_sub(now.ms));
            match self.inputs.recv_timeout(Duration::from_millis(due)) {
                Ok(input) => {
                    self.take(input);
                    for _ in 1..AHEAD {
                        let Ok(input) = self.inputs.try_recv() else { break };
                        self.take(input);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // This thread holds a sender.
                Err(RecvTimeoutError::Disconnected) => return Err("no input any more".to_owned()),
            }
            self.app.timeout(self.clock.now());
        }
    }

    fn take(&mut self, input: Input) {
        let now = self.clock.now();
        match input {
            Input::Line(line) => {
                self.owed += 1;
                self.app.line(now, &line);
            }
            Input::BadLine(why) => {
                self.owed += 1;
                // Empty: the rest of a line that was complained about.
                if !why.is_empty() {
                    self.app.bad_line(why);
                }
            }
            Input::Keys(bytes) => bytes.into_iter().for_each(|byte| self.key(now, byte)),
            Input::End => self.app.end_of_input(now),
            Input::Socket(epoch, told) if epoch == self.epoch => self.told(now, told),
            Input::Socket(_, Told::Opened(mut writer)) => writer.close(),
            Input::Socket(..) => {}
        }
    }

    fn key(&mut self, now: Now, byte: u8) {
        let Some(terminal) = &mut self.terminal else { return };
        match terminal.feed(byte) {
            Key::Nothing => {}
            Key::Changed => self.app.key(now, terminal.is_message()),
            Key::Entered(line) => self.app.line(now, &line),
            Key::End => self.app.end_of_input(now),
            Key::Quit => self.app.line(now, "/quit"),
        }
    }

    /// Room for a line that is not the one being typed.
    fn clear(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.clear();
        }
    }

    fn told(&mut self, now: Now, told: Told) {
        match told {
            Told::Opened(writer) => {
                self.writer = Some(writer);
                self.app.opened(now);
            }
            Told::Message(bytes) => self.app.message(now, bytes),
            Told::Ping(payload) => {
                if let Some(writer) = &mut self.writer {
                    writer.frame(Opcode::Pong, &payload);
                }
                self.app.activity(now);
            }
            Told::Pong => self.app.activity(now),
            Told::Refused(refused) => {
                self.hang_up(None);
                let retry_after = refused.retry_after.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
                self.app.refused(now, &refused.text(), refused.status, retry_after);
            }
            Told::Unreachable(why) => {
                self.hang_up(None);
                self.app.refused(now, &why, None, None);
            }
            Told::Closed { code, reason } => {
                self.hang_up(code);
                self.app.closed(now, code, &reason);
            }
        }
    }

    /// Everything that the app wants done; `Some`: the command has ended.
    fn drain(&mut self) -> Option<Outcome> {
        loop {
            let now = self.clock.now();
            match self.app.poll(now)? {
                // A reader who left does not want to know; what was not shown is not acknowledged.
                Output::Show(line) => {
                    self.clear();
                    if writeln!(std::io::stdout(), "{line}").is_err() {
                        return Some(Err("nobody reads the output any more".to_owned()));
                    }
                }
                Output::Note(line) => {
                    self.clear();
                    drop(writeln!(std::io::stderr(), "{line}"));
                }
                Output::Save => match self.file.save(&self.app.state) {
                    Ok(()) => self.app.saved(),
                    Err(why) => return Some(Err(why)),
                },
                Output::Connect => {
                    self.epoch += 1;
                    let token = self.tokens.any(now);
                    socket::connect(self.target.clone(), token, self.epoch, self.sender.clone());
                }
                Output::Drop => {
                    self.hang_up(None);
                    self.app.closed(now, None, "");
                }
                Output::Transmit(frame) => {
                    let mut bytes = Vec::new();
                    encode_client(Encoding::Protobuf, &frame, &mut bytes);
                    if let Some(writer) = &mut self.writer {
                        writer.frame(Opcode::Binary, &bytes);
                    }
                }
                Output::Token { exp_ms } => {
                    let token = self.tokens.fresh(now);
                    self.app.token(now, exp_ms, token);
                }
                Output::Exit(outcome) => {
                    self.hang_up(Some(1000));
                    return Some(outcome);
                }
            }
        }
    }

    /// Ends the connection from this side, with a close frame where there is something to say.
    fn hang_up(&mut self, code: Option<u16>) {
        self.epoch += 1;
        if let Some(mut writer) = self.writer.take() {
            if let Some(code) = code {
                writer.frame(Opcode::Close, &code.to_be_bytes());
            }
            writer.close();
        }
    }
}
