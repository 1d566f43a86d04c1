use super::super::edge::call;
use super::*;
use crate::auth::{KeySet, Tickets, Verifier};
use http_body_util::BodyExt;
use serde_json::{Value, json};

fn shared(dev: bool) -> Shared {
    let health = Arc::new(Health::default());
    health.enter(Phase::Serving);
    let verifier = Arc::new(Verifier::new(KeySet::default().with_dev(), dev::AUDIENCE));
    Shared { verifier, tickets: Arc::new(Tickets::default()), health, dev }
}

async fn ask(
    shared: &Shared,
    request: http::request::Builder,
    body: impl Into<Body>,
) -> (StatusCode, HeaderMap, Value) {
    let response = call(public(shared.clone()), request.body(body.into()).unwrap()).await;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn post_to(path: &str) -> http::request::Builder {
    Request::builder().method("POST").uri(path).header("host", "127.0.0.1:7600")
}

fn token(exp: u64) -> String {
    dev::mint("alice", "web", exp, (exp - 60) * 1_000).unwrap()
}

#[tokio::test]
async fn a_token_buys_one_ticket_for_its_user() {
    let shared = shared(false);
    let now_ms = unix_ms();
    let bearer = format!("Bearer {}", token(now_ms / 1_000 + 60));
    let (status, headers, body) = ask(&shared, post_to("/v1/ticket").header("authorization", bearer), "").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(headers["cache-control"], "no-store");
    let expires: u64 = body["expiresMs"].as_str().unwrap().parse().unwrap();
    assert!(expires > now_ms && expires <= unix_ms() + 60_000);
    let ticket = body["ticket"].as_str().unwrap();
    assert_eq!(shared.tickets.redeem(ticket, unix_ms()).unwrap().user.user(), "alice");
    assert!(shared.tickets.redeem(ticket, unix_ms()).is_err());
}

#[tokio::test]
async fn no_ticket_without_one_good_token() {
    let shared = shared(false);
    let expired = format!("Bearer {}", token(unix_ms() / 1_000 - 60));
    for value in ["", "Bearer", "Bearer ", "Bearer nonsense", "Basic YTpi", expired.as_str()] {
        let (status, headers, body) = ask(&shared, post_to("/v1/ticket").header("authorization", value), "").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{value}");
        assert_eq!(headers["www-authenticate"], "Bearer");
        assert_eq!(body["code"], "UNAUTHENTICATED");
    }
    let good = format!("Bearer {}", token(unix_ms() / 1_000 + 60));
    let twice = post_to("/v1/ticket").header("authorization", &good).header("authorization", &good);
    assert_eq!(ask(&shared, twice, "").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&shared, post_to("/v1/ticket"), "").await.0, StatusCode::UNAUTHORIZED);
    assert!(shared.tickets.is_empty());
}

#[tokio::test]
async fn a_draining_process_gives_no_tickets() {
    let shared = shared(false);
    shared.health.enter(Phase::Draining);
    let bearer = format!("Bearer {}", token(unix_ms() / 1_000 + 60));
    let (status, headers, _) = ask(&shared, post_to("/v1/ticket").header("authorization", bearer), "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(headers["retry-after"], "1");
    let (status, _, body) = ask(&shared, Request::builder().uri("/readyz"), "").await;
    assert_eq!((status, &body["why"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("draining")));
}

#[tokio::test]
async fn development_tokens_exist_with_dev_only() {
    let body = json!({"user": "alice", "device": "phone"}).to_string();
    let (status, _, answer) = ask(&shared(false), post_to("/v1/dev/token"), body.clone()).await;
    assert_eq!((status, &answer["code"]), (StatusCode::NOT_FOUND, &json!("NOT_FOUND")));
    let shared = shared(true);
    let (status, _, answer) = ask(&shared, post_to("/v1/dev/token"), body).await;
    assert_eq!(status, StatusCode::OK);
    let identity = shared.verifier.verify(answer["token"].as_str().unwrap(), unix_ms()).unwrap();
    assert_eq!((identity.user.user(), identity.device.as_str()), ("alice", "phone"));
}

#[tokio::test]
async fn development_tokens_are_not_for_pages_of_other_names() {
    let shared = shared(true);
    let body = json!({"user": "alice"}).to_string();
    for (host, allowed) in [
        ("localhost:7600", true),
        ("127.0.0.2", true),
        ("[::1]:7600", true),
        ("evil.example:7600", false),
        ("127.0.0.1.evil.example", false),
        ("10.0.0.1", false),
        ("a b", false),
    ] {
        let request = Request::builder().method("POST").uri("/v1/dev/token").header("host", host);
        let expected = if allowed { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(ask(&shared, request, body.clone()).await.0, expected, "{host}");
    }
}

#[tokio::test]
async fn bad_bodies_get_json_errors() {
    let shared = shared(true);
    for (body, status, field) in [
        (String::new(), StatusCode::BAD_REQUEST, ""),
        ("{".into(), StatusCode::BAD_REQUEST, ""),
        (json!({"device": "phone"}).to_string(), StatusCode::BAD_REQUEST, ""),
        (json!({"user": 7}).to_string(), StatusCode::BAD_REQUEST, ""),
        (json!({"user": ""}).to_string(), StatusCode::BAD_REQUEST, "user"),
        (json!({"user": "a".repeat(65)}).to_string(), StatusCode::BAD_REQUEST, "user"),
        (json!({"user": "alice", "device": "my phone"}).to_string(), StatusCode::BAD_REQUEST, "device"),
        (json!({"user": "a".repeat(BODY_BYTES)}).to_string(), StatusCode::PAYLOAD_TOO_LARGE, ""),
    ] {
        let (got, headers, answer) = ask(&shared, post_to("/v1/dev/token"), body.clone()).await;
        assert_eq!(got, status, "{body}");
        assert_eq!(headers["content-type"], "application/json");
        assert!(answer["code"].is_string() && answer["message"].is_string());
        assert_eq!(answer["field"].as_str().unwrap_or(""), field);
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_get_json_errors() {
    let shared = shared(true);
    for path in ["/nothing", "/metrics", "/admin/drain", "/v1/messages", "/..%2f..%2fetc/passwd", "/web/app.js"] {
        let (status, headers, body) = ask(&shared, Request::builder().uri(path), "").await;
        assert_eq!((status, &body["code"]), (StatusCode::NOT_FOUND, &json!("NOT_FOUND")), "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }
    let (status, headers, body) = ask(&shared, Request::builder().uri("/v1/ticket"), "").await;
    assert_eq!((status, &body["code"]), (StatusCode::METHOD_NOT_ALLOWED, &json!("INVALID")));
    assert_eq!(headers["allow"], "POST");
}

#[tokio::test]
async fn the_page_is_served_with_its_policy_and_revalidates() {
    let shared = shared(false);
    for asset in assets::ASSETS {
        let response =
            call(public(shared.clone()), Request::builder().uri(asset.path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], asset.content_type);
        assert!(response.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
        let tag = response.headers()["etag"].clone();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), asset.bytes);
        let again = Request::builder().uri(asset.path).header("if-none-match", tag);
        assert_eq!(ask(&shared, again, "").await.0, StatusCode::NOT_MODIFIED);
    }
}
