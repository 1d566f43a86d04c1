//! Who gets what. One [`Router`] is one shard's share of the users, their sessions, and the conversations.
//!
//! The contract, in one sentence: feed one [`Input`], then drain [`Output`]s with `poll_output` until `None`, in order; repeat.
//! Time is an argument (`now_ms`: monotonic milliseconds for deadlines; `unix_us`: wall clock for stamps). Nothing here ever
//! reads a clock, opens a socket, starts a thread or awaits.

pub mod boundary;
pub mod envelope;
pub mod wheel;

pub use boundary::*;
