//! What opening many connections cost, and what is held for them.
//!
//! Owns: the readings before the first connection, when all are there, and after they were held. Guarantees: what cannot be read
//! is left out, and so is what this machine's kernel holds where it is not known that both ends are here. Never does: judging.

use super::run::{Cpu, Run};
use crate::limits::kernel_memory;
use crate::report::Report;
use std::time::{Duration, Instant};

/// Readings of one run.
pub struct Opening {
    start: Instant,
    cpu: Cpu,
    memory: Memory,
    connected: Option<(Duration, Cpu)>,
    held: Option<Memory>,
}

#[derive(Clone, Copy)]
struct Memory {
    rss: Option<u64>,
    kernel: Option<u64>,
}

impl Memory {
    fn of(run: &Run) -> Self {
        let both_are_here = run.here().is_some() && run.common.server_pid.is_some();
        let kernel = || {
            let (slab, pages) = kernel_memory();
            slab + pages
        };
        Self { rss: run.server_rss(), kernel: both_are_here.then(kernel) }
    }
}

impl Opening {
    /// Before the first connection.
    pub fn begin(run: &Run) -> Self {
        Self { memory: Memory::of(run), connected: None, held: None, cpu: run.cpu(), start: Instant::now() }
    }

    /// All are there.
    pub fn connected(&mut self, run: &Run) {
        self.connected = Some((self.start.elapsed(), run.cpu()));
    }

    /// They were held for a while.
    pub fn held(&mut self, run: &Run) {
        self.held = Some(Memory::of(run));
    }

    /// By how much the server's resident memory grew for each of so many.
    pub fn rss_each(&self, established: u64) -> Option<f64> {
        grown_each(self.memory.rss, self.held?.rss, established)
    }

    /// Enters what each of those that are established cost.
    pub fn figures(&self, report: &mut Report) {
        let established = report.connections.established;
        if let Some((time, cpu)) = &self.connected {
            let seconds = time.as_secs_f64();
            report.figure("connect_time", seconds, "s");
            report.figure("connect_rate", established as f64 / seconds.max(1e-9), "/s");
            let used = cpu.server.zip(self.cpu.server).map(|(now, then)| now.saturating_sub(then).as_secs_f64());
            let each = used.map(|used| used * 1e6 / established.max(1) as f64);
            report.figure_if_known("server_cpu_per_connect", each, "us");
        }
        if let Some(Memory { rss, kernel }) = self.held {
            let mebibytes = |rss: Option<u64>| rss.map(|rss| rss as f64 / f64::from(1 << 20));
            report.figure_if_known("server_rss_before", mebibytes(self.memory.rss), "MiB");
            report.figure_if_known("server_rss_holding", mebibytes(rss), "MiB");
            report.figure_if_known("server_rss_per_connection", self.rss_each(established), "B");
            let grown = grown_each(self.memory.kernel, kernel, established);
            report.figure_if_known("kernel_per_connection", grown, "B, both ends");
        }
    }

    /// Enters the processor times of opening, where a command has no others.
    pub fn processors(&self, report: &mut Report) {
        if let Some((_, cpu)) = &self.connected {
            cpu.figures(&self.cpu, report.connections.established, report);
        }
    }
}

fn grown_each(before: Option<u64>, after: Option<u64>, count: u64) -> Option<f64> {
    Some(after?.saturating_sub(before?) as f64 / count.max(1) as f64)
}
