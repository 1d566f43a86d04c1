//! Questions of the one who types: they have an answer or none, and are never repeated by themselves.
//!
//! Guarantees: request numbers that the conforming client never takes; at most [`ASKED`] at a time. A new command that asks
//! something is one more [`Ask`] here.

use super::show;
use ringpost_proto::id::RECORD_ID_EPOCH_MS;
use ringpost_proto::v1::{self, client_frame::Request, peer::Peer, server_frame::Answer};
use std::collections::{BTreeMap, VecDeque};

/// Beyond every number that the client of proto can reach.
const FIRST_ID: u64 = 1 << 48;
/// Questions without an answer; more are not taken.
const ASKED: usize = 8;
/// Conversations that `/list` shows.
const LIST: u32 = 50;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ask {
    List,
    History,
    /// A group, as it is or after a change.
    Group,
    /// A block.
    Done,
}

/// What there is to show for a question.
#[derive(Debug, PartialEq)]
pub enum Answered {
    List(v1::ConversationPage),
    /// Oldest first.
    Records(Vec<v1::Record>),
    Group(v1::Group),
    Done,
    Error(v1::Error),
    Unknown,
}

#[derive(Debug, Default)]
pub struct Asks {
    asked: u64,
    waiting: VecDeque<(Ask, Request)>,
    flying: BTreeMap<u64, Ask>,
}

impl Asks {
    pub fn list(&mut self) {
        self.push(Ask::List, Request::Conversations(v1::Conversations { limit: LIST, ..Default::default() }));
    }

    /// The newest `limit` records.
    pub fn history(&mut self, peer: &Peer, limit: u32) {
        let conversation = Some(v1::Peer { peer: Some(peer.clone()) });
        self.push(Ask::History, Request::History(v1::History { conversation, before_seq: 0, limit }));
    }

    /// Changes a group or asks for it; the answer is the group.
    pub fn group(&mut self, request: Request) {
        self.push(Ask::Group, request);
    }

    pub fn block(&mut self, user: String, on: bool) {
        let block = v1::Block { user };
        self.push(Ask::Done, if on { Request::Block(block) } else { Request::Unblock(block) });
    }

    fn push(&mut self, ask: Ask, request: Request) {
        if self.waiting.len() + self.flying.len() < ASKED {
            self.waiting.push_back((ask, request));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.flying.is_empty()
    }

    /// The connection is gone, and every answer with it.
    pub fn lost(&mut self) {
        self.flying.clear();
    }

    pub fn poll(&mut self, online: bool) -> Option<v1::ClientFrame> {
        let (ask, request) = if online { self.waiting.pop_front()? } else { return None };
        let id = FIRST_ID + self.asked;
        self.asked += 1;
        self.flying.insert(id, ask);
        Some(v1::ClientFrame { id, request: Some(request) })
    }

    /// `None`: the frame answers none of these questions.
    pub fn answer(&mut self, frame: &v1::ServerFrame) -> Option<Answered> {
        let ask = self.flying.remove(&frame.re)?;
        Some(match (ask, &frame.answer) {
            (Ask::List, Some(Answer::ConversationPage(page))) => Answered::List(page.clone()),
            (Ask::History, Some(Answer::Page(page))) => Answered::Records(page.records.iter().rev().cloned().collect()),
            (Ask::Group, Some(Answer::Group(group))) => Answered::Group(group.clone()),
            (Ask::Done, Some(Answer::Ok(_))) => Answered::Done,
            (_, Some(Answer::Error(error))) => Answered::Error(error.clone()),
            _ => Answered::Unknown,
        })
    }
}

/// The lines of a list. `known`: what this device knows to be unread.
pub fn list(page: &v1::ConversationPage, known: impl Fn(&Peer) -> u64) -> Vec<String> {
    let line = |entry: &v1::ConversationEntry| {
        let Some(peer) = entry.conversation.as_ref().and_then(|peer| peer.peer.as_ref()) else { return String::new() };
        let (day, time) = show::day_and_time((entry.last_id >> 22).saturating_add(RECORD_ID_EPOCH_MS));
        let unread = match known(peer).max(u64::from(entry.unread)) {
            0 => String::new(),
            unread => format!("{unread} unread"),
        };
        let preview = show::snippet(&entry.preview);
        let title = if entry.title.is_empty() { String::new() } else { format!(" ({})", show::safe(&entry.title)) };
        format!("{}{title} {unread:>10}  {day} {time}  {preview}", show::peer(peer))
    };
    let mut lines: Vec<String> = page.entries.iter().map(line).collect();
    if lines.is_empty() {
        lines.push("no conversations".to_owned());
    }
    if !page.cursor.is_empty() {
        lines.push("... and older ones".to_owned());
    }
    lines
}
