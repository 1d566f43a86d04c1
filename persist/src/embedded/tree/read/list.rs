//! The list of a user's conversations.

use super::{Found, Reading};
use crate::embedded::tree::TreeError;
use crate::embedded::tree::keys;
use crate::embedded::tree::state::{self, Group, Progress};
use crate::ranges::{self, Ranges};
use crate::view::{self, View};
use crate::{ConversationKind, Shown, UserEntry, UserPage};
use ringpost_proto::id::{ConversationId, RecordId, Seq, UserKey};
use std::sync::Arc;

impl Reading<'_> {
    /// The user's list is in no order on disk: a record of a group would have to move it for each of its members.
    pub(super) fn user_page(
        &self,
        user: &UserKey,
        after: Option<(RecordId, ConversationId)>,
        limit: u32,
        shown: bool,
    ) -> Found<UserPage> {
        let mut listed = Vec::new();
        for (key, row) in self.prefix(&keys::user_prefix(user))? {
            let id = keys::conversation_of_user_key(&key).map_err(TreeError::row("state"))?;
            let left_id = match state::decode_listed(&row).map_err(TreeError::row("state"))? {
                Some(left_id) => left_id,
                None => self.left_id(user, &id)?,
            };
            match left_id {
                0 => listed.extend(self.head(&id)?.map(|head| (head.id, id, None))),
                _ => listed.push((left_id, id, Some(left_id))),
            }
        }
        listed.retain(|(last_id, id, _)| after.is_none_or(|after| (*last_id, *id) < after));
        listed.sort_unstable_by(|a, b| b.cmp(a));
        let more = listed.len() > limit as usize;
        let mut entries = Vec::new();
        for (_, id, left_id) in listed.into_iter().take(limit as usize) {
            entries.extend(self.user_entry(user, id, left_id, shown)?);
        }
        Ok(UserPage { entries, more })
    }

    /// The id of the record with which the user left; 0: it did not, or that is not kept any more.
    fn left_id(&self, user: &UserKey, id: &ConversationId) -> Found<RecordId> {
        let (Some(head), Some(member)) = (self.head(id)?, self.member(id, user)?) else { return Ok(0) };
        let left = if member.is_current() { None } else { self.record(id, &head, member.leave)? };
        Ok(left.map_or(0, |record| record.id))
    }

    /// `None` for who never was a member.
    fn user_entry(
        &self,
        user: &UserKey,
        id: ConversationId,
        left_id: Option<RecordId>,
        shown: bool,
    ) -> Found<Option<UserEntry>> {
        let (Some(kind), devices) = (self.kind(&id)?, self.devices(&keys::devices_of_prefix(&id, user))?) else {
            return Ok(None);
        };
        let progress = self.progress(&id, user)?;
        let (peer_delivered, peer_read) = self.others(&id, &kind, user, &progress)?;
        let title = match kind {
            ConversationKind::Group if shown => self.row(&keys::group_key(&id), Group::decode)?,
            _ => None,
        };
        let (Some(newest), Some(member)) = (self.head(&id)?, self.member(&id, user)?) else { return Ok(None) };
        let head = member.end(newest.seq);
        let newest_seen = match shown {
            true => self.slice(&id, &newest, View::newest(&member, newest.seq))?.0,
            false => Vec::new(),
        };
        let gone = ranges::within(&self.gone(&newest), 1, head);
        let peer_excluded = self.excluded(&id, &kind, user, peer_delivered)?;
        let unread = match shown && !ranges::within(&gone, progress.read + 1, head).is_empty() {
            // What has gone is counted nowhere: what is left is looked at.
            true => self.unread_after(&id, &newest, &member, progress.read)?,
            false => member.counted(newest.ordinal).saturating_sub(progress.counted),
        };
        Ok(Some(UserEntry {
            conversation: id,
            head,
            last_id: left_id.unwrap_or(newest.id),
            last: newest_seen.into_iter().next(),
            join: member.join,
            // Who has left does not learn of a new name.
            title: title
                .filter(|_| member.is_current())
                .map_or_else(String::new, |Group { texts: [name, ..], .. }| name),
            last_own: member.last_own,
            delivered: devices.iter().filter(|(.., d)| d.delivered > 0).map(|(_, id, d)| (*id, d.delivered)).collect(),
            read: progress.read,
            unread,
            peer_delivered,
            peer_read,
            peer_excluded,
            gone,
            ticks: devices
                .iter()
                .filter(|(.., d)| d.tick_delivered > 0 || d.tick_read > 0)
                .map(|(_, id, d)| (*id, d.tick_delivered, d.tick_read))
                .collect(),
            kind: Arc::new(kind),
        }))
    }

    /// What of the log up to `upto` the others did not get and will not.
    fn excluded(&self, id: &ConversationId, kind: &ConversationKind, user: &UserKey, upto: Seq) -> Found<Ranges> {
        if let ConversationKind::Group = kind {
            let mut of_members = Vec::new();
            for (other, missed) in self.missed(id)?.iter().filter(|(other, _)| other != user) {
                of_members.extend(self.member(id, other)?.map(|member| member.keeps_back(missed, upto)));
            }
            return Ok(view::excluded(None, of_members, upto));
        }
        let Some(peer) = view::peer_of(kind, user) else { return Ok(Ranges::new()) };
        let missed = self.row(&keys::missed_key(id, peer), state::decode_missed)?.unwrap_or_default();
        Ok(view::excluded(self.member(id, peer)?.as_ref(), [missed], upto))
    }

    /// How far the others have received and read, as this user is told.
    fn others(
        &self,
        id: &ConversationId,
        kind: &ConversationKind,
        user: &UserKey,
        own: &Progress,
    ) -> Found<(Seq, Seq)> {
        Ok(match (kind, view::peer_of(kind, user)) {
            (ConversationKind::Group, _) => (own.told_delivered, own.told_read),
            (ConversationKind::Direct(_), None) => (0, 0),
            (ConversationKind::Direct(_), Some(peer)) => {
                let devices = self.devices(&keys::devices_of_prefix(id, peer))?;
                let delivered = devices.iter().map(|(.., row)| row.delivered).max().unwrap_or(0);
                let progress = self.progress(id, peer)?;
                (delivered, Shown(progress.shown).of(progress.read))
            }
        })
    }
}
