//! The types of settings: how each is read from text, bounded, and written as TOML.

use crate::address::range::Range;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What a setting's value may be. The text of the bounds is part of every refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// A number from..=to.
    Range(u64, u64),
    /// A power of two from..=to.
    PowerOfTwo(u64, u64),
    /// Text of from..=to bytes without control characters.
    Length(usize, usize),
    /// True or false; a flag without a value means true.
    Switch,
    /// Whatever the type can read.
    Any(&'static str),
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Range(from, to) => write!(f, "{from} to {to}"),
            Self::PowerOfTwo(from, to) => write!(f, "a power of two from {from} to {to}"),
            Self::Length(from, to) => write!(f, "{from} to {to} bytes without control characters"),
            Self::Switch => f.write_str("true or false"),
            Self::Any(text) => f.write_str(text),
        }
    }
}

pub trait Value: Sized {
    /// `None`: not a value of this type, or out of bounds.
    fn parse(text: &str, bounds: Bounds) -> Option<Self>;
    /// As it would stand in the file.
    fn to_toml(&self) -> String;
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn parse(text: &str, bounds: Bounds) -> Option<Self> {
                let number: u64 = text.replace('_', "").parse().ok()?;
                let fits = match bounds {
                    Bounds::Range(from, to) => (from..=to).contains(&number),
                    Bounds::PowerOfTwo(from, to) => (from..=to).contains(&number) && number.is_power_of_two(),
                    Bounds::Length(..) | Bounds::Switch | Bounds::Any(_) => true,
                };
                if fits { number.try_into().ok() } else { None }
            }

            fn to_toml(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
number!(u8, u16, u32, u64, usize);

impl Value for bool {
    fn parse(text: &str, _: Bounds) -> Option<Self> {
        match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Value for SocketAddr {
    fn parse(text: &str, _: Bounds) -> Option<Self> {
        text.parse().ok()
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

/// Empty text: none.
impl Value for Option<SocketAddr> {
    fn parse(text: &str, _: Bounds) -> Option<Self> {
        if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
    }

    fn to_toml(&self) -> String {
        quoted(&self.map(|address| address.to_string()).unwrap_or_default())
    }
}

impl Value for String {
    fn parse(text: &str, bounds: Bounds) -> Option<Self> {
        let fits = match bounds {
            Bounds::Length(from, to) => (from..=to).contains(&text.len()) && !text.chars().any(char::is_control),
            _ => true,
        };
        fits.then(|| text.to_owned())
    }

    fn to_toml(&self) -> String {
        quoted(self)
    }
}

impl Value for PathBuf {
    fn parse(text: &str, _: Bounds) -> Option<Self> {
        (!text.is_empty()).then(|| text.into())
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

/// Empty text: none.
impl Value for Option<PathBuf> {
    fn parse(text: &str, _: Bounds) -> Option<Self> {
        Some((!text.is_empty()).then(|| text.into()))
    }

    fn to_toml(&self) -> String {
        quoted(&self.as_deref().unwrap_or("".as_ref()).to_string_lossy())
    }
}

/// Separated by commas outside a file.
impl Value for Vec<String> {
    fn parse(text: &str, bounds: Bounds) -> Option<Self> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| String::parse(part, bounds)).collect()
    }

    fn to_toml(&self) -> String {
        let parts: Vec<_> = self.iter().map(|part| quoted(part)).collect();
        format!("[{}]", parts.join(", "))
    }
}

/// Separated by commas outside a file.
impl Value for Vec<Range> {
    fn parse(text: &str, _: Bounds) -> Option<Self> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| part.parse().ok()).collect()
    }

    fn to_toml(&self) -> String {
        let parts: Vec<_> = self.iter().map(|part| quoted(&part.to_string())).collect();
        format!("[{}]", parts.join(", "))
    }
}

/// How long records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    History,
    Relay,
}

impl std::fmt::Display for Retention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::History => "history",
            Self::Relay => "relay",
        })
    }
}

impl Value for Retention {
    fn parse(text: &str, _: Bounds) -> Option<Self> {
        [Self::History, Self::Relay].into_iter().find(|retention| retention.to_string() == text)
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
