//! What is typed or piped in, on a thread of its own.

use super::Input;
use std::io::{BufRead, Read};
use std::sync::mpsc::{Sender, SyncSender, channel};

/// Bytes of the longest line that is read; the server takes 65,536.
const MOST_LINE: u64 = 1 << 20;

/// Hands lines over, each for one credit.
pub fn lines(sender: SyncSender<Input>) -> Sender<()> {
    let (credit, allowed) = channel();
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut too_long = false;
        while allowed.recv().is_ok() {
            let mut line = Vec::new();
            // An input that cannot be read has ended.
            let read = stdin.by_ref().take(MOST_LINE).read_until(b'\n', &mut line).unwrap_or(0);
            let whole = line.ends_with(b"\n") || (line.len() as u64) < MOST_LINE;
            let input = match String::from_utf8(line) {
                _ if read == 0 => Input::End,
                _ if too_long || !whole => Input::BadLine(if too_long { "" } else { "the line is longer than 1 MiB" }),
                Ok(line) => Input::Line(line),
                Err(_) => Input::BadLine("the line is no UTF-8"),
            };
            too_long = !whole;
            if sender.send(input).is_err() || read == 0 {
                return;
            }
        }
    });
    credit
}

/// Hands keys over as they come; credits are for lines.
pub fn keys(sender: SyncSender<Input>) -> Sender<()> {
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut bytes = [0; 256];
        loop {
            let read = stdin.read(&mut bytes).unwrap_or(0);
            let input = if read == 0 { Input::End } else { Input::Keys(bytes[..read].to_vec()) };
            if sender.send(input).is_err() || read == 0 {
                return;
            }
        }
    });
    channel().0
}
