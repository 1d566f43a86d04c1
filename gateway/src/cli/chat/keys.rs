//! The line that is being typed at a terminal, key by key.
//!
//! Pure. Guarantees: what is typed is valid UTF-8 without control characters; what is drawn takes one row, the end of the line
//! where it is longer. Keys that move the cursor are ignored.

/// Bytes beyond which keys are not taken.
const MOST: usize = 1 << 16;
const PROMPT: &str = "> ";
/// Clears the row (ECMA-48: CR, EL).
pub const CLEAR: &str = "\r\x1b[K";

/// What a key did.
#[derive(Debug, PartialEq)]
pub enum Key {
    Nothing,
    /// The line is another one.
    Changed,
    /// A line to be taken.
    Entered(String),
    /// No more lines.
    End,
    /// Leave at once.
    Quit,
}

/// Where a sequence of a function key is.
#[derive(Debug, Default, PartialEq)]
enum Escape {
    #[default]
    No,
    Begun,
    /// Until its final byte.
    Inside,
}

#[derive(Debug, Default)]
pub struct Line {
    text: String,
    /// Of a character that is not whole.
    partial: Vec<u8>,
    escape: Escape,
}

impl Line {
    pub fn feed(&mut self, byte: u8) -> Key {
        match std::mem::take(&mut self.escape) {
            Escape::Begun if matches!(byte, b'[' | b'O') => {
                self.escape = Escape::Inside;
                return Key::Nothing;
            }
            Escape::Inside if !(0x40..=0x7e).contains(&byte) => {
                self.escape = Escape::Inside;
                return Key::Nothing;
            }
            Escape::Begun | Escape::Inside => return Key::Nothing,
            Escape::No => {}
        }
        match byte {
            b'\r' | b'\n' => Key::Entered(std::mem::take(&mut self.text)),
            0x03 => Key::Quit,
            0x04 if self.text.is_empty() => Key::End,
            0x1b => {
                self.escape = Escape::Begun;
                Key::Nothing
            }
            // Backspace, as terminals send it.
            0x08 | 0x7f => self.cut(|text| text.char_indices().next_back().map_or(0, |(at, _)| at)),
            // Control U and W: the line, the last word.
            0x15 => self.cut(|_| 0),
            0x17 => self.cut(|text| text.trim_end().rfind(char::is_whitespace).map_or(0, |at| at + 1)),
            0x00..0x20 => Key::Nothing,
            byte => self.typed(byte),
        }
    }

    fn cut(&mut self, to: impl Fn(&str) -> usize) -> Key {
        self.partial.clear();
        let to = to(&self.text);
        if to == self.text.len() {
            return Key::Nothing;
        }
        // No place inside of a character.
        self.text = self.text.get(..to).unwrap_or_default().to_owned();
        Key::Changed
    }

    fn typed(&mut self, byte: u8) -> Key {
        self.partial.push(byte);
        let typed = match std::str::from_utf8(&self.partial) {
            Ok(typed) => typed.to_owned(),
            Err(error) if error.error_len().is_none() => return Key::Nothing,
            Err(_) => String::new(),
        };
        self.partial.clear();
        if typed.chars().all(char::is_control) || self.text.len() + typed.len() > MOST {
            return Key::Nothing;
        }
        self.text += &typed;
        Key::Changed
    }

    /// Whether it is a message so far, and no command.
    pub fn is_message(&self) -> bool {
        let text = self.text.trim();
        !text.is_empty() && (!text.starts_with('/') || text.starts_with("//"))
    }

    /// The row of the prompt on a terminal of so many columns.
    pub fn drawn(&self, columns: u16) -> String {
        let mut room = usize::from(columns.max(20)) - PROMPT.len() - 1;
        let mut from = self.text.len();
        for (at, c) in self.text.char_indices().rev() {
            // Some take none and some take two; nobody's row may overflow.
            let width = if c.is_ascii() { 1 } else { 2 };
            if room < width {
                break;
            }
            room -= width;
            from = at;
        }
        format!("{CLEAR}{PROMPT}{}", self.text.get(from..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(line: &mut Line, bytes: &[u8]) -> Vec<Key> {
        bytes.iter().map(|byte| line.feed(*byte)).filter(|key| *key != Key::Nothing).collect()
    }

    #[test]
    fn keys_become_lines() {
        let mut line = Line::default();
        assert_eq!(feed(&mut line, "Grüße\n".as_bytes()).last(), Some(&Key::Entered("Grüße".to_owned())));
        assert_eq!(feed(&mut line, b"abc\x7f\x7fx\r").last(), Some(&Key::Entered("ax".to_owned())));
        assert_eq!(feed(&mut line, b"one two \x17three\n").last(), Some(&Key::Entered("one three".to_owned())));
        assert_eq!(feed(&mut line, "ö\x7f\n".as_bytes()).last(), Some(&Key::Entered(String::new())));
        assert_eq!(feed(&mut line, b"\x04"), [Key::End]);
        assert_eq!(feed(&mut line, b"a\x04\x15\x03"), [Key::Changed, Key::Changed, Key::Quit]);
    }

    #[test]
    fn function_keys_and_bytes_that_are_no_text_leave_nothing() {
        let mut line = Line::default();
        assert_eq!(feed(&mut line, b"\x1b[1;5C\x1bOP\x1b[A\xff\x07"), []);
        assert_eq!(feed(&mut line, b"\x1b[3~ok\n").last(), Some(&Key::Entered("ok".to_owned())));
    }

    #[test]
    fn a_command_is_no_message() {
        for (typed, message) in [("", false), (" ", false), ("/li", false), ("//li", true), ("hi", true)] {
            let mut line = Line::default();
            feed(&mut line, typed.as_bytes());
            assert_eq!(line.is_message(), message, "{typed:?}");
        }
    }

    #[test]
    fn a_long_line_shows_its_end_in_one_row() {
        let mut line = Line::default();
        feed(&mut line, "0123456789ä0123456789".as_bytes());
        assert_eq!(line.drawn(80), format!("{CLEAR}> 0123456789ä0123456789"));
        assert_eq!(line.drawn(20), format!("{CLEAR}> 56789ä0123456789"));
    }
}
