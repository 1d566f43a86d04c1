//! The SENT file: one JSON line per acknowledged message, for others to check the server against.
//!
//! Owns: the file and the thread that writes it. Guarantees: a line handed over reaches the kernel within 100 ms, so that
//! it survives the end of this process; its text is what was sent. Never does: blocking a load thread on the disk.

use ringpost_proto::id::{ClientMessageId, ConversationId, RecordId, Seq};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines are handed over when the oldest is this old; the rest of the 100 ms is the writer's.
const HAND_OVER: Duration = Duration::from_millis(20);

#[derive(Serialize)]
struct Line<'a> {
    conversation: &'a str,
    from: &'a str,
    to: &'a str,
    seq: Seq,
    id: RecordId,
    cmid: &'a str,
    sha256: &'a str,
}

/// To whom a message went.
#[derive(Clone, Copy, Debug)]
pub enum To<'a> {
    User(&'a str),
    /// By the id on the wire.
    Group(&'a [u8]),
}

/// A message that the server has acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged<'a> {
    pub from: &'a str,
    pub to: To<'a>,
    pub seq: Seq,
    pub id: RecordId,
    pub cmid: ClientMessageId,
    pub text: &'a str,
}

/// The file and its writer; closing waits until everything is written.
pub struct SentFile {
    sender: Sender<Vec<u8>>,
    writer: JoinHandle<io::Result<()>>,
}

impl SentFile {
    /// Creates the file, or empties it.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        let (sender, lines) = mpsc::channel();
        let writer = std::thread::Builder::new().name("sent-file".into()).spawn(move || write_all(file, &lines))?;
        Ok(Self { sender, writer })
    }

    /// One worker's end.
    pub fn log(&self) -> SentLog {
        SentLog { sender: self.sender.clone(), lines: Vec::new(), oldest: None }
    }

    /// Waits for the workers' ends to be dropped and the rest to be written.
    pub fn close(self) -> io::Result<()> {
        drop(self.sender);
        self.writer.join().unwrap_or_else(|_| Err(io::Error::other("the writer of the SENT file ended early")))
    }
}

fn write_all(mut file: File, lines: &Receiver<Vec<u8>>) -> io::Result<()> {
    lines.iter().try_for_each(|batch| file.write_all(&batch))
}

/// Collects lines of one worker and hands them to the writer in batches.
pub struct SentLog {
    sender: Sender<Vec<u8>>,
    lines: Vec<u8>,
    oldest: Option<Instant>,
}

impl SentLog {
    /// Enters one acknowledged message.
    pub fn push(&mut self, message: &Acknowledged<'_>, now: Instant) {
        let Acknowledged { from, to, seq, id, cmid, text } = *message;
        let (conversation, to) = match to {
            To::User(to) => {
                let id = ConversationId::direct(ringpost_gateway::auth::DEFAULT_TENANT, from, to);
                (format!("{id:?}"), to.to_owned())
            }
            To::Group(id) => (format!("g:{}", hex(id)), format!("g:{}", hex(id))),
        };
        let (cmid, sha256) = (hex(&cmid.0), hex(&Sha256::digest(text.as_bytes())));
        let line = Line { conversation: &conversation, from, to: &to, seq, id, cmid: &cmid, sha256: &sha256 };
        if serde_json::to_writer(&mut self.lines, &line).is_ok() {
            self.lines.push(b'\n');
        }
        self.oldest.get_or_insert(now);
    }

    /// Hands over what is old enough; called once a turn.
    pub fn flush(&mut self, now: Instant) {
        if self.oldest.is_some_and(|oldest| now.duration_since(oldest) >= HAND_OVER) {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        self.oldest = None;
        // A writer that has ended has met an error, which `SentFile::close` reports.
        let _ = self.sender.send(std::mem::take(&mut self.lines));
    }
}

impl Drop for SentLog {
    fn drop(&mut self) {
        self.hand_over();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_conversation_position_and_content() {
        let path = std::env::temp_dir().join(format!("flood-sent-{}", std::process::id()));
        let file = SentFile::create(&path).unwrap();
        let mut log = file.log();
        let cmid = ClientMessageId([0xab; 16]);
        log.push(&Acknowledged { from: "u1", to: To::User("u0"), seq: 7, id: 99, cmid, text: "hello" }, Instant::now());
        log.push(
            &Acknowledged { from: "u1", to: To::Group(&[0xcd; 16]), seq: 7, id: 99, cmid, text: "hello" },
            Instant::now(),
        );
        drop(log);
        file.close().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let line = lines.next().unwrap();
        let group = format!("g:{}", "cd".repeat(16));
        assert!(lines.all(|line| line["conversation"] == group && line["to"] == group));
        let conversation = line["conversation"].as_str().unwrap();
        assert_eq!(conversation, format!("{:?}", ConversationId::direct("default", "u0", "u1")));
        assert_eq!((line["from"].as_str(), line["to"].as_str()), (Some("u1"), Some("u0")));
        assert_eq!((line["seq"].as_u64(), line["id"].as_u64()), (Some(7), Some(99)));
        assert_eq!(line["cmid"], "ab".repeat(16));
        assert_eq!(line["sha256"], "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    }

    #[test]
    fn lines_are_handed_over_when_they_are_old_enough() {
        let path = std::env::temp_dir().join(format!("flood-sent-age-{}", std::process::id()));
        let file = SentFile::create(&path).unwrap();
        let mut log = file.log();
        let start = Instant::now();
        let cmid = ClientMessageId([0; 16]);
        log.push(&Acknowledged { from: "a", to: To::User("b"), seq: 1, id: 1, cmid, text: "x" }, start);
        log.flush(start);
        assert!(!log.lines.is_empty(), "a fresh line waits for company");
        log.flush(start + HAND_OVER);
        assert!(log.lines.is_empty());
        drop(log);
        file.close().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        std::fs::remove_file(&path).unwrap();
    }
}
