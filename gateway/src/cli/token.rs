//! `ringpost token`: sign a token.

use super::{Outcome, args};
use crate::auth::keys::Alg;
use crate::auth::{KeySet, Minter};
use crate::config::Settings;
use clap::ArgMatches;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub fn run(matches: &ArgMatches) -> Outcome {
    let layers = args::layers(matches).map_err(|e| e.to_string())?;
    let settings = Settings::from_layers(&layers).map_err(|e| e.to_string())?;
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let minter = match (matches.get_one::<PathBuf>("private-key"), &settings.token_keys) {
        (Some(file), _) => signer(file, matches, &settings)?,
        (None, Some(file)) => {
            let keys = KeySet::load(file, &settings.token_issuer).map_err(|e| e.to_string())?;
            Minter::from_keys(&keys, text("key"), &settings.token_audience).map_err(|e| e.to_string())?
        }
        (None, None) if text("key").is_some() => return Err("--key needs --token-keys FILE".to_owned()),
        (None, None) => Minter::dev(),
    };
    let minter = match text("tenant") {
        Some(tenant) => minter.tenant(tenant).map_err(|e| e.to_string())?,
        None => minter,
    };
    let ttl = matches.get_one::<Duration>("ttl").map_or(3_600, Duration::as_secs);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (exp, now_ms) = (now.as_secs().saturating_add(ttl), now.as_millis() as u64);
    let token = minter
        .mint_at(text("user").unwrap_or_default(), text("device").unwrap_or_default(), exp, now_ms)
        .map_err(|e| e.to_string())?;
    // A closed stdout is the reader's choice.
    let _ = writeln!(std::io::stdout(), "{token}");
    Ok(())
}

/// With a private key of the caller's own: for tests of a key before the issuer uses it.
fn signer(file: &Path, matches: &ArgMatches, settings: &Settings) -> Result<Minter, String> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str).unwrap_or_default();
    let pem = std::fs::read(file).map_err(|e| format!("cannot read the private key {}: {e}", file.display()))?;
    let alg = Alg::from_name(text("alg")).ok_or("--private-key needs --alg")?;
    Minter::from_pem(alg, text("key"), &pem, &settings.token_issuer, &settings.token_audience)
        .map_err(|e| format!("{}: {e}", file.display()))
}
