//! `flood worker`: makes the load of runs that others lead.
//!
//! Owns: the listener, and which coordinator's run is on. Guarantees: one run at a time; nothing is opened for whoever has not
//! proved the secret; when the coordinator is gone, so are its sessions. Never does: choosing where to connect, judging, writing
//! a file.

use super::load::{Account, Accounts, Load};
use super::run::{Run, RunError};
use super::workers::secret;
use super::{Cli, Command};
use crate::fleet::FleetError;
use crate::fleet::link::{BEAT, Link, SILENCE};
use crate::fleet::opening;
use crate::fleet::secret::Secret;
use crate::fleet::words::{MOST_ORDER, MOST_PART, Opening, Order, Part, Word};
use crate::limits;
use crate::load::{Shared, Stage};
use clap::Parser;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const EXAMPLES: &str = "Examples:
  flood worker
  flood worker --listen 192.0.2.2:7700 --secret-file flood.secret
  flood worker --listen 192.0.2.2:7700 --secret-file flood.secret --source 192.0.2.10 --source 192.0.2.11";

/// Connections of which it is not known yet who is there; more are closed.
const MOST_STRANGERS: usize = 16;
/// Until the coordinator, which waits for all workers, says that the first stage begins.
const BEGIN_WITHIN: Duration = Duration::from_secs(120);

/// Waits for coordinators, which are the other commands with --workers, and makes the load of one after the other until it is
/// stopped. It opens connections wherever a coordinator says, so it listens on loopback unless there is a secret; what is said
/// is not encrypted, the key of --token-key or --private-key neither.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Worker {
    /// Where to wait; another address than loopback wants --secret-file. Port 0: any, which is printed.
    #[arg(long, default_value = "127.0.0.1:7700")]
    listen: SocketAddr,
    /// Source address of this host; repeat for more. Chosen in 127.0.0.0/8 for a loopback target.
    #[arg(long)]
    source: Vec<IpAddr>,
    /// File with a secret of 16 bytes or more, which coordinators must know.
    #[arg(long)]
    secret_file: Option<PathBuf>,
}

/// What the threads of a worker share.
struct Waiting {
    source: Vec<IpAddr>,
    secret: Secret,
    strangers: AtomicUsize,
    /// Whose run is on.
    turn: Mutex<Option<SocketAddr>>,
}

/// A run's turn; ends with it.
struct Turn<'a>(&'a Waiting);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.turn.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Worker {
    pub fn run(self) -> Result<bool, RunError> {
        if !self.listen.ip().is_loopback() && self.secret_file.is_none() {
            let listen = self.listen;
            return Err(RunError::Usage(format!("--listen {listen} is not loopback: it needs --secret-file")));
        }
        let secret = secret(self.secret_file.as_deref())?;
        let listen = |error| RunError::Listen { listen: self.listen, error };
        let listener = TcpListener::bind(self.listen).map_err(listen)?;
        println!("waiting on {}", listener.local_addr().map_err(listen)?);
        let waiting = Waiting { source: self.source, secret, strangers: AtomicUsize::new(0), turn: Mutex::new(None) };
        std::thread::scope(|scope| {
            loop {
                match listener.accept() {
                    Ok((stream, peer)) => {
                        if waiting.strangers.fetch_add(1, Ordering::AcqRel) >= MOST_STRANGERS {
                            waiting.strangers.fetch_sub(1, Ordering::AcqRel);
                            continue;
                        }
                        let waiting = &waiting;
                        scope.spawn(move || waiting.receive(stream, peer));
                    }
                    // Of one connection; descriptors come back.
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                    Err(_) => std::thread::sleep(Duration::from_millis(100)),
                }
            }
        })
    }
}

impl Waiting {
    fn receive(&self, stream: TcpStream, peer: SocketAddr) {
        let opened = self.open(stream);
        self.strangers.fetch_sub(1, Ordering::AcqRel);
        if let Err(error) = opened.map_err(RunError::from).and_then(|(link, part)| self.serve(link, part, peer)) {
            eprintln!("{peer}: {error}");
        }
    }

    /// Finds out who is there and what is wanted.
    fn open(&self, stream: TcpStream) -> Result<(Link, Part), FleetError> {
        let mut link = Link::new(stream)?;
        opening::answer(&mut link, &self.secret)?;
        match link.wait(MOST_PART, opening::PATIENCE)? {
            Opening::Part(part) => Ok((link, part)),
            _ => Err(FleetError::Unexpected),
        }
    }

    fn begin(&self, peer: SocketAddr) -> Result<Turn<'_>, SocketAddr> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match *turn {
            Some(other) => Err(other),
            None => {
                *turn = Some(peer);
                Ok(Turn(self))
            }
        }
    }

    fn serve(&self, mut link: Link, part: Part, peer: SocketAddr) -> Result<(), RunError> {
        let _turn = match self.begin(peer) {
            Ok(turn) => turn,
            Err(other) => return Ok(link.send(&Opening::Refused(format!("it is busy with a run of {other}")))?),
        };
        println!("{peer}: flood {}", part.arguments.join(" "));
        let cli = match Cli::try_parse_from(std::iter::once("flood").chain(part.arguments.iter().map(String::as_str))) {
            Ok(cli) => cli,
            Err(error) => {
                let why = error.to_string();
                return Ok(link.send(&Opening::Refused(why.lines().next().unwrap_or_default().to_owned()))?);
            }
        };
        let job = Job { link, part: &part, source: &self.source };
        match &cli.command {
            Command::Connect(command) => job.run(command),
            Command::Chat(command) => job.run(&command.load(None)),
            Command::Ping(command) => job.run(command),
            Command::Storm(command) => job.run(&command.load()),
            Command::Backlog(command) => job.run(&command.load()),
            Command::Fanout(command) => job.run(command),
            Command::Search(_)
            | Command::Slow(_)
            | Command::Soak(_)
            | Command::Worker(_)
            | Command::Report(_)
            | Command::Compare(_)
            | Command::Pubsub(_) => job.refuse("this command is not divided"),
        }?;
        println!("{peer}: done");
        Ok(())
    }
}

/// One run of a worker.
struct Job<'a> {
    link: Link,
    part: &'a Part,
    source: &'a [IpAddr],
}

impl Job<'_> {
    fn refuse(mut self, why: &str) -> Result<(), RunError> {
        Ok(self.link.send(&Opening::Refused(why.to_owned()))?)
    }

    fn run<L: Load>(mut self, load: &L) -> Result<(), RunError> {
        let run = match Run::part(load, self.part, self.source) {
            Ok(run) => run,
            Err(error) => {
                self.link.send(&Opening::Refused(error.to_string()))?;
                return Err(error);
            }
        };
        let plan = run.here().map(|here| here.plan.to_string()).unwrap_or_default();
        println!("{plan}");
        self.link.send(&Opening::Ready(plan))?;
        let Order::Stage(first) = self.link.wait(MOST_ORDER, BEGIN_WITHIN)? else {
            return Err(FleetError::Unexpected.into());
        };
        let (before, mut obeyed) = (run.cpu(), Ok(()));
        let accounts = run.go_unwatched(load, |shared, _| obeyed = obey(&mut self.link, shared, first));
        obeyed?;
        match accounts {
            Ok(Accounts(accounts)) => {
                let mut sum = Account::default();
                accounts.into_iter().for_each(|account| sum.add(account));
                let (stolen, Account { found, connections, .. }) = (run.cpu().stolen_since(&before), sum);
                Ok(self.link.send(&Word::Found { found, connections, stolen })?)
            }
            Err(error) => {
                self.link.send(&Word::<L::Found>::BrokeOff(error.to_string()))?;
                Err(error)
            }
        }
    }
}

/// Leads the threads of this process as the coordinator says, until the last stage; tells what is done and counted.
fn obey(link: &mut Link, shared: &Shared, first: Stage) -> Result<(), FleetError> {
    let (mut stage, mut is_done, mut spoke, before) = (first, false, None, limits::own_cpu());
    shared.begin(first);
    while stage != Stage::Finish && !shared.is_broken() {
        let done = !is_done && shared.is_done(stage);
        if done || spoke.is_none_or(|spoke: Instant| spoke.elapsed() >= BEAT) {
            let micros = u64::try_from(limits::own_cpu().saturating_sub(before).as_micros()).unwrap_or(u64::MAX);
            shared.counters.worker_micros.store(micros, Ordering::Relaxed);
            // Before the word that a stage is done: at its end the coordinator knows all that was counted in it.
            link.send(&Word::<()>::Counts(shared.counters.counts()))?;
            spoke = Some(Instant::now());
        }
        if done {
            link.send(&Word::<()>::Done(stage))?;
            is_done = true;
        }
        if let Some(Order::Stage(next)) = link.poll(MOST_ORDER, SILENCE)? {
            (stage, is_done) = (next, false);
            shared.begin(next);
        }
    }
    Ok(())
}
