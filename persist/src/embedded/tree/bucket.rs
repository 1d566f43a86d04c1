//! Which tree a record belongs to: one per retention class and month, so that expiry drops whole trees.

use std::fmt;

/// How long records are kept. A record keeps the class that it was stored with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Until somebody deletes them.
    History,
    /// So many days at least; a month goes as a whole once its last record is that old.
    Relay { days: u32 },
}

/// The class of a tree's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Class {
    History = 0,
    Relay = 1,
}

impl Class {
    pub(super) const ALL: [Self; 2] = [Self::History, Self::Relay];

    pub(super) fn of(retention: Retention) -> Self {
        match retention {
            Retention::History => Self::History,
            Retention::Relay { .. } => Self::Relay,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::Relay => "relay",
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u8 == byte)
    }
}

/// One tree of records. Ordered by month first: a conversation's records lie in ascending buckets of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bucket {
    /// Months since January 1970, UTC.
    pub(super) month: u32,
    pub(super) class: Class,
}

impl Bucket {
    /// The bucket of a record that was committed at `us` (Unix microseconds).
    pub(super) fn of(class: Class, us: u64) -> Self {
        Self { month: month_of_day(us / 86_400_000_000), class }
    }

    /// Whether every record in it is older than `days` at `now_ms` (Unix milliseconds). History never is.
    pub(super) fn is_expired(self, now_ms: u64, days: u32) -> bool {
        self.class == Class::Relay && first_day(u64::from(self.month) + 1) + u64::from(days) <= now_ms / 86_400_000
    }

    /// The bucket whose tree has this name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (class, date) = name.split_once('-')?;
        let class = Class::ALL.into_iter().find(|known| known.name() == class)?;
        let (year, month) = date.rsplit_once('-')?;
        let (year, month): (u32, u32) = (year.parse().ok()?, month.parse().ok()?);
        let month = year.checked_sub(1970)?.checked_mul(12)?.checked_add(month.checked_sub(1)?)?;
        let bucket = Self { month, class };
        (bucket.to_string() == name).then_some(bucket)
    }
}

/// The name of its directory: `history-2026-11`.
impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:04}-{:02}", self.class.name(), 1970 + self.month / 12, self.month % 12 + 1)
    }
}

/// Days before 1 January 1970 in a calendar whose years begin in March of the year 0.
const EPOCH: u64 = 719_468;
/// Days of 400 years.
const CYCLE: u64 = 146_097;

/// Months since January 1970 of a day since 1 January 1970 (proleptic Gregorian calendar).
fn month_of_day(day: u64) -> u32 {
    let day = day + EPOCH;
    let (cycle, day) = (day / CYCLE, day % CYCLE);
    // Leap days of whole years taken out; the last day of 4, of 100 and of 400 years belongs to the year before.
    let year = (day - day / 1_460 + day / 36_524 - day / (CYCLE - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on months have 31, 30, 31, 30, 31 days, again and again: 153 in five.
    let march_month = (5 * day + 2) / 153;
    let months = (cycle * 400 + year) * 12 + march_month + 2;
    u32::try_from(months - 1_970 * 12).unwrap_or(u32::MAX)
}

/// The day since 1 January 1970 with which a month begins.
fn first_day(month: u64) -> u64 {
    let months = month + 1_970 * 12 - 2;
    let (year, march_month) = (months / 12, months % 12);
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * march_month + 2) / 5;
    days - EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        // Walks the calendar by its rules, day after day.
        let mut day = 0;
        for year in 1970..2405_u64 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            for (month, days) in [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].iter().enumerate() {
                let expected = (year - 1970) * 12 + month as u64;
                assert_eq!(first_day(expected), day);
                assert_eq!(u64::from(month_of_day(day)), expected);
                day += days;
                assert_eq!(u64::from(month_of_day(day - 1)), expected);
            }
        }
    }

    #[test]
    fn a_name_is_read_back_and_nothing_else_is_one() {
        for us in [0, 1_764_000_000_000_000, u64::MAX] {
            for class in Class::ALL {
                let bucket = Bucket::of(class, us);
                assert_eq!(Bucket::parse(&bucket.to_string()), Some(bucket));
            }
        }
        assert_eq!(Bucket::of(Class::History, 1_764_000_000_000_000).to_string(), "history-2025-11");
        for name in
            ["state", "history", "history-2025-13", "history-2025-1", "relay-1969-12", "relay-2025-00", "x-2025-01"]
        {
            assert_eq!(Bucket::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_month_goes_when_its_last_record_is_old_enough_and_history_never() {
        let november = Bucket::of(Class::Relay, 1_764_000_000_000_000);
        let december_31 = first_day(u64::from(november.month) + 1) + 30;
        assert!(!november.is_expired(december_31 * 86_400_000 - 1, 30));
        assert!(november.is_expired(december_31 * 86_400_000, 30));
        assert!(!Bucket { class: Class::History, ..november }.is_expired(u64::MAX, 0));
    }
}
