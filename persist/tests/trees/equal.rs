//! Whatever is asked, in whatever order, the embedded store answers as the index does.

use crate::common::TempDir;
use crate::common::records::{append, ask, cmid, conversation, device, kind, open, record, small, user};
use proptest::prelude::*;
use ringpost_persist::embedded::committer::Committer;
use ringpost_persist::embedded::{Checkpoint, Stats};
use ringpost_persist::index::Index;
use ringpost_persist::{Outcome, Raise, ReadRange, Record, RegisterKey, StoreRequest};
use ringpost_proto::id::Seq;
use std::time::Instant;

const CONVERSATIONS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// On the head, or beside it; `days` after the record before.
    Append {
        n: usize,
        beside: u64,
        records: u64,
        cmid: u64,
        days: u64,
    },
    Raise {
        n: usize,
        register: u8,
        user: usize,
        device: usize,
        value: Seq,
    },
    Read {
        n: usize,
        from: Seq,
        to: Seq,
        records: u32,
        bytes: u32,
    },
    Before {
        n: usize,
        seq: Seq,
        records: u32,
    },
    Load {
        n: usize,
    },
    Find {
        n: usize,
        user: usize,
        cmid: u64,
    },
    List {
        user: usize,
        limit: u32,
    },
    Checkpoint,
    /// Closed, and written later or never.
    Seal,
    Compact,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = 0..CONVERSATIONS;
    let days = prop_oneof![8 => Just(0_u64), 1 => 1..40_u64];
    let beside = prop_oneof![9 => Just(0_u64), 1 => 1..3_u64];
    let step = prop_oneof![
        8 => (n.clone(), beside, 1..6_u64, 0..40_u64, days)
            .prop_map(|(n, beside, records, cmid, days)| Step::Append { n, beside, records, cmid, days }),
        3 => (n.clone(), 0..4_u8, 0..3_usize, 0..3_usize, 0..30_u64)
            .prop_map(|(n, register, user, device, value)| Step::Raise { n, register, user, device, value }),
        2 => (n.clone(), 0..40_u64, 0..60_u64, 0..70_u32, prop_oneof![0..4_000_u32, Just(u32::MAX)])
            .prop_map(|(n, from, to, records, bytes)| Step::Read { n, from, to, records, bytes }),
        1 => (n.clone(), prop_oneof![0..60_u64, Just(Seq::MAX)], 0..70_u32)
            .prop_map(|(n, seq, records)| Step::Before { n, seq, records }),
        1 => n.clone().prop_map(|n| Step::Load { n }),
        2 => (n, 0..3_usize, 0..45_u64).prop_map(|(n, user, cmid)| Step::Find { n, user, cmid }),
        1 => (0..3_usize, 0..5_u32).prop_map(|(user, limit)| Step::List { user, limit }),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Seal),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..160)
}

struct Pair {
    dir: TempDir,
    committer: Option<Committer>,
    sealed: Option<Checkpoint>,
    index: Index,
    us: u64,
}

impl Pair {
    fn new() -> Self {
        let dir = TempDir::new();
        let committer = Some(open(small(&dir)).committer);
        Self { dir, committer, sealed: None, index: Index::new(1), us: 1_764_000_000_000_000 }
    }

    fn committer(&mut self) -> &mut Committer {
        self.committer.as_mut().unwrap()
    }

    fn reopen(&mut self) {
        (self.committer, self.sealed) = (None, None);
        self.committer = Some(open(small(&self.dir)).committer);
    }

    fn checkpoint(&mut self) {
        let stats = Stats::default();
        if let Some(sealed) = self.sealed.take() {
            sealed.run(&stats).unwrap();
        }
        self.committer().checkpoint(Instant::now(), 0).run(&stats).unwrap();
    }

    fn step(&mut self, step: &Step) {
        let request = match *step {
            Step::Append { n, beside, records, cmid: first, days } => {
                self.us += days * 86_400_000_000;
                let head = self.index.head(&conversation(n)) + beside;
                let records = (0..records).map(|k| {
                    self.us += 7;
                    Record { cmid: cmid((first + k) % 40), ..record(n, head + 1 + k, self.us) }
                });
                let request = append(n, head, records.collect());
                self.write(request);
                return;
            }
            Step::Raise { n, register, user: of, device: on, value } => {
                let (id, user, device) = (conversation(n), user(of), device(on));
                let key = match register {
                    0 => RegisterKey::Read(id, user),
                    1 => RegisterKey::Delivered(id, user, device),
                    2 => RegisterKey::TickDelivered(id, user, device),
                    _ => RegisterKey::TickRead(id, user, device),
                };
                let raises = vec![Raise { key, value, stamp: 1 }];
                self.write(StoreRequest::Raise { tag: 0, raises });
                return;
            }
            Step::Checkpoint => return self.checkpoint(),
            Step::Seal => {
                if self.sealed.is_none() {
                    self.sealed = self.committer().upkeep(Instant::now(), 0);
                }
                return;
            }
            Step::Compact => {
                assert!(self.committer().trees().compact().errors.is_empty());
                return;
            }
            Step::Reopen => return self.reopen(),
            Step::Read { n, from, to, records, bytes } => {
                let range = ReadRange::From { from, to };
                StoreRequest::ReadLog { tag: 0, conversation: conversation(n), range, records, bytes }
            }
            Step::Before { n, seq, records } => {
                let range = ReadRange::Before(seq);
                StoreRequest::ReadLog { tag: 0, conversation: conversation(n), range, records, bytes: u32::MAX }
            }
            Step::Load { n } => StoreRequest::LoadConversation { tag: 0, conversation: conversation(n) },
            Step::Find { n, user: of, cmid: wanted } => StoreRequest::FindCmid {
                tag: 0,
                conversation: conversation(n),
                sender: user(of),
                device: device(0),
                cmid: cmid(wanted),
            },
            Step::List { user: of, limit } => return self.list(of, limit),
        };
        self.compare(&request);
    }

    fn write(&mut self, request: StoreRequest) {
        if self.committer().is_stalled() {
            let sealed = self.sealed.take();
            sealed.unwrap().run(&Stats::default()).unwrap();
        }
        let expected = match &request {
            StoreRequest::Append { conversation, kind, expected_head, records, .. } => {
                self.index.append(*conversation, kind, *expected_head, records)
            }
            StoreRequest::Raise { raises, .. } => {
                raises.iter().for_each(|raise| {
                    self.index.raise(raise);
                });
                Outcome::Raised
            }
            _ => return,
        };
        let found = ask(self.committer(), request);
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    }

    fn compare(&mut self, request: &StoreRequest) -> Outcome {
        let expected = self.index.read(request).unwrap();
        let found = self.committer().trees().read(request).unwrap().unwrap();
        assert_eq!(text(&found), text(&expected), "{request:?}");
        found
    }

    /// All pages.
    fn list(&mut self, of: usize, limit: u32) {
        let mut after = None;
        loop {
            let request = StoreRequest::LoadUser { tag: 0, user: user(of), after, limit };
            let Outcome::User(page) = self.compare(&request) else { panic!("no page") };
            after = page.entries.last().map(|entry| (entry.last.id, entry.conversation));
            if !page.more || after.is_none() {
                return;
            }
        }
    }

    fn compare_all(&mut self) {
        for n in 0..CONVERSATIONS {
            let range = ReadRange::From { from: 1, to: Seq::MAX };
            let (records, bytes) = (u32::MAX, u32::MAX);
            self.compare(&StoreRequest::ReadLog { tag: 0, conversation: conversation(n), range, records, bytes });
            self.step(&Step::Load { n });
            assert_eq!(
                self.committer().trees().kind(&conversation(n)).unwrap().is_some(),
                self.index.kind(&conversation(n)).is_some_and(|known| *known == kind(n))
            );
            (0..40).for_each(|cmid| self.step(&Step::Find { n, user: 0, cmid }));
        }
        (0..3).for_each(|user| self.list(user, 2));
    }
}

/// Lists that have no order are brought into one.
fn text(outcome: &Outcome) -> String {
    let mut outcome = outcome.clone();
    match &mut outcome {
        Outcome::Conversation(Some(state)) => state.registers.sort_by_key(|register| format!("{register:?}")),
        Outcome::User(page) => page.entries.iter_mut().for_each(|entry| {
            entry.delivered.sort_by_key(|row| row.0.as_str().to_owned());
            entry.ticks.sort_by_key(|row| row.0.as_str().to_owned());
        }),
        _ => {}
    }
    format!("{outcome:?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn trees_and_index_give_equal_answers(steps in steps()) {
        let mut pair = Pair::new();
        steps.iter().for_each(|step| pair.step(step));
        pair.compare_all();
        pair.reopen();
        pair.compare_all();
        pair.checkpoint();
        pair.reopen();
        pair.compare_all();
    }
}
