//! Opening connections, a few at a time, and giving up on those that take too long.

use super::{Dialect, Down, Event, Links, Phase};
use crate::load::worker::User;
use ringpost_gateway::ring::{Errno, Handle};
use ringpost_gateway::transport::http::opening;
use std::net::IpAddr;

impl Links<'_> {
    pub(super) fn open_wanted(&mut self) {
        while self.opening_now < self.target.at_once {
            let Some(user) = self.wanted.pop_front() else { return };
            let Some(link) = self.links.get(user as usize).filter(|link| link.phase == Phase::Down) else { continue };
            let first = link.epoch == 0;
            let source = self.source();
            let address = self.target.address;
            let resets = self.target.resets && self.draw_number() & 1 == 1;
            let connecting = match resets {
                true => self.ring.connect_to_reset(source, address),
                false => self.ring.connect(source, address),
            };
            match connecting {
                Ok(handle) => self.opening(user, handle, first),
                // Slots of closed sockets come back after their last completion.
                Err(error) if error.raw_os_error() == Some(Errno::NFILE.raw_os_error()) && self.ring_is_closing() => {
                    return self.wanted.push_front(user);
                }
                Err(error) => {
                    self.connections.attempted += u64::from(first);
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                    let why = connect_failure(errno);
                    self.count(&why, &error.to_string());
                    self.pending.push(Event::Down { user, why });
                }
            }
        }
    }

    /// Whether sockets are on their way out, so that waiting for a slot helps.
    fn ring_is_closing(&self) -> bool {
        let used = self.by_slot.iter().filter(|&&user| user != User::MAX).count();
        used + 1 < self.by_slot.len()
    }

    fn opening(&mut self, user: User, handle: Handle, first: bool) {
        let now = self.shared.clock.now();
        if let (Some(link), Some(slot)) =
            (self.links.get_mut(user as usize), self.by_slot.get_mut(handle.slot as usize))
        {
            *slot = user;
            (link.handle, link.phase, link.since) = (handle, Phase::Connecting, now);
            link.epoch += 1;
            self.opening.push_back((user, link.epoch));
            self.opening_now += 1;
            self.connections.attempted += u64::from(first);
        }
    }

    fn source(&mut self) -> Option<IpAddr> {
        let sources = self.target.sources;
        let at = self.draw_number().checked_rem(sources.len() as u64)?;
        sources.get(at as usize).copied()
    }

    pub(super) fn connected(&mut self, user: User, result: Result<(), Errno>) {
        if let Err(errno) = result {
            let why = connect_failure(errno);
            return self.down(user, &std::io::Error::from(errno).to_string(), Some(why));
        }
        let target = self.target;
        if let Some(link) = self.links.get_mut(user as usize) {
            // Cannot fail: the handle is this turn's.
            let _ = self.ring.recv(link.handle);
            link.phase = Phase::Upgrading;
        }
        match &target.dialect {
            Dialect::Raw => self.opened(user),
            Dialect::WebSocket { path, subprotocol, .. } => {
                let token = target.credentials.and_then(|(tokens, names)| tokens.token(&names.name(user)).ok());
                if let Some(out) = self.outbox(user) {
                    opening::request(out, &target.host, &path.of(target.worker, user), *subprotocol, token.as_deref());
                }
            }
        }
    }

    pub(super) fn opened(&mut self, user: User) {
        if let Some(link) = self.links.get_mut(user as usize) {
            link.phase = Phase::Open;
            self.pending.push(Event::Opened(user));
        }
    }

    pub(super) fn expire(&mut self, now: u64) {
        let patience = u64::try_from(self.target.patience.as_nanos()).unwrap_or(u64::MAX);
        while let Some(&(user, epoch)) = self.opening.front() {
            let link = self.links.get(user as usize).filter(|link| link.epoch == epoch);
            let waiting = link.filter(|link| !matches!(link.phase, Phase::Down | Phase::Up));
            match waiting {
                Some(link) if now.saturating_sub(link.since) < patience => return,
                Some(_) => self.down(user, "no welcome in time", Some(Down::TimedOut)),
                None => {}
            }
            self.opening.pop_front();
        }
    }
}

/// A connect that failed: whose doing?
fn connect_failure(errno: Errno) -> Down {
    match errno {
        Errno::ADDRNOTAVAIL => Down::Local("EADDRNOTAVAIL"),
        Errno::MFILE => Down::Local("EMFILE"),
        Errno::NFILE => Down::Local("ENFILE"),
        Errno::NOMEM => Down::Local("ENOMEM"),
        Errno::NOBUFS => Down::Local("ENOBUFS"),
        Errno::ADDRINUSE => Down::Local("EADDRINUSE"),
        Errno::PERM => Down::Local("EPERM"),
        Errno::ACCESS => Down::Local("EACCES"),
        Errno::INVAL => Down::Local("EINVAL"),
        Errno::TIMEDOUT => Down::TimedOut,
        _ => Down::Refused { code: None },
    }
}
