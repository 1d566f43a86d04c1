//! POST /admin/revoke?user=&device=&tenant=: a device is unlinked, whoever its user is.

use super::Operator;
use super::routes::Served;
use crate::control::problem::Problem;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use ringpost_proto::id::{DeviceId, UserKey};
use ringpost_proto::v1::code::Value as Code;
use ringpost_router::envelope::{Envelope, SendOutcome, SessionRef};
use ringpost_router::home_of_user;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
pub(super) struct Asked {
    user: String,
    device: String,
    #[serde(default)]
    tenant: Option<String>,
}

/// Answers 200 once that is in the store and the session is closed, now or since before; 404: there is no such device.
pub(super) async fn revoke(
    State(served): State<Served>,
    asked: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let operator = served.admit(&headers)?;
    let Query(asked) = asked.map_err(|e| Problem::new(Code::Invalid, e.body_text()))?;
    let user = UserKey::new(asked.tenant.as_deref().unwrap_or("default"), &asked.user);
    let user = user.map_err(|e| Problem::new(Code::Invalid, e.to_string()).field("user"))?;
    let device = DeviceId::new(&asked.device);
    let device = device.map_err(|e| Problem::new(Code::Invalid, e.to_string()).field("device"))?;
    match unlink(operator, user, device).await? {
        SendOutcome::Refused(error) => Err(Problem::new(error.code(), error.message)),
        _ => Ok(([(header::CACHE_CONTROL, "no-store")], Json(json!({"unlinked": asked.device}))).into_response()),
    }
}

async fn unlink(operator: &Operator, user: UserKey, device: DeviceId) -> Result<SendOutcome, Problem> {
    let home = home_of_user(&user, operator.shards());
    let envelope = |re| {
        let (user, from) = (user.clone(), SessionRef::operator());
        Some(Envelope::Revoke { user, device, from, re })
    };
    operator.tell(home, envelope).await.map_err(|failed| Problem::new(Code::Unavailable, failed.to_string()))
}
