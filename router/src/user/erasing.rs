//! Erasing a user, after its documents are empty: whatever it had said before is in the log or never will be, so that who takes
//! the bodies out of the log leaves none behind.
//!
//! Guarantees: the operator is told OK only after each shard has said, asked by the user's home, that no message of the user is
//! to be decided or committed there. What the home had sent a shard before arrives before that question, and no session says
//! anything more. Never does: wait; where something is on its way the operator is refused, and asks again.

use crate::Router;
use crate::boundary::ShardId;
use crate::envelope::{Envelope, SendOutcome, SessionRef};
use crate::refusal;
use ringpost_proto::id::UserKey;
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;

impl Router {
    /// At the user's home: asks the shard `at`, or has asked them all.
    pub(super) fn settle_shard(&mut self, user: UserKey, by: SessionRef, re: u64, at: ShardId) {
        if at < self.settings.shards {
            return self.post(at, Envelope::Settle { user, by, re, at });
        }
        let outcome = SendOutcome::Answer(Box::new(Answer::Ok(v1::Ok {})));
        self.post(by.shard, Envelope::Outcome { to: by, re, outcome });
    }

    /// Whether a room of this shard has a message of the user that is not in the log and may come to be.
    pub(crate) fn settle(&mut self, user: UserKey, by: SessionRef, re: u64, at: ShardId) {
        let settled = !self.conversations.iter().any(|(_, room)| room.awaits(&user));
        let home = user.clone();
        self.post_to_user(&home, Envelope::Settled { user, by, re, at, settled });
    }

    pub(crate) fn settled(&mut self, user: UserKey, by: SessionRef, re: u64, at: ShardId, settled: bool) {
        if settled {
            return self.settle_shard(user, by, re, at + 1);
        }
        let outcome = SendOutcome::Refused(Box::new(refusal::unavailable()));
        self.post(by.shard, Envelope::Outcome { to: by, re, outcome });
    }
}
