//! A gateway process for integration tests, and the least of HTTP to talk to it.

#![allow(dead_code)] // each test binary uses its part

pub mod ws;

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of its own, removed at the end.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ringpost-test-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
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

/// The `ringpost` command without the variables of whoever runs the tests.
pub fn ringpost() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RINGPOST_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs to the end; a command that does not end fails the test.
pub fn finish(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = rustix::process::Pid::from_child(&child);
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    match ended.recv_timeout(PATIENCE) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
            panic!("still running after {PATIENCE:?}: {command:?}");
        }
    }
}

/// A bad start: nothing on stdout, one line on stderr that holds `parts`, status 1.
#[track_caller]
pub fn refused(command: &mut Command, parts: &[&str]) {
    let output = finish(command);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(output.stdout, b"", "{stderr}");
    assert!(stderr.ends_with('\n') && stderr.matches('\n').count() == 1, "one line: {stderr:?}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} in {stderr:?}");
    }
}

/// `serve --dev` on free ports with its data in `dir`.
pub fn serve(dir: &Dir) -> Command {
    let mut command = ringpost();
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", &dir.path("data")]);
    command
}

/// A running gateway; killed when dropped.
pub struct Gateway {
    child: Child,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub ready: String,
    pub data: PathBuf,
    /// Only where the test did not bring one.
    _dir: Option<Dir>,
}

impl Gateway {
    /// `--dev` on free ports, with a data directory of its own.
    pub fn start(args: &[&str]) -> Self {
        let dir = Dir::new();
        let mut gateway = Self::start_in(&dir.0.join("data"), args);
        gateway._dir = Some(dir);
        gateway
    }

    pub fn start_in(data: &Path, args: &[&str]) -> Self {
        let mut command = ringpost();
        command
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(args);
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        // What is tested here is something else than how full this disk is.
        command.env("RINGPOST_DISK_FLOOR", "1");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let ready = ready.trim_end().to_owned();
        let field = |name: &str| {
            let value = ready.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_else(|| panic!("no {name} in {ready:?}")).to_owned()
        };
        assert!(ready.starts_with("ready "), "{ready:?}");
        let (listen, admin) = (field("listen").parse().unwrap(), field("admin").parse().unwrap());
        let data = field("data").into();
        Self { child, listen, admin, ready, data, _dir: None }
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the gateway did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        http(self.listen, "GET", path, &[], "")
    }

    pub fn metrics(&self) -> String {
        let answer = http(self.admin, "GET", "/metrics", &[], "");
        assert_eq!(answer.status, 200);
        answer.body
    }

    /// The value of one series; absent series fail the test.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in:\n{text}")).parse().unwrap()
    }

    /// Waits until a series has this value.
    pub fn await_metric(&self, series: &str, value: f64) {
        let deadline = Instant::now() + PATIENCE;
        while self.metric(series) != value {
            assert!(Instant::now() < deadline, "{series} did not become {value}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn dev_token(&self, user: &str, device: &str) -> String {
        let body = serde_json::json!({"user": user, "device": device}).to_string();
        let answer = http(self.listen, "POST", "/v1/dev/token", &[], &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body of /readyz, without what it says of the disk of the machine.
    pub fn readiness(&self) -> Value {
        let mut all = self.json();
        if let Some(warnings) = all.get_mut("warnings").and_then(Value::as_array_mut) {
            warnings.retain(|line| !line.as_str().unwrap().starts_with("the disk of the data "));
        }
        all
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }
}

/// One request on a connection of its own.
pub fn http(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || method != "GET" {
        request += &format!("content-length: {}\r\n", body.len());
    }
    request += "\r\n";
    request += body;
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no head in {bytes:?}"));
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { dechunk(&bytes[end + 4..]) } else { bytes[end + 4..].to_vec() };
    Answer { status, headers, body: String::from_utf8(body).unwrap() }
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + length]);
        rest = &rest[line + 2 + length + 2..];
    }
}
