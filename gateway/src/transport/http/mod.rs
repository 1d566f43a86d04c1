//! HTTP/1.1 (RFC 9110, RFC 9112): requests in, responses out, and the upgrade to WebSocket.
//!
//! The sequence of calls for one connection:
//!
//! 1. [`HeadReader::read`] with every chunk until it gives a [`RequestHead`]; what it leaves in the chunk follows the head
//!    and stays with the caller (the first frames of a WebSocket, a body, the next request). A [`Refusal`] is written by
//!    [`response::refusal`] and ends the connection. Deadlines are the caller's.
//! 2. [`upgrade::Endpoint::of`] the path: `Some` asks [`upgrade::decide`], which gives an [`Upgrade`] or a [`Refusal`].
//!    After authentication [`Upgrade::write_response`] switches protocols and everything later is WebSocket.
//! 3. Else it is an ordinary request: [`RequestHead::to_request`] for the control plane and a [`BodyReader`] made from
//!    [`RequestHead::body`], fed by [`BodyReader::read`] until it is done. If [`RequestHead::expects_continue`] and the body
//!    is wanted, send [`response::CONTINUE`] first.
//! 4. The answer: [`ResponseFraming::of`] decides how the body is framed and whether the connection stays open,
//!    [`response::head`] writes the head, [`ResponseFraming::chunk`] and [`ResponseFraming::end`] the body. If it stays open
//!    and the request's body was read to its end, 1. again.
//!
//! Guarantees: a request is understood in one way or refused (RFC 9112 section 11.2: no request smuggling). Lines end with
//! CR LF only, a body has one length, header values have no line folding. Never here: sockets, time, and what a path means
//! beyond the two upgrade endpoints. [`opening`] is the other side: what a client asks and reads.

mod body;
mod head;
mod headers;
pub mod opening;
mod refusal;
pub mod response;
pub mod upgrade;

pub use body::BodyReader;
pub use head::{BodyLength, HeadReader, RequestHead};
pub use refusal::Refusal;
pub use response::ResponseFraming;
pub use upgrade::Upgrade;
