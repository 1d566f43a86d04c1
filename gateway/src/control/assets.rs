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
    "/acts.js" "acts.js" JS;
    "/app.js" "app.js" JS;
    "/dialog.css" "dialog.css" CSS;
    "/icon.svg" "icon.svg" SVG;
    "/session.js" "session.js" JS;
    "/style.css" "style.css" CSS;
    "/talk.css" "talk.css" CSS;
    "/view/bubble.js" "view/bubble.js" JS;
    "/view/composer.js" "view/composer.js" JS;
    "/view/dialog.js" "view/dialog.js" JS;
    "/view/dom.js" "view/dom.js" JS;
    "/view/group-dialog.js" "view/group-dialog.js" JS;
    "/view/header.js" "view/header.js" JS;
    "/view/hours.js" "view/hours.js" JS;
    "/view/list.js" "view/list.js" JS;
    "/view/menu.js" "view/menu.js" JS;
    "/view/messages.js" "view/messages.js" JS;
    "/view/picture.js" "view/picture.js" JS;
    "/view/settings-dialog.js" "view/settings-dialog.js" JS;
    "/view/state.js" "view/state.js" JS;
    "/view/words.js" "view/words.js" JS;
    "/wire/client.js" "wire/client.js" JS;
    "/wire/connection.js" "wire/connection.js" JS;
    "/wire/ephemera.js" "wire/ephemera.js" JS;
    "/wire/fold.js" "wire/fold.js" JS;
    "/wire/inbox.js" "wire/inbox.js" JS;
    "/wire/names.js" "wire/names.js" JS;
    "/wire/outbox.js" "wire/outbox.js" JS;
    "/wire/requests.js" "wire/requests.js" JS;
    "/wire/store.js" "wire/store.js" JS;
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
        let mut folders = vec![concat!(env!("CARGO_MANIFEST_DIR"), "/web").into()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir::<std::path::PathBuf>(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let bytes = std::fs::read(&path).unwrap();
                assert!(ASSETS.iter().any(|asset| asset.bytes == bytes), "{} is not embedded", path.display());
            }
        }
    }
}
