//! The store of the simulator: pure, in virtual time, as unkind as the contract allows.
//!
//! Owns: what is committed, what is on its way, and its own random numbers. Guarantees: it keeps the Store contract,
//! faults or not, and does the same for the same seed and the same calls. Never does: clocks, threads, I/O.
//!
//! A request takes effect at one moment and is answered at a later one; both are drawn from the latency. In between, and
//! between requests of different conversations, anything overtakes anything.

use crate::index::Index;
use crate::prng::Prng;
use crate::{Outcome, Record, RegisterKey, StoreAnswer, StoreRequest, Tag};
use hashbrown::HashMap;
use ringpost_proto::id::{ConversationId, Seq};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What goes wrong, and how often: rates per 10,000 requests that the fault applies to, times in microseconds.
#[derive(Clone, Debug)]
pub struct Faults {
    /// From submission to effect and from effect to answer, each: least and most.
    pub latency_us: (u64, u64),
    /// Requests that take `slow_us` longer.
    pub slow: u32,
    pub slow_us: u64,
    /// Any request: nothing happens, now or later.
    pub unavailable: u32,
    /// Appends: refused for want of space.
    pub full: u32,
    /// Appends and documents: stored, yet answered Unknown.
    pub unknown_landed: u32,
    /// The same: answered Unknown and never stored.
    pub unknown_lost: u32,
    /// The same: answered Unknown and tried up to `late_us` later, still conditional on the expected head or version.
    pub unknown_late: u32,
    pub late_us: u64,
    /// Appends and raises under way at a crash that had become durable; the others are lost. Nobody was told of either.
    pub crash_lands: u32,
    /// Late appends that even a crash of the asking node does not stop (the store is elsewhere).
    pub late_survives: u32,
}

impl Faults {
    /// Everything works; answers still take their time and overtake each other.
    pub fn none() -> Self {
        Self {
            latency_us: (50, 1_000),
            slow: 0,
            slow_us: 0,
            unavailable: 0,
            full: 0,
            unknown_landed: 0,
            unknown_lost: 0,
            unknown_late: 0,
            late_us: 0,
            crash_lands: 5_000,
            late_survives: 0,
        }
    }

    /// Every fault, each often enough to be seen in a few hundred requests.
    pub fn rough() -> Self {
        Self {
            latency_us: (50, 5_000),
            slow: 200,
            slow_us: 2_000_000,
            unavailable: 200,
            full: 50,
            unknown_landed: 150,
            unknown_lost: 150,
            unknown_late: 150,
            late_us: 3_000_000,
            crash_lands: 5_000,
            late_survives: 5_000,
        }
    }
}

/// How often each fault took place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    pub slow: u64,
    pub unavailable: u64,
    pub full: u64,
    pub unknown_landed: u64,
    pub unknown_lost: u64,
    pub unknown_late: u64,
    /// Of those, tried later and stored.
    pub late_landed: u64,
    pub crashes: u64,
    /// Appends and raises that a crash lost.
    pub lost_appends: u64,
    pub lost_raises: u64,
}

/// What was committed at one moment.
#[derive(Clone, Debug)]
pub struct Backup(Index);

/// See the module. Calls must come with times that do not go back.
#[derive(Debug)]
pub struct FaultyStore {
    index: Index,
    prng: Prng,
    faults: Faults,
    counts: FaultCounts,
    /// Documents written, whoever was told of it.
    documents: u64,
    /// By time, then by the order in which they were planned.
    events: BTreeMap<(u64, u64), Event>,
    planned: u64,
    /// The latest effect and answer planned for the appends of a conversation: they keep their order.
    lanes: HashMap<ConversationId, Lane, foldhash::fast::FixedState>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    effect_us: u64,
    answer_us: u64,
}

#[derive(Debug)]
enum Event {
    /// The request takes effect, its answer is planned.
    Effect(StoreRequest, Fate),
    /// An append that was answered Unknown is tried.
    Late(StoreRequest),
    Answer(StoreAnswer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    Unavailable,
    Full,
    UnknownLanded,
    UnknownLost,
    UnknownLate,
}

impl FaultyStore {
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            index: Index::new(seed),
            prng: Prng::new(seed),
            faults,
            counts: FaultCounts::default(),
            documents: 0,
            events: BTreeMap::new(),
            planned: 0,
            lanes: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
        }
    }

    /// Other faults for the requests to come, e.g. [`Faults::none`] for the end of a world.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    pub fn submit(&mut self, request: StoreRequest, now_us: u64) {
        let fate = self.fate(&request);
        let mut effect_us = now_us + self.latency();
        if self.prng.chance(self.faults.slow) {
            self.counts.slow += 1;
            effect_us += self.prng.below(self.faults.slow_us + 1);
        }
        if let StoreRequest::Append { conversation, .. } = &request {
            let lane = self.lanes.entry(*conversation).or_default();
            lane.effect_us = lane.effect_us.max(effect_us);
            effect_us = lane.effect_us;
        }
        self.plan(effect_us, Event::Effect(request, fate));
    }

    /// The next answer that is due. Call until `None`, at [`FaultyStore::next_ready_us`] and after.
    pub fn poll(&mut self, now_us: u64) -> Option<StoreAnswer> {
        while let Some(next) = self.events.first_entry() {
            let (at_us, _) = *next.key();
            if at_us > now_us {
                return None;
            }
            match next.remove() {
                Event::Answer(answer) => return Some(answer),
                Event::Effect(request, fate) => self.take_effect(request, fate, at_us),
                Event::Late(request) => {
                    if matches!(self.apply(&request), Outcome::Appended { .. } | Outcome::Stored { .. }) {
                        self.counts.late_landed += 1;
                    }
                }
            }
        }
        None
    }

    /// When something happens next, be it an answer or an effect; `None`: nothing is under way.
    pub fn next_ready_us(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at_us, _), _)| *at_us)
    }

    /// The process that asks dies: no answer under way arrives; of the writes under way a random part is durable.
    pub fn crash(&mut self) {
        self.counts.crashes += 1;
        self.lanes.clear();
        for (key, event) in std::mem::take(&mut self.events) {
            match event {
                Event::Answer(_) => {}
                Event::Late(request) => {
                    if self.prng.chance(self.faults.late_survives) {
                        self.events.insert(key, Event::Late(request));
                    } else {
                        self.counts.lost_appends += 1;
                    }
                }
                Event::Effect(request, Fate::Fine | Fate::UnknownLanded)
                    if self.prng.chance(self.faults.crash_lands) =>
                {
                    self.apply(&request);
                }
                Event::Effect(StoreRequest::Append { .. }, _) => self.counts.lost_appends += 1,
                Event::Effect(StoreRequest::Raise { .. }, _) => self.counts.lost_raises += 1,
                Event::Effect(..) => {}
            }
        }
    }

    /// What is committed now, as a backup of a running store holds it.
    pub fn backup(&self) -> Backup {
        Backup(self.index.clone())
    }

    /// The process that asks is dead, and the store is put back to what it was: nothing under way takes effect.
    pub fn restore(&mut self, backup: &Backup) {
        self.index = backup.0.clone();
        self.events.clear();
        self.lanes.clear();
        // Whoever follows what is written looks again.
        self.documents += 1;
    }

    /// Documents written, whoever was told of it.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    pub fn counts(&self) -> FaultCounts {
        self.counts
    }

    /// What is committed: the oracle's view, free of faults and of time.
    pub fn log(&self, conversation: &ConversationId) -> &[Arc<Record>] {
        self.index.log(conversation)
    }

    /// Every conversation with a record or a register, in an order that the seed fixes.
    pub fn conversations(&self) -> impl Iterator<Item = ConversationId> + '_ {
        self.index.conversation_ids()
    }

    pub fn register(&self, key: &RegisterKey) -> Seq {
        self.index.register(key)
    }

    /// Records of this log up to `upto` expire, at once: no read shows them. The oracle's view still does.
    pub fn expire(&mut self, conversation: &ConversationId, upto: Seq) {
        self.index.expire(conversation, upto);
    }

    /// Up to where the records of a log have expired.
    pub fn gone(&self, conversation: &ConversationId) -> Seq {
        self.index.gone(conversation).last().map_or(0, |(_, to)| *to)
    }

    /// Any read of the contract, at once and without faults; `None` for writes.
    pub fn read(&self, request: &StoreRequest) -> Option<Outcome> {
        self.index.read(request)
    }

    /// Any request of the contract, at once and without faults: what was so before the world began.
    pub fn set_up(&mut self, request: &StoreRequest) -> Outcome {
        self.apply(request)
    }

    fn fate(&mut self, request: &StoreRequest) -> Fate {
        if self.prng.chance(self.faults.unavailable) {
            return Fate::Unavailable;
        }
        let full = match request {
            StoreRequest::Append { .. } => self.faults.full,
            StoreRequest::Cas { .. } => 0,
            _ => return Fate::Fine,
        };
        let rates = [
            (full, Fate::Full),
            (self.faults.unknown_landed, Fate::UnknownLanded),
            (self.faults.unknown_lost, Fate::UnknownLost),
            (self.faults.unknown_late, Fate::UnknownLate),
        ];
        rates.into_iter().find(|(rate, _)| self.prng.chance(*rate)).map_or(Fate::Fine, |(_, fate)| fate)
    }

    fn latency(&mut self) -> u64 {
        let (least, most) = self.faults.latency_us;
        least + self.prng.below(most.saturating_sub(least) + 1)
    }

    fn plan(&mut self, at_us: u64, event: Event) {
        self.planned += 1;
        self.events.insert((at_us, self.planned), event);
    }

    fn take_effect(&mut self, request: StoreRequest, fate: Fate, at_us: u64) {
        let outcome = match fate {
            Fate::Fine => self.apply(&request),
            Fate::Unavailable => {
                self.counts.unavailable += 1;
                Outcome::Unavailable
            }
            Fate::Full => {
                self.counts.full += 1;
                Outcome::Full
            }
            Fate::UnknownLanded => {
                self.counts.unknown_landed += 1;
                self.apply(&request);
                Outcome::Unknown
            }
            Fate::UnknownLost => {
                self.counts.unknown_lost += 1;
                Outcome::Unknown
            }
            Fate::UnknownLate => {
                self.counts.unknown_late += 1;
                Outcome::Unknown
            }
        };
        let answer_us = self.answer(request.tag(), &request, outcome, at_us);
        if fate == Fate::UnknownLate {
            let late_us = answer_us + self.prng.below(self.faults.late_us + 1);
            self.plan(late_us, Event::Late(request));
        }
    }

    /// Plans the answer and returns its time.
    fn answer(&mut self, tag: Tag, request: &StoreRequest, outcome: Outcome, at_us: u64) -> u64 {
        let mut answer_us = at_us + self.latency();
        if let StoreRequest::Append { conversation, .. } = request {
            let lane = self.lanes.entry(*conversation).or_default();
            lane.answer_us = lane.answer_us.max(answer_us);
            answer_us = lane.answer_us;
        }
        self.plan(answer_us, Event::Answer(StoreAnswer { tag, outcome }));
        answer_us
    }

    fn apply(&mut self, request: &StoreRequest) -> Outcome {
        match request {
            StoreRequest::Append { conversation, kind, expected_head, records, .. } => {
                self.index.append(*conversation, kind, *expected_head, records)
            }
            StoreRequest::Raise { raises, .. } => {
                for raise in raises {
                    self.index.raise(raise);
                }
                Outcome::Raised
            }
            small => {
                let written = self.index.write_small(small);
                self.documents += u64::from(matches!(written, Some(Outcome::Stored { .. })));
                written.or_else(|| self.index.read(small)).unwrap_or(Outcome::Unimplemented)
            }
        }
    }
}
