//! What worlds went through, and how much of it a run must have seen to count.

use super::plan::Action;
use ringpost_persist::faulty::FaultCounts;
use ringpost_persist::{Outcome, Raise, RegisterKey, StoreRequest};
use ringpost_proto::close::CloseCode;
use ringpost_proto::v1::{self, client_frame::Request, server_frame::Answer};
use ringpost_router::Output;
use std::collections::BTreeMap;

/// Kinds of fault: each in at least [`FAULT_PERCENT`] of the worlds.
const FAULTS: [&str; 23] = [
    "records expired",
    "store restored",
    "refused: too many beginnings",
    "crash",
    "router read back",
    "drain",
    "cut",
    "blackhole",
    "hop",
    "stall",
    "client process died",
    "clock jump",
    "store queue full",
    "store slow",
    "store unavailable",
    "store without space",
    "append unknown, landed",
    "append unknown, lost",
    "append unknown, late",
    "append lost in a crash",
    "raise lost in a crash",
    "closed 4500",
    "closed 4502",
];
const FAULT_PERCENT: usize = 5;

/// Transitions that the boundary shows: each in at least one world of a run.
const TRANSITIONS: [&str; 92] = [
    "expired undelivered",
    "sliced: sent",
    "sliced: key distribution",
    "sliced: skipped",
    "sliced: again",
    "sliced: missing",
    "sliced: extra",
    "sliced: stale",
    "refused: device mismatch",
    "restored: reset",
    "restored: sent and lost",
    "slept until the limit was over",
    "device: comes later",
    "device: begins later",
    "device: unlinked",
    "device: revoked",
    "device: linked again",
    "closed 4503",
    "read hidden",
    "presence: online",
    "presence: offline",
    "presence: not told",
    "settings",
    "edited",
    "erased",
    "reacted",
    "shown as erased",
    "blocked",
    "unblocked",
    "tick with exclusions",
    "typing: composing",
    "typing: paused",
    "record info",
    "unread told",
    "group: created",
    "group: added",
    "group: removed",
    "group: left",
    "group: role",
    "group: renamed",
    "refused: no member",
    "refused: forbidden",
    "refused: stale epoch",
    "refused: not found",
    "closed 4000",
    "closed 4002",
    "closed 4504",
    "welcome",
    "resumed",
    "synced",
    "client stopped",
    "token renewed",
    "sent",
    "sent as a duplicate",
    "expired",
    "request: lookup",
    "store: found",
    "conflict",
    "question answered",
    "question refused for now",
    "refused while down",
    "input through the mesh",
    "output: frame",
    "output: sent",
    "output: push",
    "output: page",
    "output: close",
    "output: stop reading",
    "output: read on",
    "output: store",
    "output: envelope",
    "output: established",
    "request: hello",
    "request: send",
    "request: ack",
    "request: read",
    "request: fetch",
    "request: renew",
    "answer: tick",
    "answer: read mark",
    "answer: renew soon",
    "late append landed",
    "answer: ok",
    "answer: error",
    "answer: skip",
    "store: appended",
    "store: conflict",
    "store: unknown",
    "store: unavailable",
    "store: full",
    "store: conversation",
    "store: user",
];

/// What one world went through.
#[derive(Default)]
pub struct Coverage {
    pub sends: u64,
    pub crashes: u64,
    marks: BTreeMap<&'static str, u64>,
}

impl Coverage {
    pub fn mark(&mut self, what: &'static str) {
        *self.marks.entry(what).or_default() += 1;
        self.crashes += u64::from(what == "crash");
    }

    pub fn count_action(&mut self, action: &Action) {
        if matches!(action, Action::Jump { .. }) {
            self.mark("clock jump");
        }
    }

    /// Why a send or a change failed for good.
    pub fn count_refusal(&mut self, code: v1::code::Value) {
        use v1::code::Value as Code;
        self.mark(match code {
            Code::Expired => "expired",
            Code::NotMember => "refused: no member",
            Code::Forbidden => "refused: forbidden",
            Code::StaleGroup => "refused: stale epoch",
            Code::NotFound => "refused: not found",
            Code::DeviceMismatch => "refused: device mismatch",
            _ => "refused otherwise",
        });
    }

    /// What kind of message was sent.
    pub fn count_sent(&mut self, send: &v1::Send, duplicate: bool) {
        use v1::kind::Value as Kind;
        self.mark(if duplicate { "sent as a duplicate" } else { "sent" });
        match send.kind() {
            Kind::KeyDistribution => self.mark("sliced: key distribution"),
            _ if !send.slices.is_empty() => self.mark("sliced: sent"),
            Kind::Edit => self.mark("edited"),
            Kind::Erase => self.mark("erased"),
            Kind::Reaction => self.mark("reacted"),
            _ => {}
        }
    }

    pub fn count_store(&mut self, counts: &FaultCounts) {
        let kinds = [
            ("store slow", counts.slow),
            ("store unavailable", counts.unavailable),
            ("store without space", counts.full),
            ("append unknown, landed", counts.unknown_landed),
            ("append unknown, lost", counts.unknown_lost),
            ("append unknown, late", counts.unknown_late),
            ("late append landed", counts.late_landed),
            ("append lost in a crash", counts.lost_appends),
            ("raise lost in a crash", counts.lost_raises),
        ];
        kinds.into_iter().filter(|(_, count)| *count > 0).for_each(|(kind, _)| self.mark(kind));
    }

    pub fn count_output(&mut self, output: &Output) {
        self.mark(match output {
            Output::Frame { .. } => "output: frame",
            Output::Sent { .. } => "output: sent",
            Output::PushRecord { .. } => "output: push",
            Output::Page { .. } => "output: page",
            Output::Close { .. } => "output: close",
            Output::Reading { on: false, .. } => "output: stop reading",
            Output::Reading { on: true, .. } => "output: read on",
            Output::Store(_) => "output: store",
            Output::Envelope { .. } => "output: envelope",
            Output::Established { .. } => "output: established",
        });
    }

    pub fn count_request(&mut self, frame: &v1::ClientFrame) {
        let mark = match &frame.request {
            Some(Request::Hello(_)) => "request: hello",
            Some(Request::Send(_)) => "request: send",
            Some(Request::Ack(_)) => "request: ack",
            Some(Request::Read(_)) => "request: read",
            Some(Request::Fetch(_)) => "request: fetch",
            Some(Request::Lookup(_)) => "request: lookup",
            Some(Request::Renew(_)) => "request: renew",
            _ => return,
        };
        self.mark(mark);
    }

    pub fn count_frame(&mut self, frame: &v1::ServerFrame) {
        let mark = match &frame.answer {
            Some(Answer::Push(push)) => match push.item {
                Some(v1::push::Item::Tick(ref tick)) => {
                    if !tick.excluded.is_empty() {
                        self.mark("tick with exclusions");
                    }
                    "answer: tick"
                }
                Some(v1::push::Item::Record(ref record)) if record.erased => "shown as erased",
                Some(v1::push::Item::ReadMark(_)) => "answer: read mark",
                _ => return,
            },
            Some(Answer::RenewSoon(_)) => "answer: renew soon",
            Some(Answer::Ok(_)) => "answer: ok",
            Some(Answer::Error(_)) => "answer: error",
            Some(Answer::ConversationPage(page)) if page.entries.iter().any(|entry| entry.unread > 0) => "unread told",
            Some(Answer::Page(page)) if !page.skips.is_empty() => "answer: skip",
            _ => return,
        };
        self.mark(mark);
    }

    pub fn count_answer(&mut self, outcome: &Outcome) {
        let mark = match outcome {
            Outcome::Appended { .. } => "store: appended",
            Outcome::Conflict { .. } => "store: conflict",
            Outcome::Unknown => "store: unknown",
            Outcome::Unavailable => "store: unavailable",
            Outcome::Full => "store: full",
            Outcome::Conversation(_) => "store: conversation",
            Outcome::Found(_) => "store: found",
            Outcome::User(_) => "store: user",
            _ => return,
        };
        self.mark(mark);
    }

    pub fn count_missed(&mut self, request: &StoreRequest) {
        let missed = |raise: &Raise| matches!(raise.key, RegisterKey::Missed(..));
        if matches!(request, StoreRequest::Raise { raises, .. } if raises.iter().any(missed)) {
            self.mark("expired undelivered");
        }
    }

    pub fn count_close(&mut self, code: u16) {
        let known = CloseCode::ALL.into_iter().find(|known| *known as u16 == code);
        self.mark(match known {
            Some(CloseCode::Draining) => "closed 4000",
            Some(CloseCode::SlowConsumer) => "closed 4002",
            Some(CloseCode::Overloaded) => "closed 4003",
            Some(CloseCode::Replaced) => "closed 4500",
            Some(CloseCode::TokenExpired) => "closed 4502",
            Some(CloseCode::DeviceRevoked) => "closed 4503",
            Some(CloseCode::DeviceInUse) => "closed 4504",
            _ => "closed otherwise",
        });
    }
}

/// The coverage of a run.
#[derive(Default)]
pub struct Total {
    worlds: usize,
    sends: Vec<u64>,
    crashes: Vec<u64>,
    /// In how many worlds.
    marks: BTreeMap<&'static str, usize>,
}

impl Total {
    pub fn add(&mut self, coverage: &Coverage) {
        self.worlds += 1;
        self.sends.push(coverage.sends);
        self.crashes.push(coverage.crashes);
        coverage.marks.keys().for_each(|mark| *self.marks.entry(mark).or_default() += 1);
    }

    pub fn merge(&mut self, other: Total) {
        self.worlds += other.worlds;
        self.sends.extend(other.sends);
        self.crashes.extend(other.crashes);
        other.marks.into_iter().for_each(|(mark, count)| *self.marks.entry(mark).or_default() += count);
    }

    /// What the run did not see enough of.
    pub fn gaps(&mut self) -> Vec<String> {
        let mut gaps = Vec::new();
        let (sends, crashes) = (median(&mut self.sends), median(&mut self.crashes));
        if sends < 200 || crashes < 2 {
            gaps.push(format!("the median world has {sends} sends and {crashes} crashes"));
        }
        let seen = |mark: &str| self.marks.get(mark).copied().unwrap_or(0);
        for fault in FAULTS {
            if seen(fault) * 100 < self.worlds * FAULT_PERCENT {
                gaps.push(format!("{fault}: in {} of {} worlds", seen(fault), self.worlds));
            }
        }
        let never = TRANSITIONS.into_iter().filter(|mark| seen(mark) == 0);
        gaps.extend(never.map(|mark| format!("{mark}: never")));
        gaps
    }

    pub fn print(&mut self) {
        let (sends, crashes) = (median(&mut self.sends), median(&mut self.crashes));
        println!("{} worlds, median {sends} sends and {crashes} crashes; of 100 worlds:", self.worlds);
        for (mark, count) in &self.marks {
            println!("  {:>6.2}  {mark}", *count as f64 * 100.0 / self.worlds as f64);
        }
    }
}

fn median(numbers: &mut [u64]) -> u64 {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or(0)
}
