//! The store threads: one committer, some readers. They sleep when there is nothing to do and hold no policy.

use super::Fatal;
use super::committer::Committer;
use super::port::{Queues, Shared};
use crate::index::Index;
use crate::{Outcome, StoreAnswer, StoreRequest};
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

/// How often the free space is looked at while there is work, or none is left.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);
/// Reads of one port in a row, after which its answers are announced and the next port has its turn.
const READS_IN_A_ROW: usize = 64;

/// Ends the process if a store thread panics: what it has promised nobody would keep.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// Commits what the ports submit until the store closes, or until an error of the log.
pub(super) fn commit(mut committer: Committer, shared: &Shared, fatal: &Fatal) {
    let _abort = AbortOnPanic;
    let mut answers = Vec::new();
    let mut answered = vec![false; shared.ports.len()];
    let mut first = 0;
    let mut space_checked = Instant::now();
    loop {
        // Read before the queues are: what was submitted before the store closed is committed.
        let closing = shared.closing.load(Acquire);
        first = (first + 1) % shared.ports.len().max(1);
        let started = Instant::now();
        if !stage_all(&mut committer, shared, first) {
            if closing {
                return;
            }
            if !committer.is_full() {
                thread::park();
                continue;
            }
            // Looked at without work as well: a balancer may send none until readiness says that there is room again.
            thread::park_timeout(SPACE_INTERVAL);
        }
        if started.duration_since(space_checked) > SPACE_INTERVAL {
            space_checked = started;
            committer.check_space();
        }
        match committer.commit(&mut answers) {
            Ok(done) => shared.stats.committed(done, started.elapsed()),
            Err(failure) => return fatal(&failure),
        }
        shared.stats.is_full.store(committer.is_full(), Relaxed);
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
    }
}

/// Everything that waits, as far as one batch takes it, beginning with port `first`. False: nothing waits.
fn stage_all(committer: &mut Committer, shared: &Shared, first: usize) -> bool {
    let mut any = false;
    let (after, before) = (shared.ports.iter().enumerate().skip(first), shared.ports.iter().enumerate().take(first));
    for (number, port) in after.chain(before) {
        while committer.has_room()
            && let Some(request) = port.writes.pop()
        {
            committer.stage(number, request);
            any = true;
        }
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
        _ => &shared.stats.appends,
    };
    counter.fetch_add(1, Relaxed);
}

/// Answers reads until the store closes.
pub(super) fn read(index: &RwLock<Index>, shared: &Shared) {
    let _abort = AbortOnPanic;
    loop {
        let closing = shared.closing.load(Acquire);
        let mut any = false;
        for port in &shared.ports {
            any |= read_some(index, port, shared);
        }
        if !any {
            if closing {
                return;
            }
            thread::park();
        }
    }
}

fn read_some(index: &RwLock<Index>, port: &Arc<Queues>, shared: &Shared) -> bool {
    let mut answered = 0;
    while answered < READS_IN_A_ROW
        && let Some(request) = port.reads.pop()
    {
        port.answer(StoreAnswer { tag: request.tag(), outcome: look_up(index, &request) });
        answered += 1;
    }
    if answered > 0 {
        shared.stats.reads.fetch_add(answered as u64, Relaxed);
        port.wake();
    }
    answered > 0
}

fn look_up(index: &RwLock<Index>, request: &StoreRequest) -> Outcome {
    let index = index.read().unwrap_or_else(PoisonError::into_inner);
    index.read(request).unwrap_or(Outcome::Unimplemented)
}
