//! The seam between a shard and the control plane: every HTTP request that is no upgrade crosses it.
//!
//! Owns: the request as the control plane gets it, and the handle through which the answer goes back. Guarantees: nobody
//! waits on a full queue (requests: a full queue is a 503; answers: their places are reserved with the request), at most one
//! chunk of [`CHUNK_BYTES`] is on its way in each direction, and a dropped [`EdgeReply`] ends the response. Never does: touch
//! a socket; the connection stays on its ring.

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;
use http::{HeaderMap, HeaderName, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use ringpost_router::ConnRef;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{Semaphore, mpsc};

/// The largest chunk of a body in either direction, bytes.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Requests of one shard that are with the control plane at the same time.
pub const IN_FLIGHT: usize = 256;

/// What one request may have in the queue towards its shard: head, chunk, end, credit.
const PARTS_PER_REQUEST: usize = 4;

/// Requests of all shards on their way to the control plane: shards `try_send`, the control plane receives.
pub type EdgeQueue = mpsc::Sender<EdgeRequest>;

/// One HTTP request whose head is complete. The path and headers are the peer's: bounded (8 KiB), parsed, not trusted.
#[derive(Debug)]
pub struct EdgeRequest {
    pub request: http::Request<EdgeBody>,
    /// The address that the connection comes from; absent where the kernel cannot tell (direct descriptors before 6.19).
    pub peer: Option<IpAddr>,
    pub reply: EdgeReply,
}

/// The request's body as it arrives. An aborted request ends it early with [`Aborted`].
#[derive(Debug)]
pub struct EdgeBody {
    chunks: Option<mpsc::Receiver<BodyPart>>,
    conn: ConnRef,
    port: Arc<EdgePort>,
}

/// What a shard puts into a request body.
#[derive(Debug)]
pub enum BodyPart {
    Chunk(Bytes),
    End,
}

/// The client went away in the middle of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client went away before the end of its request body")]
pub struct Aborted;

/// The connection is gone: there is nobody to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is gone")]
pub struct Gone;

/// One step of an answer on its way to the shard.
#[derive(Debug)]
pub struct EdgePart {
    pub conn: ConnRef,
    pub step: EdgeStep,
}

#[derive(Debug)]
pub enum EdgeStep {
    /// Status and headers. `length`: the body's length where it is known; else it is sent chunked.
    Head {
        status: StatusCode,
        headers: Box<HeaderMap>,
        length: Option<u64>,
    },
    Chunk(Bytes),
    /// The answer is complete; `aborted`: it is not, and the connection must be closed.
    End {
        aborted: bool,
    },
    /// The control plane took the request body's last chunk: the next may come.
    Credit,
}

/// The queue of answer steps towards one shard.
pub struct EdgePort {
    queue: ArrayQueue<EdgePart>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for EdgePort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EdgePort").field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}

impl EdgePort {
    /// `wake`: called after each push, from any thread; must not block.
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self { queue: ArrayQueue::new(IN_FLIGHT * PARTS_PER_REQUEST), wake })
    }

    /// The next step for the shard.
    pub fn pop(&self) -> Option<EdgePart> {
        self.queue.pop()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Never full while shards keep to [`IN_FLIGHT`] and a request to its places; a step beyond them is dropped and the
    /// connection's own time-out ends it.
    fn push(&self, conn: ConnRef, step: EdgeStep) {
        let pushed = self.queue.push(EdgePart { conn, step });
        debug_assert!(pushed.is_ok(), "a place was reserved");
        (self.wake)();
    }
}

/// The way back to the client. Dropped without an end, it aborts the response (500 if nothing was sent yet).
#[derive(Debug)]
pub struct EdgeReply {
    conn: ConnRef,
    port: Arc<EdgePort>,
    /// One permit per chunk that may be sent; the shard closes it when the connection goes.
    credit: Arc<Semaphore>,
    ended: bool,
}

impl EdgeReply {
    /// Sends a whole response. `Err`: the connection went meanwhile, or the body failed (the response is then cut off).
    pub async fn send<B>(mut self, response: http::Response<B>) -> Result<(), Gone>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (parts, mut body) = response.into_parts();
        // The header first: an answer to HEAD says the length that it leaves out.
        let stated = parts.headers.get(http::header::CONTENT_LENGTH);
        let length = stated.and_then(|value| value.to_str().ok()?.parse().ok()).or_else(|| body.size_hint().exact());
        self.head(parts.status, parts.headers, length);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Err(Gone) };
            if let Ok(mut data) = frame.into_data() {
                while !data.is_empty() {
                    self.chunk(data.split_to(data.len().min(CHUNK_BYTES))).await?;
                }
            }
        }
        self.end(false);
        Ok(())
    }

    fn head(&mut self, status: StatusCode, mut headers: HeaderMap, length: Option<u64>) {
        // Framing and the connection itself are the shard's.
        for name in [http::header::CONTENT_LENGTH, http::header::TRANSFER_ENCODING, http::header::CONNECTION] {
            headers.remove(name);
        }
        headers.remove(HeaderName::from_static("keep-alive"));
        self.port.push(self.conn, EdgeStep::Head { status, headers: Box::new(headers), length });
    }

    async fn chunk(&mut self, data: Bytes) -> Result<(), Gone> {
        self.credit.acquire().await.map_err(|_| Gone)?.forget();
        self.port.push(self.conn, EdgeStep::Chunk(data));
        Ok(())
    }

    fn end(&mut self, aborted: bool) {
        self.ended = true;
        self.port.push(self.conn, EdgeStep::End { aborted });
    }

    pub fn conn(&self) -> ConnRef {
        self.conn
    }
}

impl Drop for EdgeReply {
    fn drop(&mut self) {
        if !self.ended {
            self.end(true);
        }
    }
}

/// The shard's side of one request: feeds the body, gives credit for the answer.
#[derive(Debug)]
pub struct Exchange {
    /// `None` once the body has ended.
    body: Option<mpsc::Sender<BodyPart>>,
    credit: Arc<Semaphore>,
}

/// Makes the two sides of one request. `has_body`: whether body parts will follow.
pub fn exchange(
    request: http::Request<()>,
    has_body: bool,
    peer: Option<IpAddr>,
    conn: ConnRef,
    port: &Arc<EdgePort>,
) -> (EdgeRequest, Exchange) {
    // One chunk and the end.
    let (sender, receiver) = mpsc::channel(2);
    let credit = Arc::new(Semaphore::new(1));
    let body = EdgeBody { chunks: has_body.then_some(receiver), conn, port: Arc::clone(port) };
    let reply = EdgeReply { conn, port: Arc::clone(port), credit: Arc::clone(&credit), ended: false };
    let request = EdgeRequest { request: request.map(|()| body), peer, reply };
    (request, Exchange { body: has_body.then_some(sender), credit })
}

impl Exchange {
    /// Passes a chunk on; the next only after [`EdgeStep::Credit`]. `false`: nobody reads the body any more.
    pub fn body_chunk(&mut self, chunk: Bytes) -> bool {
        self.body.as_ref().is_some_and(|body| body.try_send(BodyPart::Chunk(chunk)).is_ok())
    }

    pub fn body_end(&mut self) {
        if let Some(body) = self.body.take() {
            // Fails only if nobody reads the body any more.
            let _ = body.try_send(BodyPart::End);
        }
    }

    /// The chunk of the answer was handed to the socket: the next may come.
    pub fn credit(&self) {
        self.credit.add_permits(1);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.credit.close();
    }
}

impl Body for EdgeBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let Some(chunks) = &mut self.chunks else { return Poll::Ready(None) };
        match std::task::ready!(chunks.poll_recv(cx)) {
            Some(BodyPart::Chunk(data)) => {
                self.port.push(self.conn, EdgeStep::Credit);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(BodyPart::End) => {
                self.chunks = None;
                Poll::Ready(None)
            }
            None => {
                self.chunks = None;
                Poll::Ready(Some(Err(Aborted)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_none()
    }
}
