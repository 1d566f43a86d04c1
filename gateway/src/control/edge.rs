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
