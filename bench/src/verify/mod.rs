//! What became of every single message, at every single receiver.
//!
//! Owns: one entry per message of one worker, whose senders and receivers are all its own, and per conversation how far
//! each member has come. Guarantees: each delivery is counted under exactly what happened to it, whatever order its
//! acknowledgement and its pushes come in. Never does: I/O, clocks.

#[cfg(test)]
mod tests;
mod totals;

pub use totals::Totals;

/// Index of a user of this worker.
pub type User = u32;
/// Index of a conversation of this worker.
pub type Room = u32;

/// Receivers whose marks fit into a message's own entry.
const INLINE: usize = 32;

#[derive(Clone, Copy, Debug)]
struct Message {
    /// Nanoseconds; the scheduled time.
    at: u64,
    /// Position told in SENT or, before that, in the first push; 0: neither has come.
    seq: u64,
    room: Room,
    /// A mark per member who has it: the bits themselves, or the first word of [`Ledger::marks`] in a larger room.
    marks: u32,
    /// Index of the sender among the members.
    from: u16,
    /// Receivers who do not have it yet.
    left: u16,
    acknowledged: bool,
    refused: bool,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    user: User,
    /// The connection on which the last push of this room came.
    epoch: u32,
    /// The highest position on that connection.
    pushed: u64,
    /// The highest position that was delivered.
    head: u64,
}

#[derive(Debug)]
struct Conversation {
    /// Sorted by user.
    members: Vec<Member>,
    /// The newest record that was acknowledged: position and record id.
    top: (u64, u64),
}

impl Conversation {
    fn index(&self, user: User) -> Option<usize> {
        self.members.binary_search_by_key(&user, |member| member.user).ok()
    }
}

/// What one answer or push means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first of its kind; the message was scheduled at this time. `last`: now every receiver has it.
    First { scheduled: u64, last: bool },
    /// Allowed: the same again after a retry.
    Again,
    /// Something that must not happen; counted in [`Totals`].
    Wrong,
}

/// The messages of one worker.
#[derive(Debug, Default)]
pub struct Ledger {
    messages: Vec<Message>,
    /// Marks of messages in rooms of more than [`INLINE`] members.
    marks: Vec<u32>,
    rooms: Vec<Conversation>,
    totals: Totals,
}

impl Ledger {
    /// Enters a conversation of these users, each once, and gives its number: 0, 1, 2 ...
    pub fn room(&mut self, users: &[User]) -> Room {
        let mut members: Vec<Member> =
            users.iter().map(|&user| Member { user, epoch: 0, pushed: 0, head: 0 }).collect();
        members.sort_unstable_by_key(|member| member.user);
        self.rooms.push(Conversation { members, top: (0, 0) });
        self.rooms.len() as Room - 1
    }

    /// Enters a message and gives its number: 0, 1, 2 ... `None` when the numbers are used up, or `from` is no member.
    pub fn send(&mut self, room: Room, from: User, scheduled: u64) -> Option<u32> {
        let number = u32::try_from(self.messages.len()).ok()?;
        let conversation = self.rooms.get(room as usize)?;
        let members = conversation.members.len();
        let from = conversation.index(from)? as u16;
        let marks = if members > INLINE { u32::try_from(self.marks.len()).ok()? } else { 0 };
        if members > INLINE {
            self.marks.resize(self.marks.len() + members.div_ceil(32), 0);
        }
        let left = members.saturating_sub(1) as u16;
        let message = Message { at: scheduled, seq: 0, room, marks, from, left, acknowledged: false, refused: false };
        self.messages.push(message);
        self.totals.sent += 1;
        Some(number)
    }

    /// SENT arrived for `number`, with its position and record id.
    pub fn acknowledged(&mut self, number: u32, seq: u64, id: u64) -> Event {
        let Some((message, room)) = entry(&mut self.messages, &mut self.rooms, number) else {
            return wrong(&mut self.totals.contradicted);
        };
        let first = !std::mem::replace(&mut message.acknowledged, true);
        if first {
            self.totals.acknowledged += 1;
            self.totals.owed += room.members.len().saturating_sub(1) as u64;
            room.top = room.top.max((seq, id));
        }
        if seq == 0 || message.seq > 0 && message.seq != seq {
            return wrong(&mut self.totals.contradicted);
        }
        message.seq = seq;
        if first { Event::First { scheduled: message.at, last: message.left == 0 } } else { Event::Again }
    }

    /// A push of message `number` reached `user` on its connection number `epoch`, before the client looked at it: on one
    /// connection positions only rise.
    pub fn pushed(&mut self, number: u32, user: User, epoch: u32, seq: u64) {
        let Some((message, room)) = entry(&mut self.messages, &mut self.rooms, number) else { return };
        let Some(index) = room.index(user) else { return };
        let has_it =
            mark(&mut self.marks, message, room.members.len(), index).is_some_and(|(word, bit)| *word & bit != 0);
        let Some(member) = room.members.get_mut(index) else { return };
        if member.epoch != epoch {
            (member.epoch, member.pushed) = (epoch, 0);
        }
        match (seq > member.pushed, has_it) {
            (true, false) => {}
            (true, true) => self.totals.redelivered += 1,
            (false, true) => self.totals.duplicated += 1,
            (false, false) => self.totals.out_of_order += 1,
        }
        member.pushed = member.pushed.max(seq);
    }

    /// The client of `user` was given message `number` at this position.
    pub fn delivered(&mut self, number: u32, user: User, seq: u64) -> Event {
        let totals = &mut self.totals;
        let Some((message, room)) = entry(&mut self.messages, &mut self.rooms, number) else {
            return wrong(&mut totals.damaged);
        };
        let members = room.members.len();
        let Some(index) = room.index(user).filter(|&index| index != usize::from(message.from)) else {
            return wrong(&mut totals.damaged);
        };
        let (Some((word, bit)), Some(member)) =
            (mark(&mut self.marks, message, members, index), room.members.get_mut(index))
        else {
            return wrong(&mut totals.damaged);
        };
        if *word & bit != 0 {
            return wrong(&mut totals.duplicated);
        }
        *word |= bit;
        message.left = message.left.saturating_sub(1);
        totals.delivered += 1;
        if message.refused {
            return wrong(&mut totals.contradicted);
        }
        if message.seq > 0 && message.seq != seq {
            return wrong(if message.acknowledged { &mut totals.contradicted } else { &mut totals.duplicated });
        }
        message.seq = seq;
        if seq <= member.head {
            return wrong(&mut totals.out_of_order);
        }
        member.head = seq;
        Event::First { scheduled: message.at, last: message.left == 0 }
    }

    /// A final error came for message `number`.
    pub fn refused(&mut self, number: u32) {
        self.totals.refused += 1;
        let Some((message, room)) = entry(&mut self.messages, &mut self.rooms, number) else { return };
        message.refused = true;
        if usize::from(message.left) + 1 < room.members.len() {
            self.totals.contradicted += 1;
        }
    }

    /// What was delivered is not what was sent.
    pub fn damaged(&mut self) {
        self.totals.damaged += 1;
    }

    pub fn foreign(&mut self) {
        self.totals.foreign += 1;
    }

    pub fn synced_early(&mut self) {
        self.totals.synced_early += 1;
    }

    pub fn older_first(&mut self) {
        self.totals.older_first += 1;
    }

    /// The conversation of a message, and its sender.
    pub fn route(&self, number: u32) -> Option<(Room, User)> {
        let message = self.messages.get(number as usize)?;
        let sender = self.rooms.get(message.room as usize)?.members.get(usize::from(message.from))?;
        Some((message.room, sender.user))
    }

    /// Whether every receiver has message `number`.
    pub fn is_whole(&self, number: u32) -> bool {
        self.messages.get(number as usize).is_none_or(|message| message.left == 0)
    }

    /// The users of a conversation, in order.
    pub fn members(&self, room: Room) -> impl Iterator<Item = User> + '_ {
        self.rooms.get(room as usize).into_iter().flat_map(|room| room.members.iter().map(|member| member.user))
    }

    pub fn is_member(&self, room: Room, user: User) -> bool {
        self.rooms.get(room as usize).is_some_and(|room| room.index(user).is_some())
    }

    /// Record id of the newest acknowledged record of a conversation; 0 if there is none.
    pub fn newest(&self, room: Room) -> u64 {
        self.rooms.get(room as usize).map_or(0, |room| room.top.1)
    }

    /// Whether `user`, who does not write to this room, lacks records of it that were acknowledged.
    pub fn is_behind(&self, room: Room, user: User) -> bool {
        let Some(room) = self.rooms.get(room as usize) else { return false };
        room.index(user).and_then(|index| room.members.get(index)).is_some_and(|member| member.head < room.top.0)
    }

    /// Whether everything that was sent is answered and everything acknowledged is delivered.
    pub fn is_settled(&self) -> bool {
        let totals = &self.totals;
        totals.acknowledged + totals.refused >= totals.sent && totals.delivered >= totals.owed
    }

    /// Messages that were sent and have no answer.
    pub fn unanswered(&self) -> u64 {
        let totals = &self.totals;
        totals.sent.saturating_sub(totals.acknowledged + totals.refused)
    }

    /// Whether everything that was sent is answered.
    pub fn is_answered(&self) -> bool {
        self.totals.acknowledged + self.totals.refused >= self.totals.sent
    }

    /// The sums so far, with what is missing and unanswered as of now.
    pub fn totals(&self) -> Totals {
        let missing = self.messages.iter().filter(|m| m.acknowledged).map(|m| u64::from(m.left)).sum();
        let silent = self.messages.iter().filter(|m| !m.acknowledged).count() as u64;
        Totals { missing, unanswered: silent.saturating_sub(self.totals.refused), ..self.totals }
    }
}

fn entry<'a>(
    messages: &'a mut [Message],
    rooms: &'a mut [Conversation],
    number: u32,
) -> Option<(&'a mut Message, &'a mut Conversation)> {
    let message = messages.get_mut(number as usize)?;
    let room = rooms.get_mut(message.room as usize)?;
    Some((message, room))
}

/// Where the mark of member `index` is.
fn mark<'a>(
    marks: &'a mut [u32],
    message: &'a mut Message,
    members: usize,
    index: usize,
) -> Option<(&'a mut u32, u32)> {
    let bit = 1 << (index % 32);
    if members <= INLINE {
        return Some((&mut message.marks, bit));
    }
    marks.get_mut(message.marks as usize + index / 32).map(|word| (word, bit))
}

fn wrong(counter: &mut u64) -> Event {
    *counter += 1;
    Event::Wrong
}
