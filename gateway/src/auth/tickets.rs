//! One-use tickets: what a browser puts into a URL in place of a token.
//!
//! Guarantees: a ticket opens one connection, within 60 s, for whom it was issued; the table never holds more than
//! [`TICKETS`] of them, one user at most [`TICKETS_PER_USER`]. Shared by the edge runtime (issues) and the shards (redeem)
//! behind one mutex: each hold is a few map operations, never I/O. Expired tickets leave when others are issued.

use super::{AuthError, Identity};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hashbrown::HashMap;
use ringpost_proto::id::UserKey;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where a token is exchanged for a ticket; how often one address may ask there is limited before it is looked at.
pub const TICKET_PATH: &str = "/v1/ticket";
/// For how long a ticket is good, milliseconds.
pub const TICKET_MS: u64 = 60_000;
/// Tickets outstanding in all: about 200 B each.
pub const TICKETS: usize = 65_536;
/// Tickets outstanding for one user, so that one account cannot take the table from the others.
pub const TICKETS_PER_USER: usize = 64;

type TicketId = [u8; 16];

/// Why no ticket was issued; try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketRefused {
    #[error("too many tickets outstanding")]
    Full,
    #[error("too many tickets outstanding for this user")]
    UserFull,
    #[error("no randomness")]
    NoRandomness,
}

#[derive(Default)]
pub struct Tickets {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    live: HashMap<TicketId, Ticket>,
    per_user: HashMap<UserKey, usize>,
    /// In the order of issue, which is the order of expiry; may name tickets that were redeemed since.
    queue: VecDeque<(u64, TicketId)>,
}

struct Ticket {
    identity: Arc<Identity>,
    expires_ms: u64,
}

impl Tickets {
    /// A ticket and when it expires (Unix milliseconds): in 60 s, or with the token if that is sooner.
    pub fn issue(&self, identity: Arc<Identity>, now_ms: u64) -> Result<(String, u64), TicketRefused> {
        let mut id = TicketId::default();
        getrandom::fill(&mut id).map_err(|_| TicketRefused::NoRandomness)?;
        let expires_ms = now_ms.saturating_add(TICKET_MS).min(identity.exp_ms.max(now_ms));
        let mut table = self.lock();
        table.expire(now_ms);
        if table.live.len() >= TICKETS {
            return Err(TicketRefused::Full);
        }
        let count = table.per_user.entry(identity.user.clone()).or_insert(0);
        if *count >= TICKETS_PER_USER {
            return Err(TicketRefused::UserFull);
        }
        *count += 1;
        table.queue.push_back((now_ms.saturating_add(TICKET_MS), id));
        table.live.insert(id, Ticket { identity, expires_ms });
        Ok((URL_SAFE_NO_PAD.encode(id), expires_ms))
    }

    /// Whom the ticket was issued for. Whatever the answer, the ticket is used up.
    pub fn redeem(&self, ticket: &str, now_ms: u64) -> Result<Arc<Identity>, AuthError> {
        const UNKNOWN: AuthError = AuthError::Invalid("unknown, used or expired ticket");
        let mut id = TicketId::default();
        match URL_SAFE_NO_PAD.decode_slice(ticket, &mut id) {
            Ok(16) => {}
            _ => return Err(UNKNOWN),
        }
        let ticket = self.lock().remove(&id).ok_or(UNKNOWN)?;
        if ticket.expires_ms > now_ms { Ok(ticket.identity) } else { Err(UNKNOWN) }
    }

    /// Tickets outstanding, the expired ones that nobody swept yet included.
    pub fn len(&self) -> usize {
        self.lock().live.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A panic while the lock was held cannot leave the table unusable: every step keeps it bounded.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn expire(&mut self, now_ms: u64) {
        while self.queue.front().is_some_and(|(at, _)| *at <= now_ms) {
            if let Some((_, id)) = self.queue.pop_front() {
                self.remove(&id);
            }
        }
        // Redeemed tickets wait in the queue for their time: forget them once they are the majority, so that the queue
        // stays within twice the table at constant cost per ticket.
        if self.queue.len() > 64 + 2 * self.live.len() {
            let Self { queue, live, .. } = self;
            queue.retain(|(_, id)| live.contains_key(id));
        }
    }

    fn remove(&mut self, id: &TicketId) -> Option<Ticket> {
        let ticket = self.live.remove(id)?;
        if let Some(count) = self.per_user.get_mut(&ticket.identity.user) {
            *count -= 1;
            if *count == 0 {
                self.per_user.remove(&ticket.identity.user);
            }
        }
        Some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringpost_proto::id::DeviceId;

    fn alice() -> Arc<Identity> {
        who("alice")
    }

    fn who(user: &str) -> Arc<Identity> {
        let user = UserKey::new("default", user).unwrap();
        let device = DeviceId::new("web").unwrap();
        Arc::new(Identity { user, device, issued_ms: 1, exp_ms: 10_000_000, primary: None })
    }

    #[test]
    fn a_ticket_opens_one_connection() {
        let tickets = Tickets::default();
        let (ticket, expires_ms) = tickets.issue(alice(), 1_000).unwrap();
        assert_eq!(expires_ms, 61_000);
        assert_eq!(tickets.redeem(&ticket, 60_999).unwrap(), alice());
        assert!(matches!(tickets.redeem(&ticket, 60_999), Err(AuthError::Invalid(_))));
    }

    #[test]
    fn a_ticket_ends_after_a_minute_or_with_its_token() {
        let tickets = Tickets::default();
        let (ticket, _) = tickets.issue(alice(), 1_000).unwrap();
        assert!(tickets.redeem(&ticket, 61_000).is_err());
        let (ticket, expires_ms) = tickets.issue(alice(), 9_990_000).unwrap();
        assert_eq!(expires_ms, 10_000_000);
        assert!(tickets.redeem(&ticket, 10_000_000).is_err());
    }

    #[test]
    fn guesses_and_garbage_are_unknown() {
        let tickets = Tickets::default();
        tickets.issue(alice(), 0).unwrap();
        let long = "A".repeat(10_000);
        for guess in ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA", "!!!!!!!!!!!!!!!!!!!!!!", long.as_str()] {
            assert!(matches!(tickets.redeem(guess, 1), Err(AuthError::Invalid(_))), "{guess}");
        }
        assert_eq!(tickets.len(), 1);
    }

    #[test]
    fn one_user_cannot_take_the_table() {
        let tickets = Tickets::default();
        for _ in 0..TICKETS_PER_USER {
            tickets.issue(alice(), 0).unwrap();
        }
        assert_eq!(tickets.issue(alice(), 1).unwrap_err(), TicketRefused::UserFull);
        tickets.issue(who("bob"), 1).unwrap();
        tickets.issue(alice(), TICKET_MS).unwrap();
    }

    #[test]
    fn the_table_is_bounded_and_recovers() {
        let tickets = Tickets::default();
        for n in 0..TICKETS {
            tickets.issue(who(&format!("u{}", n / TICKETS_PER_USER)), 0).unwrap();
        }
        assert_eq!(tickets.issue(who("late"), 1).unwrap_err(), TicketRefused::Full);
        tickets.issue(who("late"), TICKET_MS).unwrap();
        assert_eq!(tickets.len(), 1);
    }

    #[test]
    fn redeemed_tickets_do_not_pile_up() {
        let tickets = Tickets::default();
        for _ in 0..10_000 {
            let (ticket, _) = tickets.issue(alice(), 5).unwrap();
            tickets.redeem(&ticket, 5).unwrap();
        }
        let table = tickets.lock();
        assert!(table.live.is_empty() && table.per_user.is_empty());
        assert!(table.queue.len() <= 66, "{}", table.queue.len());
    }
}
