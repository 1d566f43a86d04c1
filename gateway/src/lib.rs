//! The connection gateway as a library: what the `ringpost` and `flood` commands are made of.
//!
//! Data plane: [`ring`], [`shard`], [`transport`], [`mesh`]. Control plane: [`auth`], [`control`], [`config`], [`cli`].

pub mod address;
pub mod auth;
pub mod cli;
pub mod config;
pub mod control;
pub mod mesh;
pub mod ring;
pub mod server;
pub mod shard;
pub mod transport;
