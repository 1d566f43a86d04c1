//! Fetching a set of keys over HTTP.
//!
//! Guarantees: one GET on a connection of its own, over within [`TOTAL`] and [`SET_BYTES`]; only a 200 with a body counts. Never
//! does: follow a redirect (the keys must come from where the operator said), use a proxy, send anything secret, or retry.

use crate::auth::UrlSource;
use crate::auth::jwks::SET_BYTES;
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// From the look-up of the name to the last byte.
pub const TOTAL: Duration = Duration::from_secs(10);
/// Bytes of the head of an answer at most.
const HEAD_BYTES: usize = 16 << 10;

/// Why nothing was fetched. One line; the source is named by whoever logs it.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("no complete answer within 10 s")]
    TimedOut,
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("no TLS: {0}")]
    Tls(std::io::Error),
    #[error("no trusted certificates on this machine: install them (ca-certificates), or set ca_pem_file")]
    NoCertificates,
    #[error("ca_pem_file: {0}")]
    Certificate(rustls::Error),
    #[error("the url has no host that TLS can check")]
    Host,
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is a redirect to {0:?}: set that url if it is the right one")]
    Redirect(String),
    #[error("the answer has the status {0}")]
    Status(StatusCode),
    #[error("the answer is larger than 256 KiB")]
    TooLarge,
    #[error("{0}")]
    Internal(String),
}

/// The body at the source's address.
pub async fn get(source: &UrlSource) -> Result<Vec<u8>, FetchError> {
    tokio::time::timeout(TOTAL, attempt(source)).await.unwrap_or(Err(FetchError::TimedOut))
}

async fn attempt(source: &UrlSource) -> Result<Vec<u8>, FetchError> {
    let secure = source.url.scheme_str() == Some("https");
    let host = source.url.host().ok_or(FetchError::Host)?.trim_start_matches('[').trim_end_matches(']');
    let port = source.url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await.map_err(FetchError::Connect)?;
    if !secure {
        return request(stream, &source.url).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| FetchError::Host)?;
    let trusted = source.trusted.clone();
    // The machine's certificates are read from files.
    let config = tokio::task::spawn_blocking(move || client_config(trusted)).await;
    let config = config.map_err(|e| FetchError::Internal(e.to_string()))??;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(FetchError::Tls)?;
    request(stream, &source.url).await
}

fn client_config(trusted: Vec<CertificateDer<'static>>) -> Result<ClientConfig, FetchError> {
    let mut roots = RootCertStore::empty();
    if trusted.is_empty() {
        // What cannot be read of the machine's own is left out, as everybody does.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(FetchError::NoCertificates);
        }
    }
    for certificate in trusted {
        roots.add(certificate).map_err(FetchError::Certificate)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|e| FetchError::Internal(e.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn request<S>(stream: S, url: &Uri) -> Result<Vec<u8>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
    // Dropped, it ends the connection.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(target)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::USER_AGENT, concat!("ringpost/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|e| FetchError::Internal(e.to_string()))?;
    let answer = sender.send_request(request).await?;
    if answer.status().is_redirection() {
        let location = answer.headers().get(header::LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()));
        return Err(FetchError::Redirect(location.unwrap_or_default().chars().take(200).collect()));
    }
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status()));
    }
    let (mut body, mut bytes) = (answer.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > SET_BYTES {
                return Err(FetchError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}
