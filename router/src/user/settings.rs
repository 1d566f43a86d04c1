//! What a user has set: profile, who sees what of it, which conversations are muted, quiet hours.
//!
//! Owns: the rules of the document, and the part of it that is kept while the user's entry is ([`Prefs`]). The document is a
//! [`v1::Settings`] with everything that is set. Guarantees: what is out of bounds changes nothing; a document that cannot be
//! read hides the user from everybody, is counted, and is never overwritten; what a later version wrote into one that can be
//! read stays in it ([`rewrite`](super::rewrite)).

use super::rewrite::rewritten;
use super::{Known, User};
use crate::Router;
use crate::boundary::ConnRef;
use crate::frozen::{frozen, frozen_enum};
use crate::pending::Pending;
use crate::refusal;
use crate::session::request::named;
use crate::slab::Key;
use bytes::Bytes;
use prost::Message;
use ringpost_persist::{DocumentKey, Outcome, StoreRequest};
use ringpost_proto::id::{ConversationId, UserKey};
use ringpost_proto::limits::{AVATAR_BYTES, MUTES, PROFILE_NAME_BYTES};
use ringpost_proto::v1;
use ringpost_proto::v1::privacy::Value as Privacy;
use ringpost_proto::v1::settings::Profile;

/// Minutes of a day.
const DAY: u32 = 1_440;

/// Whom a user shows something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    #[default]
    Everyone,
    /// Users to whom this one has sent a record.
    Contacts,
    Nobody,
}

impl Audience {
    /// Of a privacy that is set; one that this version does not know is the narrowest.
    fn from_wire(privacy: i32) -> Self {
        match Privacy::try_from(privacy) {
            Ok(Privacy::Unchanged | Privacy::Everyone) => Self::Everyone,
            Ok(Privacy::Contacts) => Self::Contacts,
            Ok(Privacy::Nobody) | Err(_) => Self::Nobody,
        }
    }
}

/// What is needed of the settings at any moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefs {
    pub version: u64,
    pub last_seen: Audience,
    pub receipts: Audience,
    pub profile: Option<Box<Profile>>,
    /// Until when, Unix milliseconds.
    pub mutes: Vec<(ConversationId, u64)>,
}

impl Prefs {
    /// Of a document that cannot be read.
    fn hidden(version: u64) -> Self {
        Self { version, last_seen: Audience::Nobody, receipts: Audience::Nobody, ..Self::default() }
    }

    fn new(user: &UserKey, version: u64, document: v1::Settings) -> Self {
        let muted = |mute: &v1::settings::Mute| {
            let named = named(user, mute.conversation.as_ref(), "mute.conversation").ok()?;
            Some((named.id, mute.until_ms))
        };
        Self {
            version,
            last_seen: Audience::from_wire(document.last_seen),
            receipts: Audience::from_wire(document.read_receipts),
            mutes: document.mute.iter().filter_map(muted).collect(),
            profile: document.profile.map(Box::new),
        }
    }

    pub fn is_muted(&self, conversation: ConversationId, now_ms: u64) -> bool {
        self.mutes.iter().any(|(muted, until_ms)| *muted == conversation && *until_ms > now_ms)
    }
}

/// The document with the change; `None`: nothing changes.
pub(super) fn apply(
    user: &UserKey,
    bytes: &Bytes,
    change: &v1::Settings,
    now_ms: u64,
) -> Result<Option<Bytes>, v1::Error> {
    let current = v1::Settings::decode(bytes.clone()).map_err(|_| refusal::unreadable())?;
    let mut new = current.clone();
    if let Some(change) = &change.profile {
        let profile = new.profile.get_or_insert_default();
        set_text(&mut profile.name, &change.name, "profile.name", PROFILE_NAME_BYTES)?;
        set_text(&mut profile.avatar, &change.avatar, "profile.avatar", AVATAR_BYTES)?;
        new.profile = new.profile.filter(|profile| *profile != Profile::default());
    }
    set_privacy(&mut new.last_seen, change.last_seen, "lastSeen")?;
    set_privacy(&mut new.read_receipts, change.read_receipts, "readReceipts")?;
    new.mute.retain(|mute| mute.until_ms > now_ms);
    for mute in &change.mute {
        named(user, mute.conversation.as_ref(), "mute.conversation")?;
        new.mute.retain(|old| old.conversation != mute.conversation);
        if mute.until_ms > now_ms {
            new.mute.push(mute.clone());
        }
    }
    if new.mute.len() > MUTES {
        return Err(refusal::too_many("mute", MUTES as u32));
    }
    if let Some(hours) = &change.quiet_hours {
        if hours.from_minute >= DAY || hours.to_minute >= DAY {
            return Err(refusal::invalid("quietHours", format!("minutes of a day are 0 to {}", DAY - 1)));
        }
        new.quiet_hours = Some(*hours).filter(|hours| hours.from_minute != hours.to_minute);
    }
    // Mutes that are over are dropped when something else changes.
    let idle = *change == v1::Settings::default() || new == current;
    if idle {
        return Ok(None);
    }
    rewritten(bytes, new).map(Some).ok_or_else(refusal::unreadable)
}

/// A text that is named is set; an empty one is taken away.
fn set_text(at: &mut Option<String>, to: &Option<String>, field: &str, most: usize) -> Result<(), v1::Error> {
    let Some(to) = to else { return Ok(()) };
    if to.len() > most {
        return Err(refusal::too_large(field, most));
    }
    if to.chars().any(char::is_control) {
        return Err(refusal::invalid(field, "must not have control characters"));
    }
    *at = Some(to.clone()).filter(|to| !to.is_empty());
    Ok(())
}

fn set_privacy(at: &mut i32, to: i32, field: &str) -> Result<(), v1::Error> {
    match Privacy::try_from(to) {
        Ok(Privacy::Unchanged) => {}
        // What is everybody's anyway is not written down.
        Ok(Privacy::Everyone) => *at = Privacy::Unchanged as i32,
        Ok(privacy) => *at = privacy as i32,
        Err(_) => return Err(refusal::invalid(field, "is none that this server knows")),
    }
    Ok(())
}

/// All of it, as the user is told.
pub(super) fn to_wire(bytes: &[u8], now_ms: u64) -> v1::Settings {
    let mut settings = v1::Settings::decode(bytes).unwrap_or_default();
    let said = |privacy: i32| if privacy == 0 { Privacy::Everyone as i32 } else { privacy };
    settings.last_seen = said(settings.last_seen);
    settings.read_receipts = said(settings.read_receipts);
    settings.mute.retain(|mute| mute.until_ms > now_ms);
    settings
}

impl Router {
    pub(crate) fn settings_request(&mut self, key: Key, conn: ConnRef, re: u64, change: v1::Settings) {
        let Some((user, _)) = self.identity_of(key) else { return };
        if change.mute.len() > MUTES {
            let error = refusal::too_many("mute", MUTES as u32);
            return self.refuse_now(conn, re, error);
        }
        self.begin_request(key);
        self.edit(user, super::Edit::Settings { by: key, re, change: Box::new(change) });
    }

    /// Asks for the settings of a user, unless they are known or asked for.
    pub(crate) fn need_settings(&mut self, user: &UserKey) {
        if self.users.get(user).is_some_and(|entry| entry.read == Known::No) {
            self.read_settings(user, false);
        }
    }

    /// `watched`: it is one of the reads for watchers.
    pub(super) fn read_settings(&mut self, user: &UserKey, watched: bool) {
        let Some(entry) = self.users.get_mut(user) else { return };
        entry.read = Known::Asked;
        let (key, user) = (DocumentKey::Settings(user.clone()), user.clone());
        self.ask(Pending::Settings { user, watched }, |tag| StoreRequest::ReadDocument { tag, key });
    }

    pub(crate) fn settings_read(&mut self, user: &UserKey, watched: bool, outcome: Outcome) {
        if watched {
            self.presence_answered();
        }
        match outcome {
            Outcome::Document(found) => {
                let (version, bytes) = found.unwrap_or_default();
                self.settings_are(user, version, &bytes);
            }
            _ => {
                if let Some(entry) = self.users.get_mut(user).filter(|it| it.read == Known::Asked) {
                    entry.read = Known::No;
                }
            }
        }
        self.settings_known(user);
    }

    /// The document is this now, or was a moment ago.
    pub(super) fn settings_are(&mut self, user: &UserKey, version: u64, bytes: &[u8]) {
        let Some(entry) = self.users.get_mut(user) else { return };
        let known = entry.prefs.as_ref().map_or(0, |prefs| prefs.version);
        let newer = entry.read != Known::Yes || known < version;
        if newer {
            let document = v1::Settings::decode(bytes);
            self.counters.settings_unreadable += u64::from(document.is_err());
            let prefs = document.map_or_else(|_| Prefs::hidden(version), |it| Prefs::new(user, version, it));
            (entry.read, entry.prefs) = (Known::Yes, (version > 0).then(|| Box::new(prefs)));
        }
    }
}

impl Router {
    /// Whom a user shows what it reads; `None`: it is not known here any more.
    pub(crate) fn receipts_of(&self, user: &UserKey) -> Option<Audience> {
        let user = self.users.get(user).filter(|user| user.read == Known::Yes)?;
        Some(user.prefs().map_or(Audience::Everyone, |prefs| prefs.receipts))
    }
}

impl User {
    pub fn prefs(&self) -> Option<&Prefs> {
        self.prefs.as_deref()
    }
}

frozen!(Prefs { version, last_seen, receipts, profile, mutes });
frozen_enum!(Audience { 0 = Everyone {}, 1 = Contacts {}, 2 = Nobody {} });
