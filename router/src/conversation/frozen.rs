//! A conversation written out and read back.

use super::{Conversation, Early, Last, Phase, Reference, Search, Waiting};
use crate::frozen::{Frozen, Read, Reader, frozen, frozen_enum};

impl Frozen for Conversation {
    fn write(&self, out: &mut Vec<u8>) {
        self.id.write(out);
        self.kind.write(out);
        self.phase.write(out);
        self.head.write(out);
        self.last.write(out);
        self.roster.write(out);
        self.tail.write(out);
        self.known.write(out);
        self.queue.write(out);
        self.batch.write(out);
        self.uncertain.write(out);
        self.early.write(out);
        self.progress.write(out);
        self.ahead.write(out);
        self.least.write(out);
        self.typing.write(out);
        self.dirty.write(out);
        self.tick_ms.write(out);
        self.ticked_ms.write(out);
        self.tickets.write(out);
        self.flush_ms.write(out);
        self.raising.write(out);
        self.ahead_ms.write(out);
        self.retry_ms.write(out);
        self.used_ms.write(out);
    }

    fn read(from: &mut Reader<'_>) -> Read<Self> {
        let mut room = Self::new(Frozen::read(from)?, Frozen::read(from)?, 0);
        room.phase = Frozen::read(from)?;
        room.head = Frozen::read(from)?;
        room.last = Frozen::read(from)?;
        room.roster = Frozen::read(from)?;
        room.tail = Frozen::read(from)?;
        room.known.read(from)?;
        room.queue = Frozen::read(from)?;
        room.batch = Frozen::read(from)?;
        room.uncertain = Frozen::read(from)?;
        room.early = Frozen::read(from)?;
        room.progress = Frozen::read(from)?;
        room.ahead = Frozen::read(from)?;
        room.least = Frozen::read(from)?;
        room.typing = Frozen::read(from)?;
        room.dirty = Frozen::read(from)?;
        room.tick_ms = Frozen::read(from)?;
        room.ticked_ms = Frozen::read(from)?;
        room.tickets = Frozen::read(from)?;
        room.flush_ms = Frozen::read(from)?;
        room.raising = Frozen::read(from)?;
        room.ahead_ms = Frozen::read(from)?;
        room.retry_ms = Frozen::read(from)?;
        room.used_ms = Frozen::read(from)?;
        Ok(room)
    }
}

frozen!(Last { id, us, ordinal, hash });
frozen!(Waiting { from, re, proposal, search, reference, lists, beginning, edits, made_for });
frozen_enum!(Phase { 0 = Loading {}, 1 = Ready {}, 2 = Appending {}, 3 = Resolving {} });
frozen_enum!(Reference { 0 = No {}, 1 = Asked { 0: ticket }, 2 = Read { 0: record } });
frozen_enum!(Search { 0 = No {}, 1 = Asked { 0: ticket }, 2 = Absent {} });
frozen_enum!(Early {
    0 = Delivered { user: user, device: device, seq: seq, gone: gone, receipts: receipts },
    1 = Read { by: by, seq: seq, receipts: receipts },
    2 = Ask { user: user, from: from, re: re, ask: ask },
    3 = Relate { user: user, watched: watched },
});
