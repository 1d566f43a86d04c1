//! The append: one conditional write of one partition.
//!
//! What refers to a record is written before it: long bodies, the rows by which its conversation is found in the lists of new
//! members and by the sweep. If the append then does not land, they say nothing that is not looked up again. So the append is
//! the commit of all of it. It is sent once; if its outcome is not known, the slot is read at serial consistency, which ends
//! what is under way in the partition.

use super::db::{Db, each};
use super::failure::Failed;
use super::known::SNAPSHOT_EVERY;
use super::rows::{Row, Written, bigint, blob, bucket_after, may_start_bucket, number, unsigned};
use crate::embedded::encode_kind;
use crate::index::Index;
use crate::{ConversationKind, Outcome, Record};
use ringpost_proto::id::{ConversationId, Seq, UserKey};
use ringpost_proto::v1::change::Change;
use ringpost_proto::v1::kind::Value as Kind;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What an append is conditional on.
enum Guard {
    /// Nobody has written to the log.
    Begin,
    /// Nobody has written to the bucket, and the one before ends with the expected head.
    Enter,
    /// The head of the bucket is the expected one.
    Advance,
}

/// An append, as it is sent.
pub(super) struct Append {
    pub(super) conversation: ConversationId,
    pub(super) kind: Arc<ConversationKind>,
    pub(super) expected_head: Seq,
    pub(super) records: Vec<Arc<Record>>,
}

impl Db {
    pub(super) async fn append(self: Arc<Self>, append: Append) -> Outcome {
        let Append { conversation: id, expected_head, records, .. } = &append;
        // Where the head is only the log knows; the form can be judged without it.
        let judged = Index::judge_append(*expected_head, *expected_head, records.iter().map(|record| record.seq));
        let Outcome::Appended { head } = judged else { return judged };
        let written: Vec<_> = records.iter().map(|record| Written::new(id, record)).collect();
        let guard = match self.before(&append, &written).await {
            Ok(Some(guard)) => guard,
            Ok(None) => return self.conflict(*id).await,
            Err(error) => return self.unavailable("append", &error),
        };
        let landed = match self.write_all_if(self.batch(&append, head, guard, &written)).await {
            Ok(landed) => landed,
            Err(error @ Failed::Unknown(_)) => {
                self.stats.name("append", &error);
                match self.resolve(id, *expected_head, &written).await {
                    Some(landed) => landed,
                    None => return Outcome::Unknown,
                }
            }
            Err(error) => return self.unavailable("append", &error),
        };
        if !landed {
            return self.conflict(*id).await;
        }
        self.stats.records.fetch_add(records.len() as u64, Relaxed);
        if records.iter().any(|record| record.kind == Kind::Erase) {
            // Carried out by whoever folds over it; if that fails now, the next one does it before anything is read.
            if let Err(error) = self.entry(*id).await {
                self.stats.name("erasure", &error);
                return Outcome::Unknown;
            }
        } else if head / SNAPSHOT_EVERY != expected_head / SNAPSHOT_EVERY {
            self.snapshot_soon(*id);
        }
        Outcome::Appended { head }
    }

    /// What an append needs before it, and its guard; `None`: the head is another one.
    async fn before(self: &Arc<Self>, append: &Append, written: &[Written]) -> Result<Option<Guard>, Failed> {
        let covered = self.cover(append.conversation);
        let listed = self.list(append.conversation, joining(append));
        let bodies = self.put_bodies(written);
        let guard = self.guard(&append.conversation, append.expected_head);
        let (_, _, _, guard) = tokio::try_join!(covered, listed, bodies, guard)?;
        Ok(guard)
    }

    /// A user finds the conversation: before it is a member of it, so that it does whenever it is one.
    async fn list(self: &Arc<Self>, id: ConversationId, users: BTreeSet<UserKey>) -> Result<(), Failed> {
        each(users.into_iter().collect(), |user| {
            let db = Arc::clone(self);
            async move { db.write(&db.statements.user_put, &[blob(user.as_bytes()), blob(&id.0)]).await }
        })
        .await?;
        Ok(())
    }

    async fn put_bodies(self: &Arc<Self>, written: &[Written]) -> Result<(), Failed> {
        let bodies: Vec<_> = written.iter().filter_map(|written| written.body.clone()).collect();
        each(bodies, |(id, bytes)| {
            let db = Arc::clone(self);
            async move {
                // There already: from an earlier try, with the same bytes.
                db.write_if(&db.statements.body_put, &[blob(&id), CqlValue::Blob(bytes)]).await
            }
        })
        .await?;
        Ok(())
    }

    async fn guard(&self, id: &ConversationId, expected: Seq) -> Result<Option<Guard>, Failed> {
        if expected == 0 {
            return Ok(Some(Guard::Begin));
        }
        let bucket = bucket_after(expected);
        if !may_start_bucket(expected) || self.bucket_head(id, bucket).await?.is_some() {
            return Ok(Some(Guard::Advance));
        }
        // The bucket is empty, or was a moment ago. A head at or beyond the end of the one before is its last: whoever has it
        // appends here. So it cannot change, and an append that finds this bucket empty is the first after it.
        let before = self.bucket_head(id, bucket - 1).await?;
        Ok(Some(Guard::Enter).filter(|_| before == Some(expected)))
    }

    async fn bucket_head(&self, id: &ConversationId, bucket: i64) -> Result<Option<Seq>, Failed> {
        let key = [blob(&id.0), CqlValue::BigInt(bucket)];
        let found: Option<(Vec<u8>, i64, Option<i64>)> = self.first(&self.statements.log_head, &key).await?;
        Ok(found.and_then(|(.., head)| head).map(unsigned))
    }

    fn batch(
        &self,
        append: &Append,
        head: Seq,
        guard: Guard,
        written: &[Written],
    ) -> Vec<(&PreparedStatement, Vec<CqlValue>)> {
        let bucket = CqlValue::BigInt(bucket_after(append.expected_head));
        let id = blob(&append.conversation.0);
        let advance = |mut values: Vec<CqlValue>| {
            values.extend([id.clone(), bucket.clone()]);
            values
        };
        let first = match guard {
            Guard::Begin => {
                let mut kind = Vec::new();
                encode_kind(&append.kind, &mut kind);
                (&self.statements.log_begin, advance(vec![bigint(head), CqlValue::Blob(kind)]))
            }
            Guard::Enter => (&self.statements.log_enter, advance(vec![bigint(head)])),
            Guard::Advance => {
                let mut values = advance(vec![bigint(head)]);
                values.push(bigint(append.expected_head));
                (&self.statements.log_advance, values)
            }
        };
        let insert = |written: &Written| {
            let mut values = vec![id.clone(), bucket.clone(), CqlValue::BigInt(number(written.seq))];
            values.push(blob(&written.record));
            match &written.body {
                Some((body, _)) => {
                    values.push(blob(body));
                    (&self.statements.log_insert_cut, values)
                }
                None => (&self.statements.log_insert, values),
            }
        };
        std::iter::once(first).chain(written.iter().map(insert)).collect()
    }

    /// What became of an append without a result: `Some`: whether it landed; `None`: it may yet.
    async fn resolve(&self, id: &ConversationId, expected: Seq, written: &[Written]) -> Option<bool> {
        let slot = match self.slot(id, expected).await {
            Ok(slot) => slot,
            Err(error) => {
                self.stats.name("slot", &error);
                None
            }
        };
        let verdict = verdict(slot.as_ref(), written);
        let counter = match verdict {
            Some(true) => &self.stats.resolved_ours,
            Some(false) => &self.stats.resolved_other,
            None => &self.stats.resolved_open,
        };
        counter.fetch_add(1, Relaxed);
        verdict
    }

    async fn conflict(self: &Arc<Self>, id: ConversationId) -> Outcome {
        self.stats.conflicts.fetch_add(1, Relaxed);
        match self.prefix(id).await {
            Ok(prefix) => Outcome::Conflict { head: prefix.map_or(0, |prefix| prefix.head) },
            Err(error) => self.unavailable("head", &error),
        }
    }

    pub(super) fn unavailable(&self, what: &str, why: &Failed) -> Outcome {
        self.stats.name(what, why);
        self.stats.unavailable.fetch_add(1, Relaxed);
        Outcome::Unavailable
    }
}

/// Whether the append of these records landed, as the slot of the first one tells. A slot that is empty now may be taken by
/// it later: a node may only have begun. One that is another's never will be.
fn verdict(slot: Option<&Row>, written: &[Written]) -> Option<bool> {
    Some(slot?.is(written.first()?))
}

/// Who is, or may be, in the conversation from these records on.
fn joining(append: &Append) -> BTreeSet<UserKey> {
    let mut users = BTreeSet::new();
    if append.expected_head == 0 {
        users.extend(append.kind.members().iter().cloned());
    }
    for record in &append.records {
        let names = match record.change() {
            Some(Change::Created(created)) => {
                users.insert(record.sender.clone());
                created.members
            }
            Some(Change::Added(added)) => added.users,
            _ => continue,
        };
        users.extend(names.iter().filter_map(|name| record.sender.sibling(name).ok()));
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Body;
    use crate::roster::change_body;
    use ringpost_proto::id::{ClientMessageId, DeviceId};
    use ringpost_proto::v1::change::{Created, Left, Users};

    fn user(name: &str) -> UserKey {
        UserKey::new("t", name).unwrap()
    }

    fn record(seq: Seq, kind: Kind, body: Body) -> Record {
        Record {
            seq,
            ..Record::new(user("ann"), DeviceId::new("phone").unwrap(), ClientMessageId([3; 16]), kind, body)
        }
    }

    fn append(kind: ConversationKind, expected_head: Seq, changes: Vec<Change>) -> Append {
        let record = |(seq, change)| Arc::new(record(seq, Kind::Change, change_body(change, None, 0)));
        let records = (expected_head + 1..).zip(changes).map(record).collect();
        Append { conversation: ConversationId([1; 16]), kind: Arc::new(kind), expected_head, records }
    }

    fn names(append: &Append) -> Vec<String> {
        joining(append).iter().map(|user| user.user().to_owned()).collect()
    }

    #[test]
    fn whoever_comes_into_a_conversation_is_listed_before_it() {
        let direct = || ConversationKind::Direct([user("ann"), user("bob")]);
        assert_eq!(names(&append(direct(), 0, vec![Change::Left(Left {})])), ["ann", "bob"]);
        assert!(names(&append(direct(), 1, vec![Change::Left(Left {})])).is_empty());
        let users = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let created = Change::Created(Created { name: "x".into(), members: users(&["carl", "bob"]) });
        assert_eq!(names(&append(ConversationKind::Group, 0, vec![created])), ["ann", "bob", "carl"]);
        let added = |names| Change::Added(Users { users: users(names) });
        let removed = Change::Removed(Users { users: users(&["carl"]) });
        assert_eq!(
            names(&append(ConversationKind::Group, 9, vec![added(&["eve"]), removed, added(&["dan"])])),
            ["dan", "eve"]
        );
    }

    #[test]
    fn only_a_slot_that_is_taken_tells_what_became_of_an_append() {
        let id = ConversationId([1; 16]);
        let text = |text: &'static str| Written::new(&id, &record(5, Kind::Text, Body::Text(text.into())));
        let row = |written: Written| Row { bucket: 0, seq: written.seq, record: written.record, body: None };
        assert_eq!(verdict(None, &[text("ours")]), None);
        assert_eq!(verdict(Some(&row(text("ours"))), &[text("ours")]), Some(true));
        assert_eq!(verdict(Some(&row(text("other"))), &[text("ours")]), Some(false));
    }
}
