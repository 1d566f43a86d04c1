//! Drawing a plan: how often what happens, each number once and here.

use super::dice::Dice;
use super::past::Past;
use super::plan::{Action, Ask, GroupPlan, MS, Plan, SECOND, Said, Turn};
use super::slices::Flaw;
use ringpost_persist::faulty::Faults;
use ringpost_proto::wire::Encoding;

/// Longer than a router keeps an idle conversation.
const SILENCE: u64 = 700 * SECOND;

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
            // In most that have a limit it is more than any world begins: what counts is asked and told.
            new_conversations: [0, 0, 0, 10_000, 10_000, 10_000, 1, 2][dice.pick(8)],
            encoding: [None, None, None, None, None, None, Some(Encoding::Protobuf), Some(Encoding::Json)]
                [dice.pick(8)],
            store: store_faults(dice),
            late: Vec::new(),
            past: None,
            groups: Vec::new(),
            actions: Vec::new(),
            faults_end: length,
            users,
        };
        plan.draw_groups(dice, length);
        plan.draw_traffic(dice, length);
        plan.draw_questions(dice, length);
        plan.draw_said(dice, length);
        plan.draw_slices(dice, length);
        plan.draw_blocks(dice, length);
        plan.draw_typing(dice, length);
        plan.draw_presence(dice, length);
        plan.draw_devices(dice, length);
        plan.draw_faults(dice, length);
        plan.draw_restore(dice, length);
        if dice.percent(12) {
            let users = plan.users.len();
            plan.past =
                Some(Past { a: dice.pick(users), b: dice.pick(users), records: dice.between(260, 420) as usize });
        }
        plan.draw_expiry(length);
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
        let mut sends = dice.between(160, 320);
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
    }

    fn draw_questions(&mut self, dice: &mut Dice, length: u64) {
        let (devices, users, groups) = (self.devices(), self.users.len(), self.groups.len());
        for _ in 0..dice.between(5, 25) {
            let what = [
                Ask::History { before: false },
                Ask::History { before: true },
                Ask::Conversations,
                Ask::Conversations,
                Ask::Info,
                Ask::Lookup,
                Ask::Forge,
                Ask::Ping,
            ][dice.pick(8)];
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

    /// Edits, erasures and reactions, some right behind each other, so that they race.
    fn draw_said(&mut self, dice: &mut Dice, length: u64) {
        let (devices, peers) = (self.devices(), self.users.len() + self.groups.len());
        let mut at = 0;
        for _ in 0..dice.between(8, 32) {
            at = if dice.percent(30) { at + dice.between(0, 50 * MS) } else { dice.between(0, length) };
            let said = [Said::Edit, Said::Edit, Said::Erase, Said::Erase, Said::React][dice.pick(5)];
            let (device, of, fit) = (dice.pick(devices), dice.pick(peers), dice.percent(85));
            self.actions.push((at.min(length), Action::Say { device, of, said, fit }));
        }
    }

    /// Ciphertexts for each device, most of them for the right ones.
    fn draw_slices(&mut self, dice: &mut Dice, length: u64) {
        let (devices, peers) = (self.devices(), self.users.len() + self.groups.len());
        for _ in 0..dice.between(6, 30) {
            let (device, to, at) = (dice.pick(devices), dice.pick(peers), dice.between(0, length));
            let flaw = [Flaw::None, Flaw::None, Flaw::None, Flaw::Missing, Flaw::Extra, Flaw::Stale][dice.pick(6)];
            self.actions.push((at, Action::SendSliced { device, to, key: dice.percent(25), flaw }));
        }
    }

    /// In some worlds the store is put back to what it was; nobody is linked or unlinked there, which would be undone with it.
    fn draw_restore(&mut self, dice: &mut Dice, length: u64) {
        if !dice.percent(10) {
            return;
        }
        let unlinks =
            |action: &Action| matches!(action, Action::Revoke { .. } | Action::Ask { what: Ask::Unlink { .. }, .. });
        self.actions.retain(|(_, action)| !unlinks(action));
        self.late.clear();
        let taken = dice.between(length / 20, length * 3 / 4);
        self.actions.push((taken, Action::Backup));
        for _ in 0..dice.between(1, 2) {
            let at = dice.between(taken, length);
            self.actions.push((at, Action::Restore { down: dice.between(50 * MS, 3 * SECOND) }));
        }
    }

    /// In some worlds people block each other, most for a while.
    fn draw_blocks(&mut self, dice: &mut Dice, length: u64) {
        let (devices, users) = (self.devices(), self.users.len());
        for _ in 0..[0, 0, 1, 2, 4][dice.pick(5)] {
            let (mut device, of, mut at) = (dice.pick(devices), dice.pick(users), dice.between(0, length));
            let mut on = true;
            for _ in 0..dice.between(1, 4) {
                let most = [100 * MS, 20 * SECOND][dice.pick(2)];
                at = (at + dice.between(0, most)).min(length);
                self.actions.push((at, Action::Ask { device, of, what: Ask::Block { on } }));
                on = !on;
                device = if dice.percent(20) { dice.pick(devices) } else { device };
            }
        }
    }

    /// Some go on writing, some stop, most are interrupted.
    fn draw_typing(&mut self, dice: &mut Dice, length: u64) {
        let (devices, peers) = (self.devices(), self.users.len() + self.groups.len());
        for _ in 0..dice.between(2, 12) {
            let (device, of, mut at) = (dice.pick(devices), dice.pick(peers), dice.between(0, length));
            for _ in 0..dice.between(1, 4) {
                self.actions.push((at.min(length), Action::Type { device, of, composing: dice.percent(80) }));
                at += dice.between(0, 5 * SECOND);
            }
        }
    }

    /// In most worlds somebody watches somebody, who comes and goes.
    fn draw_presence(&mut self, dice: &mut Dice, length: u64) {
        let (devices, users) = (self.devices(), self.users.len());
        let watches = [0, 0, 2, 4, 6][dice.pick(5)];
        let mut some = |dice: &mut Dice, most: u64, what: &dyn Fn(&mut Dice) -> Ask| {
            for _ in 0..dice.between(0, most) {
                // One more than there are: a stranger.
                let (device, of, at) = (dice.pick(devices), dice.pick(users + 1), dice.between(0, length));
                let what = what(dice);
                self.actions.push((at, Action::Ask { device, of, what }));
            }
        };
        for _ in 0..watches {
            some(dice, 2, &|_| Ask::Watch { on: true });
        }
        if dice.percent(30) {
            some(dice, 4, &|dice| Ask::Show { whom: dice.pick(3) as u8, receipts: true });
        }
        if watches > 0 {
            some(dice, 2, &|_| Ask::Watch { on: false });
            some(dice, 6, &|dice| Ask::Away { on: dice.percent(60) });
            some(dice, 3, &|dice| Ask::Show { whom: dice.pick(3) as u8, receipts: false });
        }
    }

    /// Of users with several devices one may come later, or be unlinked, by the first one or by the operator.
    fn draw_devices(&mut self, dice: &mut Dice, length: u64) {
        let mut first = 0;
        for devices in self.users.clone() {
            for device in first + 1..first + devices {
                if dice.percent(25) {
                    self.late.push(device);
                }
                if dice.percent(20) {
                    let asks = if dice.percent(80) { first } else { device };
                    let ask = Action::Ask { device: asks, of: 0, what: Ask::Unlink { target: device } };
                    let action = if dice.percent(30) { Action::Revoke { device } } else { ask };
                    self.actions.push((dice.between(0, length), action));
                }
            }
            first += devices;
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
