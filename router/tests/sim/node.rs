//! The node: one router a shard, the port to the store, and its life: crash, drain, start. With `edge` it does what
//! gateway/ does, without its sockets.

use super::limit::Begun;
use super::network::LinkId;
use super::oracle::Verdict;
use super::plan::{MS, Plan, SECOND};
use super::world::{Event, World};
use ringpost_persist::{Outcome, StoreAnswer, StoreRequest};
use ringpost_proto::id::ClientMessageId;
use ringpost_router::envelope::Envelope;
use ringpost_router::{ConnRef, Input, Now, RAISES, Rate, Router, Settings, ShardId};
use std::collections::BTreeMap;

pub struct Node {
    /// Counts the processes; what belongs to an earlier one is lost.
    pub epoch: u32,
    pub up: bool,
    pub draining: bool,
    pub routers: Vec<Router>,
    /// When each router wants to be woken.
    pub timers: Vec<u64>,
    /// When the last message of each pair of shards arrives, by from * shards + to.
    pub mesh_last: Vec<u64>,
    /// The next slot of each shard's connections.
    slots: Vec<u32>,
    pub conns: BTreeMap<(ShardId, u32), LinkId>,
    /// What the store was asked by whom, under which tag.
    asked: BTreeMap<u64, (ShardId, u64)>,
    next_tag: u64,
    /// The queue to the store takes nothing before this time.
    pub full_until: u64,
    /// Sends on their way: what SENT would answer.
    pub sends: BTreeMap<(LinkId, u64), (usize, ClientMessageId)>,
    /// Ranges asked for: of which conversation.
    pub fetches: BTreeMap<(LinkId, u64), usize>,
    /// Who began what.
    pub begun: Begun,
    /// The last record pushed to each connection, by peer.
    pub pushed: BTreeMap<(LinkId, usize), u64>,
    /// The last tick of each connection and peer: they never go back.
    pub ticks: BTreeMap<(LinkId, usize), (u64, u64)>,
}

pub enum MeshMessage {
    Envelope(Box<Envelope>),
    Input(Box<Input>),
}

impl Node {
    pub fn new(plan: &Plan, epoch: u32, now: Now, restored: u8) -> Self {
        let shards = usize::from(plan.shards);
        Self {
            epoch,
            up: true,
            draining: false,
            routers: (0..plan.shards).map(|shard| Router::new(settings(plan, shard, epoch, restored), now)).collect(),
            timers: vec![u64::MAX; shards],
            mesh_last: vec![0; shards * shards],
            slots: vec![0; shards],
            conns: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_tag: u64::from(epoch) << 40,
            full_until: 0,
            sends: BTreeMap::new(),
            fetches: BTreeMap::new(),
            begun: Begun::default(),
            pushed: BTreeMap::new(),
            ticks: BTreeMap::new(),
        }
    }

    /// A connection on `shard`.
    pub fn accept(&mut self, shard: ShardId, link: LinkId) -> ConnRef {
        let slot = &mut self.slots[usize::from(shard)];
        *slot += 1;
        let conn = ConnRef { shard, slot: *slot, generation: self.epoch };
        self.conns.insert((shard, conn.slot), link);
        conn
    }
}

/// `restored`: how often the store was put back.
fn settings(plan: &Plan, shard: ShardId, epoch: u32, restored: u8) -> Settings {
    Settings {
        shard,
        shards: plan.shards,
        node: "sim".into(),
        worker: shard,
        store_incarnation: [7 + restored; 16],
        heartbeat_ms: 30_000,
        window_pushes: plan.window_pushes,
        window_bytes: plan.window_bytes,
        progress_ms: 30_000,
        crash_slot_ms: 2_000,
        new_conversations: plan.new_conversations,
        dormant_ms: 0,
        // In some worlds so few that conversations leave memory and come back.
        conversations: if plan.seed.is_multiple_of(4) { 1 } else { 1 << 16 },
        // In others so few that what is written together takes several requests.
        raises: [1, 3, RAISES, RAISES][(plan.seed / 4 % 4) as usize],
        device_sends: Rate::default(),
        user_sends: Rate::default(),
        requests: Rate::default(),
        refuse_blocked: false,
        told: Default::default(),
        seed: plan.seed ^ u64::from(epoch) << 32 ^ u64::from(shard),
    }
}

impl World {
    // ---- the store ----

    pub fn store_submit(&mut self, shard: ShardId, request: StoreRequest) {
        if self.now < self.node.full_until && !self.settling {
            self.coverage.mark("store queue full");
            let event = Event::Refused { epoch: self.node.epoch, shard, tag: request.tag() };
            return self.at(self.now + 10, event);
        }
        self.node.next_tag += 1;
        let tag = self.node.next_tag;
        self.node.asked.insert(tag, (shard, request.tag()));
        self.store.submit(request.with_tag(tag), self.now);
        self.arm_store();
    }

    pub fn store_refused(&mut self, epoch: u32, shard: ShardId, tag: u64) -> Verdict {
        if epoch != self.node.epoch || !self.node.up {
            return Ok(());
        }
        self.feed(shard, Input::Store(StoreAnswer { tag, outcome: Outcome::Unavailable }))
    }

    pub fn store_ready(&mut self) -> Verdict {
        self.store_fired();
        while let Some(answer) = self.store.poll(self.now) {
            self.look_at_lists();
            if let Some((shard, tag)) = self.node.asked.remove(&answer.tag) {
                self.coverage.count_answer(&answer.outcome);
                self.feed(shard, Input::Store(StoreAnswer { tag, outcome: answer.outcome }))?;
            }
        }
        self.look_at_lists();
        self.arm_store();
        Ok(())
    }

    // ---- its life ----

    /// As in a live upgrade: another router goes on with the state of this one.
    pub fn write_out_and_read_back(&mut self, shard: ShardId) -> Verdict {
        self.coverage.mark("router read back");
        self.trace(|| format!("  s{shard} is written out and read back"));
        let settings = settings(&self.plan, shard, self.node.epoch, self.restored);
        let now = self.clocks();
        let router = &mut self.node.routers[usize::from(shard)];
        *router = Router::restore(settings, now, &router.snapshot()).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// All routers and everything in memory are gone; of the store what is durable remains.
    pub fn crash(&mut self, down: u64) -> Verdict {
        self.coverage.mark("crash");
        self.node_dies(down)
    }

    pub fn node_dies(&mut self, down: u64) -> Verdict {
        if !self.node.up {
            return Ok(());
        }
        self.store.crash();
        self.look_at_lists();
        self.nobody_is_here();
        self.store_fired();
        self.arm_store();
        self.oracle.logs_hold(&self.store)?;
        self.oracle.registers_hold(&self.store)?;
        self.oracle.forget_told(self.now);
        let epoch = self.node.epoch;
        for link in 0..self.links.len() {
            if self.links[link].epoch == epoch && !self.links[link].server_done {
                self.links[link].server_done = true;
                self.break_link(link);
            }
        }
        self.node = Node::new(&self.plan, epoch + 1, self.clocks(), self.restored);
        self.node.up = false;
        self.at(self.now + down, Event::NodeUp { epoch: epoch + 1 });
        Ok(())
    }

    pub fn node_up(&mut self, epoch: u32) -> Verdict {
        if epoch == self.node.epoch {
            self.node.up = true;
        }
        Ok(())
    }

    pub fn drain(&mut self, down: u64) -> Verdict {
        if !self.node.up || self.node.draining {
            return Ok(());
        }
        self.coverage.mark("drain");
        self.node.draining = true;
        for shard in 0..self.plan.shards {
            self.feed(shard, Input::Drain)?;
        }
        // Some are killed while they write what they were told.
        let lasts = if self.dice.pick(3) == 0 { MS } else { 2 * SECOND };
        self.at(self.now + lasts, Event::NodeEnds { epoch: self.node.epoch, down });
        Ok(())
    }

    pub fn node_ends(&mut self, epoch: u32, down: u64) -> Verdict {
        if epoch == self.node.epoch { self.node_dies(down) } else { Ok(()) }
    }
}
