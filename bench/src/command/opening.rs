//! What opening many connections cost, and what is held for them.
//!
//! Owns: the readings before the first connection, when all are there, and after they were held. Guarantees: what cannot be read
//! is left out. Never does: judging.

use super::run::{Cpu, Run};
use crate::limits::kernel_memory;
use crate::report::Report;
use std::time::{Duration, Instant};

/// Readings of one run.
pub struct Opening {
    start: Instant,
    cpu: Cpu,
    rss: Option<u64>,
    kernel: u64,
    connected: Option<(Duration, Cpu)>,
    held: Option<(Option<u64>, u64)>,
}

fn kernel() -> u64 {
    let (slab, pages) = kernel_memory();
    slab + pages
}

impl Opening {
    /// Before the first connection.
    pub fn begin(run: &Run) -> Self {
        Self {
            cpu: run.cpu(),
            rss: run.server_rss(),
            kernel: kernel(),
            connected: None,
            held: None,
            start: Instant::now(),
        }
    }

    /// All are there.
    pub fn connected(&mut self, run: &Run) {
        self.connected = Some((self.start.elapsed(), run.cpu()));
    }

    /// They were held for a while.
    pub fn held(&mut self, run: &Run) {
        self.held = Some((run.server_rss(), kernel()));
    }

    /// Enters what each of those that are established cost.
    pub fn figures(&self, report: &mut Report) {
        let count = report.connections.established.max(1) as f64;
        if let Some((time, cpu)) = &self.connected {
            let seconds = time.as_secs_f64();
            report.figure("connect_time", seconds, "s");
            report.figure("connect_rate", report.connections.established as f64 / seconds.max(1e-9), "/s");
            let used = cpu.server.zip(self.cpu.server).map(|(now, then)| now.saturating_sub(then).as_secs_f64());
            report.figure_if_known("server_cpu_per_connect", used.map(|used| used * 1e6 / count), "us");
        }
        if let Some((rss, kernel)) = self.held {
            let mebibytes = |rss: Option<u64>| rss.map(|rss| rss as f64 / f64::from(1 << 20));
            report.figure_if_known("server_rss_before", mebibytes(self.rss), "MiB");
            report.figure_if_known("server_rss_holding", mebibytes(rss), "MiB");
            let grown = rss.zip(self.rss).map(|(now, then)| now.saturating_sub(then) as f64 / count);
            report.figure_if_known("server_rss_per_connection", grown, "B");
            report.figure("kernel_per_connection", kernel.saturating_sub(self.kernel) as f64 / count, "B, both ends");
        }
    }
}
