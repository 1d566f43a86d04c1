//! What the gateway and the kernel hold, and what of it has not come back.
//!
//! Owns: the list of what is counted, and of each by how much it may differ and why. Guarantees: what is not told is not judged
//! and shows as such; a number that is lower than before is back. Never does: reading, waiting.

use crate::kernel::{Kernel, Told};
use crate::metrics::Metrics;
use crate::report::{Figure, Report};
use crate::series::Series;

/// Who tells it.
#[derive(Clone, Copy, Debug)]
enum By {
    Gateway(Series),
    Kernel(Told),
}

/// Against what it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Against {
    /// What it was before the first session.
    Start,
    /// What it was with all sessions, when tables and caches had reached their size.
    Full,
}

/// One thing that is taken and given back.
#[derive(Debug)]
struct Item {
    name: &'static str,
    by: By,
    against: Against,
    /// By how much it may be above, and why.
    slack: f64,
    because: &'static str,
    /// For each socket of other programs that came meanwhile it may be so much more.
    each_other: f64,
    /// Conversations stay in memory for ten minutes after their last use.
    rests: bool,
}

const EXACT: &str = "none: the gateway counts it exactly";
const OTHERS: &str = "what other programs open and close meanwhile";
/// SLUB: up to 52 objects of such a size on each processor's list of partial slabs, and slabs that are kept.
const LISTS: &str = "what lies ready on processors' lists counts as in use, and so do other programs'";
const KEPT: &str = "a ring keeps its requests for the next ones, so it is compared with that of all sessions";
const UNRECLAIMABLE: &str =
    "requests that rings keep, slabs that are not all empty, and what other programs and file systems have meanwhile";
const MIB: f64 = 1_048_576.0;

const fn counted(name: &'static str, series: Series) -> Item {
    Item {
        name,
        by: By::Gateway(series),
        against: Against::Start,
        slack: 0.0,
        because: EXACT,
        each_other: 0.0,
        rests: false,
    }
}

const fn resting(name: &'static str, series: Series) -> Item {
    Item { rests: true, ..counted(name, series) }
}

const fn kernel(name: &'static str, told: Told, slack: f64, because: &'static str, each_other: f64) -> Item {
    Item { name, by: By::Kernel(told), against: Against::Start, slack, because, each_other, rests: false }
}

const ITEMS: &[Item] = &[
    counted("connections", Series::CONNECTIONS),
    counted("slots_occupied", Series::SLOTS),
    counted("operations_in_flight", Series::IN_FLIGHT),
    counted("receive_buffers_out", Series::BUFFERS_OUT),
    counted("outbound_bytes", Series::OUTBOUND),
    counted("sessions", Series::SESSIONS),
    counted("users_in_memory", Series::USERS),
    counted("timers_of_connections", Series::TIMERS_CONNECTION),
    counted("timers_of_sessions", Series::TIMERS_SESSION),
    counted("store_requests_waiting", Series::STORE_WAITING),
    counted("messages_between_shards_waiting", Series::MESH_SPILL),
    counted("addresses", Series::ADDRESSES),
    resting("conversations_in_memory", Series::CONVERSATIONS),
    resting("timers_of_conversations", Series::TIMERS_CONVERSATION),
    kernel("kernel_sockets_of_the_port", Told::OfPort, 0.0, "none: they are told apart by their port", 0.0),
    kernel("kernel_time_wait_of_the_port", Told::Waiting, 0.0, "none: it lasts for a minute", 0.0),
    // Those that the tables of connections do not show are counted here, too.
    kernel("kernel_tcp_sockets", Told::Tcp("alloc"), 16.0, OTHERS, 1.0),
    kernel("kernel_tcp_pages", Told::Tcp("mem"), 1_024.0, "each processor keeps a reserve of 1 MiB", 8.0),
    kernel("kernel_slab_TCP", Told::Slab("TCP"), 512.0, LISTS, 1.0),
    kernel("kernel_slab_sock_inode_cache", Told::Slab("sock_inode_cache"), 1_024.0, LISTS, 1.0),
    kernel("kernel_slab_filp", Told::Slab("filp"), 4_096.0, LISTS, 1.0),
    Item { against: Against::Full, ..kernel("kernel_slab_io_kiocb", Told::Slab("io_kiocb"), 4_096.0, KEPT, 2.0) },
    kernel("kernel_unreclaimable_bytes", Told::Memory("SUnreclaim:"), 96.0 * MIB, UNRECLAIMABLE, 16_384.0),
];

/// What was held at one moment; `None`: it was not told.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    /// In the order of the list.
    items: Vec<Option<f64>>,
    /// Sockets of other programs.
    others: f64,
}

impl Holdings {
    pub fn of(page: Option<&Metrics>, kernel: &Kernel) -> Self {
        let value = |item: &Item| match item.by {
            By::Gateway(series) => page.map(|page| page.sum(series)),
            By::Kernel(told) => kernel.value(told),
        };
        let others = kernel.value(Told::Others).unwrap_or(0.0);
        Self { items: ITEMS.iter().map(value).collect(), others }
    }

    fn at(&self, index: usize) -> Option<f64> {
        self.items.get(index).copied().flatten()
    }
}

/// What is compared.
pub struct Books<'h> {
    /// Before the first session.
    pub start: &'h Holdings,
    /// With all sessions, after the warm-up.
    pub full: &'h Holdings,
    /// After the last session.
    pub end: &'h Holdings,
    /// Conversations that may be at rest in memory still, because less time has gone by than they stay.
    pub resting: f64,
}

impl Books<'_> {
    /// A sentence for each thing of which more is held than before.
    pub fn missing(&self) -> Vec<String> {
        let judge = |(index, item): (usize, &Item)| {
            let end = self.end.at(index);
            let before = self.against(item).at(index)?;
            let others = (self.end.others - self.against(item).others).max(0.0);
            let slack = item.slack + item.each_other * others + if item.rests { self.resting } else { 0.0 };
            match end {
                None => Some(format!("{} is not told any more", item.name)),
                Some(end) if end > before + slack => Some(format!(
                    "{}: {end} after the last session, {before} {}: {} did not come back ({slack} allowed: {})",
                    item.name,
                    if item.against == Against::Start { "before the first" } else { "with all of them" },
                    end - before,
                    item.because
                )),
                Some(_) => None,
            }
        };
        ITEMS.iter().enumerate().filter_map(judge).collect()
    }

    /// Enters what there was before and after.
    pub fn figures(&self, report: &mut Report) {
        for (index, item) in ITEMS.iter().enumerate() {
            let Some(end) = self.end.at(index) else { continue };
            let known =
                |holdings: &Holdings| holdings.at(index).map_or("unknown".to_owned(), |value| value.to_string());
            let unit = format!(
                "after the last session; {} before the first, {} with all",
                known(self.start),
                known(self.full)
            );
            report.figures.push(Figure { name: item.name.into(), value: end, unit: unit.into() });
        }
    }

    fn against(&self, item: &Item) -> &Holdings {
        match item.against {
            Against::Start => self.start,
            Against::Full => self.full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(name: &str) -> usize {
        ITEMS.iter().position(|item| item.name == name).unwrap()
    }

    /// Everything as many times, but for one.
    fn held(all: f64, name: &str, value: Option<f64>) -> Holdings {
        let mut holdings = Holdings { items: vec![Some(all); ITEMS.len()], others: 3.0 };
        holdings.items[index(name)] = value;
        holdings
    }

    fn missing(name: &str, start: f64, full: f64, end: Option<f64>, resting: f64) -> Vec<String> {
        let (start, full, end) = (held(7.0, name, Some(start)), held(9e9, name, Some(full)), held(7.0, name, end));
        Books { start: &start, full: &full, end: &end, resting }.missing()
    }

    #[test]
    fn a_count_is_back_exactly_or_named_with_how_much_is_missing() {
        assert!(missing("timers_of_sessions", 3.0, 900.0, Some(3.0), 0.0).is_empty());
        assert!(missing("timers_of_sessions", 3.0, 900.0, Some(0.0), 0.0).is_empty(), "less is back");
        let told = missing("timers_of_sessions", 3.0, 900.0, Some(5.0), 0.0);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("timers_of_sessions: 5 after the last session, 3 before the first: 2 did not"));
    }

    #[test]
    fn what_the_kernel_counts_may_differ_by_its_slack_and_no_more() {
        assert!(missing("kernel_tcp_sockets", 10.0, 900.0, Some(26.0), 0.0).is_empty());
        assert!(
            missing("kernel_tcp_sockets", 10.0, 900.0, Some(27.0), 0.0)[0].contains("17 did not come back (16 allowed")
        );
    }

    #[test]
    fn sockets_of_others_explain_what_is_counted_with_them_and_not_those_of_the_port() {
        let of = |name, end| {
            let (start, mut end) = (held(7.0, name, Some(10.0)), held(7.0, name, Some(end)));
            end.others += 500.0;
            Books { start: &start, full: &start, end: &end, resting: 0.0 }.missing().len()
        };
        assert_eq!((of("kernel_tcp_sockets", 526.0), of("kernel_tcp_sockets", 527.0)), (0, 1));
        assert_eq!((of("kernel_sockets_of_the_port", 10.0), of("kernel_sockets_of_the_port", 11.0)), (0, 1));
    }

    #[test]
    fn requests_that_rings_keep_are_compared_with_those_of_all_sessions() {
        assert!(missing("kernel_slab_io_kiocb", 10.0, 100_000.0, Some(104_096.0), 0.0).is_empty());
        assert!(missing("kernel_slab_io_kiocb", 10.0, 100_000.0, Some(104_097.0), 0.0)[0].contains("with all of them"));
    }

    #[test]
    fn only_conversations_may_rest() {
        assert!(missing("conversations_in_memory", 0.0, 50.0, Some(40.0), 40.0).is_empty());
        assert_eq!(missing("conversations_in_memory", 0.0, 50.0, Some(41.0), 40.0).len(), 1);
        assert_eq!(missing("users_in_memory", 0.0, 50.0, Some(1.0), 40.0).len(), 1);
    }

    #[test]
    fn what_was_told_before_and_is_not_any_more_is_missed_and_what_never_was_is_not() {
        assert_eq!(missing("sessions", 0.0, 9.0, None, 0.0), ["sessions is not told any more"]);
        let none = Holdings { items: vec![None; ITEMS.len()], others: 0.0 };
        assert!(Books { start: &none, full: &none, end: &none, resting: 0.0 }.missing().is_empty());
    }
}
