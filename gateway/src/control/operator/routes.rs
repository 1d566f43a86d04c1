//! POST /admin/users/{user}/export and /erase, on the admin port alone.
//!
//! Both are POST, and refused with an Origin: a page in the browser of somebody who can reach this port must not get them.

use super::export::export;
use super::lines::{Lines, lines};
use super::{Failed, Operator, erase};
use crate::control::health::{Health, Phase};
use crate::control::problem::Problem;
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::request::Parts;
use http::{HeaderMap, header};
use ringpost_proto::id::UserKey;
use ringpost_proto::v1::code::Value as Code;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::OwnedSemaphorePermit;

#[derive(Clone)]
pub(super) struct Served {
    operator: Operator,
    health: Arc<Health>,
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    tenant: Option<String>,
    /// Of an erasure: without it nothing changes.
    #[serde(default)]
    yes: bool,
}

pub fn routes(operator: Operator, health: Arc<Health>) -> Router {
    Router::new()
        .route("/admin/users/{user}/export", post(export_user))
        .route("/admin/users/{user}/erase", post(erase_user))
        .route("/admin/revoke", post(super::revoke::revoke))
        .with_state(Served { operator, health })
}

impl Served {
    /// Whoever asks by hand, while the server serves.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<&Operator, Problem> {
        if headers.contains_key(header::ORIGIN) {
            return Err(Problem::new(Code::Forbidden, "this is not for pages"));
        }
        if self.health.phase() != Phase::Serving {
            return Err(Problem::new(Code::Unavailable, "the server is not serving"));
        }
        Ok(&self.operator)
    }
}

/// What somebody who may orders for a user, and a place to work in.
struct Order {
    operator: Operator,
    user: UserKey,
    yes: bool,
    place: OwnedSemaphorePermit,
}

impl FromRequestParts<Served> for Order {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, served: &Served) -> Result<Self, Response> {
        let admitted = async {
            let path = Path::<String>::from_request_parts(parts, served).await;
            let Path(user) = path.map_err(|e| Problem::new(Code::Invalid, e.body_text()))?;
            let query = Query::from_request_parts(parts, served).await;
            let Query(asked) = query.map_err(|e| Problem::new(Code::Invalid, e.body_text()))?;
            Self::admit(served, &parts.headers, &user, &asked)
        };
        admitted.await.map_err(IntoResponse::into_response)
    }
}

impl Order {
    fn admit(served: &Served, headers: &HeaderMap, user: &str, asked: &Asked) -> Result<Self, Problem> {
        let operator = served.admit(headers)?.clone();
        let user = UserKey::new(asked.tenant.as_deref().unwrap_or("default"), user);
        let user = user.map_err(|e| Problem::new(Code::Invalid, e.to_string()).field("user"))?;
        let place = operator.command();
        let place = place.ok_or_else(|| Problem::new(Code::Overloaded, "two such commands run already"))?;
        Ok(Self { operator, user, yes: asked.yes, place })
    }
}

async fn export_user(Order { operator, user, place, .. }: Order) -> Response {
    answer(place, |out| async move {
        let result = export(&operator, &user, &out).await;
        let counters = operator.counters();
        count(&result, &counters.exported, &counters.exports_failed);
        eprintln!("admin: export of a user: {}", said(&result, |done| format!("{} records", done.records)));
        result.map(|done| done.json())
    })
}

async fn erase_user(Order { operator, user, yes, place }: Order) -> Response {
    answer(place, |out| async move {
        let result = erase::erase(&operator, &user, yes, &out).await;
        if yes {
            let counters = operator.counters();
            count(&result, &counters.erased, &counters.erasures_failed);
            let line = |done: &erase::Erased| format!("{} records, {} groups left", done.records, done.groups);
            eprintln!("admin: erasure of a user: {}", said(&result, line));
        }
        let mut json = result?.json();
        json["dryRun"] = Value::Bool(!yes);
        Ok(json)
    })
}

/// The lines that the work writes while they are read, and one with its result. Its place is its own to the end.
fn answer<F>(place: OwnedSemaphorePermit, work: impl FnOnce(Lines) -> F) -> Response
where
    F: Future<Output = Result<Value, Failed>> + Send + 'static,
{
    let (out, body) = lines();
    let work = work(out.clone());
    tokio::spawn(async move {
        end(&out, work.await).await;
        drop(place);
    });
    let kind = (header::CONTENT_TYPE, "application/x-ndjson");
    ([kind, (header::CACHE_CONTROL, "no-store")], Body::new(body)).into_response()
}

fn count<T>(result: &Result<T, Failed>, done: &AtomicU64, failed: &AtomicU64) {
    let counter = if result.is_ok() { done } else { failed };
    counter.fetch_add(1, Ordering::Relaxed);
}

/// For the log, which names no user: it is kept longer than what was erased.
fn said<T>(result: &Result<T, Failed>, line: impl Fn(&T) -> String) -> String {
    match result {
        Ok(done) => line(done),
        Err(error) => format!("failed: {error}"),
    }
}

/// The last line. Nobody reads it: they have gone.
async fn end(out: &Lines, result: Result<Value, Failed>) {
    let _ = match result {
        Ok(done) => out.line("end", done).await,
        Err(error) => out.line("error", json!({ "message": error.to_string() })).await,
    };
}
