//! Whatever is asked, in whatever order, the embedded store answers as the index does.

use crate::common::TempDir;
use crate::common::records::{GROUP, append, ask, cmid, conversation, device, kind, open, record, small, user};
use bytes::Bytes;
use proptest::prelude::*;
use ringpost_persist::embedded::committer::Committer;
use ringpost_persist::embedded::{Checkpoint, Options, Retention, Stats};
use ringpost_persist::index::Index;
use ringpost_persist::roster::change_body;
use ringpost_persist::{
    Body, DocumentKey, ItemKey, Outcome, Raise, ReadRange, Record, RegisterKey, StoreRequest, content_hash,
};
use ringpost_proto::id::Seq;
use ringpost_proto::v1::change::{Blocked, Change, Created, Left, RoleChange, Updated, Users};
use ringpost_proto::v1::kind::Value;
use std::path::Path;
use std::time::Instant;

/// Three direct ones, and a group.
const CONVERSATIONS: [usize; 4] = [0, 1, 2, GROUP];
/// User 3 is in none of the direct ones.
const USERS: usize = 4;

#[derive(Clone, Debug)]
pub enum Step {
    /// On the head, or beside it; `days` after the record before.
    Append {
        n: usize,
        beside: u64,
        records: u64,
        cmid: u64,
        days: u64,
    },
    /// One record that is no message: 0 to 2 say something about an earlier one (2 takes it back), the others change who
    /// is in the conversation or what it is called.
    Say {
        n: usize,
        what: u8,
        sender: usize,
        about: Seq,
        whom: usize,
    },
    Raise {
        n: usize,
        register: u8,
        user: usize,
        device: usize,
        value: Seq,
    },
    /// Viewer `USERS`: everybody's view.
    Read {
        n: usize,
        viewer: usize,
        from: Seq,
        to: Seq,
        records: u32,
        bytes: u32,
    },
    Before {
        n: usize,
        viewer: usize,
        seq: Seq,
        records: u32,
    },
    Count {
        n: usize,
        user: usize,
        upto: Seq,
    },
    Cas {
        user: usize,
        expected: u64,
        bytes: u8,
    },
    Document {
        user: usize,
    },
    Put {
        user: usize,
        number: u64,
    },
    Take {
        user: usize,
        number: u64,
    },
    Items {
        user: usize,
        limit: u32,
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
    /// Months that are old enough go, where records are relayed.
    Expire,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = proptest::sample::select(&CONVERSATIONS[..]);
    let users = 0..USERS;
    let days = prop_oneof![8 => Just(0_u64), 1 => 1..40_u64];
    let beside = prop_oneof![9 => Just(0_u64), 1 => 1..3_u64];
    let step = prop_oneof![
        8 => (n.clone(), beside, 1..6_u64, 0..40_u64, days)
            .prop_map(|(n, beside, records, cmid, days)| Step::Append { n, beside, records, cmid, days }),
        5 => (n.clone(), 0..10_u8, users.clone(), 0..60_u64, users.clone())
            .prop_map(|(n, what, sender, about, whom)| Step::Say { n, what, sender, about, whom }),
        2 => (n.clone(), users.clone(), 0..60_u64).prop_map(|(n, user, upto)| Step::Count { n, user, upto }),
        2 => (users.clone(), 0..4_u64, 0..9_u8)
            .prop_map(|(user, expected, bytes)| Step::Cas { user, expected, bytes }),
        1 => users.clone().prop_map(|user| Step::Document { user }),
        2 => (users.clone(), 0..9_u64).prop_map(|(user, number)| Step::Put { user, number }),
        2 => (users.clone(), 0..9_u64).prop_map(|(user, number)| Step::Take { user, number }),
        1 => (users.clone(), 0..5_u32).prop_map(|(user, limit)| Step::Items { user, limit }),
        3 => (n.clone(), 0..14_u8, 0..3_usize, 0..3_usize, 0..30_u64)
            .prop_map(|(n, register, user, device, value)| Step::Raise { n, register, user, device, value }),
        4 => (n.clone(), 0..=USERS, 0..40_u64, 0..60_u64, 0..70_u32, prop_oneof![0..4_000_u32, Just(u32::MAX)])
            .prop_map(|(n, viewer, from, to, records, bytes)| Step::Read { n, viewer, from, to, records, bytes }),
        3 => (n.clone(), 0..=USERS, prop_oneof![0..60_u64, Just(Seq::MAX)], 0..70_u32)
            .prop_map(|(n, viewer, seq, records)| Step::Before { n, viewer, seq, records }),
        1 => n.clone().prop_map(|n| Step::Load { n }),
        2 => (n, 0..3_usize, 0..45_u64).prop_map(|(n, user, cmid)| Step::Find { n, user, cmid }),
        1 => (0..3_usize, 0..5_u32).prop_map(|(user, limit)| Step::List { user, limit }),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Seal),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        1 => Just(Step::Expire),
    ];
    proptest::collection::vec(step, 1..160)
}

type ContentHash = fn(Value, Seq, &Body, Option<&Bytes>) -> [u8; 16];

/// A store, and the index that says what it must answer.
pub struct Pair {
    dir: TempDir,
    committer: Option<Committer>,
    sealed: Option<Checkpoint>,
    retention: Retention,
    index: Index,
    /// How content is hashed: builds of before did it in another way, and erased records have another hash of them.
    pub content_hash: ContentHash,
    pub any_erased_hash: bool,
    us: u64,
    ordinals: [u64; GROUP + 1],
}

impl Pair {
    pub fn with(retention: Retention) -> Self {
        let dir = TempDir::new();
        let committer = Some(open(Options { retention, ..small(&dir) }).committer);
        let (index, us, ordinals) = (Index::new(1), 1_764_000_000_000_000, [0; GROUP + 1]);
        Self { dir, committer, sealed: None, retention, index, content_hash, any_erased_hash: false, us, ordinals }
    }

    /// The store of another directory, which is to answer as this one's would.
    pub fn of(self, dir: TempDir) -> Self {
        let committer = Some(open(Options { retention: self.retention, ..small(&dir) }).committer);
        Self { dir, committer, sealed: None, ..self }
    }

    /// Ends the process, as it were: what is in memory only is gone.
    pub fn close(&mut self) -> &Path {
        (self.committer, self.sealed) = (None, None);
        &self.dir
    }

    fn committer(&mut self) -> &mut Committer {
        self.committer.as_mut().unwrap()
    }

    pub fn reopen(&mut self) {
        self.close();
        self.committer = Some(open(Options { retention: self.retention, ..small(&self.dir) }).committer);
    }

    fn checkpoint(&mut self) {
        let stats = Stats::default();
        if let Some(sealed) = self.sealed.take() {
            sealed.run(&stats).unwrap();
        }
        self.committer().checkpoint(Instant::now(), 0).run(&stats).unwrap();
    }

    pub fn step(&mut self, step: &Step) {
        let request = match *step {
            Step::Append { n, beside, records, cmid: first, days } => {
                self.us += days * 86_400_000_000;
                let head = self.index.head(&conversation(n)) + beside;
                let ordinal = self.ordinals[n];
                let records = (0..records).map(|k| {
                    self.us += 7;
                    let sender = user((first + k) as usize % USERS);
                    let record = record(n, head + 1 + k, self.us);
                    let content_hash = (self.content_hash)(record.kind, 0, &record.body, None);
                    Record { content_hash, cmid: cmid((first + k) % 40), sender, ordinal: ordinal + 1 + k, ..record }
                });
                let records: Vec<_> = records.collect();
                self.ordinals[n] += if beside == 0 { records.len() as u64 } else { 0 };
                return self.write(append(n, head, records));
            }
            Step::Say { n, what, sender, about, whom } => return self.say(n, what, sender, about, whom),
            Step::Cas { user: of, expected, bytes } => {
                let bytes = vec![bytes; usize::from(bytes) * 9_000].into();
                return self.write(StoreRequest::Cas { tag: 0, key: DocumentKey::Settings(user(of)), expected, bytes });
            }
            Step::Put { user: of, number } => {
                let bytes = vec![number as u8; 20].into();
                return self.write(StoreRequest::Put { tag: 0, key: Box::new(item(of, number)), bytes });
            }
            Step::Take { user: of, number } => {
                return self.write(StoreRequest::Take { tag: 0, key: Box::new(item(of, number)) });
            }
            Step::Document { user: of } => StoreRequest::ReadDocument { tag: 0, key: DocumentKey::Settings(user(of)) },
            Step::Items { user: of, limit } => {
                StoreRequest::ListItems { tag: 0, user: user(of), device: device(1), limit }
            }
            Step::Count { n, user: of, upto } => {
                StoreRequest::CountRead { tag: 0, conversation: conversation(n), user: user(of), upto }
            }
            Step::Raise { n, register, user: of, device: on, value } => {
                let (id, user, device) = (conversation(n), user(of), device(on));
                let key = match register {
                    0 => RegisterKey::Read(id, user),
                    1 => RegisterKey::Delivered(id, user, device),
                    2 => RegisterKey::TickDelivered(id, user, device),
                    3 => RegisterKey::TickRead(id, user, device),
                    4 => RegisterKey::ReadCounted(id, user),
                    // Registers that are no more: files of earlier versions hold them.
                    5..=8 => return,
                    9 => RegisterKey::ReadShown(id, user),
                    10 => RegisterKey::ToldDelivered(id, user),
                    11 => RegisterKey::ToldRead(id, user),
                    _ => RegisterKey::Missed(id, user, 1 + value % 7 * 4),
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
            Step::Expire => return self.expire(),
            Step::Read { n, viewer, from, to, records, bytes } => {
                let (viewer, range) = ((viewer < USERS).then(|| user(viewer)), ReadRange::From { from, to });
                StoreRequest::ReadLog { tag: 0, conversation: conversation(n), viewer, range, records, bytes }
            }
            Step::Before { n, viewer, seq, records } => {
                let (viewer, range, bytes) = ((viewer < USERS).then(|| user(viewer)), ReadRange::Before(seq), u32::MAX);
                StoreRequest::ReadLog { tag: 0, conversation: conversation(n), viewer, range, records, bytes }
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

    /// Of each log the store says what is gone: nothing of the last month, and all of what is two months old.
    fn expire(&mut self) {
        let Retention::Relay { days } = self.retention else { return };
        self.checkpoint();
        let now_ms = self.us / 1_000;
        self.committer().checkpoint(Instant::now(), now_ms).run(&Stats::default()).unwrap();
        for n in CONVERSATIONS {
            let (id, range) = (conversation(n), ReadRange::From { from: 1, to: Seq::MAX });
            let request = StoreRequest::ReadLog {
                tag: 0,
                conversation: id,
                viewer: None,
                range,
                records: 1_000,
                bytes: u32::MAX,
            };
            let Outcome::LogSlice { gone, .. } = self.committer().trees().read(&request).unwrap().unwrap() else {
                panic!("no slice");
            };
            let upto = gone.last().map_or(0, |(_, to)| *to);
            assert!(gone.iter().all(|(from, _)| *from == 1), "{gone:?}");
            for record in self.index.log(&id) {
                let age_days = (self.us - record.us) / 86_400_000_000;
                assert!(if record.seq <= upto {
                    age_days >= u64::from(days)
                } else {
                    age_days <= u64::from(days) + 31
                });
            }
            self.index.expire(&id, upto);
        }
    }

    fn say(&mut self, n: usize, what: u8, sender: usize, about: Seq, whom: usize) {
        self.us += 7;
        let head = self.index.head(&conversation(n));
        // The room lets only blocks into a direct conversation.
        let what = if n == GROUP || what < 3 { what } else { 9 };
        let name = format!("user{whom}");
        let change = match what {
            3 => Change::Created(Created { name: "group".into(), members: vec![name] }),
            4 => Change::Added(Users { users: vec![name] }),
            5 => Change::Removed(Users { users: vec![name] }),
            6 => Change::Left(Left {}),
            7 => Change::Updated(Updated { name: Some(format!("name {about}")), ..Updated::default() }),
            8 => Change::Role(RoleChange { user: name, role: (about % 2) as i32 }),
            _ => Change::Blocked(Blocked { on: about.is_multiple_of(2) }),
        };
        let (kind, ref_seq, body) = match what {
            0 => (Value::Edit, about, Body::Text("edit".into())),
            1 => (Value::Reaction, about, Body::Text("x".into())),
            2 => (Value::Erase, about, Body::Text("".into())),
            _ => (Value::Change, 0, change_body(change, None, 0)),
        };
        let record = record(n, head + 1, self.us);
        let content_hash = (self.content_hash)(record.kind, 0, &record.body, None);
        let said =
            Record { content_hash, kind, ref_seq, body, sender: user(sender), ordinal: self.ordinals[n], ..record };
        self.write(append(n, head, vec![said]));
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
            small => self.index.write_small(small).unwrap(),
        };
        let found = ask(self.committer(), request);
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    }

    fn compare(&mut self, request: &StoreRequest) -> Outcome {
        let expected = self.index.read(request).unwrap();
        let found = self.committer().trees().read(request).unwrap().unwrap();
        let text = |outcome| if self.any_erased_hash { without_erased_hashes(&text(outcome)) } else { text(outcome) };
        assert_eq!(text(&found), text(&expected), "{request:?}");
        found
    }

    /// All pages.
    fn list(&mut self, of: usize, limit: u32) {
        let mut after = None;
        loop {
            let request = StoreRequest::LoadUser { tag: 0, user: user(of), after, limit, shown: true };
            let Outcome::User(page) = self.compare(&request) else { panic!("no page") };
            after = page.entries.last().map(|entry| (entry.last_id, entry.conversation));
            if !page.more || after.is_none() {
                return;
            }
        }
    }

    pub fn compare_all(&mut self) {
        for n in CONVERSATIONS {
            for viewer in 0..=USERS {
                let (records, bytes) = (u32::MAX, u32::MAX);
                self.step(&Step::Read { n, viewer, from: 1, to: Seq::MAX, records, bytes });
                self.step(&Step::Before { n, viewer, seq: Seq::MAX, records: 3 });
                self.step(&Step::Count { n, user: viewer, upto: 5 });
            }
            self.step(&Step::Load { n });
            assert_eq!(
                self.committer().trees().kind(&conversation(n)).unwrap().is_some(),
                self.index.kind(&conversation(n)).is_some_and(|known| *known == kind(n))
            );
            (0..40).for_each(|cmid| self.step(&Step::Find { n, user: 0, cmid }));
        }
        for user in 0..USERS {
            self.list(user, 2);
            self.step(&Step::Document { user });
            self.step(&Step::Items { user, limit: 100 });
        }
    }
}

fn item(of: usize, number: u64) -> ItemKey {
    ItemKey { user: user(of), device: device(1), number }
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

fn without_erased_hashes(text: &str) -> String {
    let mut parts = text.split("Erased(");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "Erased" + part.split_once(')').unwrap().1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn trees_and_index_give_equal_answers(steps in steps(), relays in any::<bool>()) {
        let retention = if relays { Retention::Relay { days: 30 } } else { Retention::History };
        let mut pair = Pair::with(retention);
        steps.iter().for_each(|step| pair.step(step));
        pair.compare_all();
        pair.reopen();
        pair.compare_all();
        pair.checkpoint();
        pair.reopen();
        pair.compare_all();
    }
}
