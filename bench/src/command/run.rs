//! What all commands share: who makes the load, and what is asked of the gateway meanwhile.

use super::here::Here;
use super::load::{Account, Accounts, Load, Speak};
use super::watch::watch;
use super::workers::{engage, follow, share_of};
use crate::compare::NotComparable;
use crate::conditions::Conditions;
use crate::fleet::FleetError;
use crate::fleet::member::Member;
use crate::fleet::words::Part;
use crate::limits;
use crate::load::links::LinkError;
use crate::load::{Shared, Stage};
use crate::metrics::Metrics;
use crate::plan::{Impossible, MOST_RINGS};
use crate::progress::Progress;
use crate::report::Report;
use crate::series::Series;
use crate::share::Share;
use crate::text::{Texts, mix};
use crate::timeline::Timeline;
use crate::who::{Names, TokenError};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ringpost_gateway::auth::MintError;
use ringpost_gateway::auth::keys::Alg;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
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
    /// Key file of the gateway to sign tokens with, with its only HS256 key or that of --key; without it the development key signs.
    #[arg(long, group = "signs")]
    pub token_key: Option<PathBuf>,
    /// Sign with this private key (PEM) under the id of --key, as --token-issuer. With --workers they are told it, unencrypted.
    #[arg(long, group = "signs", requires = "alg", requires = "key")]
    pub private_key: Option<PathBuf>,
    /// The algorithm of the private key.
    #[arg(long, requires = "private_key", value_parser = private_alg())]
    pub alg: Option<Alg>,
    /// The id of the signing key; needed where the file has several.
    #[arg(long, requires = "signs")]
    pub key: Option<String>,
    /// The tenant for which a private key signs.
    #[arg(long, requires = "private_key")]
    pub tenant: Option<String>,
    /// Issuer to name in tokens that --token-key or --private-key signs.
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
    /// Hosts that make the load instead of this process, where `flood worker` waits: HOST:PORT, separated by commas. Users and
    /// what they do are divided among them, by pairs and groups; this process leads, asks the gateway, and tells the sums.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    pub workers: Vec<String>,
    /// File with the secret of the workers.
    #[arg(long, requires = "workers")]
    pub secret_file: Option<PathBuf>,
}

/// An algorithm that has private keys.
fn private_alg() -> impl TypedValueParser<Value = Alg> {
    PossibleValuesParser::new(Alg::PUBLIC.map(Alg::name)).try_map(|name| Alg::from_name(&name).ok_or("no algorithm"))
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
    #[error("{}: {error}", path.display())]
    Key { path: PathBuf, error: MintError },
    #[error("--admin {admin}: {error}")]
    Admin { admin: SocketAddr, error: io::Error },
    #[error("the slow reader {name}: {error}")]
    Slow { name: String, error: io::Error },
    #[error("--listen {listen}: {error}")]
    Listen { listen: SocketAddr, error: io::Error },
    #[error("{0}")]
    Coordinator(#[from] FleetError),
    #[error("worker {worker}: {error}")]
    Worker { worker: String, error: FleetError },
    #[error("{0}")]
    Compare(#[from] NotComparable),
    #[error("{0}")]
    Usage(String),
    #[error("a load thread ended early")]
    Thread,
}

/// A run that is ready to start.
pub struct Run {
    pub common: Common,
    pub shared: Shared,
    /// Which users are this process's own; of a run that workers do, all.
    pub share: Share,
    /// Tells this run's texts from others'.
    seed: u64,
    by: By,
    conditions: Conditions,
    /// Of what has run.
    timeline: Mutex<Timeline>,
}

/// Who makes the load.
enum By {
    /// This process.
    Here(Box<Here>),
    /// Others, each with a thread here that follows it.
    Workers(Mutex<Vec<Member>>),
}

impl Run {
    /// Resolves, plans, and says what is planned: here, or at each of the workers.
    pub fn prepare<L: Load>(load: &L) -> Result<Self, RunError> {
        let (common, sessions) = (load.common().clone(), load.sessions()?);
        if let Some(path) = &common.json {
            // What cannot be written is told before the run, not after it.
            let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
            opened.map_err(|error| RunError::File { path: path.clone(), error })?;
        }
        let (seed, share) =
            (getrandom::u64().unwrap_or_else(|_| std::process::id().into()), Share::whole(sessions.users));
        // Who signs nothing needs no key, and hands none on.
        let key = if matches!(sessions.speak, Speak::Sessions) { common.key()? } else { None };
        let mut run = if common.workers.is_empty() {
            let here = Here::prepare(&common, &sessions, &share, own_seed(seed, &share), key.as_ref())?;
            if !common.quiet {
                eprintln!("{}", here.plan);
            }
            Self::of(Shared::new(here.plan.rings), By::Here(Box::new(here)), common, share, seed)
        } else {
            let members = engage(&common, &sessions, seed, key)?;
            Self::of(Shared::new(members.len() as u64), By::Workers(Mutex::new(members)), common, share, seed)
        };
        // What a run relies on is there before it begins: an address that nobody answers, or another gateway's page, would only
        // show at its end, or as figures of 0.
        let page = run.metrics()?;
        let Common { server_pid, admin, .. } = run.common;
        run.conditions = Conditions::gather(&run.shared.clock, server_pid, admin, page.as_ref());
        Ok(run)
    }

    fn of(shared: Shared, by: By, common: Common, share: Share, seed: u64) -> Self {
        Self { common, shared, share, seed, by, conditions: Conditions::default(), timeline: Mutex::default() }
    }

    /// A worker's part of a run that was prepared elsewhere: from these source addresses, and without a word of its own.
    pub fn part<L: Load>(load: &L, part: &Part, source: &[IpAddr]) -> Result<Self, RunError> {
        let common = Common {
            source: source.to_vec(),
            workers: Vec::new(),
            json: None,
            server_pid: None,
            admin: None,
            quiet: true,
            ..load.common().clone()
        };
        let sessions = load.sessions()?;
        let share = share_of(&sessions, part.index, part.of)?;
        let seed = own_seed(part.seed, &share);
        let here = Here::prepare(&common, &sessions, &share, seed, part.key.as_ref())?;
        Ok(Self::of(Shared::new(here.plan.rings), By::Here(Box::new(here)), common, share, part.seed))
    }

    /// The threads of this process; `None`: workers do it.
    pub fn here(&self) -> Option<&Here> {
        match &self.by {
            By::Here(here) => Some(here),
            By::Workers(_) => None,
        }
    }

    /// The users of each thread of this process.
    pub fn names(&self) -> &[Names] {
        self.here().map_or(&[], |here| &here.names)
    }

    /// For what is drawn at random; of each process another.
    pub fn seed(&self) -> u64 {
        own_seed(self.seed, &self.share)
    }

    /// The texts of one thread, which no other thread of the run has.
    pub fn texts(&self, thread: u32, bytes: usize) -> Texts {
        Texts::new(self.seed, self.share.index * MOST_RINGS as u32 + thread, bytes)
    }

    /// A report of `command` with what it ran under, its timeline, and nothing else in it.
    pub fn report(&self, command: &'static str) -> Report {
        Report {
            command: command.into(),
            url: self.common.url.clone(),
            conditions: Some(self.conditions.clone()),
            timeline: self.timeline().entries(),
            ..Report::default()
        }
    }

    /// What was sampled of what has run.
    pub fn timeline(&self) -> Timeline {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts the load threads, or the workers, lets `lead` lead them through the stages, and collects what they found. Samples
    /// from before the first connection to the end.
    pub fn go<'s, L: Load>(
        &'s self,
        load: &'s L,
        lead: impl FnOnce(&Shared, &mut Progress),
    ) -> Result<Accounts<L::Found>, RunError> {
        let (timeline, result) = watch(self, || self.go_unwatched(load, lead));
        *self.timeline.lock().unwrap_or_else(PoisonError::into_inner) = timeline;
        result
    }

    /// The same without a timeline.
    pub fn go_unwatched<'s, L: Load>(
        &'s self,
        load: &'s L,
        lead: impl FnOnce(&Shared, &mut Progress),
    ) -> Result<Accounts<L::Found>, RunError> {
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            let mut start = |name: String, work: Work<'s, L::Found>| {
                let follow = move || work().inspect_err(|_| self.shared.broken());
                let spawned = std::thread::Builder::new().name(name).spawn_scoped(scope, follow);
                spawned
                    .map(|thread| threads.push(thread))
                    .inspect_err(|_| {
                        self.shared.broken();
                        self.shared.begin(Stage::Finish);
                    })
                    .map_err(LinkError::Ring)
            };
            match &self.by {
                By::Here(here) => (0u32..).zip(&here.names).try_for_each(|(thread, names)| {
                    let work = move || Ok(Some(here.work(self, load, thread, names)?));
                    start(format!("load-{thread}"), Box::new(work))
                }),
                By::Workers(members) => {
                    let members = std::mem::take(&mut *members.lock().unwrap_or_else(PoisonError::into_inner));
                    members.into_iter().try_for_each(|member| {
                        start(format!("follow-{}", member.name), Box::new(move || follow(member, &self.shared)))
                    })
                }
            }?;
            lead(&self.shared, &mut Progress::new(self.common.quiet));
            self.shared.run(Stage::Finish, Duration::ZERO, &mut Progress::new(true), "finish");
            let mut accounts: Vec<Account<L::Found>> = Vec::new();
            for thread in threads {
                let found = thread.join().map_err(|_| RunError::Thread)??;
                // Threads of one process are one.
                match accounts.first_mut().filter(|first| first.whose.is_none()) {
                    Some(first) => found.into_iter().for_each(|more| first.add(more)),
                    None => accounts.extend(found),
                }
            }
            Ok(Accounts(accounts))
        })
    }

    /// Prints the report, writes it where it was asked for, and tells whether every target was reached.
    pub fn conclude(&self, report: &Report) -> Result<bool, RunError> {
        print!("{report}");
        if let Some(path) = &self.common.json {
            report.write_json(path).map_err(|error| RunError::File { path: path.clone(), error })?;
        }
        Ok(report.missed.is_empty())
    }

    /// Processor time of the gateway and of those who make the load so far.
    pub fn cpu(&self) -> Cpu {
        let told = || Some(Duration::from_secs_f64(self.metrics().ok()??.sum(Series::CPU).max(0.0)));
        let server = self.common.server_pid.map_or_else(told, limits::cpu);
        Cpu { server, own: self.own_cpu(), all: self.processors() }
    }

    /// Processor time of those who make the load so far.
    pub fn own_cpu(&self) -> Duration {
        match self.by {
            By::Here(_) => limits::own_cpu(),
            By::Workers(_) => Duration::from_micros(self.shared.counters.worker_micros.load(Ordering::Relaxed)),
        }
    }

    /// What the machine that makes the load was given so far; `None` where that is not this one, or nobody tells it.
    pub fn processors(&self) -> Option<limits::Processors> {
        self.here().and_then(|_| limits::processors())
    }

    /// What the gateway counts, with every series that is relied on; nothing where --admin was not given.
    pub fn metrics(&self) -> Result<Option<Metrics>, RunError> {
        let Some(admin) = self.common.admin else { return Ok(None) };
        Metrics::read(admin).map(Some).map_err(|error| RunError::Admin { admin, error })
    }

    /// What the gateway is like now, as far as somebody tells it.
    pub fn server(&self) -> Server {
        let page = self.metrics().ok().flatten();
        let told = |series| page.as_ref().map(|page| page.sum(series).max(0.0));
        let pid = self.common.server_pid;
        Server {
            cpu: pid.map_or_else(|| told(Series::CPU).map(Duration::from_secs_f64), limits::cpu),
            rss: pid.map_or_else(|| told(Series::RESIDENT).map(|bytes| bytes as u64), limits::rss),
            store: page.as_ref().map(|page| page.sum(Series::TREE_BYTES) + page.sum(Series::UNCOVERED_BYTES)),
        }
    }

    /// Resident memory of the gateway in bytes; `None` where neither --server-pid nor --admin tells it.
    pub fn server_rss(&self) -> Option<u64> {
        let told = || Some(self.metrics().ok()??.sum(Series::RESIDENT) as u64);
        self.common.server_pid.map_or_else(told, limits::rss)
    }
}

/// The seed of one process of a run.
fn own_seed(seed: u64, share: &Share) -> u64 {
    mix(seed ^ u64::from(share.index) << 32)
}

/// What a thread of a run does; `None`: others have ended it.
type Work<'s, F> = Box<dyn FnOnce() -> Result<Option<Account<F>>, RunError> + Send + 's>;

/// The gateway at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Processor time so far.
    pub cpu: Option<Duration>,
    /// Resident memory in bytes.
    pub rss: Option<u64>,
    /// Of its store the trees on disk and the log that they do not hold, in bytes.
    pub store: Option<f64>,
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
