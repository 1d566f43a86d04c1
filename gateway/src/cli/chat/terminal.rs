//! A terminal at both ends: keys instead of lines, and what is shown above the line that is being typed.
//!
//! Owns the mode of the terminal. Guarantees: it is as before when this is dropped.

use super::keys::{CLEAR, Key, Line};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{Write, stdin, stdout};

pub struct Terminal {
    before: Termios,
    line: Line,
    /// The row of the prompt is as it should be.
    drawn: bool,
}

impl Terminal {
    /// `None`: it cannot be had like that, and lines will do.
    pub fn open() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        let mut keys = before.clone();
        // Signals too are keys: they may not leave the terminal in this mode.
        keys.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        tcsetattr(stdin(), OptionalActions::Now, &keys).ok()?;
        Some(Self { before, line: Line::default(), drawn: false })
    }

    /// A byte of the keyboard.
    pub fn feed(&mut self, byte: u8) -> Key {
        let key = self.line.feed(byte);
        self.drawn &= key == Key::Nothing;
        key
    }

    pub fn is_message(&self) -> bool {
        self.line.is_message()
    }

    /// Makes room for a line of something else.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            write(CLEAR);
        }
    }

    /// Shows what is being typed.
    pub fn draw(&mut self) {
        if !std::mem::replace(&mut self.drawn, true) {
            let columns = tcgetwinsize(stdout()).map_or(80, |size| size.ws_col);
            write(&self.line.drawn(columns));
        }
    }
}

/// A terminal that does not take it shows nothing else either.
fn write(text: &str) {
    let mut out = stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

impl Drop for Terminal {
    fn drop(&mut self) {
        write(CLEAR);
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}
