//! Everything that is stored of a user, in lines of JSON: its settings, devices, conversations with positions, and every
//! record that it sent or was sent and may see, as clients are shown them.

use super::lines::{Lines, push};
use super::listing::Listing;
use super::{Failed, Operator};
use prost::Message;
use ringpost_persist::{DocumentKey, Outcome, ReadRange, Record, StoreRequest, UserEntry};
use ringpost_proto::id::{Seq, UserKey};
use ringpost_proto::v1;
use ringpost_proto::v1::change::Change;
use ringpost_router::DeviceList;
use serde_json::{Value, json};

/// Of one page of a log.
const RECORDS: u32 = 256;
const BYTES: u32 = 512 << 10;

/// How much there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    pub conversations: u64,
    pub records: u64,
}

impl Exported {
    pub fn json(self) -> Value {
        json!({ "conversations": self.conversations, "records": self.records })
    }
}

/// Writes all of it to `out`, but for the last line.
pub async fn export(operator: &Operator, user: &UserKey, out: &Lines) -> Result<Exported, Failed> {
    out.line("user", json!({ "tenant": user.tenant(), "user": user.user() })).await?;
    if let Some(settings) = document(operator, DocumentKey::Settings(user.clone())).await? {
        let settings = v1::Settings::decode(settings).map_err(|e| Failed::Refused(format!("settings: {e}")))?;
        out.line("settings", to_json(&settings)).await?;
    }
    if let Some(devices) = document(operator, DocumentKey::Devices(user.clone())).await? {
        let list = DeviceList::decode(&devices).map_err(|e| Failed::Refused(e.to_string()))?;
        out.line("devices", devices_json(&list)).await?;
    }
    let (mut listing, mut exported) = (Listing::default(), Exported::default());
    while let Some(entries) = listing.next(operator, user).await? {
        for entry in entries {
            exported.conversations += 1;
            exported.records += conversation(operator, user, &entry, out).await?;
        }
    }
    Ok(exported)
}

/// What is stored under this key; an empty document is none.
pub async fn document(operator: &Operator, key: DocumentKey) -> Result<Option<bytes::Bytes>, Failed> {
    let read = operator.ask(|tag| StoreRequest::ReadDocument { tag, key: key.clone() }).await?;
    match read {
        Outcome::Document(found) => Ok(found.map(|(_, bytes)| bytes).filter(|bytes| !bytes.is_empty())),
        _ => Err(Failed::Store),
    }
}

async fn conversation(operator: &Operator, user: &UserKey, entry: &UserEntry, out: &Lines) -> Result<u64, Failed> {
    out.line("conversation", entry_json(user, entry)).await?;
    let (mut from, mut records, mut blocks) = (entry.join.max(1), 0, false);
    loop {
        let viewer = Some(user.clone());
        let page = operator
            .ask(|tag| StoreRequest::ReadLog {
                tag,
                conversation: entry.conversation,
                viewer: viewer.clone(),
                range: ReadRange::From { from, to: Seq::MAX },
                records: RECORDS,
                bytes: BYTES,
            })
            .await?;
        let Outcome::LogSlice { head, reached, records: found, .. } = page else { return Err(Failed::Store) };
        let mut chunk = Vec::new();
        for record in &found {
            push(&mut chunk, "record", &record_json(user, entry, record));
            if let Some(Change::Blocked(blocked)) = record.change().filter(|_| record.sender == *user) {
                blocks = blocked.on;
            }
        }
        records += found.len() as u64;
        out.write(chunk).await?;
        if reached >= head || reached < from {
            break;
        }
        from = reached + 1;
    }
    if blocks {
        out.line("blocked", to_json(&peer(user, entry))).await?;
    }
    Ok(records)
}

fn peer(user: &UserKey, entry: &UserEntry) -> v1::Peer {
    entry.kind.peer_of(entry.conversation, user).to_wire()
}

/// 64-bit numbers are strings, as on the wire.
fn entry_json(user: &UserKey, entry: &UserEntry) -> Value {
    let delivered = entry.delivered.iter();
    let delivered: Vec<_> =
        delivered.map(|(device, seq)| json!({ "device": device.as_str(), "seq": seq.to_string() })).collect();
    json!({
        "peer": to_json(&peer(user, entry)),
        "title": entry.title,
        "joinSeq": entry.join.to_string(),
        "headSeq": entry.head.to_string(),
        "readSeq": entry.read.to_string(),
        "unread": entry.unread,
        "delivered": delivered,
    })
}

fn record_json(user: &UserKey, entry: &UserEntry, record: &Record) -> Value {
    let mut wire = record.to_wire();
    wire.conversation = Some(peer(user, entry));
    if record.sender == *user {
        wire.client_message_id = bytes::Bytes::copy_from_slice(&record.cmid.0);
    }
    to_json(&wire)
}

fn devices_json(list: &DeviceList) -> Value {
    let devices = list.devices().iter().map(|it| {
        json!({
            "device": it.device.as_str(),
            "primary": it.primary,
            "registrationId": it.registration_id,
            "linkedMs": it.linked_ms.to_string(),
            "lastSeenMs": it.seen_ms.to_string(),
        })
    });
    let unlinked =
        list.unlinked().map(|(device, at_ms)| json!({ "device": device.as_str(), "unlinkedMs": at_ms.to_string() }));
    json!({
        "lastSeenMs": list.last_seen_ms().to_string(),
        "devices": devices.collect::<Vec<_>>(),
        "unlinked": unlinked.collect::<Vec<_>>(),
        "wasAnswered": list.was_answered(),
    })
}

/// A message of the wire; it holds no map and no float, so that it always has a JSON.
fn to_json(message: &impl serde::Serialize) -> Value {
    serde_json::to_value(message).unwrap_or_default()
}
