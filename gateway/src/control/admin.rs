//! The admin port: /metrics, /healthz, /readyz, exports and erasures of users. Plain HTTP without authentication: it belongs on loopback or a private
//! network, never on the public port.

use super::health::Health;
use super::metrics::{self, Sources};
use super::operator::{self, Operator};
use super::routes::{admin_health, with_fallbacks};
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub fn routes(health: Arc<Health>, sources: Arc<Sources>, operator: Option<Operator>) -> Router {
    let metrics = Router::new().route("/metrics", get(exposition)).with_state(sources);
    let users = operator.map(|operator| operator::routes::routes(operator, Arc::clone(&health)));
    with_fallbacks(metrics.merge(users.unwrap_or_default()).merge(admin_health(health)))
}

/// Serves until told to stop.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let stopped = async move {
        // An error means that the sender is gone, which is a stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
        eprintln!("admin listener ended: {error}");
    }
}

async fn exposition(State(sources): State<Arc<Sources>>) -> Response {
    let text = metrics::gather(&sources).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
