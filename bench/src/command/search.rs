//! `flood search`: the highest open-loop rate that is acknowledged in time.

use super::chat::Chat;
use super::run::RunError;

const EXAMPLES: &str = "Examples:
  flood search --users 2000 --from 5000 --to 80000 --duration 10s
  flood search --users 2000 --from 5000 --to 80000 --duration 60s --percent 99 --within 100ms --precision 5";

/// Runs `flood chat` at rising rates and then between the last good and the first bad one, to find the highest rate at
/// which a share of the messages (99 % by default) is acknowledged in time. Reports the run at that rate.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, mut_arg("rate", |arg| arg.hide(true)), mut_arg("percent", |arg| arg.default_value("99")))]
pub struct Search {
    #[command(flatten)]
    chat: Chat,
    /// The first rate to try, messages per second.
    #[arg(long, default_value_t = 1_000.0)]
    from: f64,
    /// The highest rate to try.
    #[arg(long, default_value_t = 100_000.0)]
    to: f64,
    /// Stop when the highest good and the lowest bad rate are this close, in percent.
    #[arg(long, default_value_t = 5.0)]
    precision: f64,
}

/// The rates that are known: the next one to try follows from them.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bracket {
    good: Option<f64>,
    bad: Option<f64>,
}

impl Bracket {
    fn next(&self, from: f64, to: f64, precision: f64) -> Option<f64> {
        match (self.good, self.bad) {
            (None, None) => Some(from),
            (Some(good), None) if good < to => Some((good * 2.0).min(to)),
            (Some(good), Some(bad)) if bad > good * (1.0 + precision / 100.0) => Some((good + bad) / 2.0),
            _ => None,
        }
    }

    fn learn(&mut self, rate: f64, is_good: bool) {
        *(if is_good { &mut self.good } else { &mut self.bad }) = Some(rate);
    }
}

impl Search {
    pub fn run(self) -> Result<bool, RunError> {
        self.chat.common.undivided("flood search")?;
        let mut bracket = Bracket { good: None, bad: None };
        let mut best = None;
        while let Some(rate) = bracket.next(self.from, self.to, self.precision) {
            let chat = Chat { rate, ..self.chat.clone() };
            let run = chat.prepare()?;
            let outcome = chat.measure(&run)?;
            let is_good = outcome.report.missed.is_empty();
            println!(
                "{rate:.0} messages/s: {:.2} % in time, {}",
                100.0 * outcome.within,
                verdict(&outcome.report.missed)
            );
            bracket.learn(rate, is_good);
            if is_good || best.is_none() {
                best = Some((run, outcome.report));
            }
        }
        let Some((run, mut report)) = best else { return Ok(false) };
        report.command = "search".into();
        report.figure("highest_rate", bracket.good.unwrap_or(0.0), "messages/s");
        run.conclude(&report)
    }
}

fn verdict(missed: &[String]) -> String {
    if missed.is_empty() { "good".to_owned() } else { missed.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(limit: f64, from: f64, to: f64) -> (Option<f64>, u32) {
        let mut bracket = Bracket { good: None, bad: None };
        let mut steps = 0;
        while let Some(rate) = bracket.next(from, to, 5.0) {
            bracket.learn(rate, rate <= limit);
            steps += 1;
        }
        (bracket.good, steps)
    }

    #[test]
    fn the_highest_good_rate_is_found_within_its_precision() {
        let (found, steps) = search(23_456.0, 1_000.0, 100_000.0);
        let found = found.unwrap();
        assert!(found <= 23_456.0 && found > 23_456.0 * 0.95, "{found}");
        assert!(steps < 15);
    }

    #[test]
    fn the_ends_of_the_range_are_kept() {
        assert_eq!(search(1e9, 1_000.0, 5_000.0).0, Some(5_000.0));
        assert_eq!(search(10.0, 1_000.0, 5_000.0), (None, 1));
    }
}
