//! The client against a scripted server, in virtual time.

mod arrivals;
mod connection;
mod sends;

use super::*;
use crate::v1::code::Value as Code;

struct Bench {
    client: Client,
    now: u64,
}

fn bob() -> Peer {
    Peer::User("bob".into())
}

fn to_bob() -> Option<v1::Peer> {
    Some(v1::Peer { peer: Some(bob()) })
}

fn message(cmid: u8) -> v1::Send {
    let body = Some(v1::send::Body::Text(format!("message {cmid}")));
    v1::Send { to: to_bob(), client_message_id: vec![cmid; 16].into(), body, ..Default::default() }
}

fn record(seq: Seq) -> v1::Record {
    v1::Record { conversation: to_bob(), seq, from: "bob".into(), ..Default::default() }
}

impl Bench {
    fn new(auto_store: bool) -> Self {
        Self { client: Client::new(0, 1, auto_store), now: 0 }
    }

    fn online(auto_store: bool) -> Self {
        let mut bench = Self::new(auto_store);
        bench.open(v1::Welcome::default());
        bench
    }

    /// Waits for the client to connect, answers its hello, and gives that hello back.
    fn open(&mut self, welcome: v1::Welcome) -> v1::Hello {
        if let Some(at) = self.client.next_timeout_ms() {
            self.now = self.now.max(at);
        }
        self.client.timeout(self.now);
        assert_eq!(self.client.poll_event(), Some(Event::Connect));
        self.client.connected(self.now, String::new());
        let hello = self.client.poll_transmit(self.now).unwrap();
        assert_eq!(self.client.poll_transmit(self.now), None, "nothing follows hello before welcome");
        self.answer(hello.id, Answer::Welcome(v1::Welcome { heartbeat_ms: 30_000, ..welcome }));
        assert!(matches!(self.client.poll_event(), Some(Event::Welcome { .. })));
        match hello.request {
            Some(Request::Hello(hello)) => hello,
            other => panic!("{other:?} is no hello"),
        }
    }

    fn answer(&mut self, re: u64, answer: Answer) {
        self.client.frame(self.now, v1::ServerFrame { re, answer: Some(answer) });
    }

    fn push(&mut self, n: u64, record: v1::Record) {
        self.answer(0, Answer::Push(v1::Push { n, item: Some(push_item(record)) }));
    }

    fn frames(&mut self) -> Vec<v1::ClientFrame> {
        std::iter::from_fn(|| self.client.poll_transmit(self.now)).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    /// The seqs of the records that reach the app, in order.
    fn records(&mut self) -> Vec<Seq> {
        let seq_of = |event| match event {
            Event::Record { record, .. } => Some(record.seq),
            _ => None,
        };
        self.events().into_iter().filter_map(seq_of).collect()
    }

    fn acks(&mut self) -> Vec<u64> {
        let ack_of = |frame: v1::ClientFrame| match frame.request {
            Some(Request::Ack(ack)) => Some(ack.push),
            _ => None,
        };
        self.frames().into_iter().filter_map(ack_of).collect()
    }

    fn one_frame(&mut self) -> v1::ClientFrame {
        let mut frames = self.frames();
        assert_eq!(frames.len(), 1, "{frames:?}");
        frames.remove(0)
    }

    fn cut(&mut self, code: u16) {
        self.client.disconnected(self.now, code);
    }
}

fn push_item(record: v1::Record) -> v1::push::Item {
    v1::push::Item::Record(record)
}

fn refusal(code: Code, retryable: bool, retry_after_ms: u64) -> Answer {
    Answer::Error(v1::Error { code: code as i32, retryable, retry_after_ms, ..Default::default() })
}
