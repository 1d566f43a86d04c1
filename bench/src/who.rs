//! Who connects: user names and their tokens.
//!
//! Owns: the names of one worker's users. Guarantees: u0 to uN-1, or a range of them, are spread over the workers at random, each once. Never
//! does: keeping a token; it is signed when the connection is opened.

use crate::text::mix;
use ringpost_gateway::auth::{KeyFileError, MintError, Minter, SigningKey, dev};
use ringpost_proto::v1::{Peer, peer};
use std::ops::Range;

/// The device that every load session is.
pub const DEVICE: &str = "flood";
/// Tokens are good for this long, in seconds: longer than any run.
const TOKEN_TTL: u64 = 24 * 3600;

/// The names of the users of one worker: `prefix` and a number.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
    numbers: Vec<u32>,
}

impl Names {
    /// Splits the users with these numbers among `workers` in an order that `seed` shuffles, in like shares (each a multiple
    /// of `unit` but for the last), so that neighbours make random pairs and groups.
    pub fn split(prefix: &str, users: Range<u32>, workers: u32, unit: u32, seed: u64) -> Vec<Names> {
        let mut numbers: Vec<u32> = users.collect();
        // Fisher-Yates; the modulo's bias is far below what a load could show.
        for at in (1..numbers.len()).rev() {
            numbers.swap(at, (mix(seed ^ at as u64) % (at as u64 + 1)) as usize);
        }
        let unit = unit.max(1);
        let share = ((numbers.len() as u32).div_ceil(workers.max(1)).div_ceil(unit) * unit).max(unit) as usize;
        let mut shares: Vec<Names> =
            numbers.chunks(share).map(|part| Names { prefix: prefix.to_owned(), numbers: part.to_vec() }).collect();
        shares.resize(workers.max(1) as usize, Names { prefix: prefix.to_owned(), numbers: Vec::new() });
        shares
    }

    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    pub fn name(&self, user: u32) -> String {
        format!("{}{}", self.prefix, self.numbers.get(user as usize).copied().unwrap_or(u32::MAX))
    }

    /// Whether this is the name of `user`.
    pub fn is(&self, user: u32, name: &str) -> bool {
        let number = name.strip_prefix(&self.prefix).and_then(|number| number.parse().ok());
        number.is_some() && number.as_ref() == self.numbers.get(user as usize)
    }

    /// A name that belongs to no user of the run: member `index` of a group that never connects.
    pub fn absent(&self, index: u32) -> String {
        format!("{}-absent-{index}", self.prefix)
    }

    pub fn peer(&self, user: u32) -> Peer {
        Peer { peer: Some(peer::Peer::User(self.name(user))) }
    }
}

/// Why no token can be signed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("{0}")]
    Key(#[from] KeyFileError),
    #[error("{0}")]
    Mint(#[from] MintError),
}

/// Signs tokens for a run.
pub struct Tokens {
    minter: Minter,
    now: u64,
}

impl Tokens {
    /// With this key, or without one with the development key. `now`: Unix seconds.
    pub fn new(key: Option<&SigningKey>, now: u64) -> Result<Self, TokenError> {
        let minter = key.map_or_else(|| Ok(Minter::dev()), |key| Minter::from_key(key, dev::AUDIENCE))?;
        Ok(Self { minter, now })
    }

    pub fn token(&self, user: &str) -> Result<String, MintError> {
        self.minter.mint(user, DEVICE, self.now + TOKEN_TTL, self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_user_is_in_exactly_one_share() {
        for (users, workers) in [(1, 1), (10, 3), (1_000, 6), (5, 8)] {
            let shares = Names::split("u", 0..users, workers, 2, 42);
            assert_eq!(shares.len(), workers as usize);
            let names: Vec<String> = shares.iter().flat_map(|s| (0..s.len() as u32).map(|u| s.name(u))).collect();
            assert_eq!(names.len(), users as usize);
            let distinct: BTreeSet<String> = names.into_iter().collect();
            assert_eq!(distinct, (0..users).map(|n| format!("u{n}")).collect());
        }
    }

    #[test]
    fn pairs_are_not_split_and_differ_from_run_to_run() {
        let shares = Names::split("u", 0..1_000, 3, 2, 1);
        assert!(shares.iter().all(|share| share.len() % 2 == 0));
        assert_ne!(shares[0].numbers, Names::split("u", 0..1_000, 3, 2, 2)[0].numbers);
    }

    #[test]
    fn shares_hold_whole_units_and_names_are_known_again() {
        let shares = Names::split("u", 0..100, 3, 20, 1);
        assert_eq!(shares.iter().map(Names::len).collect::<Vec<_>>(), [40, 40, 20]);
        let names = &shares[1];
        assert!(names.is(7, &names.name(7)) && !names.is(7, &names.name(8)) && !names.is(7, "v1"));
        assert!(!names.is(40, "u"), "nobody has no name");
    }

    #[test]
    fn development_tokens_are_signed() {
        let token = Tokens::new(None, 1_000).unwrap().token("u1").unwrap();
        assert_eq!(token.split('.').count(), 3);
    }
}
