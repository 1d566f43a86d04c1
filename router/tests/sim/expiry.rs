//! Records that expire, some before those have them for whom they are; and what the oracle makes of that.
//!
//! What has expired is in no answer of the store any more. The oracle still sees it, and knows which app has stored it.

use super::dice::Dice;
use super::oracle::{Oracle, Verdict, ensure};
use super::plan::{Action, Ask, MS, Plan, SECOND};
use super::world::{Event, World};
use ringpost_persist::faulty::FaultyStore;
use ringpost_persist::{MISSED_RANGES, RegisterKey};
use ringpost_proto::id::{ConversationId, Seq};
use ringpost_proto::v1;

/// Records expire so long after it was decided which: nothing of them is under way then.
const OLD_US: u64 = 10 * SECOND;

impl Plan {
    /// In some worlds people are away while what was sent to them expires. There nobody says anything about earlier records
    /// nor asks for them by their ids: what is gone cannot be found.
    pub fn draw_expiry(&mut self, length: u64) {
        let mut dice = Dice::new(self.seed ^ 0x0e59_117e);
        // A store that is put back has again what had expired.
        let restores = self.actions.iter().any(|(_, action)| matches!(action, Action::Restore { .. }));
        if restores || !dice.percent(30) {
            return;
        }
        // Devices without a slice pass over it as well, and nobody's ack says so.
        self.actions.retain(|(_, action)| {
            let names = matches!(action, Action::Say { .. } | Action::Ask { what: Ask::Forge | Ask::Lookup, .. });
            !names && !matches!(action, Action::SendSliced { .. })
        });
        let (devices, users, groups) = (self.devices(), self.users.len(), self.groups.len());
        for _ in 0..dice.between(1, 3) {
            let (away, sender) = (dice.pick(users), dice.pick(devices));
            let to = if groups > 0 && dice.percent(40) { users + dice.pick(groups) } else { away };
            let mut at = dice.between(0, length.saturating_sub(35 * SECOND));
            let first: usize = self.users[..away].iter().sum();
            for device in first..first + self.users[away] {
                // At times one of several devices is there.
                if device == first || dice.percent(80) {
                    self.actions.push((at, Action::Restart { device, away: dice.between(16, 25) * SECOND }));
                }
            }
            for _ in 0..dice.between(1, 8) {
                at += dice.between(0, 300 * MS);
                self.actions.push((at, Action::Send { device: sender, to, bytes: 20 }));
            }
            self.actions.push((at + dice.between(2, 4) * SECOND, Action::Expire { device: sender, of: to }));
        }
        for _ in 0..dice.between(0, 3) {
            let action = Action::Expire { device: dice.pick(devices), of: dice.pick(users + groups) };
            self.actions.push((dice.between(0, length.saturating_sub(12 * SECOND)), action));
        }
    }
}

impl World {
    /// The records that there are now will expire, up to the first whose sender does not know yet what became of it: it asks
    /// again, and is to find it.
    pub fn expire_soon(&mut self, device: usize, of: usize) {
        let conversation = self.oracle.conversation(self.devices[device].user, of);
        let log = self.store.log(&conversation);
        let known = log.iter().take_while(|record| {
            let sent = self.oracle.sends.get(&record.cmid).is_none_or(|sending| sending.seq.is_some());
            sent && self.changes.iter().all(|change| change.done || change.cmid != record.cmid)
        });
        let mut upto = known.count() as Seq;
        if upto > 0 && self.dice.percent(30) {
            upto = self.dice.between(1, upto);
        }
        self.at(self.now + OLD_US, Event::Expires { conversation, upto });
    }

    /// Up to where the records of a conversation have expired.
    pub fn gone(&self, user: usize, peer: usize) -> Seq {
        self.store.gone(&self.oracle.conversation(user, peer))
    }

    pub fn expires(&mut self, conversation: ConversationId, upto: Seq) {
        if upto > self.store.gone(&conversation) {
            self.coverage.mark("records expired");
            self.trace(|| format!("{conversation:?} expires up to {upto}"));
            self.store.expire(&conversation, upto);
        }
    }
}

impl Oracle {
    /// Whether a record was for this user, has expired, and was never stored by any app of it.
    pub fn misses(&self, store: &FaultyStore, other: usize, user: usize, peer: usize, seq: Seq) -> bool {
        let conversation = self.conversation(user, peer);
        seq <= store.gone(&conversation)
            && !self.received[self.room(user, peer)][other].contains(&seq)
            && store
                .log(&conversation)
                .get(seq as usize - 1)
                .is_some_and(|record| record.sender != self.users[other] && self.folded(user, peer).sees(other, record))
    }

    /// A tick names what of the sender's records the other one will never have.
    pub fn misses_are_told(
        &self,
        store: &FaultyStore,
        [user, other]: [usize; 2],
        peer: usize,
        tick: &v1::Tick,
    ) -> Verdict {
        let gone = store.gone(&self.conversation(user, peer)).min(tick.delivered_seq);
        let since = self.folded(user, peer).since(other).unwrap_or(1);
        let own = |seq: &Seq| self.folded(user, peer).sender(*seq) == Some(user);
        let told = |seq: &Seq| tick.excluded.iter().any(|range| (range.from_seq..=range.to_seq).contains(seq));
        let silent = (since..=gone).find(|seq| own(seq) && self.misses(store, other, user, peer, *seq) && !told(seq));
        ensure(silent.is_none(), || format!("tick: u{user} hears {tick:?}, u{other} never got {silent:?}"))?;
        let silent = (since..=tick.delivered_seq)
            .find(|seq| own(seq) && self.is_for_no_device(store, other, user, peer, *seq) && !told(seq));
        ensure(silent.is_none(), || format!("tick: u{user} hears {tick:?}, {silent:?} is for no device of u{other}"))?;
        // Nor is anything told to be lost that is not. The last of as many ranges as there may be has no end.
        let bounded = tick.excluded.get(MISSED_RANGES - 1).map_or(Seq::MAX, |range| range.from_seq);
        let kept = |seq: &Seq| {
            let sent = own(seq) && *seq < bounded && self.folded(user, peer).may_see(other, *seq) && told(seq);
            let two = [other];
            let all: Vec<usize> = (0..self.users.len()).collect();
            let others = if self.is_group(peer) { &all[..] } else { &two[..] };
            sent && !others.iter().any(|other| self.left_out(store, *other, user, peer, *seq))
        };
        let lost = (gone + 1..=tick.delivered_seq).find(kept);
        ensure(lost.is_none(), || format!("tick: u{user} hears {tick:?}, {lost:?} is kept for u{other}"))
    }

    /// What expired before a user had it is marked as missed wherever its Delivered registers are beyond it.
    pub fn misses_are_marked(&self, store: &FaultyStore, user: usize, peer: usize) -> Verdict {
        let conversation = self.conversation(user, peer);
        let (delivered, _) = self.marks(store, user, peer)[user];
        for seq in 1..=store.gone(&conversation).min(delivered) {
            let marked = || store.register(&RegisterKey::Missed(conversation, self.users[user].clone(), seq)) >= seq;
            ensure(!self.misses(store, user, user, peer, seq) || marked(), || {
                format!("missed: u{user} never got {seq} of {peer}, is marked to have {delivered}")
            })?;
        }
        Ok(())
    }
}
