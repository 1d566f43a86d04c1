//! Seconds of a start per GiB of log that no tree covers: `cargo bench -p ringpost-persist --bench recovery [-- DIRECTORY]`.
//!
//! Writes a log of 512 MiB without a checkpoint, to conversations that are in the trees, few and many: commits of 16 texts of
//! 250 bytes each, with the receivers' acks and some of their reads. Then a process of its own opens the store, as a start does, and
//! says how long the opening took. The log is in the page cache; what it is poured into is written to DIRECTORY.

mod common;

use common::Pairs;
use ringpost_persist::embedded::committer::Committer;
use ringpost_persist::embedded::{Options, Stats};
use ringpost_persist::files::{File, Files, RealFiles, Space};
use ringpost_persist::{Outcome, Raise, RegisterKey, StoreRequest};
use ringpost_proto::id::DeviceId;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

/// The allocator of the gateway.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const LOG_BYTES: usize = 512 << 20;
const PER_COMMIT: usize = 16;
/// Half of the acks are coalesced with others, and of those that are written a quarter tell of a read.
const ACK_EVERY: usize = 2;
const READ_EVERY: usize = 8;

/// Names the directory that a process of its own opens.
const OPEN: &str = "RINGPOST_BENCH_OPEN";

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(dir) = std::env::var_os(OPEN) {
        return open(Path::new(&dir));
    }
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("measures only when run by cargo bench");
        return Ok(());
    }
    let dir = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let dir = dir.map_or_else(std::env::temp_dir, PathBuf::from).join(format!("ringpost-bench-{}", std::process::id()));
    for conversations in [1_000, 100_000] {
        let measured = measure(&dir, conversations);
        std::fs::remove_dir_all(&dir)?;
        measured?;
    }
    Ok(())
}

fn measure(dir: &Path, conversations: usize) -> Result<(), Box<dyn Error>> {
    write(dir, conversations)?;
    print!("{conversations} conversations: ");
    io::Write::flush(&mut io::stdout())?;
    let status = Command::new(std::env::current_exe()?).env(OPEN, dir).status()?;
    if status.success() { Ok(()) } else { Err("the store did not open".into()) }
}

/// Conversations of one message each, in the trees, and a log that no tree covers.
fn write(dir: &Path, conversations: usize) -> Result<(), Box<dyn Error>> {
    let mut committer = Committer::open(Arc::new(Unsynced(RealFiles)), &mut Options::new(dir, 0))?.committer;
    let mut pairs = Pairs::new(conversations)?;
    let mut answers = Vec::new();
    for _ in 0..conversations {
        committer.stage(0, pairs.send());
        if !committer.has_room() {
            committer.commit(&mut answers)?;
        }
    }
    committer.commit(&mut answers)?;
    committer.checkpoint(Instant::now(), 0).run(&Stats::default())?;
    committer.trees().compact();
    let (mut written, mut sent) = (0, 0);
    while written < LOG_BYTES {
        for _ in 0..PER_COMMIT {
            let message = pairs.send();
            sent += 1;
            let acked = sent % ACK_EVERY == 0;
            let ack = if acked { ack(&message, pairs.phone, sent % READ_EVERY == 0) } else { None };
            committer.stage(0, message);
            if let Some(ack) = ack {
                committer.stage(0, ack);
            }
        }
        written += committer.commit(&mut answers)?.bytes;
        let done = |outcome: &Outcome| matches!(outcome, Outcome::Appended { .. } | Outcome::Raised);
        assert!(answers.drain(..).all(|(_, answer)| done(&answer.outcome)));
    }
    // What the kernel has still to write is not to be in the way of the start.
    Command::new("sync").status()?;
    Ok(())
}

/// What the second of a pair, who received it, says of a message.
fn ack(message: &StoreRequest, device: DeviceId, is_read: bool) -> Option<StoreRequest> {
    let StoreRequest::Append { conversation, kind, records, .. } = message else { return None };
    let (receiver, head) = (kind.members().last()?, records.last()?.seq);
    let mut keys = vec![RegisterKey::Delivered(*conversation, receiver.clone(), device)];
    if is_read {
        keys.push(RegisterKey::Read(*conversation, receiver.clone()));
        keys.push(RegisterKey::ReadCounted(*conversation, receiver.clone()));
    }
    let raises = keys.into_iter().map(|key| Raise { key, value: head, stamp: head }).collect();
    Some(StoreRequest::Raise { tag: 0, raises })
}

fn open(dir: &Path) -> Result<(), Box<dyn Error>> {
    let report = Committer::open(Arc::new(RealFiles), &mut Options::new(dir, 0))?.report;
    let seconds = report.millis as f64 / 1_000.0;
    let gib = LOG_BYTES as f64 / f64::from(1 << 30);
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim();
    println!(
        "{:.2} s a GiB ({seconds:.2} s, {} records, {} segments), memory at most {peak}",
        seconds / gib,
        report.records,
        report.segments
    );
    Ok(())
}

/// Real files, but a crash may lose them: the log of a bench need not outlive one.
struct Unsynced(RealFiles);

impl Files for Unsynced {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(UnsyncedFile(self.0.create(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(UnsyncedFile(self.0.open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.0.space(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.0.lock(path)
    }
}

struct UnsyncedFile(Box<dyn File>);

impl File for UnsyncedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}
