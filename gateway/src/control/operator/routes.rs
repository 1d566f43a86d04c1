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
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
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

    /// Who is meant, and a place to work in.
    fn begin(
        &self,
        headers: &HeaderMap,
        user: &str,
        asked: &Asked,
    ) -> Result<(UserKey, OwnedSemaphorePermit), Problem> {
        self.admit(headers)?;
        let user = UserKey::new(asked.tenant.as_deref().unwrap_or("default"), user);
        let user = user.map_err(|e| Problem::new(Code::Invalid, e.to_string()).field("user"))?;
        let place = self.operator.command();
        let place = place.ok_or_else(|| Problem::new(Code::Overloaded, "two such commands run already"))?;
        Ok((user, place))
    }
}

async fn export_user(
    State(served): State<Served>,
    Path(user): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (user, place) = served.begin(&headers, &user, &asked)?;
    let (out, body) = lines();
    tokio::spawn(async move {
        let result = export(&served.operator, &user, &out).await;
        let counters = served.operator.counters();
        count(&result, &counters.exported, &counters.exports_failed);
        eprintln!("admin: export of a user: {}", said(&result, |done| format!("{} records", done.records)));
        end(&out, result.map(|done| done.json())).await;
        drop(place);
    });
    Ok(answer(Body::new(body)))
}

async fn erase_user(
    State(served): State<Served>,
    Path(user): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (user, place) = served.begin(&headers, &user, &asked)?;
    let (out, body) = lines();
    tokio::spawn(async move {
        let result = erase::erase(&served.operator, &user, asked.yes, &out).await;
        if asked.yes {
            let counters = served.operator.counters();
            count(&result, &counters.erased, &counters.erasures_failed);
            let line = |done: &erase::Erased| format!("{} records, {} groups left", done.records, done.groups);
            eprintln!("admin: erasure of a user: {}", said(&result, line));
        }
        let json = |done: erase::Erased| {
            let mut json = done.json();
            json["dryRun"] = Value::Bool(!asked.yes);
            json
        };
        end(&out, result.map(json)).await;
        drop(place);
    });
    Ok(answer(Body::new(body)))
}

fn answer(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")], body).into_response()
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
