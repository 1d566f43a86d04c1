//! The limits of all addresses: one table for each process, whichever shard a connection is on.
//!
//! Guarantees: a [`Lease`] counts one connection until it is dropped, wherever that happens; a lock is held for a few
//! look-ups, once at accept, upgrade, ticket and close.

use super::quota::{Book, Key, Limits};
use super::{forwarded, range::Range};
use crate::config::Settings;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Books, so that shards seldom wait for each other.
const BOOKS: usize = 64;

#[derive(Debug)]
pub struct Table {
    books: [Mutex<Book>; BOOKS],
    /// Seeded: nobody outside knows which addresses share a book.
    hasher: RandomState,
    start: Instant,
    limits: Limits,
    trusted: Vec<Range>,
    exempt: Vec<Range>,
}

/// One open connection of an address.
#[derive(Debug)]
pub struct Lease {
    table: Arc<Table>,
    key: Key,
}

/// What is known of where a connection comes from.
#[derive(Debug)]
pub enum Origin {
    /// Counted.
    Client(Lease),
    /// A trusted proxy, which says at the upgrade for whom it speaks.
    Proxy(IpAddr),
}

/// Which limit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    Connections,
    Upgrades,
    Tickets,
}

impl Table {
    pub fn new(settings: &Settings) -> Self {
        Self {
            books: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            start: Instant::now(),
            limits: Limits {
                connections: settings.address_connections,
                upgrades_per_second: settings.address_upgrades_per_second,
            },
            trusted: settings.trusted_proxies.clone(),
            exempt: settings.exempt_addresses.clone(),
        }
    }

    /// A connection from `peer` was accepted. `None`: nothing about it is limited.
    pub fn accept(self: &Arc<Self>, peer: IpAddr) -> Result<Option<Origin>, Exceeded> {
        if self.is_trusted(peer) {
            return Ok(Some(Origin::Proxy(peer)));
        }
        Ok(self.lease(peer)?.map(Origin::Client))
    }

    /// A connection asks for an upgrade; `lines` are those of X-Forwarded-For. Refused for its upgrades it is still counted,
    /// until `origin` is dropped.
    pub fn upgrade<'a, L>(self: &Arc<Self>, origin: &mut Origin, lines: L) -> Result<(), Exceeded>
    where
        L: IntoIterator<Item = &'a [u8]>,
        L::IntoIter: DoubleEndedIterator,
    {
        if let Origin::Proxy(peer) = *origin {
            let client = forwarded::client(peer, lines, |address| self.is_trusted(address));
            let Some(lease) = self.lease(client)? else { return Ok(()) };
            *origin = Origin::Client(lease);
        }
        let Origin::Client(lease) = origin else { return Ok(()) };
        let now_us = self.now_us();
        match self.with(lease.key, |book| book.charge(lease.key, &self.limits, now_us)) {
            true => Ok(()),
            false => Err(Exceeded::Upgrades),
        }
    }

    /// A connection asks for a ticket, which is charged as an upgrade is; `lines` are those of X-Forwarded-For. What else it asks
    /// for may be somebody else's: it stays whose it is.
    pub fn ticket<'a, L>(&self, origin: &Origin, lines: L) -> Result<(), Exceeded>
    where
        L: IntoIterator<Item = &'a [u8]>,
        L::IntoIter: DoubleEndedIterator,
    {
        let key = match *origin {
            Origin::Client(ref lease) => lease.key,
            Origin::Proxy(peer) => {
                let client = forwarded::client(peer, lines, |address| self.is_trusted(address));
                if self.is_free(client) {
                    return Ok(());
                }
                Key::of(client)
            }
        };
        let now_us = self.now_us();
        match self.with(key, |book| book.charge_apart(key, &self.limits, now_us)) {
            true => Ok(()),
            false => Err(Exceeded::Tickets),
        }
    }

    /// Addresses that are remembered; those that owe nothing any more are forgotten first.
    pub fn addresses(&self) -> usize {
        let now_us = self.now_us();
        let count = |book: &Mutex<Book>| {
            let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
            book.purge(now_us);
            book.len()
        };
        self.books.iter().map(count).sum()
    }

    fn lease(self: &Arc<Self>, address: IpAddr) -> Result<Option<Lease>, Exceeded> {
        if self.is_free(address) {
            return Ok(None);
        }
        let key = Key::of(address);
        match self.with(key, |book| book.open(key, &self.limits)) {
            true => Ok(Some(Lease { table: Arc::clone(self), key })),
            false => Err(Exceeded::Connections),
        }
    }

    fn is_free(&self, address: IpAddr) -> bool {
        let free = self.limits.connections == 0 && self.limits.upgrades_per_second == 0;
        free || self.exempt.iter().any(|range| range.contains(address))
    }

    /// Whether what this peer says about addresses is believed.
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|range| range.contains(address))
    }

    fn with<T>(&self, key: Key, f: impl FnOnce(&mut Book) -> T) -> T {
        let at = self.hasher.hash_one(key) as usize % BOOKS;
        f(&mut self.books[at].lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let now_us = self.table.now_us();
        self.table.with(self.key, |book| book.close(self.key, now_us));
    }
}
