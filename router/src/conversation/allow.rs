//! Who may do what: rules on members, roles, epochs, edits and erasures, as of the prefix that the record would follow.

use super::tail::Brief;
use super::{Conversation, Reference, Waiting};
use crate::boundary::Proposal;
use crate::refusal;
use ringpost_persist::roster::{EVER_MEMBERS, GROUP_MEMBERS, change_body};
use ringpost_persist::{Body, ConversationKind, Member};
use ringpost_proto::id::{Seq, UserKey};
use ringpost_proto::limits::{EDIT_MS, ERASE_MS};
use ringpost_proto::v1;
use ringpost_proto::v1::change::{Change, Users};
use ringpost_proto::v1::kind::Value as Kind;

/// Names of either kind that STALE_GROUP tells.
const STALE_NAMES: usize = 1_024;

/// What a decision depends on besides the prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub now_ms: u64,
    /// Who is blocked is told so.
    pub refuse_blocked: bool,
    /// Whether new direct conversations are limited.
    pub limits_beginnings: bool,
}

/// Why a proposal is not appended now.
pub(super) enum No {
    Refuse(Box<v1::Error>),
    /// It would change nothing: it is as asked for.
    Already,
    /// Read the record at this position first.
    Look(Seq),
    /// It would be refused for a record that is not in the log yet, and may never be.
    Wait,
    /// It would begin the conversation: its sender's home is asked first.
    Begin,
    /// Read the device lists of these users first.
    Lists(Vec<UserKey>),
}

impl From<v1::Error> for No {
    fn from(error: v1::Error) -> Self {
        Self::Refuse(Box::new(error))
    }
}

impl Conversation {
    /// Whether a proposal that was not sent before may be appended.
    pub(super) fn allows(&self, waiting: &Waiting, rules: Rules) -> Result<(), No> {
        let proposal = &waiting.proposal;
        let change = match &proposal.body {
            Body::Change(_) => decoded(&proposal.body),
            _ => None,
        };
        if let Some(Change::Created(created)) = &change {
            return self.allows_creation(created);
        }
        // A group is not named by the id of a direct conversation, which anybody can compute.
        let of_group = matches!(*proposal.kind, ConversationKind::Group);
        if of_group != self.is_group() || of_group && self.head == 0 {
            return Err(refusal::not_found("group", "there is no such group").into());
        }
        if waiting.from.is_operator() && proposal.message_kind == Kind::Erase {
            return self.allows_operator(waiting);
        }
        let sender = self.roster.member(&proposal.sender).filter(|member| member.is_current());
        let sender = sender.ok_or_else(refusal::not_member)?;
        match change {
            Some(change) => self.allows_change(sender, &change),
            None => self.allows_message(sender, waiting, rules),
        }
    }

    fn allows_creation(&self, created: &v1::change::Created) -> Result<(), No> {
        if self.head > 0 || !self.batch.is_empty() {
            // Its id comes from that of the request, so this is another request's.
            return Err(refusal::invalid("clientMessageId", "names a group that exists").into());
        }
        if created.members.len() + 1 > GROUP_MEMBERS {
            return Err(refusal::group_full(format!("a group has at most {GROUP_MEMBERS} members")).into());
        }
        Ok(())
    }

    fn allows_change(&self, sender: &Member, change: &Change) -> Result<(), No> {
        if let Change::Blocked(blocked) = change {
            return if sender.is_blocking() == blocked.on { Err(No::Already) } else { Ok(()) };
        }
        if matches!(change, Change::Left(_)) {
            return Ok(());
        }
        if !self.roster.is_admin(&sender.user) {
            return Err(refusal::forbidden("only an admin may do this").into());
        }
        match change {
            Change::Added(added) => {
                let fresh = self.among(&sender.user, &added.users, false);
                if fresh.is_empty() {
                    return Err(No::Already);
                }
                let unknown = fresh.iter().filter(|user| self.roster.find(user).is_none()).count();
                if self.roster.current_len() + fresh.len() > GROUP_MEMBERS {
                    return Err(refusal::group_full(format!("a group has at most {GROUP_MEMBERS} members")).into());
                }
                if self.roster.members().len() + unknown > EVER_MEMBERS {
                    return Err(refusal::group_full(format!("a group has had at most {EVER_MEMBERS} members")).into());
                }
            }
            Change::Removed(removed) if self.among(&sender.user, &removed.users, true).is_empty() => {
                return Err(No::Already);
            }
            Change::Role(role) => {
                let user = sender.user.sibling(&role.user).ok();
                let member = user.as_ref().and_then(|user| self.roster.member(user)).filter(|it| it.is_current());
                let member = member.ok_or_else(|| refusal::not_found("user", "is not a member of the group"))?;
                if member.role.to_wire() == role.role() {
                    return Err(No::Already);
                }
                if role.role() == v1::role::Value::Member && self.admins() == 1 {
                    return Err(refusal::forbidden("a group has at least one admin").into());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn admins(&self) -> usize {
        self.roster.current().filter(|member| member.role == ringpost_persist::Role::Admin).count()
    }

    fn allows_message(&self, sender: &Member, waiting: &Waiting, rules: Rules) -> Result<(), No> {
        let proposal = &waiting.proposal;
        if sender.is_blocking() {
            return Err(refusal::forbidden("you have blocked this user").into());
        }
        // What was said before may be taken back all the same.
        let blocked = rules.refuse_blocked && proposal.message_kind != Kind::Erase;
        if blocked && !self.is_group() && self.roster.members().iter().any(Member::is_blocking) {
            return Err(refusal::forbidden("this user has blocked you").into());
        }
        if self.is_group() && proposal.group_epoch != 0 && proposal.group_epoch < self.roster.epoch {
            return Err(refusal::stale_group(self.since(proposal.group_epoch)).into());
        }
        if !matches!(proposal.message_kind, Kind::Edit | Kind::Erase | Kind::Reaction) {
            self.allows_slices(waiting)?;
            return self.allows_beginning(waiting, rules.limits_beginnings);
        }
        // An edit says again what was said: who takes a message back takes its edits back as well.
        let names =
            |record: &Brief| record.counts() || proposal.message_kind == Kind::Erase && record.kind == Kind::Edit;
        let about = self.about(waiting)?.filter(|record| record.is_for(sender) && names(record));
        let about = about.ok_or_else(|| refusal::not_found("refSeq", "names no message that you can see"));
        // By the times in the log, so that they tell up to where a message can have edits.
        let now_ms = rules.now_ms.max(if proposal.message_kind == Kind::Edit { self.last.us / 1_000 } else { 0 });
        let allowed = about.and_then(|it| allows_about(proposal, &it, self.roster.is_admin(&sender.user), now_ms));
        // With that record it lands or does not; a refusal would be for good.
        let pending = self.batch.iter().any(|(_, record)| record.seq == proposal.ref_seq);
        allowed.map_err(|error| if pending { No::Wait } else { error.into() })?;
        self.allows_slices(waiting)
    }

    /// Whatever the user sent that has a body, however long ago, and whether it is still a member or not.
    fn allows_operator(&self, waiting: &Waiting) -> Result<(), No> {
        let proposal = &waiting.proposal;
        let about = self.about(waiting)?.ok_or_else(|| refusal::not_found("refSeq", "names no record"))?;
        if about.seq > self.head {
            return Err(No::Wait);
        }
        if about.sender != proposal.sender || matches!(about.kind, Kind::Change | Kind::Erase) {
            return Err(refusal::forbidden("is no message of this user").into());
        }
        if about.erased { Err(No::Already) } else { Ok(()) }
    }

    /// The record that an edit, erasure or reaction is about.
    pub(super) fn about(&self, waiting: &Waiting) -> Result<Option<Brief>, No> {
        let seq = waiting.proposal.ref_seq;
        if let Some(record) = self.tail.get(seq) {
            return Ok(Some(record.clone()));
        }
        if seq == 0 || seq > self.head {
            // It may be in the batch that this one would be part of.
            let pending = self.batch.iter().map(|(_, record)| record).find(|record| record.seq == seq);
            return Ok(pending.map(|record| Brief::of(record, &self.roster)));
        }
        match &waiting.reference {
            Reference::Read(found) => Ok(found.as_ref().map(|record| Brief::of(record, &self.roster))),
            Reference::No | Reference::Asked(_) => Err(No::Look(seq)),
        }
    }

    /// Who came and went since the group had this epoch.
    fn since(&self, epoch: u32) -> v1::StaleGroup {
        let mut stale = v1::StaleGroup { epoch: self.roster.epoch, ..Default::default() };
        for member in self.roster.members() {
            let name = member.user.user().to_owned();
            // Those who were there from the start everybody knows.
            let founder = member.join == 1 && member.join_epoch <= 1;
            if member.is_current() && member.join_epoch >= epoch && !founder {
                stale.added.push(name);
            } else if !member.is_current() && member.leave_epoch > epoch && member.join_epoch <= epoch {
                stale.removed.push(name);
            }
        }
        // Beyond that the client asks for the group.
        stale.added.truncate(STALE_NAMES);
        stale.removed.truncate(STALE_NAMES);
        stale
    }

    /// Of the users with these names, each once, those who are members, or those who are not.
    fn among(&self, sibling: &UserKey, names: &[String], members: bool) -> Vec<UserKey> {
        let mut users: Vec<UserKey> = names.iter().filter_map(|name| sibling.sibling(name).ok()).collect();
        users.sort();
        users.dedup();
        users.retain(|user| self.roster.is_member(user) == members);
        users
    }

    /// The body of the record that `proposal` becomes: of a change, what it really changes here.
    pub(super) fn body_of(&self, proposal: &Proposal) -> Body {
        let Some(change) = decoded(&proposal.body) else { return proposal.body.clone() };
        let epoch = self.roster.epoch;
        let names = |users: &[UserKey]| Users { users: users.iter().map(|user| user.user().to_owned()).collect() };
        match change {
            Change::Created(_) => change_body(change, None, 1),
            Change::Added(added) => {
                change_body(Change::Added(names(&self.among(&proposal.sender, &added.users, false))), None, epoch)
            }
            Change::Removed(removed) => {
                let gone = self.among(&proposal.sender, &removed.users, true);
                change_body(Change::Removed(names(&gone)), self.roster.heir(&gone), epoch + 1)
            }
            Change::Left(_) => {
                let gone = [proposal.sender.clone()];
                change_body(change, self.roster.heir(&gone), epoch + 1)
            }
            other => change_body(other, None, epoch),
        }
    }
}

fn decoded(body: &Body) -> Option<Change> {
    let Body::Change(bytes) = body else { return None };
    <v1::Change as prost::Message>::decode(bytes.clone()).ok()?.change
}

/// Edits and erasures are for those who wrote, and an admin may erase; both for a time.
fn allows_about(proposal: &Proposal, about: &Brief, is_admin: bool, now_ms: u64) -> Result<(), v1::Error> {
    let own = about.sender == proposal.sender;
    let age_ms = now_ms.saturating_sub(about.us / 1_000);
    if about.erased {
        return Err(refusal::not_found("refSeq", "the message was erased"));
    }
    match proposal.message_kind {
        Kind::Edit if !own => Err(refusal::forbidden("only its sender may edit a message")),
        Kind::Edit if age_ms > EDIT_MS => Err(refusal::forbidden("the time for edits is over")),
        Kind::Erase if !own && !is_admin => Err(refusal::forbidden("only its sender or an admin may erase a message")),
        Kind::Erase if own && !is_admin && age_ms > ERASE_MS => Err(refusal::forbidden("the time for erasing is over")),
        _ => Ok(()),
    }
}
