//! What an operator asks for a user: an export of its data, and their erasure.
//!
//! Owns: one end of the store, for reads, and the way to the shards ([`desk`]); which conversations there are ([`listing`]);
//! what an export holds ([`export`]) and what an erasure does ([`erase`]); their routes on the admin port ([`routes`]).
//! Guarantees: everything that changes goes through the router of the shard that owns it, as an ordinary record or document;
//! memory is bounded by a page, and by about 50 bytes for each of the user's conversations; whoever stops reading stops the work;
//! a second run after a first that was cut off does what is left. Never does: touch a log or a tree past the store's contract.

pub mod desk;
mod erase;
mod export;
mod lines;
mod listing;
mod revoke;
pub mod routes;

pub use desk::{Counters, OUTCOMES, Operator, Outcomes, Parts};

/// Why a command ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    #[error("the store did not answer; ask again")]
    Store,
    #[error("{0}")]
    Refused(String),
    #[error("who asked has gone")]
    Gone,
}
