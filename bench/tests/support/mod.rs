//! Running the load tool, and servers to run it against.

#![allow(dead_code)] // each test binary uses its part

pub mod faulty;
mod log;
pub mod rooms;

use serde_json::Value;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own, removed at the end.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("flood-test-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs flood; gives its exit status and its report.
pub fn flood(dir: &Dir, url: &str, arguments: &str) -> (i32, Value) {
    let report = dir.path("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_flood"))
        .args(arguments.split_whitespace())
        .args(["--quiet", "--url", url, "--json", &report])
        .output()
        .unwrap();
    let text = std::fs::read(&report).unwrap_or_else(|_| panic!("no report: {output:?}"));
    (output.status.code().unwrap(), serde_json::from_slice(&text).unwrap())
}

/// A figure of a report by its name.
pub fn figure(report: &Value, name: &str) -> f64 {
    let figures = report["figures"].as_array().unwrap();
    figures.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("no {name}: {report}"))["value"]
        .as_f64()
        .unwrap()
}

/// A plain server on a thread per connection, for as long as the test runs.
pub fn plain_server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}
