//! From a request head to a WebSocket: origin, credentials, the 101.

use super::Shard;
use super::conn::State;
use super::stats::Stat;
use crate::address::table::Exceeded;
use crate::auth::{AuthError, TICKET_PATH};
use crate::mesh::{Claim, Errand};
use crate::ring::Handle;
use crate::transport::http::upgrade::{self, Credential, Endpoint};
use crate::transport::http::{Refusal, RequestHead, Upgrade};
use crate::transport::websocket::{Decoder, Role};
use http::StatusCode;
use ringpost_proto::close::CloseCode;
use ringpost_proto::limits;
use ringpost_proto::wire::Encoding;
use ringpost_router::{Identity, ShardId, home_of_user};
use std::sync::Arc;

/// Bytes of one echoed message.
const ECHO_BYTES: u32 = 16 << 20;

const DRAINING: Refusal = Refusal::unavailable("this node is draining", "1");
const NO_KEYS: &str = "the keys of tokens are not loaded yet";
const TOO_MANY_DEVICES: Refusal = Refusal::new(StatusCode::CONFLICT, "the user has too many devices");

const TOO_MANY_CONNECTIONS: Refusal = Refusal::too_many("this address has too many connections", "10");
const TOO_MANY_UPGRADES: Refusal = Refusal::too_many("this address connects too often", "1");
const TOO_MANY_TICKETS: Refusal = Refusal::too_many("this address asks for tickets too often", "1");

impl Shard {
    pub(super) fn upgrade(&mut self, handle: Handle, endpoint: Endpoint, head: &RequestHead) {
        let head_only = head.method() == "HEAD";
        if self.draining {
            return self.refuse(handle, &DRAINING, Stat::RefusedDraining, head_only);
        }
        if let Err(exceeded) = self.charge_address(handle, head) {
            return self.refuse_address(handle, exceeded, head_only);
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
        match (self.authenticate(upgrade.credential.as_ref()), &upgrade.credential) {
            (Ok(Some(identity)), Some(Credential::Header(_))) => {
                let home = home_of_user(&identity.user, self.mesh.shards());
                let claim = Claim { upgrade, identity };
                match home == self.id {
                    true => self.admit(handle, home, claim),
                    false => self.start_move(handle, home, Errand::Upgrade(Box::new(claim))),
                }
            }
            (Ok(identity), _) => self.switch(handle, &upgrade, State::Hello(identity), frame_limit(&upgrade)),
            (Err(error), Some(Credential::Header(_))) => {
                let refusal = match error {
                    AuthError::Invalid(why) => Refusal::unauthorized(why),
                    AuthError::Expired => Refusal::unauthorized("token expired"),
                    AuthError::Unready => Refusal::unavailable(NO_KEYS, "2"),
                };
                self.refuse(handle, &refusal, Stat::RefusedToken, head_only);
            }
            // Browsers cannot see a status.
            (Err(error), _) => {
                self.switch(handle, &upgrade, State::Hello(None), frame_limit(&upgrade));
                self.close_unauthenticated(handle, error);
            }
        }
    }

    /// Before anything is checked, so that guessing costs as much as knowing.
    fn charge_address(&mut self, handle: Handle, head: &RequestHead) -> Result<(), Exceeded> {
        let Some(origin) = self.origins.get_mut(&handle.slot) else { return Ok(()) };
        let lines: Vec<&[u8]> = head.raw_values("x-forwarded-for").collect();
        self.setup.addresses.upgrade(origin, lines)
    }

    /// The same for what is no upgrade: of that, who asks for a ticket has a token looked at.
    pub(super) fn charge_ticket(&self, handle: Handle, head: &RequestHead) -> Result<(), Exceeded> {
        let Some(origin) = self.origins.get(&handle.slot).filter(|_| head.path() == TICKET_PATH) else { return Ok(()) };
        let lines: Vec<&[u8]> = head.raw_values("x-forwarded-for").collect();
        self.setup.addresses.ticket(origin, lines)
    }

    pub(super) fn refuse_address(&mut self, handle: Handle, exceeded: Exceeded, head_only: bool) {
        let (refusal, why) = match exceeded {
            Exceeded::Connections => (&TOO_MANY_CONNECTIONS, Stat::RefusedAddressConnections),
            Exceeded::Upgrades => (&TOO_MANY_UPGRADES, Stat::RefusedAddressUpgrades),
            Exceeded::Tickets => (&TOO_MANY_TICKETS, Stat::RefusedAddressTickets),
        };
        self.refuse(handle, refusal, why, head_only);
    }

    /// Answers who has shown a good token in a header: such a client can see a status.
    pub(super) fn admit(&mut self, handle: Handle, home: ShardId, claim: Claim) {
        let Claim { upgrade, identity } = claim;
        if self.draining {
            return self.refuse(handle, &DRAINING, Stat::RefusedDraining, false);
        }
        // Where the socket could not move to its user's shard, hello is answered with the same refusal.
        if home == self.id && !self.router.has_place(&identity) {
            return self.refuse(handle, &TOO_MANY_DEVICES, Stat::RefusedDevices, false);
        }
        let limit = frame_limit(&upgrade);
        self.switch(handle, &upgrade, State::Hello(Some(identity)), limit);
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
            // Not the client's fault: it comes back.
            AuthError::Unready => self.close_session(handle, CloseCode::Overloaded, NO_KEYS),
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

/// Bytes of one frame.
fn frame_limit(upgrade: &Upgrade) -> u32 {
    let limit = match upgrade.encoding {
        Encoding::Protobuf => limits::FRAME_BYTES,
        Encoding::Json => limits::JSON_FRAME_BYTES,
    };
    limit as u32
}
