//! Requests beside the client's own: history, conversations, lookup, record info, blocks, a forged repeat, ping.

use super::oracle::{Verdict, ensure};
use super::plan::Ask;
use super::world::World;
use ringpost_proto::id::{ClientMessageId, Seq};
use ringpost_proto::v1::member_state::state::Value as MemberIs;
use ringpost_proto::v1::presence::state::Value as Presence;
use ringpost_proto::v1::privacy::Value as Privacy;
use ringpost_proto::v1::{self, client_frame::Request, code::Value as Code, server_frame::Answer};

/// Request numbers from here on are ours, not the client's.
pub const ASKED: u64 = 1 << 40;

/// What was asked, and what was true at that moment.
#[derive(Default)]
pub struct Question {
    pub of: usize,
    pub what: Ask,
    /// By peer: the newest record that is for who asks, and how far it is marked to have read.
    pub heads: Vec<Seq>,
    pub reads: Vec<Seq>,
    /// By peer: up to where its records had expired.
    pub gone: Vec<Seq>,
    /// Where a page ends, or which record it is about.
    pub before: Seq,
    pub limit: u32,
    pub about: Vec<(ClientMessageId, Option<Seq>)>,
    /// Whether the device that it is about had not come yet.
    pub absent: bool,
    /// Who is watched.
    pub name: String,
    /// Up to where whoever answers knows the log at least.
    pub known: Seq,
    /// By user: what is marked as delivered and read of the conversation.
    pub marked: Vec<(Seq, Seq)>,
}

impl World {
    pub fn app_asks(&mut self, device: usize, of: usize, what: Ask) -> Verdict {
        let Some(link) = self.online(device) else { return Ok(()) };
        let user = self.devices[device].user;
        let strange =
            of >= self.oracle.users.len() && matches!(what, Ask::Watch { .. } | Ask::Away { .. } | Ask::Show { .. });
        let name = if strange { "nobody".to_owned() } else { format!("u{of}") };
        let of = if strange { 0 } else { of };
        let known = self.oracle.known(user, of, self.now);
        let mut question = Question { of, what, known, ..Question::default() };
        if matches!(what, Ask::History { .. } | Ask::Conversations | Ask::Info) {
            let peers = 0..self.oracle.peers();
            question.heads = peers.clone().map(|peer| self.oracle.newest(&self.store, user, peer)).collect();
            question.gone = peers.clone().map(|peer| self.gone(user, peer)).collect();
            question.reads = peers.map(|peer| self.oracle.read_mark(&self.store, user, peer)).collect();
        }
        let conversation = Some(self.wire_peer(of));
        let request = match what {
            Ask::Change(_) | Ask::Type => return Ok(()),
            Ask::Info => {
                question.before = self.dice.between(1, question.heads[of] + 1);
                question.marked = self.oracle.marks(&self.store, user, of);
                Request::RecordInfo(v1::RecordInfo { conversation, seq: question.before })
            }
            Ask::Watch { on } => {
                let watch = v1::Watch { users: vec![name.clone()] };
                question.name = name;
                if on { Request::Watch(watch) } else { Request::Unwatch(watch) }
            }
            Ask::Unlink { target } => {
                question.absent = self.oracle.linked[target].fresh;
                (self.oracle.linked[target].unlinking, self.oracle.linked[target].unlinked_once) = (true, true);
                let device = self.oracle.devices[target].1.as_str().to_owned();
                Request::DeviceUnlink(v1::DeviceUnlink { device })
            }
            Ask::Away { on } => {
                let state = if on { Presence::Away } else { Presence::Active } as i32;
                Request::Presence(v1::Presence { state })
            }
            Ask::Show { whom, receipts } => {
                let (whom, some) = (privacy(whom) as i32, v1::Settings::default());
                Request::Settings(match receipts {
                    true => v1::Settings { read_receipts: whom, ..some },
                    false => v1::Settings { last_seen: whom, ..some },
                })
            }
            Ask::Block { on } => {
                let Some(peer) = self.oracle.users.get(of).filter(|_| of != user) else { return Ok(()) };
                let block = v1::Block { user: peer.user().to_owned() };
                question.before = self.oldest_known(user, of);
                *self.oracle.blocks.entry((device, of, on)).or_default() += 1;
                if on { Request::Block(block) } else { Request::Unblock(block) }
            }
            Ask::Ping => Request::Ping(v1::Ping {}),
            Ask::History { before } => {
                question.limit = self.dice.between(1, 20) as u32;
                question.before = if before { self.dice.between(1, question.heads[of] + 2) } else { 0 };
                let (before_seq, limit) = (question.before, question.limit);
                Request::History(v1::History { conversation, before_seq, limit })
            }
            Ask::Conversations => Request::Conversations(v1::Conversations { cursor: String::new(), limit: 100 }),
            Ask::Lookup => {
                let mine =
                    self.oracle.sends.iter().rev().filter(|(_, sending)| (sending.device, sending.to) == (device, of));
                question.about = mine.take(5).map(|(cmid, sending)| (*cmid, sending.seq)).collect();
                let client_message_ids = question.about.iter().map(|(cmid, _)| cmid.to_bytes()).collect();
                Request::Lookup(v1::Lookup { conversation, client_message_ids })
            }
            Ask::Forge => {
                let sent = self
                    .oracle
                    .sends
                    .iter()
                    .rev()
                    .find(|(_, sending)| (sending.device, sending.to) == (device, of) && sending.seq.is_some());
                let Some((cmid, sending)) = sent else { return Ok(()) };
                question.about = vec![(*cmid, sending.seq)];
                Request::Send(v1::Send {
                    to: conversation,
                    client_message_id: cmid.to_bytes(),
                    body: Some(v1::send::Body::Text("something else".into())),
                    ..Default::default()
                })
            }
        };
        let id = ASKED + self.questions.len() as u64;
        self.questions.push(question);
        self.send_up(link, v1::ClientFrame { id, request: Some(request) });
        Ok(())
    }

    pub fn judge_answer(&mut self, device: usize, frame: v1::ServerFrame) -> Verdict {
        let at = (frame.re - ASKED) as usize;
        let (of, what) = self.questions.get(at).map(|it| (it.of, it.what)).ok_or("an answer to what nobody asked")?;
        let answer = frame.answer.ok_or("an empty answer")?;
        let user = self.devices[device].user;
        let about = if what == Ask::Conversations { 0..self.oracle.peers() } else { of..of + 1 };
        for peer in about {
            self.oracle.fold(&self.store, user, peer);
        }
        if what == Ask::Info {
            self.oracle.catch_up(&self.store, user, of);
        }
        let question = &self.questions[at];
        if let Answer::Error(error) = &answer
            && error.retryable
        {
            self.coverage.mark("question refused for now");
            return Ok(());
        }
        if let Ask::Change(at) = question.what {
            return if self.changes[at].done { Ok(()) } else { self.judge_change(at, &answer) };
        }
        if let Answer::Error(error) = &answer {
            if let Ask::Unlink { target } = what {
                // It had not come yet.
                let right = question.absent && error.code() == Code::NotFound;
                self.oracle.linked[target].unlinking = !question.absent;
                return ensure(right, || format!("device: {device} unlinks {target} and got {error:?}"));
            }
            if what == Ask::Info {
                return self.judge_no_info(question, user, error);
            }
            if question.what != Ask::Forge && self.oracle.is_group(question.of) {
                return self.judge_no_group(question, device, error);
            }
            let forged = question.what == Ask::Forge && error.code() == Code::Conflict;
            ensure(forged, || format!("device {device} asked {:?} and got {error:?}", question.what))?;
            let first = match error.details.as_ref().and_then(|it| it.details.as_ref()) {
                Some(v1::details::Details::Conflict(first)) => Some(first.seq),
                _ => None,
            };
            let known = question.about.first().and_then(|(_, seq)| *seq);
            self.coverage.mark("conflict");
            return ensure(first == known, || format!("CONFLICT names {first:?}, the first outcome was {known:?}"));
        }
        self.coverage.mark("question answered");
        match (question.what, answer) {
            (Ask::Ping, Answer::Pong(_)) => Ok(()),
            (Ask::History { .. }, Answer::Page(page)) => self.judge_history(question, device, &page),
            (Ask::Conversations, Answer::ConversationPage(page)) => self.judge_conversations(question, device, &page),
            (Ask::Lookup, Answer::LookupResult(result)) => question.judge_lookup(&result),
            (Ask::Info, Answer::RecordInfo(info)) => {
                self.coverage.mark("record info");
                if info.members.iter().any(|member| member.state() == MemberIs::Hidden) {
                    self.coverage.mark("read hidden");
                }
                self.judge_info(question, user, &info)
            }
            (Ask::Unlink { .. }, Answer::DeviceList(_)) => Ok(()),
            (Ask::Watch { on }, Answer::PresenceStates(states)) => {
                let names: Vec<&str> = states.states.iter().map(|state| &*state.user).collect();
                let right = if on { names == [&*question.name] } else { names.is_empty() };
                ensure(right, || format!("presence: {:?} was watched: {on}, answered {names:?}", question.name))
            }
            (Ask::Show { whom, receipts }, Answer::Settings(settings)) => {
                self.coverage.mark("settings");
                let told = if receipts { settings.read_receipts() } else { settings.last_seen() };
                let right = privacy(whom);
                ensure(told == right, || format!("settings: u{user} shows it to {told:?}, asked {right:?}"))
            }
            (Ask::Block { on }, Answer::Ok(_)) => {
                let since = question.before;
                self.coverage.mark(if on { "blocked" } else { "unblocked" });
                self.judge_block(user, of, on, since)
            }
            (what, answer) => Err(format!("device {device} asked {what:?} and got {answer:?}")),
        }
    }

    /// Which device this request unlinks.
    pub fn unlinks(&self, re: u64) -> Option<usize> {
        match self.questions.get(re.checked_sub(ASKED)? as usize)?.what {
            Ask::Unlink { target } => Some(target),
            _ => None,
        }
    }

    /// A group that there is not yet, or that the user was never in.
    fn judge_no_group(&self, question: &Question, device: usize, error: &v1::Error) -> Verdict {
        let never = question.heads.get(question.of).is_none_or(|head| *head == 0) || self.plan.store.unknown_late > 0;
        let right = never && matches!(error.code(), Code::NotFound | Code::NotMember);
        ensure(right, || format!("device {device} asked about group {} and got {error:?}", question.of))
    }
}

fn privacy(whom: u8) -> Privacy {
    [Privacy::Everyone, Privacy::Contacts, Privacy::Nobody][usize::from(whom)]
}

impl Question {
    /// One whose answer is judged by what was asked alone.
    pub fn without_answer(of: usize, what: Ask) -> Self {
        Self { of, what, ..Self::default() }
    }

    /// What had its outcome is found where it is.
    fn judge_lookup(&self, result: &v1::LookupResult) -> Verdict {
        for (cmid, seq) in &self.about {
            let found = result.found.iter().find(|found| found.client_message_id == cmid.to_bytes());
            let right = seq.is_none_or(|seq| found.is_some_and(|found| found.seq == seq));
            ensure(right, || format!("lookup of {cmid:?}, which is at {seq:?}, found {found:?}"))?;
        }
        Ok(())
    }
}
