//! What goes wrong with clients and their connections.

use super::clients::{HEARTBEAT_MISSED_US, client};
use super::network::LinkId;
use super::oracle::Verdict;
use super::plan::{MS, SECOND};
use super::world::{Event, World};
use ringpost_proto::client::{ABNORMAL, Peer};

impl World {
    /// The process dies, and with it everything that the app has not stored.
    pub fn restart_device(&mut self, device: usize, away: u64) -> Verdict {
        if self.devices[device].away {
            return Ok(());
        }
        self.coverage.mark("client process died");
        if let Some(link) = self.devices[device].link {
            self.break_up(link);
        }
        let it = &mut self.devices[device];
        (it.away, it.link) = (true, None);
        it.life += 1;
        it.unstored.clear();
        let life = it.life;
        self.at(self.now + away, Event::Comeback { device, life });
        Ok(())
    }

    pub fn revive(&mut self, device: usize) -> Verdict {
        if self.devices[device].gone {
            return Ok(());
        }
        let stored = self.oracle.restarted(&self.store, device);
        let peers: Vec<Peer> = (0..stored.len()).map(|user| self.peer_name(user)).collect();
        let now_ms = self.now_ms();
        // With its positions an app keeps of which store they are.
        let of = self.devices[device].client.store().map(|(store, token)| (store, token.clone()));
        let it = &mut self.devices[device];
        it.away = false;
        it.seed += 4;
        it.armed = u64::MAX;
        it.client = client(now_ms, it.seed, it.auto_store);
        if let Some((store, token)) = of.filter(|_| self.plan.restores() || it.seed & 4 == 0) {
            it.client.restore_store(store, token);
        }
        for (peer, seq) in peers.iter().zip(stored).filter(|(_, seq)| *seq > 0) {
            it.client.restore(peer, seq);
        }
        for (peer, seq) in peers.iter().zip(&it.reads).filter(|(_, seq)| **seq > 0) {
            it.client.read(now_ms, peer, *seq);
        }
        for send in it.unsent.clone() {
            it.client.send(send).map_err(|full| full.to_string())?;
        }
        self.turn(device)
    }

    /// The client gives up its connection without a word, and opens another; the node finds out later.
    pub fn hop(&mut self, device: usize) -> Verdict {
        if self.devices[device].away || self.devices[device].link.is_none() {
            return Ok(());
        }
        self.coverage.mark("hop");
        self.abandon(device);
        let now_ms = self.now_ms();
        self.devices[device].client.disconnected(now_ms, ABNORMAL);
        self.turn(device)
    }

    /// The client is gone from its link; what it had sent may still arrive, and the node notices at some time.
    pub fn abandon(&mut self, device: usize) {
        if let Some(link) = self.devices[device].link.take() {
            self.links[link].down.cut(&mut self.dice);
            let later = [0, 200 * MS, 5 * SECOND, HEARTBEAT_MISSED_US][self.dice.pick(4)];
            let at = self.links[link].up.last_us().max(self.now) + later;
            self.at(at, Event::ServerGone { link });
        }
    }

    pub fn cut_device(&mut self, device: usize) -> Verdict {
        if let Some(link) = self.devices[device].link {
            self.coverage.mark("cut");
            self.break_link(link);
            self.break_up(link);
        }
        Ok(())
    }

    /// The client's side of a broken link: what is under way arrives in part, then it hears that the link is gone.
    pub fn break_link(&mut self, link: LinkId) {
        self.links[link].down.cut(&mut self.dice);
        let later = [0, 50 * MS, SECOND][self.dice.pick(3)];
        let at = self.links[link].down.last_us().max(self.now) + later;
        self.at(at, Event::ClientGone { link });
    }

    /// The node's side.
    fn break_up(&mut self, link: LinkId) {
        self.links[link].up.cut(&mut self.dice);
        let later = [0, 50 * MS, SECOND, HEARTBEAT_MISSED_US][self.dice.pick(4)];
        let at = self.links[link].up.last_us().max(self.now) + later;
        self.at(at, Event::ServerGone { link });
    }

    pub fn blackhole(&mut self, device: usize) -> Verdict {
        if let Some(link) = self.devices[device].link {
            self.coverage.mark("blackhole");
            self.links[link].up.cut(&mut self.dice);
            self.links[link].down.cut(&mut self.dice);
            self.at(self.now + HEARTBEAT_MISSED_US, Event::ServerGone { link });
        }
        Ok(())
    }

    pub fn stall(&mut self, device: usize, long: u64) -> Verdict {
        self.coverage.mark("stall");
        self.devices[device].stalled_until = self.now + long;
        Ok(())
    }
}
