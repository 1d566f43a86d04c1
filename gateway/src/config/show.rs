//! `ringpost config`: every setting with its value, origin, bounds and reason, as a file that could be read back.

use super::{Config, Layers, Machine, SETTINGS};
use std::fmt::Write;

pub fn show(config: &Config, layers: &Layers, machine: &Machine) -> String {
    let mut out = String::new();
    for (setting, (key, value)) in SETTINGS.iter().zip(config.settings.to_toml()) {
        let _ = writeln!(out, "#{}", setting.about);
        let _ = writeln!(out, "# {}; {} or --{}", setting.bounds, setting.variable(), setting.flag());
        let _ = writeln!(out, "{key} = {value}  # {}\n", layers.origin(key));
    }
    let derived = &config.derived;
    let _ = writeln!(out, "# What follows on this machine ({} cores, {} open files):", machine.cores, machine.files);
    let _ = writeln!(
        out,
        "#   shards                 {} ({})",
        derived.shards,
        if derived.pinned { "pinned" } else { "not pinned" }
    );
    let _ = writeln!(out, "#   sessions per shard     {}", derived.sessions_per_shard);
    let _ = writeln!(out, "#   descriptors per shard  {}", derived.descriptors_per_shard);
    let per_ring = u64::from(config.buffers) * u64::from(config.buffer_bytes);
    let _ = writeln!(out, "#   receive buffers        {} KiB a shard", per_ring >> 10);
    out
}
