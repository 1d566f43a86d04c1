//! Who a connection comes from, behind proxies, too, and how much one address may have.
//!
//! Owns: the walk of X-Forwarded-For ([`forwarded`]), the header of the PROXY protocol ([`proxy`]), ranges of addresses
//! ([`range`]), the limits of one address ([`quota`], pure) and the table of all of them ([`table`]). Guarantees: what a peer
//! that is not trusted says about addresses is never used; memory is bounded whatever addresses come. Never does: touch a
//! socket, or tell an address to anybody.

pub mod forwarded;
pub mod proxy;
pub mod quota;
pub mod range;
pub mod table;
