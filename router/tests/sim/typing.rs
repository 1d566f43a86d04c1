//! Who is writing: what clients say, and what others may be told of it and for how long.

use super::asks::{ASKED, Question};
use super::network::LinkId;
use super::oracle::{Oracle, Verdict, ensure};
use super::plan::{Ask, MS, SECOND};
use super::world::{Event, World};
use ringpost_persist::faulty::FaultyStore;
use ringpost_proto::id::Seq;
use ringpost_proto::v1::typing::state::Value as State;
use ringpost_proto::v1::{self, client_frame::Request};
use std::collections::BTreeMap;

/// For how long whoever is said to be writing is believed to, without news.
const TYPING_US: u64 = 6 * SECOND;

/// What is known of who is writing.
#[derive(Default)]
pub struct Typing {
    /// When the node was last told that this user writes in this room.
    said: BTreeMap<(usize, usize), u64>,
    /// To whom it is shown (connection, room, user), and since when.
    shown: BTreeMap<(LinkId, usize, usize), u64>,
}

impl World {
    pub fn app_types(&mut self, device: usize, of: usize, composing: bool) {
        let Some(link) = self.online(device) else { return };
        let state = if composing { State::Composing } else { State::Paused } as i32;
        let id = ASKED + self.questions.len() as u64;
        self.questions.push(Question::without_answer(of, Ask::Type));
        let typing = v1::Typing { conversation: Some(self.wire_peer(of)), state };
        self.send_up(link, v1::ClientFrame { id, request: Some(Request::Typing(typing)) });
    }

    /// The node is told that somebody writes.
    pub fn types(&mut self, link: LinkId, typing: &v1::Typing) -> Verdict {
        let user = self.devices[self.links[link].device].user;
        let peer = self.oracle.peer(&typing.conversation)?;
        if typing.state() == State::Composing {
            self.oracle.typing.said.insert((self.oracle.room(user, peer), user), self.now);
        }
        Ok(())
    }

    /// Somebody is told who writes.
    pub fn typing_leaves(&mut self, link: LinkId, event: &v1::TypingEvent) -> Verdict {
        let observer = self.devices[self.links[link].device].user;
        let peer = self.oracle.peer(&event.conversation)?;
        let by = self.oracle.user(&event.user).ok_or("somebody writes who does not exist")?;
        let (now, composing) = (self.now, event.state() == State::Composing);
        self.oracle.may_hear_typing(&self.store, observer, peer, by, now)?;
        let (room, slack) = (self.oracle.room(observer, peer), self.oracle.under_way_us);
        let said = self.oracle.typing.said.get(&(room, by)).copied();
        if !composing {
            self.coverage.mark("typing: paused");
            self.oracle.typing.shown.remove(&(link, room, by));
            return Ok(());
        }
        let fresh = said.filter(|said| now <= said + TYPING_US + slack);
        let said =
            fresh.ok_or_else(|| format!("typing: u{observer} is told that u{by} writes, who said so at {said:?}"))?;
        self.coverage.mark("typing: composing");
        self.oracle.typing.shown.insert((link, room, by), self.now);
        self.at(said + TYPING_US + slack, Event::TypingEnds { link, room, by });
        Ok(())
    }

    /// Who was said to be writing is not any more, or has said so again.
    pub fn typing_ends(&mut self, link: LinkId, room: usize, by: usize) -> Verdict {
        let Some(&shown) = self.oracle.typing.shown.get(&(link, room, by)) else { return Ok(()) };
        let it = &self.links[link];
        if it.server_done || it.closing || it.epoch != self.node.epoch {
            return Ok(());
        }
        let said = self.oracle.typing.said.get(&(room, by)).copied().unwrap_or(0);
        let ends = said + TYPING_US + self.oracle.under_way_us;
        if self.now < ends {
            self.at(ends, Event::TypingEnds { link, room, by });
            return Ok(());
        }
        // A session without room in its window is told nothing that is never stored: its client has a timer of its own.
        let full = it.was_full(shown.saturating_sub(self.oracle.under_way_us));
        ensure(full, || format!("typing: connection {link} still believes that u{by} writes, who said so at {said} us"))
    }
}

impl Oracle {
    /// Only members hear it of members, and nobody of one whom he blocks, or who blocks him.
    fn may_hear_typing(&mut self, store: &FaultyStore, observer: usize, peer: usize, by: usize, now: u64) -> Verdict {
        let known = self.known(observer, peer, now);
        let group = self.is_group(peer);
        let fold = self.fold(store, observer, peer);
        let may = |upto: Seq| match group {
            true => fold.is_member(observer, upto) && fold.is_member(by, upto),
            false => upto > 0 && !fold.blocks(observer, upto) && !fold.blocks(by, upto),
        };
        let right = observer != by && (known..=fold.head).any(may);
        ensure(right, || format!("typing: u{observer} may not hear that u{by} writes (known {known})"))
    }
}

/// How long something may be under way within the node: through the mesh a few times, and as a read of the store.
pub fn under_way_us(plan: &super::plan::Plan) -> u64 {
    4 * plan.mesh_us + 2 * plan.store.latency_us.1 + 20 * MS
}
