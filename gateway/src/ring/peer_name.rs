//! Who a socket comes from. A multishot accept gives no address, and a direct descriptor has none of the usual calls, so
//! each accepted socket is asked for it on the ring (SO_PEERNAME by SOCKET_URING_OP_GETSOCKOPT, Linux 6.7) before the user
//! hears of it: one submission more, which the kernel answers while it takes it (0.4 us). It is there also for a peer that
//! has reset meanwhile.

use super::files::Handle;
use super::user_data::{Op, UserData};
use super::{Completion, Errno, Ring};
use io_uring::{opcode, types};
use rustix::net::{AddressFamily, sockopt};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// Room for the address that the kernel writes.
#[repr(C, align(8))]
pub(super) struct PeerName([u8; size_of::<libc::sockaddr_in6>()]);

/// A question that the kernel has.
pub(super) struct Asked {
    listener: usize,
    /// Boxed, for the kernel writes here.
    name: Box<PeerName>,
}

impl PeerName {
    /// From struct sockaddr_in or sockaddr_in6; an IPv4 address on an IPv6 socket stays in its mapped form.
    fn address(&self) -> Option<SocketAddr> {
        let field = |at: usize, bytes: usize| self.0.get(at..at + bytes);
        let family = u16::from_ne_bytes(field(0, 2)?.try_into().ok()?);
        let port = u16::from_be_bytes(field(2, 2)?.try_into().ok()?);
        match i32::from(family) {
            libc::AF_INET => {
                let octets: [u8; 4] = field(4, 4)?.try_into().ok()?;
                Some((Ipv4Addr::from(octets), port).into())
            }
            libc::AF_INET6 => {
                let octets: [u8; 16] = field(8, 16)?.try_into().ok()?;
                Some((Ipv6Addr::from(octets), port).into())
            }
            _ => None,
        }
    }
}

/// Bytes of an address of this listener's peers: the kernel refuses to write into more than it has. 0: it has none that is
/// known here.
pub(super) fn length(listener: &OwnedFd) -> u32 {
    match sockopt::socket_domain(listener) {
        Ok(AddressFamily::INET) => size_of::<libc::sockaddr_in>() as u32,
        Ok(AddressFamily::INET6) => size_of::<libc::sockaddr_in6>() as u32,
        _ => 0,
    }
}

impl Ring {
    /// Asks for the address of an accepted socket; [`Completion::Accepted`] follows.
    pub(super) fn ask_peer(&mut self, handle: Handle, listener: usize, length: u32) {
        if length == 0 || self.stopped {
            return self.pending.push_back(Completion::Accepted { handle, listener, peer: None });
        }
        let asked = Asked { listener, name: Box::new(PeerName([0; _])) };
        let asked = self.asking.entry(handle.slot).insert(asked).into_mut();
        let room = (&raw mut asked.name.0).cast();
        let socket = types::Fixed(handle.slot);
        let entry = opcode::GetSockOpt::new(socket, libc::SOL_SOCKET as u32, SO_PEERNAME, room, length).build();
        let user_data = UserData::new(Op::PeerName, handle.slot, handle.generation);
        // The name stays boxed in `asking` until the completion.
        self.push_counted(entry.user_data(user_data.pack()), handle.slot);
    }

    pub(super) fn peer_named(&mut self, handle: Handle, result: Result<u32, Errno>) {
        let asked = self.asking.remove(&handle.slot);
        if self.finish(handle)
            && let Some(Asked { listener, name }) = asked
        {
            let peer = name.address().filter(|_| result.is_ok());
            self.pending.push_back(Completion::Accepted { handle, listener, peer });
        }
    }
}

const SO_PEERNAME: u32 = libc::SO_PEERNAME as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_the_kernel_writes_it() {
        let mut name = PeerName([0; 28]);
        assert_eq!(name.address(), None);
        name.0[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        name.0[2..8].copy_from_slice(&[0x1d, 0xb0, 192, 0, 2, 7]);
        assert_eq!(name.address(), Some("192.0.2.7:7600".parse().unwrap()));
        name.0[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        name.0[8..24].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(name.address(), Some("[2001:db8::7]:7600".parse().unwrap()));
    }
}
