//! Completions of the ring, and what the bytes say: response heads, frames, the end.

use super::{Dialect, Down, Event, Links, Phase, SPARE_BUFFERS};
use crate::load::worker::User;
use bytes::Bytes;
use ringpost_gateway::ring::{Completion, Payload, RecvEnd};
use ringpost_gateway::transport::http::opening;
use ringpost_gateway::transport::websocket::{Event as Frame, Opcode, encode};

impl Links<'_> {
    pub(super) fn complete(&mut self, completion: Completion, now: u64) {
        match completion {
            Completion::Connected { handle, result } => {
                if let Some(user) = self.user(handle) {
                    self.connected(user, result);
                }
            }
            Completion::Received { handle, mut bytes } => {
                if let Some(user) = self.user(handle) {
                    self.received(user, &mut bytes, now);
                }
            }
            Completion::RecvEnded { handle, why } => {
                if let Some(user) = self.user(handle) {
                    let reason = match why {
                        RecvEnd::Eof | RecvEnd::Paused => "connection closed".to_owned(),
                        RecvEnd::Error(errno) => std::io::Error::from(errno).to_string(),
                    };
                    self.down(user, &reason, None);
                }
            }
            Completion::Sent { handle, payload, .. } => {
                if let Payload::Owned(mut buffer) = payload
                    && self.spare.len() < SPARE_BUFFERS
                {
                    buffer.clear();
                    self.spare.push(buffer);
                }
                // A failed send shows as the end of the receive.
                if let Some(user) = self.user(handle)
                    && let Some(link) = self.links.get_mut(user as usize)
                {
                    link.sending = false;
                    if !link.outbox.is_empty() {
                        self.list(user);
                    }
                }
            }
            Completion::Closed { .. }
            | Completion::Accepted { .. }
            | Completion::AcceptFailed { .. }
            | Completion::Arrived { .. }
            | Completion::Departed { .. } => {}
        }
    }

    fn received(&mut self, user: User, mut bytes: &mut [u8], now: u64) {
        let Some(phase) = self.links.get(user as usize).map(|link| link.phase) else { return };
        match (&self.target.dialect, phase) {
            (Dialect::Raw, _) => {
                self.pending.push(Event::Message { user, payload: Bytes::copy_from_slice(bytes), at: now });
            }
            (_, Phase::Upgrading) => self.upgrading(user, bytes, now),
            _ => self.frames(user, &mut bytes, now),
        }
    }

    fn upgrading(&mut self, user: User, bytes: &[u8], now: u64) {
        let at = self.heads.iter().position(|(of, _)| *of == user);
        let mut head = at.map(|at| self.heads.swap_remove(at).1).unwrap_or_default();
        head.extend_from_slice(bytes);
        match opening::answer(&head) {
            opening::Answer::More => self.heads.push((user, head)),
            opening::Answer::Refused(why) => self.down(user, &why.line, Some(Down::Refused { code: None })),
            opening::Answer::Switched { head: end } => {
                self.opened(user);
                if let Some(mut rest) = head.get_mut(end..) {
                    self.frames(user, &mut rest, now);
                }
            }
        }
    }

    fn frames(&mut self, user: User, chunk: &mut &mut [u8], at: u64) {
        loop {
            let Some(link) = self.links.get_mut(user as usize) else { return };
            match link.decoder.next(chunk) {
                Ok(Some(Frame::Message { payload, .. })) => self.pending.push(Event::Message { user, payload, at }),
                Ok(Some(Frame::Ping(payload))) => {
                    let key = self.draw();
                    if let Some(out) = self.outbox(user) {
                        encode::masked(out, Opcode::Pong, &payload, key);
                    }
                    self.pending.push(Event::Activity { user, at });
                }
                Ok(Some(Frame::Pong(_))) => self.pending.push(Event::Activity { user, at }),
                Ok(Some(Frame::Close { code, reason })) => {
                    let said = format!("close {}: {}", code.unwrap_or(1005), String::from_utf8_lossy(&reason));
                    let lost = matches!(self.links.get(user as usize), Some(link) if link.phase == Phase::Up);
                    let why = if lost { Down::Lost { code } } else { Down::Refused { code } };
                    return self.down(user, &said, Some(why));
                }
                Ok(None) => return,
                Err(violation) => {
                    return self.down(user, &format!("server broke RFC 6455: {}", violation.reason()), None);
                }
            }
        }
    }
}
