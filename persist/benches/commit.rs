//! Messages per second and CPU per message of group commits on this machine's disk:
//! `cargo bench -p ringpost-persist --bench commit [-- DIRECTORY]`.
//!
//! For each size of a group: 250-byte texts to 1,000 conversations, through the committer alone (no queues), so that the
//! figures are those of encoding, one write, one fdatasync, and applying. Checkpoints and compaction run beside it, as they
//! do in a store; their CPU is the second figure.

mod common;

use common::{BODY, Pairs};
use ringpost_persist::Outcome;
use ringpost_persist::embedded::committer::Committer;
use ringpost_persist::embedded::{Checkpoint, Options, Stats};
use ringpost_persist::files::RealFiles;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// The allocator of the gateway.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CONVERSATIONS: usize = 1_000;
const RUN: Duration = Duration::from_secs(6);

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().collect();
    if let Some(at) = words.iter().position(|word| word == "--count") {
        let dir = std::env::temp_dir().join(format!("ringpost-bench-{}", std::process::id()));
        let counted = count(&dir, words.get(at + 1).ok_or("--count N")?.parse()?);
        std::fs::remove_dir_all(&dir)?;
        return counted;
    }
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("measures only when run by cargo bench");
        return Ok(());
    }
    let dir = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let dir = dir.map_or_else(std::env::temp_dir, PathBuf::from).join(format!("ringpost-bench-{}", std::process::id()));
    println!(
        "records of {BODY} B; messages per commit: messages/s, us CPU a message (committer; behind it), us a commit (mean, \
         longest), bytes a message in the log and in the trees"
    );
    for group in [1, 16, 64, 256] {
        let line = measure(&dir, group);
        std::fs::remove_dir_all(&dir)?;
        println!("{group:>4}: {}", line?);
    }
    Ok(())
}

/// So many messages, 64 in a commit, without checkpoints and without a figure: for tools that count instructions.
fn count(dir: &Path, messages: usize) -> Result<(), Box<dyn Error>> {
    let mut committer = Committer::open(Arc::new(RealFiles), &mut Options::new(dir, 0))?.committer;
    let (mut pairs, mut answers) = (Pairs::new(CONVERSATIONS)?, Vec::new());
    for _ in 0..messages / 64 {
        let requests: Vec<_> = (0..64).map(|_| pairs.send()).collect();
        requests.into_iter().for_each(|request| committer.stage(0, request));
        committer.commit(&mut answers)?;
        assert!(answers.iter().all(|(_, answer)| matches!(answer.outcome, Outcome::Appended { .. })));
        answers.clear();
    }
    Ok(())
}

fn measure(dir: &Path, group: usize) -> Result<String, Box<dyn Error>> {
    let mut committer = Committer::open(Arc::new(RealFiles), &mut Options::new(dir, 0))?.committer;
    let trees = committer.trees();
    let (checkpoints, due) = mpsc::channel::<Checkpoint>();
    let behind = std::thread::spawn(move || {
        let stats = Stats::default();
        for checkpoint in due {
            checkpoint.run(&stats).map_err(|error| error.to_string())?;
            trees.compact();
        }
        let bytes: u64 = trees.bytes_on_disk().iter().sum();
        Ok::<_, String>((cpu_ns().map_err(|error| error.to_string())?, bytes))
    });
    let mut pairs = Pairs::new(CONVERSATIONS)?;
    let (mut messages, mut commits, mut bytes, mut cpu) = (0_u64, 0_u64, 0, 0);
    let mut longest = Duration::ZERO;
    let mut answers = Vec::new();
    let started = Instant::now();
    while started.elapsed() < RUN {
        let requests: Vec<_> = (0..group).map(|_| pairs.send()).collect();
        let (before, began) = (cpu_ns()?, Instant::now());
        requests.into_iter().for_each(|request| committer.stage(0, request));
        bytes += committer.commit(&mut answers)?.bytes;
        longest = longest.max(began.elapsed());
        if let Some(checkpoint) = committer.upkeep(Instant::now(), 0) {
            checkpoints.send(checkpoint)?;
        }
        cpu += cpu_ns()? - before;
        assert!(answers.iter().all(|(_, answer)| matches!(answer.outcome, Outcome::Appended { .. })));
        answers.clear();
        messages += group as u64;
        while committer.is_stalled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        commits += 1;
    }
    let took = started.elapsed();
    checkpoints.send(committer.checkpoint(Instant::now(), 0))?;
    drop(checkpoints);
    let (behind_cpu, on_disk) = behind.join().map_err(|_| "the thread behind the committer panicked")??;
    drop(committer);
    let opened = Committer::open(Arc::new(RealFiles), &mut Options::new(dir, 0))?;
    assert_eq!(opened.report.records, 0);
    Ok(format!(
        "{:.0}, {:.2}; {:.2}, {:.0}, {:.0}, {:.0}, {:.0}",
        messages as f64 / took.as_secs_f64(),
        cpu as f64 / 1_000.0 / messages as f64,
        behind_cpu as f64 / 1_000.0 / messages as f64,
        took.as_micros() as f64 / commits as f64,
        longest.as_micros(),
        bytes as f64 / messages as f64,
        on_disk as f64 / messages as f64,
    ))
}

/// What this thread has run so far (proc_pid_schedstat).
fn cpu_ns() -> Result<u64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().unwrap_or_default().parse()?)
}
