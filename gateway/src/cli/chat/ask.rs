//! Questions of the one who types, and changes of groups and blocks: what has no answer when the connection ends is asked again on
//! the next one. None does more for it: changes carry an id, by which the server knows them.
//!
//! Guarantees: request numbers that the conforming client never takes; at most [`ASKED`] without an answer at a time, and at
//! most [`WAITING`] behind them, of which one more is refused. A new command that asks something is one more [`Ask`] here.

use super::show;
use bytes::Bytes;
use ringpost_proto::id::RECORD_ID_EPOCH_MS;
use ringpost_proto::v1::{self, client_frame::Request, peer::Peer, server_frame::Answer};
use std::collections::{BTreeMap, VecDeque};

/// Beyond every number that the client of proto can reach.
const FIRST_ID: u64 = 1 << 48;
/// Questions without an answer, and those behind them.
const ASKED: usize = 8;
const WAITING: usize = 256;
/// Conversations that `/list` shows.
const LIST: u32 = 50;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ask {
    List,
    Unread,
    History,
    Info,
    Settings,
    Devices,
    /// Who is there. Its errors are nobody's: nothing is known then.
    Watch,
    /// A group as it is, after a change, and one that is made.
    Group,
    Change,
    Create,
    /// A block.
    Done,
}

/// What there is to show for a question.
#[derive(Debug, PartialEq)]
pub enum Answered {
    List(v1::ConversationPage),
    /// The same; only what is unread is wanted.
    Unread(v1::ConversationPage),
    Info(Vec<v1::MemberState>),
    Settings(v1::Settings),
    Devices(v1::DeviceList),
    Presence(Vec<v1::PresenceState>),
    /// Oldest first.
    Records(Vec<v1::Record>),
    Group(v1::Group),
    Changed(v1::Group),
    Created(v1::Group),
    Done,
    /// Nothing was changed, made or blocked.
    Refused(v1::Error),
    Error(v1::Error),
    Unknown,
}

#[derive(Debug, Default)]
pub struct Asks {
    asked: u64,
    waiting: VecDeque<(Ask, Request)>,
    flying: BTreeMap<u64, (Ask, Request)>,
    refused: bool,
}

impl Asks {
    pub fn list(&mut self) {
        self.push(Ask::List, Request::Conversations(v1::Conversations { limit: LIST, ..Default::default() }));
    }

    pub fn unread(&mut self) {
        self.push(Ask::Unread, Request::Conversations(v1::Conversations { limit: LIST, ..Default::default() }));
    }

    /// Who has received and read a record.
    pub fn info(&mut self, peer: &Peer, seq: u64) {
        let conversation = Some(v1::Peer { peer: Some(peer.clone()) });
        self.push(Ask::Info, Request::RecordInfo(v1::RecordInfo { conversation, seq }));
    }

    /// Changes what is named; the answer is all of it.
    pub fn settings(&mut self, change: v1::Settings) {
        self.push(Ask::Settings, Request::Settings(change));
    }

    pub fn devices(&mut self) {
        self.push(Ask::Devices, Request::Devices(v1::Devices {}));
    }

    pub fn unlink(&mut self, device: String) {
        self.push(Ask::Devices, Request::DeviceUnlink(v1::DeviceUnlink { device }));
    }

    pub fn watch(&mut self, users: Vec<String>, on: bool) {
        let watch = v1::Watch { users };
        self.push(Ask::Watch, if on { Request::Watch(watch) } else { Request::Unwatch(watch) });
    }

    /// The newest `limit` records.
    pub fn history(&mut self, peer: &Peer, limit: u32) {
        let conversation = Some(v1::Peer { peer: Some(peer.clone()) });
        self.push(Ask::History, Request::History(v1::History { conversation, before_seq: 0, limit }));
    }

    pub fn group(&mut self, group: Bytes) {
        self.push(Ask::Group, Request::GroupGet(v1::GroupGet { group }));
    }

    /// Changes a group; the answer is the group.
    pub fn change(&mut self, request: Request) {
        self.push(Ask::Change, request);
    }

    /// The same for a group that is to be made.
    pub fn create(&mut self, request: Request) {
        self.push(Ask::Create, request);
    }

    /// Whether something is being changed that decides who gets what is said next.
    pub fn changes(&self) -> bool {
        let mut all = self.waiting.iter().map(|(ask, _)| ask).chain(self.flying.values().map(|(ask, _)| ask));
        all.any(|ask| matches!(ask, Ask::Create | Ask::Change | Ask::Done))
    }

    /// Whether one was refused since this was asked last.
    pub fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// Whether there are enough for now.
    pub fn is_busy(&self) -> bool {
        self.waiting.len() >= WAITING / 2
    }

    pub fn block(&mut self, user: String, on: bool) {
        let block = v1::Block { user };
        self.push(Ask::Done, if on { Request::Block(block) } else { Request::Unblock(block) });
    }

    fn push(&mut self, ask: Ask, request: Request) {
        match self.waiting.len() < WAITING {
            true => self.waiting.push_back((ask, request)),
            false => self.refused = true,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.flying.is_empty()
    }

    /// The connection is gone, and every answer with it. Who is watched is asked for by whoever knows that.
    pub fn lost(&mut self) {
        let lost = std::mem::take(&mut self.flying).into_values().filter(|(ask, _)| *ask != Ask::Watch);
        let mut again: VecDeque<_> = lost.collect();
        again.append(&mut self.waiting);
        self.waiting = again;
    }

    pub fn poll(&mut self, online: bool) -> Option<v1::ClientFrame> {
        let (ask, request) = if online && self.flying.len() < ASKED { self.waiting.pop_front()? } else { return None };
        let id = FIRST_ID + self.asked;
        self.asked += 1;
        self.flying.insert(id, (ask, request.clone()));
        Some(v1::ClientFrame { id, request: Some(request) })
    }

    /// `None`: the frame answers none of these questions.
    pub fn answer(&mut self, frame: &v1::ServerFrame) -> Option<Answered> {
        let (ask, _) = self.flying.remove(&frame.re)?;
        Some(match (ask, &frame.answer) {
            (Ask::List, Some(Answer::ConversationPage(page))) => Answered::List(page.clone()),
            (Ask::Unread, Some(Answer::ConversationPage(page))) => Answered::Unread(page.clone()),
            (Ask::Info, Some(Answer::RecordInfo(info))) => Answered::Info(info.members.clone()),
            (Ask::Settings, Some(Answer::Settings(settings))) => Answered::Settings(settings.clone()),
            (Ask::Devices, Some(Answer::DeviceList(list))) => Answered::Devices(list.clone()),
            (Ask::Watch, Some(Answer::PresenceStates(states))) => Answered::Presence(states.states.clone()),
            (Ask::Watch, _) => Answered::Presence(Vec::new()),
            (Ask::History, Some(Answer::Page(page))) => Answered::Records(page.records.iter().rev().cloned().collect()),
            (Ask::Group, Some(Answer::Group(group))) => Answered::Group(group.clone()),
            (Ask::Change, Some(Answer::Group(group))) => Answered::Changed(group.clone()),
            (Ask::Create, Some(Answer::Group(group))) => Answered::Created(group.clone()),
            (Ask::Done, Some(Answer::Ok(_))) => Answered::Done,
            (Ask::Change | Ask::Create | Ask::Done, Some(Answer::Error(error))) => Answered::Refused(error.clone()),
            (Ask::Change | Ask::Create | Ask::Done, _) => Answered::Refused(v1::Error {
                message: "an answer that this version does not know".to_owned(),
                ..Default::default()
            }),
            (_, Some(Answer::Error(error))) => Answered::Error(error.clone()),
            _ => Answered::Unknown,
        })
    }
}

/// The lines of a list. `known`: what this device knows to be unread; `all`: also conversations where nothing is.
pub fn list(page: &v1::ConversationPage, known: impl Fn(&Peer) -> u64, all: bool) -> Vec<String> {
    let unread = |entry: &v1::ConversationEntry| {
        let peer = entry.conversation.as_ref().and_then(|peer| peer.peer.as_ref());
        peer.map_or(0, &known).max(u64::from(entry.unread))
    };
    let line = |entry: &v1::ConversationEntry| {
        let Some(peer) = entry.conversation.as_ref().and_then(|peer| peer.peer.as_ref()) else { return String::new() };
        let (day, time) = show::day_and_time((entry.last_id >> 22).saturating_add(RECORD_ID_EPOCH_MS));
        let unread = match unread(entry) {
            0 => String::new(),
            unread => format!("{unread} unread"),
        };
        let muted = if entry.muted { " (muted)" } else { "" };
        let preview = show::snippet(&entry.preview);
        let title = if entry.title.is_empty() { String::new() } else { format!(" ({})", show::safe(&entry.title)) };
        format!("{}{title}{muted} {unread:>10}  {day} {time}  {preview}", show::peer(peer))
    };
    let mut lines: Vec<String> = page.entries.iter().filter(|entry| all || unread(entry) > 0).map(line).collect();
    if lines.is_empty() {
        lines.push(if all { "no conversations" } else { "nothing is unread" }.to_owned());
    }
    if !page.cursor.is_empty() {
        lines.push("... and older ones".to_owned());
    }
    lines
}
