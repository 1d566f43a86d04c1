//! What users have set, and whom they have been promised to show what.

use super::oracle::Oracle;
use prost::Message;
use ringpost_persist::faulty::FaultyStore;
use ringpost_persist::{DocumentKey, Outcome, StoreRequest};
use ringpost_proto::id::Seq;
use ringpost_proto::v1::{self, privacy::Value as Privacy};

/// Of one user.
#[derive(Clone, Default)]
pub struct Shown {
    /// What it was last answered to have set, and when.
    pub answered: Option<(u64, v1::Settings)>,
    /// It has asked at least once that what it reads be hidden from somebody.
    pub hid: bool,
    /// By peer: the furthest read that it said while others might be shown it.
    pub reads: Vec<Seq>,
}

impl Oracle {
    /// The committed settings of a user, and their version.
    pub fn settings(&self, store: &FaultyStore, user: usize) -> (u64, v1::Settings) {
        let key = DocumentKey::Settings(self.users[user].clone());
        match store.read(&StoreRequest::ReadDocument { tag: 0, key }) {
            Some(Outcome::Document(Some((version, bytes)))) => {
                (version, v1::Settings::decode(bytes).unwrap_or_default())
            }
            _ => Default::default(),
        }
    }

    /// A user asks for other settings.
    pub fn sets(&mut self, user: usize, change: &v1::Settings) {
        self.shown[user].hid |= matches!(change.read_receipts(), Privacy::Contacts | Privacy::Nobody);
    }

    /// It is answered what they are now.
    pub fn has_set(&mut self, user: usize, settings: &v1::Settings, now: u64) {
        self.shown[user].answered = Some((now, settings.clone()));
    }

    /// What is set, and what was the last that the user was answered: something may be shown that one of them shows.
    pub fn promised(
        &self,
        store: &FaultyStore,
        user: usize,
        now: u64,
        of: fn(&v1::Settings) -> Privacy,
    ) -> [Privacy; 2] {
        let answered = self.shown[user].answered.as_ref().filter(|(at, _)| at + self.under_way_us < now);
        [of(&self.settings(store, user).1), answered.map_or(Privacy::Everyone, |(_, settings)| of(settings))]
    }

    /// The node is told that a user has read something.
    pub fn says_read(&mut self, store: &FaultyStore, user: usize, peer: usize, seq: Seq, now: u64) {
        let promised = self.promised(store, user, now, v1::Settings::read_receipts);
        if promised.iter().any(|privacy| *privacy != Privacy::Nobody) {
            let shown = &mut self.shown[user].reads[peer];
            *shown = (*shown).max(seq);
        }
    }
}
