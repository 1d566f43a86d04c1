//! The messages that the benches write: 250-byte texts between pairs of users.

use bytes::Bytes;
use ringpost_persist::prng::Prng;
use ringpost_persist::{Body, ConversationKind, Record, StoreRequest};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::kind::Value;
use std::error::Error;
use std::sync::Arc;

/// Bytes of a text.
pub const BODY: usize = 250;

/// Conversations, each of a user with the next one.
pub struct Pairs {
    users: Vec<UserKey>,
    kinds: Vec<Arc<ConversationKind>>,
    heads: Vec<Seq>,
    pub phone: DeviceId,
    next: usize,
}

impl Pairs {
    pub fn new(conversations: usize) -> Result<Self, Box<dyn Error>> {
        let user = |n: usize| UserKey::new("default", &format!("user{n:06}"));
        let users = (0..=conversations).map(user).collect::<Result<Vec<_>, _>>()?;
        let kind = |two: &[UserKey]| Arc::new(ConversationKind::Direct([two[0].clone(), two[1].clone()]));
        let kinds = users.windows(2).map(kind).collect();
        Ok(Self { users, kinds, heads: vec![0; conversations], phone: DeviceId::new("phone")?, next: 0 })
    }

    /// A message to the next conversation.
    pub fn send(&mut self) -> StoreRequest {
        self.next = (self.next + 1) % self.heads.len();
        let (n, seq) = (self.next, self.heads[self.next] + 1);
        self.heads[n] = seq;
        let body = Body::Text(Bytes::from(text(seq * 31 + n as u64)));
        let mut cmid = [0; 16];
        cmid[..8].copy_from_slice(&seq.to_le_bytes());
        cmid[8..].copy_from_slice(&(n as u64).to_le_bytes());
        let record = Record::new(self.users[n].clone(), self.phone, ClientMessageId(cmid), Value::Text, body);
        StoreRequest::Append {
            tag: 0,
            conversation: id(n),
            kind: Arc::clone(&self.kinds[n]),
            expected_head: seq - 1,
            records: vec![Arc::new(Record { seq, id: seq, us: seq, ordinal: seq, ..record })],
        }
    }
}

fn id(n: usize) -> ConversationId {
    // Spread, as the hashes are that real ones come from.
    let mut prng = Prng::new(n as u64);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&prng.next_u64().to_le_bytes());
    id[8..].copy_from_slice(&(n as u64).to_le_bytes());
    ConversationId(id)
}

/// Words of a small vocabulary: text that compresses as people's does, not as one letter does.
fn text(seed: u64) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "tomorrow", "ok", "see", "you", "at", "five", "lunch", "maybe", "great", "thanks", "when", "are", "home", "I",
        "think", "later",
    ];
    let mut prng = Prng::new(seed);
    let mut text = Vec::with_capacity(BODY + 16);
    while text.len() < BODY {
        text.extend_from_slice(WORDS[prng.below(16) as usize].as_bytes());
        text.push(b' ');
    }
    text.truncate(BODY);
    text
}
