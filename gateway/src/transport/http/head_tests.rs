use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Result<Option<RequestHead>, Refusal> {
    HeadReader::default().read(&mut &bytes[..])
}

fn head(lines: &str) -> Result<RequestHead, Refusal> {
    read(format!("GET /a?b=c HTTP/1.1\r\nHost: x\r\n{lines}\r\n").as_bytes()).map(|head| head.expect("complete"))
}

fn status(result: Result<RequestHead, Refusal>) -> u16 {
    result.map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
}

#[test]
fn a_head_ends_with_its_empty_line_wherever_it_is_cut() {
    let bytes = b"POST /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    for cut in 0..bytes.len() {
        let mut reader = HeadReader::default();
        let (mut first, mut second) = bytes.split_at(cut);
        let (head, rest) = match reader.read(&mut first).unwrap() {
            Some(head) => (head, [first, second].concat()),
            None => (reader.read(&mut second).unwrap().unwrap(), second.to_vec()),
        };
        assert_eq!((head.method(), head.path(), head.query()), ("POST", "/x", Some("y")));
        assert_eq!(head.body(), BodyLength::Bytes(5));
        assert_eq!(rest, b"hello", "cut at {cut}");
        assert!(reader.is_idle());
    }
}

#[test]
fn the_limit_counts_up_to_and_including_the_empty_line() {
    let with = |total: usize| {
        let start = b"GET / HTTP/1.1\r\nHost: x\r\nA: ";
        let mut bytes = start.to_vec();
        bytes.resize(total - 4, b'a');
        bytes.extend(b"\r\n\r\n");
        bytes.extend([b'z'; 20_000]);
        bytes
    };
    assert!(read(&with(HEAD_BYTES)).unwrap().is_some());
    assert_eq!(read(&with(HEAD_BYTES + 1)).unwrap_err().status, 431);
    let mut reader = HeadReader::default();
    let one_by_one = with(HEAD_BYTES + 1);
    let refused = one_by_one.chunks(1).enumerate().find_map(|(at, byte)| reader.read(&mut &byte[..]).err().map(|_| at));
    assert_eq!(refused, Some(HEAD_BYTES - 1), "at the last byte that could have completed it");
    assert_eq!(read(&vec![b'\n'; HEAD_BYTES]).unwrap_err().status, 431, "empty lines count");
    let many = "a: b\r\n".repeat(HEADERS);
    assert_eq!(status(head(&many)), 431);
}

#[test]
fn what_two_parsers_may_read_differently_is_refused() {
    for lines in [
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 1\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "A: b\r\n folded\r\n",
        "A: b\n",
        "A: b\rc\r\n",
        "A: b\0c\r\n",
        "A b: c\r\n",
        "Host: y\r\n",
        ": empty\r\n",
    ] {
        assert_eq!(status(head(lines)), 400, "{lines:?}");
    }
    assert_eq!(status(head("Transfer-Encoding: gzip, chunked\r\n")), 501);
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /#f HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ] {
        assert_eq!(read(bytes).unwrap_err().status, 400, "{}", bytes.escape_ascii());
    }
}

#[test]
fn ordinary_requests_are_understood() {
    let found = read(b"\r\n\nOPTIONS * HTTP/1.0\r\n\r\n").unwrap().unwrap();
    assert_eq!((found.method(), found.target(), found.wants_keep_alive()), ("OPTIONS", "*", false));
    let found = read(b"GET http://h:1/p?q HTTP/1.1\r\nHost: h:1\r\n\r\n").unwrap().unwrap();
    assert_eq!((found.path(), found.query(), found.wants_keep_alive()), ("/p", Some("q"), true));
    assert_eq!(read(b"GET /u://v HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().unwrap().path(), "/u://v");
    assert_eq!(head("Transfer-Encoding: Chunked\r\n").unwrap().body(), BodyLength::Chunked);
    assert_eq!(head("Content-Length: 0\r\n").unwrap().body(), BodyLength::None);
    assert!(!head("Connection: foo, Close\r\n").unwrap().wants_keep_alive());
    assert!(head("Expect: 100-Continue\r\nContent-Length: 1\r\n").unwrap().expects_continue());

    assert_eq!(head("Empty:\r\n").unwrap().single("empty"), Ok(Some("")));
    let request = head("A: 1\r\na: 2\r\n").unwrap().to_request().unwrap();
    assert_eq!((request.method(), request.uri().to_string()), (&Method::GET, "/a?b=c".to_owned()));
    assert_eq!(request.headers().get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_any_chunking_gives_the_same(
        bytes in prop::collection::vec(prop::sample::select(b"GET /:a HTTP/1.1\r\n\r\nHost:\r\n\0\xff".to_vec()), 0..200),
        pieces in prop::collection::vec(1usize..9, 1..6),
    ) {
        let whole = read(&bytes).map(|head| head.map(|head| head.bytes));
        let mut reader = HeadReader::default();
        let mut rest = &bytes[..];
        let mut sizes = pieces.iter().copied().cycle();
        let mut cut = Ok(None);
        while !rest.is_empty() && matches!(cut, Ok(None)) {
            let (mut chunk, tail) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
            rest = tail;
            cut = reader.read(&mut chunk).map(|head| head.map(|head| head.bytes));
        }
        prop_assert_eq!(cut, whole);
    }
}
