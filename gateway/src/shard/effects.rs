//! Sessions, outward: the router decides, and what it says becomes frames, store requests, envelopes.

use super::Shard;
use super::conn::{State, flag};
use super::encoded::shared;
use super::stats::Stat;
use crate::mesh::Message;
use crate::ring::Handle;
use bytes::Bytes;
use ringpost_persist::{Outcome, Peer, Record, StoreAnswer, StoreRequest};
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_proto::wire::{self, Encoding};
use ringpost_router::envelope::Envelope;
use ringpost_router::operator::OPERATOR;
use ringpost_router::{ConnRef, Input, Output, RecordPage, ShardId};
use std::sync::Arc;
use std::time::Instant;

/// Answers of the store taken in one turn.
const ANSWERS: usize = 1024;

impl Shard {
    /// Feeds the router one input and carries out what follows. What follows may be further inputs: they queue, so that the
    /// outputs of one input are drained before the next goes in.
    pub(super) fn decide(&mut self, input: Input) {
        self.inputs.push_back(input);
        if std::mem::replace(&mut self.deciding, true) {
            return;
        }
        while let Some(input) = self.inputs.pop_front() {
            self.router.handle(self.now, input);
            while let Some(output) = self.router.poll_output() {
                self.carry_out(output);
            }
        }
        self.deciding = false;
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Store(request) => self.ask_store(request),
            Output::Envelope { shard, envelope } => self.post(shard, envelope),
            Output::Sent { conn, re, sent } => {
                self.timings.sent(conn, re);
                let frame = v1::ServerFrame { re, answer: Some(Answer::Sent(sent)) };
                self.tell(conn, |encoding, out| wire::encode_server(encoding, &frame, out));
            }
            Output::Frame { conn, frame } => {
                if matches!(frame.answer, Some(Answer::Error(_))) {
                    self.timings.refused(conn, frame.re);
                }
                self.tell(conn, |encoding, out| wire::encode_server(encoding, &frame, out))
            }
            Output::PushRecord { conn, n, peer, record, own } => self.push(conn, n, &peer, &record, own),
            Output::Page { conn, re, page } => self.tell(conn, |encoding, out| write_page(encoding, re, &page, out)),
            Output::Close { conn, code, reason } => self.close_session(handle_of(conn), code, reason),
            Output::Reading { conn, on: true } => self.unpause(handle_of(conn), flag::PAUSED_LOGIC),
            Output::Reading { conn, on: false } => self.pause(handle_of(conn), flag::PAUSED_LOGIC),
            Output::Established { .. } => self.stats.add(Stat::Established, 1),
        }
    }

    /// A record: encoded once for all who get it in one fan-out.
    fn push(&mut self, conn: ConnRef, n: u64, peer: &Peer, record: &Arc<Record>, own: bool) {
        let mut encoded = std::mem::take(&mut self.encoded);
        self.tell(conn, |encoding, out| {
            let cmid = own.then_some(&record.cmid.0);
            wire::push_record(encoding, n, peer.wire_ref(), cmid, &encoded.of(encoding, record), out);
        });
        self.encoded = encoded;
    }

    /// A frame for a connection of this shard that has a session; one that is gone hears nothing.
    pub(super) fn tell(&mut self, conn: ConnRef, payload: impl FnOnce(Encoding, &mut Vec<u8>)) {
        let handle = handle_of(conn);
        debug_assert_eq!(conn.shard, self.id, "outputs for other shards are envelopes");
        let Some(conn) = self.conns.get(handle).filter(|conn| matches!(conn.state, State::Open { .. })) else { return };
        let encoding = conn.encoding;
        self.write_message(handle, encoding, |out| payload(encoding, out));
    }

    /// Another shard's envelope.
    pub(super) fn envelope(&mut self, envelope: Box<Envelope>) {
        if !matches!(*envelope, Envelope::Conn(_)) {
            return self.decide(Input::Envelope(envelope));
        }
        if let Envelope::Conn(output) = *envelope {
            self.carry_out(output);
        }
    }

    fn post(&mut self, to: ShardId, envelope: Box<Envelope>) {
        match to {
            OPERATOR => {
                if let Envelope::Outcome { re, outcome, .. } = *envelope {
                    // No room: it asks again.
                    drop(self.setup.operator.try_send((re, outcome)));
                }
            }
            to if to == self.id => self.inputs.push_back(Input::Envelope(envelope)),
            to => self.mesh.send(to, Message::Envelope(envelope)),
        }
    }

    /// A store that has no room for another answer is an answer, too.
    fn ask_store(&mut self, request: StoreRequest) {
        if let Err(request) = self.store.submit(request) {
            self.stats.add(Stat::StoreBusy, 1);
            let answer = StoreAnswer { tag: request.tag(), outcome: Outcome::Unavailable };
            self.inputs.push_back(Input::Store(answer));
        }
    }

    pub(super) fn take_answers(&mut self) {
        for _ in 0..ANSWERS {
            let Some(answer) = self.store.poll_short() else { break };
            if matches!(answer.outcome, Outcome::Appended { .. }) {
                self.pace.message(self.now.mono_ms);
            }
            self.decide(Input::Store(answer));
        }
        self.take_pages();
    }

    /// A turn without a limit for pages took 8 ms where a thousand devices came back at once, and every message with it.
    fn take_pages(&mut self) {
        if !self.store.has_pages() {
            return;
        }
        let Some(time) = self.pace.begin(self.now.mono_ms) else { return };
        let began = Instant::now();
        while let Some(page) = self.store.poll_page() {
            self.decide(Input::Store(page));
            if began.elapsed() >= time {
                break;
            }
        }
    }

    /// Deadlines of the router.
    pub(super) fn fire_router(&mut self) {
        if self.router.next_deadline_ms().is_some_and(|at_ms| at_ms <= self.now.mono_ms) {
            self.decide(Input::Timer);
        }
    }

    /// What the router counts.
    pub(super) fn copy_router_counters(&mut self) {
        let counters = self.router.counters();
        for (stat, value) in [
            (Stat::Sends, counters.sends),
            (Stat::SendsDuplicate, counters.sends_duplicate),
            (Stat::SendsRefused, counters.sends_refused),
            (Stat::Appends, counters.appends),
            (Stat::AppendConflicts, counters.append_conflicts),
            (Stat::AppendUnknown, counters.append_unknown),
            (Stat::Pushes, counters.pushes),
            (Stat::Acks, counters.acks),
            (Stat::Ticks, counters.ticks),
            (Stat::Syncs, counters.syncs),
            (Stat::Reconciles, counters.reconciles),
            (Stat::ReconcileFound, counters.reconcile_found),
            (Stat::Takeovers, counters.takeovers),
            (Stat::SlowConsumers, counters.slow_consumers),
            (Stat::RateLimited, counters.rate_limited + self.renewals.limited),
            (Stat::Ephemeral, counters.ephemeral),
            (Stat::Presence, counters.presence),
            (Stat::DeviceMismatches, counters.device_mismatches),
            (Stat::DevicesLinked, counters.devices_linked),
            (Stat::DevicesUnlinked, counters.devices_unlinked),
            (Stat::DevicesDormant, counters.devices_dormant),
            (Stat::DeviceLimits, counters.device_limits),
            (Stat::SettingsUnreadable, counters.settings_unreadable),
            (Stat::DevicesUnreadable, counters.devices_unreadable),
            (Stat::BeginningsRefused, counters.beginnings_refused),
            (Stat::ExpiredUndelivered, counters.expired_undelivered),
        ] {
            self.stats.set(stat, value);
        }
    }
}

fn handle_of(conn: ConnRef) -> Handle {
    Handle { slot: conn.slot, generation: conn.generation }
}

fn write_page(encoding: Encoding, re: u64, page: &RecordPage, out: &mut Vec<u8>) {
    let shared: Vec<Bytes> = page.records.iter().map(|(record, _)| shared(encoding, record)).collect();
    let cmids = page.records.iter().map(|(record, own)| own.then_some(&record.cmid.0));
    wire::page(encoding, re, page.peer.wire_ref(), cmids.zip(&shared), &page.skips, page.next_before_seq, out);
}
