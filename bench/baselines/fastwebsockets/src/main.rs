//! A WebSocket server on tokio, hyper (for the upgrade) and fastwebsockets: one task per connection, one thread.
//!
//!     ringpost-baseline-fastwebsockets PORT
//!
//! Prints one line when it listens, ends with status 0 on SIGTERM. `/echo` (and `/v1/echo`) gives every message back,
//! `/room/NAME` to everybody else in that room.
//!
//! Chosen for speed: a `LocalRuntime` (current thread), so rooms need neither locks nor atomics; the socket itself is taken out
//! of hyper's `Upgraded`, so that nothing is called through a vtable. An echo is the library's own loop. In a room a message is
//! encoded once, by `Frame::write`; members share those bytes, and what waits for one is written by one `writev`, which the
//! library's `write_frame` (one frame, one write) would not do. Reading a frame cannot be cancelled halfway, so both halves of a
//! member are futures that live as long as it does. For memory there is nothing to set: the library's read buffer is 8 KiB, of
//! which small messages touch the first page. The connection's task for HTTP is gone when the other begins.

#[path = "../../common/rooms.rs"]
mod rooms;

use bytes::{Buf, Bytes};
use fastwebsockets::{
    FragmentCollector, FragmentCollectorRead, Frame, OpCode, Role, WebSocket, WebSocketError, after_handshake_split,
    upgrade,
};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rooms::{Member, Path, Rooms, Size};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};

/// Frames of one write.
const TOGETHER: usize = 64;

fn main() -> io::Result<()> {
    let port: u16 = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .expect("usage: ringpost-baseline-fastwebsockets PORT");
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

async fn accept(listener: TcpListener) -> Infallible {
    let rooms = Rooms::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::task::spawn_local(shake_hands(stream, rooms.clone()))),
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn shake_hands(stream: TcpStream, rooms: Rc<Rooms<Bytes>>) {
    let service = service_fn(|request| {
        let answer = answer(request, &rooms);
        async { Ok::<_, Infallible>(answer) }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

fn answer(mut request: Request<Incoming>, rooms: &Rc<Rooms<Bytes>>) -> Response<Empty<Bytes>> {
    let refused = |status| {
        let mut response = Response::new(Empty::new());
        *response.status_mut() = status;
        response
    };
    let Some(path) = Path::parse(request.uri().path()) else { return refused(StatusCode::NOT_FOUND) };
    let Ok((response, upgraded)) = upgrade::upgrade(&mut request) else { return refused(StatusCode::BAD_REQUEST) };
    let rooms = rooms.clone();
    tokio::task::spawn_local(async move {
        let Some(stream) = upgraded.await.ok().and_then(|socket| taken(socket.into_inner().into_inner())) else {
            return;
        };
        match path {
            Path::Echo => drop(echo(stream).await),
            // In a box, since a task is as large as the largest that it may hold.
            Path::Room(name) => Box::pin(room(stream, rooms.join(name))).await,
        }
    });
    response
}

/// The socket, without hyper's buffer. Nobody may send frames before the answer to the upgrade has come (RFC 6455, 4.1): whoever
/// has is closed.
fn taken(upgraded: Upgraded) -> Option<TcpStream> {
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    parts.read_buf.is_empty().then(|| parts.io.into_inner())
}

/// Until the peer has left. Pings and a close are answered by the library.
async fn echo(stream: TcpStream) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(WebSocket::after_handshake(stream, Role::Server));
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

impl Size for Bytes {
    fn size(&self) -> usize {
        self.len()
    }
}

/// Until the peer has left, or is out of its room.
async fn room(stream: TcpStream, member: Member<Bytes>) {
    let (read_half, mut write_half) = stream.into_split();
    let (socket, _) = after_handshake_split(read_half, &mut write_half, Role::Server);
    let batch = RefCell::default();
    let mut reader = pin!(read(FragmentCollectorRead::new(socket), &member, &batch));
    poll_fn(|context| {
        member.watch(context);
        // What the last that was read asks for (the answer to a close) is still written, as far as it can be at once.
        let left = reader.as_mut().poll(context).is_ready();
        let failed = write(&mut write_half, &member, &mut batch.borrow_mut(), context).is_ready();
        if left || failed || member.is_out() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn read(
    mut socket: FragmentCollectorRead<OwnedReadHalf>,
    member: &Member<Bytes>,
    batch: &RefCell<VecDeque<Bytes>>,
) -> Result<(), WebSocketError> {
    let mut answer = |frame: Frame<'_>| {
        let mut batch = batch.borrow_mut();
        // Who pings and does not read is answered no more.
        if batch.len() < 2 * TOGETHER {
            batch.push_back(encoded(frame));
        }
        std::future::ready(Ok::<_, Infallible>(()))
    };
    loop {
        let frame = socket.read_frame(&mut answer).await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => member.send(&encoded(frame)),
            _ => {}
        }
    }
}

fn encoded(mut frame: Frame<'_>) -> Bytes {
    let mut bytes = Vec::new();
    let length = frame.write(&mut bytes).len();
    bytes.truncate(length);
    bytes.into()
}

/// Writes what waits; ready when the socket has failed.
fn write(
    socket: &mut OwnedWriteHalf,
    member: &Member<Bytes>,
    batch: &mut VecDeque<Bytes>,
    context: &mut Context<'_>,
) -> Poll<io::Error> {
    loop {
        while batch.len() < TOGETHER
            && let Some(frame) = member.pop()
        {
            batch.push_back(frame);
        }
        if batch.is_empty() {
            return Poll::Pending;
        }
        let mut slices = [IoSlice::new(&[]); TOGETHER];
        slices.iter_mut().zip(&*batch).for_each(|(slice, frame)| *slice = IoSlice::new(frame));
        let count = batch.len().min(TOGETHER);
        match ready!(Pin::new(&mut *socket).poll_write_vectored(context, &slices[..count])) {
            Ok(written) => advance(batch, written),
            Err(error) => return Poll::Ready(error),
        }
    }
}

fn advance(batch: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = batch.front_mut() {
        if written < front.len() {
            return front.advance(written);
        }
        written -= front.len();
        batch.pop_front();
    }
}
