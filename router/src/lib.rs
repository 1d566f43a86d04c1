//! Who gets what. One [`Router`] is one shard's share of the users, their sessions, and the conversations.
//!
//! The contract, in one sentence: feed one [`Input`], then drain [`Output`]s with `poll_output` until `None`, in order; repeat.
//! Time is an argument ([`Now`]). Nothing here ever reads a clock, opens a socket, starts a thread or awaits.

mod acked;
pub mod boundary;
mod conversation;
pub mod envelope;
mod frozen;
mod ledger;
pub mod operator;
pub mod paged;
mod pending;
mod rate;
mod refusal;
mod seldom;
mod session;
mod shard;
mod slab;
mod snapshot;
mod sync;
mod told;
mod user;
pub mod wheel;

pub use boundary::*;
pub use conversation::{TOGETHER, TOGETHER_BYTES};
pub use frozen::RestoreError;
pub use ledger::{Ledger, rounded_up};
pub use rate::Rate;
pub use shard::{Router, home_of_conversation, home_of_user};
pub use snapshot::SNAPSHOT_VERSION;
pub use told::Told;
pub use user::devices::{Admission, Device, DeviceList, DeviceListError};
pub use user::settings::Audience;
