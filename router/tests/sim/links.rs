//! The clients' end of the network: dialling, and what passes over a link.

use super::asks::ASKED;
use super::network::{Direction, Link, LinkId, encoded};
use super::oracle::Verdict;
use super::plan::SECOND;
use super::world::{Down, Event, World};
use ringpost_proto::client::ABNORMAL;
use ringpost_proto::v1;
use ringpost_proto::wire::{decode_client, encode_client};

/// How often the node's transport pings a client.
const HEARTBEAT_US: u64 = 30 * SECOND;

impl World {
    /// An attempt to connect gets through to the node.
    pub fn dialled(&mut self, device: usize, life: u32) -> Verdict {
        if self.devices[device].life != life || self.devices[device].away {
            return Ok(());
        }
        let now_ms = self.now_ms();
        let unix_ms = self.clocks().unix_us / 1_000;
        let it = &mut self.devices[device];
        if !self.node.up || self.node.draining {
            self.coverage.mark("refused while down");
            let retry_ms = self.dice.between(0, 2_000);
            it.client.refused(now_ms, retry_ms);
            return self.turn(device);
        }
        if it.exp_ms == 0 {
            it.exp_ms = unix_ms + self.plan.token_ms;
        }
        let home = (self.oracle.users[it.user].spread() % u64::from(self.plan.shards)) as u16;
        let stray = self.dice.percent(self.plan.strays);
        let shard = if stray { (self.dice.roll() % u64::from(self.plan.shards)) as u16 } else { home };
        let link = self.links.len();
        let conn = self.node.accept(shard, link);
        self.links.push(Link {
            device,
            epoch: self.node.epoch,
            conn,
            home,
            exp_ms: it.exp_ms,
            issued_ms: it.issued_ms,
            opened: false,
            away: false,
            closing: false,
            server_done: false,
            paused: false,
            waiting: Default::default(),
            pushed: 0,
            acked: 0,
            full: if self.plan.window_pushes < 64 || self.plan.window_bytes < 100_000 { 1 } else { 32 },
            full_us: 0,
            up: Direction::default(),
            down: Direction::default(),
        });
        it.link = Some(link);
        it.client.connected(now_ms, String::new());
        self.at(self.now + HEARTBEAT_US, Event::Heartbeat { link });
        self.turn(device)
    }

    pub fn send_up(&mut self, link: LinkId, frame: v1::ClientFrame) {
        let frame = match self.plan.encoding {
            Some(encoding) => encoded(&frame, encoding, encode_client, decode_client),
            None => frame,
        };
        let latency = self.dice.between(50, self.plan.latency_us);
        if let Some((at, number)) = self.links[link].up.send(self.now, latency) {
            self.at(at, Event::Up { link, number, frame: Box::new(frame) });
        }
    }

    pub fn send_down(&mut self, link: LinkId, item: Down) {
        let latency = self.dice.between(50, self.plan.latency_us);
        let device = self.links[link].device;
        let stalled = self.devices[device].stalled_until.saturating_sub(self.now);
        if let Some((at, number)) = self.links[link].down.send(self.now, latency.max(stalled)) {
            self.at(at, Event::Down { link, number, item });
        }
    }

    /// The transport pings whoever it still takes for connected.
    pub fn heartbeat(&mut self, link: LinkId) -> Verdict {
        if !self.links[link].server_done && self.links[link].epoch == self.node.epoch {
            self.send_down(link, Down::Heartbeat);
            self.at(self.now + HEARTBEAT_US, Event::Heartbeat { link });
        }
        Ok(())
    }

    pub fn arrive_up(&mut self, link: LinkId, number: u64, frame: v1::ClientFrame) -> Verdict {
        let it = &mut self.links[link];
        if !it.up.arrives(number) || it.server_done || it.epoch != self.node.epoch {
            return Ok(());
        }
        self.edge_frame(link, frame)
    }

    pub fn arrive_down(&mut self, link: LinkId, number: u64, item: Down) -> Verdict {
        let device = self.links[link].device;
        if !self.links[link].down.arrives(number) || self.devices[device].link != Some(link) {
            return Ok(());
        }
        let now_ms = self.now_ms();
        match item {
            Down::Frame(frame) if frame.re >= ASKED => {
                self.devices[device].client.activity(now_ms);
                self.judge_answer(device, *frame)
            }
            Down::Frame(frame) => {
                self.devices[device].client.frame(now_ms, *frame);
                self.turn(device)
            }
            Down::Heartbeat => {
                self.devices[device].client.activity(now_ms);
                Ok(())
            }
            Down::Close(code) => {
                self.devices[device].link = None;
                self.devices[device].client.disconnected(now_ms, code);
                self.turn(device)
            }
        }
    }

    pub fn client_gone(&mut self, link: LinkId) -> Verdict {
        let device = self.links[link].device;
        if self.devices[device].link != Some(link) {
            return Ok(());
        }
        self.devices[device].link = None;
        let now_ms = self.now_ms();
        self.devices[device].client.disconnected(now_ms, ABNORMAL);
        self.turn(device)
    }
}
