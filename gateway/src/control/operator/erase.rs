//! Erases a user: ends its sessions, forgets what it has set and which devices it has, takes the body out of every record
//! that it sent, and takes it out of its groups.
//!
//! In this order, so that nothing is added meanwhile, provided that no new token is signed; what the sessions had on its way
//! when they ended is looked for afterwards. Each step is such that a second time changes nothing: after whatever interruption
//! it is begun again.

use super::export::document;
use super::lines::Lines;
use super::listing::Listing;
use super::{Failed, Operator};
use ringpost_persist::{ConversationKind, DocumentKey, Outcome, ReadRange, StoreRequest, UserEntry};
use ringpost_proto::id::{ClientMessageId, ConversationId, Seq, UserKey};
use ringpost_proto::v1::code::Value as Code;
use ringpost_router::envelope::SendOutcome;
use ringpost_router::{DeviceList, home_of_conversation, home_of_user, operator as orders};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;

/// Of one page of a log.
const RECORDS: u32 = 256;
const BYTES: u32 = 1 << 20;
/// Erasures on their way at once: a conversation takes one for each commit, others go in between.
const AT_ONCE: usize = 16;
/// After the end of the last session, what it had on its way is in the logs, unless the disk hangs.
const SETTLED: Duration = Duration::from_secs(1);
/// Somebody of whom so many looks find more is still writing.
const LOOKS: u32 = 4;
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);

/// How much there was, and what became of it; of a dry run, what would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Settings and the list of devices.
    pub documents: u64,
    pub conversations: u64,
    /// Records that were looked at.
    pub scanned: u64,
    /// Bodies taken.
    pub records: u64,
    /// Groups left.
    pub groups: u64,
}

impl Erased {
    pub fn json(self) -> Value {
        let Self { documents, conversations, scanned, records, groups } = self;
        json!({
            "documents": documents, "conversations": conversations, "scanned": scanned,
            "records": records, "groupsLeft": groups,
        })
    }
}

/// One run.
struct Run<'a> {
    operator: &'a Operator,
    user: &'a UserKey,
    out: &'a Lines,
    /// Whether anything is changed.
    confirmed: bool,
    erased: Erased,
    /// How far each log was looked at.
    reached: HashMap<ConversationId, Seq>,
    told: Instant,
}

/// Erases, or (not `confirmed`) counts what would be erased. Writes lines of progress to `out`, but for the last one.
pub async fn erase(operator: &Operator, user: &UserKey, confirmed: bool, out: &Lines) -> Result<Erased, Failed> {
    let (erased, reached) = (Erased::default(), HashMap::new());
    let mut run = Run { operator, user, out, confirmed, erased, reached, told: Instant::now() };
    run.documents().await?;
    run.conversations().await?;
    for _ in 0..if confirmed { LOOKS } else { 0 } {
        tokio::time::sleep(SETTLED).await;
        if !run.conversations().await? {
            return Ok(run.erased);
        }
    }
    match confirmed {
        true => Err(Failed::Refused("the user goes on writing: stop signing tokens for it".to_owned())),
        false => Ok(run.erased),
    }
}

impl Run<'_> {
    async fn documents(&mut self) -> Result<(), Failed> {
        let settings = document(self.operator, DocumentKey::Settings(self.user.clone())).await?;
        let devices = document(self.operator, DocumentKey::Devices(self.user.clone())).await?;
        // What an erasure leaves of a list of devices is no more to be erased.
        let named = devices.is_some_and(|list| DeviceList::forgotten(&list, 0).is_some());
        self.erased.documents += u64::from(settings.is_some()) + u64::from(named);
        if !self.confirmed {
            return Ok(());
        }
        let home = home_of_user(self.user, self.operator.shards());
        match self.operator.tell(home, |re| Some(orders::forget(self.user.clone(), re))).await? {
            SendOutcome::Answer(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// All of them, of each log what was not looked at yet. Whether there was something to take.
    async fn conversations(&mut self) -> Result<bool, Failed> {
        let before = (self.erased.records, self.erased.groups);
        let mut listing = Listing::default();
        while let Some(entries) = listing.next(self.operator, self.user).await? {
            for entry in entries {
                let reached = self.reached.get(&entry.conversation).copied();
                self.records(&entry, reached.unwrap_or(0) + 1).await?;
                self.reached.insert(entry.conversation, entry.last_own.max(reached.unwrap_or(0)));
                if reached.is_none() {
                    self.erased.conversations += 1;
                    if matches!(*entry.kind, ConversationKind::Group) {
                        self.leave(&entry).await?;
                    }
                }
            }
        }
        Ok(before != (self.erased.records, self.erased.groups))
    }

    /// Those of the user in one log from a position on, a page at a time.
    async fn records(&mut self, entry: &UserEntry, mut from: Seq) -> Result<(), Failed> {
        let to = entry.last_own;
        while from <= to {
            let range = ReadRange::From { from, to };
            let (conversation, viewer, records, bytes) = (entry.conversation, None, RECORDS, BYTES);
            let page = self
                .operator
                .ask(|tag| StoreRequest::ReadLog { tag, conversation, viewer: viewer.clone(), range, records, bytes })
                .await?;
            let Outcome::LogSlice { reached, records, .. } = page else { return Err(Failed::Store) };
            self.erased.scanned += records.len() as u64;
            let own = records.iter().filter(|record| orders::is_erasable(record, self.user));
            let own: Vec<Seq> = own.map(|record| record.seq).collect();
            match self.confirmed {
                true => self.take(entry, &own).await?,
                false => self.erased.records += own.len() as u64,
            }
            self.tell_progress().await?;
            if reached < from {
                break;
            }
            from = reached + 1;
        }
        Ok(())
    }

    async fn take(&mut self, entry: &UserEntry, seqs: &[Seq]) -> Result<(), Failed> {
        for some in seqs.chunks(AT_ONCE) {
            let mut under_way = JoinSet::new();
            for &seq in some {
                under_way.spawn(take_one(self.operator.clone(), self.user.clone(), entry.clone(), seq));
            }
            while let Some(done) = under_way.join_next().await {
                let erased = done.map_err(|e| Failed::Refused(e.to_string()))??;
                self.erased.records += u64::from(erased);
                self.operator.counters().records_erased.fetch_add(u64::from(erased), Ordering::Relaxed);
            }
            self.tell_progress().await?;
        }
        Ok(())
    }

    /// Leaves a group, unless it did before.
    async fn leave(&mut self, entry: &UserEntry) -> Result<(), Failed> {
        let conversation = entry.conversation;
        if !self.confirmed {
            let state = self.operator.ask(|tag| StoreRequest::LoadConversation { tag, conversation }).await?;
            let Outcome::Conversation(state) = state else { return Err(Failed::Store) };
            self.erased.groups += u64::from(state.is_some_and(|state| state.roster.is_member(self.user)));
            return Ok(());
        }
        let home = home_of_conversation(conversation, self.operator.shards());
        match self.operator.tell(home, |re| orders::leave(conversation, self.user, made_id(), re)).await? {
            SendOutcome::Sent(_) => self.erased.groups += 1,
            SendOutcome::Refused(error) if matches!(error.code(), Code::NotMember) => {}
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }

    async fn tell_progress(&mut self) -> Result<(), Failed> {
        if self.told.elapsed() < PROGRESS {
            return Ok(());
        }
        self.told = Instant::now();
        self.out.line("progress", self.erased.json()).await
    }
}

/// Whether there was something to take.
async fn take_one(operator: Operator, user: UserKey, entry: UserEntry, seq: Seq) -> Result<bool, Failed> {
    let UserEntry { conversation, kind, .. } = entry;
    let home = home_of_conversation(conversation, operator.shards());
    let order = |re| orders::erase(conversation, Arc::clone(&kind), &user, seq, made_id(), re);
    match operator.tell(home, order).await? {
        SendOutcome::Sent(sent) => Ok(sent.seq != 0),
        // Expired while this ran.
        SendOutcome::Refused(error) if matches!(error.code(), Code::NotFound) => Ok(false),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(outcome: &SendOutcome) -> Failed {
    Failed::Refused(match outcome {
        SendOutcome::Refused(error) => error.message.clone(),
        SendOutcome::Sent(_) | SendOutcome::Answer(_) => "an answer that fits no question".to_owned(),
    })
}

/// What was erased is erased: that ids are unique decides about nothing here.
fn made_id() -> ClientMessageId {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let mut random = [0; 16];
    // Without randomness the time alone tells them apart, nearly.
    let _ = getrandom::fill(&mut random);
    ClientMessageId::uuid_v7(unix_ms, u128::from_ne_bytes(random))
}
