use super::super::head::HeadReader;
use super::*;

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const TOKENS: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";

fn ask(line: &str, headers: &[&str]) -> Result<Upgrade, Refusal> {
    let bytes = format!("{line}\r\nHost: chat.example:7600\r\n{}\r\n", headers.concat());
    let head = HeadReader::default().read(&mut bytes.as_bytes()).unwrap().unwrap();
    decide(&head, &["https://app.example".to_owned()])
}

fn get(headers: &[&str]) -> Result<Upgrade, Refusal> {
    ask("GET /v1/connect HTTP/1.1", headers)
}

fn with(header: &str) -> Result<Upgrade, Refusal> {
    get(&[TOKENS, VERSION, KEY, header])
}

#[test]
fn the_upgrade_may_be_spelled_in_many_ways() {
    for tokens in [
        TOKENS,
        "Upgrade: websocket\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n",
        "upgrade: websocket\r\nconnection: UPGRADE\r\n",
        "Upgrade: WebSocket\r\nConnection: Upgrade\r\n",
        "Upgrade: foo, websocket\r\nConnection: Upgrade\r\n",
    ] {
        let mut out = Vec::new();
        get(&[tokens, VERSION, KEY]).unwrap().write_response(&mut out);
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{tokens}");
    }
}

#[test]
fn what_is_no_upgrade_is_refused() {
    let status = |result: Result<Upgrade, Refusal>| result.unwrap_err().status.as_u16();
    assert_eq!(status(get(&["Upgrade: websocket\r\nConnection: keep-alive\r\n", VERSION, KEY])), 426);
    assert_eq!(status(get(&["Upgrade: websocket\r\nConnection: Upgrade-Insecure\r\n", VERSION, KEY])), 426);
    assert_eq!(status(get(&["Connection: Upgrade\r\n", VERSION, KEY])), 426);
    assert_eq!(status(ask("GET /v1/connect HTTP/1.0", &[TOKENS, VERSION, KEY])), 400);
    assert_eq!(status(ask("POST /v1/connect HTTP/1.1", &[TOKENS, VERSION, KEY])), 405);
    for version in ["Sec-WebSocket-Version: 8\r\n", "Sec-WebSocket-Version: 13, 8\r\n", ""] {
        let refusal = get(&[TOKENS, version, KEY]).unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.header), (426, Some(("Sec-WebSocket-Version", "13"))));
    }
    for key in
        ["", "Sec-WebSocket-Key: \r\n", "Sec-WebSocket-Key: AAAA\r\n", "Sec-WebSocket-Key: not base64 at all\r\n"]
    {
        assert_eq!(status(get(&[TOKENS, VERSION, key])), 400, "{key}");
    }
    let (fifteen, seventeen) = ("dGhlIHNhbXBsZSBub25j", "dGhlIHNhbXBsZSBub25jZWU=");
    for key in [fifteen, seventeen] {
        assert_eq!(status(get(&[TOKENS, VERSION, &format!("Sec-WebSocket-Key: {key}\r\n")])), 400);
    }
    assert_eq!(status(with(KEY)), 400, "two keys");
    assert_eq!(status(with("Content-Length: 5\r\n")), 400, "a body");
}

#[test]
fn the_subprotocol_decides_the_encoding_and_a_token_is_never_echoed() {
    let ask = |offered: &str| {
        let upgrade = with(&format!("Sec-WebSocket-Protocol: {offered}\r\n"))?;
        let mut out = Vec::new();
        upgrade.write_response(&mut out);
        assert!(!String::from_utf8(out).unwrap().contains("bearer"));
        Ok((upgrade.protocol, upgrade.encoding, upgrade.credential))
    };
    let token = Some(Credential::Subprotocol("a.b.c".into()));
    assert_eq!(ask("ringpost.v1"), Ok((Some("ringpost.v1"), Encoding::Protobuf, None)));
    assert_eq!(ask("ringpost.v1.json, bearer.a.b.c"), Ok((Some("ringpost.v1.json"), Encoding::Json, token.clone())));
    assert_eq!(ask("bearer.a.b.c,other,ringpost.v1"), Ok((Some("ringpost.v1"), Encoding::Protobuf, token)));
    assert_eq!(ask("ringpost.v1.json, ringpost.v1"), Ok((Some("ringpost.v1.json"), Encoding::Json, None)));
    for offered in ["bearer.a.b.c", "other", "Ringpost.V1", "ringpost.v1, bearer.a, bearer.b"] {
        assert_eq!(ask(offered).map_err(|refusal: Refusal| refusal.status.as_u16()), Err(400), "{offered}");
    }
    let upgrade = with("").unwrap();
    assert_eq!((upgrade.encoding, upgrade.credential), (Encoding::Json, None));
}

#[test]
fn a_token_in_the_header_comes_first() {
    let offered = "Sec-WebSocket-Protocol: ringpost.v1, bearer.sub\r\n";
    let credential = |line, headers: &[&str]| {
        ask(line, &[&[TOKENS, VERSION, KEY], headers].concat()).map(|upgrade| upgrade.credential)
    };
    let line = "GET /v1/connect?x=y&ticket=t-1 HTTP/1.1";
    let header = "Authorization: bearer  tok\r\n";
    assert_eq!(credential(line, &[header, offered]), Ok(Some(Credential::Header("tok".into()))));
    assert_eq!(credential(line, &[offered]), Ok(Some(Credential::Subprotocol("sub".into()))));
    assert_eq!(credential(line, &[]), Ok(Some(Credential::Ticket("t-1".into()))));
    assert_eq!(credential(line, &["Authorization: Basic eDp5\r\n"]).unwrap_err().status, 401);
    assert_eq!(credential(line, &[header, header]).unwrap_err().status, 400);
}

#[test]
fn only_the_servers_own_or_a_configured_origin_may_connect() {
    for origin in
        ["http://chat.example:7600", "https://chat.example:7600", "http://CHAT.example:7600", "https://app.example"]
    {
        assert!(with(&format!("Origin: {origin}\r\n")).is_ok(), "{origin}");
    }
    for origin in
        ["http://chat.example", "http://evil.example:7600", "null", "chat.example:7600", "file://", "https://"]
    {
        assert_eq!(with(&format!("Origin: {origin}\r\n")).unwrap_err().status, 403, "{origin}");
    }
    assert!(same_authority("chat.example", "chat.example:443", ":443"));
    assert!(!same_authority("chat.example", "chat.example:443", ":80"));
}

#[test]
fn echo_exists_only_for_development() {
    assert_eq!(Endpoint::of("/v1/echo", true), Some(Endpoint::Echo));
    assert_eq!(Endpoint::of("/v1/echo", false), None);
    assert_eq!(Endpoint::of("/v1/connect", false), Some(Endpoint::Connect));
    assert_eq!(Endpoint::of("/v1/connect/", true), None);
}
