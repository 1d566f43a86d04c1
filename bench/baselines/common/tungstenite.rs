//! One connection of tungstenite, on whatever runtime: its settings, its handshake, and its task, which is all that reads and
//! writes it. Polls `Stream` and `Sink` by hand rather than by `select!` and `split`: one wake-up reads and writes as much as
//! there is, without a lock between both halves. What was read together is answered by one write, what waits together is
//! written together.

use crate::rooms::{Member, Path, Size};
use crate::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use crate::tungstenite::http::StatusCode;
use crate::tungstenite::protocol::WebSocketConfig;
use crate::tungstenite::{Error, Message};
use futures_util::{Sink, Stream};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Messages that one connection may have read before others have their turn.
const TURN: usize = 64;

pub trait Socket: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin {}
impl<S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin> Socket for S {}

impl Size for Message {
    fn size(&self) -> usize {
        self.len()
    }
}

/// The buffer for reading is there from the start and zeroed again for each read, 128 KiB by default; it grows for a larger
/// message. That for writing grows as it is needed, and is written once it holds more than told here, or when flushed.
pub fn settings() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(16 * 1024)
}

/// Called with the request of a handshake: keeps what it asks for, or refuses it.
pub fn route(request: &Request, response: Response, found: &mut Option<Path>) -> Result<Response, ErrorResponse> {
    *found = Path::parse(request.uri().path());
    if found.is_some() {
        return Ok(response);
    }
    let mut refused = ErrorResponse::new(None);
    *refused.status_mut() = StatusCode::NOT_FOUND;
    Err(refused)
}

/// Until the peer has left.
pub async fn echo(mut socket: impl Socket) {
    poll_fn(|context| poll_echo(&mut socket, context)).await;
}

/// Until the peer has left, or is out of its room.
pub async fn room(mut socket: impl Socket, member: Member<Message>) {
    let mut unflushed = false;
    poll_fn(|context| poll_room(&mut socket, &member, &mut unflushed, context)).await;
}

/// Reads no more while an answer cannot be written, so that little waits.
fn poll_echo(socket: &mut impl Socket, context: &mut Context<'_>) -> Poll<()> {
    for _ in 0..TURN {
        if ready!(sink(socket).poll_ready(context)).is_err() {
            return Poll::Ready(());
        }
        match Pin::new(&mut *socket).poll_next(context) {
            Poll::Ready(Some(Ok(message @ (Message::Text(_) | Message::Binary(_))))) => {
                if sink(socket).start_send(message).is_err() {
                    return Poll::Ready(());
                }
            }
            // Pings and a close are answered by the library.
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(None | Some(Err(_))) => return Poll::Ready(()),
            Poll::Pending => return until_failed(sink(socket).poll_flush(context)),
        }
    }
    context.waker().wake_by_ref();
    until_failed(sink(socket).poll_flush(context))
}

fn poll_room(
    socket: &mut impl Socket,
    member: &Member<Message>,
    unflushed: &mut bool,
    context: &mut Context<'_>,
) -> Poll<()> {
    member.watch(context);
    let mut read = 0;
    loop {
        match Pin::new(&mut *socket).poll_next(context) {
            Poll::Ready(Some(Ok(message))) => {
                if message.is_text() || message.is_binary() {
                    member.send(&message);
                }
            }
            Poll::Ready(None | Some(Err(_))) => return Poll::Ready(()),
            Poll::Pending => break,
        }
        read += 1;
        if read == TURN {
            context.waker().wake_by_ref();
            break;
        }
    }
    if member.is_out() {
        return Poll::Ready(());
    }
    while let Poll::Ready(ready) = sink(socket).poll_ready(context) {
        if ready.is_err() {
            return Poll::Ready(());
        }
        let Some(message) = member.pop() else { break };
        *unflushed = true;
        if sink(socket).start_send(message).is_err() {
            return Poll::Ready(());
        }
    }
    if *unflushed {
        let flushed = sink(socket).poll_flush(context);
        *unflushed = flushed.is_pending();
        return until_failed(flushed);
    }
    Poll::Pending
}

fn until_failed(flushed: Poll<Result<(), Error>>) -> Poll<()> {
    if matches!(flushed, Poll::Ready(Err(_))) { Poll::Ready(()) } else { Poll::Pending }
}

fn sink<S: Sink<Message> + Unpin>(socket: &mut S) -> Pin<&mut S> {
    Pin::new(socket)
}
