//! The loop: sleep in the ring, then completions, mail, answers, deadlines, and everything that follows from them.

use super::conn::{Slab, State};
use super::edge::EdgePort;
use super::moving::Meetings;
use super::pages::Pace;
use super::stats::{Board, Snapshot, Stat};
use super::{Setup, Shard};
use crate::config::Retention;
use crate::mesh::{Bell, Inbox, Mesh, Message};
use crate::ring::{Completion, Ring};
use hashbrown::HashMap;
use ringpost_persist::embedded::StorePort;
use ringpost_proto::close::CloseCode;
use ringpost_router::wheel::Wheel;
use ringpost_router::{Input, RAISES, Rate, Router, Settings, ShardId, Told};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often counters are published unasked, milliseconds.
const PUBLISH_MS: u64 = 1_000;

/// Messages and answer steps taken from each queue in one turn.
const MAIL: usize = 1024;

/// After an accept failed for want of something.
const ACCEPT_AGAIN_MS: u64 = 100;

/// While messages wait for room in another shard's inbox.
const SPILL_RETRY: Duration = Duration::from_millis(1);

/// What one shard is made of, besides what it shares with all.
pub struct Parts {
    pub id: ShardId,
    pub ring: Ring,
    /// See [`super::listen`].
    pub listeners: Vec<OwnedFd>,
    pub bell: Bell,
    pub inboxes: Arc<[Inbox]>,
    pub port: Arc<EdgePort>,
    pub board: Arc<Board>,
    pub store: StorePort,
    /// For jitter, session ids and hashes.
    pub seed: u64,
}

impl Shard {
    pub fn new(setup: Arc<Setup>, parts: Parts) -> Self {
        let Parts { id, mut ring, listeners, bell, inboxes, port, board, store, seed } = parts;
        listeners.into_iter().for_each(|listener| ring.listen(listener));
        let now = setup.clock.now();
        let answers = bell.clone();
        store.set_waker(Arc::new(move || answers.ring()));
        let router = Router::new(settings(&setup, id, inboxes.len() as ShardId, seed), now);
        Self {
            id,
            router,
            inputs: VecDeque::new(),
            deciding: false,
            store,
            pace: Pace::default(),
            mesh: Mesh::new(id, inboxes, &mut ring),
            ring,
            bell,
            conns: Slab::default(),
            origins: HashMap::default(),
            wheel: Wheel::new(now.mono_ms),
            now,
            port,
            edge_in_flight: 0,
            meetings: Meetings::default(),
            held: VecDeque::new(),
            dirty: Vec::new(),
            waiting: 0,
            resume: Vec::new(),
            spare: Vec::new(),
            scratch: Vec::new(),
            encoded: Default::default(),
            timings: Default::default(),
            renewals: Default::default(),
            stats: Snapshot::default(),
            board,
            published_ms: 0,
            answered: 0,
            accept_again_ms: None,
            full: false,
            draining: false,
            stopping: false,
            random: seed | 1,
            setup,
        }
    }

    /// Runs until told to stop. An error is the ring's and fatal.
    pub fn run(mut self) -> io::Result<()> {
        while !self.stopping {
            self.sleep()?;
            self.timings.turn_begins();
            self.now = self.setup.clock.now();
            self.take_completions();
            self.take_mail();
            self.take_edge();
            self.take_answers();
            self.fire_timers();
            self.fire_router();
            self.resume_paused();
            self.flush_outboxes();
            self.store.flush();
            self.mesh.flush(&mut self.ring);
            self.timings.turn_ends(&mut self.stats);
            self.housekeeping();
        }
        self.publish();
        Ok(())
    }

    /// Submits what the last turn asked for and waits for the next event, in one system call.
    fn sleep(&mut self) -> io::Result<()> {
        self.bell.park();
        let busy = self.store.has_short()
            || !self.dirty.is_empty()
            || !self.resume.is_empty()
            || self.mesh.has_mail()
            || !self.port.is_empty()
            || self.board.wanted() != self.answered
            || (!self.held.is_empty() && !self.mesh.is_congested());
        let timeout = if busy { Duration::ZERO } else { self.until_next_pages().min(self.until_next_deadline()) };
        let turned = self.ring.turn(Some(timeout));
        self.bell.unpark();
        turned
    }

    fn until_next_pages(&self) -> Duration {
        if !self.store.has_pages() {
            return Duration::MAX;
        }
        Duration::from_millis(self.pace.wait_ms(self.setup.clock.now().mono_ms))
    }

    fn until_next_deadline(&self) -> Duration {
        if self.mesh.spilled() > 0 {
            return SPILL_RETRY;
        }
        let deadlines = [
            self.wheel.next_ms(),
            self.router.next_deadline_ms(),
            self.accept_again_ms,
            Some(self.published_ms + PUBLISH_MS),
        ];
        let next = deadlines.into_iter().flatten().min().unwrap_or(u64::MAX);
        // From the clock, for this turn has taken its time.
        Duration::from_millis(next.saturating_sub(self.setup.clock.now().mono_ms))
    }

    /// One batch. While messages to other shards pile up, what clients send waits in its receive buffers, of which there
    /// are only so many: the kernel stops reading, and the clients' own sends fill up.
    fn take_completions(&mut self) {
        while !self.mesh.is_congested()
            && let Some(held) = self.held.pop_front()
        {
            self.completion(held);
        }
        while let Some(completion) = self.ring.poll() {
            let input = matches!(completion, Completion::Received { .. } | Completion::RecvEnded { .. });
            if input && (self.mesh.is_congested() || !self.held.is_empty()) {
                self.held.push_back(completion);
            } else {
                self.completion(completion);
            }
        }
    }

    fn completion(&mut self, completion: Completion) {
        match completion {
            Completion::Received { handle, mut bytes } => self.received(handle, &mut bytes),
            Completion::Sent { handle, payload, result } => self.sent(handle, payload, result),
            Completion::Accepted { handle, listener, peer } => {
                self.accepted(handle, listener, peer.map(|peer| peer.ip()));
            }
            Completion::RecvEnded { handle, why } => self.recv_ended(handle, why),
            Completion::Closed { handle } => self.closed(handle),
            Completion::Arrived { handle, tag } => self.arrived(handle, tag),
            Completion::Departed { handle, result } => self.departed(handle, result),
            Completion::AcceptFailed { .. } => self.accept_again_ms = Some(self.now.mono_ms + ACCEPT_AGAIN_MS),
            Completion::Connected { .. } => debug_assert!(false, "a server does not connect"),
        }
    }

    fn take_mail(&mut self) {
        for _ in 0..MAIL {
            let Some(message) = self.mesh.receive() else { break };
            match message {
                Message::Letter(letter) => self.letter(letter),
                Message::Drain => self.drain(),
                Message::Stop => self.stopping = true,
                Message::Envelope(envelope) => self.envelope(envelope),
                Message::Input(input) => self.decide(*input),
            }
        }
    }

    fn take_edge(&mut self) {
        for _ in 0..MAIL {
            let Some(part) = self.port.pop() else { break };
            self.edge_step(part);
        }
    }

    /// A word to everybody. Accepting goes on: who comes now hears 503, and not nothing.
    fn drain(&mut self) {
        self.draining = true;
        self.decide(Input::Drain);
        for slot in 0..self.conns.slots() {
            let Some((handle, conn)) = self.conns.at(slot) else { continue };
            match conn.state {
                State::Echo | State::Hello(_) => {
                    self.close_session(handle, CloseCode::Draining, "this node is draining");
                }
                State::Preamble(_) | State::Head(None) => self.abort(handle, Stat::ClosedDraining),
                // Answers are finished, sessions are the router's, sockets on their way are closed where they arrive.
                _ => {}
            }
        }
    }

    fn housekeeping(&mut self) {
        if self.accept_again_ms.is_some_and(|at| at <= self.now.mono_ms) {
            self.accept_again_ms = None;
            self.ring.accept_again();
        }
        let room = self.ring.room();
        if let Some(told) = self.setup.room.get(usize::from(self.id)) {
            told.store(room, Ordering::Relaxed);
        }
        let full = room == 0;
        if full != self.full {
            self.full = full;
            self.setup.health.shard_is_full(full);
        }
        let wanted = self.board.wanted();
        if wanted != self.answered || self.now.mono_ms >= self.published_ms + PUBLISH_MS {
            self.answered = wanted;
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.published_ms = self.now.mono_ms;
        self.copy_router_counters();
        let ring = self.ring.counters();
        let (session_timers, conversation_timers) = self.router.timer_counts();
        let config = &self.setup.config;
        for (stat, value) in [
            (Stat::RingOverflow, ring.overflows),
            (Stat::RingNoBuffers, ring.no_buffers),
            (Stat::RingRearmed, ring.rearmed),
            (Stat::RingStale, ring.stale),
            (Stat::RingSubmissions, ring.submissions),
            (Stat::RingCompletions, ring.completions),
            (Stat::RingEnters, ring.enters),
            (Stat::RingInFlight, u64::from(ring.in_flight)),
            (Stat::OutboundBytes, self.waiting + self.ring.bytes_in_flight()),
            (Stat::RingSlots, u64::from(self.ring.occupied())),
            (Stat::RingSlotsTotal, u64::from(config.derived.descriptors_per_shard)),
            (Stat::RingBuffersOut, self.ring.buffers_out() as u64),
            (Stat::RingBuffersTotal, u64::from(config.buffers)),
            (Stat::StoreWaiting, self.router.pending_count() as u64),
            (Stat::Sessions, self.router.session_count() as u64),
            (Stat::Users, self.router.user_count() as u64),
            (Stat::Conversations, self.router.conversation_count() as u64),
            (Stat::TimersConnection, self.wheel.len() as u64),
            (Stat::TimersSession, session_timers as u64),
            (Stat::TimersConversation, conversation_timers as u64),
            (Stat::MeshSent, self.mesh.sent),
            (Stat::MeshSpilled, self.mesh.delayed),
            (Stat::MeshSpill, self.mesh.spilled() as u64),
        ] {
            self.stats.set(stat, value);
        }
        for (owner, bytes) in self.ledger() {
            self.stats.set(owner, bytes);
        }
        self.board.publish(&self.stats);
    }
}

fn settings(setup: &Setup, shard: ShardId, shards: ShardId, seed: u64) -> Settings {
    let config = &setup.config;
    Settings {
        shard,
        shards,
        node: config.node.as_str().into(),
        worker: config.worker,
        store_incarnation: setup.store_incarnation,
        heartbeat_ms: config.heartbeat_ms,
        window_pushes: config.window_pushes,
        window_bytes: config.window_bytes,
        progress_ms: config.progress_ms,
        crash_slot_ms: config.crash_slot_ms,
        new_conversations: config.new_conversations_per_day,
        dormant_ms: u64::from(config.device_dormant_days) * 24 * 3_600_000,
        conversations: config.conversations_in_memory,
        raises: RAISES,
        device_sends: Rate { per_second: config.sends_per_second, burst: config.sends_burst },
        user_sends: Rate { per_second: config.user_sends_per_second, burst: config.sends_burst.saturating_mul(2) },
        requests: Rate { per_second: config.requests_per_second, burst: config.requests_per_second.saturating_mul(2) },
        refuse_blocked: config.refuse_blocked,
        told: Told {
            authenticate_ms: config.authenticate_ms,
            address_connections: config.address_connections,
            address_upgrades_per_second: config.address_upgrades_per_second,
            retention_days: match config.retention {
                Retention::History => 0,
                Retention::Relay => config.retention_days,
            },
        },
        seed,
    }
}
