//! How far each device and each reader is: positions that only grow.

use super::ask::EARLY;
use super::tail::Brief;
use super::{Conversation, Early, Phase};
use crate::Router;
use crate::envelope::{Envelope, SessionRef};
use crate::frozen::frozen;
use crate::refusal;
use crate::slab::Key;
use crate::user::settings::Audience;
use ringpost_persist::ranges::{self, Ranges};
use ringpost_persist::{ConversationKind, MemberAt, Shown};
use ringpost_proto::id::{ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::kind::Value as Kind;
use smallvec::SmallVec;
use std::sync::Arc;

/// Who says to have read, and where the answer goes.
#[derive(Debug)]
pub(crate) struct ReadBy {
    pub user: UserKey,
    pub from: SessionRef,
    pub re: u64,
}

/// One member's devices and reading.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub devices: SmallVec<[DeviceProgress; 1]>,
    pub read: Seq,
    /// How far the member says to have read; beyond what was delivered it counts when that is.
    pub read_asked: Seq,
    pub read_dirty: bool,
    /// What none of its devices was given and none will be, and whether that is to be written.
    pub missed: Ranges,
    pub missed_dirty: bool,
    /// What others are shown of it, and whether the member wants to show more with the next that it reads.
    pub shown: Shown,
    shows: bool,
    /// Of a direct conversation: the other side is to hear of it.
    pub untold: bool,
    /// A tick was sent since the registers were written: in a direct conversation of this member's progress, in a group to
    /// this member.
    pub told: bool,
    /// In a group: how far this member was told that the others are, or would have been if it had sent anything there; and
    /// whether that is to be written.
    pub heard: (Seq, Seq),
    pub heard_dirty: bool,
    pub delivered_move: Move,
    pub read_move: Move,
}

/// The last move of a register, and when it was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Move {
    from: Seq,
    to: Seq,
    unix_ms: u64,
}

impl Move {
    /// The time of the move if it went over `seq`; 0 if not.
    pub fn covering(&self, seq: Seq) -> u64 {
        if self.from < seq && seq <= self.to { self.unix_ms } else { 0 }
    }
}

#[derive(Debug)]
pub(super) struct DeviceProgress {
    pub device: DeviceId,
    pub delivered: Seq,
    pub dirty: bool,
}

impl Progress {
    /// What the most advanced device has.
    pub fn delivered(&self) -> Seq {
        self.devices.iter().map(|device| device.delivered).max().unwrap_or(0)
    }

    /// Up to where others are shown that the member has read.
    pub fn read_shown(&self) -> Seq {
        self.shown.of(self.read)
    }

    /// What this member of a group is told of the others: never less than before, whoever came, hid or showed again.
    pub fn hears(&mut self, (delivered, read): (Seq, Seq)) -> (Seq, Seq) {
        self.heard = (self.heard.0.max(delivered), self.heard.1.max(read));
        self.heard
    }

    /// Whether what it reads is hidden.
    pub fn hides(&self) -> bool {
        self.shown.hides()
    }

    pub fn restore_shown(&mut self, shown: Shown) {
        (self.shown, self.shows) = (shown, !shown.hides());
    }

    /// The member shows what it reads, or does not; what was read before stays as it was. Returns whether that is new.
    fn show(&mut self, shows: bool) -> bool {
        self.shows = shows;
        let hides = !shows && !self.hides();
        if hides {
            self.shown = Shown::hidden_after(self.read_shown());
            self.read_dirty = true;
        }
        hides
    }

    pub fn is_dirty(&self) -> bool {
        self.read_dirty || self.devices.iter().any(|device| device.dirty)
    }
}

impl Conversation {
    pub(super) fn existing(&mut self, member: MemberAt) -> Option<&mut Progress> {
        self.progress.get_mut(usize::from(member))
    }

    pub(super) fn member_progress(&mut self, member: MemberAt) -> &mut Progress {
        let at = usize::from(member);
        if self.progress.len() <= at {
            self.progress.resize_with(at + 1, Progress::default);
        }
        &mut self.progress[at]
    }

    /// Of a device that was not heard of yet: it is just before what the member may see.
    pub(super) fn device(&mut self, member: MemberAt, device: DeviceId) -> &mut DeviceProgress {
        let before = self.roster.get(member).map_or(0, |it| it.join.saturating_sub(1));
        let devices = &mut self.member_progress(member).devices;
        let at = devices.iter().position(|it| it.device == device).unwrap_or_else(|| {
            devices.push(DeviceProgress { device, delivered: before, dirty: false });
            devices.len() - 1
        });
        &mut devices[at]
    }

    /// What the most advanced device of a member has.
    fn delivered_to(&self, member: MemberAt) -> Seq {
        self.progress.get(usize::from(member)).map_or(0, Progress::delivered)
    }

    /// Where a device is that has everything up to `seq`: what follows and is not sent to it counts as well, such as its own
    /// records.
    fn skip_unsent(&self, member: MemberAt, device: DeviceId, seq: Seq) -> Seq {
        let mut seq = seq;
        while let Some(record) = self.tail.get(seq + 1).filter(|record| !self.is_sent_to(record, member, device)) {
            seq = record.seq;
        }
        seq
    }

    fn is_sent_to(&self, record: &Brief, at: MemberAt, device: DeviceId) -> bool {
        let Some(member) = self.roster.get(at) else { return true };
        let own = record.device == device && record.sender == member.user;
        !own && record.is_for(member) && !record.leaves_out(at)
    }

    /// A record that is not sent to this device, such as its own, was appended or read back. Returns how many records are missed
    /// now.
    pub(super) fn advance_own(&mut self, member: MemberAt, device: DeviceId) -> u64 {
        let delivered = self.device(member, device).delivered;
        let skipped = self.skip_unsent(member, device, delivered);
        if skipped <= delivered {
            return 0;
        }
        let before = self.delivered_to(member);
        let progress = self.device(member, device);
        (progress.delivered, progress.dirty) = (skipped, true);
        self.dirty = true;
        let missed = self.miss(member, &Ranges::new(), before, skipped);
        self.advance_read(member, 0);
        missed
    }

    /// What is said about a record of a group is sent to those who may see that one, and slices to their devices: the others
    /// are past it. Returns how many records are missed now.
    pub(super) fn advance_unsent(&mut self, record: &Brief) -> u64 {
        let sliced = record.is_sliced();
        if !sliced && (!self.is_group() || !matches!(record.kind, Kind::Edit | Kind::Erase | Kind::Reaction)) {
            return 0;
        }
        let mut missed = 0;
        for at in 0..self.progress.len() as MemberAt {
            if self.roster.get(at).is_some_and(|member| member.is_current() && (sliced || !record.is_for(member))) {
                let before = self.delivered_to(at);
                let devices = self.member_progress(at).devices.iter().map(|it| it.device);
                let devices: SmallVec<[DeviceId; 1]> = devices.collect();
                missed += devices.into_iter().map(|device| self.advance_own(at, device)).sum::<u64>();
                let moved = self.delivered_to(at) > before;
                self.member_progress(at).untold |= sliced && moved;
            }
        }
        missed
    }

    /// Moves a device's register. Returns whether it moved. A record may have been read from the log, pushed and acknowledged
    /// before the answer to its append is here: `seq` may be beyond the head.
    fn deliver(&mut self, member: MemberAt, device: DeviceId, seq: Seq) -> bool {
        let seq = self.skip_unsent(member, device, seq);
        let progress = self.device(member, device);
        if seq <= progress.delivered {
            return false;
        }
        (progress.delivered, progress.dirty) = (seq, true);
        (self.dirty, self.ahead) = (true, self.ahead.max(seq));
        true
    }

    /// Read implies delivered, so it moves as far as was asked for and delivered. Returns whether it moved.
    fn advance_read(&mut self, member: MemberAt, unix_ms: u64) -> bool {
        let delivered = self.delivered_to(member);
        // What senders were told of a group stays true: who shows again comes in at that place or beyond it.
        let comes_in = self.is_group() && self.member_progress(member).hides();
        let told = if comes_in { self.told_read() } else { 0 };
        let progress = self.member_progress(member);
        let read = progress.read_asked.min(delivered);
        let moved = read > progress.read;
        if moved {
            progress.read_move = Move { from: progress.read, to: read, unix_ms };
            (progress.read, progress.read_dirty) = (read, true);
            let stays = progress.shown.hides() && read < told;
            if progress.shows && progress.shown != Shown::default() && !stays {
                progress.shown = Shown::upto(read);
            }
            self.dirty = true;
        }
        moved
    }

    /// Whom the member shows what it reads. In a group, whose members are not all its contacts, that is everybody or nobody.
    /// Returns whether something is to be written.
    fn set_receipts(&mut self, member: MemberAt, receipts: Option<Audience>) -> bool {
        let sent = !self.is_group() && self.roster.get(member).is_some_and(|it| it.last_own > 0);
        let shows = match receipts {
            None => return false,
            Some(Audience::Everyone) => true,
            Some(Audience::Contacts) => sent,
            Some(Audience::Nobody) => false,
        };
        let hides = self.member_progress(member).show(shows);
        self.dirty |= hides;
        hides
    }

    fn read_shown(&self, member: MemberAt) -> Seq {
        self.progress.get(usize::from(member)).map_or(0, Progress::read_shown)
    }

    /// What was read of records that did not land is not what lands in their place.
    pub(super) fn clamp_reads(&mut self) {
        let head = self.head;
        for progress in &mut self.progress {
            progress.read_asked = progress.read_asked.min(head.max(progress.read));
        }
    }

    /// Whether a record in (after, to] was sent by someone else than `member`; if that is no longer in memory: yes.
    fn has_others_records(&self, member: MemberAt, after: Seq, to: Seq) -> bool {
        if !self.tail.is_whole_after(after) || to > self.head {
            return true;
        }
        let Some(reader) = self.roster.get(member) else { return false };
        // What is kept from the reader it has not received.
        self.tail.between(after, to).any(|record| record.sender != reader.user && record.is_for(reader))
    }

    /// Keeps an ack until the conversation is loaded: for each device the highest counts.
    fn hold_delivered(
        &mut self,
        (user, device): (UserKey, DeviceId),
        (seq, gone): (Seq, Ranges),
        receipts: Option<Audience>,
    ) {
        for early in &mut self.early {
            if let Early::Delivered { user: u, device: d, seq: held, gone: before, receipts: last } = early
                && (&*u, *d) == (&user, device)
            {
                *held = seq.max(*held);
                ranges::add_all(before, &gone);
                *last = receipts.or(*last);
                return;
            }
        }
        self.early.push(Early::Delivered { user, device, seq, gone, receipts });
    }
}

impl Router {
    pub(crate) fn conversation_delivered(
        &mut self,
        id: ConversationId,
        kind: Arc<ConversationKind>,
        (user, device): (UserKey, DeviceId),
        (seq, gone): (Seq, Ranges),
        receipts: Option<Audience>,
    ) {
        let (key, unix_ms) = (self.conversation(id, &kind), self.now_ms());
        let Some(room) = self.conversations.get_mut(key) else { return };
        if room.phase == Phase::Loading {
            return room.hold_delivered((user, device), (seq, gone), receipts);
        }
        let Some(member) = room.member(&user) else { return };
        if room.set_receipts(member, receipts) {
            self.note_dirty(key);
        }
        let Some(room) = self.conversations.get_mut(key) else { return };
        let (before, shown) = (room.delivered_to(member), room.read_shown(member));
        if !room.deliver(member, device, seq) {
            return;
        }
        let after = room.delivered_to(member);
        self.counters.expired_undelivered += room.miss(member, &gone, before, after);
        if after > before {
            room.member_progress(member).delivered_move = Move { from: before, to: after, unix_ms };
        }
        let read = room.advance_read(member, unix_ms);
        let shows = room.read_shown(member) > shown;
        let tells = shows || after > before && room.has_others_records(member, before, after);
        let seq = room.member_progress(member).read;
        self.note_dirty(key);
        if read {
            let (conversation, home) = (id, user.clone());
            self.post_to_user(&home, Envelope::Marked { conversation, kind, user, seq });
        }
        if tells {
            self.has_news(key, member);
        }
    }

    pub(crate) fn conversation_read(
        &mut self,
        id: ConversationId,
        kind: Arc<ConversationKind>,
        by: ReadBy,
        seq: Seq,
        receipts: Option<Audience>,
    ) {
        let (key, unix_ms) = (self.conversation(id, &kind), self.now_ms());
        let Some(room) = self.conversations.get_mut(key) else { return };
        if room.phase == Phase::Loading {
            if room.early.len() < EARLY {
                return room.early.push(Early::Read { by, seq, receipts });
            }
            return self.refuse_request(by.from, by.re, refusal::overloaded());
        }
        let ReadBy { user, from, re } = by;
        let Some(member) = room.member(&user) else {
            self.refuse_request(from, re, refusal::not_member());
            return self.forget_if_empty(key);
        };
        // Beyond the log there is nothing to have read, and what comes later is not read by it. What is being appended may
        // have landed, and have been read, before the answer is here.
        let seq = seq.min(room.head + room.batch.len() as Seq);
        room.set_receipts(member, receipts);
        let progress = room.member_progress(member);
        progress.read_asked = seq.max(progress.read_asked);
        let before = progress.read_shown();
        let moved = room.advance_read(member, unix_ms);
        let seq = room.member_progress(member).read;
        let shown = room.read_shown(member);
        let tells = shown > before && room.has_others_records(member, before, shown);
        self.note_dirty(key);
        self.post(from.shard, Envelope::ReadDone { conversation: id, kind, user, to: from, re, seq, moved });
        if tells {
            self.has_news(key, member);
        }
    }

    /// A member is further than the senders know.
    fn has_news(&mut self, key: Key, member: MemberAt) {
        if let Some(room) = self.conversations.get_mut(key) {
            room.member_progress(member).untold = true;
        }
        self.progress_moved(key);
    }
}

frozen!(Progress {
    devices,
    read,
    read_asked,
    read_dirty,
    missed,
    missed_dirty,
    shown,
    shows,
    untold,
    told,
    heard,
    heard_dirty,
    delivered_move,
    read_move
});
frozen!(ReadBy { user, from, re });
frozen!(Move { from, to, unix_ms });
frozen!(DeviceProgress { device, delivered, dirty });
