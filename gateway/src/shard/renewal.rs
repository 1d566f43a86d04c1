//! Renewals of tokens: each is a signature to check, up to a hundred times what any other request costs.
//!
//! Guarantees: at most one check in [`EVERY_MS`] for each connection, whatever the client says; one whose keys are not loaded yet costs
//! nobody his session. Never does: keep anything of a connection for longer than that.

use super::Shard;
use crate::auth::AuthError;
use hashbrown::HashMap;
use ringpost_proto::v1;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_proto::wire;
use ringpost_router::{ConnRef, Input, ShardId};
use std::sync::Arc;

/// Between two renewals of one connection. Clients renew two minutes before the end of a token.
const EVERY_MS: u64 = 1_000;
/// Connections remembered before those are forgotten that may renew again; or twice as many as that left, where many renew at once.
const REMEMBERED: usize = 1_024;
/// When keys that are not loaded are worth another try.
const LOADED_MS: u64 = 2_000;

/// When connections renewed last, and how many renewals were too many.
#[derive(Default)]
pub(super) struct Renewals {
    last_ms: HashMap<ConnRef, u64>,
    /// How many stayed when they were forgotten last.
    stayed: usize,
    pub limited: u64,
}

impl Renewals {
    /// Whether this one may be checked now; else after how long.
    fn admit(&mut self, conn: ConnRef, now_ms: u64) -> Result<(), u64> {
        if let Some(last_ms) = self.last_ms.get(&conn) {
            let free_ms = last_ms + EVERY_MS;
            if now_ms < free_ms {
                self.limited += 1;
                return Err(free_ms - now_ms);
            }
        }
        if self.last_ms.len() >= REMEMBERED.max(2 * self.stayed) {
            self.last_ms.retain(|_, last_ms| now_ms < *last_ms + EVERY_MS);
            self.stayed = self.last_ms.len();
        }
        self.last_ms.insert(conn, now_ms);
        Ok(())
    }
}

impl Shard {
    /// Checks the token of a `renew` and tells the router; what it need not hear of is answered here.
    pub(super) fn renew(&mut self, conn: ConnRef, home: ShardId, id: u64, token: &str) {
        if let Err(retry_after_ms) = self.renewals.admit(conn, self.now.mono_ms) {
            return self.refuse_renewal(conn, id, Code::RateLimited, "one renewal a second", retry_after_ms);
        }
        match self.setup.verifier.verify(token, self.unix_ms()) {
            // The token may be good, and the one before it is.
            Err(error @ AuthError::Unready) => {
                self.refuse_renewal(conn, id, Code::Unavailable, &error.to_string(), LOADED_MS);
            }
            checked => self.route(home, Input::Renewed { conn, id, identity: checked.ok().map(Arc::new) }),
        }
    }

    fn refuse_renewal(&mut self, conn: ConnRef, re: u64, code: Code, message: &str, retry_after_ms: u64) {
        let message = message.to_owned();
        let error = v1::Error { code: code.into(), retryable: true, retry_after_ms, message, ..Default::default() };
        let frame = v1::ServerFrame { re, answer: Some(Answer::Error(error)) };
        self.tell(conn, |encoding, out| wire::encode_server(encoding, &frame, out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnRef {
        ConnRef { shard: 0, slot, generation: 1 }
    }

    #[test]
    fn one_a_second_for_each_connection_and_nothing_is_kept() {
        let mut renewals = Renewals::default();
        assert_eq!(renewals.admit(conn(1), 5_000), Ok(()));
        assert_eq!(renewals.admit(conn(1), 5_400), Err(600));
        assert_eq!(renewals.admit(conn(2), 5_400), Ok(()), "others are not concerned");
        assert_eq!(renewals.admit(conn(1), 6_000), Ok(()), "what was refused does not count");
        assert_eq!(renewals.limited, 1);
        for n in 0..100 * REMEMBERED as u64 {
            assert_eq!(renewals.admit(conn(n as u32), 10_000 + 10 * n), Ok(()));
        }
        assert!(renewals.last_ms.len() <= REMEMBERED);
        // All at once: they are gone through a few times, and not for each of them.
        let free = (0..100_000).map(|n| renewals.admit(conn(n), 9_000_000)).filter(Result::is_ok).count();
        assert_eq!((free, renewals.last_ms.len()), (100_000, 100_000));
        assert!(renewals.stayed >= 50_000);
        renewals.admit(conn(0), 9_002_000).unwrap();
        assert!(renewals.last_ms.len() <= 2 * renewals.stayed);
    }
}
