//! How it ends: when everything is sent and shown, when the time for that is over, or when the server says so; and what the
//! exit status says of it.

use super::{App, Now, Output, messages};
use ringpost_proto::close::CloseCode;

impl App {
    /// No line comes any more: leave when everything is sent and everything missed was shown.
    pub fn end_of_input(&mut self, now: Now) {
        self.ending = Some(now.ms + self.options.wait_ms);
    }

    pub(super) fn leave_if_done(&mut self, now: Now) -> Option<Output> {
        self.ending?;
        if self.synced && !self.leaving && self.client.is_settled() && self.asks.is_empty() && self.held.is_empty() {
            self.leaving = true;
            self.client.bye();
            return self.poll(now);
        }
        None
    }

    pub(super) fn give_up(&mut self) {
        let why = self.held_for();
        self.drop_held(why);
        let outcome = match self.client.unsent() {
            0 if self.leaving => self.verdict(),
            0 if self.synced => Err("the server has not answered everything in time".to_owned()),
            0 if self.last_error.is_empty() => Err("no connection to the server".to_owned()),
            0 => Err(format!("no connection to the server: {}", self.last_error)),
            unsent => Err(self.unsent_line(unsent)),
        };
        self.exit(outcome);
    }

    pub(super) fn unsent_line(&self, unsent: usize) -> String {
        format!("{} not sent yet, kept in {} for the next start", messages(unsent), self.options.kept_in)
    }

    pub(super) fn stopped_line(&self, code: u16) -> String {
        let name = CloseCode::ALL.iter().find(|known| **known as u16 == code).map_or("", |known| known.name());
        let mut line = format!("the server ended the session: {code} {name}");
        if !self.last_error.is_empty() {
            line += &format!(" ({})", self.last_error);
        }
        match self.client.unsent() {
            0 => line,
            unsent => format!("{line}; {}", self.unsent_line(unsent)),
        }
    }

    /// What the exit status says when nothing is on its way any more.
    pub(super) fn verdict(&self) -> Result<(), String> {
        let lines = if self.undone == 1 { "line" } else { "lines" };
        match (self.failed as usize, self.undone) {
            (0, 0) => Ok(()),
            (0, undone) => Err(format!("{undone} {lines} not obeyed: {}", self.failure)),
            (failed, 0) => Err(format!("{} not sent: {}", messages(failed), self.failure)),
            (failed, undone) => {
                Err(format!("{} not sent and {undone} {lines} not obeyed: {}", messages(failed), self.failure))
            }
        }
    }

    /// What was asked for by a line, and is not: no message. Who types sees that and goes on; a pipe must hear of it.
    pub(super) fn not_done(&mut self, why: String) {
        if !self.options.interactive {
            self.undone += 1;
            self.failure.clone_from(&why);
        }
        self.note(why);
    }

    pub(super) fn fail(&mut self, why: String) {
        self.failed += 1;
        self.note(format!("not sent: {why}"));
        self.failure = why;
    }

    pub(super) fn exit(&mut self, outcome: Result<(), String>) {
        if !self.ended {
            self.ended = true;
            let why = self.held_for();
            self.drop_held(why);
            if self.dirty || self.said {
                self.outputs.push_back(Output::Save);
            }
            self.outputs.push_back(Output::Exit(outcome));
        }
    }
}
