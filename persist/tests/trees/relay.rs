//! The store that relays keeps the contract, too: what it drops by the month is gone for every answer.

use crate::common::TempDir;
use crate::common::records::{open, options};
use ringpost_persist::conformance::{self, Driver};
use ringpost_persist::embedded::committer::Committer;
use ringpost_persist::embedded::{Options, Retention, Stats};
use ringpost_persist::{StoreAnswer, StoreRequest};
use ringpost_proto::id::{ConversationId, Seq};
use std::collections::VecDeque;
use std::time::Instant;

struct Relay {
    dir: TempDir,
    committer: Option<Committer>,
    answers: VecDeque<StoreAnswer>,
}

impl Relay {
    fn new() -> Self {
        let mut relay = Self { dir: TempDir::new(), committer: None, answers: VecDeque::new() };
        relay.reopen();
        relay
    }

    fn committer(&mut self) -> &mut Committer {
        self.committer.as_mut().unwrap()
    }
}

impl Driver for Relay {
    fn submit(&mut self, request: StoreRequest) {
        let mut answers = Vec::new();
        self.committer().stage(0, request);
        self.committer().commit(&mut answers).unwrap();
        self.answers.extend(answers.into_iter().map(|(_, answer)| answer));
    }

    fn answer(&mut self) -> StoreAnswer {
        self.answers.pop_front().unwrap()
    }

    fn reopen(&mut self) {
        self.committer = None;
        let retention = Retention::Relay { days: 30 };
        self.committer = Some(open(Options { retention, ..options(&self.dir, 1) }).committer);
    }

    fn expire(&mut self, _: &ConversationId, _: Seq, unix_ms: u64) -> bool {
        self.committer().upkeep(Instant::now(), unix_ms).unwrap().run(&Stats::default()).unwrap();
        true
    }
}

#[test]
fn it_passes_the_conformance_suite() {
    conformance::run(|| Box::new(Relay::new()));
}
