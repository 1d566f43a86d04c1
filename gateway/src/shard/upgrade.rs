//! From a request head to a WebSocket: origin, credentials, the 101.

use super::Shard;
use super::conn::State;
use super::stats::Stat;
use crate::auth::AuthError;
use crate::ring::Handle;
use crate::transport::http::upgrade::{self, Credential, Endpoint};
use crate::transport::http::{Refusal, RequestHead, Upgrade};
use crate::transport::websocket::{Decoder, Role};
use http::StatusCode;
use ringpost_proto::close::CloseCode;
use ringpost_proto::limits;
use ringpost_proto::wire::Encoding;
use ringpost_router::Identity;
use std::sync::Arc;

/// Bytes of one echoed message.
const ECHO_BYTES: u32 = 16 << 20;

impl Shard {
    pub(super) fn upgrade(&mut self, handle: Handle, endpoint: Endpoint, head: &RequestHead) {
        let head_only = head.method() == "HEAD";
        if self.draining {
            let refusal = Refusal::unavailable("this node is draining", "1");
            return self.refuse(handle, &refusal, Stat::RefusedDraining, head_only);
        }
        let upgrade = match upgrade::decide(head, &self.setup.config.allowed_origins) {
            Ok(upgrade) => upgrade,
            Err(refusal) => {
                let why = match refusal.status {
                    StatusCode::FORBIDDEN => Stat::RefusedOrigin,
                    StatusCode::UNAUTHORIZED => Stat::RefusedToken,
                    _ => Stat::RefusedUpgrade,
                };
                return self.refuse(handle, &refusal, why, head_only);
            }
        };
        if endpoint == Endpoint::Echo {
            return self.switch(handle, &upgrade, State::Echo, ECHO_BYTES);
        }
        let limit = match upgrade.encoding {
            Encoding::Protobuf => limits::FRAME_BYTES,
            Encoding::Json => limits::JSON_FRAME_BYTES,
        } as u32;
        match (self.authenticate(upgrade.credential.as_ref()), &upgrade.credential) {
            (Ok(identity), _) => self.switch(handle, &upgrade, State::Hello(identity), limit),
            (Err(error), Some(Credential::Header(_))) => {
                let refusal = match error {
                    AuthError::Invalid(why) => Refusal::unauthorized(why),
                    AuthError::Expired => Refusal::unauthorized("token expired"),
                };
                self.refuse(handle, &refusal, Stat::RefusedToken, head_only);
            }
            // Browsers cannot see a status.
            (Err(error), _) => {
                self.switch(handle, &upgrade, State::Hello(None), limit);
                self.close_unauthenticated(handle, error);
            }
        }
    }

    fn authenticate(&self, credential: Option<&Credential>) -> Result<Option<Arc<Identity>>, AuthError> {
        let now_ms = self.unix_ms();
        match credential {
            None => Ok(None),
            Some(Credential::Header(token) | Credential::Subprotocol(token)) => {
                self.setup.verifier.verify(token, now_ms).map(|identity| Some(Arc::new(identity)))
            }
            Some(Credential::Ticket(ticket)) => self.setup.tickets.redeem(ticket, now_ms).map(Some),
        }
    }

    pub(super) fn close_unauthenticated(&mut self, handle: Handle, error: AuthError) {
        match error {
            AuthError::Invalid(why) => self.close_session(handle, CloseCode::Unauthenticated, why),
            AuthError::Expired => self.close_session(handle, CloseCode::TokenExpired, "token expired"),
        }
    }

    /// Answers 101; from here on the connection speaks WebSocket.
    fn switch(&mut self, handle: Handle, upgrade: &Upgrade, state: State, limit: u32) {
        let echo = matches!(state, State::Echo);
        self.enter(handle, state);
        if let Some(conn) = self.conns.get(handle) {
            conn.encoding = upgrade.encoding;
            conn.decoder = Decoder::new(Role::Server, limit);
        }
        self.write(handle, |out| upgrade.write_response(out));
        if echo {
            self.start_heartbeat(handle);
        }
    }
}
