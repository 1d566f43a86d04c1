//! What all commands share: the target's address, the plan, and the threads.

use crate::limits;
use crate::load::links::{Dialect, LinkError, Target};
use crate::load::{Scenario, Shared, Stage, worker};
use crate::metrics::Metrics;
use crate::plan::{Impossible, Plan, Wanted, plan};
use crate::progress::Progress;
use crate::report::{Connections, Report};
use crate::series::Series;
use crate::who::{Names, TokenError, Tokens};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

/// Where to, from where, and how to report.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// The gateway; `tcp://` speaks plain bytes (only `flood ping --echo`).
    #[arg(long, default_value = "ws://127.0.0.1:7600")]
    pub url: String,
    /// Source address; repeat for more. Chosen in 127.0.0.0/8 for a loopback target.
    #[arg(long)]
    pub source: Vec<IpAddr>,
    /// Rings, one thread each; 0: as many as the descriptors and cores ask for.
    #[arg(long, default_value_t = 0)]
    pub rings: u64,
    /// Connections of a ring that may be on their way to welcome at a time.
    #[arg(long, default_value_t = 256)]
    pub at_once: u32,
    /// How long one connection may take from connect to welcome.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub patience: Duration,
    /// Key file of the gateway to sign tokens with (its only HS256 key); without it the development key signs.
    #[arg(long)]
    pub token_key: Option<PathBuf>,
    /// Issuer to name in tokens that --token-key signs.
    #[arg(long, default_value = "ringpost")]
    pub token_issuer: String,
    /// User names: this and a number from 0.
    #[arg(long, default_value = "u")]
    pub prefix: String,
    /// Write the report to this file as JSON, too.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Process of the gateway, to tell its memory and processor time; without it --admin tells them.
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Admin listener of the gateway, to tell messages per fdatasync, memory and processor time.
    #[arg(long)]
    pub admin: Option<SocketAddr>,
    /// No progress on stderr.
    #[arg(long)]
    pub quiet: bool,
}

/// Why a run did not start or broke off.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("--url {0}: want ws://HOST:PORT or tcp://HOST:PORT")]
    Url(String),
    #[error("--url {url}: {error}")]
    Resolve { url: String, error: io::Error },
    #[error("{0}")]
    Impossible(#[from] Impossible),
    #[error("{0}")]
    Token(#[from] TokenError),
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("--admin {admin}: {error}")]
    Admin { admin: SocketAddr, error: io::Error },
    #[error("the slow reader {name}: {error}")]
    Slow { name: String, error: io::Error },
    #[error("{0}")]
    Usage(String),
    #[error("a load thread ended early")]
    Thread,
}

/// A run that is ready to start.
pub struct Run {
    pub common: Common,
    pub shared: Shared,
    pub names: Vec<Names>,
    /// Tells this run's texts from others'.
    pub seed: u64,
    plan: Plan,
    address: SocketAddr,
    host: String,
    dialect: Dialect,
    tokens: Option<Tokens>,
}

/// What a command wants to speak.
pub enum Speak {
    /// Authenticated sessions on /v1/connect.
    Sessions,
    /// The echo endpoint, or plain bytes where the URL says tcp://.
    Echo,
}

impl Run {
    /// Resolves, plans, and says what is planned. Neighbours are together on one thread in units of `unit`.
    pub fn prepare(common: &Common, connections: u32, unit: u32, speak: &Speak) -> Result<Self, RunError> {
        let (scheme, host) = common.url.split_once("://").ok_or_else(|| RunError::Url(common.url.clone()))?;
        let host = host.trim_end_matches('/').to_owned();
        let dialect = match (scheme, speak) {
            ("ws", Speak::Sessions) => {
                Dialect::WebSocket { path: "/v1/connect".to_owned(), subprotocol: Some("ringpost.v1") }
            }
            ("ws", Speak::Echo) => Dialect::WebSocket { path: "/v1/echo".to_owned(), subprotocol: None },
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
            connections: u64::from(connections),
            destination: address.ip(),
            sources: common.source.clone(),
            rings: common.rings,
            unit: u64::from(unit),
        };
        limits::raise_descriptors();
        let plan = plan(&wanted, &limits::read())?;
        if !common.quiet {
            eprintln!("{plan}");
        }
        let seed = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
        let shared = Shared::new(plan.rings);
        let tokens = match speak {
            Speak::Sessions => {
                let now = shared.clock.unix_seconds();
                let key = common.token_key.as_deref().map(|file| (file, common.token_issuer.as_str()));
                Some(Tokens::new(key, now)?)
            }
            Speak::Echo => None,
        };
        let names = Names::split(&common.prefix, connections, plan.rings as u32, unit, seed);
        let run = Self { common: common.clone(), shared, names, seed, plan, address, host, dialect, tokens };
        // What a run relies on is there before it begins: an address that nobody answers, or another gateway's page, would only
        // show at its end, or as figures of 0.
        run.metrics()?;
        Ok(run)
    }

    /// A report of `command` with nothing in it.
    pub fn report(&self, command: &'static str) -> Report {
        Report { command: command.into(), url: self.common.url.clone(), ..Report::default() }
    }

    /// Starts the load threads, each with the scenario that `make` gives for its number, lets `lead` lead them through the
    /// stages, and collects scenarios and connections.
    pub fn go<'s, S, M, L>(&'s self, make: M, lead: L) -> Result<(Vec<S>, Connections), RunError>
    where
        S: Scenario + Send + 's,
        M: Fn(u32, &'s Names) -> S + Sync,
        L: FnOnce(&Shared, &mut Progress),
    {
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (worker, names) in (0u32..).zip(&self.names) {
                let make = &make;
                let spawned = std::thread::Builder::new()
                    .name(format!("load-{worker}"))
                    .spawn_scoped(scope, move || self.work(worker, names, make));
                threads.push(spawned.map_err(LinkError::Ring)?);
            }
            lead(&self.shared, &mut Progress::new(self.common.quiet));
            self.shared.run(Stage::Finish, Duration::ZERO, &mut Progress::new(true), "finish");
            let mut scenarios = Vec::new();
            let mut connections = Connections::default();
            for thread in threads {
                let (scenario, more) = thread.join().map_err(|_| RunError::Thread)??;
                scenarios.push(scenario);
                connections.add(&more);
            }
            Ok((scenarios, connections))
        })
    }

    /// Where the connections of a worker go.
    pub fn target<'s>(&'s self, worker: u32, names: &'s Names) -> Target<'s> {
        Target {
            address: self.address,
            host: self.host.clone(),
            dialect: self.dialect.clone(),
            sources: &self.plan.sources,
            credentials: self.tokens.as_ref().map(|tokens| (tokens, names)),
            slots: self.plan.slots,
            patience: self.common.patience,
            at_once: self.common.at_once.max(1),
            worker,
        }
    }

    /// A token for this name; empty where none is needed.
    pub fn token(&self, name: &str) -> Result<String, RunError> {
        let token = self.tokens.as_ref().map(|tokens| tokens.token(name)).transpose();
        Ok(token.map_err(TokenError::from)?.unwrap_or_default())
    }

    fn work<'s, S, M>(&'s self, worker: u32, names: &'s Names, make: &M) -> Result<(S, Connections), LinkError>
    where
        S: Scenario,
        M: Fn(u32, &'s Names) -> S,
    {
        let target = self.target(worker, names);
        let mut scenario = make(worker, names);
        match worker::run(&target, names.len() as u32, &self.shared, &mut scenario) {
            Ok(connections) => Ok((scenario, connections)),
            Err(error) => {
                self.shared.broken();
                Err(error)
            }
        }
    }

    /// Prints the report, writes it where it was asked for, and tells whether every target was reached.
    pub fn conclude(&self, report: &Report) -> Result<bool, RunError> {
        print!("{report}");
        if let Some(path) = &self.common.json {
            report.write_json(path).map_err(|error| RunError::File { path: path.clone(), error })?;
        }
        Ok(report.missed.is_empty())
    }

    /// Processor time of the gateway and of this process so far.
    pub fn cpu(&self) -> Cpu {
        let told = || Some(Duration::from_secs_f64(self.metrics().ok()??.sum(Series::CPU).max(0.0)));
        let server = self.common.server_pid.map_or_else(told, limits::cpu);
        Cpu { server, own: limits::cpu(std::process::id()).unwrap_or_default(), all: limits::processors() }
    }

    /// What the gateway counts, with every series that is relied on; nothing where --admin was not given.
    pub fn metrics(&self) -> Result<Option<Metrics>, RunError> {
        let Some(admin) = self.common.admin else { return Ok(None) };
        Metrics::read(admin).map(Some).map_err(|error| RunError::Admin { admin, error })
    }

    /// Resident memory of the gateway, and of its store the trees on disk and the log that they do not hold, in bytes; `None`
    /// where nobody tells it.
    pub fn server_memory(&self) -> Option<(u64, Option<f64>)> {
        let metrics = self.metrics().ok().flatten();
        let store = metrics.as_ref().map(|page| page.sum(Series::TREE_BYTES) + page.sum(Series::UNCOVERED_BYTES));
        let told = || Some(metrics?.sum(Series::RESIDENT) as u64);
        self.common.server_pid.map_or_else(told, limits::rss).map(|rss| (rss, store))
    }

    /// Resident memory of the gateway in bytes; `None` where neither --server-pid nor --admin tells it.
    pub fn server_rss(&self) -> Option<u64> {
        let told = || Some(self.metrics().ok()??.sum(Series::RESIDENT) as u64);
        self.common.server_pid.map_or_else(told, limits::rss)
    }
}

/// The unit of `stolen_cpu`.
pub const STOLEN: &str = "% of the processor time wanted on this machine went to others on its host";

/// Processor time at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    pub server: Option<Duration>,
    pub own: Duration,
    /// Of everything on this machine, where that is told.
    pub all: Option<limits::Processors>,
}

impl Cpu {
    /// Enters what was used since `before`, for each of `count` things.
    pub fn figures(&self, before: &Cpu, count: u64, report: &mut Report) {
        let each = |used: Duration| used.as_secs_f64() * 1e6 / count.max(1) as f64;
        if let (Some(now), Some(then)) = (self.server, before.server) {
            report.figure("server_cpu_each", each(now.saturating_sub(then)), "us");
        }
        report.figure("own_cpu_each", each(self.own.saturating_sub(before.own)), "us");
        report.figure_if_known("stolen_cpu", self.stolen_since(before), STOLEN);
    }

    /// Percent of the processor time wanted here since `before` that the host of this machine gave to others. Where that is much,
    /// latencies say more about the host than about anything on it.
    pub fn stolen_since(&self, before: &Cpu) -> Option<f64> {
        self.all?.stolen_since(&before.all?)
    }
}
