//! /metrics: what the shards, the store and the process count, as Prometheus text.
//!
//! Guarantees: the set of series is fixed at start; no label value comes from a peer; a scrape reads counters and never
//! makes a shard or the store wait.

pub mod heap;
pub mod help;
pub mod memory;
pub mod node;
pub mod operator;
pub mod process;
pub mod store;
pub mod text;
pub mod tokens;

pub use text::{Kind, Text};

use crate::address::table::Table;
use crate::control::operator::Counters;
use crate::shard::stats::{self, BOUNDS_US, Board, Snapshot, Stat, Timing};
use ringpost_persist::embedded::Stats;
use std::sync::Arc;
use std::time::Duration;

/// How long a scrape waits for the shards to publish: a busy shard publishes in its next turn, a sleeping one is woken.
const FRESH_WITHIN: Duration = Duration::from_millis(50);

/// One shard's board, and how to wake the shard.
pub struct ShardStats {
    pub board: Arc<Board>,
    pub wake: Box<dyn Fn() + Send + Sync>,
}

/// Everything that is read at a scrape.
#[derive(Default)]
pub struct Sources {
    pub shards: Vec<ShardStats>,
    /// Absent where there is no embedded store.
    pub store: Option<Arc<Stats>>,
    /// Absent where nobody checks tokens.
    pub tokens: Option<tokens::Tokens>,
    /// Absent where nobody limits addresses.
    pub addresses: Option<Arc<Table>>,
    pub program: Arc<memory::Program>,
    /// Absent where no operator can ask.
    pub operator: Option<Arc<Counters>>,
    /// Absent where nobody asks whether it is ready.
    pub node: Option<node::Node>,
}

pub async fn gather(sources: &Sources) -> String {
    freshen(&sources.shards).await;
    render(sources)
}

/// Asks every shard to publish and waits a moment; whoever is late is read as it was, at most a second old.
async fn freshen(shards: &[ShardStats]) {
    let before: Vec<u64> = shards.iter().map(|shard| shard.board.published()).collect();
    for shard in shards {
        shard.board.want();
        (shard.wake)();
    }
    let fresh = || shards.iter().zip(&before).all(|(shard, before)| shard.board.published() > *before);
    let wait = async {
        while !fresh() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    // Late is not an error.
    let _ = tokio::time::timeout(FRESH_WITHIN, wait).await;
}

/// The text, from what is published.
pub fn render(sources: &Sources) -> String {
    let mut text = Text::default();
    let shards: Vec<Snapshot> = sources.shards.iter().map(|shard| shard.board.read()).collect();
    if let Some(node) = &sources.node {
        node::add(&mut text, node);
    }
    let mut sum = Snapshot::default();
    shards.iter().for_each(|shard| sum.merge(shard));
    for &stat in Stat::ALL {
        let (kind, name, label) = stat.series();
        let kind = match kind {
            stats::Kind::Counter => Kind::Counter,
            stats::Kind::Gauge => Kind::Gauge,
        };
        text.sample(kind, name, label, sum.value(stat) as f64);
    }
    memory::add(&mut text, &sum, sources.store.as_deref(), &sources.program);
    for timing in Timing::ALL {
        let (counts, sum_us) = sum.timing(timing);
        let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
        let above = counts.last().copied().unwrap_or_default();
        let (name, label) = timing.series();
        text.histogram(name, label, bounds.zip(counts.iter().copied()), above, sum_us as f64 / 1e6);
    }
    for (n, shard) in shards.iter().enumerate() {
        text.sample(Kind::Gauge, "ringpost_shard_connections", &format!("shard=\"{n}\""), shard.open() as f64);
    }
    if let Some(stats) = &sources.store {
        store::add(&mut text, stats);
    }
    if let Some(tokens) = &sources.tokens {
        tokens::add(&mut text, tokens);
    }
    if let Some(addresses) = &sources.addresses {
        text.sample(Kind::Gauge, "ringpost_addresses", "", addresses.addresses() as f64);
    }
    if let Some(counters) = &sources.operator {
        operator::add(&mut text, counters);
    }
    memory::add_kernel(&mut text);
    process::add(&mut text);
    text.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{KeySet, Verifier};
    use std::time::Instant;

    fn sources(shards: &[&[(Stat, u64)]]) -> Sources {
        let shards = shards.iter().map(|values| {
            let mut snapshot = Snapshot::default();
            values.iter().for_each(|(stat, value)| snapshot.set(*stat, *value));
            let board = Arc::new(Board::default());
            board.publish(&snapshot);
            ShardStats { board, wake: Box::new(|| {}) }
        });
        let verifier = Arc::new(Verifier::new(KeySet::default(), "ringpost"));
        let tokens = Some(tokens::Tokens { verifier, started: Instant::now() });
        let addresses = Arc::new(Table::new(&crate::config::Config::from_pairs(&[("dev", "true")]).unwrap()));
        let (store, operator) = (Some(Arc::default()), Some(Arc::default()));
        let node = Some(node::Node { health: Arc::default(), max_sessions: 1, data: std::env::temp_dir() });
        Sources {
            shards: shards.collect(),
            store,
            program: Arc::default(),
            tokens,
            addresses: Some(addresses),
            operator,
            node,
        }
    }

    #[test]
    fn shards_are_summed_and_their_shares_shown() {
        let text = render(&sources(&[&[(Stat::ConnOpen, 3), (Stat::Acks, 10)], &[(Stat::ConnOpen, 4)]]));
        assert!(text.contains("\nringpost_connections{state=\"open\"} 7\n"), "{text}");
        assert!(text.contains("\nringpost_acks_total 10\n"));
        assert!(text.contains("\nringpost_shard_connections{shard=\"0\"} 3\n"));
        assert!(text.contains("\nringpost_shard_connections{shard=\"1\"} 4\n"));
    }

    #[test]
    fn every_family_says_what_it_is_once() {
        let text = render(&sources(&[&[]]));
        let mut names = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let name = line.split(' ').next().unwrap();
            assert!(!names.contains(&name), "{name} twice");
            names.push(name);
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        }
        assert!(names.len() > 30);
    }
}
