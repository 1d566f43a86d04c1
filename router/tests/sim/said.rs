//! What is said about earlier records: edits, erasures, reactions. Who asks for which, and whether what became of a message
//! is right by the log.

use super::fold::Meant;
use super::oracle::{Oracle, Sending, Verdict, ensure};
use super::plan::Said;
use super::world::World;
use ringpost_persist::faulty::FaultyStore;
use ringpost_proto::id::{ClientMessageId, Seq};
use ringpost_proto::v1;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::kind::Value as Kind;

/// Records from the newest on among which one looks for what to say something about.
const LOOKED: Seq = 60;

impl Said {
    fn kind(self) -> Kind {
        match self {
            Self::Edit => Kind::Edit,
            Self::Erase => Kind::Erase,
            Self::React => Kind::Reaction,
        }
    }
}

impl World {
    pub fn app_says(&mut self, device: usize, of: usize, said: Said, fit: bool) -> Verdict {
        let user = self.devices[device].user;
        let fold = self.oracle.fold(&self.store, user, of);
        let (kind, head) = (said.kind(), fold.head);
        let may = |seq: &Seq| fold.forbids(user, Meant { kind, ref_seq: *seq, epoch: 0 }, head, None).is_empty();
        let from = head.saturating_sub(LOOKED) + 1;
        let fitting: Vec<Seq> = (from..=head).filter(|seq| fit && may(seq)).collect();
        let ref_seq = match fitting.len() {
            // At times about one that is still on its way, if it comes.
            0 => self.dice.between(from, head + 2),
            some => fitting[self.dice.pick(some)],
        };
        let text = || v1::send::Body::Text(format!("said of {ref_seq}"));
        let body = (said != Said::Erase).then(text);
        self.dispatch(device, of, Meant { kind, ref_seq, epoch: 0 }, body)
    }
}

impl Oracle {
    /// Whether a send could be refused for this at some moment since it was made.
    pub fn may_be_refused(&mut self, store: &FaultyStore, sending: &Sending, code: Code) -> bool {
        let user = self.devices[sending.device].0;
        let (meant, steady, made) = (sending.meant, self.steady, sending.made);
        let (now_us, about) = (self.unix_us, meant.kind);
        let fold = self.fold(store, user, sending.to);
        // Where the clock jumps, what is said about a record may always come too late.
        let late = !steady && matches!(about, Kind::Edit | Kind::Erase) && code == Code::Forbidden;
        late || (made..=fold.head).any(|upto| fold.forbids(user, meant, upto, Some(now_us)).contains(&code))
    }

    /// SENT of an erasure has left: what was taken back is not shown any more to whoever asks from now on.
    pub fn erasure_is_known(&mut self, cmid: ClientMessageId, now: u64) {
        let Some(sending) = self.sends.get(&cmid).filter(|sending| sending.meant.kind == Kind::Erase) else { return };
        let room = self.conversation(self.devices[sending.device].0, sending.to);
        let (user, to, ref_seq) = (self.devices[sending.device].0, sending.to, sending.meant.ref_seq);
        // With the message its edits went.
        let gone: Vec<Seq> = self.folded(user, to).edits_of(ref_seq).chain([ref_seq]).collect();
        for seq in gone {
            self.erasures.entry((room, seq)).or_insert(now);
        }
    }

    /// A body that was taken back may be on its way for a moment.
    pub fn may_show_erased(&self, user: usize, peer: usize, seq: Seq, now: u64) -> Verdict {
        let told = self.erasures.get(&(self.conversation(user, peer), seq));
        let late = told.is_some_and(|told| now > told + self.under_way_us);
        ensure(!late, || format!("erased: u{user} is shown record {seq} of peer {peer}, erased at {told:?} us"))
    }
}
