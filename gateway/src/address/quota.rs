//! How many connections, upgrades and tickets one address may have: the rule, with time as an argument, and the memory of it.
//!
//! Upgrades and tickets are metered together by the generic cell rate algorithm (ITU-T I.371): one number for each address,
//! the time at which all that it has used is paid for. Guarantees: an entry that says nothing any more is forgotten; those
//! without a connection are at most [`DEBTORS`] (beyond, the oldest is forgiven); a refused attempt costs nothing.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Addresses without a connection that one book remembers for their upgrades.
pub const DEBTORS: usize = 1_024;

const SECOND_US: u64 = 1_000_000;

/// What counts as one client: an IPv4 address, or an IPv6 network of /64, in which a client can have any address it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    V4(u32),
    V6(u64),
}

impl Key {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.into()),
            IpAddr::V6(address) => Self::V6((u128::from(address) >> 64) as u64),
        }
    }
}

/// What one address may have. 0: as much as it likes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: u32,
    /// In the long run, and as many at once.
    pub upgrades_per_second: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    open: u32,
    /// Microseconds at which what was used is paid for.
    paid_us: u64,
    /// Listed among the debtors.
    listed: bool,
}

/// The addresses that have something open or owe something.
#[derive(Debug, Default)]
pub struct Book {
    entries: HashMap<Key, Entry>,
    /// Had no connection and owed something when they were listed, oldest first; each key once.
    debtors: VecDeque<Key>,
}

impl Book {
    /// One connection more, unless the address has as many as it may.
    pub fn open(&mut self, key: Key, limits: &Limits) -> bool {
        let open = self.entries.get(&key).map_or(0, |entry| entry.open);
        let fits = limits.connections == 0 || open < limits.connections;
        if fits {
            self.entries.entry(key).or_default().open += 1;
        }
        fits
    }

    /// One connection less.
    pub fn close(&mut self, key: Key, now_us: u64) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        debug_assert!(entry.open > 0, "closed more often than opened");
        entry.open = entry.open.saturating_sub(1);
        let (idle, owes, listed) = (entry.open == 0, entry.paid_us > now_us, entry.listed);
        if idle && !owes && !listed {
            self.entries.remove(&key);
        } else if idle && !listed {
            entry.listed = true;
            self.debtors.push_back(key);
            if self.debtors.len() > DEBTORS {
                self.forgive_oldest();
            }
        }
    }

    /// Charges an address with one ticket, as with an upgrade, whether it has a connection or not: behind a proxy those who ask
    /// share connections that are nobody's.
    pub fn charge_apart(&mut self, key: Key, limits: &Limits, now_us: u64) -> bool {
        self.entries.entry(key).or_default().open += 1;
        let fits = self.charge(key, limits, now_us);
        self.close(key, now_us);
        fits
    }

    /// Charges an address that has a connection with one upgrade, unless it has used what it may.
    pub fn charge(&mut self, key: Key, limits: &Limits, now_us: u64) -> bool {
        let Some(each_us) = SECOND_US.checked_div(limits.upgrades_per_second.into()) else { return true };
        let Some(entry) = self.entries.get_mut(&key) else { return true };
        let paid_us = entry.paid_us.max(now_us) + each_us;
        let fits = paid_us <= now_us + SECOND_US;
        if fits {
            entry.paid_us = paid_us;
        }
        fits
    }

    /// Forgets who owes nothing any more.
    pub fn purge(&mut self, now_us: u64) {
        let entries = &mut self.entries;
        self.debtors.retain(|key| {
            let Some(entry) = entries.get_mut(key) else { return false };
            let (open, owes) = (entry.open > 0, entry.paid_us > now_us);
            if open {
                entry.listed = false;
            } else if !owes {
                entries.remove(key);
            }
            !open && owes
        });
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn forgive_oldest(&mut self) {
        let Some(key) = self.debtors.pop_front() else { return };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.listed = false;
        if entry.open == 0 {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { connections: 3, upgrades_per_second: 4 };

    #[test]
    fn an_ipv6_client_is_its_network() {
        let key = |text: &str| Key::of(text.parse().unwrap());
        assert_eq!(key("2001:db8:0:1::7"), key("2001:db8:0:1:ffff::1"));
        assert_ne!(key("2001:db8:0:1::7"), key("2001:db8:0:2::7"));
        assert_eq!(key("::ffff:192.0.2.7"), key("192.0.2.7"));
    }

    #[test]
    fn zero_is_no_limit() {
        let (mut book, free) = (Book::default(), Limits { connections: 0, upgrades_per_second: 0 });
        assert!((0..1_000).all(|_| book.open(Key::V4(1), &free) && book.charge(Key::V4(1), &free, 5)));
    }

    #[test]
    fn addresses_that_only_owe_are_bounded_and_those_with_connections_stay() {
        let mut book = Book::default();
        assert!(book.open(Key::V6(0), &LIMITS) && book.charge(Key::V6(0), &LIMITS, 0));
        for n in 0..3 * DEBTORS as u32 {
            assert!(book.open(Key::V4(n), &LIMITS) && book.charge(Key::V4(n), &LIMITS, 0));
            book.close(Key::V4(n), 0);
        }
        assert_eq!(book.len(), DEBTORS + 1);
        book.purge(SECOND_US);
        assert_eq!(book.len(), 1);
        book.close(Key::V6(0), SECOND_US);
        assert!(book.is_empty());
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Open(u32),
        Close(u32),
        Charge(u32),
        ChargeApart(u32),
        Wait(u64),
        Purge,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..3_u32).prop_map(Step::Open),
            2 => (0..3_u32).prop_map(Step::Close),
            6 => (0..3_u32).prop_map(Step::Charge),
            3 => (0..3_u32).prop_map(Step::ChargeApart),
            2 => (0..400_000_u64).prop_map(Step::Wait),
            1 => Just(Step::Purge),
        ]
    }

    proptest! {
        /// The model: for each address, connections and a bucket of a second's microseconds that fills with time.
        #[test]
        fn the_book_is_a_bucket_for_each_address(steps in proptest::collection::vec(step(), 0..200)) {
            let (mut book, mut now) = (Book::default(), 1_000_000_000);
            let mut model = [(0_u32, SECOND_US); 3];
            for step in steps {
                match step {
                    Step::Open(n) => {
                        let fits = model[n as usize].0 < LIMITS.connections;
                        prop_assert_eq!(book.open(Key::V4(n), &LIMITS), fits);
                        model[n as usize].0 += u32::from(fits);
                    }
                    Step::Close(n) if model[n as usize].0 > 0 => {
                        book.close(Key::V4(n), now);
                        model[n as usize].0 -= 1;
                    }
                    Step::Charge(n) if model[n as usize].0 > 0 => {
                        let fits = model[n as usize].1 >= SECOND_US / 4;
                        prop_assert_eq!(book.charge(Key::V4(n), &LIMITS, now), fits);
                        model[n as usize].1 -= u64::from(fits) * SECOND_US / 4;
                    }
                    Step::ChargeApart(n) => {
                        let fits = model[n as usize].1 >= SECOND_US / 4;
                        prop_assert_eq!(book.charge_apart(Key::V4(n), &LIMITS, now), fits);
                        model[n as usize].1 -= u64::from(fits) * SECOND_US / 4;
                    }
                    Step::Close(_) | Step::Charge(_) => {}
                    Step::Wait(us) => {
                        now += us;
                        model.iter_mut().for_each(|(_, level)| *level = (*level + us).min(SECOND_US));
                    }
                    Step::Purge => book.purge(now),
                }
                let known = model.iter().filter(|(open, level)| *open > 0 || *level < SECOND_US).count();
                prop_assert!(book.len() >= known);
            }
            for (n, (open, _)) in model.into_iter().enumerate() {
                (0..open).for_each(|_| book.close(Key::V4(n as u32), now));
            }
            book.purge(now + SECOND_US);
            prop_assert!(book.is_empty() && book.debtors.is_empty());
        }
    }
}
