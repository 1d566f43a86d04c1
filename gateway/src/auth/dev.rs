//! The development key. Its secret is public, so whoever can reach a gateway that accepts it can be anybody: it is
//! accepted only with `--dev`, and `--dev` only starts on a loopback address.

use super::{MintError, Minter};

pub const KEY_ID: &str = "dev";
pub const SECRET: &[u8] = b"ringpost development key, never use in production";
pub const ISSUER: &str = "ringpost-dev";
pub const AUDIENCE: &str = "ringpost";

/// A development token. `exp` and `now` in Unix seconds. For many tokens keep one [`Minter::dev`].
pub fn mint(user: &str, device: &str, exp: u64, now: u64) -> Result<String, MintError> {
    Minter::dev().mint(user, device, exp, now)
}
