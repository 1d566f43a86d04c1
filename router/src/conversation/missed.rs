//! What members missed: records that had expired before any device of theirs was given them, or have a slice for none of
//! their devices, because they had none when it was sent, or not those that they have now.
//!
//! Guarantees: positions move on over what has expired, and nobody is told that it was received: ticks say what is excluded,
//! questions about a record are answered with SENT. It is a register, written before the Delivered register that is beyond
//! it, so no restart makes a miss a delivery. Never does: ask the store what is kept. The session that read the log for a
//! device says what was gone when it did: later, whoever was given a record would seem to have missed it, and earlier the
//! other way round. It says as well for which devices of those there are a record has no slice; of the newest records, whom
//! they were not for at all is known here.

use super::Conversation;
use super::tail::Brief;
use ringpost_persist::ranges::{self, Ranges};
use ringpost_persist::{EXCLUDED_RANGES, MISSED_RANGES, MemberAt, Raise, RegisterKey};
use ringpost_proto::id::{Seq, UserKey};
use ringpost_proto::v1::kind::Value as Kind;

impl Conversation {
    fn missed(&self, member: MemberAt) -> &[(Seq, Seq)] {
        self.progress.get(usize::from(member)).map_or(&[], |progress| &progress.missed)
    }

    /// Whether no device of the member was ever given this record, nor will be.
    pub(super) fn has_missed(&self, member: MemberAt, seq: Seq) -> bool {
        ranges::end_of(self.missed(member), seq).is_some()
    }

    /// The most advanced device of a member moved from `before` to `after`, over `gone`. Returns how many records are missed
    /// now; those that the member sent itself meanwhile are among them.
    pub(super) fn miss(&mut self, member: MemberAt, gone: &Ranges, before: Seq, after: Seq) -> u64 {
        let Some(it) = self.roster.get(member) else { return 0 };
        let mut gone = gone.clone();
        let left_out = |record: &&Brief| {
            let meant = record.kind != Kind::KeyDistribution && record.sender != it.user;
            meant && record.is_for(it) && record.leaves_out(member)
        };
        self.tail.between(before, after).filter(left_out).for_each(|record| {
            ranges::add(&mut gone, record.seq, record.seq);
        });
        let fresh = ranges::within(&gone, before.max(it.join.saturating_sub(1)) + 1, after);
        // What was hidden from it was not for it: of a group, others had it while this one was away.
        let fresh = ranges::without(&fresh, &it.hidden);
        self.restore_missed(member, &fresh);
        if !fresh.is_empty() {
            self.member_progress(member).missed_dirty = true;
            self.dirty = true;
        }
        ranges::len(&fresh)
    }

    /// As it was written.
    pub(super) fn restore_missed(&mut self, member: MemberAt, missed: &[(Seq, Seq)]) {
        if !missed.is_empty() {
            let known = &mut self.member_progress(member).missed;
            ranges::add_all(known, missed);
            ranges::bound(known, MISSED_RANGES);
        }
    }

    /// What is to be written of it.
    pub(super) fn missed_raises(&mut self, member: MemberAt, user: &UserKey, raises: &mut Vec<Raise>) {
        let id = self.id;
        let Some(progress) = self.existing(member) else { return };
        // With every Delivered: an earlier write of it may have failed, or is not answered.
        let dirty = std::mem::take(&mut progress.missed_dirty) || progress.devices.iter().any(|device| device.dirty);
        if !dirty {
            return;
        }
        let raise = |(from, to): &(Seq, Seq)| Raise::new(RegisterKey::Missed(id, user.clone(), *from), *to);
        raises.extend(progress.missed.iter().map(raise));
    }

    /// What of the log up to `upto` did not reach `member` and will not: kept from it, or missed.
    pub(super) fn excluded(&self, member: MemberAt, upto: Seq) -> Ranges {
        let mut excluded = self.roster.get(member).map(|it| it.excluded(upto)).unwrap_or_default();
        ranges::add_all(&mut excluded, &ranges::within(self.missed(member), 1, upto));
        excluded
    }

    /// Whether any member missed anything.
    pub(super) fn has_anybody_missed(&self) -> bool {
        self.progress.iter().any(|progress| !progress.missed.is_empty())
    }

    /// The same of all members of a group but one: what any of them missed.
    pub(super) fn excluded_of_others(&self, but: MemberAt, upto: Seq) -> Ranges {
        let others = (0..).zip(&self.progress).filter(|(at, progress)| *at != but && !progress.missed.is_empty());
        let missed = others.filter_map(|(at, it)| Some(self.roster.get(at)?.keeps_back(&it.missed, upto)));
        ranges::union(missed, EXCLUDED_RANGES, upto)
    }
}
