//! Answers from the trees; on any thread.
//!
//! Within an answer registers are read before the head, so that none of them is beyond it.

use super::bucket::Bucket;
use super::staging::cmid_key;
use super::state::{self, Device, Head, Member, Span};
use super::{LATEST, TreeError, Trees, record_key};
use crate::{
    ConversationKind, ConversationState, Outcome, ReadRange, Record, RegisterKey, StoreRequest, UserEntry, UserPage,
};
use lsm_tree::{AbstractTree, Guard, Slice};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, RecordId, Seq, UserKey};
use ringpost_proto::limits::DEDUPE_MS;
use std::sync::Arc;

/// The tail that a room is given: at least so many records ...
const TAIL: usize = 256;
/// ... and those of the last 24 h, up to so many.
const TAIL_MOST: usize = 4_096;

type Found<T> = Result<T, TreeError>;

impl Trees {
    /// The answer to a request that changes nothing; `None` for one that does.
    pub fn read(&self, request: &StoreRequest) -> Found<Option<Outcome>> {
        Ok(Some(match request {
            StoreRequest::Append { .. } | StoreRequest::Raise { .. } => return Ok(None),
            StoreRequest::ReadLog { conversation, range, records, bytes, .. } => {
                let head = self.head(conversation)?.unwrap_or_default();
                let records = self.slice(conversation, &head, *range, *records, *bytes)?;
                Outcome::LogSlice { head: head.seq, records }
            }
            StoreRequest::LoadConversation { conversation, .. } => {
                Outcome::Conversation(self.conversation(conversation)?.map(Box::new))
            }
            StoreRequest::LoadUser { user, after, limit, .. } => {
                Outcome::User(Box::new(self.user_page(user, *after, *limit)?))
            }
            StoreRequest::FindCmid { conversation, sender, device, cmid, .. } => {
                Outcome::Found(self.find(conversation, sender, device, cmid)?)
            }
            StoreRequest::Cas { .. } | StoreRequest::Take { .. } | StoreRequest::Sweep { .. } => Outcome::Unimplemented,
        }))
    }

    /// All records of a conversation that are still kept, in order. For tests and tools: as long as the log is.
    pub fn log_of(&self, conversation: &ConversationId) -> Found<Vec<Arc<Record>>> {
        let head = self.head(conversation)?.unwrap_or_default();
        self.slice(conversation, &head, ReadRange::From { from: 1, to: Seq::MAX }, u32::MAX, u32::MAX)
    }

    /// What a log is about; `None` before its first record.
    pub fn kind(&self, conversation: &ConversationId) -> Found<Option<ConversationKind>> {
        self.row(&state::kind_key(conversation), state::decode_kind)
    }

    /// 0: no such register.
    pub fn register(&self, key: &RegisterKey) -> Found<Seq> {
        let conversation = key.conversation();
        Ok(match key {
            RegisterKey::Read(_, user) => self.member(&conversation, user)?.read,
            RegisterKey::Delivered(_, user, device) => self.device(&conversation, user, device)?.delivered,
            RegisterKey::TickDelivered(_, user, device) => self.device(&conversation, user, device)?.tick_delivered,
            RegisterKey::TickRead(_, user, device) => self.device(&conversation, user, device)?.tick_read,
        })
    }

    fn row<T>(
        &self,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, crate::record::RecordError>,
    ) -> Found<Option<T>> {
        let row = self.get(key)?;
        row.map(|row| decode(&row)).transpose().map_err(TreeError::row("state"))
    }

    fn head(&self, conversation: &ConversationId) -> Found<Option<Head>> {
        self.row(&state::head_key(conversation), Head::decode)
    }

    fn member(&self, conversation: &ConversationId, user: &UserKey) -> Found<Member> {
        Ok(self.row(&state::member_key(conversation, user), Member::decode)?.unwrap_or_default())
    }

    fn device(&self, conversation: &ConversationId, user: &UserKey, device: &DeviceId) -> Found<Device> {
        Ok(self.row(&state::device_key(conversation, user, device), Device::decode)?.unwrap_or_default())
    }

    fn devices(&self, prefix: &[u8]) -> Found<Vec<(UserKey, DeviceId, Device)>> {
        let rows = self.prefix(prefix)?;
        let decoded = rows.iter().map(|(key, row)| {
            let (user, device) = state::device_of_key(key)?;
            Ok((user, device, Device::decode(row)?))
        });
        decoded.collect::<Result<_, _>>().map_err(TreeError::row("state"))
    }

    fn conversation(&self, id: &ConversationId) -> Found<Option<ConversationState>> {
        let devices = self.devices(&state::devices_prefix(id))?;
        let delivered = devices.into_iter().filter(|(.., row)| row.delivered > 0);
        let mut registers: Vec<_> =
            delivered.map(|(user, device, row)| (RegisterKey::Delivered(*id, user, device), row.delivered)).collect();
        for (key, row) in self.prefix(&state::members_prefix(id))? {
            let member = Member::decode(&row).map_err(TreeError::row("state"))?;
            if member.read > 0 {
                let user = state::user_of_member_key(&key).map_err(TreeError::row("state"))?;
                registers.push((RegisterKey::Read(*id, user), member.read));
            }
        }
        let (Some(head), Some(kind)) = (self.head(id)?, self.kind(id)?) else {
            return Ok(None);
        };
        let tail = self.tail(id, &head)?;
        Ok(Some(ConversationState {
            kind: Arc::new(kind),
            head: head.seq,
            latest_cmid_ms: head.latest_cmid_ms,
            tail,
            registers,
        }))
    }

    /// "The last 24 h" end at the newest record, not now: never fewer records than by the clock, and no clock here.
    fn tail(&self, id: &ConversationId, head: &Head) -> Found<Vec<Arc<Record>>> {
        let day = head.us.saturating_sub(DEDUPE_MS * 1_000);
        let mut tail = Vec::new();
        self.scan(id, head, ReadRange::Before(Seq::MAX), |record| {
            let wanted = tail.len() < TAIL || (tail.len() < TAIL_MOST && record.us >= day);
            if wanted {
                tail.push(Arc::new(record));
            }
            wanted
        })?;
        tail.reverse();
        Ok(tail)
    }

    /// As many as fit into both limits, and one if there is one.
    fn slice(
        &self,
        id: &ConversationId,
        head: &Head,
        range: ReadRange,
        most: u32,
        bytes: u32,
    ) -> Found<Vec<Arc<Record>>> {
        let mut room = bytes as usize;
        let most = most.max(1) as usize;
        let mut taken = Vec::new();
        self.scan(id, head, range, |record| {
            let cost = record.cost();
            if cost > room && !taken.is_empty() {
                return false;
            }
            room = room.saturating_sub(cost);
            taken.push(Arc::new(record));
            taken.len() < most
        })?;
        Ok(taken)
    }

    /// Gives the kept records of a range to `each` until it has enough. It starts at the range's first record, so what
    /// was there once and has gone costs nothing.
    fn scan(
        &self,
        id: &ConversationId,
        head: &Head,
        range: ReadRange,
        mut each: impl FnMut(Record) -> bool,
    ) -> Found<()> {
        let (from, to, upwards) = match range {
            ReadRange::From { from, to } => (from.max(1), to.min(head.seq), true),
            ReadRange::Before(seq) => (1, seq.saturating_sub(1).min(head.seq), false),
        };
        let spans = head.spans.iter().enumerate().map(|(n, span)| {
            let next = head.spans.get(n + 1).map_or(Seq::MAX, |next| next.first - 1);
            (span, from.max(span.first), to.min(next))
        });
        let mut spans: Vec<_> = spans.filter(|(_, from, to)| from <= to).collect();
        if !upwards {
            spans.reverse();
        }
        for (span, from, to) in spans {
            let Some(tree) = self.log(span.bucket) else { continue };
            let mut rows = tree.range(record_key(id, from)..=record_key(id, to), LATEST, None);
            while let Some(row) = if upwards { rows.next() } else { rows.next_back() } {
                if !each(decode(span.bucket, row.value())?) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn record(&self, id: &ConversationId, head: &Head, seq: Seq) -> Found<Option<Record>> {
        let span: Option<&Span> = head.spans.iter().rfind(|span| span.first <= seq);
        let Some((span, tree)) = span.and_then(|span| Some((span, self.log(span.bucket)?))) else {
            return Ok(None);
        };
        let row = tree.get(record_key(id, seq), LATEST).transpose();
        row.map(|row| decode(span.bucket, row)).transpose()
    }

    /// One look into each month of the conversation, the newest first; filters answer for most that do not have it.
    fn find(
        &self,
        id: &ConversationId,
        sender: &UserKey,
        device: &DeviceId,
        cmid: &ClientMessageId,
    ) -> Found<Option<Arc<Record>>> {
        let Some(head) = self.head(id)? else { return Ok(None) };
        let key = cmid_key(id, sender, device, cmid);
        for span in head.spans.iter().rev() {
            let Some(tree) = self.log(span.bucket) else { continue };
            let Some(row) = tree.get(key, LATEST).map_err(TreeError::of(span.bucket))? else { continue };
            let seq = row.first_chunk().map_or(0, |seq| Seq::from_le_bytes(*seq));
            // Beyond the head: being applied right now.
            if seq <= head.seq
                && let Some(record) = self.record(id, &head, seq)?
                && (&record.sender, &record.device, &record.cmid) == (sender, device, cmid)
            {
                return Ok(Some(Arc::new(record)));
            }
        }
        Ok(None)
    }

    /// The user's list is in no order on disk: a record of a group would have to move it for each of its members.
    fn user_page(&self, user: &UserKey, after: Option<(RecordId, ConversationId)>, limit: u32) -> Found<UserPage> {
        let mut listed = Vec::new();
        for (key, _) in self.prefix(&state::user_prefix(user))? {
            let id = state::conversation_of_user_key(&key).map_err(TreeError::row("state"))?;
            if let Some(head) = self.head(&id)? {
                listed.push((head.id, id));
            }
        }
        listed.retain(|entry| after.is_none_or(|after| *entry < after));
        listed.sort_unstable_by(|a, b| b.cmp(a));
        let more = listed.len() > limit as usize;
        let mut entries = Vec::new();
        for (_, id) in listed.into_iter().take(limit as usize) {
            entries.extend(self.user_entry(user, id)?);
        }
        Ok(UserPage { entries, more })
    }

    /// `None` where no record is kept any more.
    fn user_entry(&self, user: &UserKey, id: ConversationId) -> Found<Option<UserEntry>> {
        let Some(kind) = self.kind(&id)? else { return Ok(None) };
        let own = self.member(&id, user)?;
        let devices = self.devices(&state::devices_of_prefix(&id, user))?;
        let (mut peer_delivered, mut peer_read) = (Vec::new(), Vec::new());
        for peer in kind.members().iter().filter(|member| *member != user) {
            let devices = self.devices(&state::devices_of_prefix(&id, peer))?;
            peer_delivered.push(devices.iter().map(|(.., row)| row.delivered).max().unwrap_or(0));
            peer_read.push(self.member(&id, peer)?.read);
        }
        let Some(head) = self.head(&id)? else { return Ok(None) };
        let Some(last) = self.record(&id, &head, head.seq)? else { return Ok(None) };
        Ok(Some(UserEntry {
            conversation: id,
            kind: Arc::new(kind),
            head: head.seq,
            last: Arc::new(last),
            last_own: own.last_own,
            delivered: devices.iter().filter(|(.., d)| d.delivered > 0).map(|(_, id, d)| (*id, d.delivered)).collect(),
            read: own.read,
            peer_delivered: peer_delivered.into_iter().min().unwrap_or(0),
            peer_read: peer_read.into_iter().min().unwrap_or(0),
            ticks: devices
                .iter()
                .filter(|(.., d)| d.tick_delivered > 0 || d.tick_read > 0)
                .map(|(_, id, d)| (*id, d.tick_delivered, d.tick_read))
                .collect(),
        }))
    }
}

fn decode(bucket: Bucket, row: lsm_tree::Result<Slice>) -> Found<Record> {
    let row = row.map_err(TreeError::of(bucket))?;
    Record::decode(&row).map_err(TreeError::row(bucket))
}
