//! Who a connection comes from, behind proxies, too.
//!
//! Owns: the walk of X-Forwarded-For ([`forwarded`]) and the header of the PROXY protocol ([`proxy`]). Pure: whether a peer
//! may be believed is an argument. Guarantees: what a peer that is not trusted says about addresses is never used.

pub mod forwarded;
pub mod proxy;
