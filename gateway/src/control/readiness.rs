//! Keeps readiness true to what the shards and the store publish.

use super::Health;
use super::metrics::Sources;
use crate::shard::stats::Stat;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How often it looks; the shards publish once a second.
const EVERY: Duration = Duration::from_millis(500);

/// Runs until the runtime ends.
pub async fn run(health: Arc<Health>, sources: Arc<Sources>, max_sessions: u32) {
    loop {
        look(&health, &sources, u64::from(max_sessions));
        tokio::time::sleep(EVERY).await;
    }
}

fn look(health: &Health, sources: &Sources, max_sessions: u64) {
    let sessions: u64 = sources.shards.iter().map(|shard| shard.board.read().value(Stat::ConnOpen)).sum();
    health.set_reached(sessions >= max_sessions);
    health.set_storage_full(sources.store.as_ref().is_some_and(|store| store.is_full.load(Relaxed)));
    if let Some(tokens) = &sources.tokens {
        health.set_no_keys(tokens.verifier.is_empty());
        health.set_unanswered(tokens.verifier.unanswered());
    }
}

#[cfg(test)]
mod tests {
    use super::super::health::Phase;
    use super::super::metrics::ShardStats;
    use super::super::metrics::tokens::Tokens;
    use super::*;
    use crate::auth::{KeySet, Verifier};
    use crate::shard::stats::{Board, Snapshot};
    use ringpost_persist::embedded::Stats;
    use std::time::Instant;

    #[test]
    fn a_full_node_a_full_disk_and_one_without_keys_are_not_ready() {
        let board = Arc::new(Board::default());
        let store = Arc::new(Stats::default());
        let shard = ShardStats { board: Arc::clone(&board), wake: Box::new(|| {}) };
        let verifier = Arc::new(Verifier::new(KeySet::default().with_dev(), "ringpost"));
        let tokens = Some(Tokens { verifier: Arc::clone(&verifier), started: Instant::now() });
        let sources = Sources {
            shards: vec![shard],
            store: Some(Arc::clone(&store)),
            program: Arc::default(),
            tokens,
            addresses: None,
            operator: None,
            node: None,
        };
        let health = Health::default();
        health.enter(Phase::Serving);
        let ready = || {
            look(&health, &sources, 10);
            health.readiness().why
        };
        assert_eq!(ready(), "");
        let mut snapshot = Snapshot::default();
        snapshot.set(Stat::ConnOpen, 10);
        board.publish(&snapshot);
        assert_eq!(ready(), "max_sessions is reached");
        snapshot.set(Stat::ConnOpen, 9);
        board.publish(&snapshot);
        assert_eq!(ready(), "");
        store.is_full.store(true, Relaxed);
        assert_eq!(ready(), "the disk is nearly full");
        store.is_full.store(false, Relaxed);
        verifier.replace(KeySet::default());
        assert_eq!(ready(), "no token key is loaded");
    }
}
