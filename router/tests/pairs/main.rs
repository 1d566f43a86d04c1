//! Routers and connections in virtual time: what two people's devices are told, and what is not lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod beginnings;
mod bounds;
mod delivery;
mod devices;
mod ephemera;
mod expiry;
mod groups;
mod left_out;
mod operator;
mod presence;
mod progress;
mod receipts;
mod reconcile;
mod sends;
mod sessions;
mod settings;
mod slices;
mod snapshots;
mod taken_back;
mod world;
