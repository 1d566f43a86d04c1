//! Which part of a run one process does.
//!
//! Owns: the division of users, and of numbers that belong to all of them. Guarantees: the shares of all processes are
//! contiguous, hold whole units, and leave nobody out; the shares of a number add up to it. Never does: knowing what a unit is.

use std::ops::Range;

/// The users of one process, of all users of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The process's number.
    pub index: u32,
    first: u32,
    end: u32,
    all: u32,
}

impl Share {
    /// A run that one process does alone.
    pub fn whole(users: u32) -> Self {
        Self { index: 0, first: 0, end: users, all: users }
    }

    /// The share of process `index` of so many: as many whole units as any other, or one more. `None` where there is none for
    /// it.
    pub fn of(users: u32, unit: u32, index: u32, processes: u32) -> Option<Self> {
        let unit = unit.max(1);
        let units = u64::from(users.div_ceil(unit));
        let border = |before: u32| {
            let units = units * u64::from(before) / u64::from(processes.max(1));
            u32::try_from(units * u64::from(unit)).unwrap_or(u32::MAX).min(users)
        };
        let (first, end) = (border(index), border(index.checked_add(1)?));
        (index < processes && first < end).then_some(Self { index, first, end, all: users })
    }

    pub fn users(&self) -> Range<u32> {
        self.first..self.end
    }

    pub fn len(&self) -> u32 {
        self.end - self.first
    }

    /// The part of a number of things that falls to these users.
    pub fn part(&self, number: u64) -> u64 {
        let all = u128::from(self.all.max(1));
        // At most `number`, rounded alike at both sides of a border.
        let border = |users: u32| ((u128::from(number) * u128::from(users) + all / 2) / all) as u64;
        border(self.end) - border(self.first)
    }

    /// The part of a rate.
    pub fn rate(&self, rate: f64) -> f64 {
        rate * f64::from(self.len()) / f64::from(self.all.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_contiguous_hold_whole_units_and_leave_nobody_out() {
        for (users, unit, processes) in [(1_000_000, 2, 3), (100, 20, 4), (101, 20, 4), (7, 2, 4), (u32::MAX, 1, 7)] {
            let shares: Vec<Share> = (0..processes).filter_map(|i| Share::of(users, unit, i, processes)).collect();
            assert_eq!(shares.len(), processes as usize, "{users} {unit} {processes}");
            assert_eq!((shares[0].users().start, shares[shares.len() - 1].users().end), (0, users));
            assert!(shares.windows(2).all(|pair| pair[0].users().end == pair[1].users().start));
            assert!(shares.iter().all(|share| share.users().start % unit == 0));
            let most = shares.iter().map(Share::len).max().unwrap();
            assert!(shares[..shares.len() - 1].iter().all(|share| most - share.len() <= unit));
            for number in [0, 1, 999, u64::from(users), u64::MAX] {
                assert_eq!(shares.iter().map(|share| share.part(number)).sum::<u64>(), number);
            }
            assert!((shares.iter().map(|share| share.rate(333.5)).sum::<f64>() - 333.5).abs() < 1e-9);
            assert!(shares.iter().all(|share| share.part(users.into()) == u64::from(share.len())));
        }
    }

    #[test]
    fn who_would_have_nobody_has_no_share() {
        assert_eq!(Share::of(40, 20, 0, 3), None);
        assert_eq!(
            (Share::of(40, 20, 2, 2), Share::of(40, 20, u32::MAX, 2), Share::of(1, 1, 0, 0)),
            (None, None, None)
        );
        assert_eq!(Share::of(10, 2, 0, 1), Some(Share::whole(10)));
    }
}
