//! Load: many connections on a few rings, one thread each.
//!
//! The way of a byte: `links` (ring, sockets, WebSocket) -> events -> a [`Scenario`] (what is said) -> frames -> `links`.
//! `stage` is how the main thread leads all workers through a run.

pub mod clock;
pub mod links;
pub mod slow;
pub mod stage;
pub mod worker;

pub use clock::Clock;
pub use links::{Down, Links};
pub use stage::{Shared, Stage};
pub use worker::Scenario;
