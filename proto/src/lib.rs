//! The wire of ringpost, version 1: frames, their JSON mapping, ids, limits, error and close codes, and the conforming client.
//!
//! Pure: nothing here reads a clock, opens a socket, starts a thread or draws a random number.

pub mod client;
pub mod close;
pub mod id;
pub mod limits;
pub mod wire;

/// The frames, generated from `proto/ringpost/v1/*.proto`.
pub mod v1 {
    #![allow(clippy::all, clippy::unwrap_used, clippy::expect_used, clippy::panic, rust_2018_idioms)]
    include!(concat!(env!("OUT_DIR"), "/ringpost.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/ringpost.v1.serde.rs"));
}
