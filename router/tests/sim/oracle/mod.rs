//! What must hold, judged from what clients were told and from what is committed; nothing here asks a router.
//!
//! The truth: what each app sent, what it was given and has stored, and the committed logs. Checked at the moment a frame
//! leaves the node: SENT (I2), pushes, ticks, pages. Checked at the app: order and completeness (I5). Checked at every
//! crash and at the end: the logs (I1, I3), the registers (I4, I6).

mod apps;
mod durable;
mod leaves;
mod missing;

use super::devices::Linked;
use super::fold::{Fold, Meant};
use super::plan::Plan;
use super::presence::Presence;
use super::settings::Shown;
use super::slices::Lists;
use super::typing::{Typing, under_way_us};
use hashbrown::HashMap;
use ringpost_persist::faulty::FaultyStore;
use ringpost_persist::{Body, Record, RegisterKey};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1;
use std::collections::{BTreeMap, BTreeSet};

pub type Verdict = Result<(), String>;

pub struct Oracle {
    pub users: Vec<UserKey>,
    /// (user, name) of each device.
    pub devices: Vec<(usize, DeviceId)>,
    pub groups: Vec<Group>,
    pub rooms: Vec<Room>,
    /// By user and peer: a user, or behind the users a group.
    pub(super) room_of: Vec<Vec<usize>>,
    /// By device and peer.
    pub(super) held: Vec<Vec<Held>>,
    /// By device and peer: own records, and since when ticks say that they are delivered; `None`: none does, or none but right
    /// before a crash.
    pub(super) told: Vec<Vec<BTreeMap<Seq, Option<u64>>>>,
    pub(super) crashed: bool,
    /// By room and user: which records any app of it has stored.
    pub(super) received: Vec<Vec<BTreeSet<Seq>>>,
    pub sends: BTreeMap<ClientMessageId, Sending>,
    /// Sends that were refused. A refusal is no promise: the same send, asked for once more before the answer came, may be
    /// allowed meanwhile.
    pub refused: BTreeMap<ClientMessageId, Sending>,
    /// Messages that were SENT, and lost with what came after a backup.
    pub lost: BTreeSet<ClientMessageId>,
    pub lists: Lists,
    /// Changes of groups that were asked for: device and group.
    pub changes: BTreeMap<ClientMessageId, (usize, usize)>,
    /// How often a device asked that a peer be blocked, or no longer be.
    pub blocks: BTreeMap<(usize, usize, bool), usize>,
    /// Since when whoever took a record back knows that it is.
    pub(super) erasures: BTreeMap<(ConversationId, Seq), u64>,
    /// By user and peer: what devices had that have been unlinked since.
    pub(super) had: Vec<Vec<Seq>>,
    /// By device.
    pub linked: Vec<Linked>,
    /// By user.
    pub shown: Vec<Shown>,
    pub typing: Typing,
    pub presence: Presence,
    /// How long something may be under way within the node.
    pub(super) under_way_us: u64,
    /// The wall clock never jumps.
    pub(super) steady: bool,
    /// What it shows now.
    pub unix_us: u64,
    /// The highest value that was ever to be written of each register, and its stamp.
    pub(super) raised: HashMap<RegisterKey, (Seq, u64), foldhash::fast::FixedState>,
    /// The highest head seen of each conversation, and the id of that record.
    pub(super) heads: BTreeMap<ConversationId, (Seq, u64)>,
    /// The furthest read that each user asked for, by user and peer.
    pub(super) reads: Vec<Vec<Seq>>,
    /// The same since faults ended: these must come to be.
    pub(super) last_reads: Vec<Vec<Seq>>,
}

/// A group that somebody is going to create.
pub struct Group {
    pub cmid: ClientMessageId,
    pub id: ConversationId,
    pub members: Vec<usize>,
}

/// One conversation, and what its log says of its members.
pub struct Room {
    pub id: ConversationId,
    pub fold: Fold,
    /// Since when the node has shown that it knows the log up to where.
    known: Vec<(u64, Seq)>,
}

/// What a device has of one conversation.
#[derive(Clone, Copy, Default)]
pub(super) struct Held {
    /// The last record that the app has stored.
    pub kept: Seq,
    /// Given to the app in this life of its process.
    pub given: Seq,
    /// Stored by the app; and everything before it, but for own records.
    pub stored: Seq,
    /// The furthest that the app has heard.
    pub delivered_tick: Seq,
    pub read_tick: Seq,
    /// The last that it heard in this life of its process.
    pub last_tick: (Seq, Seq),
    /// What the app has is of a store that was put back since; and up to where it had everything when it dropped that.
    pub void: bool,
    pub floor: Seq,
    /// This life of its process knows of the conversation.
    pub known: bool,
}

pub struct Sending {
    pub device: usize,
    pub to: usize,
    pub meant: Meant,
    /// `None`: of an erasure.
    pub body: Option<v1::send::Body>,
    /// Instead of a body: a ciphertext for each device.
    pub slices: Vec<v1::Slice>,
    pub seq: Option<Seq>,
    /// The head when it was made, and when that was.
    pub made: Seq,
    pub made_us: u64,
    /// How often it arrived at a node.
    pub asked: u32,
    /// Until when its sender was told to wait.
    pub limited_us: u64,
    /// It is too old to be stored, and must be refused for that.
    pub expires: bool,
}

impl Sending {
    pub fn new(device: usize, to: usize, meant: Meant, body: Option<v1::send::Body>) -> Self {
        let (slices, seq, expires) = (Vec::new(), None, false);
        let (made, made_us, asked, limited_us) = (0, 0, 0, 0);
        Self { device, to, meant, body, slices, seq, made, made_us, asked, limited_us, expires }
    }
}

impl Oracle {
    pub fn new(plan: &Plan) -> Self {
        let devices_of = &plan.users;
        let user = |at: usize| UserKey::new("default", &format!("u{at}")).unwrap();
        let users: Vec<UserKey> = (0..devices_of.len()).map(user).collect();
        let devices: Vec<(usize, DeviceId)> = devices_of
            .iter()
            .enumerate()
            .flat_map(|(user, &n)| (0..n).map(move |d| (user, DeviceId::new(&format!("d{d}")).unwrap())))
            .collect();
        let groups: Vec<Group> =
            plan.groups.iter().enumerate().map(|(at, group)| group.named(at, &users, &devices)).collect();
        let peers = users.len() + groups.len();
        let (mut rooms, mut room_of) = (Vec::new(), vec![vec![0; peers]; users.len()]);
        for a in 0..users.len() {
            for b in a..users.len() {
                (room_of[a][b], room_of[b][a]) = (rooms.len(), rooms.len());
                let id = users[a].direct_with(&users[b]);
                rooms.push(Room::new(id, Fold::new(users.len(), Some([a, b]), plan.is_steady())));
            }
        }
        for (at, group) in groups.iter().enumerate() {
            room_of.iter_mut().for_each(|rooms_of| rooms_of[users.len() + at] = rooms.len());
            rooms.push(Room::new(group.id, Fold::new(users.len(), None, plan.is_steady())));
        }
        Self {
            held: vec![vec![Held::default(); peers]; devices.len()],
            told: vec![vec![BTreeMap::new(); peers]; devices.len()],
            crashed: false,
            received: vec![vec![BTreeSet::new(); users.len()]; rooms.len()],
            reads: vec![vec![0; peers]; users.len()],
            last_reads: vec![vec![0; peers]; users.len()],
            groups,
            rooms,
            room_of,
            changes: BTreeMap::new(),
            refused: BTreeMap::new(),
            lost: BTreeSet::new(),
            lists: Lists::default(),
            sends: BTreeMap::new(),
            heads: BTreeMap::new(),
            blocks: BTreeMap::new(),
            erasures: BTreeMap::new(),
            raised: HashMap::default(),
            had: vec![vec![0; peers]; users.len()],
            linked: vec![Linked::default(); devices.len()],
            shown: vec![Shown { reads: vec![0; peers], ..Shown::default() }; users.len()],
            typing: Typing::default(),
            presence: Presence::new(users.len(), plan),
            under_way_us: under_way_us(plan),
            steady: plan.is_steady(),
            unix_us: 0,
            users,
            devices,
        }
    }

    pub fn conversation(&self, a: usize, b: usize) -> ConversationId {
        self.rooms[self.room_of[a][b]].id
    }

    pub fn room(&self, user: usize, peer: usize) -> usize {
        self.room_of[user][peer]
    }

    /// The node has said something that only who knows the log up to `seq` can say.
    pub fn knows(&mut self, user: usize, peer: usize, now: u64, seq: Seq) {
        let room = self.room_of[user][peer];
        let known = &mut self.rooms[room].known;
        if seq > known.last().map_or(0, |(_, last)| *last) {
            known.push((now, seq));
        }
    }

    /// How much of the log whoever says something now has gone by, at least.
    pub fn known(&self, user: usize, peer: usize, now: u64) -> Seq {
        let known = self.rooms[self.room_of[user][peer]].known.iter().rev();
        known.into_iter().find(|(at, _)| at + self.under_way_us < now).map_or(0, |(_, seq)| *seq)
    }

    /// Of a room: the two whom it is for; `None`: a group.
    pub(super) fn two_of(&self, room: usize) -> Option<[usize; 2]> {
        let users = 0..self.users.len();
        users.clone().find_map(|a| users.clone().find(|b| self.room_of[a][*b] == room).map(|b| [a, b]))
    }

    /// Users, and behind them groups.
    pub fn peers(&self) -> usize {
        self.users.len() + self.groups.len()
    }

    pub fn is_group(&self, peer: usize) -> bool {
        peer >= self.users.len()
    }

    /// What the log of a conversation says by now.
    pub fn fold(&mut self, store: &FaultyStore, user: usize, peer: usize) -> &Fold {
        let room = &mut self.rooms[self.room_of[user][peer]];
        for record in &store.log(&room.id)[room.fold.head as usize..] {
            room.fold.apply(record);
        }
        &room.fold
    }

    /// What was read of it before.
    pub fn folded(&self, user: usize, peer: usize) -> &Fold {
        &self.rooms[self.room_of[user][peer]].fold
    }

    /// The newest record that is for this user; 0: none.
    pub fn newest(&mut self, store: &FaultyStore, user: usize, peer: usize) -> Seq {
        self.fold(store, user, peer);
        let (log, fold) = (store.log(&self.conversation(user, peer)), self.folded(user, peer));
        log.iter().rev().find(|record| fold.sees(user, record)).map_or(0, |record| record.seq)
    }

    /// Whether a device may come to what follows this record without it: it is not for it, or has expired.
    pub fn may_pass(&self, store: &FaultyStore, device: usize, peer: usize, seq: Seq) -> bool {
        let conversation = self.conversation(self.devices[device].0, peer);
        let record = store.log(&conversation).get(seq as usize - 1);
        record.is_some_and(|record| seq <= store.gone(&conversation) || !self.is_for(device, peer, record))
    }

    /// Whether a record of what was folded is to be sent to this device.
    pub fn is_for(&self, device: usize, peer: usize, record: &Record) -> bool {
        self.may_be_for(device, peer, record) && !self.has_no_slice(device, record)
    }

    /// The same, or it may be sent to it since it was taken back: who had no slice sees as much as who had one.
    fn may_be_for(&self, device: usize, peer: usize, record: &Record) -> bool {
        let user = self.devices[device].0;
        let none = matches!(record.body, Body::Slices(_)) && self.has_no_slice(device, record);
        !none && !self.is_own(device, record) && self.folded(user, peer).sees(user, record)
    }

    /// The user of this name.
    pub fn user(&self, name: &str) -> Option<usize> {
        let at: usize = name.strip_prefix('u')?.parse().ok()?;
        (at < self.users.len()).then_some(at)
    }

    pub fn peer(&self, peer: &Option<v1::Peer>) -> Result<usize, String> {
        match peer.as_ref().and_then(|peer| peer.peer.as_ref()) {
            Some(v1::peer::Peer::User(name)) => self.user(name).ok_or_else(|| format!("peer {name:?} does not exist")),
            Some(v1::peer::Peer::Group(id)) => {
                let at = self.groups.iter().position(|group| group.id.0[..] == id[..]);
                at.map(|at| self.users.len() + at).ok_or_else(|| format!("group {id:?} does not exist"))
            }
            other => Err(format!("{other:?} is no peer")),
        }
    }

    pub fn is_own(&self, device: usize, record: &Record) -> bool {
        let (user, name) = self.devices[device];
        record.device == name && record.sender == self.users[user]
    }
}

impl Room {
    fn new(id: ConversationId, fold: Fold) -> Self {
        Self { id, fold, known: Vec::new() }
    }

    pub(super) fn forget_known(&mut self) {
        self.known.clear();
    }
}

pub fn ensure(holds: bool, why: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(why()) }
}
