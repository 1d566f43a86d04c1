//! What is said on the connections, one file per kind of load. No I/O of their own: they see events and write frames.

pub mod chat;
pub mod connect;
pub mod ping;
