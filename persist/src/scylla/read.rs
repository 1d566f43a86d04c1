//! Reads of a conversation: parts of its log, all that its room needs, one record by its client message id.
//!
//! Within an answer registers are read before the head, so that none of them is beyond it.

use super::db::Db;
use super::failure::Failed;
use super::known::Entry;
use super::log::Range;
use super::rows::{Row, blob, unsigned};
use crate::view::{self, View};
use crate::{ConversationState, LastRecord, Member, Outcome, Ranges, ReadRange, Record};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use scylla::value::CqlValue;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of a page, where many are wanted.
pub(super) const MANY: i32 = 128;

/// Whose client message id is looked for.
pub(super) struct Wanted {
    pub(super) conversation: ConversationId,
    pub(super) sender: UserKey,
    pub(super) device: DeviceId,
    pub(super) cmid: ClientMessageId,
}

impl Wanted {
    fn is(&self, record: &Record) -> bool {
        (&record.cmid, &record.device, &record.sender) == (&self.cmid, &self.device, &self.sender)
    }
}

impl Db {
    pub(super) async fn read_log(
        self: Arc<Self>,
        id: ConversationId,
        viewer: Option<UserKey>,
        range: ReadRange,
        records: u32,
        bytes: u32,
    ) -> Result<Outcome, Failed> {
        let Some(prefix) = self.prefix(id).await? else { return Ok(view::nothing(range)) };
        let member = viewer.as_ref().map(|viewer| prefix.roster.member(viewer));
        let member: Option<&Member> = match member {
            Some(None) => return Ok(Outcome::NotMember),
            Some(member) => member,
            None => None,
        };
        let view = View::new(range, member, prefix.head, records, bytes);
        let page = i32::try_from(records).map_or(MANY, |records| records.clamp(1, MANY));
        let (records, reached) = self.slice(&id, view, page).await?;
        let head = member.map_or(prefix.head, |member| member.end(prefix.head));
        // Nothing expires here.
        Ok(Outcome::LogSlice { head, reached, records, gone: Ranges::new() })
    }

    /// What a view takes, and how far it looked.
    pub(super) async fn slice(
        self: &Arc<Self>,
        id: &ConversationId,
        mut view: View<'_>,
        page: i32,
    ) -> Result<(Vec<Arc<Record>>, Seq), Failed> {
        let upwards = view.is_upwards();
        // The rows whose records may be taken and lack their bodies.
        let mut cut = BTreeMap::new();
        for (from, to) in view.spans() {
            self.scan(id, Range { from, to, upwards, page }, |row| {
                let shell = row.shell()?;
                let cost = row.cost(&shell);
                let goes_on = view.take(shell, cost);
                if goes_on && row.is_cut() {
                    cut.insert(row.seq, row);
                }
                Ok(goes_on)
            })
            .await?;
            if view.has_stopped() {
                break;
            }
        }
        let (records, reached) = view.finish();
        if cut.is_empty() {
            return Ok((view::shared(records), reached));
        }
        let taken: Vec<Row> = records.iter().filter_map(|record| cut.remove(&record.seq)).collect();
        let mut bodies: BTreeMap<Seq, Arc<Record>> = BTreeMap::new();
        bodies.extend(self.wholes(taken).await?.into_iter().map(|record| (record.seq, record)));
        let whole = |record: Record| bodies.remove(&record.seq).unwrap_or_else(|| Arc::new(record));
        Ok((records.into_iter().map(whole).collect(), reached))
    }

    pub(super) async fn load(self: Arc<Self>, id: ConversationId) -> Result<Option<ConversationState>, Failed> {
        let registers = self.registers(&id).await?;
        let Some(prefix) = self.prefix(id).await? else { return Ok(None) };
        let (mut rows, mut limits) = (Vec::new(), view::Tail::new(prefix.us));
        let range = Range { from: 1, to: prefix.head, upwards: false, page: MANY };
        self.scan(&id, range, |row| {
            let shell = row.shell()?;
            let wanted = limits.take(shell.us, row.cost(&shell));
            if wanted {
                rows.push(row);
            }
            Ok(wanted)
        })
        .await?;
        rows.reverse();
        Ok(Some(ConversationState {
            kind: Arc::clone(&prefix.kind),
            head: prefix.head,
            last: LastRecord { id: prefix.id, us: prefix.us, ordinal: prefix.ordinal },
            latest_cmid_ms: prefix.latest_cmid_ms,
            tail: self.wholes(rows).await?,
            roster: prefix.roster.clone(),
            registers: registers.of_room(id),
        }))
    }

    /// Records up to `upto` that count for a member and are none of its own: all but those after it.
    pub(super) async fn count_read(
        self: Arc<Self>,
        id: ConversationId,
        user: UserKey,
        upto: Seq,
    ) -> Result<u64, Failed> {
        let Some(prefix) = self.prefix(id).await? else { return Ok(0) };
        let Some(member) = prefix.roster.member(&user) else { return Ok(0) };
        let from = upto.max(member.join.saturating_sub(1)).saturating_add(1);
        let range = Range { from, to: member.end(prefix.head), upwards: true, page: MANY };
        let mut after = 0;
        self.scan(&id, range, |row| {
            after += u64::from(view::is_unread(&row.shell()?, member));
            Ok(true)
        })
        .await?;
        Ok(member.counted(prefix.ordinal).saturating_sub(after))
    }

    /// Records after the snapshot are looked at, the newest first; those before it are in `dedupe`.
    pub(super) async fn find(self: Arc<Self>, wanted: Wanted) -> Result<Option<Arc<Record>>, Failed> {
        let id = wanted.conversation;
        let Some(Entry { prefix, snapshot }) = self.entry(id).await? else { return Ok(None) };
        let mut found = None;
        let range = Range { from: snapshot + 1, to: prefix.head, upwards: false, page: MANY };
        self.scan(&id, range, |row| {
            if wanted.is(&row.shell()?) {
                found = Some(row);
            }
            Ok(found.is_none())
        })
        .await?;
        if found.is_none() {
            let key = [
                blob(&id.0),
                blob(wanted.sender.as_bytes()),
                CqlValue::Text(wanted.device.as_str().to_owned()),
                blob(&wanted.cmid.0),
            ];
            let seq: Option<(i64,)> = self.first(&self.statements.dedupe_of, &key).await?;
            if let Some((seq,)) = seq {
                found = self.row_at(&id, unsigned(seq)).await?;
            }
        }
        match found {
            Some(row) if wanted.is(&row.shell()?) => Ok(Some(Arc::new(self.whole(&row).await?))),
            _ => Ok(None),
        }
    }
}
