//! The store threads: one committer, some readers, one that makes segments of the log ahead, one that runs checkpoints, one that
//! compacts and one that gives back what was removed. They sleep when there is nothing to do and hold no policy.

use super::committer::Committer;
use super::tree::{Checkpoint, TreeError, Trees};
use super::wal::{Failure, MakeAhead};
use super::{Fatal, Shared};
use crate::port::Queues;
use crate::{Outcome, StoreAnswer, StoreRequest};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the free space is looked at while there is work, or none is left.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);
/// Reads of one port in a row, after which its answers are announced and the next port has its turn: a shard that is woken
/// for each page of those who come back spends half as much again on waking (measured).
const READS_IN_A_ROW: usize = 64;
/// Registers in a batch, but for those of one request: less than a millisecond of the committer. Without a limit the acks of
/// many devices that come back at once fill a batch of 4 MiB, and what is sent meanwhile waits for it.
const REGISTERS: usize = 256;
/// Errors of trees that are printed; the rest is only counted.
const NAMED_ERRORS: u64 = 100;

/// How often a store without work looks whether a checkpoint is due.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(30);
/// Trees that could not be compacted are tried again after this time.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(60);

/// How often it is looked whether something was removed.
const GIVE_BACK_INTERVAL: Duration = Duration::from_secs(5);

/// Of the threads behind the committer: about a tenth of a core where all others are busy. Those that messages wait for are
/// as much less nice than the rest.
const NICE: i32 = 10;

/// Ends the process if a store thread panics: what it has promised nobody would keep.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// Commits what the ports submit until the store closes, or until an error.
pub(super) fn commit(
    mut committer: Committer,
    shared: &Shared,
    checkpoints: &Sender<Checkpoint>,
    segments: &Sender<MakeAhead>,
    fatal: &Fatal,
) {
    let _abort = AbortOnPanic;
    let mut answers = Vec::new();
    let mut answered = vec![false; shared.ports.len()];
    let mut first = 0;
    let mut space_checked = Instant::now();
    // What was recovered is in memory already.
    tell(&mut committer, shared);
    loop {
        // Read before the queues are: what was submitted before the store closed is committed.
        let closing = shared.closing.load(Acquire);
        first = (first + 1) % shared.ports.len().max(1);
        if let Some(work) = committer.make_ahead() {
            // Their threads end after this one, or with the process.
            let _ = segments.send(work);
        }
        let started = Instant::now();
        let any = stage_all(&mut committer, shared, first);
        if !any {
            if closing {
                return;
            }
            // Looked at without work as well: a balancer may send none until readiness says that there is room again.
            thread::park_timeout(if committer.is_full() { SPACE_INTERVAL } else { UPKEEP_INTERVAL });
        }
        if started.duration_since(space_checked) > SPACE_INTERVAL {
            space_checked = started;
            committer.check_space();
        }
        match committer.commit(&mut answers) {
            Ok(done) => shared.stats.committed(done, started.elapsed()),
            Err(failure) => return fatal(&failure),
        }
        for (port, answer) in answers.drain(..) {
            count_write(shared, &answer);
            shared.ports[port].answer(answer);
            answered[port] = true;
        }
        for (port, answered) in shared.ports.iter().zip(&mut answered) {
            if std::mem::take(answered) {
                port.wake();
            }
        }
        tell(&mut committer, shared);
        if let Some(checkpoint) = committer.upkeep(Instant::now(), unix_ms()) {
            shared.stats.sealed_bytes.store(checkpoint.table_bytes, Relaxed);
            shared.stats.fresh_bytes.store(committer.fresh_bytes(), Relaxed);
            let _ = checkpoints.send(checkpoint);
        }
    }
}

fn tell(committer: &mut Committer, shared: &Shared) {
    let stats = &shared.stats;
    stats.is_full.store(committer.is_full(), Relaxed);
    stats.uncovered_bytes.store(committer.uncovered_bytes(), Relaxed);
    stats.fresh_bytes.store(committer.fresh_bytes(), Relaxed);
    stats.cache_bytes.store(committer.cache_bytes(), Relaxed);
    stats.segments_late.store(committer.late_segments(), Relaxed);
    let (hits, misses) = committer.take_lookups();
    stats.row_hits.fetch_add(hits, Relaxed);
    stats.row_misses.fetch_add(misses, Relaxed);
    committer.take_errors().iter().for_each(|error| unreadable(error, shared));
}

/// A tree could not serve a request: the first such errors are named, all are counted.
fn unreadable(error: &TreeError, shared: &Shared) {
    if shared.stats.tree_errors.fetch_add(1, Relaxed) < NAMED_ERRORS {
        eprintln!("store: {error}; the request was answered as unavailable");
    }
}

/// Unix milliseconds; only expiry depends on them.
fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// The threads behind the committer take what the others leave: a checkpoint has time, a message has not. (Linux: of the
/// calling thread only.)
fn step_back() {
    // Refused at worst, and then they are as quick as the others.
    let _ = rustix::process::setpriority_process(None, NICE);
}

/// For threads that are waited for and seldom run: they run at once when they are woken, not after a shard that pushes to a
/// large group. Refused without CAP_SYS_NICE or RLIMIT_NICE, and then they wait as others do.
pub(super) fn step_forward() {
    if let Ok(nice) = rustix::process::getpriority_process(None) {
        let _ = rustix::process::setpriority_process(None, nice - NICE);
    }
}

/// Makes segments of the log before they are needed, until the committer has ended. Where one cannot be made nothing is lost:
/// the committer makes a short one itself, or ends the process if it cannot either.
pub(super) fn make_segments(segments: &Receiver<MakeAhead>, shared: &Shared) {
    let _abort = AbortOnPanic;
    step_back();
    for work in segments {
        match work.run(&|| shared.is_closing()) {
            Ok(made) => drop(shared.stats.segments_ahead.fetch_add(u64::from(made), Relaxed)),
            Err(error) => {
                eprintln!("store: cannot make a segment of the log ahead: {error}; a message will wait for it")
            }
        }
    }
}

/// Runs checkpoints until the committer has ended, or until one fails: the log still holds what it would have written, and
/// the next start brings it into the trees.
pub(super) fn checkpoint(
    checkpoints: &Receiver<Checkpoint>,
    compactions: &SyncSender<()>,
    trees: &Trees,
    shared: &Shared,
    fatal: &Fatal,
) {
    let _abort = AbortOnPanic;
    step_back();
    let hurry = || shared.is_closing();
    for checkpoint in checkpoints {
        if let Err(error) = checkpoint.run_until(&shared.stats, &hurry) {
            return fatal(&Failure::Checkpoint(error));
        }
        // Here as well: where the disk is filled faster than it is merged one merge goes on for many checkpoints.
        shared.stats.on_disk(trees);
        // Full: the compactor has been told already.
        let _ = compactions.try_send(());
    }
}

/// Compacts after checkpoints. Where it fails nothing is lost and nothing ends: reads become slower, and the error is
/// counted. Not under the floor of free space, which it would need first.
pub(super) fn compact(flushed: &Receiver<()>, trees: &Trees, shared: &Shared) {
    let _abort = AbortOnPanic;
    step_back();
    let mut retry = true;
    loop {
        let wait = if retry { COMPACTION_INTERVAL } else { Duration::from_secs(3_600) };
        match flushed.recv_timeout(wait) {
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
        }
        retry = shared.stats.is_full.load(Relaxed);
        if retry {
            continue;
        }
        let done = trees.compact_at(Instant::now(), &|| shared.is_closing());
        shared.stats.compacted(&done);
        shared.stats.on_disk(trees);
        for error in &done.errors {
            retry = true;
            eprintln!("store: compaction: {error}; nothing is lost, it is tried again");
        }
    }
}

/// Gives back to the disk what was removed, until the compactor, which has the other end of `ended`, is gone.
pub(super) fn give_back(ended: &Receiver<()>, trees: &Trees, shared: &Shared) {
    let _abort = AbortOnPanic;
    step_back();
    while ended.recv_timeout(GIVE_BACK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        // On a full disk at once: sends are refused for want of what is held here.
        let at_once = || shared.is_closing() || shared.stats.is_full.load(Relaxed);
        match trees.give_back(Instant::now(), &at_once) {
            Ok(left) => shared.stats.leaving_bytes.store(left, Relaxed),
            Err(error) => eprintln!("store: cannot give back a removed table bit by bit: {error}; it goes at once"),
        }
    }
}

/// Everything that waits, as far as one batch takes it, beginning with port `first`. False: nothing waits.
fn stage_all(committer: &mut Committer, shared: &Shared, first: usize) -> bool {
    let mut any = false;
    let (after, before) = (shared.ports.iter().enumerate().skip(first), shared.ports.iter().enumerate().take(first));
    for (number, port) in after.chain(before) {
        while committer.has_room()
            && let Some(request) = port.next_write()
        {
            committer.stage(number, request);
            any = true;
        }
    }
    any | stage_raises(committer, shared, first)
}

/// Takes registers into the batch, from each port in turn; even if it is full, or many sends would leave none of them room.
fn stage_raises(committer: &mut Committer, shared: &Shared, first: usize) -> bool {
    let (mut any, mut registers, mut idle, ports) = (false, 0, 0, shared.ports.len());
    for number in (0..ports).cycle().skip(first) {
        if idle == ports || registers >= REGISTERS {
            break;
        }
        let Some(request) = shared.ports[number].next_raise() else {
            idle += 1;
            continue;
        };
        idle = 0;
        if let StoreRequest::Raise { raises, .. } = &request {
            registers += raises.len().max(1);
        }
        committer.stage(number, request);
        any = true;
    }
    any
}

fn count_write(shared: &Shared, answer: &StoreAnswer) {
    let counter = match answer.outcome {
        Outcome::Raised => &shared.stats.raises,
        Outcome::Full => {
            shared.stats.full.fetch_add(1, Relaxed);
            &shared.stats.appends
        }
        Outcome::Unavailable => {
            shared.stats.stalled.fetch_add(1, Relaxed);
            &shared.stats.appends
        }
        _ => &shared.stats.appends,
    };
    counter.fetch_add(1, Relaxed);
}

/// Which reads a thread answers.
#[derive(Clone, Copy)]
pub(super) enum Reads {
    /// Those of a few rows, which a message on its way may wait for.
    Looks,
    /// Those of many rows, for who comes back or looks back. Their threads step back: where a thousand devices come back at
    /// once, pages would take the cores from the shards.
    Pages,
}

/// Answers reads until the store closes.
pub(super) fn read(reads: Reads, trees: &Trees, shared: &Shared) {
    let _abort = AbortOnPanic;
    if matches!(reads, Reads::Pages) {
        step_back();
    }
    loop {
        let closing = shared.closing.load(Acquire);
        let mut any = false;
        for port in &shared.ports {
            any |= read_some(reads, trees, port, shared);
        }
        if !any {
            if closing {
                return;
            }
            thread::park();
        }
    }
}

fn read_some(reads: Reads, trees: &Trees, port: &Arc<Queues>, shared: &Shared) -> bool {
    let next = || match reads {
        Reads::Looks => port.next_look(),
        Reads::Pages => port.next_page(),
    };
    let mut answered = 0;
    while answered < READS_IN_A_ROW
        && let Some(request) = next()
    {
        let answer = StoreAnswer { tag: request.tag(), outcome: look_up(trees, &request, shared) };
        match reads {
            Reads::Looks => port.answer(answer),
            Reads::Pages => port.answer_page(answer),
        }
        answered += 1;
    }
    if answered > 0 {
        shared.stats.reads.fetch_add(answered as u64, Relaxed);
        port.wake();
    }
    answered > 0
}

fn look_up(trees: &Trees, request: &StoreRequest, shared: &Shared) -> Outcome {
    let (found, rows) = trees.read_and_count(request);
    shared.stats.looked_at(request, rows);
    match found {
        Ok(outcome) => outcome.unwrap_or(Outcome::Unimplemented),
        Err(error) => {
            unreadable(&error, shared);
            Outcome::Unavailable
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Options;
    use super::super::committer::Recovery;
    use super::*;
    use crate::files::RealFiles;
    use crate::port::{StorePort, Wakers};
    use crate::{DocumentKey, Raise, RegisterKey};
    use ringpost_proto::id::{ConversationId, DeviceId, UserKey};

    fn acks(tag: u64, devices: usize) -> StoreRequest {
        let key = |device: usize| {
            let device = DeviceId::new(&format!("d{device}")).unwrap();
            RegisterKey::Delivered(ConversationId([tag as u8; 16]), UserKey::new("t", "ann").unwrap(), device)
        };
        StoreRequest::Raise { tag, raises: (0..devices).map(|device| Raise::new(key(device), 1)).collect() }
    }

    #[test]
    fn a_batch_takes_all_other_writes_and_then_a_part_of_the_acks_from_each_port_in_turn() {
        let dir = std::env::temp_dir().join(format!("ringpost-batch-{}", std::process::id()));
        let Recovery { mut committer, .. } = Committer::open(Arc::new(RealFiles), &mut Options::new(&dir, 2))
            .map_err(|error| error.to_string())
            .unwrap();
        let queues: Vec<_> = (0..2).map(|_| Arc::new(Queues::new(64))).collect();
        let nothing: crate::Waker = Arc::new(|| {});
        let wake = Wakers { writes: nothing.clone(), looks: nothing.clone(), pages: nothing };
        let port = |queues: &Arc<Queues>| StorePort::new(queues.clone(), Arc::default(), wake.clone());
        let mut ports: Vec<_> = queues.iter().map(port).collect();
        let shared = Shared { ports: queues.clone(), stats: Arc::default(), closing: Arc::default() };
        for tag in 0..8 {
            ports[0].submit(acks(tag, REGISTERS / 4)).unwrap();
        }
        ports[1].submit(acks(8, 1)).unwrap();
        let key = DocumentKey::Settings(UserKey::new("t", "ann").unwrap());
        ports[0].submit(StoreRequest::Cas { tag: 9, key, expected: 0, bytes: bytes::Bytes::new() }).unwrap();
        let mut batches = Vec::new();
        while stage_all(&mut committer, &shared, 0) {
            let mut answers = Vec::new();
            assert!(committer.commit(&mut answers).is_ok());
            batches.push(answers.iter().map(|(_, answer)| answer.tag).collect::<Vec<_>>());
        }
        drop(committer);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(batches, [vec![9, 0, 8, 1, 2, 3], vec![4, 5, 6, 7]]);
    }
}
