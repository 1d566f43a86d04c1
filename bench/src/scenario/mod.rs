//! What is said on the connections, one file per kind of load. No I/O of their own: they see events and write frames.

pub mod chat;
mod churn;
pub mod connect;
pub mod crowd;
pub mod fanout;
pub mod ping;
pub mod pubsub;
pub mod slow;
pub mod soak;
pub mod storm;
