//! The row in `recent` that an append needs: whoever sweeps finds by it what a node that died did not fan out.
//!
//! It is written before the append, so that no record is without one. Once a minute and conversation: which ones this process
//! has written is kept for the minute.

use super::db::Db;
use super::failure::Failed;
use super::rows::{blob, number, vnode};
use ringpost_proto::id::ConversationId;
use scylla::value::CqlValue;
use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::{SystemTime, UNIX_EPOCH};

/// Conversations that are remembered at most; beyond that some rows are written twice.
const MOST: usize = 200_000;

/// Which rows of this minute this process has written.
#[derive(Debug, Default)]
pub(super) struct Covered {
    minute: u64,
    conversations: HashSet<ConversationId>,
}

impl Covered {
    pub(super) fn has(&self, minute: u64, conversation: &ConversationId) -> bool {
        self.minute == minute && self.conversations.contains(conversation)
    }

    pub(super) fn add(&mut self, minute: u64, conversation: ConversationId) {
        if self.minute != minute || self.conversations.len() >= MOST {
            self.minute = minute;
            self.conversations.clear();
        }
        self.conversations.insert(conversation);
    }
}

impl Db {
    pub(super) async fn cover(&self, conversation: ConversationId) -> Result<(), Failed> {
        let minute = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 60;
        if self.covered.lock().unwrap_or_else(PoisonError::into_inner).has(minute, &conversation) {
            return Ok(());
        }
        let key = [CqlValue::Int(vnode(&conversation)), CqlValue::BigInt(number(minute)), blob(&conversation.0)];
        self.write(&self.statements.recent_put, &key).await?;
        self.covered.lock().unwrap_or_else(PoisonError::into_inner).add(minute, conversation);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_written_once_a_minute() {
        let (ann, bob) = (ConversationId([1; 16]), ConversationId([2; 16]));
        let mut covered = Covered::default();
        assert!(!covered.has(7, &ann));
        covered.add(7, ann);
        assert!(covered.has(7, &ann) && !covered.has(7, &bob) && !covered.has(8, &ann));
        covered.add(8, bob);
        assert!(covered.has(8, &bob) && !covered.has(8, &ann) && !covered.has(7, &ann));
    }
}
