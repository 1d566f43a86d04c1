//! The logs of the gateway that breaks the contract: these themselves are honest.

use bytes::Bytes;
use ringpost_proto::v1::{self, peer::Peer};
use std::collections::HashMap;

#[derive(Default)]
struct Log {
    /// The id of a group; `None`: a direct conversation.
    group: Option<Bytes>,
    members: Vec<String>,
    records: Vec<v1::Record>,
    sent: HashMap<Bytes, v1::Sent>,
    /// How far each member has acknowledged.
    delivered: HashMap<String, u64>,
}

/// All conversations, by a key of their own.
#[derive(Default)]
pub struct Logs {
    logs: HashMap<String, Log>,
    /// Record ids, over all conversations.
    last_id: u64,
}

impl Logs {
    /// The key of what `from` calls `to`.
    pub fn key(&mut self, from: &str, to: &Peer) -> String {
        match to {
            Peer::Group(id) => format!("{id:?}"),
            Peer::User(to) => {
                let mut pair = [from, to];
                pair.sort();
                let key = pair.join(" ");
                let members = || pair.iter().map(|&user| user.to_owned()).collect();
                self.logs.entry(key.clone()).or_insert_with(|| Log { members: members(), ..Log::default() });
                key
            }
        }
    }

    pub fn create(&mut self, id: &[u8], founder: &str, mut members: Vec<String>) -> String {
        let id = Bytes::copy_from_slice(id);
        members.push(founder.to_owned());
        let key = format!("{id:?}");
        self.logs.insert(key.clone(), Log { group: Some(id), members, ..Log::default() });
        key
    }

    /// Appends a record; gives it with its position and id.
    pub fn append(&mut self, key: &str, record: v1::Record) -> v1::Record {
        self.last_id += 1;
        let log = self.logs.get_mut(key).unwrap();
        let record = v1::Record { seq: log.records.len() as u64 + 1, id: self.last_id, ..record };
        log.records.push(record.clone());
        record
    }

    pub fn sent(&self, key: &str, cmid: &Bytes) -> Option<v1::Sent> {
        self.logs[key].sent.get(cmid).copied()
    }

    pub fn remember(&mut self, key: &str, cmid: Bytes, sent: v1::Sent) {
        self.logs.get_mut(key).unwrap().sent.insert(cmid, sent);
    }

    pub fn members(&self, key: &str) -> Vec<String> {
        self.logs[key].members.clone()
    }

    pub fn receivers(&self, key: &str, from: &str) -> Vec<String> {
        self.members(key).into_iter().filter(|member| member != from).collect()
    }

    /// A record with the conversation's name as this user calls it.
    pub fn as_seen_by(&self, user: &str, key: &str, record: &v1::Record) -> v1::Record {
        let log = &self.logs[key];
        let other = || log.members.iter().find(|&member| member != user).cloned().unwrap_or_default();
        let peer = log.group.clone().map_or_else(|| Peer::User(other()), Peer::Group);
        v1::Record { conversation: Some(v1::Peer { peer: Some(peer) }), ..record.clone() }
    }

    pub fn delivered(&mut self, user: &str, key: &str, seq: u64) {
        let delivered = self.logs.get_mut(key).unwrap().delivered.entry(user.to_owned()).or_default();
        *delivered = seq.max(*delivered);
    }

    /// What this user has not acknowledged, each with the key of its conversation: newest conversation first.
    pub fn missed(&self, user: &str, oldest_first: bool) -> Vec<(String, v1::Record)> {
        let mut logs: Vec<_> = self.logs.iter().filter(|(_, log)| log.members.iter().any(|it| it == user)).collect();
        logs.sort_by_key(|(_, log)| std::cmp::Reverse(log.records.last().map(|record| record.id)));
        if oldest_first {
            logs.reverse();
        }
        let records = logs.into_iter().flat_map(|(key, log)| {
            let delivered = log.delivered.get(user).copied().unwrap_or(0);
            let missed = log.records.iter().filter(move |record| record.seq > delivered && record.from != user);
            missed.map(move |record| (key.clone(), self.as_seen_by(user, key, record)))
        });
        records.collect()
    }
}
