//! Who is there and who is typing: shown to somebody at a terminal, never stored.
//!
//! Owns: who is watched, who was said to be typing, and what was told of one's own typing. Guarantees: typing of others is
//! over after [`TYPING_MS`] without news, one's own after [`PAUSE_MS`] without a key; both are told once.

use super::super::show;
use super::{App, Now};
use ringpost_proto::v1::client_frame::Request;
use ringpost_proto::v1::peer::Peer;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_proto::v1::typing::state::Value as Typing;
use ringpost_proto::v1::{self, ClientFrame};
use std::collections::{BTreeSet, VecDeque};

/// Typing of others without news, milliseconds.
const TYPING_MS: u64 = 6_000;
/// How often one's own is told while it goes on.
const COMPOSE_EVERY_MS: u64 = 3_000;
/// After the last key.
const PAUSE_MS: u64 = 5_000;
/// Typists that are remembered.
const TYPISTS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Ephemera {
    /// Told of by name.
    watched: BTreeSet<String>,
    /// The other one of the current conversation, where that is nobody of them.
    followed: Option<String>,
    /// (conversation, user, until when).
    typists: Vec<(Peer, String, u64)>,
    /// To whom this user is typing, since the last key, and when that was told last.
    composing: Option<(Peer, u64, u64)>,
    telling: VecDeque<v1::Typing>,
}

impl Ephemera {
    /// The connection is gone: nothing is known of anybody.
    pub(super) fn lost(&mut self) {
        (self.typists, self.composing, self.telling) = (Vec::new(), None, VecDeque::new());
    }

    pub(super) fn next_timeout_ms(&self) -> Option<u64> {
        let typists = self.typists.iter().map(|(.., until)| *until);
        typists.chain(self.composing.as_ref().map(|(_, at_ms, _)| at_ms + PAUSE_MS)).min()
    }

    /// What has no answer, and is worth nothing later.
    pub(super) fn poll(&mut self, online: bool) -> Option<ClientFrame> {
        if !online {
            self.telling.clear();
        }
        let typing = self.telling.pop_front()?;
        Some(ClientFrame { id: 0, request: Some(Request::Typing(typing)) })
    }

    fn tell(&mut self, peer: &Peer, state: Typing) {
        let conversation = Some(v1::Peer { peer: Some(peer.clone()) });
        self.telling.push_back(v1::Typing { conversation, state: state as i32 });
    }

    fn pause(&mut self) {
        if let Some((peer, ..)) = self.composing.take() {
            self.tell(&peer, Typing::Paused);
        }
    }

    fn users(&self) -> Vec<String> {
        self.watched.iter().chain(&self.followed).cloned().collect()
    }
}

impl App {
    /// A key was pressed; `composing`: a message is being written, and not a command.
    pub fn key(&mut self, now: Now, composing: bool) {
        let Some(peer) = self.current.clone().filter(|_| composing) else { return self.ephemera.pause() };
        let told = match &self.ephemera.composing {
            Some((to, _, told)) if *to == peer => Some(*told),
            _ => None,
        };
        if told.is_none() {
            self.ephemera.pause();
        }
        let due = told.is_none_or(|told| now.ms >= told + COMPOSE_EVERY_MS);
        if due {
            self.ephemera.tell(&peer, Typing::Composing);
        }
        let told = if due { now.ms } else { told.unwrap_or(now.ms) };
        self.ephemera.composing = Some((peer, now.ms, told));
    }

    /// What was being typed is sent: the record says it, and PAUSED need not.
    pub(super) fn typed_out(&mut self) {
        self.ephemera.composing = None;
    }

    pub(super) fn typing_timeout(&mut self, now: Now) {
        self.ephemera.typists.retain(|(.., until)| *until > now.ms);
        if self.ephemera.composing.as_ref().is_some_and(|(_, at_ms, _)| at_ms + PAUSE_MS <= now.ms) {
            self.ephemera.pause();
        }
    }

    /// Whether the frame is one of those that are never stored.
    pub(super) fn came_and_goes(&mut self, now: Now, frame: &v1::ServerFrame) -> bool {
        match &frame.answer {
            Some(Answer::TypingEvent(event)) => self.typing(now, event),
            Some(Answer::PresenceState(state)) => self.presence(state),
            _ => return false,
        }
        true
    }

    fn typing(&mut self, now: Now, event: &v1::TypingEvent) {
        let Some(peer) = event.conversation.as_ref().and_then(|peer| peer.peer.clone()) else { return };
        let known = self.types_no_more(&peer, &event.user);
        if event.state() != Typing::Composing || self.ephemera.typists.len() >= TYPISTS {
            return;
        }
        if self.options.interactive && !known {
            let user = show::safe(&event.user);
            self.note(match &peer {
                Peer::User(_) => format!("{user} is typing"),
                group => format!("{user} is typing to {}", show::peer(group)),
            });
        }
        self.ephemera.typists.push((peer, event.user.clone(), now.ms + TYPING_MS));
    }

    /// Whether this one was typing there.
    pub(super) fn types_no_more(&mut self, peer: &Peer, user: &str) -> bool {
        let before = self.ephemera.typists.len();
        self.ephemera.typists.retain(|(of, who, _)| of != peer || who != user);
        self.ephemera.typists.len() < before
    }

    pub(super) fn watch(&mut self, users: Vec<String>, on: bool) {
        for user in &users {
            if on {
                self.ephemera.watched.insert(user.clone())
            } else {
                self.ephemera.watched.remove(user)
            };
        }
        self.asks.watch(users, on);
    }

    /// Whoever is at the terminal is told whether the other one is there.
    pub(super) fn watch_current(&mut self) {
        let user = match &self.current {
            Some(Peer::User(user)) if self.options.interactive => Some(user.clone()),
            _ => None,
        };
        if user == self.ephemera.followed {
            return;
        }
        if let Some(old) = self.ephemera.followed.take().filter(|old| !self.ephemera.watched.contains(old)) {
            self.asks.watch(vec![old], false);
        }
        if let Some(user) = user {
            self.asks.watch(vec![user.clone()], true);
            self.ephemera.followed = Some(user);
        }
    }

    /// What was watched is forgotten with the connection.
    pub(super) fn watch_again(&mut self) {
        if let (None, Some(Peer::User(user)), true) = (&self.ephemera.followed, &self.current, self.options.interactive)
        {
            self.ephemera.followed = Some(user.clone());
        }
        let users = self.ephemera.users();
        if !users.is_empty() {
            self.asks.watch(users, true);
        }
    }

    pub(super) fn presence(&mut self, state: &v1::PresenceState) {
        if let Some(line) = show::presence(state) {
            self.note(line);
        }
    }
}
