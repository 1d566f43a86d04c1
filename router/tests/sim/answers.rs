//! What the answers to questions may be, by the log and by what was true when they were asked.

use super::asks::Question;
use super::oracle::{Oracle, Verdict, ensure};
use super::world::World;
use ringpost_persist::faulty::FaultyStore;
use ringpost_persist::{Body, Record, RegisterKey};
use ringpost_proto::id::{ConversationId, Seq};
use ringpost_proto::v1;
use ringpost_proto::v1::change::Change;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::member_state::state::Value as State;

/// Characters of a message that a list of conversations shows.
const PREVIEW: usize = 100;

impl World {
    /// Every conversation that there was, newest first, at least as far as it was.
    pub fn judge_conversations(&self, question: &Question, device: usize, page: &v1::ConversationPage) -> Verdict {
        let user = self.devices[device].user;
        let mut seen = vec![false; question.heads.len()];
        let mut last_id = u64::MAX;
        for entry in &page.entries {
            let peer = self.oracle.peer(&entry.conversation)?;
            ensure(!seen[peer], || format!("u{user} is told of {peer} twice"))?;
            seen[peer] = true;
            let log = self.store.log(&self.oracle.conversation(user, peer));
            let at = (entry.last_seq as usize).wrapping_sub(1);
            let there = log.get(at).is_some_and(|record| record.id == entry.last_id);
            ensure(there && entry.last_seq >= question.heads[peer].min(log.len() as Seq), || {
                format!("u{user} is told {entry:?} of {peer}, newest was {}", question.heads[peer])
            })?;
            self.judge_entry(question, user, peer, entry)?;
            // A conversation is where the newest record is that this user may see.
            ensure(entry.last_id <= last_id, || "conversations out of order".into())?;
            last_id = entry.last_id;
        }
        // Where nothing is kept nothing is listed.
        let kept = |peer: usize| question.heads[peer] > self.gone(user, peer);
        let missing = (0..seen.len()).find(|peer| kept(*peer) && !seen[*peer]);
        ensure(missing.is_none(), || format!("u{user} is not told of {missing:?}"))
    }

    /// What is unread is what counts after what was read, without one's own and what one may not see.
    fn judge_entry(&self, question: &Question, user: usize, peer: usize, entry: &v1::ConversationEntry) -> Verdict {
        let (fold, read) = (self.oracle.folded(user, peer), entry.read_seq);
        let (_, asked) = self.oracle.has(user, user, peer);
        ensure((question.reads[peer]..=asked).contains(&read), || {
            format!("u{user} is told to have read {read} of {peer}, of {asked}, {} is marked", question.reads[peer])
        })?;
        // What expired while it was asked may count or not.
        let unread = |gone: Seq| fold.unread(user, read.max(gone), entry.last_seq);
        let (unread, before) = (unread(self.gone(user, peer)), unread(question.gone[peer]));
        ensure((unread..=before).contains(&(entry.unread as usize)), || {
            format!(
                "unread: u{user} is told {} of {peer} after {read} of {}, are {unread}",
                entry.unread, entry.last_seq
            )
        })?;
        let log = self.store.log(&self.oracle.conversation(user, peer));
        let text = match log.get(entry.last_seq as usize - 1).map(|record| &record.body) {
            Some(Body::Text(text)) => String::from_utf8_lossy(text).chars().take(PREVIEW).collect(),
            // It may have been taken back since.
            Some(Body::Erased(_)) => return Ok(()),
            _ => String::new(),
        };
        ensure(entry.preview == text, || format!("u{user} is shown {:?} of {peer}, which is {text:?}", entry.preview))
    }

    /// A record that there is not, or that is not for who asks.
    pub fn judge_no_info(&self, question: &Question, user: usize, error: &v1::Error) -> Verdict {
        let (of, seq) = (question.of, question.before);
        let log = self.store.log(&self.oracle.conversation(user, of));
        let fold = self.oracle.folded(user, of);
        let seen = log.get(seq as usize - 1).is_some_and(|record| fold.sees(user, record));
        let right = match error.code() {
            Code::NotFound => !seen || seq > question.known || seq <= self.gone(user, of),
            // Nor is it for who has left.
            Code::NotMember => (question.known..=fold.head).any(|upto| !fold.is_member(user, upto)),
            _ => false,
        };
        ensure(right, || format!("u{user} asked about record {seq} of {of} and got {error:?}"))
    }

    /// Of each member as of the record: no more than is true, and no less than was marked when it was asked.
    pub fn judge_info(&self, question: &Question, user: usize, info: &v1::RecordInfoResult) -> Verdict {
        let (of, seq) = (question.of, question.before);
        let fold = self.oracle.folded(user, of);
        let sender = fold.sender(seq).ok_or_else(|| format!("u{user} is told of record {seq}, which is not there"))?;
        let mut members: Vec<usize> = fold.concerned(seq).filter(|other| *other != sender).collect();
        for member in &info.members {
            let other = self.oracle.user(&member.user).ok_or("a member that there is not")?;
            let at = members.iter().position(|it| *it == other);
            let at = at.ok_or_else(|| format!("info: u{other} is named for record {seq} of {of}: {info:?}"))?;
            members.swap_remove(at);
            let (delivered, _) = self.oracle.has(other, user, of);
            let (read, hid) = (self.oracle.read_shown(other, user, of), self.oracle.shown[other].hid);
            let state = member.state();
            let (seen, missed) = (fold.may_see(other, seq), self.oracle.misses(&self.store, other, user, of, seq));
            let most = match () {
                () if !seen || delivered < seq || missed => State::Sent,
                () if read < seq => State::Delivered,
                () => State::Read,
            };
            let (was_delivered, was_read) = question.marked[other];
            let left_out = self.oracle.left_out(&self.store, other, user, of, seq);
            // Of what has expired nobody knows any more who had it and did not say so in time.
            let least = match () {
                () if !seen || was_delivered < seq || seq <= self.gone(user, of) || left_out => State::Sent,
                () if was_read < seq || hid => State::Delivered,
                () => State::Read,
            };
            let hidden = state == State::Hidden && hid && most != State::Sent;
            let right = hidden || (least as i32..=most as i32).contains(&(state as i32));
            ensure(right, || format!("info: u{other} is {state:?} with {seq} of {of}, not {least:?} to {most:?}"))?;
        }
        ensure(members.is_empty(), || format!("info: {members:?} are not named for record {seq} of {of}"))
    }

    /// It is as asked for, or was at some moment since.
    pub fn judge_block(&mut self, user: usize, of: usize, on: bool, since: Seq) -> Verdict {
        let fold = self.oracle.folded(user, of);
        let first = (since..=fold.head).find(|upto| fold.blocks(user, *upto) == on);
        let first = first.ok_or_else(|| format!("block: u{user} is told that it is {on} for u{of}, and it is not"))?;
        self.oracle.knows(user, of, self.now, first);
        Ok(())
    }

    /// Newest first, without a gap, from where it was asked.
    pub fn judge_history(&self, question: &Question, device: usize, page: &v1::Page) -> Verdict {
        let newest = page.records.first().map_or(0, |record| record.seq);
        let below = question.before == 0 || newest < question.before;
        let records = page.records.len() as u32;
        ensure(below && records <= question.limit, || {
            format!("history before {} begins at {newest}", question.before)
        })?;
        // What lies between is not for this user; nor is anything between where it was asked and the newest.
        let from = question.heads[question.of].min(question.before.wrapping_sub(1));
        let seqs = page.records.iter().map(|record| record.seq);
        let ends: Vec<Seq> = std::iter::once((from + 1).max(newest + 1)).chain(seqs).collect();
        let dense =
            ends.windows(2).all(|pair| pair[1] < pair[0] && self.none_seen(device, question.of, pair[1] + 1, pair[0]));
        ensure(dense, || format!("history has gaps: {ends:?}"))?;
        let oldest = page.records.last().map_or(from + 1, |record| record.seq);
        let next = if page.next_before_seq == 0 { 1 } else { page.next_before_seq };
        let right = next <= oldest && self.none_seen(device, question.of, next, oldest);
        ensure(right, || format!("history goes on before {}, not {oldest}", page.next_before_seq))
    }

    /// Whether no record in from .. to is for the user of this device, or shown to the device.
    fn none_seen(&self, device: usize, peer: usize, from: Seq, to: Seq) -> bool {
        let user = self.devices[device].user;
        let (log, fold) = (self.store.log(&self.oracle.conversation(user, peer)), self.oracle.folded(user, peer));
        let hidden = |record: &Record| self.oracle.has_no_slice(device, record) && !self.oracle.is_own(device, record);
        (from.max(self.gone(user, peer) + 1)..to)
            .all(|seq| log.get(seq as usize - 1).is_none_or(|record| !fold.sees(user, record) || hidden(record)))
    }
}

impl Oracle {
    /// How far a user is marked to have read.
    pub fn read_mark(&self, store: &FaultyStore, user: usize, peer: usize) -> Seq {
        store.register(&RegisterKey::Read(self.conversation(user, peer), self.users[user].clone()))
    }

    /// By user: what is marked as delivered to the most advanced device, and as read, of this conversation of `user`.
    pub fn marks(&self, store: &FaultyStore, user: usize, peer: usize) -> Vec<(Seq, Seq)> {
        let room = self.conversation(user, peer);
        let of = |other: usize| {
            let devices = self.devices.iter().filter(|(user, _)| *user == other);
            let delivered = |name| store.register(&RegisterKey::Delivered(room, self.users[other].clone(), name));
            let read = store.register(&RegisterKey::Read(room, self.users[other].clone()));
            (devices.map(|(_, name)| delivered(*name)).max().unwrap_or(0), read)
        };
        (0..self.users.len()).map(of).collect()
    }

    /// A block in a log is one that this device asked for, and no more of them than it did.
    pub fn block_was_asked(&self, conversation: ConversationId, record: &Record) -> Verdict {
        let Some(Change::Blocked(blocked)) = record.change() else { return Ok(()) };
        let device = (0..self.devices.len()).find(|device| self.is_own(*device, record)).ok_or("a block of nobody")?;
        let user = self.devices[device].0;
        let asked = (0..self.users.len()).any(|peer| {
            self.conversation(user, peer) == conversation && self.blocks.contains_key(&(device, peer, blocked.on))
        });
        ensure(asked, || format!("block: {} of u{user} at {} was never asked for", blocked.on, record.seq))
    }
}
