//! Requests beside the client's own: history, conversations, lookup, a forged repeat, ping; and what their answers may be.

use super::oracle::{Verdict, ensure};
use super::plan::Ask;
use super::world::World;
use ringpost_proto::id::{ClientMessageId, Seq};
use ringpost_proto::v1::{self, client_frame::Request, code::Value as Code, server_frame::Answer};

/// Request numbers from here on are ours, not the client's.
pub const ASKED: u64 = 1 << 40;

/// What was asked, and what was true at that moment.
pub struct Question {
    of: usize,
    what: Ask,
    /// By peer: the head of the conversation.
    heads: Vec<Seq>,
    before: Seq,
    limit: u32,
    about: Vec<(ClientMessageId, Option<Seq>)>,
}

impl World {
    pub fn app_asks(&mut self, device: usize, of: usize, what: Ask) -> Verdict {
        let Some(link) = self.online(device) else { return Ok(()) };
        let user = self.devices[device].user;
        let heads: Vec<Seq> =
            (0..self.oracle.peers()).map(|peer| self.oracle.newest(&self.store, user, peer)).collect();
        let mut question = Question { of, what, before: 0, limit: 0, about: Vec::new(), heads };
        let conversation = Some(self.wire_peer(of));
        let request = match what {
            Ask::Change(_) => return Ok(()),
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
        let question = self.questions.get(at).ok_or("an answer to what nobody asked")?;
        let answer = frame.answer.ok_or("an empty answer")?;
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
            (what, answer) => Err(format!("device {device} asked {what:?} and got {answer:?}")),
        }
    }

    /// A group that there is not yet, or that the user was never in.
    fn judge_no_group(&self, question: &Question, device: usize, error: &v1::Error) -> Verdict {
        let never = question.heads[question.of] == 0 || self.plan.store.unknown_late > 0;
        let right = never && matches!(error.code(), Code::NotFound | Code::NotMember);
        ensure(right, || format!("device {device} asked about group {} and got {error:?}", question.of))
    }

    /// Every conversation that there was, newest first, at least as far as it was.
    fn judge_conversations(&self, question: &Question, device: usize, page: &v1::ConversationPage) -> Verdict {
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
            if self.oracle.is_group(peer) {
                continue;
            }
            // Whoever left a group finds it where its newest record is, and is shown the newest of its own.
            ensure(entry.last_id <= last_id, || "conversations out of order".into())?;
            last_id = entry.last_id;
        }
        let missing = (0..seen.len()).find(|peer| question.heads[*peer] > 0 && !seen[*peer]);
        ensure(missing.is_none(), || format!("u{user} is not told of {missing:?}"))
    }

    /// Newest first, without a gap, from where it was asked.
    fn judge_history(&self, question: &Question, device: usize, page: &v1::Page) -> Verdict {
        let (user, newest) = (self.devices[device].user, page.records.first().map_or(0, |record| record.seq));
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
            ends.windows(2).all(|pair| pair[1] < pair[0] && self.none_seen(user, question.of, pair[1] + 1, pair[0]));
        ensure(dense, || format!("history has gaps: {ends:?}"))?;
        let oldest = page.records.last().map_or(from + 1, |record| record.seq);
        let next = if page.next_before_seq == 0 { 1 } else { page.next_before_seq };
        let right = next <= oldest && self.none_seen(user, question.of, next, oldest);
        ensure(right, || format!("history goes on before {}, not {oldest}", page.next_before_seq))
    }

    /// Whether no record in from .. to is for the user.
    fn none_seen(&self, user: usize, peer: usize, from: Seq, to: Seq) -> bool {
        let (log, fold) = (self.store.log(&self.oracle.conversation(user, peer)), self.oracle.folded(user, peer));
        (from..to).all(|seq| log.get(seq as usize - 1).is_none_or(|record| !fold.sees(user, record)))
    }
}

impl Question {
    pub fn of_change(of: usize, what: Ask) -> Self {
        Self { of, what, heads: Vec::new(), before: 0, limit: 0, about: Vec::new() }
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
