//! Small versioned documents, and items that are handed out once: all conditional writes, each sent once.

use super::db::Db;
use super::failure::Failed;
use super::rows::{bigint, blob, from_ordered, ordered, unsigned};
use crate::{DOCUMENT_BYTES, DocumentKey, ItemKey, Outcome};
use bytes::Bytes;
use ringpost_proto::id::{DeviceId, UserKey};
use scylla::value::CqlValue;
use std::sync::Arc;

/// How often an item that comes and goes meanwhile is put.
const PUTS: usize = 3;

type Stored = Option<(u64, Bytes)>;
type Cells = (i64, Vec<u8>);

fn document(cells: Option<Cells>) -> Stored {
    cells.map(|(version, bytes)| (unsigned(version), bytes.into()))
}

fn key(document: &DocumentKey) -> [CqlValue; 2] {
    let (user, which) = match document {
        DocumentKey::Devices(user) => (user, 0),
        DocumentKey::Settings(user) => (user, 1),
    };
    [blob(user.as_bytes()), CqlValue::TinyInt(which)]
}

fn device_key(user: &UserKey, device: &DeviceId) -> Vec<CqlValue> {
    vec![blob(user.as_bytes()), CqlValue::Text(device.as_str().to_owned())]
}

fn item_key(item: &ItemKey) -> Vec<CqlValue> {
    let mut key = device_key(&item.user, &item.device);
    key.push(CqlValue::BigInt(ordered(item.number)));
    key
}

impl Db {
    pub(super) async fn document(&self, wanted: &DocumentKey) -> Result<Stored, Failed> {
        Ok(document(self.first(&self.statements.document_of, &key(wanted)).await?))
    }

    pub(super) async fn cas(self: Arc<Self>, document_key: DocumentKey, expected: u64, bytes: Bytes) -> Outcome {
        if bytes.len() > DOCUMENT_BYTES {
            return Outcome::Unimplemented;
        }
        let (key, version) = (key(&document_key), expected.saturating_add(1));
        let written = if expected == 0 {
            let values: Vec<_> = key.iter().cloned().chain([blob(&bytes)]).collect();
            self.write_if(&self.statements.document_begin, &values).await
        } else {
            let mut values = vec![bigint(version), blob(&bytes)];
            values.extend(key.iter().cloned().chain([bigint(expected)]));
            self.write_if(&self.statements.document_write, &values).await
        };
        match written {
            Ok(true) => Outcome::Stored { version },
            Ok(false) => match self.document(&document_key).await {
                Ok(stored) => Outcome::Stale(stored),
                Err(error) => self.unavailable("document", &error),
            },
            Err(error @ Failed::Unknown(_)) => {
                self.stats.name("document", &error);
                let slot = self.first(&self.statements.document_slot, &key).await;
                slot.map_or(Outcome::Unknown, |cells| outcome(document(cells), expected, &bytes))
            }
            Err(error) => self.unavailable("document", &error),
        }
    }

    /// One with the same key is replaced.
    pub(super) async fn put(self: Arc<Self>, item: ItemKey, bytes: Bytes) -> Outcome {
        if bytes.len() > DOCUMENT_BYTES {
            return Outcome::Unimplemented;
        }
        let key = item_key(&item);
        let create: Vec<_> = key.iter().cloned().chain([blob(&bytes)]).collect();
        let replace: Vec<_> = std::iter::once(blob(&bytes)).chain(key).collect();
        for _ in 0..PUTS {
            for (statement, values) in [(&self.statements.otk_put, &create), (&self.statements.otk_replace, &replace)] {
                match self.write_if(statement, values).await {
                    Ok(true) => return Outcome::Stored { version: 0 },
                    Ok(false) => {}
                    Err(error) => return self.failed("item", &error),
                }
            }
        }
        Outcome::Unavailable
    }

    /// Whoever removes what it has read gets it.
    pub(super) async fn take(self: Arc<Self>, item: ItemKey) -> Outcome {
        let key = item_key(&item);
        for _ in 0..PUTS {
            let found: Result<Option<(Vec<u8>,)>, _> = self.first(&self.statements.otk_of, &key).await;
            let bytes = match found {
                Ok(Some((bytes,))) => bytes,
                Ok(None) => return Outcome::Taken(None),
                Err(error) => return self.unavailable("item", &error),
            };
            let values: Vec<_> = key.iter().cloned().chain([blob(&bytes)]).collect();
            match self.write_if(&self.statements.otk_take, &values).await {
                Ok(true) => return Outcome::Taken(Some(bytes.into())),
                // Taken, or replaced.
                Ok(false) => {}
                Err(error) => return self.failed("item", &error),
            }
        }
        Outcome::Unavailable
    }

    pub(super) async fn items(
        self: Arc<Self>,
        user: UserKey,
        device: DeviceId,
        limit: u32,
    ) -> Result<Vec<u64>, Failed> {
        let rows = self.all::<(i64,)>(&self.statements.otk_list, &device_key(&user, &device)).await?;
        Ok(rows.into_iter().take(limit as usize).map(|(number,)| from_ordered(number)).collect())
    }

    /// Of a conditional write.
    fn failed(&self, what: &str, error: &Failed) -> Outcome {
        if matches!(error, Failed::Unknown(_)) {
            self.stats.name(what, error);
            return Outcome::Unknown;
        }
        self.unavailable(what, error)
    }
}

/// What became of a write without a result, as the document tells.
fn outcome(stored: Stored, expected: u64, bytes: &Bytes) -> Outcome {
    match stored {
        Some((version, stored)) if version == expected + 1 && stored == *bytes => Outcome::Stored { version },
        // Beyond what it was conditional on: it did not land, and never will.
        Some((version, stored)) if version > expected => Outcome::Stale(Some((version, stored))),
        _ => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_older_does_not_tell_what_became_of_a_write() {
        let stored = |version| Some((version, Bytes::from_static(b"x")));
        let ours = Bytes::from_static(b"x");
        assert!(matches!(outcome(stored(4), 3, &ours), Outcome::Stored { version: 4 }));
        assert!(matches!(outcome(stored(4), 3, &Bytes::from_static(b"y")), Outcome::Stale(Some((4, _)))));
        assert!(matches!(outcome(stored(5), 3, &ours), Outcome::Stale(Some((5, _)))));
        assert!(matches!(outcome(stored(3), 3, &ours), Outcome::Unknown));
        assert!(matches!(outcome(None, 0, &ours), Outcome::Unknown));
    }
}
