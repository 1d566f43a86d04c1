//! What is going to happen to a world: drawn from its seed before it begins, so that a failing world can be made smaller
//! by leaving parts out.

use super::dice::Dice;
use super::past::Past;
use ringpost_persist::faulty::Faults;
use ringpost_proto::wire::Encoding;

pub const SECOND: u64 = 1_000_000;
pub const MS: u64 = 1_000;
/// Longer than a router keeps an idle conversation.
const SILENCE: u64 = 700 * SECOND;

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub shards: u16,
    /// Devices per user.
    pub users: Vec<usize>,
    /// Of 100 connections, how many stay at another shard than their user's.
    pub strays: u64,
    pub window_pushes: u32,
    pub window_bytes: u32,
    /// One way, most, microseconds.
    pub latency_us: u64,
    pub mesh_us: u64,
    /// For how long a token is good.
    pub token_ms: u64,
    /// Of 100 renewals asked for, how many are forgotten.
    pub forgetful: u64,
    /// Every frame goes through these bytes.
    pub encoding: Option<Encoding>,
    pub store: Faults,
    pub past: Option<Past>,
    pub groups: Vec<GroupPlan>,
    /// In order of time. No fault begins after `faults_end`.
    pub actions: Vec<(u64, Action)>,
    pub faults_end: u64,
}

/// A group to come: the device that creates it, and users.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    pub creator: usize,
    pub members: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Send {
        device: usize,
        to: usize,
        bytes: usize,
    },
    Read {
        device: usize,
        of: usize,
    },
    /// A change of a group; `fit`: by somebody who may.
    Change {
        device: usize,
        group: usize,
        fit: bool,
        turn: Turn,
    },
    /// Raw request with an answer that the oracle checks.
    Ask {
        device: usize,
        of: usize,
        what: Ask,
    },
    /// The node dies and is back after this long.
    Crash {
        down: u64,
    },
    /// The node closes its sessions, ends, and is back.
    Drain {
        down: u64,
    },
    /// The connection breaks; each side learns of it later, what is under way may be lost.
    Cut {
        device: usize,
    },
    /// Nothing passes any more and nobody is told.
    Blackhole {
        device: usize,
    },
    /// The client gives its connection up without a word and opens another.
    Hop {
        device: usize,
    },
    /// The client does not read for so long.
    Stall {
        device: usize,
        long: u64,
    },
    /// The client's process dies: what the app has not stored is gone; it is back after this long.
    Restart {
        device: usize,
        away: u64,
    },
    /// The wall clock jumps by so many milliseconds.
    Jump {
        ms: i64,
    },
    /// The queue to the store is full for so long.
    Full {
        long: u64,
    },
}

/// What becomes of a group; users by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Create,
    Add(usize),
    Remove(usize),
    Leave,
    Role { user: usize, admin: bool },
    Rename,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    History {
        before: bool,
    },
    Conversations,
    Lookup,
    /// The last message once more, with other content under the same id.
    Forge,
    Ping,
    /// One of the changes that are wanted.
    Change(usize),
}

impl Plan {
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let dice = &mut dice;
        let users: Vec<usize> = (0..dice.between(2, 6)).map(|_| [1, 1, 1, 2, 2, 3][dice.pick(6)]).collect();
        let length = dice.between(40, 100) * SECOND;
        let shards = dice.between(2, 4) as u16;
        let mut plan = Self {
            seed,
            shards,
            strays: [0, 20, 50][dice.pick(3)],
            window_pushes: [2, 8, 64][dice.pick(3)],
            window_bytes: [2 << 10, 256 << 10][dice.pick(2)],
            latency_us: [300, 5_000, 80_000][dice.pick(3)],
            mesh_us: [20, 500, 20_000][dice.pick(3)],
            token_ms: [20_000, 200_000, 3_600_000][dice.pick(3)],
            forgetful: [0, 50][dice.pick(2)],
            encoding: [None, None, None, None, None, None, Some(Encoding::Protobuf), Some(Encoding::Json)]
                [dice.pick(8)],
            store: store_faults(dice),
            past: None,
            groups: Vec::new(),
            actions: Vec::new(),
            faults_end: length,
            users,
        };
        plan.draw_groups(dice, length);
        plan.draw_traffic(dice, length);
        plan.draw_faults(dice, length);
        if dice.percent(12) {
            let users = plan.users.len();
            plan.past =
                Some(Past { a: dice.pick(users), b: dice.pick(users), records: dice.between(260, 420) as usize });
        }
        plan.actions.sort_by_key(|(at, _)| *at);
        if dice.percent(12) {
            plan.fall_silent();
        }
        plan
    }

    /// In the middle nothing happens for so long that routers drop what they hold in memory.
    fn fall_silent(&mut self) {
        let middle = self.faults_end / 2;
        self.actions.iter_mut().filter(|(at, _)| *at > middle).for_each(|(at, _)| *at += SILENCE);
        self.faults_end += SILENCE;
    }

    pub fn devices(&self) -> usize {
        self.users.iter().sum()
    }

    /// Most worlds have groups: made early, changed all the time.
    fn draw_groups(&mut self, dice: &mut Dice, length: u64) {
        let (devices, users) = (self.devices(), self.users.len());
        for group in 0..[0, 1, 1, 2][dice.pick(4)] {
            let creator = dice.pick(devices);
            let members = (0..users).filter(|_| dice.percent(70)).collect();
            self.groups.push(GroupPlan { creator, members });
            let begun = dice.between(0, length / 8);
            let create = Action::Change { device: creator, group, fit: false, turn: Turn::Create };
            self.actions.push((begun, create));
            let mut at = begun;
            for _ in 0..dice.between(4, 24) {
                // Some right behind each other, so that they race.
                at = if dice.percent(40) { at + dice.between(0, 50 * MS) } else { dice.between(begun, length) };
                let user = dice.pick(users);
                let turn = match dice.pick(16) {
                    0..=4 => Turn::Remove(user),
                    5..=10 => Turn::Add(user),
                    11 | 12 => Turn::Role { user, admin: dice.percent(60) },
                    13 | 14 => Turn::Leave,
                    _ => Turn::Rename,
                };
                let (device, fit) = (dice.pick(devices), dice.percent(80));
                self.actions.push((at.min(length), Action::Change { device, group, fit, turn }));
            }
        }
    }

    fn draw_traffic(&mut self, dice: &mut Dice, length: u64) {
        let (devices, users, groups) = (self.devices(), self.users.len(), self.groups.len());
        let mut sends = dice.between(180, 380);
        while sends > 0 {
            // Conversations come in bursts: the same two, close together.
            let mut at = dice.between(0, length);
            let (device, mut to) = (dice.pick(devices), dice.pick(users));
            if groups > 0 && dice.percent(40) {
                to = users + dice.pick(groups);
            }
            for _ in 0..dice.between(1, 12).min(sends) {
                let bytes = if dice.percent(4) { dice.between(1_000, 6_000) } else { dice.between(0, 40) } as usize;
                self.actions.push((at, Action::Send { device, to, bytes }));
                at = (at + dice.between(0, 400 * MS)).min(length);
                sends -= 1;
            }
        }
        for _ in 0..dice.between(10, 40) {
            let action = Action::Read { device: dice.pick(devices), of: dice.pick(users + groups) };
            self.actions.push((dice.between(0, length), action));
        }
        for _ in 0..dice.between(5, 25) {
            let what = [
                Ask::History { before: false },
                Ask::History { before: true },
                Ask::Conversations,
                Ask::Lookup,
                Ask::Forge,
                Ask::Ping,
            ][dice.pick(6)];
            let action = Action::Ask { device: dice.pick(devices), of: dice.pick(users + groups), what };
            self.actions.push((dice.between(0, length), action));
        }
        // More questions at once than a session may have without an answer.
        if dice.percent(10) {
            let (device, of, at) = (dice.pick(devices), dice.pick(users), dice.between(0, length));
            let what = Ask::History { before: false };
            (0..40).for_each(|_| self.actions.push((at, Action::Ask { device, of, what })));
        }
    }

    fn draw_faults(&mut self, dice: &mut Dice, length: u64) {
        let devices = self.devices();
        let mut some = |dice: &mut Dice, most: u64, action: &dyn Fn(&mut Dice) -> Action| {
            for _ in 0..dice.between(0, most) {
                let at = dice.between(0, length);
                let action = action(dice);
                self.actions.push((at, action));
            }
        };
        let down = |dice: &mut Dice| dice.between(50 * MS, 3 * SECOND);
        some(dice, 2, &|dice| Action::Crash { down: down(dice) });
        for _ in 0..2 {
            some(dice, 2, &|dice| Action::Crash { down: down(dice) });
        }
        some(dice, 1, &|dice| Action::Drain { down: down(dice) });
        some(dice, 12, &|dice| Action::Cut { device: dice.pick(devices) });
        some(dice, 3, &|dice| Action::Blackhole { device: dice.pick(devices) });
        some(dice, 6, &|dice| Action::Hop { device: dice.pick(devices) });
        some(dice, 2, &|dice| Action::Stall { device: dice.pick(devices), long: dice.between(SECOND, 50 * SECOND) });
        some(dice, 4, &|dice| Action::Restart { device: dice.pick(devices), away: dice.between(0, 30 * SECOND) });
        some(dice, 2, &|dice| Action::Jump { ms: dice.between(0, 7_200_000) as i64 - 3_600_000 });
        some(dice, 2, &|dice| Action::Full { long: dice.between(100 * MS, 5 * SECOND) });
        // A device that hops four times at once is refused the fourth.
        if dice.percent(15) {
            let (device, at) = (dice.pick(devices), dice.between(0, length / 2));
            (0..6).for_each(|n| self.actions.push((at + n * 3 * SECOND, Action::Hop { device })));
        }
    }
}

fn store_faults(dice: &mut Dice) -> Faults {
    let mut faults = Faults::none();
    faults.latency_us = (50, [300, 5_000, 50_000][dice.pick(3)]);
    let mut rate = |percent: u64, most: u64| if dice.percent(percent) { dice.between(20, most) as u32 } else { 0 };
    faults.slow = rate(40, 300);
    faults.unavailable = rate(40, 400);
    faults.full = rate(20, 200);
    faults.unknown_landed = rate(40, 300);
    faults.unknown_lost = rate(40, 300);
    faults.unknown_late = rate(40, 300);
    faults.slow_us = 2 * SECOND;
    faults.late_us = 3 * SECOND;
    faults.crash_lands = [0, 5_000, 10_000][dice.pick(3)];
    faults
}
