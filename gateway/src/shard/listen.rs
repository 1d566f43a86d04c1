//! Listening sockets: one per shard on the same address, with the options that their connections inherit. A shard has one of
//! each address: the public one, then, where there is one, that for proxies ([`PROXIED`]).

use crate::config::Config;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Connections that the kernel completes before a shard accepts them; net.core.somaxconn may cap it.
pub const BACKLOG: i32 = 4096;

/// Which listener of a shard takes connections that begin with a PROXY header.
pub const PROXIED: usize = 1;

/// One listener per shard on `wanted`, and the address that they have (port 0: chosen by the kernel).
///
/// # Errors
/// The port is taken, also by another process that would share it.
pub fn listeners(config: &Config, wanted: SocketAddr) -> io::Result<(Vec<OwnedFd>, SocketAddr)> {
    let (first, address) = first(config, wanted)?;
    let mut sockets = vec![first];
    for _ in 1..config.derived.shards {
        let socket = socket(config, wanted)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        listen(&socket, address)?;
        sockets.push(socket);
    }
    Ok((sockets, address))
}

/// How long a port that is taken is asked for again: the kernel takes the sockets of a ring down in the background, a
/// moment after the process that had it was killed.
const TAKEN_FOR: Duration = Duration::from_secs(3);

fn first(config: &Config, wanted: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let start = Instant::now();
    loop {
        match first_now(config, wanted) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < TAKEN_FOR => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// Takes the port for itself and shares it only then: with SO_REUSEPORT from the beginning, another gateway of the same user
/// would get half of the connections instead of an error, also one that starts at the same moment.
fn first_now(config: &Config, wanted: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = socket(config, wanted)?;
    listen(&socket, wanted)?;
    // The kernel (since 4.5) makes the group of sockets that share a port when the second one listens.
    sockopt::set_socket_reuseport(&socket, true)?;
    let listener = std::net::TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((listener.into(), address))
}

fn listen(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    rustix::net::bind(socket, &address)?;
    Ok(rustix::net::listen(socket, BACKLOG)?)
}

fn socket(config: &Config, wanted: SocketAddr) -> io::Result<OwnedFd> {
    let family = if wanted.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    // The kernel doubles what it is told, for its own bookkeeping.
    sockopt::set_socket_send_buffer_size(&socket, config.send_buffer_bytes as usize / 2)?;
    sockopt::set_tcp_user_timeout(&socket, config.user_timeout_ms)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn of_gateways_that_start_at_the_same_moment_one_gets_the_port() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = Config::from_pairs(&[("listen", &free), ("dev", "true"), ("shards", "4")]).unwrap();
        let results: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| listeners(&config, config.listen))).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(winners.len(), 1);
        assert!(losers.iter().flat_map(|loser| loser.as_ref().err()).all(|why| why.kind() == io::ErrorKind::AddrInUse));
        // The kernel spreads connections over all of them.
        let (sockets, address) = winners.into_iter().flatten().next().unwrap();
        let _clients: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let empty = sockets.into_iter().map(TcpListener::from).filter(|listener| {
            listener.set_nonblocking(true).unwrap();
            listener.accept().is_err()
        });
        assert_eq!(empty.count(), 0);
    }
}
