//! A session beside the ones under test that must not notice them.

use super::{Client, Server, eventually};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Sends a message from one user to another, who acks it, over and over, on a thread of its own.
pub struct Probe {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// Returns when the first round is done.
    pub fn start(server: &Server) -> Self {
        let mut sender = Client::open(server, "probe", "sender");
        let mut receiver = Client::open(server, "probe2", "receiver");
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let text = format!("after round {}", counted.load(Ordering::Relaxed));
                let sent = sender.request(json!({"send": {"to": {"user": "probe2"}, "text": text}}));
                let round = counted.load(Ordering::Relaxed) + 1;
                assert_eq!(sent["sent"]["seq"], round.to_string(), "{sent}");
                let push = receiver.unasked("push");
                assert_eq!(push["record"]["text"], text, "{push}");
                receiver.send_json(&json!({"ack": {"push": push["n"]}}));
                counted.store(round, Ordering::Release);
            }
        });
        let probe = Self { stop, rounds, thread: Some(thread) };
        probe.next_round();
        probe
    }

    /// Stops after one more round; panics if a message was lost, late beyond patience or out of order, or a session ended.
    pub fn finish(mut self) {
        self.next_round();
        self.stop.store(true, Ordering::Release);
        self.thread.take().expect("once").join().expect("the probe was disturbed");
    }

    fn next_round(&self) {
        let before = self.rounds.load(Ordering::Acquire);
        eventually(|| self.rounds.load(Ordering::Acquire) > before, "the probe was disturbed");
    }
}
