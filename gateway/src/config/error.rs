//! What can be wrong with a configuration: always one line that names the key, where it came from, and what is possible.

use super::Origin;
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("unknown configuration key {key:?} {origin}{}", did_you_mean(.nearest))]
    Unknown { key: String, origin: Origin, nearest: Option<String> },
    #[error("{key} = {value:?} {origin}: must be {bounds}")]
    Value { key: &'static str, value: String, origin: Origin, bounds: String },
    #[error("configuration file {}: {reason}", .path.display())]
    File { path: PathBuf, reason: String },
    /// Two settings, or a setting and this machine, do not fit.
    #[error("{0}")]
    Relation(String),
}

fn did_you_mean(name: &Option<String>) -> String {
    name.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}
