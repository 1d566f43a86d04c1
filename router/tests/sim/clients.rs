//! The clients: the conforming client of proto/ on each device, under an app that stores what it is given.

use super::fold::Meant;
use super::network::LinkId;
use super::oracle::{Oracle, Sending, Verdict, ensure};
use super::plan::{MS, SECOND};
use super::world::{Event, World};
use ringpost_proto::client::{ABNORMAL, Client, Event as Told, Outcome, Peer};
use ringpost_proto::id::ClientMessageId;
use ringpost_proto::v1::{self, kind::Value as Kind};

/// After this much silence the node's transport takes a client for gone, with the default heartbeat.
pub const HEARTBEAT_MISSED_US: u64 = 65 * SECOND;

pub struct Device {
    pub user: usize,
    pub client: Client,
    /// Counts the lives of its process.
    pub life: u32,
    /// The process is not running; and never will again.
    pub away: bool,
    pub gone: bool,
    pub link: Option<LinkId>,
    /// Of the token that it has, Unix milliseconds; and when that was issued.
    pub exp_ms: u64,
    pub issued_ms: u64,
    /// When its timer is set.
    pub armed: u64,
    /// It reads nothing before this time.
    pub stalled_until: u64,
    pub auto_store: bool,
    /// What the app keeps until its outcome; survives the process.
    pub unsent: Vec<v1::Send>,
    /// What the app marked as read, by peer; survives the process, which says it again.
    pub reads: Vec<u64>,
    /// Given and not stored: delivery, peer, seq.
    pub unstored: Vec<(u64, usize, u64)>,
    pub seed: u64,
}

impl Device {
    pub fn new(oracle: &Oracle, at: usize, start: u64, seed: u64) -> Self {
        let auto_store = seed & 1 == 0;
        Self {
            user: oracle.devices[at].0,
            client: client(start / MS, seed, auto_store),
            life: 0,
            away: false,
            gone: false,
            link: None,
            exp_ms: 0,
            issued_ms: 1,
            armed: u64::MAX,
            stalled_until: 0,
            auto_store,
            unsent: Vec::new(),
            reads: vec![0; oracle.peers()],
            unstored: Vec::new(),
            seed,
        }
    }
}

/// Half of the apps say that they keep everything, and are then sure where a conversation begins.
pub fn client(start_ms: u64, seed: u64, auto_store: bool) -> Client {
    let client = Client::new(start_ms, seed, auto_store);
    if seed & 2 == 0 { client.keeps_everything() } else { client }
}

impl World {
    // ---- the app ----

    pub fn app_sends(&mut self, device: usize, to: usize, bytes: usize) -> Verdict {
        let (device, epoch) = self.group_sender(device, to);
        let number = self.oracle.sends.len() as u64;
        let text = format!("message {number} {}", "x".repeat(bytes));
        let (kind, body) = match number % 8 {
            0 | 4 => (Kind::Data, v1::send::Body::Payload(text.into())),
            2 => (Kind::Media, v1::send::Body::Payload(text.into())),
            _ => (Kind::Text, v1::send::Body::Text(text)),
        };
        self.dispatch(device, to, Meant { kind, ref_seq: 0, epoch }, Some(body))
    }

    /// Hands a new message to the client, or keeps it for when it runs again.
    pub fn dispatch(&mut self, device: usize, to: usize, meant: Meant, body: Option<v1::send::Body>) -> Verdict {
        self.dispatch_all(device, to, meant, body, Vec::new())
    }

    pub fn dispatch_all(
        &mut self,
        device: usize,
        to: usize,
        meant: Meant,
        body: Option<v1::send::Body>,
        slices: Vec<v1::Slice>,
    ) -> Verdict {
        if self.devices[device].gone {
            return Ok(());
        }
        let number = self.oracle.sends.len() + self.oracle.refused.len() + self.oracle.lost.len();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        id[8..].copy_from_slice(&self.dice.roll().to_be_bytes());
        // The version bits of UUIDv4: an id without a time.
        id[6] = 0x40 | id[6] & 0x0f;
        let cmid = ClientMessageId(id);
        let made = self.oldest_known(self.devices[device].user, to);
        let (made_us, body_of) = (self.now, body.clone());
        let sending = Sending { made, made_us, slices: slices.clone(), ..Sending::new(device, to, meant, body_of) };
        self.oracle.sends.insert(cmid, sending);
        let send = v1::Send { slices, ..self.message(to, cmid, body, meant) };
        self.devices[device].unsent.push(send.clone());
        self.coverage.sends += 1;
        if !self.devices[device].away {
            self.devices[device].client.send(send).map_err(|full| full.to_string())?;
            self.turn(device)?;
        }
        Ok(())
    }

    pub fn app_reads(&mut self, device: usize, of: usize) -> Verdict {
        if self.devices[device].away {
            return Ok(());
        }
        if let Some(seq) = self.oracle.reads(&self.store, device, of) {
            let peer = self.peer_name(of);
            let now_ms = self.now_ms();
            // What the user's devices have agreed on before is not said again.
            let user = self.devices[device].user;
            let said = self.devices.iter().filter(|it| it.user == user).map(|it| it.reads[of]).max();
            let lost =
                (0..self.devices.len()).any(|it| self.devices[it].user == user && self.oracle.linked[it].unlinked_once);
            if self.settling && Some(seq) > said && !lost {
                self.oracle.reads_for_good(device, of, seq);
            }
            self.trace(|| format!("  device {device} reads {seq} of u{of}"));
            self.devices[device].reads[of] = seq;
            self.devices[device].client.read(now_ms, &peer, seq);
            self.turn(device)?;
        }
        Ok(())
    }

    pub fn app_stored(&mut self, device: usize, life: u32, delivery: u64) -> Verdict {
        if self.devices[device].life != life || self.devices[device].away {
            return Ok(());
        }
        for (at, peer, seq) in std::mem::take(&mut self.devices[device].unstored) {
            if at <= delivery {
                self.oracle.stored(device, peer, seq);
            } else {
                self.devices[device].unstored.push((at, peer, seq));
            }
        }
        self.devices[device].client.stored(delivery);
        self.turn(device)
    }

    /// The link of a device whose session is open.
    pub fn online(&self, device: usize) -> Option<LinkId> {
        let it = &self.devices[device];
        it.link.filter(|_| !it.away && it.client.is_online())
    }

    pub fn peer_name(&self, peer: usize) -> Peer {
        match self.oracle.users.get(peer) {
            Some(user) => Peer::User(user.user().to_owned()),
            None => Peer::Group(self.oracle.groups[peer - self.oracle.users.len()].id.0.to_vec().into()),
        }
    }

    pub fn wire_peer(&self, user: usize) -> v1::Peer {
        v1::Peer { peer: Some(self.peer_name(user)) }
    }

    // ---- the client ----

    /// Drains the client after an input, and sets its timer.
    pub fn turn(&mut self, device: usize) -> Verdict {
        loop {
            while let Some(told) = self.devices[device].client.poll_event() {
                self.trace(|| format!("  device {device} is told {told:?}"));
                self.told(device, told)?;
            }
            let now_ms = self.now_ms();
            let Some(frame) = self.devices[device].client.poll_transmit(now_ms) else { break };
            if let Some(link) = self.devices[device].link {
                self.coverage.count_request(&frame);
                self.send_up(link, frame);
            }
        }
        self.arm_device(device);
        Ok(())
    }

    fn told(&mut self, device: usize, told: Told) -> Verdict {
        let life = self.devices[device].life;
        match told {
            Told::Connect => {
                let later = self.dice.between(100, self.plan.latency_us * 2);
                self.at(self.now + later, Event::Dialled { device, life });
            }
            Told::Drop => {
                self.abandon(device);
                let now_ms = self.now_ms();
                self.devices[device].client.disconnected(now_ms, ABNORMAL);
            }
            Told::Welcome { resumed } => {
                self.coverage.mark(if resumed { "resumed" } else { "welcome" });
                self.change_again(Some(device));
            }
            Told::Record { delivery, record } => {
                let peer = self.oracle.given(&self.store, device, &record)?;
                if self.devices[device].auto_store {
                    self.oracle.stored(device, peer, record.seq);
                } else {
                    self.devices[device].unstored.push((delivery, peer, record.seq));
                    self.store_later(device, delivery);
                }
            }
            Told::Tick { delivery, peer, delivered, read, .. } => {
                let peer = self.oracle.peer(&Some(v1::Peer { peer: Some(peer) }))?;
                self.oracle.ticked(device, peer, delivered, read)?;
                self.store_later(device, delivery);
            }
            Told::ReadMark { delivery, .. } => self.store_later(device, delivery),
            Told::Outcome { send, outcome } => {
                let cmid = ClientMessageId::from_bytes(&send.client_message_id).ok_or("an outcome without id")?;
                match outcome {
                    Outcome::Sent(sent) => {
                        self.coverage.count_sent(&send, sent.duplicate);
                        self.oracle.outcome(cmid, &sent)?;
                    }
                    Outcome::Failed(error) => {
                        self.coverage.count_refusal(error.code());
                        self.oracle.unix_us = self.clocks().unix_us;
                        self.oracle.failed(&self.store, cmid, &error)?;
                        self.slice_again(device, &send, &error)?;
                    }
                }
                self.devices[device].unsent.retain(|other| other.client_message_id != send.client_message_id);
            }
            Told::Reset { peer, head } => self.is_reset(device, peer, head)?,
            Told::TokenWanted { exp_ms } => {
                let forgets = exp_ms != 0 && self.dice.percent(self.plan.forgetful) && !self.settling;
                if !forgets {
                    let later = self.dice.between(10 * MS, 5 * SECOND);
                    self.at(self.now + later, Event::Token { device, life });
                }
            }
            Told::Stopped { code } => {
                if self.device_was_unlinked(device, code) {
                    return Ok(());
                }
                self.coverage.mark("client stopped");
                ensure(code != 4505 && code != 1003, || format!("device {device} was closed with {code}"))?;
                let later = self.dice.between(SECOND, 10 * SECOND);
                self.at(self.now + later, Event::Comeback { device, life });
            }
            Told::Error(error) => self.trace(|| format!("  device {device} heard {error:?}")),
            Told::Synced => self.coverage.mark("synced"),
        }
        Ok(())
    }

    fn store_later(&mut self, device: usize, delivery: u64) {
        if !self.devices[device].auto_store {
            let life = self.devices[device].life;
            let slow = !self.settling && self.dice.percent(1);
            let later = if slow { self.dice.between(0, 10 * SECOND) } else { self.dice.between(0, 20 * MS) };
            self.at(self.now + later, Event::Stored { device, life, delivery });
        }
    }

    pub fn arm_device(&mut self, device: usize) {
        let it = &mut self.devices[device];
        let Some(at_ms) = it.client.next_timeout_ms().filter(|_| !it.away) else { return };
        let at = (at_ms * MS).max(self.now + MS);
        if at < it.armed {
            it.armed = at;
            self.at(at, Event::DeviceTimer { device });
        }
    }

    pub fn device_timer(&mut self, device: usize) -> Verdict {
        if self.now < self.devices[device].armed {
            return Ok(());
        }
        self.devices[device].armed = u64::MAX;
        if self.devices[device].away {
            return Ok(());
        }
        let now_ms = self.now_ms();
        self.devices[device].client.timeout(now_ms);
        self.turn(device)
    }

    pub fn new_token(&mut self, device: usize, life: u32) -> Verdict {
        if self.devices[device].life != life || self.devices[device].away {
            return Ok(());
        }
        self.coverage.mark("token renewed");
        let exp_ms = self.clocks().unix_us / 1_000 + if self.settling { 3_600_000 } else { self.plan.token_ms };
        let now_ms = self.now_ms();
        self.devices[device].exp_ms = exp_ms;
        self.devices[device].client.renew(now_ms, exp_ms.to_string());
        self.turn(device)
    }

    /// After a close that says not to come back by oneself: the user starts the app again.
    pub fn comeback(&mut self, device: usize, life: u32) -> Verdict {
        if self.devices[device].life != life {
            return Ok(());
        }
        if self.devices[device].away {
            return self.revive(device);
        }
        let now_ms = self.now_ms();
        self.devices[device].client.reconnect(now_ms);
        self.turn(device)
    }

    /// The end of the world's faults: every device runs.
    pub fn come_back(&mut self, device: usize) -> Verdict {
        self.devices[device].stalled_until = 0;
        // A blackholed connection stays so until somebody notices.
        if self.devices[device].away {
            self.revive(device)?;
        }
        (0..self.oracle.peers()).try_for_each(|of| self.app_reads(device, of))
    }
}
