//! X-Forwarded-For: each proxy appends the address that it sees, so only the right end can be believed, and only as far as
//! the proxies that wrote it are trusted.

use std::net::{IpAddr, SocketAddr};

/// The client's address: `peer`, unless it is a trusted proxy. Then the header's lines are joined in order and walked from
/// the right, over trusted proxies, to the first address that is none; where all are trusted, it is the leftmost. An entry
/// that is no address ends the walk with `peer`: nothing to its left can be believed.
pub fn client<'a, L>(peer: IpAddr, lines: L, trusted: impl Fn(IpAddr) -> bool) -> IpAddr
where
    L: IntoIterator<Item = &'a [u8]>,
    L::IntoIter: DoubleEndedIterator,
{
    let peer = peer.to_canonical();
    if !trusted(peer) {
        return peer;
    }
    let mut client = peer;
    for entry in lines.into_iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')) {
        match address(entry) {
            Some(address) if trusted(address) => client = address,
            Some(address) => return address,
            None => return peer,
        }
    }
    client
}

/// An address with or without a port; one of IPv6 also in brackets.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    Some(text.parse().ok().or_else(bare).or_else(with_port)?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn walk(peer: &str, lines: &[&str]) -> String {
        let trusted = |address: IpAddr| matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10);
        client(peer.parse().unwrap(), lines.iter().map(|line| line.as_bytes()), trusted).to_string()
    }

    #[test]
    fn the_first_untrusted_address_from_the_right_is_the_client() {
        assert_eq!(walk("198.51.100.7", &["203.0.113.1"]), "198.51.100.7", "not from a proxy");
        assert_eq!(walk("10.0.0.1", &["203.0.113.1, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(walk("10.0.0.1", &["198.51.100.7, 10.0.0.9"]), "198.51.100.7");
        assert_eq!(walk("10.0.0.1", &["203.0.113.1", "198.51.100.7,10.0.0.9"]), "198.51.100.7");
        assert_eq!(walk("::ffff:10.0.0.1", &["::ffff:198.51.100.7"]), "198.51.100.7");
        assert_eq!(walk("10.0.0.1", &["10.0.0.5, 10.0.0.9"]), "10.0.0.5");
        assert_eq!(walk("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn what_is_no_address_ends_the_walk_at_the_peer() {
        for line in
            ["198.51.100.7, garbage", "198.51.100.7, ", "", "unknown", "198.51.100.7, x, 10.0.0.9", "[::1", "::1]"]
        {
            assert_eq!(walk("10.0.0.1", &[line]), "10.0.0.1", "{line}");
        }
    }

    #[test]
    fn ports_and_brackets_are_stripped() {
        for line in ["2001:db8::7", "[2001:db8::7]", "[2001:db8::7]:4711"] {
            assert_eq!(walk("10.0.0.1", &[line]), "2001:db8::7");
        }
        assert_eq!(walk("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
    }

    proptest! {
        #[test]
        fn what_stands_left_of_the_client_changes_nothing(left in proptest::collection::vec(any::<u8>(), 0..40)) {
            let line = [&left[..], b",198.51.100.7, 10.0.0.9"].concat();
            let trusted = |address: IpAddr| address != "198.51.100.7".parse::<IpAddr>().unwrap();
            let seen = client("10.0.0.1".parse().unwrap(), [&line[..]], trusted);
            prop_assert_eq!(seen.to_string(), "198.51.100.7");
        }
    }
}
