//! The settings of a gateway: raw -> derived -> asserted.
//!
//! Owns: the one table of settings ([`settings`]), the layers they come from (file, environment, flags: [`layers`]), what
//! follows from them and this machine ([`derived`]), and how they must relate ([`asserted`]). Guarantees: a [`Config`] from
//! [`Config::new`] was checked; nothing behind it checks again. Never does: bind, open or create anything.
//!
//! Every setting is a TOML key, a `RINGPOST_...` variable and a flag of the same name; a flag beats a variable, a variable
//! beats the file, the file beats the default.

pub mod asserted;
pub mod derived;
pub mod error;
pub mod layers;
pub mod settings;
pub mod show;
pub mod value;

pub use derived::{Derived, Machine};
pub use error::ConfigError;
pub use layers::{Layers, Origin};
pub use settings::{SETTINGS, Setting, Settings};
pub use value::Retention;

/// Settings and what follows from them. Settings read as fields: `config.max_sessions`.
#[derive(Clone, Debug)]
pub struct Config {
    pub settings: Settings,
    pub derived: Derived,
}

impl std::ops::Deref for Config {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl Config {
    /// From the layers, on this machine.
    pub fn new(layers: &Layers, machine: &Machine) -> Result<Self, ConfigError> {
        let config = Self::unasserted(layers, machine)?;
        asserted::check(&config.settings, &config.derived, machine)?;
        Ok(config)
    }

    /// As [`Config::new`], with each value in its bounds but their relations unchecked: to be shown, not to be run.
    pub fn unasserted(layers: &Layers, machine: &Machine) -> Result<Self, ConfigError> {
        let mut settings = Settings::from_layers(layers)?;
        if settings.dev {
            settings.lift_rates(layers);
            settings.exempt_loopback(layers);
        }
        let derived = Derived::new(&settings, machine);
        if derived.shards > machine.cores {
            settings.fit_queues(layers);
        }
        Ok(Self { settings, derived })
    }

    /// From (key, value) pairs over the defaults, on this machine: for tests and for embedding.
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Result<Self, ConfigError> {
        let mut layers = Layers::default();
        for (key, value) in pairs {
            layers.set(key, (*value).to_owned(), Origin::Flag)?;
        }
        Self::new(&layers, &Machine::detect())
    }
}

#[cfg(test)]
mod tests;
