//! Questions that the log answers: fetch, history, lookup, conversations. They read; they decide nothing.

use super::request::{Named, named};
use crate::Router;
use crate::boundary::{ConnRef, Output, RecordPage};
use crate::frozen::frozen;
use crate::pending::{PageRead, Pending};
use crate::refusal;
use crate::session::State;
use crate::slab::Key;
use ringpost_persist::{Body, Outcome, Peer, ReadRange, Record, StoreRequest, UserEntry};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, RecordId, Seq, UserKey};
use ringpost_proto::limits::{CONVERSATION_PAGE, FETCH_RECORDS, HISTORY_RECORDS, LOOKUP_IDS};
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;
use std::sync::Arc;

const HISTORY_DEFAULT: u32 = 50;
/// Bytes of records in one page: fits a JSON frame after base64.
const PAGE_BYTES: u32 = 192 << 10;
const PREVIEW_CHARS: usize = 100;

impl Router {
    pub(crate) fn fetch(&mut self, key: Key, conn: ConnRef, re: u64, fetch: v1::Fetch) {
        let Some((user, device)) = self.identity_of(key) else { return };
        let Named { id: conversation, kind } = match named(&user, fetch.conversation.as_ref(), "conversation") {
            Ok(named) => named,
            Err(error) => return self.refuse_now(conn, re, error),
        };
        let from = fetch.from_seq.max(1);
        let to = fetch.to_seq.min(from.saturating_add(u64::from(FETCH_RECORDS) - 1));
        if to < from {
            let error = refusal::invalid("toSeq", "must not be below fromSeq");
            return self.refuse_now(conn, re, error);
        }
        let peer = kind.peer_of(conversation, &user);
        let page =
            PageRead { session: key, re, user, device, peer, range: Some((from, to)), before: 0, limit: FETCH_RECORDS };
        self.read_page(key, conversation, ReadRange::From { from, to }, page);
    }

    pub(crate) fn history(&mut self, key: Key, conn: ConnRef, re: u64, history: v1::History) {
        let Some((user, device)) = self.identity_of(key) else { return };
        let Named { id: conversation, kind } = match named(&user, history.conversation.as_ref(), "conversation") {
            Ok(named) => named,
            Err(error) => return self.refuse_now(conn, re, error),
        };
        let before = if history.before_seq == 0 { Seq::MAX } else { history.before_seq };
        let limit = if history.limit == 0 { HISTORY_DEFAULT } else { history.limit.min(HISTORY_RECORDS) };
        let peer = kind.peer_of(conversation, &user);
        let page = PageRead { session: key, re, user, device, peer, range: None, before, limit };
        self.read_page(key, conversation, ReadRange::Before(before), page);
    }

    fn read_page(&mut self, key: Key, conversation: ConversationId, range: ReadRange, page: PageRead) {
        self.begin_request(key);
        let records = page.limit;
        // Many pages asked for at once are shorter ones: all of them together must fit into an outbox.
        let unanswered = self.sessions.get(key).map_or(1, |session| session.unanswered.max(1));
        let (bytes, viewer) = (PAGE_BYTES / unanswered, Some(page.user.clone()));
        self.ask(Pending::Page(Box::new(page)), |tag| StoreRequest::ReadLog {
            tag,
            conversation,
            viewer,
            range,
            records,
            bytes,
        });
    }

    pub(crate) fn page_read(&mut self, read: Box<PageRead>, outcome: Outcome) {
        let (key, re) = (read.session, read.re);
        let (head, reached, records) = match outcome {
            Outcome::LogSlice { head: 0, .. } if matches!(read.peer, Peer::Group(_)) => {
                let error = refusal::not_found("conversation.group", "there is no such group");
                return self.answer(key, re, Answer::Error(error));
            }
            Outcome::LogSlice { head, reached, records, .. } => (head, reached, records),
            Outcome::NotMember => return self.answer(key, re, Answer::Error(refusal::not_member())),
            _ => return self.answer(key, re, Answer::Error(refusal::unavailable())),
        };
        let Some(session) = self.sessions.get(key).filter(|session| session.state != State::Ended) else { return };
        let conn = session.conn;
        let page = match read.range {
            Some((from, to)) => fetched(&read, from, to.min(head).min(reached), records),
            None => {
                let moved = !records.is_empty() || reached < read.before;
                let next_before_seq = if reached > 1 && moved { reached } else { 0 };
                let records = records.into_iter().filter_map(|record| shown(&read, &record)).collect();
                RecordPage { peer: read.peer, records, skips: Vec::new(), next_before_seq }
            }
        };
        if re != 0 {
            self.emit(conn, Output::Page { conn, re, page: Box::new(page) });
        }
        self.finish_request(key);
    }

    pub(crate) fn lookup(&mut self, key: Key, conn: ConnRef, re: u64, lookup: v1::Lookup) {
        let Some((sender, device)) = self.identity_of(key) else { return };
        let conversation = match named(&sender, lookup.conversation.as_ref(), "conversation") {
            Ok(named) => named.id,
            Err(error) => return self.refuse_now(conn, re, error),
        };
        let ids: Option<Vec<_>> = lookup.client_message_ids.iter().map(|id| ClientMessageId::from_bytes(id)).collect();
        let Some(mut left) = ids else {
            let error = refusal::invalid("clientMessageIds", "must be 16 bytes each");
            return self.refuse_now(conn, re, error);
        };
        if left.len() > LOOKUP_IDS as usize {
            let error = refusal::too_many("clientMessageIds", LOOKUP_IDS);
            return self.refuse_now(conn, re, error);
        }
        let Some(cmid) = left.pop() else {
            return self.frame(conn, re, Answer::LookupResult(v1::LookupResult::default()));
        };
        self.begin_request(key);
        let lookup =
            Box::new(LookupRead { session: key, re, conversation, sender, device, left, cmid, found: Vec::new() });
        self.look_up(lookup);
    }

    fn look_up(&mut self, lookup: Box<LookupRead>) {
        let (conversation, device, cmid) = (lookup.conversation, lookup.device, lookup.cmid);
        let sender = lookup.sender.clone();
        self.ask(Pending::Lookup(lookup), |tag| StoreRequest::FindCmid { tag, conversation, sender, device, cmid });
    }

    pub(crate) fn looked_up(&mut self, mut lookup: Box<LookupRead>, outcome: Outcome) {
        let Outcome::Found(record) = outcome else {
            return self.answer(lookup.session, lookup.re, Answer::Error(refusal::unavailable()));
        };
        if let Some(record) = record {
            lookup.found.push(v1::Found {
                client_message_id: lookup.cmid.to_bytes(),
                seq: record.seq,
                id: record.id,
                server_time_ms: record.server_time_ms(),
            });
        }
        if let Some(cmid) = lookup.left.pop() {
            lookup.cmid = cmid;
            return self.look_up(lookup);
        }
        lookup.found.reverse();
        let result = v1::LookupResult { found: lookup.found };
        self.answer(lookup.session, lookup.re, Answer::LookupResult(result));
    }

    pub(crate) fn conversations(&mut self, key: Key, conn: ConnRef, re: u64, request: v1::Conversations) {
        let Some((user, _)) = self.identity_of(key) else { return };
        let after = match (request.cursor.is_empty(), parse_cursor(&request.cursor)) {
            (true, _) => None,
            (false, Some(after)) => Some(after),
            (false, None) => {
                let error = refusal::invalid("cursor", "is none that this server gave");
                return self.refuse_now(conn, re, error);
            }
        };
        let limit = if request.limit == 0 { CONVERSATION_PAGE } else { request.limit.min(CONVERSATION_PAGE) };
        self.begin_request(key);
        let pending = Pending::Conversations { session: key, re };
        self.ask(pending, |tag| StoreRequest::LoadUser { tag, user, after, limit, shown: true });
    }

    pub(crate) fn conversations_read(&mut self, key: Key, re: u64, outcome: Outcome) {
        let Outcome::User(page) = outcome else {
            return self.answer(key, re, Answer::Error(refusal::unavailable()));
        };
        let Some((user, _)) = self.identity_of(key) else { return };
        let last = page.entries.last().filter(|_| page.more);
        let cursor = last.map_or(String::new(), |entry| cursor(entry.last_id, entry.conversation));
        // Where one never saw anything there is nothing to list.
        let entries = page.entries.iter().filter(|entry| entry.last.is_some());
        let (now_ms, prefs) = (self.now_ms(), self.users.get(&user).and_then(|user| user.prefs()));
        let muted = |entry: &UserEntry| prefs.is_some_and(|it| it.is_muted(entry.conversation, now_ms));
        let mut entries: Vec<_> = entries.map(|entry| listed(&user, entry, muted(entry))).collect();
        // The store goes by records that the user may not see as well, such as those of somebody whom it blocks.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.last_id));
        self.answer(key, re, Answer::ConversationPage(v1::ConversationPage { entries, cursor }));
    }
}

/// A lookup on its way: ids are asked for one after the other, so one request never floods the store.
#[derive(Debug)]
pub(crate) struct LookupRead {
    pub session: Key,
    pub re: u64,
    conversation: ConversationId,
    sender: UserKey,
    device: DeviceId,
    left: Vec<ClientMessageId>,
    cmid: ClientMessageId,
    found: Vec<v1::Found>,
}

/// The record as the reader's device is shown it, and whether with its client message id: only in its own messages. In a
/// page one's own records are shown to the device that sent them, too.
fn shown(read: &PageRead, record: &Arc<Record>) -> Option<(Arc<Record>, bool)> {
    let own = record.sender == read.user;
    match &record.body {
        Body::Slices(_) if own && record.device == read.device => Some((record.clone(), own)),
        Body::Slices(_) => record.sliced(&read.user, &read.device).map(|slice| (Arc::new(slice), own)),
        _ => Some((record.clone(), own)),
    }
}

/// The records of a range that are for this device, and skips for all others.
fn fetched(read: &PageRead, from: Seq, to: Seq, records: Vec<Arc<Record>>) -> RecordPage {
    let mut page = RecordPage { peer: read.peer.clone(), records: Vec::new(), skips: Vec::new(), next_before_seq: 0 };
    let mut next = from;
    for record in records.iter().filter(|record| record.seq <= to) {
        let is_own = record.sender == read.user && record.device == read.device;
        let Some(shown) = shown(read, record).filter(|_| !is_own) else { continue };
        skip(&mut page, next, record.seq - 1);
        next = record.seq + 1;
        page.records.push(shown);
    }
    skip(&mut page, next, to);
    page
}

fn skip(page: &mut RecordPage, from_seq: Seq, to_seq: Seq) {
    if from_seq <= to_seq {
        page.skips.push(v1::Skip { from_seq, to_seq });
    }
}

fn listed(user: &UserKey, entry: &UserEntry, muted: bool) -> v1::ConversationEntry {
    let preview = match entry.last.as_ref().map(|last| &last.body) {
        Some(Body::Text(text)) => String::from_utf8_lossy(text).chars().take(PREVIEW_CHARS).collect(),
        _ => String::new(),
    };
    v1::ConversationEntry {
        conversation: Some(entry.kind.peer_of(entry.conversation, user).to_wire()),
        title: entry.title.clone(),
        last_seq: entry.last.as_ref().map_or(entry.head, |last| last.seq),
        last_id: entry.last.as_ref().map_or(entry.last_id, |last| last.id),
        unread: u32::try_from(entry.unread).unwrap_or(u32::MAX),
        read_seq: entry.read,
        muted,
        preview,
    }
}

/// Opaque to clients: the place after which the next page goes on.
fn cursor(id: RecordId, conversation: ConversationId) -> String {
    format!("{id:016x}{:032x}", u128::from_be_bytes(conversation.0))
}

fn parse_cursor(cursor: &str) -> Option<(RecordId, ConversationId)> {
    if cursor.len() != 48 || !cursor.is_ascii() {
        return None;
    }
    let id = u64::from_str_radix(&cursor[..16], 16).ok()?;
    let conversation = u128::from_str_radix(&cursor[16..], 16).ok()?;
    Some((id, ConversationId(conversation.to_be_bytes())))
}

frozen!(LookupRead { session, re, conversation, sender, device, left, cmid, found });
