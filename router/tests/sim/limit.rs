//! How many conversations somebody begins whom nobody ever answered: by what the node appends, refuses and counts.

use super::clients::HEARTBEAT_MISSED_US;
use super::fold::Fold;
use super::network::LinkId;
use super::oracle::{Oracle, Verdict, ensure};
use super::plan::{MS, SECOND};
use super::world::World;
use ringpost_persist::faulty::FaultyStore;
use ringpost_persist::{ConversationKind, StoreRequest};
use ringpost_proto::id::ClientMessageId;
use ringpost_proto::v1::{self, code::Value as Code, kind::Value as Kind};
use std::collections::BTreeMap;

const DAY_US: u64 = 24 * 3_600 * SECOND;
/// Nights that a world may last: one user's conversations are begun one by one.
const NIGHTS: usize = 10;

/// Of one process of the node.
#[derive(Default)]
pub struct Begun {
    /// By user: the conversations that it began, and when.
    begun: BTreeMap<usize, BTreeMap<usize, u64>>,
    /// By user: those that it asked for.
    asked: BTreeMap<usize, BTreeMap<usize, u64>>,
    refused: u64,
}

impl World {
    /// The node is asked to store what somebody says: nobody begins more than is allowed, whatever comes at the same time.
    pub fn may_append(&mut self, request: &StoreRequest) -> Verdict {
        let most = self.plan.new_conversations as usize;
        let StoreRequest::Append { kind, records, expected_head, conversation, .. } = request else { return Ok(()) };
        let (ConversationKind::Direct([one, other]), Some(first)) = (&**kind, records.first()) else { return Ok(()) };
        if most == 0 || one == other || first.kind == Kind::Change {
            return Ok(());
        }
        let user = self.oracle.user(first.sender.user()).ok_or("a record of nobody")?;
        let peer = if *one == first.sender { other } else { one };
        let peer = self.oracle.user(peer.user()).ok_or("a record for nobody")?;
        let said = self.oracle.fold(&self.store, user, peer).spoken(*expected_head);
        let room = self.oracle.conversation(user, peer) == *conversation;
        ensure(room, || "a record in another room".into())?;
        if said || self.oracle.was_answered(&self.store, user) {
            return Ok(());
        }
        let now = self.now;
        let begun = self.node.begun.begun.entry(user).or_default();
        // It is counted a little before it is appended.
        begun.retain(|_, at| *at + DAY_US > now + 60 * SECOND);
        begun.entry(peer).or_insert(now);
        ensure(begun.len() <= most, || format!("limit: u{user} begins {begun:?}, {most} are allowed"))
    }

    /// A message arrives at the node.
    pub fn is_asked(&mut self, user: usize, peer: usize, cmid: ClientMessageId) {
        let now = self.now;
        let asked = self.node.begun.asked.entry(user).or_default();
        asked.insert(peer, now);
        if let Some(sending) = self.oracle.sends.get_mut(&cmid) {
            sending.asked += 1;
        }
    }

    /// A message is refused for now.
    pub fn refusal_leaves(&mut self, link: LinkId, re: u64, error: &v1::Error) -> Verdict {
        let Some((to, cmid)) = self.node.sends.get(&(link, re)).copied() else { return Ok(()) };
        if error.code() != Code::RateLimited {
            return Ok(());
        }
        let (user, most) = (self.devices[self.links[link].device].user, self.plan.new_conversations as usize);
        self.coverage.mark("refused: too many beginnings");
        let wait = error.retry_after_ms * MS;
        let timely = error.retryable && wait > 0 && wait <= DAY_US;
        ensure(timely, || format!("limit: u{user} is refused with {error:?}"))?;
        // Nobody is refused for a day who did not begin as many.
        let asked = self.node.begun.asked.get(&user).map_or(0, BTreeMap::len);
        ensure(asked > most || wait <= SECOND, || format!("limit: u{user} asked for {asked}, {most} are allowed"))?;
        let made = self.oracle.sends.get(&cmid).map_or(0, |sending| sending.made);
        let fold = self.oracle.fold(&self.store, user, to);
        ensure(user != to && !fold.spoken(made), || format!("limit: u{user} does not begin anything with {to}"))?;
        let found = self.store.log(&self.oracle.conversation(user, to)).iter().any(|record| record.cmid == cmid);
        let Some(sending) = self.oracle.sends.get_mut(&cmid) else { return Ok(()) };
        sending.limited_us = self.now + wait;
        let trace = found && sending.asked == 1;
        ensure(!trace, || format!("limit: {cmid:?} of u{user} is refused and in the log"))?;
        self.node.begun.refused += u64::from(wait > SECOND);
        let counted: u64 = self.node.routers.iter().map(|router| router.counters().beginnings_refused).sum();
        let told = self.node.begun.refused;
        ensure(counted >= told, || format!("limit: {told} were refused, {counted} are counted"))
    }

    /// Whoever has to wait until tomorrow does; everybody sleeps. `false`: nobody has to.
    pub fn sleep(&mut self, nights: usize) -> Result<bool, String> {
        let Some(until) = self.oracle.limited_until(self.now) else { return Ok(false) };
        ensure(nights < NIGHTS, || "liveness: after so many days somebody still may not begin".into())?;
        self.coverage.mark("slept until the limit was over");
        let until = until + SECOND + HEARTBEAT_MISSED_US;
        for device in 0..self.devices.len() {
            self.restart_device(device, until - self.now)?;
        }
        self.run_until(until)?;
        Ok(true)
    }
}

impl Oracle {
    /// Somebody wrote for the first time to this user where it had written before.
    fn was_answered(&mut self, store: &FaultyStore, user: usize) -> bool {
        (0..self.users.len()).any(|peer| peer != user && self.fold(store, user, peer).answers(user))
    }

    /// The last moment until which somebody was told to wait who has no outcome yet.
    fn limited_until(&self, now: u64) -> Option<u64> {
        let waits = self.sends.values().filter(|sending| sending.seq.is_none() && sending.limited_us >= now);
        waits.filter(|sending| !self.is_gone(sending.device)).map(|sending| sending.limited_us).max()
    }
}

impl Fold {
    /// Whether somebody had said something by then.
    fn spoken(&self, upto: u64) -> bool {
        (1..=upto.min(self.head)).any(|seq| self.is_message(seq))
    }

    /// Whether the other one wrote first after this user did.
    fn answers(&self, user: usize) -> bool {
        let messages = || (1..=self.head).filter(|seq| self.is_message(*seq));
        messages().next().and_then(|seq| self.sender(seq)) == Some(user)
            && messages().any(|seq| self.sender(seq) != Some(user))
    }
}
