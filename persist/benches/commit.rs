//! Messages per second and CPU per message of group commits on this machine's disk:
//! `cargo bench -p ringpost-persist [-- DIRECTORY]`.
//!
//! For each size of a group: 250-byte texts to 1,000 conversations, through the committer alone (no queues), so that the
//! figures are those of encoding, one write, one fdatasync, and applying. Checkpoints and compaction run beside it, as they
//! do in a store; their CPU is the second figure.

use bytes::Bytes;
use ringpost_persist::embedded::committer::Committer;
use ringpost_persist::embedded::{Checkpoint, Options, Stats};
use ringpost_persist::files::RealFiles;
use ringpost_persist::prng::Prng;
use ringpost_persist::{Body, ConversationKind, Outcome, Record, StoreRequest};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::kind::Value;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// The allocator of the gateway.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONVERSATIONS: usize = 1_000;
const BODY: usize = 250;
const RUN: Duration = Duration::from_secs(6);

fn main() -> Result<(), Box<dyn Error>> {
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
    let phone = DeviceId::new("phone")?;
    let user = |n: usize| UserKey::new("default", &format!("user{n:04}"));
    let users = (0..=CONVERSATIONS).map(user).collect::<Result<Vec<_>, _>>()?;
    let kind = |two: &[UserKey]| Arc::new(ConversationKind::Direct([two[0].clone(), two[1].clone()]));
    let kinds: Vec<_> = users.windows(2).map(kind).collect();
    let mut heads = vec![0; CONVERSATIONS];
    let (mut messages, mut commits, mut bytes, mut cpu) = (0_u64, 0_u64, 0, 0);
    let mut longest = Duration::ZERO;
    let mut answers = Vec::new();
    let started = Instant::now();
    let mut next = 0;
    while started.elapsed() < RUN {
        let requests: Vec<_> = (0..group)
            .map(|_| {
                next = (next + 1) % CONVERSATIONS;
                let head: &mut Seq = &mut heads[next];
                *head += 1;
                append(next, &kinds[next], *head, &users[next], phone)
            })
            .collect();
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

fn append(n: usize, kind: &Arc<ConversationKind>, seq: Seq, sender: &UserKey, device: DeviceId) -> StoreRequest {
    let body = Body::Text(Bytes::from(text(seq * 31 + n as u64)));
    let mut cmid = [0; 16];
    cmid[..8].copy_from_slice(&seq.to_le_bytes());
    cmid[8..].copy_from_slice(&(n as u64).to_le_bytes());
    let record = Record::new(sender.clone(), device, ClientMessageId(cmid), Value::Text, body);
    let record = Record { seq, id: seq, us: seq, ordinal: seq, ..record };
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(n as u64).to_le_bytes());
    StoreRequest::Append {
        tag: 0,
        conversation: ConversationId(id),
        kind: Arc::clone(kind),
        expected_head: seq - 1,
        records: vec![Arc::new(record)],
    }
}

/// Words of a small vocabulary: text that compresses as people's does, not as one letter does.
fn text(seed: u64) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "tomorrow", "ok", "see", "you", "at", "five", "lunch", "maybe", "great", "thanks", "when", "are", "home", "I",
        "think", "later",
    ];
    let mut prng = Prng::new(seed);
    let mut text = Vec::with_capacity(BODY + 16);
    while text.len() < BODY {
        text.extend_from_slice(WORDS[prng.below(16) as usize].as_bytes());
        text.push(b' ');
    }
    text.truncate(BODY);
    text
}

/// What this thread has run so far (proc_pid_schedstat).
fn cpu_ns() -> Result<u64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().unwrap_or_default().parse()?)
}
