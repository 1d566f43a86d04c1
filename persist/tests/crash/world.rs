//! One seed's life of a store.

use crate::common::TempDir;
use bytes::Bytes;
use ringpost_persist::embedded::committer::{Committer, Recovery};
use ringpost_persist::embedded::{Checkpoint, OpenError, Options, Stats};
use ringpost_persist::files::Files;
use ringpost_persist::files::crash::{CrashFiles, Lies, Remainder};
use ringpost_persist::prng::Prng;
use ringpost_persist::{Body, ConversationKind, Outcome, Raise, Record, RegisterKey, StoreRequest};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::kind::Value;
use std::collections::BTreeMap;
use std::ops::{AddAssign, Deref};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The disk of a store: a log that forgets what was not synced, and trees in a real directory.
pub struct Disk {
    files: CrashFiles,
    trees: TempDir,
}

impl Disk {
    pub fn new() -> Self {
        Self { files: CrashFiles::new(), trees: TempDir::new() }
    }

    pub fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.files.clone())
    }

    pub fn options(&self, ports: usize) -> Options {
        Options { trees: self.trees.to_path_buf(), ..Options::new("/data", ports) }
    }
}

impl Deref for Disk {
    type Target = CrashFiles;

    fn deref(&self) -> &CrashFiles {
        &self.files
    }
}

/// What may happen in a world.
pub struct Plan<'a> {
    pub remainders: &'a [Remainder],
    /// From the moment on at which the store is open for the first time.
    pub lies: Lies,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Of the machine or of the process.
    pub crashes: u64,
    /// Of those, the process only: what it wrote is still seen, and not durable.
    pub kills: u64,
    pub in_recovery: u64,
    /// Records and register values.
    pub acknowledged: u64,
    /// Recoveries that cut a torn batch.
    pub torn: u64,
    /// Batches under way at a crash that were there afterwards, and that were not.
    pub landed: u64,
    pub lost: u64,
    /// Segments that were found beyond the one that each start makes.
    pub rotations: u64,
    /// Checkpoints that were written to the trees, and that were under way at a crash.
    pub checkpoints: u64,
    pub made_ahead: u64,
    pub unfinished: u64,
    /// Recoveries that did not need the whole log.
    pub from_trees: u64,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.kills += other.kills;
        self.in_recovery += other.in_recovery;
        self.acknowledged += other.acknowledged;
        self.torn += other.torn;
        self.landed += other.landed;
        self.lost += other.lost;
        self.rotations += other.rotations;
        self.checkpoints += other.checkpoints;
        self.made_ahead += other.made_ahead;
        self.unfinished += other.unfinished;
        self.from_trees += other.from_trees;
    }
}

#[derive(Debug)]
#[allow(dead_code)] // the reasons are read by people, in the report of a failing test
pub enum Violation {
    /// Something acknowledged is not there or is not as it was.
    Lost(String),
    /// Something is there that nobody wrote, or half of a batch.
    Invented(String),
    /// The store does not open.
    Refused(OpenError),
}

const CONVERSATIONS: usize = 5;
const RESTARTS: u64 = 25;
const SEGMENT_BYTES: u64 = 12 << 10;
/// A checkpoint after some ten batches.
const MEMORY_BYTES: u64 = 20 << 10;

type Registers = BTreeMap<usize, Seq>;

/// The writes of one batch, by conversation.
#[derive(Clone, Default)]
struct Writes {
    records: Vec<(usize, Arc<Record>)>,
    raises: Registers,
}

impl Writes {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.raises.is_empty()
    }
}

pub struct World {
    prng: Prng,
    files: Disk,
    /// What was acknowledged, or seen after a recovery.
    logs: [Vec<Arc<Record>>; CONVERSATIONS],
    registers: Registers,
    /// The batch that was under way at the crash.
    under_way: Writes,
    /// Segments expected if no batch ever needs another one.
    starts: u64,
    /// The last segment's number at the last start.
    last_segment: u64,
    written: u64,
    report: Report,
}

/// Two crashes, at the given operations of the first and of the second start; then the store must open.
pub fn birth(seed: u64, crashes: [u64; 2]) -> Result<(), Violation> {
    let mut world = World::new(seed);
    for (n, operation) in crashes.into_iter().enumerate() {
        world.files.crash_after(operation);
        match world.open() {
            Ok(recovery) => {
                world.recovered(&recovery)?;
                world.write_until_the_crash(recovery.committer);
            }
            Err(_) if world.files.has_crashed() => {}
            Err(error) => return Err(Violation::Refused(error)),
        }
        if seed >> n & 1 == 0 {
            world.files.lose_power(&mut world.prng, Remainder::Pages);
        } else {
            world.files.kill();
        }
    }
    let recovery = world.open().map_err(Violation::Refused)?;
    world.recovered(&recovery)
}

pub fn run(seed: u64, plan: &Plan<'_>) -> Result<Report, Violation> {
    let mut world = World::new(seed);
    let mut incarnation = None;
    for _ in 0..RESTARTS {
        if world.prng.chance(1_500) {
            let after = world.prng.below(20 + 4 * world.starts);
            world.files.crash_after(after);
        }
        match world.open() {
            Ok(recovery) => {
                world.files.set_lies(plan.lies);
                let after = world.prng.below(90);
                world.files.crash_after(after);
                // An incarnation is first heard of when the store is open; from then on it never changes.
                if *incarnation.get_or_insert(recovery.incarnation) != recovery.incarnation {
                    return Err(Violation::Lost("the incarnation".into()));
                }
                world.recovered(&recovery)?;
                world.write_until_the_crash(recovery.committer);
            }
            Err(_) if world.files.has_crashed() => world.report.in_recovery += 1,
            Err(error) => return Err(Violation::Refused(error)),
        }
        world.crash(plan);
    }
    let recovery = world.open().map_err(Violation::Refused)?;
    world.recovered(&recovery)?;
    Ok(world.report)
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            prng: Prng::new(seed),
            files: Disk::new(),
            logs: Default::default(),
            registers: Registers::new(),
            under_way: Writes::default(),
            starts: 0,
            last_segment: 0,
            written: 0,
            report: Report::default(),
        }
    }

    fn open(&mut self) -> Result<Recovery, OpenError> {
        let mut entropy = self.prng.clone();
        self.prng.next_u64();
        let mut options = Options {
            segment_bytes: SEGMENT_BYTES,
            memory_bytes: MEMORY_BYTES,
            entropy: Box::new(move || entropy.next_u64()),
            ..self.files.options(0)
        };
        Committer::open(self.files.files(), &mut options)
    }

    fn crash(&mut self, plan: &Plan<'_>) {
        self.report.crashes += 1;
        if self.prng.chance(2_000) {
            self.report.kills += 1;
            self.files.kill();
        } else {
            let remainder = plan.remainders[self.prng.below(plan.remainders.len() as u64) as usize];
            self.files.lose_power(&mut self.prng, remainder);
        }
    }

    /// Compares what is there with what must be and with what may be.
    fn recovered(&mut self, recovery: &Recovery) -> Result<(), Violation> {
        let trees = recovery.committer.trees();
        let found: [_; CONVERSATIONS] = std::array::from_fn(|n| trees.log_of(&conversation(n)).unwrap());
        let under_way = std::mem::take(&mut self.under_way);
        for (n, expected) in self.logs.iter().enumerate() {
            let found = &found[n];
            for (at, expected) in expected.iter().enumerate() {
                if !found.get(at).is_some_and(|found| stored(found) == stored(expected)) {
                    return Err(Violation::Lost(format!("record {} of conversation {n}", at + 1)));
                }
            }
        }
        for (n, expected) in &self.registers {
            if trees.register(&register(*n)).unwrap() < *expected {
                return Err(Violation::Lost(format!("register {n}, {expected}")));
            }
        }
        // Of the batch under way all is there, or nothing.
        let with = self.with(&under_way);
        let has = |logs: &[Vec<Arc<Record>>; CONVERSATIONS], registers: &Registers| {
            let same = |n: usize| {
                found[n].iter().map(|record| stored(record)).eq(logs[n].iter().map(|record| stored(record)))
                    && trees.register(&register(n)).unwrap() == registers.get(&n).copied().unwrap_or(0)
            };
            (0..CONVERSATIONS).all(same)
        };
        if has(&with.0, &with.1) {
            self.report.landed += u64::from(!under_way.is_empty());
            // It was read, so from now on it must stay.
            (self.logs, self.registers) = with;
        } else if has(&self.logs, &self.registers) {
            self.report.lost += 1;
        } else {
            return Err(Violation::Invented("neither with nor without the batch under way".into()));
        }
        self.report.torn += u64::from(recovery.report.cut_bytes > 0);
        let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix("wal-")?.strip_suffix(".log")?.parse().ok();
        let last: u64 = self.files.contents().iter().filter_map(|(path, _)| number(path)).max().unwrap();
        self.report.rotations += last.saturating_sub(self.last_segment + 1);
        self.report.from_trees += u64::from(recovery.report.covered > 0);
        self.last_segment = last;
        self.starts = recovery.report.segments + 1;
        Ok(())
    }

    fn with(&self, writes: &Writes) -> ([Vec<Arc<Record>>; CONVERSATIONS], Registers) {
        let (mut logs, mut registers) = (self.logs.clone(), self.registers.clone());
        for (n, record) in &writes.records {
            logs[*n].push(Arc::clone(record));
        }
        registers.extend(writes.raises.iter().map(|(n, value)| (*n, *value)));
        (logs, registers)
    }

    fn write_until_the_crash(&mut self, mut committer: Committer) {
        let stats = Stats::default();
        let mut under_way: Option<Checkpoint> = None;
        loop {
            under_way = under_way.or_else(|| committer.upkeep(Instant::now(), 0));
            // Sooner or later, if the crash does not come first.
            if under_way.is_some() && (committer.is_stalled() || self.prng.chance(3_000)) {
                under_way.take().unwrap().run(&stats).unwrap();
                self.report.checkpoints += 1;
            }
            if self.prng.chance(2_000)
                && let Some(work) = committer.make_ahead()
            {
                // The crash may come meanwhile.
                self.report.made_ahead += u64::from(work.run(&|| false).is_ok());
            }
            let mut writes = Writes::default();
            let mut heads: Vec<_> = self.logs.iter().map(|log| log.len() as Seq).collect();
            for _ in 0..=self.prng.below(4) {
                let n = self.prng.below(CONVERSATIONS as u64) as usize;
                committer.stage(0, self.request(n, &mut heads[n], &mut writes));
            }
            let mut answers = Vec::new();
            match committer.commit(&mut answers) {
                Ok(_) => {
                    assert!(
                        answers.iter().all(|(_, a)| matches!(a.outcome, Outcome::Appended { .. } | Outcome::Raised))
                    );
                    self.report.acknowledged += (writes.records.len() + writes.raises.len()) as u64;
                    (self.logs, self.registers) = self.with(&writes);
                }
                Err(_) => {
                    assert!(answers.is_empty(), "answered, yet not durable");
                    self.under_way = writes;
                    self.report.unfinished += u64::from(under_way.is_some());
                    return;
                }
            }
        }
    }

    fn request(&mut self, n: usize, head: &mut Seq, writes: &mut Writes) -> StoreRequest {
        if self.prng.chance(2_500) {
            let known = writes.raises.get(&n).or(self.registers.get(&n)).copied().unwrap_or(0);
            let value = known + 1 + self.prng.below(3);
            writes.raises.insert(n, value);
            return raise(n, value);
        }
        let expected_head = *head;
        let records: Vec<_> = (0..=self.prng.below(3)).map(|k| self.record(expected_head + 1 + k)).collect();
        *head += records.len() as Seq;
        writes.records.extend(records.iter().map(|record| (n, Arc::clone(record))));
        append(n, expected_head, records)
    }

    fn record(&mut self, seq: Seq) -> Arc<Record> {
        self.written += 1;
        // From one sector to several pages, now and then more than a segment.
        let len = match self.prng.below(100) {
            0 => 16_000,
            1..20 => 200 + self.prng.below(6_000),
            _ => self.prng.below(200),
        };
        record_of(seq, self.written, len as usize)
    }
}

/// A record of `len` bytes that no other of the world is like.
pub fn record_of(seq: Seq, unique: u64, len: usize) -> Arc<Record> {
    let body = Body::Payload(Bytes::from(vec![unique as u8; len]));
    let mut cmid = [0; 16];
    cmid[..8].copy_from_slice(&unique.to_be_bytes());
    let record = Record::new(user("ann"), DeviceId::new("phone").unwrap(), ClientMessageId(cmid), Value::Data, body);
    Arc::new(Record { seq, id: seq, us: seq, ordinal: seq, ..record })
}

pub fn append(n: usize, expected_head: Seq, records: Vec<Arc<Record>>) -> StoreRequest {
    StoreRequest::Append { tag: 0, conversation: conversation(n), kind: kind(n), expected_head, records }
}

pub fn raise(n: usize, value: Seq) -> StoreRequest {
    StoreRequest::Raise { tag: 0, raises: vec![Raise { key: register(n), value, stamp: value }] }
}

/// What tells one record of a world from all others.
fn stored(record: &Record) -> (Seq, ClientMessageId, [u8; 16], &Body) {
    (record.seq, record.cmid, record.content_hash, &record.body)
}

fn user(name: &str) -> UserKey {
    UserKey::new("default", name).unwrap()
}

fn kind(n: usize) -> Arc<ConversationKind> {
    Arc::new(ConversationKind::Direct([user("ann"), user(&format!("peer{n}"))]))
}

pub fn conversation(n: usize) -> ConversationId {
    ConversationId([n as u8; 16])
}

fn register(n: usize) -> RegisterKey {
    RegisterKey::Read(conversation(n), user("ann"))
}
