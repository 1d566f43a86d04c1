//! A user's list: the conversations of its partition in `user`, sorted by what each one's log says.
//!
//! It costs a read for each conversation of the user, and is for first loads; sync is to go by what is dirty.

use super::db::{Db, each};
use super::failure::Failed;
use super::prefix::Prefix;
use super::rows::blob;
use crate::view::{self, View};
use crate::{ConversationKind, Member, Ranges, ReadRange, UserEntry, UserPage};
use ringpost_proto::id::{ConversationId, RecordId, UserKey};
use std::sync::Arc;

/// Rows that are fetched at a time for the newest record that a user sees.
const FEW: i32 = 8;

impl Db {
    pub(super) async fn user_page(
        self: Arc<Self>,
        user: UserKey,
        after: Option<(RecordId, ConversationId)>,
        limit: u32,
    ) -> Result<UserPage, Failed> {
        let rows = self.all::<(Vec<u8>,)>(&self.statements.user_of, &[blob(user.as_bytes())]).await?;
        let ids = rows.into_iter().map(|(id,)| conversation(&id)).collect::<Result<Vec<_>, _>>()?;
        let places = each(ids, |id| {
            let (db, user) = (Arc::clone(&self), user.clone());
            async move {
                // A row may be there before the record that makes it true, or for one that never came.
                let Some(prefix) = db.prefix(id).await? else { return Ok(None) };
                let Some(member) = prefix.roster.member(&user) else { return Ok(None) };
                Ok(Some((db.place(&id, &prefix, member).await?, id)))
            }
        })
        .await?;
        let mut listed: Vec<_> = places.into_iter().flatten().collect();
        listed.retain(|place| after.is_none_or(|after| *place < after));
        listed.sort_unstable_by(|a, b| b.cmp(a));
        let more = listed.len() > limit as usize;
        listed.truncate(limit as usize);
        let entries = each(listed, |(_, id)| {
            let (db, user) = (Arc::clone(&self), user.clone());
            async move { db.user_entry(user, id).await }
        })
        .await?;
        Ok(UserPage { entries: entries.into_iter().flatten().collect(), more })
    }

    /// Where a conversation stands in a user's list: for who has left it moves no more.
    async fn place(
        self: &Arc<Self>,
        id: &ConversationId,
        prefix: &Prefix,
        member: &Member,
    ) -> Result<RecordId, Failed> {
        if member.is_current() {
            return Ok(prefix.id);
        }
        let range = ReadRange::From { from: member.leave, to: member.leave };
        let (left, _) = self.slice(id, View::new(range, None, prefix.head, 1, u32::MAX), FEW).await?;
        Ok(left.first().map_or(prefix.id, |record| record.id))
    }

    /// `None` for who never was a member. Registers before the head, so that none is beyond it.
    async fn user_entry(self: Arc<Self>, user: UserKey, id: ConversationId) -> Result<Option<UserEntry>, Failed> {
        let own = self.progress(&id, &user).await?;
        // Of a direct conversation, whose two sides its kind names, which a log has from its first record on.
        let Some(prefix) = self.prefix(id).await? else { return Ok(None) };
        let peer = view::peer_of(&prefix.kind, &user);
        let ((peer_delivered, peer_read), missed, prefix) = match (&*prefix.kind, peer) {
            (ConversationKind::Group, _) => ((own.told_delivered, own.told_read), Ranges::new(), prefix),
            (ConversationKind::Direct(_), None) => ((0, 0), Ranges::new(), prefix),
            (ConversationKind::Direct(_), Some(peer)) => {
                let progress = self.progress(&id, peer).await?;
                let others = (progress.most_delivered(), progress.shown().of(progress.read));
                let Some(prefix) = self.prefix(id).await? else { return Ok(None) };
                (others, progress.missed, prefix)
            }
        };
        let Some(member) = prefix.roster.member(&user) else { return Ok(None) };
        let (newest_seen, _) = self.slice(&id, View::newest(member, prefix.head), FEW).await?;
        let peer = view::peer_of(&prefix.kind, &user).and_then(|peer| prefix.roster.member(peer));
        Ok(Some(UserEntry {
            conversation: id,
            kind: Arc::clone(&prefix.kind),
            head: member.end(prefix.head),
            last_id: self.place(&id, &prefix, member).await?,
            last: newest_seen.into_iter().next(),
            join: member.join,
            // Who has left does not learn of a new name.
            title: if member.is_current() { prefix.roster.name.clone() } else { String::new() },
            last_own: member.last_own,
            delivered: own.delivered.iter().map(|(device, seq)| (*device, *seq)).collect(),
            read: own.read,
            unread: member.counted(prefix.ordinal).saturating_sub(own.read_counted),
            peer_delivered,
            peer_read,
            // Of a group it takes the rows of all members, which nothing else here reads.
            peer_excluded: view::excluded(peer, [missed], peer_delivered),
            gone: Ranges::new(),
            ticks: own.ticks(),
        }))
    }
}

fn conversation(stored: &[u8]) -> Result<ConversationId, Failed> {
    stored.try_into().map(ConversationId).map_err(|_| Failed::unreadable("the id of a conversation"))
}
