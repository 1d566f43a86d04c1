//! What is known of the conversations: their prefixes, brought up to the head for each request, and the snapshots that spare
//! reading a log from its beginning.
//!
//! Guarantees: a prefix is that of the log as it is when the request that asks for it began, or later. Whoever folds over an
//! erasure has seen to it that the body is gone, so no prefix is beyond one that was not carried out. A snapshot is written
//! once the client message ids of all its records are in `dedupe`.

use super::db::Db;
use super::failure::Failed;
use super::log::Range;
use super::prefix::Prefix;
use super::rows::{Row, blob, bucket_after, is_erased, number};
use crate::Record;
use crate::embedded::decode_kind;
use crate::recent::Recent;
use crate::record::Cursor;
use ringpost_proto::id::{ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::kind::Value as Kind;
use scylla::response::PagingState;
use scylla::value::CqlValue;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

/// Records after a snapshot from which on the next one is due.
pub(super) const SNAPSHOT_EVERY: Seq = 256;
/// Client message ids that are written at a time.
const INDEXED: usize = 256;

/// A prefix, and up to where a snapshot is known to be.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) prefix: Arc<Prefix>,
    pub(super) snapshot: Seq,
}

/// Prefixes in memory, of the conversations that were asked for lately. Bounded by members.
pub(super) struct Known(Recent<ConversationId, Entry>);

impl Known {
    /// `most`: members of the conversations in memory, about half of it in use. `seed`: a secret, clients choose groups' ids.
    pub(super) fn new(most: usize, seed: u64) -> Self {
        Self(Recent::new(most / 2, seed, |entry| entry.prefix.roster.members().len() + 1))
    }

    fn get(&mut self, id: &ConversationId) -> Option<Entry> {
        self.0.get(id).cloned()
    }

    /// The longer prefix and the later snapshot count.
    fn put(&mut self, id: ConversationId, entry: Entry) {
        let before = self.get(&id);
        let snapshot = before.as_ref().map_or(0, |before| before.snapshot).max(entry.snapshot);
        let prefix = match before {
            Some(before) if before.prefix.head > entry.prefix.head => before.prefix,
            _ => entry.prefix,
        };
        self.0.put(id, Entry { prefix, snapshot });
        self.0.settle();
    }
}

impl Db {
    /// The prefix up to the head; `None`: nobody wrote to the conversation.
    pub(super) async fn prefix(self: &Arc<Self>, id: ConversationId) -> Result<Option<Arc<Prefix>>, Failed> {
        Ok(self.entry(id).await?.map(|entry| entry.prefix))
    }

    pub(super) async fn entry(self: &Arc<Self>, id: ConversationId) -> Result<Option<Entry>, Failed> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id);
        let known = match known {
            Some(known) => Some(known),
            None => self.snapshot(&id).await?,
        };
        let mut entry = match known {
            Some(known) => known,
            None => match self.kind(&id).await? {
                Some(kind) => Entry { prefix: Arc::new(Prefix::new(kind)), snapshot: 0 },
                None => return Ok(None),
            },
        };
        self.catch_up(&id, &mut entry.prefix).await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).put(id, entry.clone());
        if entry.prefix.head >= entry.snapshot + SNAPSHOT_EVERY {
            self.snapshot_later(id, entry.clone());
        }
        Ok(Some(entry).filter(|entry| entry.prefix.head > 0))
    }

    /// The entry of an append's conversation is brought up to its head, with a snapshot, while nobody waits for it.
    pub(super) fn snapshot_soon(self: &Arc<Self>, id: ConversationId) {
        let Ok(permit) = Arc::clone(&self.upkeep).try_acquire_owned() else { return };
        let db = Arc::clone(self);
        tokio::spawn(async move {
            // Failed: whoever reads the conversation next finds more to read, and tries again.
            if let Err(error) = db.entry(id).await {
                db.stats.name("snapshot", &error);
            }
            drop(permit);
        });
    }

    async fn snapshot(&self, id: &ConversationId) -> Result<Option<Entry>, Failed> {
        let found: Option<(Option<Vec<u8>>,)> = self.first(&self.statements.conv_of, &[blob(&id.0)]).await?;
        let Some(bytes) = found.and_then(|(bytes,)| bytes) else { return Ok(None) };
        // One that cannot be read is none: the log has it all.
        let Ok(prefix) = Prefix::decode(&bytes) else {
            self.stats.unreadable.fetch_add(1, Relaxed);
            return Ok(None);
        };
        Ok(Some(Entry { snapshot: prefix.head, prefix: Arc::new(prefix) }))
    }

    async fn kind(&self, id: &ConversationId) -> Result<Option<crate::ConversationKind>, Failed> {
        let found: Option<(Vec<u8>, i64, Option<Vec<u8>>)> =
            self.first(&self.statements.log_kind, &[blob(&id.0)]).await?;
        let Some(kind) = found.and_then(|(.., kind)| kind) else { return Ok(None) };
        Ok(Some(decode_kind(&mut Cursor(&kind))?))
    }

    async fn catch_up(&self, id: &ConversationId, prefix: &mut Arc<Prefix>) -> Result<(), Failed> {
        loop {
            let bucket = bucket_after(prefix.head);
            let range = Range { from: prefix.head + 1, to: Seq::MAX, upwards: true, page: 256 };
            let mut next = Some(PagingState::start());
            while let Some(from) = next {
                let (rows, after) = self.rows(id, bucket, range, from).await?;
                for row in &rows {
                    let record = self.foldable(id, row).await?;
                    Arc::make_mut(prefix).apply(&record)?;
                }
                next = after;
            }
            if bucket_after(prefix.head) == bucket {
                return Ok(());
            }
        }
    }

    /// What a prefix takes in of a row. An erasure is carried out first.
    async fn foldable(&self, id: &ConversationId, row: &Row) -> Result<Record, Failed> {
        let shell = row.shell()?;
        match shell.kind {
            Kind::Erase if shell.ref_seq <= shell.seq => {
                self.erase(id, shell.ref_seq).await?;
                Ok(shell)
            }
            Kind::Change if row.is_cut() => self.whole(row).await,
            _ => Ok(shell),
        }
    }

    /// Takes the body of a record back. Each step may be repeated, and the last one says that all are done. Rooms allow it for
    /// messages; a change would be missing from the next roster that is folded.
    async fn erase(&self, id: &ConversationId, seq: Seq) -> Result<(), Failed> {
        let Some(row) = self.row_at(id, seq).await? else { return Ok(()) };
        if row.shell()?.kind == Kind::Change {
            return Ok(());
        }
        let key = [blob(&id.0), CqlValue::BigInt(row.bucket), CqlValue::BigInt(number(seq))];
        if !is_erased(&row.shell()?) {
            let mut bytes = Vec::new();
            self.whole(&row).await?.erased().encode(&mut bytes);
            let values: Vec<_> = std::iter::once(CqlValue::Blob(bytes)).chain(key.iter().cloned()).collect();
            self.write_if(&self.statements.log_erase, &values).await?;
        }
        if let Some(body) = &row.body {
            self.write_if(&self.statements.body_erase, &[blob(body)]).await?;
            self.write_if(&self.statements.log_erase_body, &key).await?;
        }
        Ok(())
    }

    fn snapshot_later(self: &Arc<Self>, id: ConversationId, entry: Entry) {
        let Ok(permit) = Arc::clone(&self.upkeep).try_acquire_owned() else { return };
        let db = Arc::clone(self);
        tokio::spawn(async move {
            match db.write_snapshot(&id, &entry).await {
                Ok(()) => {
                    db.stats.snapshots.fetch_add(1, Relaxed);
                    let snapshot = entry.prefix.head;
                    db.known.lock().unwrap_or_else(PoisonError::into_inner).put(id, Entry { snapshot, ..entry });
                }
                Err(error) => {
                    db.stats.snapshot_errors.fetch_add(1, Relaxed);
                    db.stats.name("snapshot", &error);
                }
            }
            drop(permit);
        });
    }

    /// First where the records are by their client message ids, then that this is so.
    async fn write_snapshot(&self, id: &ConversationId, Entry { prefix, snapshot }: &Entry) -> Result<(), Failed> {
        let mut from = snapshot + 1;
        while from <= prefix.head {
            let to = prefix.head.min(from + INDEXED as Seq - 1);
            self.index(id, from, to).await?;
            from = to + 1;
        }
        let values = [
            blob(&id.0),
            CqlValue::BigInt(number(prefix.head)),
            CqlValue::Blob(prefix.encode()),
            // The later of two snapshots is the one that stays.
            CqlValue::BigInt(number(prefix.us)),
        ];
        self.write(&self.statements.conv_put, &values).await
    }

    async fn index(&self, id: &ConversationId, from: Seq, to: Seq) -> Result<(), Failed> {
        let mut ids: BTreeMap<(UserKey, DeviceId), Vec<Record>> = BTreeMap::new();
        self.scan(id, Range { from, to, upwards: true, page: 256 }, |row| {
            let shell = row.shell()?;
            ids.entry((shell.sender.clone(), shell.device)).or_default().push(shell);
            Ok(true)
        })
        .await?;
        for ((sender, device), records) in ids {
            let write = |record: &Record| {
                let values = vec![
                    blob(&id.0),
                    blob(sender.as_bytes()),
                    CqlValue::Text(device.as_str().to_owned()),
                    blob(&record.cmid.0),
                    CqlValue::BigInt(number(record.seq)),
                    // Of two records with one id, a day apart at least, the newer one is found.
                    CqlValue::BigInt(number(record.us)),
                ];
                (&self.statements.dedupe_put, values)
            };
            self.write_all(records.iter().map(write).collect()).await?;
        }
        Ok(())
    }
}
