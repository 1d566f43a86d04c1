use proptest::prelude::*;

use super::*;
use crate::transport::websocket::encode;

const LIMIT: u32 = 1 << 20;

/// Feeds `bytes` in pieces of the given lengths (repeated), and gives all events and how it ended.
fn decode(bytes: &[u8], pieces: &[usize], limit: u32) -> (Vec<Event>, Option<Violation>) {
    let mut decoder = Decoder::new(Role::Server, limit);
    let mut events = Vec::new();
    let mut rest = bytes.to_vec();
    let mut sizes = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let tail = rest.split_off(sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len()));
        let mut chunk = &mut rest[..];
        loop {
            match decoder.next(&mut chunk) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(violation) => return (events, Some(violation)),
            }
            assert!(decoder.invariants());
        }
        rest = tail;
    }
    (events, None)
}

fn text(payload: &'static str) -> Event {
    Event::Message { kind: Kind::Text, payload: Bytes::from_static(payload.as_bytes()) }
}

fn frame(fin: bool, opcode: Opcode, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::masked(&mut out, opcode, payload, key);
    if !fin {
        out[0] &= 0x7f;
    }
    out
}

#[test]
fn a_ping_between_fragments_is_answered_before_the_message() {
    let mut bytes = b"\x01\x85\0\0\0\0hello".to_vec();
    bytes.extend(b"\x89\x82\0\0\0\0hi");
    bytes.extend(b"\x80\x85\0\0\0\0world");
    let expected = (vec![Event::Ping(Bytes::from_static(b"hi")), text("helloworld")], None);
    for pieces in [&[bytes.len()][..], &[1], &[11, 8, 11], &[3, 1, 7]] {
        assert_eq!(decode(&bytes, pieces, LIMIT), expected);
    }
}

#[test]
fn broken_sequences_of_frames_end_with_a_protocol_error() {
    let mut long_ping = b"\x89\xfe\0\x7e\0\0\0\0".to_vec();
    long_ping.extend([0; 126]);
    for bytes in
        [b"\x09\x81\0\0\0\0a".as_slice(), &long_ping, b"\x80\x81\0\0\0\0a", b"\x01\x81\0\0\0\0a\x81\x81\0\0\0\0b"]
    {
        for pieces in [&[bytes.len()][..], &[1]] {
            let (events, end) = decode(bytes, pieces, LIMIT);
            assert_eq!(events, []);
            assert_eq!(end.map(Violation::close_code), Some(close::PROTOCOL_ERROR));
        }
    }
}

#[test]
fn a_message_over_the_limit_is_refused_before_memory_is_taken() {
    let mut decoder = Decoder::new(Role::Server, 1000);
    let mut header = *b"\x82\xff\0\0\0\x7f\xff\xff\xff\xff\0\0\0\0";
    assert_eq!(decoder.next(&mut &mut header[..]), Err(Violation::TooLarge));
    assert!(decoder.heap_bytes() < 200);

    let fragments =
        [frame(false, Opcode::Binary, &[0; 600], [0; 4]), frame(true, Opcode::Continuation, &[0; 401], [0; 4])];
    assert_eq!(decode(&fragments.concat(), &[usize::MAX], 1000), (vec![], Some(Violation::TooLarge)));
    let (events, end) = decode(&frame(true, Opcode::Binary, &[0; 1000], [0; 4]), &[64], 1000);
    assert_eq!((events.len(), end), (1, None), "the limit itself is allowed");
}

#[test]
fn memory_follows_the_bytes_received_and_is_given_back() {
    let bytes = frame(true, Opcode::Binary, &vec![7; 300_000], [1, 2, 3, 4]);
    let mut decoder = Decoder::new(Role::Server, LIMIT);
    let mut received = 0;
    let mut done = 0;
    for piece in bytes.chunks(4096) {
        let mut piece = piece.to_vec();
        received += piece.len();
        let mut chunk = &mut piece[..];
        while let Some(event) = decoder.next(&mut chunk).unwrap() {
            assert_eq!(event, Event::Message { kind: Kind::Binary, payload: vec![7; 300_000].into() });
            done += 1;
        }
        assert!(decoder.heap_bytes() <= 2 * received + 256, "{} for {received}", decoder.heap_bytes());
    }
    assert_eq!(done, 1);
    assert!(decoder.is_idle());
}

#[test]
fn invalid_text_is_refused_at_its_first_bad_byte() {
    let mut bytes = frame(true, Opcode::Text, b"abc\xf4\x90 and much more to come", [9; 4]);
    bytes.truncate(6 + 5);
    assert_eq!(decode(&bytes, &[1], LIMIT), (vec![], Some(Violation::InvalidText)));
    let half = frame(true, Opcode::Text, b"\xe2\x82", [0; 4]);
    for pieces in [&[1], &[usize::MAX]] {
        assert_eq!(decode(&half, pieces, LIMIT), (vec![], Some(Violation::InvalidText)));
    }
}

#[test]
fn nothing_is_read_after_a_close() {
    let mut bytes = frame(true, Opcode::Close, b"\x03\xe8bye", [0; 4]);
    bytes.extend(frame(true, Opcode::Text, b"late", [0; 4]));
    let expected = vec![Event::Close { code: Some(1000), reason: Bytes::from_static(b"bye") }];
    assert_eq!(decode(&bytes, &[1], LIMIT), (expected.clone(), None));
    assert_eq!(decode(&bytes, &[usize::MAX], LIMIT), (expected, None));
}

#[test]
fn a_client_reads_what_a_server_writes() {
    let mut bytes = Vec::new();
    encode::message(&mut bytes, Opcode::Text, b"hi");
    encode::close(&mut bytes, 4000, "later");
    let mut decoder = Decoder::new(Role::Client, LIMIT);
    let mut chunk = &mut bytes[..];
    assert_eq!(decoder.next(&mut chunk), Ok(Some(text("hi"))));
    let close = Event::Close { code: Some(4000), reason: Bytes::from_static(b"later") };
    assert_eq!(decoder.next(&mut chunk), Ok(Some(close)));
    assert_eq!(decoder.next(&mut chunk), Ok(None));
}

#[test]
fn an_idle_decoder_is_two_words() {
    assert_eq!(size_of::<Decoder>(), 16);
}

/// A conversation as a client may send it: messages in fragments, control frames anywhere between them.
fn conversation() -> impl Strategy<Value = (Vec<u8>, Vec<Event>)> {
    let payload = prop_oneof![
        any::<String>().prop_map(|text| (Kind::Text, text.into_bytes())),
        prop::collection::vec(any::<u8>(), 0..400).prop_map(|bytes| (Kind::Binary, bytes)),
    ];
    let control = prop::option::of((any::<bool>(), prop::collection::vec(any::<u8>(), 0..126)));
    let fragments = prop::collection::vec((any::<prop::sample::Index>(), control, any::<[u8; 4]>()), 1..4);
    prop::collection::vec((payload, fragments), 0..6).prop_map(|messages| {
        let (mut bytes, mut events) = (Vec::new(), Vec::new());
        for ((kind, payload), fragments) in messages {
            let mut rest = &payload[..];
            let last = fragments.len() - 1;
            for (at, (cut, control, key)) in fragments.into_iter().enumerate() {
                let (piece, tail) = rest.split_at(if at == last { rest.len() } else { cut.index(rest.len() + 1) });
                rest = tail;
                let opcode = match kind {
                    _ if at > 0 => Opcode::Continuation,
                    Kind::Text => Opcode::Text,
                    Kind::Binary => Opcode::Binary,
                };
                bytes.extend(frame(at == last, opcode, piece, key));
                if at == last {
                    events.push(Event::Message { kind, payload: payload.clone().into() });
                }
                if let Some((ping, payload)) = control {
                    bytes.extend(frame(true, if ping { Opcode::Ping } else { Opcode::Pong }, &payload, key));
                    events.push(if ping { Event::Ping(payload.into()) } else { Event::Pong(payload.into()) });
                }
            }
        }
        (bytes, events)
    })
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_events(
        (bytes, expected) in conversation(),
        pieces in prop::collection::vec(1usize..40, 1..12),
    ) {
        prop_assert_eq!(decode(&bytes, &[usize::MAX], LIMIT), (expected.clone(), None));
        prop_assert_eq!(decode(&bytes, &[1], LIMIT), (expected.clone(), None));
        prop_assert_eq!(decode(&bytes, &pieces, LIMIT), (expected, None));
    }

    /// One byte changed somewhere: whatever comes of it, it is the same for every chunking, and never a panic.
    #[test]
    fn damaged_bytes_give_the_same_events_in_any_chunking(
        (mut bytes, _) in conversation(),
        at: prop::sample::Index,
        byte: u8,
        pieces in prop::collection::vec(1usize..40, 1..12),
    ) {
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = decode(&bytes, &[usize::MAX], 2000);
        prop_assert_eq!(decode(&bytes, &pieces, 2000), whole);
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>, pieces in prop::collection::vec(1usize..9, 1..5), limit in 0u32..300) {
        decode(&bytes, &pieces, limit);
    }
}
