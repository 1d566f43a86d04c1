//! An answer in lines of JSON, made while it is read: whoever reads slowly makes the work slow, and no memory full.

use super::Failed;
use bytes::Bytes;
use http_body::{Body, Frame};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Chunks that wait for their reader; each is what one page became.
const CHUNKS: usize = 2;

/// Where lines are written. The last one is `{"end":...}`, or `{"error":...}`; without either the answer was cut off.
#[derive(Clone)]
pub struct Lines(mpsc::Sender<Bytes>);

/// The body of the answer.
pub struct LinesBody(mpsc::Receiver<Bytes>);

pub fn lines() -> (Lines, LinesBody) {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    (Lines(sender), LinesBody(receiver))
}

impl Lines {
    /// Waits for the reader. [`Failed::Gone`]: there is none any more.
    pub async fn write(&self, chunk: Vec<u8>) -> Result<(), Failed> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.0.send(chunk.into()).await.map_err(|_| Failed::Gone)
    }

    pub async fn line(&self, name: &str, value: Value) -> Result<(), Failed> {
        let mut chunk = Vec::new();
        push(&mut chunk, name, &value);
        self.write(chunk).await
    }
}

/// Appends a line that is an object with this one member.
pub fn push(chunk: &mut Vec<u8>, name: &str, value: &Value) {
    chunk.extend_from_slice(json!({ name: value }).to_string().as_bytes());
    chunk.push(b'\n');
}

impl Body for LinesBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}
