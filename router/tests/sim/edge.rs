//! The edge of the node: frames of clients into inputs, outputs of routers into frames, and the mesh between the shards.

use super::network::LinkId;
use super::node::MeshMessage;
use super::oracle::{Verdict, ensure};
use super::plan::MS;
use super::world::{Down, Event, World};
use ringpost_proto::id::ClientMessageId;
use ringpost_proto::limits::TOKEN_LEEWAY_MS;
use ringpost_proto::v1::{self, client_frame::Request as Asked, server_frame::Answer};
use ringpost_router::operator::OPERATOR;
use ringpost_router::{ConnRef, Identity, Input, Output, Request, ShardId};
use std::sync::Arc;

/// One input in so many finds a router that was written out and read back.
const SWAP_EVERY: usize = 600;

impl World {
    // ---- into the routers ----

    /// A frame of a client has arrived; the first is hello.
    pub fn edge_frame(&mut self, link: LinkId, frame: v1::ClientFrame) -> Verdict {
        if self.links[link].paused || !self.links[link].waiting.is_empty() {
            self.links[link].waiting.push_back(frame);
            return Ok(());
        }
        self.edge_request(link, frame)
    }

    /// The router takes requests again: those that waited come first.
    pub fn reread(&mut self, link: LinkId) -> Verdict {
        while !self.links[link].paused && !self.links[link].server_done {
            let Some(frame) = self.links[link].waiting.pop_front() else { break };
            self.edge_request(link, frame)?;
        }
        Ok(())
    }

    fn edge_request(&mut self, link: LinkId, frame: v1::ClientFrame) -> Verdict {
        if self.links[link].closing {
            return Ok(());
        }
        let (conn, exp_ms) = (self.links[link].conn, self.links[link].exp_ms);
        let id = frame.id;
        let Some(asked) = frame.request else { return Ok(()) };
        let asked = match asked {
            Asked::Hello(hello) if !self.links[link].opened => {
                if exp_ms + TOKEN_LEEWAY_MS <= self.clocks().unix_us / 1_000 {
                    return self.edge_close(link, 4502);
                }
                self.links[link].opened = true;
                self.says_hello(link);
                self.device_comes(link);
                let identity = self.identity(link, exp_ms);
                return self.feed_home(link, Input::Open { conn, id, identity, hello: Box::new(hello) });
            }
            asked => asked,
        };
        let request = match asked {
            Asked::Hello(_) => Request::Unexpected { hello: true },
            Asked::Ack(ack) => {
                self.links[link].moves(0, ack.push, self.now);
                Request::Ack { push: ack.push, ranges: !ack.ranges.is_empty() }
            }
            Asked::Ping(_) => Request::Ping,
            Asked::Bye(_) => Request::Bye,
            Asked::Send(send) => {
                let to = self.oracle.peer(&send.to)?;
                let cmid = ClientMessageId::from_bytes(&send.client_message_id).ok_or("a client sends no id")?;
                self.node.sends.insert((link, id), (to, cmid));
                self.is_asked(self.devices[self.links[link].device].user, to, cmid);
                Request::Send(Box::new(send))
            }
            Asked::Lookup(lookup) => Request::Lookup(Box::new(lookup)),
            Asked::Read(read) => {
                let (user, peer) = (self.devices[self.links[link].device].user, self.oracle.peer(&read.conversation)?);
                self.oracle.says_read(&self.store, user, peer, read.seq, self.now);
                Request::Read(Box::new(read))
            }
            Asked::Fetch(fetch) => {
                let peer = self.oracle.peer(&fetch.conversation)?;
                self.node.fetches.insert((link, id), peer);
                Request::Fetch(Box::new(fetch))
            }
            Asked::History(history) => Request::History(Box::new(history)),
            Asked::Conversations(page) => Request::Conversations(Box::new(page)),
            Asked::Renew(renew) => {
                // A token of this world is the time at which it expires.
                let exp_ms: u64 = renew.token.parse().map_err(|_| "a client made up a token")?;
                let valid = exp_ms + TOKEN_LEEWAY_MS > self.clocks().unix_us / 1_000;
                let identity = valid.then(|| self.identity(link, exp_ms));
                return self.feed_home(link, Input::Renewed { conn, id, identity });
            }
            Asked::Presence(presence) => {
                self.says_presence(link, &presence);
                Request::More(Box::new(Asked::Presence(presence)))
            }
            Asked::Settings(change) => {
                self.oracle.sets(self.devices[self.links[link].device].user, &change, self.now);
                Request::More(Box::new(Asked::Settings(change)))
            }
            Asked::Watch(watch) => {
                self.watches(link, &watch, true);
                Request::More(Box::new(Asked::Watch(watch)))
            }
            Asked::Unwatch(watch) => {
                self.watches(link, &watch, false);
                Request::More(Box::new(Asked::Unwatch(watch)))
            }
            Asked::Typing(typing) => {
                self.types(link, &typing)?;
                Request::More(Box::new(Asked::Typing(typing)))
            }
            other => Request::More(Box::new(other)),
        };
        self.feed_home(link, Input::Request { conn, id, request })
    }

    fn identity(&self, link: LinkId, exp_ms: u64) -> Arc<Identity> {
        let (user, device) = self.oracle.devices[self.links[link].device];
        Arc::new(Identity {
            user: self.oracle.users[user].clone(),
            device,
            issued_ms: self.links[link].issued_ms,
            exp_ms,
            primary: None,
        })
    }

    /// Feeds the router of the user: at once where the connection lives there, else through the mesh.
    pub fn feed_home(&mut self, link: LinkId, input: Input) -> Verdict {
        let (home, shard) = (self.links[link].home, self.links[link].conn.shard);
        if home == shard {
            return self.feed(home, input);
        }
        self.coverage.mark("input through the mesh");
        self.mesh(shard, home, MeshMessage::Input(Box::new(input)));
        Ok(())
    }

    fn mesh(&mut self, from: ShardId, to: ShardId, message: MeshMessage) {
        let delay = self.dice.between(1, self.plan.mesh_us);
        let last = &mut self.node.mesh_last[usize::from(from) * usize::from(self.plan.shards) + usize::from(to)];
        *last = (*last).max(self.now + delay);
        let (at, epoch) = (*last, self.node.epoch);
        self.at(at, Event::Mesh { epoch, to, message });
    }

    pub fn mesh_arrives(&mut self, epoch: u32, to: ShardId, message: MeshMessage) -> Verdict {
        if epoch != self.node.epoch {
            return Ok(());
        }
        match message {
            MeshMessage::Envelope(envelope) => self.feed(to, Input::Envelope(envelope)),
            MeshMessage::Input(input) => self.feed(to, *input),
        }
    }

    /// One input, and all outputs that follow.
    pub fn feed(&mut self, shard: ShardId, input: Input) -> Verdict {
        if self.dice.pick(SWAP_EVERY) == 0 {
            self.write_out_and_read_back(shard)?;
        }
        let now = self.clocks();
        self.trace(|| format!("  s{shard} <- {input:?}"));
        self.node.routers[usize::from(shard)].handle(now, input);
        while let Some(output) = self.node.routers[usize::from(shard)].poll_output() {
            self.trace(|| format!("  s{shard} -> {output:?}"));
            self.output(shard, output)?;
        }
        self.arm_router(shard);
        Ok(())
    }

    fn arm_router(&mut self, shard: ShardId) {
        let Some(at_ms) = self.node.routers[usize::from(shard)].next_deadline_ms() else { return };
        let at = (at_ms * MS).max(self.now + 1);
        if at < self.node.timers[usize::from(shard)] {
            self.node.timers[usize::from(shard)] = at;
            self.at(at, Event::RouterTimer { epoch: self.node.epoch, shard });
        }
    }

    pub fn router_timer(&mut self, epoch: u32, shard: ShardId) -> Verdict {
        if epoch != self.node.epoch || self.now < self.node.timers[usize::from(shard)] {
            return Ok(());
        }
        self.node.timers[usize::from(shard)] = u64::MAX;
        self.feed(shard, Input::Timer)
    }

    // ---- out of the routers ----

    fn output(&mut self, shard: ShardId, output: Output) -> Verdict {
        self.coverage.count_output(&output);
        match output {
            Output::Store(request) => {
                self.oracle.stamps_order(&request)?;
                self.may_append(&request)?;
                self.coverage.count_missed(&request);
                self.store_submit(shard, request);
            }
            Output::Envelope { shard: OPERATOR, envelope } => return self.operator_hears(&envelope),
            Output::Envelope { shard: to, envelope } => {
                ensure(to != shard, || "a router sends itself an envelope through the mesh".into())?;
                self.mesh(shard, to, MeshMessage::Envelope(envelope));
            }
            Output::Frame { conn, frame } => {
                let frame = self.plain_frame(*frame);
                return self.frame_leaves(shard, conn, frame);
            }
            Output::Sent { conn, re, sent } => {
                let frame = self.plain_frame(v1::ServerFrame { re, answer: Some(Answer::Sent(sent)) });
                return self.frame_leaves(shard, conn, frame);
            }
            Output::PushRecord { conn, n, peer, record, own } => {
                let frame = self.push_frame(n, &peer, &record, own);
                return self.frame_leaves(shard, conn, frame);
            }
            Output::Page { conn, re, page } => {
                let frame = self.page_frame(re, &page);
                return self.frame_leaves(shard, conn, frame);
            }
            Output::Close { conn, code, .. } => {
                if let Some(link) = self.link_of(shard, conn)? {
                    self.edge_close(link, code as u16)?;
                }
            }
            Output::Reading { conn, on } => {
                if let Some(link) = self.link_of(shard, conn)? {
                    self.links[link].paused = !on;
                    self.links[link].full_us = self.now;
                    self.at(self.now, Event::Reread { link });
                }
            }
            Output::Established { .. } => {}
        }
        Ok(())
    }

    /// The link of a connection that this shard holds; `None`: gone already.
    fn link_of(&self, shard: ShardId, conn: ConnRef) -> Result<Option<LinkId>, String> {
        ensure(conn.shard == shard, || format!("shard {shard} answers {conn:?}, which it does not hold"))?;
        let link = self.node.conns.get(&(conn.shard, conn.slot)).copied();
        Ok(link.filter(|link| self.links[*link].conn == conn))
    }

    fn frame_leaves(&mut self, shard: ShardId, conn: ConnRef, frame: v1::ServerFrame) -> Verdict {
        let Some(link) = self.link_of(shard, conn)? else { return Ok(()) };
        self.judge(link, &frame)?;
        self.coverage.count_frame(&frame);
        self.send_down(link, Down::Frame(Box::new(frame)));
        Ok(())
    }

    /// What the oracle says to a frame at the moment it leaves the node.
    fn judge(&mut self, link: LinkId, frame: &v1::ServerFrame) -> Verdict {
        let device = self.links[link].device;
        if let Some(Answer::Push(push)) = &frame.answer {
            self.links[link].moves(push.n, 0, self.now);
        }
        self.may_still_get(link)?;
        match &frame.answer {
            Some(Answer::Sent(sent)) => {
                let found = self.node.sends.get(&(link, frame.re)).copied();
                let (to, cmid) = found.ok_or("SENT for what was never asked")?;
                self.oracle.sent_leaves(&self.store, device, to, cmid, sent)?;
                self.oracle.knows(self.devices[device].user, to, self.now, sent.seq);
                self.oracle.fold(&self.store, self.devices[device].user, to);
                self.oracle.erasure_is_known(cmid, self.now);
                Ok(())
            }
            Some(Answer::Push(push)) => match &push.item {
                Some(v1::push::Item::Record(record)) => {
                    let peer = self.oracle.peer(&record.conversation)?;
                    let pushed = self.node.pushed.entry((link, peer)).or_default();
                    let last = std::mem::replace(pushed, record.seq.max(*pushed));
                    self.oracle.push_leaves(&self.store, device, record, last, self.now)
                }
                Some(v1::push::Item::Tick(tick)) => {
                    let peer = self.oracle.peer(&tick.conversation)?;
                    let last = self.node.ticks.entry((link, peer)).or_default();
                    let back = tick.delivered_seq < last.0 || tick.read_seq < last.1;
                    ensure(!back, || format!("tick: {tick:?} after {last:?} on one session"))?;
                    *last = (tick.delivered_seq, tick.read_seq);
                    self.oracle.tick_leaves(&self.store, device, tick, self.now)
                }
                _ => Ok(()),
            },
            Some(Answer::Page(page)) => {
                let mut shown = page.records.iter();
                shown.try_for_each(|record| self.oracle.record_leaves(&self.store, device, record, self.now))?;
                match self.node.fetches.remove(&(link, frame.re)) {
                    Some(peer) => self.skips_leave(device, page, peer),
                    None => Ok(()),
                }
            }
            Some(Answer::Error(error)) => self.refusal_leaves(link, frame.re, error),
            Some(Answer::TypingEvent(event)) => self.typing_leaves(link, event),
            Some(Answer::Welcome(_)) => {
                self.session_is(link, true);
                self.device_is_welcome(link)
            }
            Some(Answer::DeviceList(list)) => match self.unlinks(frame.re) {
                Some(target) => self.devices_leave(link, target, list),
                None => Ok(()),
            },
            Some(Answer::PresenceStates(states)) => {
                states.states.iter().try_for_each(|state| self.presence_leaves(link, state))
            }
            Some(Answer::PresenceState(state)) => self.presence_leaves(link, state),
            Some(Answer::Settings(settings)) => {
                self.oracle.has_set(self.devices[device].user, settings, self.now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The edge closes a connection: the code is the last thing sent, then the router hears that it is gone.
    pub fn edge_close(&mut self, link: LinkId, code: u16) -> Verdict {
        self.coverage.count_close(code);
        self.links[link].closing = true;
        self.session_ends(link);
        self.send_down(link, Down::Close(code));
        let later = self.dice.between(0, 20 * MS);
        self.at(self.now + later, Event::ServerGone { link });
        Ok(())
    }

    pub fn server_gone(&mut self, link: LinkId) -> Verdict {
        if self.links[link].server_done || self.links[link].epoch != self.node.epoch || !self.node.up {
            return Ok(());
        }
        self.links[link].server_done = true;
        self.session_ends(link);
        let conn = self.links[link].conn;
        self.node.conns.remove(&(conn.shard, conn.slot));
        let down = &mut self.links[link].down;
        let tells = down.last_us();
        self.at(tells, Event::ClientGone { link });
        if self.links[link].opened { self.feed_home(link, Input::Closed { conn }) } else { Ok(()) }
    }
}
