//! One world: a node of several shards, its store, the network and the clients, in virtual time, on one thread.
//!
//! Owns: the clock, the queue of what happens next, and every part. Guarantees: the same plan gives the same world, event
//! by event. What goes wrong is an `Err` with the reason, and ends the world.

use super::asks::Question;
use super::clients::Device;
use super::coverage::Coverage;
use super::dice::Dice;
use super::groups::Asked;
use super::network::{Link, LinkId};
use super::node::{MeshMessage, Node};
use super::oracle::{Oracle, Verdict};
use super::plan::{Action, Ask, MS, Plan, SECOND};
use super::queue::Queue;
use ringpost_persist::faulty::{Backup, Faults, FaultyStore};
use ringpost_proto::id::{ConversationId, Seq};
use ringpost_proto::v1;
use ringpost_router::Now;

/// Unix microseconds at which worlds begin.
pub const EPOCH_US: u64 = 1_790_000_000_000_000;
/// How long after the last fault everything must be delivered: two full back-offs, a token, and some.
const SETTLE_US: u64 = 240 * SECOND;

pub enum Event {
    Act(usize),
    DeviceTimer {
        device: usize,
    },
    /// The client's attempt to connect gets through to the node.
    Dialled {
        device: usize,
        life: u32,
    },
    Up {
        link: LinkId,
        number: u64,
        frame: Box<v1::ClientFrame>,
    },
    Down {
        link: LinkId,
        number: u64,
        item: Down,
    },
    Heartbeat {
        link: LinkId,
    },
    /// The router reads on.
    Reread {
        link: LinkId,
    },
    /// The views of those who watch are looked at.
    Look,
    /// Nobody believes any more that this user writes in this room.
    TypingEnds {
        link: LinkId,
        room: usize,
        by: usize,
    },
    /// The node notices that a connection is gone.
    ServerGone {
        link: LinkId,
    },
    /// The client notices.
    ClientGone {
        link: LinkId,
    },
    /// The app has stored everything up to this delivery.
    Stored {
        device: usize,
        life: u32,
        delivery: u64,
    },
    Token {
        device: usize,
        life: u32,
    },
    Comeback {
        device: usize,
        life: u32,
    },
    Mesh {
        epoch: u32,
        to: u16,
        message: MeshMessage,
    },
    RouterTimer {
        epoch: u32,
        shard: u16,
    },
    StoreReady,
    Expires {
        conversation: ConversationId,
        upto: Seq,
    },
    /// A request that found the queue to the store full.
    Refused {
        epoch: u32,
        shard: u16,
        tag: u64,
    },
    NodeUp {
        epoch: u32,
    },
    /// The drained node ends.
    NodeEnds {
        epoch: u32,
        down: u64,
    },
}

pub enum Down {
    Frame(Box<v1::ServerFrame>),
    Heartbeat,
    Close(u16),
}

pub struct World {
    pub plan: Plan,
    pub now: u64,
    /// What the wall clock is ahead by, microseconds.
    pub skew: i64,
    pub dice: Dice,
    queue: Queue<Event>,
    pub node: Node,
    pub store: FaultyStore,
    store_at: u64,
    pub links: Vec<Link>,
    pub devices: Vec<Device>,
    pub oracle: Oracle,
    pub coverage: Coverage,
    pub questions: Vec<Question>,
    pub changes: Vec<Asked>,
    pub backup: Option<Backup>,
    /// How often the store was put back.
    pub restored: u8,
    /// Faults are over: everybody comes back, nothing breaks any more.
    pub settling: bool,
    trace: Option<Vec<String>>,
}

/// What became of a world.
pub struct Report {
    pub coverage: Coverage,
    pub violation: Option<String>,
    pub trace: Vec<String>,
}

impl World {
    pub fn run(plan: Plan, traced: bool) -> Report {
        let mut world = Self::new(plan, traced);
        let verdict = world.live();
        world.coverage.count_store(&world.store.counts());
        let at = world.now;
        let violation = verdict.err().map(|why| format!("at {} ms: {why}", at / MS));
        Report { coverage: world.coverage, violation, trace: world.trace.unwrap_or_default() }
    }

    fn new(plan: Plan, traced: bool) -> Self {
        let oracle = Oracle::new(&plan);
        let mut dice = Dice::new(plan.seed.wrapping_mul(31));
        let device = |at: usize| Device::new(&oracle, at, dice.between(0, SECOND), dice.roll());
        let devices = (0..plan.devices()).map(device).collect();
        Self {
            node: Node::new(&plan, 1, Now { mono_ms: 0, unix_us: EPOCH_US }, 0),
            store: FaultyStore::new(plan.seed, plan.store.clone()),
            store_at: u64::MAX,
            now: 0,
            skew: 0,
            queue: Queue::new(),
            links: Vec::new(),
            devices,
            oracle,
            coverage: Coverage::default(),
            questions: Vec::new(),
            changes: Vec::new(),
            backup: None,
            restored: 0,
            settling: false,
            trace: traced.then(Vec::new),
            dice,
            plan,
        }
    }

    fn live(&mut self) -> Verdict {
        self.link_devices();
        self.look_at_lists();
        if let Some(past) = self.plan.past {
            self.remember(past);
        }
        for at in 0..self.plan.actions.len() {
            let time = self.plan.actions[at].0;
            self.at(time, Event::Act(at));
        }
        for device in 0..self.devices.len() {
            self.arm_device(device);
        }
        self.run_until(self.plan.faults_end)?;
        self.settle()
    }

    /// Faults end: every world drains to all-delivered within bounded time.
    fn settle(&mut self) -> Verdict {
        self.trace(|| "faults end".into());
        self.settling = true;
        let latency_us = self.plan.store.latency_us;
        self.store.set_faults(Faults { latency_us, ..Faults::none() });
        for device in 0..self.devices.len() {
            self.come_back(device)?;
        }
        // What is said now must arrive as well: a session that was forgotten shows.
        for device in 0..self.devices.len() {
            let to = self.dice.pick(self.plan.users.len());
            self.app_sends(device, to, 0)?;
        }
        for group in self.oracle.users.len()..self.oracle.peers() {
            (0..3).try_for_each(|_| self.app_sends(0, group, 0))?;
        }
        let (mut end, mut nights) = (self.now + SETTLE_US, 0);
        loop {
            self.run_until(self.now + 2 * SECOND)?;
            self.oracle.registers_hold(&self.store)?;
            self.change_again(None);
            let missing = self.change_missing().or_else(|| self.oracle.missing(&self.store, self.now));
            let Some(missing) = missing else {
                if !self.sleep(nights)? {
                    break;
                }
                (end, nights) = (self.now + SETTLE_US, nights + 1);
                continue;
            };
            if self.now >= end {
                return Err(format!("liveness: {missing}"));
            }
        }
        self.oracle.logs_hold(&self.store)?;
        // Everybody looks once more.
        for device in 0..self.devices.len() {
            let of = self.dice.pick(self.oracle.peers());
            [Ask::Conversations, Ask::Info].into_iter().try_for_each(|what| self.app_asks(device, of, what))?;
        }
        self.run_until(self.now + 2 * SECOND)
    }

    pub fn run_until(&mut self, end: u64) -> Verdict {
        while let Some((at, event)) = self.queue.pop(end) {
            self.now = at;
            self.happen(event)?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Verdict {
        match event {
            Event::Act(at) => self.act(self.plan.actions[at].1),
            Event::DeviceTimer { device } => self.device_timer(device),
            Event::Dialled { device, life } => self.dialled(device, life),
            Event::Up { link, number, frame } => self.arrive_up(link, number, *frame),
            Event::Down { link, number, item } => self.arrive_down(link, number, item),
            Event::Heartbeat { link } => self.heartbeat(link),
            Event::Reread { link } => self.reread(link),
            Event::Look => self.look(),
            Event::TypingEnds { link, room, by } => self.typing_ends(link, room, by),
            Event::ServerGone { link } => self.server_gone(link),
            Event::ClientGone { link } => self.client_gone(link),
            Event::Stored { device, life, delivery } => self.app_stored(device, life, delivery),
            Event::Token { device, life } => self.new_token(device, life),
            Event::Comeback { device, life } => self.comeback(device, life),
            Event::Mesh { epoch, to, message } => self.mesh_arrives(epoch, to, message),
            Event::RouterTimer { epoch, shard } => self.router_timer(epoch, shard),
            Event::StoreReady => self.store_ready(),
            Event::Expires { conversation, upto } => {
                self.expires(conversation, upto);
                Ok(())
            }
            Event::Refused { epoch, shard, tag } => self.store_refused(epoch, shard, tag),
            Event::NodeUp { epoch } => self.node_up(epoch),
            Event::NodeEnds { epoch, down } => self.node_ends(epoch, down),
        }
    }

    fn act(&mut self, action: Action) -> Verdict {
        self.trace(|| format!("{action:?}"));
        self.coverage.count_action(&action);
        match action {
            Action::Send { device, to, bytes } => self.app_sends(device, to, bytes),
            Action::SendSliced { device, to, key, flaw } => self.app_sends_sliced(device, to, key, flaw),
            Action::Read { device, of } => self.app_reads(device, of),
            Action::Say { device, of, said, fit } => self.app_says(device, of, said, fit),
            Action::Type { device, of, composing } => {
                self.app_types(device, of, composing);
                Ok(())
            }
            Action::Change { device, group, fit, turn } => self.app_changes(device, group, fit, turn),
            Action::Ask { device, of, what } => self.app_asks(device, of, what),
            Action::Revoke { device } => self.revoke(device),
            Action::Crash { down } => self.crash(down),
            Action::Backup => self.back_up(),
            Action::Restore { down } => self.restore(down),
            Action::Drain { down } => self.drain(down),
            Action::Cut { device } => self.cut_device(device),
            Action::Blackhole { device } => self.blackhole(device),
            Action::Hop { device } => self.hop(device),
            Action::Stall { device, long } => self.stall(device, long),
            Action::Restart { device, away } => self.restart_device(device, away),
            Action::Jump { ms } => {
                self.skew += ms * 1_000;
                Ok(())
            }
            Action::Full { long } => {
                self.node.full_until = self.now + long;
                Ok(())
            }
            Action::Expire { device, of } => {
                self.expire_soon(device, of);
                Ok(())
            }
        }
    }

    // ---- for all parts ----

    pub fn at(&mut self, at: u64, event: Event) {
        self.queue.push(at.max(self.now), event);
    }

    /// The store has something to do earlier than was known.
    pub fn arm_store(&mut self) {
        if let Some(at) = self.store.next_ready_us().filter(|at| *at < self.store_at) {
            self.store_at = at;
            self.at(at, Event::StoreReady);
        }
    }

    pub fn store_fired(&mut self) {
        self.store_at = u64::MAX;
    }

    pub fn now_ms(&self) -> u64 {
        self.now / MS
    }

    /// The clocks of the node.
    pub fn clocks(&self) -> Now {
        let unix_us = (EPOCH_US + self.now).saturating_add_signed(self.skew);
        Now { mono_ms: self.now_ms(), unix_us }
    }

    pub fn trace(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9.3} ms  {}", self.now as f64 / 1_000.0, what()));
        }
    }
}
