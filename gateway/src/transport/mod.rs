//! From bytes on a socket to requests and messages, and back. Sans-IO: nothing here reads a socket, a clock or a
//! random number, and nothing here decides who may do what.
//!
//! Owns the rules of HTTP/1.1 ([`http`]) and of WebSocket ([`websocket`]). Guarantees that no input of a peer panics,
//! that any cut of the same bytes into chunks gives the same results, and that memory grows with the bytes received,
//! never with what a peer announces. An idle connection holds no allocation of this module.

pub mod http;
pub mod websocket;
