//! The development key. Its secret is public, so whoever can reach a gateway that accepts it can be anybody: it is
//! accepted only with `--dev`, and `--dev` only starts on a loopback address.

use super::{MintError, Minter};

pub const KEY_ID: &str = "dev";
pub const SECRET: &[u8] = b"ringpost development key, never use in production";
pub const ISSUER: &str = "ringpost-dev";
pub const AUDIENCE: &str = "ringpost";

/// A development token. `exp` in Unix seconds, `now_ms` in Unix milliseconds. For many tokens keep one [`Minter::dev`].
pub fn mint(user: &str, device: &str, exp: u64, now_ms: u64) -> Result<String, MintError> {
    Minter::dev().mint_at(user, device, exp, now_ms)
}
