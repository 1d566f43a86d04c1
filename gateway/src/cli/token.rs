//! `ringpost token`: sign a token.

use super::{Outcome, args};
use crate::auth::{KeySet, Minter};
use crate::config::Settings;
use clap::ArgMatches;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub fn run(matches: &ArgMatches) -> Outcome {
    let layers = args::layers(matches).map_err(|e| e.to_string())?;
    let settings = Settings::from_layers(&layers).map_err(|e| e.to_string())?;
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let minter = match &settings.token_keys {
        Some(file) => {
            let keys = KeySet::load(file, &settings.token_issuer).map_err(|e| e.to_string())?;
            Minter::from_keys(&keys, text("key"), &settings.token_audience).map_err(|e| e.to_string())?
        }
        None if text("key").is_some() => return Err("--key needs --token-keys FILE".to_owned()),
        None => Minter::dev(),
    };
    let ttl = matches.get_one::<Duration>("ttl").map_or(3_600, Duration::as_secs);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let exp = now.saturating_add(ttl);
    let token = minter
        .mint(text("user").unwrap_or_default(), text("device").unwrap_or_default(), exp, now)
        .map_err(|e| e.to_string())?;
    // A closed stdout is the reader's choice.
    let _ = writeln!(std::io::stdout(), "{token}");
    Ok(())
}
