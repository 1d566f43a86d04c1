//! Answers from the trees; on any thread.
//!
//! Within an answer registers are read before the head, so that none of them is beyond it.

mod list;
mod scan;

use super::bucket::Bucket;
use super::keys;
use super::staging::id_hash;
use super::state::{self, Device, Group, Head, MemberRow, Progress, Span};
use super::{LATEST, TreeError, Trees, id_key, record_key};
use crate::ranges::{self, Ranges};
use crate::record::RecordError;
use crate::view::{self, View};
use crate::{
    ConversationKind, ConversationState, LastRecord, Member, Outcome, ReadRange, Record, RegisterKey, Roster,
    StoreRequest,
};
use lsm_tree::{AbstractTree, Slice};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use std::cell::Cell;
use std::sync::Arc;

type Found<T> = Result<T, TreeError>;

impl Trees {
    /// The answer to a request that changes nothing; `None` for one that does.
    pub fn read(&self, request: &StoreRequest) -> Found<Option<Outcome>> {
        self.read_and_count(request).0
    }

    /// The same, and how many rows of the trees it looked at.
    pub fn read_and_count(&self, request: &StoreRequest) -> (Found<Option<Outcome>>, u64) {
        let reading = self.reading();
        (reading.answer(request), reading.rows.get())
    }

    /// All records of a conversation that are still kept, in order. For tests and tools: as long as the log is.
    pub fn log_of(&self, conversation: &ConversationId) -> Found<Vec<Arc<Record>>> {
        let reading = self.reading();
        let head = reading.head(conversation)?.unwrap_or_default();
        let mut log = Vec::new();
        reading.scan(conversation, &head, 1, head.seq, true, |record| {
            log.push(Arc::new(record));
            true
        })?;
        Ok(log)
    }

    /// What a log is about; `None` before its first record.
    pub fn kind(&self, conversation: &ConversationId) -> Found<Option<ConversationKind>> {
        self.reading().kind(conversation)
    }

    /// 0: no such register.
    pub fn register(&self, key: &RegisterKey) -> Found<Seq> {
        self.reading().register(key)
    }

    /// As of the last batch applied.
    pub(super) fn roster(&self, conversation: &ConversationId) -> Found<Roster> {
        self.reading().roster(conversation)
    }

    pub(super) fn record(&self, id: &ConversationId, head: &Head, seq: Seq) -> Found<Option<Record>> {
        self.reading().record(id, head, seq)
    }

    fn reading(&self) -> Reading<'_> {
        Reading { trees: self, rows: Cell::new(0) }
    }
}

/// One answer in the making.
struct Reading<'a> {
    trees: &'a Trees,
    /// Looked at so far.
    rows: Cell<u64>,
}

impl Reading<'_> {
    fn answer(&self, request: &StoreRequest) -> Found<Option<Outcome>> {
        Ok(Some(match request {
            StoreRequest::Append { .. }
            | StoreRequest::Raise { .. }
            | StoreRequest::Cas { .. }
            | StoreRequest::Put { .. }
            | StoreRequest::Take { .. } => return Ok(None),
            StoreRequest::ReadLog { conversation, viewer, range, records, bytes, .. } => {
                self.read_log(conversation, viewer.as_ref(), *range, *records, *bytes)?
            }
            StoreRequest::LoadConversation { conversation, .. } => {
                Outcome::Conversation(self.conversation(conversation)?.map(Box::new))
            }
            StoreRequest::LoadUser { user, after, limit, shown, .. } => {
                Outcome::User(Box::new(self.user_page(user, *after, *limit, *shown)?))
            }
            StoreRequest::FindCmid { conversation, sender, device, cmid, .. } => {
                Outcome::Found(self.find(conversation, sender, device, cmid)?)
            }
            StoreRequest::CountRead { conversation, user, upto, .. } => {
                Outcome::Counted(self.count_read(conversation, user, *upto)?)
            }
            StoreRequest::ReadDocument { key, .. } => {
                Outcome::Document(self.row(&keys::document_key(key), state::decode_document)?)
            }
            StoreRequest::ListItems { user, device, limit, .. } => {
                let rows = self.prefix(&keys::items_prefix(user, device))?;
                let wanted = rows.iter().take(*limit as usize).map(|(key, _)| key);
                let number = |key: &Slice| keys::number_of_item_key(key).map_err(TreeError::row("state"));
                Outcome::Items(wanted.map(number).collect::<Found<_>>()?)
            }
            StoreRequest::Sweep { .. } => Outcome::Unimplemented,
        }))
    }

    fn kind(&self, conversation: &ConversationId) -> Found<Option<ConversationKind>> {
        self.row(&keys::kind_key(conversation), state::decode_kind)
    }

    fn register(&self, key: &RegisterKey) -> Found<Seq> {
        let conversation = key.conversation();
        Ok(match key {
            RegisterKey::Read(_, user) => self.progress(&conversation, user)?.read,
            RegisterKey::ReadCounted(_, user) => self.progress(&conversation, user)?.counted,
            RegisterKey::ReadShown(_, user) => self.progress(&conversation, user)?.shown,
            RegisterKey::ToldDelivered(_, user) => self.progress(&conversation, user)?.told_delivered,
            RegisterKey::ToldRead(_, user) => self.progress(&conversation, user)?.told_read,
            RegisterKey::Delivered(_, user, device) => self.device(&conversation, user, device)?.delivered,
            RegisterKey::TickDelivered(_, user, device) => self.device(&conversation, user, device)?.tick_delivered,
            RegisterKey::TickRead(_, user, device) => self.device(&conversation, user, device)?.tick_read,
            RegisterKey::Missed(_, user, from) => {
                let missed = self.row(&keys::missed_key(&conversation, user), state::decode_missed)?;
                missed.and_then(|missed| ranges::end_of(&missed, *from)).unwrap_or(0)
            }
        })
    }

    fn get(&self, key: &[u8]) -> Found<Option<Slice>> {
        self.count(1);
        self.trees.get(key)
    }

    fn prefix(&self, prefix: &[u8]) -> Found<Vec<(Slice, Slice)>> {
        let rows = self.trees.prefix(prefix)?;
        self.count(rows.len());
        Ok(rows)
    }

    fn count(&self, rows: usize) {
        self.rows.set(self.rows.get() + rows as u64);
    }

    fn row<T>(&self, key: &[u8], decode: impl FnOnce(&[u8]) -> Result<T, RecordError>) -> Found<Option<T>> {
        let row = self.get(key)?;
        row.map(|row| decode(&row)).transpose().map_err(TreeError::row("state"))
    }

    fn head(&self, conversation: &ConversationId) -> Found<Option<Head>> {
        self.row(&keys::head_key(conversation), Head::decode)
    }

    /// `None`: the user never was one.
    fn member(&self, conversation: &ConversationId, user: &UserKey) -> Found<Option<Member>> {
        let decode = |row: &[u8]| MemberRow::decode(user.clone(), row).map(|(_, member)| member);
        self.row(&keys::member_key(conversation, user), decode)
    }

    fn roster(&self, conversation: &ConversationId) -> Found<Roster> {
        let rows = self.prefix(&keys::members_prefix(conversation))?;
        let decoded = rows.iter().map(|(key, row)| MemberRow::decode(keys::user_of_key(key)?, row));
        let mut members = decoded.collect::<Result<Vec<_>, _>>().map_err(TreeError::row("state"))?;
        members.sort_unstable_by_key(|(at, _)| *at);
        let group = self.row(&keys::group_key(conversation), Group::decode)?.unwrap_or_default();
        Ok(Roster::restore(members.into_iter().map(|(_, member)| member).collect(), group.epoch, group.texts))
    }

    fn progress(&self, conversation: &ConversationId, user: &UserKey) -> Found<Progress> {
        Ok(self.row(&keys::progress_key(conversation, user), Progress::decode)?.unwrap_or_default())
    }

    fn device(&self, conversation: &ConversationId, user: &UserKey, device: &DeviceId) -> Found<Device> {
        Ok(self.row(&keys::device_key(conversation, user, device), Device::decode)?.unwrap_or_default())
    }

    fn devices(&self, prefix: &[u8]) -> Found<Vec<(UserKey, DeviceId, Device)>> {
        let rows = self.prefix(prefix)?;
        let decoded = rows.iter().map(|(key, row)| {
            let (user, device) = keys::device_of_key(key)?;
            Ok((user, device, Device::decode(row)?))
        });
        decoded.collect::<Result<_, _>>().map_err(TreeError::row("state"))
    }

    fn conversation(&self, id: &ConversationId) -> Found<Option<ConversationState>> {
        let registers = self.registers(id)?;
        let (Some(head), Some(kind)) = (self.head(id)?, self.kind(id)?) else {
            return Ok(None);
        };
        let tail = self.tail(id, &head)?;
        Ok(Some(ConversationState {
            kind: Arc::new(kind),
            head: head.seq,
            last: LastRecord { id: head.id, us: head.us, ordinal: head.ordinal },
            latest_cmid_ms: head.latest_cmid_ms,
            tail,
            roster: self.roster(id)?,
            registers,
        }))
    }

    /// What a room is told: no ticks, which are the sessions' own.
    fn registers(&self, id: &ConversationId) -> Found<Vec<(RegisterKey, Seq)>> {
        let mut registers = Vec::new();
        for (user, device, row) in self.devices(&keys::devices_prefix(id))? {
            registers.push((RegisterKey::Delivered(*id, user, device), row.delivered));
        }
        for (key, row) in self.prefix(&keys::progress_prefix(id))? {
            let row = Progress::decode(&row).map_err(TreeError::row("state"))?;
            let user = keys::user_of_key(&key).map_err(TreeError::row("state"))?;
            registers.push((RegisterKey::Read(*id, user.clone()), row.read));
            registers.push((RegisterKey::ReadCounted(*id, user.clone()), row.counted));
            registers.push((RegisterKey::ReadShown(*id, user.clone()), row.shown));
            registers.push((RegisterKey::ToldDelivered(*id, user.clone()), row.told_delivered));
            registers.push((RegisterKey::ToldRead(*id, user), row.told_read));
        }
        // After the Delivered registers, which are beyond it.
        for (user, missed) in self.missed(id)? {
            registers.extend(missed.iter().map(|(from, to)| (RegisterKey::Missed(*id, user.clone(), *from), *to)));
        }
        registers.retain(|(_, value)| *value > 0);
        Ok(registers)
    }

    /// What each user missed who missed something.
    fn missed(&self, id: &ConversationId) -> Found<Vec<(UserKey, Ranges)>> {
        let rows = self.prefix(&keys::missed_prefix(id))?;
        let decoded = rows.iter().map(|(key, row)| Ok((keys::user_of_key(key)?, state::decode_missed(row)?)));
        decoded.collect::<Result<_, _>>().map_err(TreeError::row("state"))
    }

    /// What of a log is no longer kept. To be asked after its records were read: a month may go at any moment, and nothing
    /// that was missing may pass for something that was never there.
    fn gone(&self, head: &Head) -> Ranges {
        head.gone(|bucket| self.trees.log(bucket).is_some())
    }

    fn tail(&self, id: &ConversationId, head: &Head) -> Found<Vec<Arc<Record>>> {
        let (mut tail, mut limits) = (Vec::new(), view::Tail::new(head.us));
        self.scan(id, head, 1, head.seq, false, |record| {
            let wanted = limits.take(record.us, record.cost());
            if wanted {
                tail.push(Arc::new(record));
            }
            wanted
        })?;
        tail.reverse();
        Ok(tail)
    }

    fn read_log(
        &self,
        id: &ConversationId,
        viewer: Option<&UserKey>,
        range: ReadRange,
        records: u32,
        bytes: u32,
    ) -> Found<Outcome> {
        let Some(head) = self.head(id)? else { return Ok(view::nothing(range)) };
        let member = viewer.map(|viewer| self.member(id, viewer)).transpose()?;
        let member = match &member {
            Some(None) => return Ok(Outcome::NotMember),
            Some(Some(member)) => Some(member),
            None => None,
        };
        let view = View::new(range, member, head.seq, records, bytes);
        let (records, reached) = self.slice(id, &head, view)?;
        let gone = view::gone_of(&self.gone(&head), range, reached);
        let head = member.map_or(head.seq, |member| member.end(head.seq));
        Ok(Outcome::LogSlice { head, reached, records, gone })
    }

    /// What a view takes, and how far it looked.
    fn slice(&self, id: &ConversationId, head: &Head, mut view: View<'_>) -> Found<(Vec<Arc<Record>>, Seq)> {
        let upwards = view.is_upwards();
        for (from, to) in view.spans() {
            self.scan(id, head, from, to, upwards, |record| {
                let cost = record.cost();
                view.take(record, cost)
            })?;
            if view.has_stopped() {
                break;
            }
        }
        let (records, reached) = view.finish();
        Ok((view::shared(records), reached))
    }

    /// Records up to `upto` that count for a member and are none of its own: all but those after it.
    fn count_read(&self, id: &ConversationId, user: &UserKey, upto: Seq) -> Found<u64> {
        let (Some(head), Some(member)) = (self.head(id)?, self.member(id, user)?) else { return Ok(0) };
        Ok(member.counted(head.ordinal).saturating_sub(self.unread_after(id, &head, &member, upto)?))
    }

    /// Kept records after `read` that a member has to read. Those up to its own last one are looked at; how many there are
    /// behind that, their ordinals tell.
    fn unread_after(&self, id: &ConversationId, head: &Head, member: &Member, read: Seq) -> Found<u64> {
        let mut after = 0;
        let from = read.max(member.join.saturating_sub(1)).saturating_add(1);
        let end = member.end(head.seq);
        let own = member.last_own.min(end);
        self.scan(id, head, from, own, true, |record| {
            after += u64::from(view::is_unread(&record, member));
            true
        })?;
        for (first, last) in ranges::without(&view::visible(Some(member), from.max(own + 1), end), &self.gone(head)) {
            after += self.counting(id, head, first, last)?;
        }
        Ok(after)
    }

    /// Of the records first..=last, all of which are kept, those that count as unread, whoever sent them.
    fn counting(&self, id: &ConversationId, head: &Head, first: Seq, last: Seq) -> Found<u64> {
        let (mut before, mut upto) = (0, 0);
        self.scan(id, head, first, last, true, |record| {
            before = record.ordinal.saturating_sub(u64::from(record.counts()));
            false
        })?;
        self.scan(id, head, first, last, false, |record| {
            upto = record.ordinal;
            false
        })?;
        Ok(upto.saturating_sub(before))
    }

    fn record(&self, id: &ConversationId, head: &Head, seq: Seq) -> Found<Option<Record>> {
        let span: Option<&Span> = head.spans.iter().rfind(|span| span.first <= seq);
        let Some((span, log)) = span.and_then(|span| Some((span, self.trees.log(span.bucket)?))) else {
            return Ok(None);
        };
        self.count(1);
        let form = match log.newer.get(id, seq) {
            Some(form) => Some(form),
            None => log.tree.get(record_key(id, seq), LATEST).map_err(TreeError::of(span.bucket))?,
        };
        form.map(|form| decode(span.bucket, &form)).transpose()
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
        let hash = id_hash(sender, device, cmid);
        for span in head.spans.iter().rev() {
            let Some(log) = self.trees.log(span.bucket) else { continue };
            self.count(1);
            let seq = match log.newer.find(id, &hash) {
                Some(seq) => seq,
                None => {
                    let row = log.tree.get(id_key(id, &hash), LATEST).map_err(TreeError::of(span.bucket))?;
                    let Some(row) = row else { continue };
                    row.first_chunk().map_or(0, |seq| Seq::from_le_bytes(*seq))
                }
            };
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
}

fn decode(bucket: Bucket, form: &[u8]) -> Found<Record> {
    Record::decode(form).map_err(TreeError::row(bucket))
}
