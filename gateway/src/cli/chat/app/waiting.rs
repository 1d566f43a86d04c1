//! What was typed and waits: for a change that decides who gets it, or for the outcome of the message that it is about, or
//! for the one that it is about to come.
//!
//! Guarantees: whatever is typed behind a line that waits waits with it, so that the order stays, except for what is of
//! this client alone. Nothing that waited is lost without a word.

use super::super::command::{self, Command};
use super::super::show;
use super::{App, Now, WANTED};
use std::collections::VecDeque;

impl App {
    pub(super) fn waits(&self, command: &Command) -> bool {
        self.asks.changes()
            || (command.is_about_own() && self.last_own_is_open())
            || self.is_about_what_may_come(command)
    }

    /// The message that it is about is not here, and what was missed has not come yet: a pipe is faster than that.
    fn is_about_what_may_come(&self, command: &Command) -> bool {
        let is_here = match command {
            _ if command.is_about_own() => self.last_own().is_some(),
            _ if command.is_about_heard() => self.last_heard().is_some(),
            _ => true,
        };
        !is_here && !self.synced && self.current.is_some()
    }

    pub(super) fn hold(&mut self, line: &str) {
        if self.held.len() < WANTED {
            return self.held.push_back(line.to_owned());
        }
        let why = self.held_for();
        self.fail(why.to_owned());
    }

    /// Why it goes no further.
    pub(super) fn held_for(&self) -> &'static str {
        let first = self.held.front().and_then(|line| command::parse(line).ok());
        if self.asks.changes() {
            "the change before it has no answer yet"
        } else if first.is_some_and(|command| self.is_about_what_may_come(&command)) {
            "what was said here has not come yet"
        } else {
            "the message before it has no tick yet"
        }
    }

    /// What was typed after a change that was made now, or after a message that has its outcome now.
    pub(super) fn say_held(&mut self, now: Now) {
        while let Some(line) = self.held.pop_front() {
            match command::parse(&line) {
                Ok(command) if self.waits(&command) => return self.held.push_front(line),
                Ok(command) => self.obey(now, command),
                Err(why) => self.not_done(why),
            }
        }
    }

    /// The same where something came: it is shown before what is said now is saved.
    pub(super) fn say_held_behind(&mut self, now: Now) {
        self.say_held(now);
        self.dirty |= std::mem::take(&mut self.said);
    }

    /// After a change that was not made: what is of no conversation is done all the same.
    pub(super) fn change_failed(&mut self, now: Now, why: &str) {
        let is_free = |line: &String| command::parse(line).is_ok_and(|command| command.is_of_no_conversation());
        let held = std::mem::take(&mut self.held);
        let (free, rest): (VecDeque<String>, VecDeque<String>) = held.into_iter().partition(is_free);
        self.held = rest;
        self.drop_held(why);
        for line in free {
            self.line(now, &line);
        }
    }

    /// What was typed after a change that was not made. Messages would go to others than was meant.
    pub(super) fn drop_held(&mut self, why: &str) {
        for line in std::mem::take(&mut self.held) {
            match command::parse(&line) {
                Ok(Command::Say(text) | Command::Reply(text)) => {
                    let why = format!("{}: {why}", show::snippet(&text));
                    self.own_dropped(text);
                    self.fail(why);
                }
                Ok(Command::React(_) | Command::Edit(_) | Command::Erase) => {
                    self.fail(format!("{}: {why}", show::safe(&line)))
                }
                _ => self.not_done(format!("{}: {why}", show::safe(&line))),
            }
        }
    }
}
