//! Who is calling: tokens, their keys, and one-use tickets.
//!
//! Owns: the key set of the process and where it comes from, the check of a JWT, the table of tickets, and minting for
//! development. Guarantees: an [`Identity`] that leaves this module was signed by a key of the set, with the algorithm bound
//! to that key, for our audience, by the key's issuer and for its tenant, and its names are valid. Never does: network I/O,
//! waiting, logging of a token or a secret. Time is an argument.

pub mod counters;
pub mod dev;
pub mod jwks;
pub mod key_file;
pub mod keyring;
pub mod keys;
pub mod mint;
mod public_key;
mod schedule;
#[cfg(test)]
mod testing;
pub mod tickets;
pub mod verify;

pub use key_file::{KeyFileError, Material, UrlSource};
pub use keyring::Keyring;
pub use keys::KeySet;
pub use mint::{MintError, Minter, SigningKey};
pub use ringpost_router::Identity;
pub use tickets::{TICKET_PATH, TicketRefused, Tickets};
pub use verify::Verifier;

/// The tenant of a token without a `ten` claim.
pub const DEFAULT_TENANT: &str = "default";

/// Why a token or ticket is refused. Never says which key or which byte: the text goes to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Malformed, unknown key, bad signature, another audience or issuer, a name out of bounds. Close 4501, HTTP 401.
    #[error("{0}")]
    Invalid(&'static str),
    /// Nobody knows the key, and a source of keys has not answered since it is known: the token may be good. Close 4003,
    /// HTTP 503.
    #[error("the keys of tokens are not loaded yet")]
    Unready,
    /// Everything is right but the time. Close 4502, HTTP 401.
    #[error("token expired")]
    Expired,
}
