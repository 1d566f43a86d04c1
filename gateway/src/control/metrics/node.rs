//! Whether this node takes new sessions, what it is sized for, and the room on its disk.

use super::{Kind, Text};
use crate::control::Health;
use std::path::PathBuf;
use std::sync::Arc;

/// What it is read from.
pub struct Node {
    pub health: Arc<Health>,
    pub max_sessions: u32,
    /// The directory of the store.
    pub data: PathBuf,
}

/// What cannot be read is left out.
pub fn add(text: &mut Text, node: &Node) {
    let readiness = node.health.readiness();
    text.sample(Kind::Gauge, "ringpost_ready", "", f64::from(u8::from(readiness.ready)));
    text.sample(Kind::Gauge, "ringpost_draining", "", f64::from(u8::from(readiness.draining)));
    text.sample(Kind::Gauge, "ringpost_warnings", "", node.health.warnings().len() as f64);
    text.sample(Kind::Gauge, "ringpost_max_sessions", "", f64::from(node.max_sessions));
    if let Ok(disk) = rustix::fs::statvfs(&node.data) {
        // As the store counts for its floor: without the blocks that are kept for root.
        for (label, blocks) in [("of=\"free\"", disk.f_bavail), ("of=\"total\"", disk.f_blocks)] {
            let bytes = blocks.saturating_mul(disk.f_frsize);
            text.sample(Kind::Gauge, "ringpost_disk_bytes", label, bytes as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::health::Phase;

    #[test]
    fn a_node_says_whether_it_takes_sessions_and_how_many() {
        let health = Arc::new(Health::default());
        let node = Node { health: Arc::clone(&health), max_sessions: 10, data: std::env::temp_dir() };
        let says = |line: &str| {
            let mut text = Text::default();
            add(&mut text, &node);
            text.finish().lines().any(|it| it == line)
        };
        assert!(says("ringpost_ready 0") && says("ringpost_draining 0") && says("ringpost_max_sessions 10"));
        health.enter(Phase::Serving);
        assert!(says("ringpost_ready 1") && says("ringpost_warnings 0"));
        health.set_unanswered(Arc::new(vec!["https://id.example/a".to_owned(), "https://id.example/b".to_owned()]));
        assert!(says("ringpost_ready 1") && says("ringpost_warnings 2"));
        health.enter(Phase::Draining);
        assert!(says("ringpost_ready 0") && says("ringpost_draining 1"));
    }

    #[test]
    fn the_disk_has_less_free_than_it_has_and_one_that_is_not_there_is_left_out() {
        let of = |data: &str| {
            let mut text = Text::default();
            add(&mut text, &Node { health: Arc::default(), max_sessions: 1, data: data.into() });
            let out = text.finish();
            ["free", "total"].map(|of| {
                let line = format!("ringpost_disk_bytes{{of=\"{of}\"}} ");
                out.lines().find_map(|it| it.strip_prefix(&line)?.parse::<u64>().ok())
            })
        };
        let [Some(free), Some(total)] = of("/") else { panic!("no disk") };
        assert!(0 < free && free <= total);
        assert_eq!(of("/nowhere/at/all"), [None, None]);
    }
}
