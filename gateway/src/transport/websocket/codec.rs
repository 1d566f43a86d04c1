//! Chunks of a byte stream to messages and control frames.
//!
//! Owns what is incomplete between two chunks, and nothing else: an idle connection is a null pointer here. A frame that
//! lies whole in a chunk (nearly all do) passes without any state. Memory for a message grows with the bytes received,
//! at most twofold, never with the length announced; a message over the limit is refused at its header.
//!
//! Control frames are yielded as soon as they are complete, also between the fragments of a message. After a close
//! frame or a violation nothing more is yielded and all further bytes are dropped.

use bytes::Bytes;

use super::frame::{HEADER_BYTES, Header, Opcode, Role, Violation};
use super::utf8::Utf8;
use super::{close, mask};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Binary,
}

/// What a peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole message; text is valid UTF-8.
    Message {
        kind: Kind,
        payload: Bytes,
    },
    /// To be answered at once by a pong with the same payload.
    Ping(Bytes),
    Pong(Bytes),
    /// The last event. To be answered by a close frame unless one was sent before.
    Close {
        code: Option<u16>,
        reason: Bytes,
    },
}

/// The reading half of one connection.
#[derive(Debug)]
pub struct Decoder {
    /// Present only while something is incomplete, or after the end.
    partial: Option<Box<Partial>>,
    /// Bytes of a message.
    limit: u32,
    role: Role,
}

#[derive(Debug)]
struct Partial {
    stage: Stage,
    /// A fragmented message, or the message whose frame is being received.
    message: Option<Message>,
}

#[derive(Debug)]
enum Stage {
    /// Between two frames of a fragmented message.
    Between,
    /// Within a header: its first `len` bytes.
    Header { bytes: [u8; HEADER_BYTES], len: u8 },
    /// Within a payload: `received` of `header.len` bytes. Those of a control frame are kept here, others in `message`.
    Payload { header: Header, received: u64, control: Vec<u8> },
    /// Closed by the peer or broken: nothing more is read.
    Ended,
}

#[derive(Debug)]
struct Message {
    kind: Kind,
    bytes: Vec<u8>,
    utf8: Utf8,
}

impl Decoder {
    /// `limit`: bytes of the longest message.
    pub fn new(role: Role, limit: u32) -> Self {
        Self { partial: None, limit, role }
    }

    /// Takes bytes from the front of `chunk` (unmasking them in place) until an event is complete; `None` when the chunk
    /// is used up. To be called again until then.
    ///
    /// # Errors
    /// The peer broke the protocol: close with the code of the violation. No event follows.
    pub fn next(&mut self, chunk: &mut &mut [u8]) -> Result<Option<Event>, Violation> {
        let result = self.advance(chunk);
        if matches!(result, Err(_) | Ok(Some(Event::Close { .. }))) {
            self.partial = Some(Box::new(Partial { stage: Stage::Ended, message: None }));
            *chunk = &mut [];
        }
        debug_assert!(self.invariants());
        result
    }

    /// Whether no frame and no message is incomplete.
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Bytes that this connection holds on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            let control = if let Stage::Payload { control, .. } = &partial.stage { control.capacity() } else { 0 };
            size_of::<Partial>() + control + partial.message.as_ref().map_or(0, |message| message.bytes.capacity())
        })
    }

    /// Whether the state is one that the code above can be in: state exists only for what is incomplete, every length
    /// is within its bounds.
    pub fn invariants(&self) -> bool {
        let Some(partial) = &self.partial else { return true };
        let open = partial.message.as_ref();
        let stage = match &partial.stage {
            Stage::Between => open.is_some(),
            Stage::Header { bytes, len } => bytes
                .get(..usize::from(*len))
                .is_some_and(|bytes| !bytes.is_empty() && Header::parse(bytes, self.role) == Ok(None)),
            Stage::Payload { header, received, control } if header.opcode.is_control() => {
                *received < header.len && control.len() as u64 == *received
            }
            Stage::Payload { header, received, control } => {
                *received < header.len
                    && control.is_empty()
                    && open.is_some_and(|message| {
                        message.bytes.len() as u64 >= *received
                            && message.bytes.len() as u64 + header.len - received <= u64::from(self.limit)
                    })
            }
            Stage::Ended => open.is_none(),
        };
        stage && open.is_none_or(|message| message.utf8.invariants() && message.bytes.len() as u64 <= self.limit.into())
    }

    fn advance(&mut self, chunk: &mut &mut [u8]) -> Result<Option<Event>, Violation> {
        while !chunk.is_empty() {
            let event = match self.partial.as_ref().map(|partial| &partial.stage) {
                None | Some(Stage::Between) => self.begin_frame(chunk)?,
                Some(Stage::Header { .. }) => self.resume_header(chunk)?,
                Some(Stage::Payload { .. }) => self.resume_payload(chunk)?,
                Some(Stage::Ended) => {
                    *chunk = &mut [];
                    None
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn begin_frame(&mut self, chunk: &mut &mut [u8]) -> Result<Option<Event>, Violation> {
        if let Some((header, used)) = Header::parse(chunk, self.role)? {
            let _ = chunk.split_off_mut(..used);
            return self.enter_payload(header, chunk);
        }
        // Fewer bytes than a header: all of them belong to it.
        let mut bytes = [0; HEADER_BYTES];
        for (slot, byte) in bytes.iter_mut().zip(chunk.iter()) {
            *slot = *byte;
        }
        self.set_stage(Stage::Header { bytes, len: chunk.len().min(HEADER_BYTES) as u8 });
        *chunk = &mut [];
        Ok(None)
    }

    fn resume_header(&mut self, chunk: &mut &mut [u8]) -> Result<Option<Event>, Violation> {
        let role = self.role;
        let Some(Stage::Header { bytes, len }) = self.stage_mut() else { return Ok(None) };
        while let Some(byte) = chunk.split_off_first_mut() {
            let Some(slot) = bytes.get_mut(usize::from(*len)) else { break };
            *slot = *byte;
            *len += 1;
            let so_far = bytes.get(..usize::from(*len)).unwrap_or_default();
            if let Some((header, _)) = Header::parse(so_far, role)? {
                self.end_frame();
                return self.enter_payload(header, chunk);
            }
        }
        Ok(None)
    }

    fn enter_payload(&mut self, header: Header, chunk: &mut &mut [u8]) -> Result<Option<Event>, Violation> {
        self.admit(&header)?;
        if header.fin
            && header.opcode != Opcode::Continuation
            && let Some(payload) = usize::try_from(header.len).ok().and_then(|len| chunk.split_off_mut(..len))
        {
            unmask(&header, 0, payload);
            return whole_frame(header.opcode, payload).map(Some);
        }
        let kind = match header.opcode {
            Opcode::Text => Some(Kind::Text),
            Opcode::Binary => Some(Kind::Binary),
            _ => None,
        };
        let partial = self.set_stage(Stage::Payload { header, received: 0, control: Vec::new() });
        if let Some(kind) = kind {
            partial.message = Some(Message { kind, bytes: Vec::new(), utf8: Utf8::default() });
        }
        self.resume_payload(chunk)
    }

    /// The order of fragments, and the limit, before any byte is kept.
    fn admit(&self, header: &Header) -> Result<(), Violation> {
        let open = self.partial.as_ref().and_then(|partial| partial.message.as_ref());
        let before = match (header.opcode, open) {
            (Opcode::Continuation, Some(message)) => message.bytes.len() as u64,
            (Opcode::Continuation, None) => return Err(Violation::Protocol("continuation of no message")),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Violation::Protocol("message within a message")),
            (Opcode::Text | Opcode::Binary, None) => 0,
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(()),
        };
        // Neither can overflow: a length has at most 63 bits, what is kept at most 32.
        if before + header.len > u64::from(self.limit) { Err(Violation::TooLarge) } else { Ok(()) }
    }

    fn resume_payload(&mut self, chunk: &mut &mut [u8]) -> Result<Option<Event>, Violation> {
        let Some(partial) = self.partial.as_deref_mut() else { return Ok(None) };
        let Stage::Payload { header, received, control } = &mut partial.stage else { return Ok(None) };
        let missing = usize::try_from(header.len - *received).unwrap_or(usize::MAX);
        let bytes = chunk.split_off_mut(..missing.min(chunk.len())).unwrap_or_default();
        unmask(header, *received, bytes);
        *received += bytes.len() as u64;
        let complete = *received == header.len;
        if header.opcode.is_control() {
            control.extend_from_slice(bytes);
            if !complete {
                return Ok(None);
            }
            let (opcode, payload) = (header.opcode, std::mem::take(control));
            self.end_frame();
            return whole_frame(opcode, &payload).map(Some);
        }
        let last = header.fin;
        if let Some(message) = &mut partial.message {
            message.push(bytes, missing)?;
        }
        match complete {
            true if last => self.end_message(),
            true => {
                self.end_frame();
                Ok(None)
            }
            false => Ok(None),
        }
    }

    fn end_message(&mut self) -> Result<Option<Event>, Violation> {
        let Some(message) = self.partial.take().and_then(|partial| partial.message) else { return Ok(None) };
        if message.kind == Kind::Text {
            message.utf8.finish().map_err(|_| Violation::InvalidText)?;
        }
        Ok(Some(Event::Message { kind: message.kind, payload: message.bytes.into() }))
    }

    /// Leaves the frame; what remains is an open message or nothing.
    fn end_frame(&mut self) {
        match self.partial.as_deref_mut() {
            Some(partial) if partial.message.is_some() => partial.stage = Stage::Between,
            _ => self.partial = None,
        }
    }

    fn stage_mut(&mut self) -> Option<&mut Stage> {
        self.partial.as_deref_mut().map(|partial| &mut partial.stage)
    }

    fn set_stage(&mut self, stage: Stage) -> &mut Partial {
        let partial = self.partial.get_or_insert_with(|| Box::new(Partial { stage: Stage::Between, message: None }));
        partial.stage = stage;
        partial
    }
}

impl Message {
    /// Appends the next bytes; `missing` bytes of the frame, these included, were still to come.
    fn push(&mut self, bytes: &[u8], missing: usize) -> Result<(), Violation> {
        if self.kind == Kind::Text {
            self.utf8.feed(bytes).map_err(|_| Violation::InvalidText)?;
        }
        if self.bytes.capacity() - self.bytes.len() < bytes.len() {
            let doubled = self.bytes.len().min(missing);
            self.bytes.reserve_exact(doubled.max(bytes.len()));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

fn unmask(header: &Header, offset: u64, bytes: &mut [u8]) {
    if let Some(key) = header.key {
        // Only the offset modulo four counts.
        mask::apply(key, (offset % 4) as usize, bytes);
    }
}

/// The event of a frame that is complete and no fragment.
fn whole_frame(opcode: Opcode, payload: &[u8]) -> Result<Event, Violation> {
    let kind = match opcode {
        Opcode::Ping => return Ok(Event::Ping(Bytes::copy_from_slice(payload))),
        Opcode::Pong => return Ok(Event::Pong(Bytes::copy_from_slice(payload))),
        Opcode::Close => {
            let (code, reason) = close::parse(payload)?;
            return Ok(Event::Close { code, reason: Bytes::copy_from_slice(reason.as_bytes()) });
        }
        Opcode::Text => Kind::Text,
        Opcode::Binary | Opcode::Continuation => Kind::Binary,
    };
    if kind == Kind::Text {
        simdutf8::basic::from_utf8(payload).map_err(|_| Violation::InvalidText)?;
    }
    Ok(Event::Message { kind, payload: Bytes::copy_from_slice(payload) })
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
