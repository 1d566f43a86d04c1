//! Sockets that connect: made with a chosen source address, moved into the table, then connected on the ring.

use super::files::{Handle, flag};
use super::user_data::{Op, UserData};
use super::{Ring, Unusable};
use io_uring::{opcode, types};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// A socket address as the kernel reads it. Boxed while a connect is in flight.
pub(super) enum Address {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl Address {
    fn new(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self::V4(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(v6) => Self::V6(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            }),
        }
    }

    fn raw(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        match self {
            Self::V4(v4) => ((&raw const *v4).cast(), size_of_val(v4) as libc::socklen_t),
            Self::V6(v6) => ((&raw const *v6).cast(), size_of_val(v6) as libc::socklen_t),
        }
    }
}

impl Ring {
    /// Starts a TCP connection to `to`, from `from` if given (port 0: the kernel chooses at connect, so that one source
    /// address serves as many connections as it has ports). Answered by [`super::Completion::Connected`]; a failed one is
    /// closed by the user like any other. Errors: no free slot of `connect_slots` (ENFILE), or no socket.
    pub fn connect(&mut self, from: Option<IpAddr>, to: SocketAddr) -> io::Result<Handle> {
        self.connect_socket(socket(from, to)?, to)
    }

    /// The same; once it is connected, closing it tells the peer by a reset instead of FIN, and nothing stays of it in TIME_WAIT.
    pub fn connect_to_reset(&mut self, from: Option<IpAddr>, to: SocketAddr) -> io::Result<Handle> {
        let socket = socket(from, to)?;
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        self.connect_socket(socket, to)
    }

    fn connect_socket(&mut self, socket: OwnedFd, to: SocketAddr) -> io::Result<Handle> {
        let slot = self.files.reserve().ok_or_else(|| io::Error::from_raw_os_error(libc::ENFILE))?;
        if let Err(error) = self.io.submitter().register_files_update(slot, &[socket.as_raw_fd()]) {
            self.files.unreserve(slot);
            return Err(error);
        }
        drop(socket); // The table holds it now.
        let Some(handle) = self.files.occupy(slot) else { return Err(io::Error::from_raw_os_error(libc::ENFILE)) };
        if let Some(slot) = self.files.get(slot) {
            slot.set(flag::CONNECTING);
        }
        let address = Box::new(Address::new(to));
        let (pointer, length) = address.raw();
        let user_data = UserData::new(Op::Connect, slot, handle.generation);
        let entry = opcode::Connect::new(types::Fixed(slot), pointer, length).build().user_data(user_data.pack());
        self.connecting.insert(slot, address);
        // The address stays boxed in `connecting` until the completion.
        self.push_counted(entry, handle.slot);
        Ok(handle)
    }

    /// For tests and load tools: ends the armed recv as the kernel may at any time. The ring arms it again by itself.
    pub fn interrupt_recv(&mut self, handle: Handle) -> Result<(), Unusable> {
        self.files.usable(handle).ok_or(Unusable)?;
        self.cancel(Op::CancelRecv, handle);
        Ok(())
    }
}

fn socket(from: Option<IpAddr>, to: SocketAddr) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(from) = from {
        bind_address_no_port(&socket)?;
        rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
    }
    Ok(socket)
}

/// IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect, with the whole four-tuple in view.
fn bind_address_no_port(socket: &OwnedFd) -> io::Result<()> {
    let one: libc::c_int = 1;
    // SAFETY: the option is an int, read during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const one).cast(),
            size_of_val(&one) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
