//! Groups: who asks for which change, and whether what became of it is right by the log.

use super::asks::ASKED;
use super::oracle::{Group, Oracle, Verdict, ensure};
use super::plan::{Ask, GroupPlan, Turn};
use super::world::World;
use ringpost_persist::faulty::FaultyStore;
use ringpost_persist::{Record, RegisterKey};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::client_frame::Request;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::role::Value as Role;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_proto::v1::{self};

/// A change that somebody wants, until it has an outcome.
pub struct Asked {
    device: usize,
    pub group: usize,
    turn: Turn,
    pub cmid: ClientMessageId,
    /// The head when it was first asked for.
    made: Seq,
    /// How often it was asked for.
    times: u32,
    pub done: bool,
}

impl Asked {
    /// Of the log that it is about only so much is there any more.
    pub fn is_restored(&mut self, head: Seq) {
        self.made = self.made.min(head);
    }
}

impl GroupPlan {
    pub fn named(&self, at: usize, users: &[UserKey], devices: &[(usize, DeviceId)]) -> Group {
        let (user, device) = &devices[self.creator];
        let mut id = [0xcc; 16];
        (id[0], id[6]) = (at as u8, 0x40);
        let cmid = ClientMessageId(id);
        let user = &users[*user];
        let id = ConversationId::group(user.tenant(), user.user(), device.as_str(), &cmid);
        Group { cmid, id, members: self.members.clone() }
    }
}

impl World {
    /// Who sends to a group: mostly somebody who may, and names the epoch that it knows, or none.
    pub fn group_sender(&mut self, device: usize, to: usize) -> (usize, u32) {
        if !self.oracle.is_group(to) {
            return (device, 0);
        }
        let strange = self.dice.percent(10) && !self.settling;
        let device = if strange { device } else { self.fit_device(to, false).unwrap_or(device) };
        if self.dice.percent(50) {
            return (device, 0);
        }
        let known = self.oracle.prefix(&self.store, device, to);
        (device, self.oracle.fold(&self.store, self.devices[device].user, to).epoch(known))
    }

    /// A device of a member of the group, or of an admin.
    fn fit_device(&mut self, peer: usize, admin: bool) -> Option<usize> {
        let fold = self.oracle.fold(&self.store, 0, peer);
        let fit = |user: usize| if admin { fold.is_admin(user, fold.head) } else { fold.is_member(user, fold.head) };
        let fit: Vec<usize> =
            (0..self.devices.len()).filter(|it| fit(self.devices[*it].user) && !self.devices[*it].gone).collect();
        (!fit.is_empty()).then(|| fit[self.dice.pick(fit.len())])
    }

    /// How much of the log whoever refuses something may have gone by: an append that nobody knows of may land late.
    pub fn oldest_known(&mut self, user: usize, peer: usize) -> Seq {
        if self.plan.store.unknown_late > 0 { 0 } else { self.oracle.fold(&self.store, user, peer).head }
    }

    pub fn app_changes(&mut self, device: usize, group: usize, fit: bool, turn: Turn) -> Verdict {
        let peer = self.oracle.users.len() + group;
        let fits = if fit { self.fit_device(peer, turn != Turn::Leave) } else { None };
        let device = fits.unwrap_or(device);
        let cmid = if turn == Turn::Create { self.oracle.groups[group].cmid } else { self.change_id() };
        self.oracle.changes.insert(cmid, (device, peer));
        let made = self.oldest_known(0, peer);
        self.changes.push(Asked { device, group, turn, cmid, made, times: 0, done: false });
        self.ask_change(self.changes.len() - 1);
        Ok(())
    }

    fn change_id(&mut self) -> ClientMessageId {
        let mut id = [0xcd; 16];
        id[..4].copy_from_slice(&(self.changes.len() as u32).to_be_bytes());
        id[8..].copy_from_slice(&self.dice.roll().to_be_bytes());
        id[6] = 0x40;
        ClientMessageId(id)
    }

    /// Whatever has no outcome is asked for once more, under the same id.
    pub fn change_again(&mut self, device: Option<usize>) {
        for at in 0..self.changes.len() {
            if !self.changes[at].done && device.is_none_or(|device| device == self.changes[at].device) {
                self.ask_change(at);
            }
        }
    }

    pub fn change_missing(&self) -> Option<String> {
        let asked = self.changes.iter().find(|asked| !asked.done && !self.devices[asked.device].gone)?;
        Some(format!("{:?} of device {} has no outcome", asked.turn, asked.device))
    }

    fn ask_change(&mut self, at: usize) {
        let Asked { device, group, turn, cmid, .. } = self.changes[at];
        let Some(link) = self.online(device) else { return };
        self.changes[at].times += 1;
        let (client_message_id, id) = (cmid.to_bytes(), self.oracle.groups[group].id.0.to_vec().into());
        let name = |user: &usize| self.oracle.users[*user].user().to_owned();
        let users = |user| v1::GroupUsers {
            client_message_id: cmid.to_bytes(),
            group: self.oracle.groups[group].id.0.to_vec().into(),
            users: vec![name(&user)],
        };
        let request = match turn {
            Turn::Create => Request::GroupCreate(v1::GroupCreate {
                client_message_id,
                name: "a group".into(),
                members: self.oracle.groups[group].members.iter().map(name).collect(),
            }),
            Turn::Add(user) => Request::GroupAdd(users(user)),
            Turn::Remove(user) => Request::GroupRemove(users(user)),
            Turn::Leave => Request::GroupLeave(v1::GroupLeave { client_message_id, group: id }),
            Turn::Role { user, admin } => {
                let role = if admin { Role::Admin } else { Role::Member };
                let (user, role) = (name(&user), role as i32);
                Request::GroupRole(v1::GroupRole { client_message_id, group: id, user, role })
            }
            Turn::Rename => {
                let name = Some(format!("renamed {at}"));
                Request::GroupUpdate(v1::GroupUpdate { client_message_id, group: id, name, ..Default::default() })
            }
        };
        let id = ASKED + self.questions.len() as u64;
        let peer = self.oracle.users.len() + group;
        self.questions.push(super::asks::Question::without_answer(peer, Ask::Change(at)));
        self.send_up(link, v1::ClientFrame { id, request: Some(request) });
    }

    /// The answer to a change: the group as it was at some moment with it, or a refusal that was right at some moment.
    pub fn judge_change(&mut self, at: usize, answer: &Answer) -> Verdict {
        let Asked { device, group, turn, cmid, made, times, .. } = self.changes[at];
        let (user, peer) = (self.devices[device].user, self.oracle.users.len() + group);
        let (id, users) = (self.oracle.groups[group].id, self.oracle.users.len());
        let fold = self.oracle.fold(&self.store, user, peer);
        let ever = |holds: &dyn Fn(Seq) -> bool| (made..=fold.head).any(holds);
        match answer {
            Answer::Group(told) => {
                let landed = self.store.log(&id).iter().find(|record| record.cmid == cmid).map(|record| record.seq);
                let already = match turn {
                    Turn::Add(other) => ever(&|n| fold.is_admin(user, n) && fold.is_member(other, n)),
                    Turn::Remove(other) => ever(&|n| fold.is_admin(user, n) && !fold.is_member(other, n)),
                    Turn::Role { user: other, admin } => {
                        ever(&|n| fold.is_member(other, n) && fold.is_admin(other, n) == admin)
                    }
                    _ => false,
                };
                ensure(landed.is_some() || already, || {
                    format!("I2: {turn:?} of u{user} is answered and is not in the log")
                })?;
                let role = |other: usize| {
                    let name = format!("u{other}");
                    told.members.iter().find(|member| member.user == name).map(|member| member.role() == Role::Admin)
                };
                let is = |other, n| fold.is_member(other, n).then(|| fold.is_admin(other, n));
                let right =
                    ever(&|n| told.epoch == fold.epoch(n) && (0..users).all(|other| role(other) == is(other, n)));
                ensure(right, || format!("u{user} is told a group that never was: {told:?}"))?;
                self.coverage.mark(turn.mark());
                self.oracle.knows(user, peer, self.now, landed.unwrap_or(0));
            }
            Answer::Error(error) => {
                let right = match error.code() {
                    Code::NotMember => ever(&|n| n > 0 && !fold.is_member(user, n)),
                    Code::Forbidden => {
                        let last = |n| matches!(turn, Turn::Role { user, admin: false } if fold.is_admin(user, n));
                        let alone = |n| fold.members(n).filter(|other| fold.is_admin(*other, n)).count() == 1;
                        ever(&|n| fold.is_member(user, n) && (!fold.is_admin(user, n) || last(n) && alone(n)))
                    }
                    Code::NotFound => match turn {
                        Turn::Role { user: other, .. } => ever(&|n| !fold.is_member(other, n)),
                        _ => made == 0,
                    },
                    _ => false,
                };
                ensure(right, || format!("refusal: {turn:?} of u{user} was refused: {error:?}"))?;
                // Asked for once more before the answer came, it may be allowed meanwhile.
                let stored = times == 1 && self.store.log(&id).iter().any(|record| record.cmid == cmid);
                ensure(!stored, || format!("refusal: {turn:?} of u{user} was refused and is in the log"))?;
                self.coverage.count_refusal(error.code());
            }
            other => return Err(format!("{turn:?} was answered {other:?}")),
        }
        self.changes[at].done = true;
        Ok(())
    }
}

impl Turn {
    fn mark(self) -> &'static str {
        match self {
            Self::Create => "group: created",
            Self::Add(_) => "group: added",
            Self::Remove(_) => "group: removed",
            Self::Leave => "group: left",
            Self::Role { .. } => "group: role",
            Self::Rename => "group: renamed",
        }
    }
}

impl Oracle {
    /// A change in a log is one that this device asked for in this conversation.
    pub fn change_was_asked(&self, conversation: ConversationId, record: &Record) -> Verdict {
        if matches!(record.change(), Some(v1::change::Change::Blocked(_))) {
            return self.block_was_asked(conversation, record);
        }
        let asked = self.changes.get(&record.cmid);
        let right = asked.is_some_and(|(device, peer)| {
            self.is_own(*device, record) && self.conversation(self.devices[*device].0, *peer) == conversation
        });
        ensure(right, || format!("{:?} at {} was never asked for", record.cmid, record.seq))
    }

    /// A tick of a group tells what every other one has that was a member as of the record, and still is.
    pub fn group_tick_leaves(
        &mut self,
        store: &FaultyStore,
        device: usize,
        peer: usize,
        tick: &v1::Tick,
        now: u64,
    ) -> Verdict {
        let user = self.devices[device].0;
        let name = &self.users[user];
        let log = store.log(&self.conversation(user, peer));
        let own = |upto: Seq| {
            let upto = (upto as usize).min(log.len());
            log[..upto].iter().rev().find(|record| record.sender == *name).map_or(0, |record| record.seq)
        };
        let (delivered, read) = (own(tick.delivered_seq), own(tick.read_seq));
        for other in (0..self.users.len()).filter(|other| *other != user) {
            let Some(since) = self.fold(store, user, peer).since(other) else { continue };
            let (has, has_read) = (self.delivered(store, other, peer), self.shown[other].reads[peer]);
            ensure(delivered < since || delivered <= has, || {
                format!("tick: u{user} hears {tick:?}, its {delivered} is not with u{other}, who has {has}")
            })?;
            // Who hides what it reads is none of those who are counted.
            let passed = self.passed(store, other, peer, now);
            ensure(read < since || read <= has_read.max(passed), || {
                format!("tick: u{user} hears {tick:?}, u{other} has read {has_read} of {read}")
            })?;
            self.misses_are_told(store, [user, other], peer, tick)?;
        }
        Ok(())
    }

    /// Once everybody has everything, each sender knows it of its newest record, and of the newest that all have read.
    pub fn missing_group_tick(&self, store: &FaultyStore, device: usize, peer: usize) -> Option<String> {
        let user = self.devices[device].0;
        let room = self.conversation(user, peer);
        let fold = &self.rooms.iter().find(|it| it.id == room)?.fold;
        // Of what it sent before it left, whoever comes back hears at its next sync.
        let since = fold.since(user)?;
        let others: Vec<usize> = fold.members(fold.head).filter(|other| *other != user).collect();
        let log = store.log(&room);
        let own = |upto: Seq| {
            let records = log.iter().take(upto as usize).rev();
            let own = |record: &&std::sync::Arc<Record>| record.sender == self.users[user];
            records
                .into_iter()
                .find(own)
                .map(|record| record.seq)
                .filter(|seq| *seq >= since && *seq > self.begin(device, peer))
        };
        let held = &self.held[device][peer];
        let last = own(fold.head).filter(|_| !others.is_empty())?;
        if held.delivered_tick < last {
            let heard = held.delivered_tick;
            return Some(format!("device {device} (u{user}) heard {heard} delivered to group {peer}, {last} was"));
        }
        let mut least = Seq::MAX;
        for other in others {
            let read = store.register(&RegisterKey::Read(room, self.users[other].clone()));
            if read < self.last_reads[other][peer] {
                return Some(format!("u{other} read {} of {peer}, {read} is marked", self.last_reads[other][peer]));
            }
            least = least.min(read.max(fold.first(other) - 1));
        }
        if (0..self.users.len()).any(|other| fold.since(other).is_some() && self.shown[other].hid) {
            return None;
        }
        let read = own(least)?;
        (held.read_tick < read)
            .then(|| format!("device {device} (u{user}) heard {} read by group {peer}, {read} was", held.read_tick))
    }
}
