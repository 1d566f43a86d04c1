//! The embedded store on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ringpost_persist::conformance::{self, Driver};
use ringpost_persist::embedded::{self, Opened, Options, StorePort};
use ringpost_persist::files::RealFiles;
use ringpost_persist::{StoreAnswer, StoreRequest};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;

/// A directory of its own, removed at the end.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("ringpost-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(dir: &Path) -> Opened {
    let options = Options { segment_bytes: 256 << 10, ..Options::new(dir, 1) };
    embedded::open(Arc::new(RealFiles), options).unwrap()
}

/// One port, and this thread woken by it.
struct Embedded {
    dir: TempDir,
    opened: Option<Opened>,
}

impl Embedded {
    fn new() -> Self {
        let mut store = Self { dir: TempDir::new(), opened: None };
        store.reopen();
        store
    }

    fn port(&mut self) -> &mut StorePort {
        &mut self.opened.as_mut().unwrap().ports[0]
    }
}

impl Driver for Embedded {
    fn submit(&mut self, request: StoreRequest) {
        self.port().submit(request).unwrap();
        self.port().flush();
    }

    fn answer(&mut self) -> StoreAnswer {
        loop {
            if let Some(answer) = self.port().poll() {
                return answer;
            }
            std::thread::park();
        }
    }

    fn reopen(&mut self) {
        self.opened = None;
        self.opened = Some(open(&self.dir.0));
        let waiting: Thread = std::thread::current();
        self.port().set_waker(Arc::new(move || waiting.unpark()));
    }
}

#[test]
fn it_passes_the_conformance_suite() {
    conformance::run(|| Box::new(Embedded::new()));
}
