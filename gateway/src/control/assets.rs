//! The chat page, embedded in the binary.
//!
//! Guarantees: only the files of the list, each with its type, a validator, and a policy under which the page can load
//! nothing from elsewhere.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha1::{Digest, Sha1};

/// One embedded file.
pub struct Asset {
    pub path: &'static str,
    pub content_type: &'static str,
    pub bytes: &'static [u8],
}

macro_rules! assets {
    ($($path:literal $file:literal $content_type:expr;)*) => {
        pub const ASSETS: &[Asset] = &[$(Asset {
            path: $path,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../web/", $file)),
        },)*];
    };
}

const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";

assets! {
    "/" "index.html" HTML;
    "/app.js" "app.js" JS;
    "/client.js" "client.js" JS;
    "/outbox.js" "outbox.js" JS;
    "/store.js" "store.js" JS;
    "/view.js" "view.js" JS;
    "/style.css" "style.css" CSS;
    "/icon.svg" "icon.svg" SVG;
}

/// The page loads its own modules, styles and images, talks to its own origin, and is framed by nobody.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub fn routes() -> Router {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        let tag = tag(asset.bytes);
        router.route(asset.path, get(async move |headers: HeaderMap| serve(asset, &tag, &headers)))
    })
}

fn serve(asset: &'static Asset, tag: &HeaderValue, request: &HeaderMap) -> Response {
    let headers = [
        (header::ETAG, tag.clone()),
        // Asked for each time, sent again only if changed: a new binary shows at once.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    if request.get(header::IF_NONE_MATCH) == Some(tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type))];
    (headers, content_type, Bytes::from_static(asset.bytes)).into_response()
}

/// A validator of the content (RFC 9110 section 8.8.3); not a matter of security.
fn tag(bytes: &[u8]) -> HeaderValue {
    let hex: String = Sha1::digest(bytes).iter().take(8).map(|b| format!("{b:02x}")).collect();
    HeaderValue::from_str(&format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/web");
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let shown = [".html", ".js", ".css", ".svg", ".png", ".webmanifest"].iter().any(|end| name.ends_with(end));
            if shown && !name.ends_with(".test.js") {
                let bytes = std::fs::read(entry.path()).unwrap();
                assert!(ASSETS.iter().any(|asset| asset.bytes == bytes), "{name} is not embedded");
            }
        }
    }
}
