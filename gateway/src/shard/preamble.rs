//! Connections of the listener that is for proxies: each begins with a PROXY header, which says for whom it is.
//!
//! Guarantees: nothing is answered, nor taken for HTTP, before the header of a trusted proxy is complete; its time counts as
//! the request head's does. Once it is read nothing of it is kept: the connection is as one of the other listener, from the
//! address that the header names. Never does: believe anybody who is not named in `trusted_proxies`.

use super::Shard;
use super::conn::State;
use super::stats::Stat;
use crate::address::proxy::Reader;
use crate::mesh::Errand;
use crate::ring::Handle;
use std::net::IpAddr;

/// A header that is not complete.
#[derive(Debug)]
pub(super) struct Preamble {
    /// Who sends it, and who counts where it names nobody.
    proxy: IpAddr,
    reader: Reader,
}

impl Preamble {
    pub fn new(proxy: IpAddr) -> Self {
        Self { proxy, reader: Reader::default() }
    }
}

impl Shard {
    /// `peer`: absent where the kernel did not tell; nobody is trusted then.
    pub(super) fn accepted_from_proxy(&mut self, handle: Handle, peer: Option<IpAddr>) {
        match peer.filter(|peer| self.setup.addresses.is_trusted(*peer)) {
            Some(proxy) => {
                self.enter(handle, State::Preamble(Box::new(Preamble::new(proxy))));
                self.find_room(handle, Errand::Preamble(proxy));
            }
            None => self.refuse_proxy(handle, Stat::RefusedProxyUntrusted),
        }
    }

    /// Takes bytes of the header from the chunk.
    pub(super) fn feed_preamble(&mut self, handle: Handle, chunk: &mut &mut [u8]) {
        let Some(conn) = self.conns.get(handle) else { return };
        let State::Preamble(preamble) = &mut conn.state else { return };
        let mut bytes: &[u8] = chunk;
        let read = preamble.reader.read(&mut bytes);
        let (proxy, used) = (preamble.proxy, chunk.len() - bytes.len());
        *chunk = std::mem::take(chunk).get_mut(used..).unwrap_or_default();
        match read {
            Ok(None) => {}
            Ok(Some(source)) => {
                self.enter(handle, State::Head(None));
                self.count_address(handle, source.unwrap_or(proxy));
            }
            Err(_) => self.refuse_proxy(handle, Stat::RefusedProxyHeader),
        }
    }

    /// Without an answer: who does not speak this protocol would not understand one.
    fn refuse_proxy(&mut self, handle: Handle, why: Stat) {
        self.stats.add(why, 1);
        self.abort(handle, Stat::ClosedProxy);
    }
}
