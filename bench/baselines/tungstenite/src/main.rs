//! A WebSocket server on tokio and tokio-tungstenite: one task per connection, one thread.
//!
//!     ringpost-baseline-tungstenite PORT
//!
//! Prints one line when it listens, ends with status 0 on SIGTERM. `/echo` (and `/v1/echo`) gives every message back,
//! `/room/NAME` to everybody else in that room.
//!
//! Chosen for speed: a `LocalRuntime` (current thread), so rooms need neither locks nor atomics, and wake-ups stay on its own
//! queue; messages as `Bytes`, shared in a fan-out and not copied until the write buffer of each; everything that waits for a
//! member in one write (see ../../common/tungstenite.rs). Chosen for memory: a read buffer of 1 KiB instead of 128; the
//! handshake in a box of its own, gone with it.

#![allow(clippy::result_large_err, reason = "the library's type of a refused handshake")]

#[path = "../../common/rooms.rs"]
mod rooms;
#[path = "../../common/tungstenite.rs"]
mod socket;

use rooms::{Path, Rooms};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::{self, Message};

fn main() -> io::Result<()> {
    let port: u16 =
        std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("usage: ringpost-baseline-tungstenite PORT");
    // A descriptor per connection.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let listener = listen(port)?;
        println!("ready listen={}", listener.local_addr()?);
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            never = accept(listener) => match never {},
            _ = terminated.recv() => Ok(()),
        }
    })
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    // Inherited by what is accepted.
    socket.set_nodelay(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    socket.listen(4096)
}

async fn accept(listener: TcpListener) -> std::convert::Infallible {
    let rooms = Rooms::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::task::spawn_local(connection(stream, rooms.clone()))),
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, rooms: Rc<Rooms<Message>>) {
    let handshake = async {
        let mut path = None;
        let socket = accept_hdr_async_with_config(
            stream,
            |request: &_, response| socket::route(request, response, &mut path),
            Some(socket::settings()),
        );
        socket.await.map(|socket| (socket, path))
    };
    // Tasks of their own: a task is as large as the largest that it ever held.
    match Box::pin(handshake).await {
        Ok((socket, Some(Path::Echo))) => drop(tokio::task::spawn_local(socket::echo(socket))),
        Ok((socket, Some(Path::Room(name)))) => {
            drop(tokio::task::spawn_local(socket::room(socket, rooms.join(name))));
        }
        _ => {}
    }
}
