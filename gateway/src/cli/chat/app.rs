//! The terminal client without terminal, socket, file and clock.
//!
//! Owns: the conforming client, what is remembered of it, and the conversation that lines go to. Contract: feed one input,
//! then drain [`App::poll`]. Its order is what is promised: what came is shown, then saved, and only then acknowledged;
//! a message is saved before it is sent. Never does: decide about retries, gaps or reconnects (the client of proto does).

mod came;
mod ephemera;
mod leaving;
mod own;
mod typed;
mod waiting;

use super::ask::Asks;
use super::command::{self, Command};
use super::show;
use super::state::State;
use bytes::Bytes;
use ephemera::Ephemera;
use own::Own;
use ringpost_proto::client::{ABNORMAL, Client};
use ringpost_proto::close::CloseCode;
use ringpost_proto::v1::{self, code, peer::Peer};
use ringpost_proto::wire::{Encoding, decode_server};
use std::collections::VecDeque;

/// Own messages that a later tick can name, of all conversations.
const REMEMBERED: usize = 256;
/// Messages without a tick beyond which no more lines are wanted for now.
const WANTED: usize = 1_000;

/// The time of an input.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic milliseconds.
    pub ms: u64,
    /// Unix milliseconds.
    pub unix_ms: u64,
}

/// What the driver is to do.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// A line for stdout: what was said.
    Show(String),
    /// A line for stderr: what happens.
    Note(String),
    /// Write the state to disk, then say `saved`.
    Save,
    Connect,
    /// Close the connection and say `closed`.
    Drop,
    /// A frame for the connection.
    Transmit(Box<v1::ClientFrame>),
    /// Get a new token, if that can be done, and say `token`. `exp_ms` as in [`Event::TokenWanted`].
    Token {
        exp_ms: u64,
    },
    /// The end: all is well, or one line that says what is not.
    Exit(Result<(), String>),
}

pub struct Options {
    pub user: String,
    pub device: String,
    pub to: Option<Peer>,
    /// What is shown of the current conversation counts as read: somebody is looking.
    pub reads: bool,
    /// Somebody types: whether the other one of the current conversation is there is told, and who is typing.
    pub interactive: bool,
    /// After the last line of input: wait so long for ticks, milliseconds.
    pub wait_ms: u64,
    /// The state file, for messages that name it.
    pub kept_in: String,
    pub seed: u64,
}

pub struct App {
    options: Options,
    client: Client,
    pub state: State,
    dirty: bool,
    /// A message was said and is not saved; set by inputs only, when everything before them was shown.
    said: bool,
    /// The last delivery that was shown.
    shown: u64,
    current: Option<Peer>,
    asks: Asks,
    ephemera: Ephemera,
    outputs: VecDeque<Output>,
    /// Messages of this user, in the order in which they were said.
    own: VecDeque<Own>,
    /// Edits that were shown or sent: they are taken back with their message, which says nothing new.
    edits: VecDeque<(Peer, u64)>,
    /// The last message of somebody else in each conversation.
    heard: VecDeque<(Peer, u64)>,
    /// What was typed after a change that has no answer yet (a group, its members, a block), which decides who gets it;
    /// or from a command on that is about a message without an outcome, or about one that may still come.
    held: VecDeque<String>,
    /// The day of the last line.
    day: String,
    server: String,
    synced: bool,
    /// The input has ended; when to give up.
    ending: Option<u64>,
    /// Messages that will never be sent, other lines of a pipe that were not obeyed, and why the last one was not.
    failed: u64,
    undone: u64,
    failure: String,
    last_error: String,
    /// Bye was said.
    leaving: bool,
    ended: bool,
    fresh: Box<dyn FnMut() -> u128>,
}

impl App {
    /// `fresh`: random bits for the ids of messages.
    pub fn new(now: Now, options: Options, mut state: State, fresh: Box<dyn FnMut() -> u128>) -> Self {
        let mut client = Client::new(now.ms, options.seed, false);
        for known in &state.conversations {
            if let Some(peer) = known.conversation.peer.as_ref().filter(|_| known.seq > 0) {
                client.restore(peer, known.seq);
            }
        }
        if let Some((store, token)) = &state.store {
            client.restore_store(*store, token.clone().into());
        }
        // More than the client takes were never kept.
        state.outbox.retain(|send| client.send(send.clone()).is_ok());
        let own = own::kept(&state.outbox);
        let mut app = Self {
            client,
            state,
            dirty: false,
            said: false,
            shown: 0,
            current: options.to.clone(),
            asks: Asks::default(),
            ephemera: Ephemera::default(),
            outputs: VecDeque::new(),
            own,
            edits: VecDeque::new(),
            heard: VecDeque::new(),
            held: VecDeque::new(),
            day: String::new(),
            server: String::new(),
            synced: false,
            ending: None,
            failed: 0,
            undone: 0,
            failure: String::new(),
            last_error: String::new(),
            leaving: false,
            ended: false,
            fresh,
            options,
        };
        if !app.state.outbox.is_empty() {
            app.note(format!("{} kept from last time", messages(app.state.outbox.len())));
        }
        app
    }

    // ---- inputs ----

    /// A line of input.
    pub fn line(&mut self, now: Now, line: &str) {
        match command::parse(line) {
            Ok(command) if command.is_about_here() => self.obey(now, command),
            Ok(command) if !self.held.is_empty() || self.waits(&command) => self.hold(line),
            Ok(command) => self.obey(now, command),
            Err(why) => self.not_done(why),
        }
    }

    /// A line that cannot be sent, because of `why`.
    pub fn bad_line(&mut self, why: &str) {
        self.fail(why.to_owned());
    }

    pub fn opened(&mut self, now: Now) {
        self.client.connected(now.ms, String::new());
    }

    /// A binary message of the connection.
    pub fn message(&mut self, now: Now, bytes: Bytes) {
        let frame = match decode_server(Encoding::Protobuf, bytes) {
            Ok(frame) => frame,
            Err(error) => {
                self.note(format!("the server sent what is no frame: {}", show::safe(error.reason())));
                return self.outputs.push_back(Output::Drop);
            }
        };
        if let Some(v1::server_frame::Answer::Welcome(welcome)) = &frame.answer {
            self.welcomed(welcome);
        }
        if self.came_and_goes(now, &frame) {
            return self.client.activity(now.ms);
        }
        match self.asks.answer(&frame) {
            Some(answered) => {
                self.client.activity(now.ms);
                self.answered(now, answered);
            }
            None => self.client.frame(now.ms, frame),
        }
    }

    /// Bytes that are no message.
    pub fn activity(&mut self, now: Now) {
        self.client.activity(now.ms);
    }

    /// The connection ended with this close code, or without one.
    pub fn closed(&mut self, now: Now, code: Option<u16>, reason: &str) {
        if self.client.is_online() && code != Some(CloseCode::Normal as u16) {
            let code = code.map_or("without a word".to_owned(), |code| format!("with {code} {}", show::safe(reason)));
            self.note(format!("connection closed {}", code.trim_end()));
        }
        if self.last_error.is_empty() {
            self.last_error = show::safe(reason);
        }
        self.synced = false;
        // What waits for a change or a message goes on waiting: that is sent again.
        self.asks.lost();
        self.ephemera.lost();
        self.client.disconnected(now.ms, code.unwrap_or(ABNORMAL));
        self.waiting(now);
    }

    /// No connection could be had. `status`: what the server answered; `retry_after_ms`: when it wants to be asked again.
    pub fn refused(&mut self, now: Now, why: &str, status: Option<u16>, retry_after_ms: Option<u64>) {
        // Too many requests is the only one of its class that passes by itself.
        if status.is_some_and(|status| (400..500).contains(&status) && status != 429) {
            return self.exit(Err(format!("refused by the server: {}", show::safe(why))));
        }
        self.note(format!("not connected: {}", show::safe(why)));
        match retry_after_ms {
            Some(ms) => self.client.refused(now.ms, ms),
            None => self.client.disconnected(now.ms, ABNORMAL),
        }
        self.waiting(now);
    }

    /// A new token was made (`Some`, its text), or cannot be.
    pub fn token(&mut self, now: Now, exp_ms: u64, token: Option<String>) {
        match token {
            Some(token) => self.client.renew(now.ms, token),
            None if exp_ms == 0 => self.exit(Err("the token has expired: start again with a new one".to_owned())),
            None => self.note(format!("the token ends at {}", show::day_and_time(exp_ms).1)),
        }
    }

    pub fn timeout(&mut self, now: Now) {
        self.client.timeout(now.ms);
        self.typing_timeout(now);
        if self.ending.is_some_and(|at| at <= now.ms) {
            self.give_up();
        }
    }

    /// The state is on disk.
    pub fn saved(&mut self) {
        (self.dirty, self.said) = (false, false);
        self.client.stored(self.shown);
    }

    // ---- outputs ----

    pub fn poll(&mut self, now: Now) -> Option<Output> {
        if self.said {
            return Some(Output::Save);
        }
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if self.ended {
                return None;
            }
            match self.client.poll_event() {
                Some(event) => self.event(now, event),
                None => break,
            }
        }
        if self.dirty {
            return Some(Output::Save);
        }
        if let Some(frame) = self.client.poll_transmit(now.ms) {
            return Some(Output::Transmit(Box::new(frame)));
        }
        if let Some(frame) = self.asks.poll(self.client.is_online()) {
            return Some(Output::Transmit(Box::new(frame)));
        }
        if let Some(frame) = self.ephemera.poll(self.client.is_online()) {
            return Some(Output::Transmit(Box::new(frame)));
        }
        self.leave_if_done(now)
    }

    /// When to call `timeout`.
    pub fn next_timeout_ms(&self) -> Option<u64> {
        [self.client.next_timeout_ms(), self.ephemera.next_timeout_ms(), self.ending].into_iter().flatten().min()
    }

    /// Whether more lines are welcome.
    pub fn wants_lines(&self) -> bool {
        self.client.unsent() < WANTED && self.held.len() < WANTED / 2 && !self.asks.is_busy()
    }

    // ---- inside ----

    fn obey(&mut self, now: Now, command: Command) {
        self.command(now, command);
        if self.asks.take_refused() {
            self.not_done("too much was asked and has no answer yet: not asked".to_owned());
        }
    }

    fn took(&mut self, delivery: u64) {
        self.shown = delivery;
        self.dirty = true;
    }

    /// Takes the client's position over into what is remembered.
    fn advance(&mut self, peer: &Peer) {
        if let Some((received, _)) = self.client.position(peer) {
            self.state.conversation(peer).seq = received;
        }
    }

    fn remember_edit(&mut self, peer: &Peer, seq: u64) {
        self.edits.push_back((peer.clone(), seq));
        if self.edits.len() > REMEMBERED {
            self.edits.pop_front();
        }
    }

    /// The log of the server is another one: its positions are of other messages.
    fn forget(&mut self, peer: &Peer) {
        self.state.forget(peer);
        self.forget_own(peer);
        self.edits.retain(|(of, ..)| of != peer);
        self.heard.retain(|(of, _)| of != peer);
        self.dirty = true;
    }

    /// The time of a line; a line with the day goes before it where that is another one.
    fn time(&mut self, unix_ms: u64) -> String {
        let (day, time) = show::day_and_time(unix_ms);
        if day != self.day {
            self.outputs.push_back(Output::Show(format!("-- {day} --")));
            self.day = day;
        }
        time
    }

    fn waiting(&mut self, now: Now) {
        if let Some(at_ms) = self.client.next_timeout_ms() {
            self.note(format!("reconnecting in {} s", at_ms.saturating_sub(now.ms).div_ceil(1_000)));
        }
    }

    fn note(&mut self, line: String) {
        self.outputs.push_back(Output::Note(line));
    }
}

fn messages(count: usize) -> String {
    format!("{count} message{}", if count == 1 { "" } else { "s" })
}

fn error_line(error: &v1::Error) -> String {
    let name = code::Value::try_from(error.code).unwrap_or_default().as_str_name();
    format!("{name} {}", show::safe(&error.message)).trim_end().to_owned()
}
