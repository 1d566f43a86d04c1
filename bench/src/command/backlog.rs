//! `flood backlog`: devices that were away while much was written, and all come back.

use super::measuring::{Measuring, Returning};
use super::run::{Common, RunError};
use super::storm::{Shape, Storming};
use std::time::Duration;

const EXAMPLES: &str = "Examples:
  flood backlog --admin 127.0.0.1:7601
  flood backlog --devices 1000 --admin 127.0.0.1:7601
  flood backlog --devices 1000 --beside 400 --admin 127.0.0.1:7601 --aim-server-p99 10ms
  flood backlog --devices 10 --records 2000 --conversations 50 --within 10s --json backlog.json
  flood backlog --devices 1000 --together 1000 --connect-within 3m";

/// Writers to a set of devices; more than that have nothing to do.
const WRITERS: u32 = 20;

/// Has records written in many conversations while the devices that read them are away, then brings all devices back at
/// once. Verifies that each is given everything, in order within a conversation, the newest conversation first, and before
/// its syncDone. The conversations are groups of a set of devices and of a writer each. What the gateway says of itself, and
/// the latencies of what is written --beside, are of the time from the first return until the last device has synced.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Backlog {
    #[command(flatten)]
    common: Common,
    /// Devices that are away, each of a user of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    devices: u32,
    /// Devices that are in the same conversations. What is to be written is --records for each such set.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_023))]
    together: u32,
    /// Records that each device misses.
    #[arg(long, default_value_t = 10_000)]
    records: u64,
    /// Conversations of a device, in which it misses equal parts.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    conversations: u32,
    /// Records per second while the devices are away.
    #[arg(long, default_value_t = 5_000.0)]
    rate: f64,
    #[command(flatten)]
    returning: Returning,
    #[command(flatten)]
    measuring: Measuring,
}

impl Backlog {
    pub fn run(self) -> Result<bool, RunError> {
        self.load().run()
    }

    /// What its sessions do.
    pub fn load(&self) -> Storming<'_> {
        let (leavers, writers) = (self.together.min(self.devices), self.conversations.min(WRITERS));
        let sets = self.devices.div_ceil(leavers);
        Storming {
            command: "backlog",
            common: &self.common,
            measuring: &self.measuring,
            shape: Shape { leavers, writers, groups: self.conversations, users: self.devices + sets * writers },
            messages: self.records.saturating_mul(u64::from(sets)),
            rate: self.rate,
            away: Duration::ZERO,
            spread: Duration::ZERO,
            within: self.returning.within,
            in_order: true,
        }
    }
}
