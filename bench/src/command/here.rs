//! The load threads of this process.
//!
//! Owns: the target's address, the plan, the users and who signs their tokens. Guarantees: what this machine's limits do not
//! allow is refused before anything is opened. Never does: leading.

use super::load::{Account, Load, Sessions, Speak};
use super::run::{Common, Run, RunError};
use crate::limits;
use crate::load::links::{Dialect, LinkError, Path, Target};
use crate::load::{Clock, worker};
use crate::plan::{Plan, Wanted, plan};
use crate::protocol::Kind;
use crate::share::Share;
use crate::who::{Names, TokenError, Tokens};
use ringpost_gateway::auth::SigningKey;
use ringpost_gateway::transport::websocket::Opcode;
use std::net::{SocketAddr, ToSocketAddrs};

/// See the module's page.
pub struct Here {
    /// Of each thread.
    pub names: Vec<Names>,
    pub plan: Plan,
    address: SocketAddr,
    host: String,
    dialect: Dialect,
    tokens: Option<Tokens>,
}

impl Here {
    /// Resolves and plans.
    pub fn prepare(
        common: &Common,
        sessions: &Sessions,
        share: &Share,
        seed: u64,
        key: Option<&SigningKey>,
    ) -> Result<Self, RunError> {
        let websocket = |path, subprotocol, opcode| Dialect::WebSocket { path, subprotocol, opcode };
        let (scheme, host) = common.url.split_once("://").ok_or_else(|| RunError::Url(common.url.clone()))?;
        let host = host.trim_end_matches('/').to_owned();
        let dialect = match (scheme, sessions.speak) {
            ("ws", Speak::Sessions) => websocket(Path::Same("/v1/connect".into()), Some("ringpost.v1"), Opcode::Binary),
            ("ws", Speak::Echo) => websocket(Path::Same("/v1/echo".into()), None, Opcode::Binary),
            ("ws", Speak::Other { kind, rooms, unit }) => {
                let path = match kind {
                    Kind::Rooms => Path::Rooms { rooms, unit },
                    _ => Path::Same(kind.path().into()),
                };
                websocket(path, kind.subprotocol(), if kind.is_text() { Opcode::Text } else { Opcode::Binary })
            }
            ("tcp", Speak::Echo) => Dialect::Raw,
            _ => return Err(RunError::Url(common.url.clone())),
        };
        let resolved = host.to_socket_addrs().map(|mut all| all.next());
        let address = match resolved {
            Ok(Some(address)) => address,
            Ok(None) => return Err(RunError::Url(common.url.clone())),
            Err(error) => return Err(RunError::Resolve { url: common.url.clone(), error }),
        };
        let wanted = Wanted {
            connections: u64::from(share.len()),
            destination: address.ip(),
            sources: common.source.clone(),
            rings: common.rings,
            unit: u64::from(sessions.unit),
        };
        limits::raise_descriptors();
        let plan = plan(&wanted, &limits::read())?;
        let tokens = match sessions.speak {
            Speak::Sessions => Some(Tokens::new(key, Clock::start().unix_seconds())?),
            Speak::Echo | Speak::Other { .. } => None,
        };
        let names = Names::split(&common.prefix, share.users(), plan.rings as u32, sessions.unit, seed);
        Ok(Self { names, plan, address, host, dialect, tokens })
    }

    /// Where the connections of a thread go.
    pub fn target<'s>(&'s self, common: &Common, thread: u32, names: &'s Names) -> Target<'s> {
        Target {
            address: self.address,
            host: self.host.clone(),
            dialect: self.dialect.clone(),
            sources: &self.plan.sources,
            credentials: self.tokens.as_ref().map(|tokens| (tokens, names)),
            slots: self.plan.slots,
            patience: common.patience,
            at_once: common.at_once.max(1),
            resets: false,
            worker: thread,
        }
    }

    /// The gateway's port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A token for this name; empty where none is needed.
    pub fn token(&self, name: &str) -> Result<String, RunError> {
        let token = self.tokens.as_ref().map(|tokens| tokens.token(name)).transpose();
        Ok(token.map_err(TokenError::from)?.unwrap_or_default())
    }

    /// One thread, until the run finishes.
    pub fn work<L: Load>(
        &self,
        run: &Run,
        load: &L,
        thread: u32,
        names: &Names,
    ) -> Result<Account<L::Found>, LinkError> {
        let target = Target { resets: load.resets(), ..self.target(&run.common, thread, names) };
        let mut scene = load.scene(run, thread, names);
        let users = names.len() as u32;
        let connections = worker::run(&target, users, &run.shared, &mut scene)?;
        Ok(Account { users, found: load.found(scene), connections, ..Account::default() })
    }
}
