//! From the shards' queue to the routes and back.
//!
//! One task per request; the queue and the number of tasks are bounded, so a flood of requests is answered by the shards
//! with 503 and costs sessions nothing.

use super::problem::Problem;
use crate::shard::edge::EdgeRequest;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Request, StatusCode};
use ringpost_proto::v1::code::Value as Code;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tower::ServiceExt;

/// From the head of a request to the head of its answer. A body that arrives more slowly is not waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Serves until the shards drop their end of the queue. `limit`: requests in progress.
pub async fn serve(router: Router, mut requests: mpsc::Receiver<EdgeRequest>, limit: usize) {
    let places = Arc::new(Semaphore::new(limit));
    while let Some(request) = requests.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let router = router.clone();
        tokio::spawn(async move {
            answer(router, request).await;
            drop(place);
        });
    }
}

async fn answer(router: Router, request: EdgeRequest) {
    let EdgeRequest { request, reply, .. } = request;
    let response = match tokio::time::timeout(ANSWER_WITHIN, call(router, request.map(Body::new))).await {
        Ok(response) => response,
        Err(_) => Problem::new(Code::Unavailable, "the request took too long")
            .status(StatusCode::REQUEST_TIMEOUT)
            .into_response(),
    };
    // Gone: the client went away; there is nobody to tell.
    let _ = reply.send(response).await;
}

/// The routes' answer, with the headers that every answer has.
pub async fn call(router: Router, request: Request<Body>) -> Response {
    // A Router never refuses to be called and its error type has no values.
    let mut response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(HeaderName::from_static("x-content-type-options"), nosniff);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::edge::{CHUNK_BYTES, EdgePart, EdgePort, EdgeStep, Exchange, exchange};
    use axum::routing::{get, post};
    use bytes::Bytes;
    use ringpost_router::ConnRef;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    const CONN: ConnRef = ConnRef { shard: 0, slot: 7, generation: 1 };
    const LONG: usize = 3 * CHUNK_BYTES + 5;

    /// What a shard does, without its ring.
    struct Shard {
        port: Arc<EdgePort>,
        rung: Arc<Notify>,
        queue: mpsc::Sender<EdgeRequest>,
    }

    impl Shard {
        fn new(router: Router, limit: usize) -> Self {
            let rung = Arc::new(Notify::new());
            let bell = Arc::clone(&rung);
            let port = EdgePort::new(Box::new(move || bell.notify_one()));
            let (queue, requests) = mpsc::channel(8);
            tokio::spawn(serve(router, requests, limit));
            Self { port, rung, queue }
        }

        async fn ask(&self, method: &str, path: &str, has_body: bool) -> Exchange {
            let head = Request::builder().method(method).uri(path).body(()).unwrap();
            let (request, exchange) = exchange(head, has_body, None, CONN, &self.port);
            self.queue.send(request).await.unwrap();
            exchange
        }

        async fn step(&self) -> EdgeStep {
            loop {
                if let Some(EdgePart { conn, step }) = self.port.pop() {
                    assert_eq!(conn, CONN);
                    return step;
                }
                self.rung.notified().await;
            }
        }

        async fn head(&self) -> StatusCode {
            loop {
                match self.step().await {
                    EdgeStep::Head { status, .. } => return status,
                    EdgeStep::Credit => {}
                    other => panic!("{other:?} before the head"),
                }
            }
        }
    }

    fn router() -> Router {
        Router::new()
            .route("/long", get(|| async { vec![b'x'; LONG] }))
            .route("/echo", post(|body: Bytes| async { body }))
    }

    #[tokio::test]
    async fn a_long_answer_comes_in_chunks_as_credit_is_given() {
        let shard = Shard::new(router(), 4);
        let exchange = shard.ask("GET", "/long", false).await;
        let EdgeStep::Head { status, length, .. } = shard.step().await else { panic!("no head") };
        assert_eq!((status, length), (StatusCode::OK, Some(LONG as u64)));
        let mut received = 0;
        loop {
            match shard.step().await {
                EdgeStep::Chunk(chunk) => {
                    assert!(chunk.len() <= CHUNK_BYTES);
                    received += chunk.len();
                    // No credit, no chunk: let the other side try.
                    tokio::task::yield_now().await;
                    if received < LONG {
                        assert!(shard.port.is_empty());
                    }
                    exchange.credit();
                }
                EdgeStep::End { aborted } => break assert!(!aborted),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(received, LONG);
    }

    #[tokio::test]
    async fn a_body_is_taken_chunk_by_chunk() {
        let shard = Shard::new(router(), 4);
        let mut exchange = shard.ask("POST", "/echo", true).await;
        for _ in 0..3 {
            assert!(exchange.body_chunk(Bytes::from_static(b"abc")));
            assert!(matches!(shard.step().await, EdgeStep::Credit));
        }
        exchange.body_end();
        assert_eq!(shard.head().await, StatusCode::OK);
        assert!(matches!(shard.step().await, EdgeStep::Chunk(body) if body == "abcabcabc"));
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_its_request_only() {
        let shard = Shard::new(router(), 1);
        let exchange = shard.ask("GET", "/long", false).await;
        assert_eq!(shard.head().await, StatusCode::OK);
        drop(exchange);
        // The only place is free again.
        let _exchange = shard.ask("GET", "/nothing", false).await;
        loop {
            if let EdgeStep::Head { status, .. } = shard.step().await {
                break assert_eq!(status, StatusCode::NOT_FOUND);
            }
        }
    }

    #[tokio::test]
    async fn requests_in_progress_are_bounded() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let handler = {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            move || async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                "ok"
            }
        };
        let shard = Shard::new(Router::new().route("/", get(handler)), 2);
        let mut exchanges = Vec::new();
        for _ in 0..20 {
            let exchange = shard.ask("GET", "/", false).await;
            exchange.credit();
            exchanges.push(exchange);
        }
        let mut ended = 0;
        while ended < 20 {
            ended += usize::from(matches!(shard.step().await, EdgeStep::End { aborted: false }));
        }
        assert!(most.load(Ordering::SeqCst) <= 2);
    }
}
