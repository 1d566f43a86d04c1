//! One shard: its loop, connections, timers and inbox.

pub mod edge;
pub mod stats;
