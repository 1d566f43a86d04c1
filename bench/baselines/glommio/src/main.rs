//! Servers on glommio: a task and one process descriptor per connection, one executor thread.
//!
//!     ringpost-baseline-glommio PORT                  echoes bytes
//!     ringpost-baseline-glommio PORT --websocket      speaks WebSocket by async-tungstenite
//!
//! Prints one line when it listens, ends with status 0 on SIGTERM. With --websocket `/echo` (and `/v1/echo`) gives every message
//! back, `/room/NAME` to everybody else in that room.
//!
//! Chosen for speed: messages as `Bytes`, shared in a fan-out and not copied until the write buffer of each; everything that
//! waits for a member in one write (see ../../common/tungstenite.rs). glommio's own stream without a buffer, since tungstenite
//! has one. Chosen for memory: that one has 1 KiB instead of 128; the handshake in a box of its own, gone with it.

#![allow(clippy::result_large_err, reason = "the library's type of a refused handshake")]

#[path = "../../common/rooms.rs"]
mod rooms;
#[path = "../../common/tungstenite.rs"]
mod socket;

use async_tungstenite::accept_hdr_async_with_config;
use async_tungstenite::tungstenite::{self, Message};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use rooms::{Path, Rooms};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let usage = "usage: ringpost-baseline-glommio PORT [--websocket]";
    let port: u16 = words.next().and_then(|text| text.parse().ok()).expect(usage);
    let websocket = words.next().map(|word| assert!(word == "--websocket", "{usage}")).is_some();
    // A descriptor per connection.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGTERM, 0, Arc::new(AtomicBool::new(true)))?;
    let executor = LocalExecutorBuilder::new(Placement::Unbound).spawn(move || serve(port, websocket));
    executor.expect("an executor").join().expect("the executor's end").map(|never| match never {})
}

async fn serve(port: u16, websocket: bool) -> io::Result<std::convert::Infallible> {
    let listener = listener(port)?;
    println!("ready listen={}", listener.local_addr()?);
    let rooms = Rooms::new();
    loop {
        match listener.accept().await {
            Ok(stream) if websocket => glommio::spawn_local(connection(stream, rooms.clone())).detach(),
            Ok(stream) => glommio::spawn_local(echo(stream)).detach(),
            Err(error) => {
                eprintln!("accept: {error}");
                glommio::timer::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
    }
}

fn listener(port: u16) -> io::Result<TcpListener> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    // Inherited by what is accepted.
    sockopt::set_tcp_nodelay(&socket, true)?;
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], port)))?;
    listen(&socket, 4096)?;
    // SAFETY: the descriptor is this one's alone. (glommio's own `bind` has a backlog of 1,024.)
    Ok(unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) })
}

async fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 2048];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
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
        Ok((socket, Some(Path::Echo))) => drop(glommio::spawn_local(socket::echo(socket)).detach()),
        Ok((socket, Some(Path::Room(name)))) => {
            drop(glommio::spawn_local(socket::room(socket, rooms.join(name))).detach());
        }
        _ => {}
    }
}
