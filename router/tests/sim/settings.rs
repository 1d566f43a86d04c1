//! What users have set, and whom they have been promised to show what.

use super::oracle::Oracle;
use super::plan::SECOND;
use prost::Message;
use ringpost_persist::faulty::FaultyStore;
use ringpost_persist::{DocumentKey, Outcome, RegisterKey, Shown as Reading, StoreRequest};
use ringpost_proto::id::Seq;
use ringpost_proto::v1::{self, privacy::Value as Privacy};

/// Within so much a room has written that somebody hides, or is gone: registers are written after 2 s, and again where the
/// store does not answer.
const WRITTEN_US: u64 = 30 * SECOND;

/// Of one user.
#[derive(Clone, Default)]
pub struct Shown {
    /// What it was last answered to have set, and when.
    pub answered: Option<(u64, v1::Settings)>,
    /// It has asked at least once that what it reads be hidden from somebody.
    pub hid: bool,
    /// When it was last seen to hide from somebody, or to be about to.
    pub hides_us: u64,
    /// By peer: up to where nobody waits for what it reads; `Seq::MAX`: it may be hiding.
    pub passed: Vec<Seq>,
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
    pub fn sets(&mut self, user: usize, change: &v1::Settings, now: u64) {
        self.shown[user].hid |= matches!(change.read_receipts(), Privacy::Contacts | Privacy::Nobody);
        self.may_hide(user, now);
    }

    fn may_hide(&mut self, user: usize, now: u64) {
        let peers = self.peers();
        let shown = &mut self.shown[user];
        if shown.hid {
            shown.hides_us = now;
            shown.passed = vec![Seq::MAX; peers];
        }
    }

    /// Up to where the others of a group hear of what all have read although this member may not have: the records that were
    /// there when it hid last. Who shows again is waited for from then on.
    pub fn passed(&mut self, store: &FaultyStore, user: usize, peer: usize, now: u64) -> Seq {
        if !self.shown[user].hid {
            return 0;
        }
        let open = |privacy: &Privacy| matches!(privacy, Privacy::Unchanged | Privacy::Everyone);
        let shows = self.promised(store, user, now, v1::Settings::read_receipts).iter().all(open);
        if !shows {
            self.may_hide(user, now);
        }
        let room = self.conversation(user, peer);
        let head = store.log(&room).len() as Seq;
        let hides = Reading(store.register(&RegisterKey::ReadShown(room, self.users[user].clone()))).hides();
        let shown = &mut self.shown[user];
        let passed = &mut shown.passed[peer];
        if hides || now < shown.hides_us + WRITTEN_US {
            *passed = Seq::MAX;
        } else if *passed == Seq::MAX {
            *passed = head;
        }
        *passed
    }

    /// It is answered what they are now.
    pub fn has_set(&mut self, user: usize, settings: &v1::Settings, now: u64) {
        self.shown[user].answered = Some((now, settings.clone()));
        self.may_hide(user, now);
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
