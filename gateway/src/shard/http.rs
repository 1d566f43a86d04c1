//! HTTP on a connection: request heads, and the exchange with the control plane for what is no upgrade.

use super::Shard;
use super::conn::{Http, State, flag};
use super::edge::{self, CHUNK_BYTES, EdgePart, EdgeStep};
use super::stats::Stat;
use crate::ring::Handle;
use crate::transport::http::{
    BodyReader, HeadReader, Refusal, RequestHead, ResponseFraming, response, upgrade::Endpoint,
};
use http::{HeaderMap, StatusCode};
use ringpost_router::ConnRef;

/// Bytes of a request's body: what is larger does not go through the gateway (media has its own way).
const BODY_BYTES: u64 = 1 << 20;

impl Shard {
    pub(super) fn conn_ref(&self, handle: Handle) -> ConnRef {
        ConnRef { shard: self.id, slot: handle.slot, generation: handle.generation }
    }

    /// Takes bytes of a request head from the chunk.
    pub(super) fn feed_head(&mut self, handle: Handle, chunk: &mut &mut [u8]) {
        let Some(conn) = self.conns.get(handle) else { return };
        let State::Head(kept) = &mut conn.state else { return };
        let mut reader = kept.take().map_or_else(HeadReader::default, |kept| *kept);
        let mut bytes: &[u8] = chunk;
        let read = reader.read(&mut bytes);
        let used = chunk.len() - bytes.len();
        match read {
            Ok(None) => *kept = Some(Box::new(reader)),
            Ok(Some(head)) => self.request(handle, head),
            Err(refusal) => self.refuse(handle, &refusal, Stat::RefusedHead, false),
        }
        *chunk = std::mem::take(chunk).get_mut(used..).unwrap_or_default();
    }

    fn request(&mut self, handle: Handle, head: RequestHead) {
        match Endpoint::of(head.path(), self.setup.config.dev) {
            Some(endpoint) => self.upgrade(handle, endpoint, &head),
            None => self.ask_edge(handle, head),
        }
    }

    /// Answers with an error and ends the connection.
    pub(super) fn refuse(&mut self, handle: Handle, refusal: &Refusal, why: Stat, head_only: bool) {
        self.stats.add(why, 1);
        self.write(handle, |out| response::refusal(out, refusal, head_only));
        self.close_after_output(handle, Stat::ClosedHttp, true);
    }

    fn ask_edge(&mut self, handle: Handle, head: RequestHead) {
        let head_only = head.method() == "HEAD";
        if let Err(exceeded) = self.charge_ticket(handle, &head) {
            return self.refuse_address(handle, exceeded, head_only);
        }
        if self.edge_in_flight >= edge::IN_FLIGHT {
            return self.refuse(handle, &BUSY, Stat::RefusedOverloaded, head_only);
        }
        let (request, body) = match (head.to_request(), BodyReader::new(head.body(), BODY_BYTES)) {
            (Ok(request), Ok(body)) => (request, body),
            (Err(refusal), _) | (_, Err(refusal)) => {
                return self.refuse(handle, &refusal, Stat::RefusedHead, head_only);
            }
        };
        let has_body = !body.is_done();
        let (request, exchange) = edge::exchange(request, has_body, None, self.conn_ref(handle), &self.port);
        // Counted before it is sent: dropped, it ends itself.
        self.edge_in_flight += 1;
        self.stats.add(Stat::HttpRequests, 1);
        if self.setup.edge.try_send(request).is_err() {
            return self.refuse(handle, &BUSY, Stat::RefusedOverloaded, head_only);
        }
        if head.expects_continue() {
            self.write(handle, |out| out.extend_from_slice(response::CONTINUE));
        }
        let http = Http {
            head,
            exchange,
            body,
            chunk: Vec::new(),
            awaits_credit: false,
            body_ended: !has_body,
            response: None,
            owes_credit: false,
        };
        self.enter(handle, State::Http(Box::new(http)));
        self.arm_http(handle);
    }

    /// Takes bytes of a request body from the chunk; what follows it waits until the response is out.
    pub(super) fn feed_body(&mut self, handle: Handle, chunk: &mut &mut [u8]) {
        let Some(conn) = self.conns.get(handle) else { return };
        let State::Http(http) = &mut conn.state else { return };
        let mut bytes: &[u8] = chunk;
        let mut broken = None;
        while http.chunk.len() < CHUNK_BYTES {
            match http.body.read(&mut bytes) {
                Ok(Some(piece)) => http.chunk.extend_from_slice(piece),
                Ok(None) => break,
                Err(refusal) => {
                    broken = Some(refusal);
                    break;
                }
            }
        }
        let used = chunk.len() - bytes.len();
        *chunk = std::mem::take(chunk).get_mut(used..).unwrap_or_default();
        match broken {
            // An answer has begun: all that is left is to end it.
            Some(_) if http.response.is_some() => self.abort(handle, Stat::ClosedHttp),
            Some(refusal) => self.refuse(handle, &refusal, Stat::RefusedHead, false),
            None => {
                let more = !chunk.is_empty();
                self.pass_body_on(handle, more);
            }
        }
    }

    /// Hands the next chunk, or the end, to the control plane as far as its credit goes. `more`: bytes have arrived that
    /// cannot be taken now.
    fn pass_body_on(&mut self, handle: Handle, more: bool) {
        let Some(conn) = self.conns.get(handle) else { return };
        let State::Http(http) = &mut conn.state else { return };
        if !http.awaits_credit && !http.chunk.is_empty() {
            let chunk = std::mem::take(&mut http.chunk);
            // Refused: nobody reads it; the rest is read only to find its end.
            http.awaits_credit = http.exchange.body_chunk(chunk.into());
        }
        if http.body.is_done() && http.chunk.is_empty() && !http.body_ended {
            http.body_ended = true;
            http.exchange.body_end();
        }
        let full = http.chunk.len() >= CHUNK_BYTES;
        if more || full {
            self.pause(handle, flag::PAUSED_LOGIC);
        } else if !http.body.is_done() {
            self.unpause(handle, flag::PAUSED_LOGIC);
        }
    }

    /// One step of an answer. Those of connections that are gone, or were refused meanwhile, are only counted.
    pub(super) fn edge_step(&mut self, part: EdgePart) {
        let handle = Handle { slot: part.conn.slot, generation: part.conn.generation };
        let ended = matches!(part.step, EdgeStep::End { .. });
        self.edge_in_flight -= usize::from(ended);
        let Some(conn) = self.conns.get(handle) else { return };
        let State::Http(http) = &mut conn.state else { return };
        match part.step {
            EdgeStep::Head { status, headers, length } => {
                let framing = ResponseFraming::of(&http.head, status, length, !self.draining);
                http.response = Some(framing);
                self.write(handle, |out| response::head(out, status, &headers, framing));
            }
            EdgeStep::Chunk(data) => {
                http.owes_credit = true;
                if let Some(framing) = http.response {
                    self.write(handle, |out| framing.chunk(out, &data));
                }
            }
            EdgeStep::Credit => {
                http.awaits_credit = false;
                self.pass_body_on(handle, false);
            }
            EdgeStep::End { aborted } => self.answered(handle, aborted),
        }
    }

    /// The control plane is done with the request.
    fn answered(&mut self, handle: Handle, aborted: bool) {
        let Some(conn) = self.conns.get(handle) else { return };
        let State::Http(http) = &mut conn.state else { return };
        let (response, body_ended, ended) = (http.response, http.body.is_done(), conn.is(flag::EOF));
        let framing = match (response, aborted) {
            (Some(framing), false) => framing,
            // Cut off in the middle: the client must see that it is not whole.
            (Some(_), true) => return self.abort(handle, Stat::ClosedHttp),
            (None, _) => return self.internal_error(handle),
        };
        self.write(handle, |out| framing.end(out));
        if framing.keep_alive && body_ended && !ended && !self.draining {
            self.enter(handle, State::Head(None));
            self.wheel.arm(handle.slot, self.now.mono_ms + self.setup.config.authenticate_ms);
            self.unpause(handle, flag::PAUSED_LOGIC);
        } else {
            self.close_after_output(handle, Stat::ClosedHttp, true);
        }
    }

    fn internal_error(&mut self, handle: Handle) {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let Some(conn) = self.conns.get(handle) else { return };
        let State::Http(http) = &conn.state else { return };
        let framing = ResponseFraming::of(&http.head, status, Some(0), false);
        self.write(handle, |out| response::head(out, status, &HeaderMap::new(), framing));
        self.close_after_output(handle, Stat::ClosedHttp, true);
    }
}

const BUSY: Refusal = Refusal::unavailable("too many requests at once", "1");
