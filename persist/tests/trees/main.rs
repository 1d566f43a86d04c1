//! The trees behind the log: they answer as the index in memory does, and survive what may happen to a process and to its
//! files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod damage;
mod equal;
mod erased;
mod expiry;
mod failures;
mod golden;
mod looks;
mod recovery;
mod relay;
mod upkeep;
