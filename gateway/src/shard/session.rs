//! Sessions: frames to the router, and what the router says back to frames.

#![allow(dead_code, clippy::boxed_local)] // The router follows.
use super::Shard;
use crate::ring::Handle;
use bytes::Bytes;
use ringpost_proto::close::CloseCode;
use ringpost_proto::v1;
use ringpost_router::{Identity, ShardId};
use std::sync::Arc;

impl Shard {
    pub(super) fn frame(&mut self, handle: Handle, _payload: Bytes) {
        self.close_session(handle, CloseCode::Overloaded, "no sessions yet");
    }

    pub(super) fn open(
        &mut self,
        handle: Handle,
        _home: ShardId,
        _identity: Arc<Identity>,
        _id: u64,
        hello: Box<v1::Hello>,
    ) {
        drop(hello);
        self.close_session(handle, CloseCode::Overloaded, "no sessions yet");
    }

    pub(super) fn session_closed(&mut self, _handle: Handle, _home: ShardId) {}
}
