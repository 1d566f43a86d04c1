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
mod sessions;
pub(crate) mod settings;
mod table;

use beginnings::Begun;
pub(crate) use document::{Edit, Editing};
pub(crate) use presence::Presence;
use sessions::Sessions;
pub(crate) use settings::Prefs;
pub(crate) use table::Users;

use crate::acked::Lingering;
use crate::frozen::{frozen, frozen_enum};
use crate::rate::{Rate, Used};
use crate::seldom::{Blank, Seldom};
use ringpost_proto::id::DeviceId;
use ringpost_proto::limits::{TAKEOVER_WINDOW_MS, TAKEOVERS};
use smallvec::SmallVec;

/// Devices whose takeovers are remembered at once; beyond that the least recent is forgotten.
const REMEMBERED: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct User {
    /// Live sessions; one that was taken over is no longer here.
    pub sessions: Sessions,
    pub sends: Used,
    /// Whether its settings were read, and what they are; none: it has none, or they were not.
    pub read: Known,
    prefs: Option<Box<Prefs>>,
    /// When the user was active last, Unix milliseconds; 0: it is, or that is not known here.
    pub active_ms: u64,
    /// Whether a session is open and ACTIVE.
    pub active: bool,
    /// It is in the queue of those for whom something has to be read.
    pub asking: bool,
    /// It is in the queue of those who are looked at once their last acks are written.
    pub lingers: bool,
    pub rare: Seldom<Rare>,
}

/// Per user whose sessions are idle; the name and its index are apart.
const _: () = assert!(size_of::<User>() <= 56);

/// What a user with idle sessions whom nobody watches has nothing of.
#[derive(Debug)]
pub(crate) struct Rare {
    takeovers: Vec<Takeovers>,
    /// What devices have used of their rates, sends and requests, while that matters.
    pub used: Vec<(DeviceId, (Used, Used))>,
    pub begun: Begun,
    pub acked: Lingering,
    /// When it left, monotonic milliseconds, for as long as it counts as being here; and when the entry is looked at for that, or
    /// for those who watch. 0: not.
    pub left_ms: u64,
    pub due_ms: u64,
    pub presence: Option<Box<Presence>>,
}

impl Rare {
    const fn new() -> Self {
        Self {
            takeovers: Vec::new(),
            used: Vec::new(),
            begun: Begun::new(),
            acked: Lingering::new(),
            left_ms: 0,
            due_ms: 0,
            presence: None,
        }
    }
}

impl Default for Rare {
    fn default() -> Self {
        Self::new()
    }
}

impl Blank for Rare {
    const BLANK: &'static Self = &Self::new();

    fn is_blank(&self) -> bool {
        self.takeovers.is_empty()
            && self.used.is_empty()
            && self.begun.is_blank()
            && self.acked.is_empty()
            && (self.left_ms, self.due_ms) == (0, 0)
            && self.presence.is_none()
    }
}

/// Of what is read from the store when it is first needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Known {
    #[default]
    No,
    Asked,
    Yes,
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
        self.sends.is_hot(now_ms)
            || self.rare.used.iter().any(|(_, (sends, requests))| is_hot(*sends, *requests, now_ms))
    }

    /// Counts a send for the device and for the user; what is refused costs neither anything.
    ///
    /// # Errors
    /// After how many milliseconds it may be tried again.
    pub fn take_send(&mut self, device: DeviceId, of_device: Rate, of_user: Rate, now_ms: u64) -> Result<(), u64> {
        let (mut sends, requests) = self.used_by(device);
        sends.take(of_device, now_ms)?;
        self.sends.take(of_user, now_ms)?;
        self.keep_used(device, (sends, requests), now_ms);
        Ok(())
    }

    /// Counts another request for the device.
    ///
    /// # Errors
    /// As of [`User::take_send`].
    pub fn take_request(&mut self, device: DeviceId, of_device: Rate, now_ms: u64) -> Result<(), u64> {
        let (sends, mut requests) = self.used_by(device);
        requests.take(of_device, now_ms)?;
        self.keep_used(device, (sends, requests), now_ms);
        Ok(())
    }

    /// Forgets what has been used long enough ago.
    pub fn cool(&mut self, now_ms: u64) {
        if !self.rare.used.is_empty() {
            self.rare.used.retain(|(_, (sends, requests))| is_hot(*sends, *requests, now_ms));
        }
        self.rare.settle();
    }

    fn keep_used(&mut self, device: DeviceId, (sends, requests): (Used, Used), now_ms: u64) {
        if self.rare.used.is_empty() && !is_hot(sends, requests, now_ms) {
            return;
        }
        let used = &mut self.rare.used;
        used.retain(|(other, (sends, requests))| *other != device && is_hot(*sends, *requests, now_ms));
        if is_hot(sends, requests, now_ms) {
            if used.len() == REMEMBERED {
                used.remove(0);
            }
            used.push((device, (sends, requests)));
        }
    }

    fn used_by(&self, device: DeviceId) -> (Used, Used) {
        self.rare.used.iter().find(|(other, _)| *other == device).map_or_else(Default::default, |(_, used)| *used)
    }

    /// Who watches it, if anybody does.
    pub fn presence_mut(&mut self) -> Option<&mut Presence> {
        if self.rare.presence.is_some() { self.rare.presence.as_deref_mut() } else { None }
    }

    /// Whether `device` may be taken over now; remembers it if so.
    pub fn take_over(&mut self, device: DeviceId, now_ms: u64) -> bool {
        let all = &mut self.rare.takeovers;
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

frozen!(User { sessions, sends, read, prefs, active_ms, active, asking, lingers, rare });
frozen!(Rare { takeovers, used, begun, acked, left_ms, due_ms, presence });
frozen_enum!(Known { 0 = No {}, 1 = Asked {}, 2 = Yes {} });
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
