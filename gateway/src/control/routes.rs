//! What the public port serves besides upgrades.

use super::health::{Health, Phase, Readiness};
use super::problem::Problem;
use super::{Shared, assets};
use crate::auth::{self, AuthError, Identity, TICKET_PATH, TicketRefused, dev};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use ringpost_proto::v1::code::Value as Code;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a JSON body at most: the routes here take a few names.
const BODY_BYTES: usize = 16 << 10;
/// For how long a development token is good, seconds.
const DEV_TOKEN_SECONDS: u64 = 24 * 3_600;

pub fn public(shared: Shared) -> Router {
    let health = Arc::clone(&shared.health);
    let mut router = Router::new().route(TICKET_PATH, post(ticket));
    if shared.dev {
        router = router.route("/v1/dev/token", post(dev_token));
    }
    let router = router.with_state(shared).merge(health_routes(health, readyz)).merge(assets::routes());
    with_fallbacks(router)
}

/// The same for the admin port, which tells operators more.
pub fn admin_health(health: Arc<Health>) -> Router {
    health_routes(health, readyz_with_warnings)
}

/// /healthz and /readyz, which both ports have.
fn health_routes<H, T>(health: Arc<Health>, readyz: H) -> Router
where
    H: Handler<T, Arc<Health>>,
    T: 'static,
{
    Router::new()
        .route("/healthz", get(|| async { ([(header::CACHE_CONTROL, "no-store")], "ok\n") }))
        .route("/readyz", get(readyz))
        .with_state(health)
}

/// Unknown paths and methods are answered like every other error.
pub fn with_fallbacks(router: Router) -> Router {
    router
        .method_not_allowed_fallback(|| async {
            Problem::new(Code::Invalid, "this path does not take that method").status(StatusCode::METHOD_NOT_ALLOWED)
        })
        .fallback(|| async { Problem::new(Code::NotFound, "no such path") })
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    let readiness = health.readiness();
    ready_or_not(readiness.ready, readiness)
}

#[derive(Serialize)]
struct Warned {
    #[serde(flatten)]
    readiness: Readiness,
    warnings: Vec<String>,
}

async fn readyz_with_warnings(State(health): State<Arc<Health>>) -> Response {
    let warned = Warned { readiness: health.readiness(), warnings: health.warnings() };
    ready_or_not(warned.readiness.ready, warned)
}

fn ready_or_not(ready: bool, body: impl Serialize) -> Response {
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TicketAnswer {
    ticket: String,
    /// Unix milliseconds; a string, like every 64-bit number of the wire.
    expires_ms: String,
}

async fn ticket(State(shared): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    if shared.health.phase() == Phase::Draining {
        return Err(Problem::new(Code::Unavailable, "draining"));
    }
    let now_ms = unix_ms();
    let identity = bearer(&shared, &headers, now_ms)?;
    let (ticket, expires_ms) = shared.tickets.issue(Arc::new(identity), now_ms).map_err(|refused| {
        let code = match refused {
            TicketRefused::UserFull => Code::RateLimited,
            TicketRefused::Full => Code::Overloaded,
            TicketRefused::NoRandomness => Code::Internal,
        };
        Problem::new(code, refused.to_string())
    })?;
    let answer = TicketAnswer { ticket, expires_ms: expires_ms.to_string() };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

/// Who the Authorization header says is asking.
fn bearer(shared: &Shared, headers: &HeaderMap, now_ms: u64) -> Result<Identity, Problem> {
    let refuse = |message: &str| Problem::new(Code::Unauthenticated, message);
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(refuse("one Authorization header with a bearer token is needed"));
    };
    let (scheme, token) =
        value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or_else(|| refuse("not a bearer token"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refuse("not a bearer token"));
    }
    shared.verifier.verify(token.trim(), now_ms).map_err(|e| match e {
        AuthError::Unready => Problem::new(Code::Unavailable, e.to_string()),
        AuthError::Invalid(_) | AuthError::Expired => refuse(&e.to_string()),
    })
}

#[derive(Deserialize)]
struct DevTokenRequest {
    user: String,
    #[serde(default = "default_device")]
    device: String,
}

fn default_device() -> String {
    "web".to_owned()
}

#[derive(Serialize)]
struct DevTokenAnswer {
    token: String,
}

/// Anybody's token for anybody: this route exists with `--dev` only.
async fn dev_token(headers: HeaderMap, request: Request) -> Result<Response, Problem> {
    if !is_local(&headers) {
        // A page elsewhere that rebinds its name to this machine must not get tokens.
        return Err(Problem::new(Code::Forbidden, "development tokens are for pages of this machine"));
    }
    let asked: DevTokenRequest = json(request.into_body()).await?;
    let now_ms = unix_ms();
    let exp = now_ms / 1_000 + DEV_TOKEN_SECONDS;
    let token = dev::mint(&asked.user, &asked.device, exp, now_ms).map_err(|e| {
        let field = match e {
            auth::MintError::User(_) => "user",
            auth::MintError::Device(_) => "device",
            _ => "",
        };
        Problem::new(if field.is_empty() { Code::Internal } else { Code::Invalid }, e.to_string()).field(field)
    })?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(DevTokenAnswer { token })).into_response())
}

/// Whether the Host header names a loopback address (or is absent).
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Some(host) = host.to_str().ok().and_then(|host| host.parse::<http::uri::Authority>().ok()) else {
        return false;
    };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A JSON body. Too long, cut off, or not what the route takes: an error that says so.
async fn json<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let bytes = to_bytes(body, BODY_BYTES).await.map_err(|e| {
        let cut = std::error::Error::source(&e).is_some_and(|source| source.is::<crate::shard::edge::Aborted>());
        match cut {
            true => Problem::new(Code::Invalid, "the request body is incomplete"),
            false => Problem::new(Code::TooLarge, format!("a body has at most {BODY_BYTES} bytes")),
        }
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Problem::new(Code::Invalid, format!("the body is not the JSON expected: {e}")))
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests;
