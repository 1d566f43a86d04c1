//! An HTTP server that publishes a set of keys, well or badly.

#![allow(dead_code)] // each test binary uses its part

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What the server does with a request.
#[derive(Clone)]
pub enum Answer {
    Keys(Vec<Value>),
    Text(&'static str),
    Status(&'static str),
    /// A body that does not end.
    Endless,
    /// Nothing, for as long as the client waits.
    Silence,
    Close,
}

/// Runs until the test binary ends.
pub struct Issuer {
    pub address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<AtomicUsize>,
    written: Arc<AtomicUsize>,
}

impl Issuer {
    pub fn start(answer: Answer) -> Self {
        Self::serve(answer, None)
    }

    /// With the certificate of tests/keys.
    pub fn start_tls(answer: Answer) -> Self {
        let certificate = CertificateDer::from_pem_slice(include_bytes!("../keys/tls.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("../keys/tls.key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self::serve(answer, Some(Arc::new(config)))
    }

    fn serve(answer: Answer, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(answer)),
            requests: Arc::default(),
            written: Arc::default(),
        };
        let (answer, requests, written) =
            (Arc::clone(&issuer.answer), Arc::clone(&issuer.requests), Arc::clone(&issuer.written));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answer.lock().unwrap().clone();
                let (requests, written, tls) = (Arc::clone(&requests), Arc::clone(&written), tls.clone());
                std::thread::spawn(move || match tls {
                    None => respond(stream, &answer, &requests, &written),
                    Some(config) => {
                        let session = ServerConnection::new(config).unwrap();
                        respond(StreamOwned::<_, TcpStream>::new(session, stream), &answer, &requests, &written);
                    }
                });
            }
        });
        issuer
    }

    pub fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// Requests that were read so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Bytes of bodies that the peer's system took.
    pub fn written(&self) -> usize {
        self.written.load(Ordering::SeqCst)
    }
}

fn respond(mut stream: impl Read + Write, answer: &Answer, requests: &AtomicUsize, written: &AtomicUsize) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    requests.fetch_add(1, Ordering::SeqCst);
    let head = |status: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")
    };
    // The peer may be gone before the end of any of these.
    let _ = match answer {
        Answer::Keys(keys) => {
            let body = json!({ "keys": keys }).to_string();
            stream.write_all((head("200 OK", body.len()) + &body).as_bytes())
        }
        Answer::Text(body) => stream.write_all((head("200 OK", body.len()) + body).as_bytes()),
        Answer::Status(status) => stream.write_all(head(status, 0).as_bytes()),
        Answer::Endless => endless(&mut stream, written),
        Answer::Silence => stream.read(&mut byte).map(drop),
        Answer::Close => Ok(()),
    };
    let _ = stream.flush();
}

fn endless(stream: &mut impl Write, written: &AtomicUsize) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    loop {
        stream.write_all(&chunk)?;
        written.fetch_add(chunk.len(), Ordering::SeqCst);
    }
}
