//! The judge: a scripted server and the scripts that lead a client through it, as one state machine.
//!
//! Contract: feed one input with its time (`input`, `timeout`), then drain `poll`, and call `timeout` at
//! `next_timeout_ms`. The scripts are futures, so that each reads from top to bottom; nothing but an input or a time wakes
//! them, and nothing runs them but the call that brought it.

use super::rules::{self, Report, Rule};
use super::scripts;
use super::world::{Event, Input, Now, Output, World, user};
use ringpost_proto::v1::{self, push::Item, record::Body, server_frame::Answer};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// How to check.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long to wait for a client to connect or to send, milliseconds.
    pub patience_ms: u64,
    /// How long a client that must not come back has to stay away, milliseconds.
    pub quiet_ms: u64,
    /// Kill it and see whether it has what it acknowledged.
    pub durable: bool,
}

pub struct Judge {
    world: Rc<RefCell<World>>,
    script: Pin<Box<dyn Future<Output = ()>>>,
    done: bool,
}

impl Judge {
    pub fn new(now: Now, options: Options) -> Self {
        let world = Rc::new(RefCell::new(World::new(now)));
        let stage = Stage { world: world.clone(), options };
        let mut judge = Self { world, script: Box::pin(scripts::all(stage)), done: false };
        judge.run();
        judge
    }

    pub fn input(&mut self, now: Now, input: Input) {
        self.world.borrow_mut().input(now, input);
        self.run();
    }

    pub fn timeout(&mut self, now: Now) {
        self.world.borrow_mut().timeout(now);
        self.run();
    }

    pub fn poll(&mut self) -> Option<Output> {
        self.world.borrow_mut().outputs.pop_front()
    }

    pub fn next_timeout_ms(&self) -> Option<u64> {
        self.world.borrow().next_timeout_ms()
    }

    pub fn is_done(&self) -> bool {
        self.done
    }

    pub fn report(&self) -> Report {
        self.world.borrow().report.clone()
    }

    fn run(&mut self) {
        if !self.done {
            let mut context = Context::from_waker(Waker::noop());
            self.done = self.script.as_mut().poll(&mut context).is_ready();
        }
    }
}

/// What scripts see of the world.
pub struct Stage {
    world: Rc<RefCell<World>>,
    pub options: Options,
}

/// The client is not where the script needs it; the rules of the script stay unshown.
pub struct Absent;

impl Stage {
    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.world.borrow_mut())
    }

    pub fn now_ms(&self) -> u64 {
        self.with(|world| world.now.ms)
    }

    pub fn say(&self, line: impl Into<String>) {
        self.with(|world| world.outputs.push_back(Output::Say(line.into())));
    }

    /// The next event until a time; `None`: that has come.
    fn next(&self, at_ms: u64) -> impl Future<Output = Option<Event>> {
        std::future::poll_fn(move |_| {
            let mut world = self.world.borrow_mut();
            world.wake_ms = None;
            if let Some(event) = world.events.pop_front() {
                return Poll::Ready(Some(event));
            }
            if world.now.ms >= at_ms {
                return Poll::Ready(None);
            }
            world.wake_ms = Some(at_ms);
            Poll::Pending
        })
    }

    /// The first event within `ms` that `wanted` makes something of.
    pub async fn until<T>(&self, ms: u64, wanted: impl Fn(&Event) -> Option<T>) -> Option<T> {
        let at_ms = self.now_ms() + ms;
        while let Some(event) = self.next(at_ms).await {
            if let Some(found) = wanted(&event) {
                return Some(found);
            }
        }
        None
    }

    /// Lets time pass.
    pub async fn pause(&self, ms: u64) {
        self.until(ms, |_| None::<()>).await;
    }

    /// The current session, waited for.
    pub async fn session(&self) -> Result<u64, Absent> {
        if let Some(conn) = self.with(|world| world.current) {
            return Ok(conn);
        }
        let wanted = |event: &Event| if let Event::Session(conn) = event { Some(*conn) } else { None };
        self.until(self.options.patience_ms, wanted).await.ok_or(Absent)
    }

    /// A send that was never seen before; from now on none is answered but by the script.
    pub async fn held_send(&self) -> Result<(u64, v1::Send), Absent> {
        self.session().await?;
        self.with(|world| world.hold = true);
        self.with(|world| world.events.clear());
        let wanted = |event: &Event| match event {
            Event::Send { id, send } => Some((*id, send.clone())),
            _ => None,
        };
        self.until(self.options.patience_ms, wanted).await.ok_or(Absent)
    }

    /// The same send once more.
    pub async fn again(&self, ms: u64, send: &v1::Send) -> Option<u64> {
        let id = &send.client_message_id;
        let same = |event: &Event| match event {
            Event::Send { id: re, send } if send.client_message_id == *id => Some(*re),
            _ => None,
        };
        self.until(ms, same).await
    }

    /// Ends the session so that the client comes back at once, and waits for it.
    pub async fn reconnect(&self) -> Result<u64, Absent> {
        self.drain(100).await?;
        self.session().await
    }

    /// Says drain and closes with 4000.
    pub async fn drain(&self, reconnect_after_ms: u64) -> Result<(), Absent> {
        let conn = self.session().await?;
        self.with(|world| {
            let drain = v1::Drain { reconnect_after_ms, deadline_ms: 0 };
            world.answer(conn, 0, Answer::Drain(drain));
            world.close(conn, 4000, "draining");
            world.forget_held();
            world.events.clear();
        });
        Ok(())
    }

    /// Kills the client and starts it anew.
    pub fn restart(&self) {
        self.with(|world| {
            for conn in world.conns.keys().copied().collect::<Vec<_>>() {
                world.close(conn, 1001, "");
            }
            world.outputs.push_back(Output::Restart);
            world.events.clear();
        });
    }

    /// A record of the log, as the other side wrote it.
    pub fn write(&self, log: &str, seq: u64) {
        self.with(|world| {
            let record = v1::Record {
                conversation: Some(user(log)),
                seq,
                id: seq,
                from: log.to_owned(),
                from_device: "judge".to_owned(),
                body: Some(Body::Text(format!("{log} {seq}"))),
                server_time_ms: world.now.unix_ms,
                ..Default::default()
            };
            world.logs.entry(log.to_owned()).or_default().insert(seq, Some(record));
        });
    }

    /// Pushes a record of the log on the session; gives the number of the push.
    pub fn push(&self, conn: u64, log: &str, seq: u64) -> u64 {
        let record = self.with(|world| world.logs.get(log)?.get(&seq).cloned().flatten());
        self.push_item(conn, record.map(Item::Record))
    }

    pub fn push_item(&self, conn: u64, item: Option<Item>) -> u64 {
        let n = self.number(conn);
        self.with(|world| world.answer(conn, 0, Answer::Push(v1::Push { n, item })));
        n
    }

    /// The number of the next push.
    pub fn number(&self, conn: u64) -> u64 {
        self.with(|world| {
            world.conns.get_mut(&conn).map_or(0, |known| {
                known.pushed += 1;
                known.pushed
            })
        })
    }

    pub async fn acked(&self, n: u64) -> bool {
        let reached = |event: &Event| matches!(event, Event::Ack(push) if *push >= n).then_some(());
        self.until(10_000, reached).await.is_some()
    }

    /// Writes and pushes records one after the other, and waits for the ack of the last.
    pub async fn pushed(&self, conn: u64, log: &str, seqs: std::ops::RangeInclusive<u64>) -> bool {
        let mut last = 0;
        for seq in seqs {
            self.write(log, seq);
            last = self.push(conn, log, seq);
        }
        self.acked(last).await
    }

    /// What hello of this connection said of a conversation.
    pub fn have(&self, conn: u64, log: &str) -> Option<u64> {
        let conversation = Some(user(log));
        self.with(|world| {
            let have = &world.conns.get(&conn)?.have;
            have.iter().find(|position| position.conversation == conversation).map(|position| position.seq)
        })
    }

    /// One rule from one observation.
    pub fn judge(&self, rule: Rule, kept: bool, expected: &str, seen: impl Into<String>) {
        self.with(|world| match kept {
            true => world.report.kept(rule),
            false => world.report.broken(rule, expected, seen),
        });
    }

    pub fn acks(&self, rule: Rule, acked: bool) {
        self.judge(rule, acked, "an ack within 10 s", "none");
    }

    /// What a whole run never contradicted.
    pub fn unbroken(&self, rules: &[Rule]) {
        self.with(|world| rules.iter().for_each(|rule| world.report.kept(*rule)));
    }
}

/// Kept by never being broken, once sends were answered.
pub const WATCHED: &[Rule] = &[rules::SENT_ENDS, rules::DUPLICATE, rules::FINAL_ERROR];
