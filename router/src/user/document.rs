//! Small versioned documents of a user, changed on the user's home shard: read, apply, write if the version is still the same.
//!
//! Owns: the changes that are under way. Guarantees: changes of one document follow each other in their order; a change is
//! applied to what is stored and to nothing else, so none is lost to another one; after an outcome that is not known the
//! document says what became of it, and a change that is applied twice is as one. Never does: hold a document, decide what is
//! in it.

use super::devices::DeviceList;
use super::linking::DeviceEdit;
use super::settings;
use crate::Router;
use crate::envelope::{Envelope, SendOutcome, SessionRef};
use crate::frozen::{frozen, frozen_enum};
use crate::pending::Pending;
use crate::refusal;
use crate::slab::Key;
use bytes::Bytes;
use hashbrown::hash_map::Entry;
use ringpost_persist::{DocumentKey, Outcome, StoreRequest};
use ringpost_proto::close::CloseCode;
use ringpost_proto::id::UserKey;
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;
use std::collections::VecDeque;

/// So often others may come first.
const TRIES: u32 = 8;

/// A change of a document.
#[derive(Debug)]
pub(crate) enum Edit {
    /// `by`: the session that asks, in its request `re`. A change of nothing only reads.
    Settings {
        by: Key,
        re: u64,
        change: Box<v1::Settings>,
    },
    Devices(Box<DeviceEdit>),
    /// Nothing of the document stays; the operator asks.
    Forget {
        what: Forgotten,
        by: SessionRef,
        re: u64,
    },
}

/// Which document is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgotten {
    Settings,
    Devices,
}

/// A change that is under way.
#[derive(Debug)]
pub(crate) struct Editing {
    user: UserKey,
    edit: Edit,
    tries: u32,
    /// What is being written, on top of which version.
    bytes: Bytes,
    expected: u64,
}

impl Edit {
    fn key(&self, user: &UserKey) -> DocumentKey {
        match self {
            Self::Settings { .. } | Self::Forget { what: Forgotten::Settings, .. } => {
                DocumentKey::Settings(user.clone())
            }
            Self::Devices(_) | Self::Forget { what: Forgotten::Devices, .. } => DocumentKey::Devices(user.clone()),
        }
    }

    /// The document with the change; `None`: it is as asked for.
    fn apply(&mut self, user: &UserKey, bytes: &Bytes, now_ms: u64) -> Result<Option<Bytes>, v1::Error> {
        match self {
            Self::Settings { change, .. } => settings::apply(user, bytes, change, now_ms),
            Self::Forget { what: Forgotten::Settings, .. } => Ok((!bytes.is_empty()).then(Bytes::new)),
            Self::Forget { what: Forgotten::Devices, .. } => Ok(DeviceList::forgotten(bytes, now_ms)),
            Self::Devices(edit) => edit.apply(bytes, now_ms),
        }
    }
}

impl Router {
    /// The operator erases a user: its sessions end, its documents are emptied.
    pub(crate) fn erase_user(&mut self, user: UserKey, by: SessionRef, re: u64) {
        self.end_erased(&user);
        self.edit(user, Edit::Forget { what: Forgotten::Settings, by, re });
    }

    fn end_erased(&mut self, user: &UserKey) {
        let sessions = self.users.get(user).map(|entry| entry.sessions.list()).unwrap_or_default();
        for session in sessions {
            self.end(session, CloseCode::DeviceRevoked, "the user was erased");
        }
    }

    /// Changes a document, after the changes of it that are under way.
    pub(crate) fn edit(&mut self, user: UserKey, edit: Edit) {
        match self.edits.entry(edit.key(&user)) {
            Entry::Occupied(mut waiting) => return waiting.get_mut().push_back(edit),
            Entry::Vacant(none) => none.insert(VecDeque::new()),
        };
        self.begin_edit(user, edit);
    }

    /// One change is done: the next one.
    fn edit_next(&mut self, key: DocumentKey) {
        let Some(waiting) = self.edits.get_mut(&key) else { return };
        let Some(edit) = waiting.pop_front() else {
            self.edits.remove(&key);
            return;
        };
        let (DocumentKey::Settings(user) | DocumentKey::Devices(user)) = key;
        self.begin_edit(user, edit);
    }

    fn begin_edit(&mut self, user: UserKey, edit: Edit) {
        self.read_to_edit(Box::new(Editing { user, edit, tries: 0, bytes: Bytes::new(), expected: 0 }));
    }

    fn read_to_edit(&mut self, editing: Box<Editing>) {
        let key = editing.edit.key(&editing.user);
        self.ask(Pending::ReadToEdit(editing), |tag| StoreRequest::ReadDocument { tag, key });
    }

    pub(crate) fn document_read(&mut self, editing: Box<Editing>, outcome: Outcome) {
        match outcome {
            Outcome::Document(found) => self.apply(editing, found),
            _ => self.edit_failed(*editing, refusal::unavailable()),
        }
    }

    fn apply(&mut self, mut editing: Box<Editing>, found: Option<(u64, Bytes)>) {
        let (version, current) = found.unwrap_or_default();
        match editing.edit.apply(&editing.user, &current, self.now_ms()) {
            Err(error) => self.edit_failed(*editing, error),
            Ok(None) => self.edited(*editing, version, current),
            Ok(Some(bytes)) => {
                (editing.bytes, editing.expected) = (bytes.clone(), version);
                let (key, expected) = (editing.edit.key(&editing.user), version);
                self.ask(Pending::WriteEdited(editing), |tag| StoreRequest::Cas { tag, key, expected, bytes });
            }
        }
    }

    pub(crate) fn document_written(&mut self, mut editing: Box<Editing>, outcome: Outcome) {
        editing.tries += 1;
        match outcome {
            Outcome::Stored { version } => {
                let bytes = editing.bytes.clone();
                self.edited(*editing, version, bytes);
            }
            Outcome::Stale(found) if editing.tries < TRIES => self.apply(editing, found),
            Outcome::Unknown if editing.tries < TRIES => self.read_to_edit(editing),
            Outcome::Full => self.edit_failed(*editing, refusal::storage_full()),
            _ => self.edit_failed(*editing, refusal::unavailable()),
        }
    }

    /// The document is this now.
    fn edited(&mut self, editing: Editing, version: u64, bytes: Bytes) {
        let key = editing.edit.key(&editing.user);
        match editing.edit {
            Edit::Settings { by, re, .. } => {
                self.settings_are(&editing.user, version, &bytes);
                self.tell_watchers(&editing.user);
                self.answer(by, re, Answer::Settings(settings::to_wire(&bytes, self.now_ms())));
            }
            Edit::Forget { what: Forgotten::Settings, by, re } => {
                // Without its settings it would show what they hid.
                self.forget_presence(&editing.user);
                self.settings_are(&editing.user, version, &bytes);
                self.tell_watchers(&editing.user);
                self.edit(editing.user, Edit::Forget { what: Forgotten::Devices, by, re });
            }
            Edit::Forget { what: Forgotten::Devices, by, re } => {
                // Those that came back meanwhile, on tokens that count no more.
                self.end_erased(&editing.user);
                self.forget_presence(&editing.user);
                self.tell_watchers(&editing.user);
                self.settle_shard(editing.user, by, re, 0);
            }
            Edit::Devices(edit) => self.devices_edited(&editing.user, *edit, &bytes, !editing.bytes.is_empty()),
        }
        self.edit_next(key);
    }

    fn edit_failed(&mut self, editing: Editing, error: v1::Error) {
        let key = editing.edit.key(&editing.user);
        match editing.edit {
            Edit::Settings { by, re, .. } => self.answer(by, re, Answer::Error(error)),
            Edit::Forget { by, re, .. } => {
                let outcome = SendOutcome::Refused(Box::new(error));
                self.post(by.shard, Envelope::Outcome { to: by, re, outcome });
            }
            Edit::Devices(edit) => self.devices_edit_failed(*edit, error),
        }
        self.edit_next(key);
    }
}

frozen!(Editing { user, edit, tries, bytes, expected });
frozen_enum!(Edit {
    0 = Settings { by: by, re: re, change: change },
    1 = Forget { what: what, by: by, re: re },
    2 = Devices { 0: edit },
});
frozen_enum!(Forgotten { 0 = Settings {}, 1 = Devices {} });
