//! From bytes on a socket to frames and back; sans-IO.

pub mod http;
pub mod websocket;
