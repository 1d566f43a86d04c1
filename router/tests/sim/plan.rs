//! What is going to happen to a world: drawn from its seed before it begins, so that a failing world can be made smaller
//! by leaving parts out.

use super::past::Past;
use super::slices::Flaw;
use ringpost_persist::faulty::Faults;
use ringpost_proto::wire::Encoding;

pub const SECOND: u64 = 1_000_000;
pub const MS: u64 = 1_000;

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub shards: u16,
    /// Devices per user.
    pub users: Vec<usize>,
    /// Of 100 connections, how many stay at another shard than their user's.
    pub strays: u64,
    pub window_pushes: u32,
    pub window_bytes: u32,
    /// One way, most, microseconds.
    pub latency_us: u64,
    pub mesh_us: u64,
    /// For how long a token is good.
    pub token_ms: u64,
    /// Of 100 renewals asked for, how many are forgotten.
    pub forgetful: u64,
    /// How many conversations who was never answered may begin in a day; 0: as many as it likes.
    pub new_conversations: u32,
    /// Every frame goes through these bytes.
    pub encoding: Option<Encoding>,
    pub store: Faults,
    /// Devices that are linked when they come, later than the others.
    pub late: Vec<usize>,
    pub past: Option<Past>,
    pub groups: Vec<GroupPlan>,
    /// In order of time. No fault begins after `faults_end`.
    pub actions: Vec<(u64, Action)>,
    pub faults_end: u64,
}

/// A group to come: the device that creates it, and users.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    pub creator: usize,
    pub members: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Send {
        device: usize,
        to: usize,
        bytes: usize,
    },
    /// With a ciphertext for each device; `key`: a key for some of them.
    SendSliced {
        device: usize,
        to: usize,
        key: bool,
        flaw: Flaw,
    },
    Read {
        device: usize,
        of: usize,
    },
    /// Something about an earlier record; `fit`: about one that this user may say it of.
    Say {
        device: usize,
        of: usize,
        said: Said,
        fit: bool,
    },
    Type {
        device: usize,
        of: usize,
        composing: bool,
    },
    /// A change of a group; `fit`: by somebody who may.
    Change {
        device: usize,
        group: usize,
        fit: bool,
        turn: Turn,
    },
    /// Raw request with an answer that the oracle checks.
    Ask {
        device: usize,
        of: usize,
        what: Ask,
    },
    /// The node dies and is back after this long.
    Crash {
        down: u64,
    },
    /// What is committed now is kept ...
    Backup,
    /// ... and put back: what came after it is lost.
    Restore {
        down: u64,
    },
    /// The node closes its sessions, ends, and is back.
    Drain {
        down: u64,
    },
    /// The connection breaks; each side learns of it later, what is under way may be lost.
    Cut {
        device: usize,
    },
    /// The operator unlinks a device.
    Revoke {
        device: usize,
    },
    /// Nothing passes any more and nobody is told.
    Blackhole {
        device: usize,
    },
    /// The client gives its connection up without a word and opens another.
    Hop {
        device: usize,
    },
    /// The client does not read for so long.
    Stall {
        device: usize,
        long: u64,
    },
    /// The client's process dies: what the app has not stored is gone; it is back after this long.
    Restart {
        device: usize,
        away: u64,
    },
    /// The wall clock jumps by so many milliseconds.
    Jump {
        ms: i64,
    },
    /// The queue to the store is full for so long.
    Full {
        long: u64,
    },
    /// What is in this conversation of the device expires soon.
    Expire {
        device: usize,
        of: usize,
    },
}

/// What becomes of a group; users by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Create,
    Add(usize),
    Remove(usize),
    Leave,
    Role { user: usize, admin: bool },
    Rename,
}

/// What is said about an earlier record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Edit,
    Erase,
    React,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ask {
    History {
        before: bool,
    },
    Conversations,
    Lookup,
    /// The last message once more, with other content under the same id.
    Forge,
    #[default]
    Ping,
    /// How far the members are with a record.
    Info,
    Block {
        on: bool,
    },
    /// Watch a user, or no longer; one past the peers is a user that there is not.
    Watch {
        on: bool,
    },
    /// That nobody is at the screen, or somebody: without an answer.
    Away {
        on: bool,
    },
    /// Who sees when one was here, or what one reads: everyone, contacts or nobody.
    Show {
        whom: u8,
        receipts: bool,
    },
    /// That a device be unlinked.
    Unlink {
        target: usize,
    },
    /// That somebody is writing: answered only if it is wrong.
    Type,
    /// One of the changes that are wanted.
    Change(usize),
}

impl Plan {
    pub fn devices(&self) -> usize {
        self.users.iter().sum()
    }

    /// The store is put back at some time.
    pub fn restores(&self) -> bool {
        self.actions.iter().any(|(_, action)| matches!(action, Action::Restore { .. }))
    }

    /// The wall clock never jumps.
    pub fn is_steady(&self) -> bool {
        !self.actions.iter().any(|(_, action)| matches!(action, Action::Jump { .. }))
    }
}
