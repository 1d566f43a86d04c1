//! A command, cut so that one process can do all of it or several a part each.
//!
//! Owns: what a command says of its sessions, and what was found in the end. Guarantees: what one process does alone and what
//! workers do goes through the same code; only who waits for a stage differs. Never does: leading; the command does, through
//! [`super::run::Run::go`].

use super::run::{Common, Run, RunError};
use crate::load::Scenario;
use crate::protocol::Kind;
use crate::report::{Connections, Report};
use crate::who::Names;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a command wants to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speak {
    /// Authenticated sessions on /v1/connect.
    Sessions,
    /// The echo endpoint, or plain bytes where the URL says tcp://.
    Echo,
    /// Another server's protocol: the first users of a thread in rooms of `unit`, where it has rooms.
    Other { kind: Kind, rooms: u32, unit: u32 },
}

/// The sessions of a run.
#[derive(Clone, Copy, Debug)]
pub struct Sessions {
    pub users: u32,
    /// Neighbours are together on one thread in units of so many.
    pub unit: u32,
    pub speak: Speak,
}

/// What a command's sessions do. It knows the whole; what of it is a process's own, the [`Run`] knows.
pub trait Load: Sync {
    /// The users of one thread.
    type Scene<'r>: Scenario
    where
        Self: 'r;
    type Found: Found;

    fn common(&self) -> &Common;
    fn sessions(&self) -> Result<Sessions, RunError>;
    /// Whether every other connection is such that its end is a reset.
    fn resets(&self) -> bool {
        false
    }
    fn scene<'r>(&'r self, run: &'r Run, thread: u32, names: &'r Names) -> Self::Scene<'r>;
    /// What is left of a scene when the run is over.
    fn found(&self, scene: Self::Scene<'_>) -> Self::Found;
}

/// What was found: by one thread, or by several when it was added.
pub trait Found: Default + Send + Serialize + DeserializeOwned {
    fn add(&mut self, other: Self);
}

/// What one process found.
#[derive(Default)]
pub struct Account<F> {
    /// The worker, where there are some.
    pub whose: Option<String>,
    pub users: u32,
    pub found: F,
    pub connections: Connections,
    /// See [`crate::fleet::words::Word::Found`].
    pub stolen: Option<f64>,
}

impl<F: Found> Account<F> {
    pub fn add(&mut self, other: Self) {
        self.users += other.users;
        self.found.add(other.found);
        self.connections.add(&other.connections);
        self.stolen = self.stolen.into_iter().chain(other.stolen).reduce(f64::max);
    }
}

/// What all processes found.
pub struct Accounts<F>(pub Vec<Account<F>>);

impl<F: Found> Accounts<F> {
    /// Judges each by itself: what one worker missed is told with its name. `judge` enters it into a report of its own, which
    /// has the connections.
    pub fn judge(&self, report: &mut Report, judge: impl Fn(&Account<F>, &mut Report)) {
        for account in &self.0 {
            let mut own = Report { connections: account.connections.clone(), ..Report::default() };
            judge(account, &mut own);
            let whose = account.whose.as_ref().map_or_else(String::new, |whose| format!("{whose}: "));
            report.missed.extend(own.missed.iter().map(|sentence| format!("{whose}{sentence}")));
        }
    }

    /// Enters the connections of all, and gives the sum of what was found.
    pub fn sum(self, report: &mut Report) -> F {
        let mut sum = Account::default();
        self.0.into_iter().for_each(|account| sum.add(account));
        report.connections = sum.connections;
        report.figure_if_known(
            "workers_stolen_cpu",
            sum.stolen,
            "% of the processor time wanted, at the worker with most",
        );
        sum.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Totals;

    impl Found for Totals {
        fn add(&mut self, other: Self) {
            Totals::add(self, &other);
        }
    }

    fn account(whose: Option<&str>, established: u64, missing: u64) -> Account<Totals> {
        let connections = Connections { established, attempted: 10, ..Connections::default() };
        let found = Totals { missing, sent: 5, ..Totals::default() };
        let stolen = Some(established as f64);
        Account { whose: whose.map(str::to_owned), users: 10, found, connections, stolen }
    }

    #[test]
    fn what_several_found_is_one_sum_and_who_missed_what_is_named() {
        let accounts = Accounts(vec![account(Some("a:1"), 10, 0), account(Some("b:2"), 9, 3)]);
        let mut report = Report::default();
        accounts.judge(&mut report, |account, own| {
            let established = own.connections.established;
            own.target(established == u64::from(account.users), || format!("only {established}"));
            own.missed.extend(account.found.violations());
        });
        assert_eq!(report.missed, ["b:2: only 9", "b:2: 3 deliveries of acknowledged messages missing"]);
        let sum = accounts.sum(&mut report);
        assert_eq!((sum.sent, sum.missing), (10, 3));
        assert_eq!((report.connections.established, report.connections.attempted), (19, 20));
        assert_eq!(report.figures.first().map(|figure| figure.value), Some(10.0), "the worst of them");
    }

    #[test]
    fn who_is_alone_has_no_name() {
        let mut report = Report::default();
        Accounts(vec![account(None, 9, 0)]).judge(&mut report, |_, own| own.target(false, || "only 9".to_owned()));
        assert_eq!(report.missed, ["only 9"]);
    }
}
