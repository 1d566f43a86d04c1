//! Listening sockets: one per shard on the same address, with the options that their connections inherit.

use crate::config::Config;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Connections that the kernel completes before a shard accepts them; net.core.somaxconn may cap it.
pub const BACKLOG: i32 = 4096;

/// One listener per shard, and the address that they have (port 0: chosen by the kernel).
///
/// # Errors
/// The port is taken, also by another process that would share it.
pub fn listeners(config: &Config) -> io::Result<(Vec<OwnedFd>, SocketAddr)> {
    let address = reserve(config.listen)?;
    let sockets = (0..config.derived.shards).map(|_| listener(address, config)).collect::<io::Result<_>>()?;
    Ok((sockets, address))
}

/// How long a port that is taken is asked for again: the kernel takes the sockets of a ring down in the background, a
/// moment after the process that had it was killed.
const TAKEN_FOR: Duration = Duration::from_secs(3);

fn reserve(address: SocketAddr) -> io::Result<SocketAddr> {
    let start = Instant::now();
    loop {
        match reserve_now(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < TAKEN_FOR => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// Binds once without SO_REUSEPORT, which would also share a port with another gateway of the same user.
fn reserve_now(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = tcp(address)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    // Only a socket that listens is refused its port by others that listen.
    rustix::net::listen(&socket, 1)?;
    let bound = std::net::TcpListener::from(socket).local_addr()?;
    Ok(bound)
}

fn listener(address: SocketAddr, config: &Config) -> io::Result<OwnedFd> {
    let socket = tcp(address)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    // The kernel doubles what it is told, for its own bookkeeping.
    sockopt::set_socket_send_buffer_size(&socket, config.send_buffer_bytes as usize / 2)?;
    sockopt::set_tcp_user_timeout(&socket, config.user_timeout_ms)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}
