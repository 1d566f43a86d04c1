//! What a device remembers between two starts of `ringpost chat`: positions and messages without a tick, in one file.
//!
//! Guarantees: the file is either the old or the new state, on disk before [`File::save`] returns; one process at a time
//! uses it. Never here: the bodies of messages that were shown.

use ringpost_proto::v1;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct State {
    version: u32,
    user: String,
    device: String,
    pub conversations: Vec<Conversation>,
    /// The store that the positions are of, and the token of the last session there.
    pub store: Option<([u8; 16], Vec<u8>)>,
    /// Sends without an outcome, in the order in which they were said.
    pub outbox: Vec<v1::Send>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Conversation {
    pub conversation: v1::Peer,
    /// Everything up to here was shown, or is our own. 0: nothing is known.
    pub seq: u64,
    /// The other side's progress over our messages, as far as it was shown.
    pub delivered: u64,
    pub read: u64,
    /// Messages of others that were shown and not told to be read.
    pub unread: u64,
}

impl State {
    pub fn new(user: &str, device: &str) -> Self {
        Self { version: VERSION, user: user.to_owned(), device: device.to_owned(), ..Self::default() }
    }

    /// The conversation with `peer`, made where it is new.
    pub fn conversation(&mut self, peer: &v1::peer::Peer) -> &mut Conversation {
        let known = self.conversations.iter().position(|c| c.conversation.peer.as_ref() == Some(peer));
        let at = known.unwrap_or_else(|| {
            let conversation = v1::Peer { peer: Some(peer.clone()) };
            self.conversations.push(Conversation { conversation, ..Conversation::default() });
            self.conversations.len() - 1
        });
        &mut self.conversations[at]
    }

    pub fn known(&self, peer: &v1::peer::Peer) -> Option<&Conversation> {
        self.conversations.iter().find(|c| c.conversation.peer.as_ref() == Some(peer))
    }

    pub fn forget(&mut self, peer: &v1::peer::Peer) {
        self.conversations.retain(|c| c.conversation.peer.as_ref() != Some(peer));
    }
}

/// The file of one device, held against other processes.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    _lock: fs::File,
}

impl File {
    /// Opens the state of this device, empty where there is no file.
    ///
    /// # Errors
    /// Why the file cannot be used, naming it.
    pub fn open(path: &Path, user: &str, device: &str) -> Result<(Self, State), String> {
        let shown = path.display();
        if let Some(directory) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
            fs::create_dir_all(directory).map_err(|e| format!("cannot create {}: {e}", directory.display()))?;
        }
        let lock_path = with_suffix(path, ".lock");
        let lock = private().create(true).truncate(false).open(&lock_path);
        let lock = lock.map_err(|e| format!("cannot open {}: {e}", lock_path.display()))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => {
                format!("{shown} is in use by another ringpost chat: take another --device, or --state FILE")
            }
            fs::TryLockError::Error(error) => format!("cannot lock {}: {error}", lock_path.display()),
        })?;
        let state = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| format!("{shown} holds no state: {e}"))?,
            Err(error) if error.kind() == ErrorKind::NotFound => State::new(user, device),
            Err(error) => return Err(format!("cannot read {shown}: {error}")),
        };
        if state.version != VERSION {
            return Err(format!("{shown} is of version {}, this is {VERSION}", state.version));
        }
        if (state.user.as_str(), state.device.as_str()) != (user, device) {
            return Err(format!("{shown} belongs to {} on {}: take another --state FILE", state.user, state.device));
        }
        Ok((Self { path: path.to_owned(), _lock: lock }, state))
    }

    /// # Errors
    /// Nothing was changed.
    pub fn save(&self, state: &State) -> Result<(), String> {
        self.replace(state).map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }

    fn replace(&self, state: &State) -> std::io::Result<()> {
        let new = with_suffix(&self.path, ".new");
        let mut file = private().create(true).truncate(true).open(&new)?;
        file.write_all(&serde_json::to_vec(state)?)?;
        file.sync_data()?;
        fs::rename(&new, &self.path)?;
        let directory = self.path.parent().filter(|it| !it.as_os_str().is_empty());
        fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn private() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Where the state of a device lives unless it is said: one file for each server, user and device.
///
/// # Errors
/// There is no home directory.
pub fn default_path(server: &str, user: &str, device: &str) -> Result<PathBuf, String> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    let base = base.ok_or("neither XDG_STATE_HOME nor HOME is set: say --state FILE")?;
    Ok(base.join("ringpost/chat").join(format!("{}-{}-{}.json", escaped(server), escaped(user), escaped(device))))
}

/// A name as part of a file name: no two names become the same.
fn escaped(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    };
    name.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ringpost-chat-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_saved_is_read_again() {
        let dir = Dir::new("saved");
        let path = dir.0.join("below/state.json");
        let (file, mut state) = File::open(&path, "alice", "laptop").unwrap();
        assert_eq!(state, State::new("alice", "laptop"));
        let bob = v1::peer::Peer::User("bob".to_owned());
        state.conversation(&bob).seq = 7;
        state.outbox.push(v1::Send { body: Some(v1::send::Body::Text("hi".to_owned())), ..v1::Send::default() });
        file.save(&state).unwrap();
        drop(file);
        assert_eq!(File::open(&path, "alice", "laptop").unwrap().1, state);
    }

    #[test]
    fn a_file_of_somebody_else_or_in_use_or_damaged_is_refused() {
        let dir = Dir::new("refused");
        let path = dir.0.join("state.json");
        let (file, state) = File::open(&path, "alice", "laptop").unwrap();
        file.save(&state).unwrap();
        assert!(File::open(&path, "alice", "laptop").unwrap_err().contains("in use"));
        drop(file);
        assert!(File::open(&path, "bob", "laptop").unwrap_err().contains("belongs to alice on laptop"));
        fs::write(&path, "{").unwrap();
        assert!(File::open(&path, "alice", "laptop").unwrap_err().contains("holds no state"));
    }

    #[test]
    fn every_name_has_a_file_of_its_own() {
        assert_eq!(escaped("../etc"), "..%2fetc");
        assert_ne!(escaped("a/b"), escaped("a%2fb"));
    }
}
