//! A user on its home shard: which of its sessions are live, how often each device was taken over lately, what it has set,
//! and who watches it.
//!
//! Guarantees: at most one live session a device. An entry exists while a session does or somebody watches, and for the moment
//! after it in which its last acks may be unwritten.

mod asking;
mod beginnings;
pub mod devices;
pub(crate) mod document;
mod erasing;
pub(crate) mod linking;
mod presence;
mod rewrite;
mod rounds;
pub(crate) mod settings;

use beginnings::Begun;
pub(crate) use document::{Edit, Editing};
pub(crate) use presence::Presence;
pub(crate) use settings::Prefs;

use crate::acked::Lingering;
use crate::frozen::{frozen, frozen_enum};
use crate::rate::Used;
use crate::seldom::Seldom;
use crate::slab::Key;
use ringpost_proto::id::DeviceId;
use ringpost_proto::limits::{TAKEOVER_WINDOW_MS, TAKEOVERS};
use smallvec::SmallVec;

/// Devices whose takeovers are remembered at once; beyond that the least recent is forgotten.
const REMEMBERED: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct User {
    /// Live sessions; one that was taken over is no longer here.
    pub sessions: SmallVec<[Key; 2]>,
    takeovers: Seldom<Vec<Takeovers>>,
    pub sends: Used,
    /// What devices without a session have used of their rates, sends and requests, while that matters.
    pub used: Seldom<Vec<(DeviceId, (Used, Used))>>,
    pub begun: Begun,
    pub acked: Seldom<Lingering>,
    pub settings: Known<Prefs>,
    /// Whether a session is open and ACTIVE, and when that was last over, Unix milliseconds; 0: it is not known here.
    pub active: bool,
    pub active_ms: u64,
    /// The same in monotonic milliseconds; and when the entry is looked at for it, or for those who watch. 0: not.
    pub left_ms: u64,
    pub due_ms: u64,
    /// It is in the queue of those for whom something has to be read.
    pub asking: bool,
    pub presence: Option<Box<Presence>>,
}

/// What is read from the store when it is first needed. `Yes(None)`: there is none.
#[derive(Debug, Default)]
pub(crate) enum Known<T> {
    #[default]
    No,
    Asked,
    Yes(Option<Box<T>>),
}

#[derive(Debug)]
struct Takeovers {
    device: DeviceId,
    /// Monotonic milliseconds, the latest last.
    at_ms: SmallVec<[u64; TAKEOVERS]>,
}

impl User {
    /// Whether rates have to be remembered: a new session does not start afresh.
    pub fn is_rated(&self, now_ms: u64) -> bool {
        self.sends.is_hot(now_ms) || self.used.iter().any(|(_, (sends, requests))| is_hot(*sends, *requests, now_ms))
    }

    /// A device's session ends.
    pub fn keep_used(&mut self, device: DeviceId, (sends, requests): (Used, Used), now_ms: u64) {
        self.used.retain(|(other, (sends, requests))| *other != device && is_hot(*sends, *requests, now_ms));
        if is_hot(sends, requests, now_ms) {
            if self.used.len() == REMEMBERED {
                self.used.remove(0);
            }
            self.used.push((device, (sends, requests)));
        }
    }

    /// The device is back.
    pub fn take_used(&mut self, device: DeviceId) -> (Used, Used) {
        let at = self.used.iter().position(|(other, _)| *other == device);
        at.map(|at| self.used.remove(at).1).unwrap_or_default()
    }

    /// Whether `device` may be taken over now; remembers it if so.
    pub fn take_over(&mut self, device: DeviceId, now_ms: u64) -> bool {
        let all = &mut *self.takeovers;
        let at = all.iter().position(|t| t.device == device);
        let mut entry = match at {
            Some(at) => all.remove(at),
            None => Takeovers { device, at_ms: SmallVec::new() },
        };
        entry.at_ms.retain(|at| now_ms.saturating_sub(*at) < TAKEOVER_WINDOW_MS);
        let allowed = entry.at_ms.len() < TAKEOVERS;
        if allowed {
            entry.at_ms.push(now_ms);
        }
        if all.len() == REMEMBERED {
            all.remove(0);
        }
        all.push(entry);
        allowed
    }
}

frozen!(User {
    sessions,
    takeovers,
    sends,
    used,
    begun,
    acked,
    settings,
    active,
    active_ms,
    left_ms,
    due_ms,
    asking,
    presence
});
frozen_enum!(Known<Prefs> { 0 = No {}, 1 = Asked {}, 2 = Yes { 0: known } });
frozen!(Takeovers { device, at_ms });

fn is_hot(sends: Used, requests: Used, now_ms: u64) -> bool {
    sends.is_hot(now_ms) || requests.is_hot(now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fourth_takeover_within_a_minute_is_refused_and_one_after_it_is_not() {
        let (mut user, phone) = (User::default(), DeviceId::new("phone").unwrap());
        assert!([0, 1_000, 2_000].into_iter().all(|at| user.take_over(phone, at)));
        assert!(!user.take_over(phone, 3_000));
        assert!(user.take_over(DeviceId::new("laptop").unwrap(), 3_000));
        assert!(user.take_over(phone, 60_000));
        assert!(!user.take_over(phone, 60_500));
    }
}
