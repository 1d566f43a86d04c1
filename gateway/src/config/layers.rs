//! Where settings come from: file, environment, flags, in rising precedence. Text until the table gives it a type.

use super::settings::{SETTINGS, Setting};
use super::value::Value;
use super::{ConfigError, settings};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Bytes of a configuration file at most.
const FILE_BYTES: u64 = 1 << 20;
/// Variables of our prefix that are no settings but read elsewhere.
const OTHER_VARIABLES: &[&str] = &["RINGPOST_CONFIG"];

/// Which layer a value is from. The order is the precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Default,
    File,
    Environment,
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "by default",
            Self::File => "in the configuration file",
            Self::Environment => "in the environment",
            Self::Flag => "on the command line",
        })
    }
}

/// What was set, and where. Holds known keys only.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    set: BTreeMap<&'static str, (Origin, String)>,
}

impl Layers {
    /// Sets a key; a value of a lower layer gives way, one of a higher layer stays.
    pub fn set(&mut self, key: &str, value: String, origin: Origin) -> Result<(), ConfigError> {
        let Some(setting) = SETTINGS.iter().find(|s| s.key == key) else {
            return Err(ConfigError::Unknown { key: key.to_owned(), origin, nearest: nearest(key) });
        };
        let entry = self.set.entry(setting.key).or_insert((Origin::Default, String::new()));
        if entry.0 <= origin {
            *entry = (origin, value);
        }
        Ok(())
    }

    /// Adds a TOML file: flat keys, each a setting.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let refuse = |reason: String| ConfigError::File { path: path.to_owned(), reason };
        let size = std::fs::metadata(path).map_err(|e| refuse(e.to_string()))?.len();
        if size > FILE_BYTES {
            return Err(refuse("larger than 1 MiB".into()));
        }
        let text = std::fs::read_to_string(path).map_err(|e| refuse(e.to_string()))?;
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            let start = e.span().map_or(0, |span| span.start).min(text.len());
            let line = text.as_bytes().iter().take(start).filter(|b| **b == b'\n').count() + 1;
            refuse(format!("line {line}: {}", e.message().replace('\n', " ")))
        })?;
        for (key, value) in &table {
            // Known before plain: a misspelt table header shall hear of its spelling.
            self.set(key, plain(value).unwrap_or_default(), Origin::File)?;
            if plain(value).is_none() {
                return Err(refuse(format!("{key}: must be a number, a text, true, false, or an array of texts")));
            }
        }
        Ok(())
    }

    /// Adds the variables that start with `RINGPOST_`. One that is no setting is refused only if it looks like one
    /// misspelt: orchestrators put variables of their own under a service's name.
    pub fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Result<(), ConfigError> {
        for (name, value) in variables {
            let Some(key) = name.strip_prefix("RINGPOST_") else { continue };
            let key = key.to_lowercase();
            let known = SETTINGS.iter().any(|s| s.key == key);
            if OTHER_VARIABLES.contains(&name.as_str()) || (!known && !is_misspelt(&key)) {
                continue;
            }
            self.set(&key, value, Origin::Environment)?;
        }
        Ok(())
    }

    pub fn origin(&self, key: &str) -> Origin {
        self.set.get(key).map_or(Origin::Default, |(origin, _)| *origin)
    }

    /// The typed value of a row of the table.
    pub(super) fn value<T: Value>(&self, row: Option<&settings::Setting>, key: &'static str) -> Result<T, ConfigError> {
        let row = row.filter(|row| row.key == key).ok_or_else(|| ConfigError::Relation(format!("{key}: no row")))?;
        let (origin, text) = match self.set.get(key) {
            Some((origin, text)) => (*origin, text.clone()),
            None => (Origin::Default, row.default_text()),
        };
        T::parse(&text, row.bounds).ok_or_else(|| ConfigError::Value {
            key,
            value: text.chars().filter(|c| !c.is_control()).take(80).collect(),
            origin,
            bounds: row.bounds.to_string(),
        })
    }
}

/// The setting whose key is most like this one, if any is like it.
pub fn nearest(key: &str) -> Option<String> {
    let key = key.to_lowercase().replace('-', "_");
    let score = |setting: &Setting| strsim::jaro_winkler(setting.key, &key);
    let best = SETTINGS.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.84).then(|| best.key.to_owned())
}

/// Whether a key is a setting's but for one or two slips of the fingers.
fn is_misspelt(key: &str) -> bool {
    SETTINGS.iter().any(|setting| strsim::osa_distance(setting.key, key) <= 2)
}

fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        toml::Value::Array(parts) => {
            let parts: Option<Vec<_>> = parts.iter().map(|part| part.as_str().map(str::to_owned)).collect();
            parts.map(|parts| parts.join(","))
        }
        _ => None,
    }
}
