//! The settings of a user, written anew over what is stored. A later version may have written that, before somebody went back
//! to this one: what this version does not know is carried over byte by byte, so that the later one finds it again.
//!
//! Guarantees: what is decoded from the result is what was to be written; fields unknown here stay: in the document, in its
//! profile, in quiet hours that go on, and in each mute that is not set anew. Never does: carry over what a client sent, of
//! which nothing unknown is left when it comes here.

use bytes::{Buf, Bytes};
use prost::{Message, decode_length_delimiter, encode_length_delimiter};
use ringpost_proto::v1;

/// Numbers of fields in frames.proto.
const PROFILE: usize = 1;
const LAST_SEEN: usize = 2;
const READ_RECEIPTS: usize = 3;
const MUTE: usize = 4;
const QUIET_HOURS: usize = 5;
/// The last one that is known in a profile and in quiet hours.
const LAST_INNER: usize = 2;

/// The wire type of what has a length (protobuf encoding, "Message Structure").
const LEN: usize = 2;

/// `new`, with what is not known here of `stored`; `None`: that is no such document.
pub(super) fn rewritten(stored: &[u8], mut new: v1::Settings) -> Option<Bytes> {
    let mut out = Vec::with_capacity(stored.len() + 32);
    for field in fields(stored) {
        let Field { number, whole, inner } = field?;
        match number {
            LAST_SEEN | READ_RECEIPTS => {}
            QUIET_HOURS if new.quiet_hours.is_none() => {}
            PROFILE | QUIET_HOURS => carry_inner(number, inner, &mut out)?,
            MUTE => {
                let mute = v1::settings::Mute::decode(inner).ok()?;
                if let Some(at) = new.mute.iter().position(|kept| *kept == mute) {
                    new.mute.remove(at);
                    out.extend_from_slice(whole);
                }
            }
            _ => out.extend_from_slice(whole),
        }
    }
    // The parts of a message that stands twice are merged.
    new.encode(&mut out).ok()?;
    Some(out.into())
}

/// A message of its own with what is not known of this one.
fn carry_inner(number: usize, message: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut unknown = Vec::new();
    for field in fields(message) {
        let field = field?;
        if field.number > LAST_INNER {
            unknown.extend_from_slice(field.whole);
        }
    }
    if !unknown.is_empty() {
        encode_length_delimiter(number << 3 | LEN, out).ok()?;
        encode_length_delimiter(unknown.len(), out).ok()?;
        out.extend(unknown);
    }
    Some(())
}

struct Field<'a> {
    number: usize,
    /// With its key.
    whole: &'a [u8],
    /// What is after key and length.
    inner: &'a [u8],
}

/// The fields of a message in their order; the last one is `None` where it is not whole.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Option<Field<'_>>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(rest);
        rest = field.as_ref().and_then(|field| rest.get(field.whole.len()..)).unwrap_or_default();
        Some(field)
    })
}

fn field(bytes: &[u8]) -> Option<Field<'_>> {
    let mut rest = bytes;
    let key = decode_length_delimiter(&mut rest).ok()?;
    let length = match key & 7 {
        0 => {
            let before = rest.len();
            let mut number = rest;
            decode_length_delimiter(&mut number).ok()?;
            before - number.len()
        }
        1 => 8,
        LEN => decode_length_delimiter(&mut rest).ok()?,
        5 => 4,
        _ => return None,
    };
    let inner = rest.get(..length)?;
    rest.advance(length);
    let whole = bytes.get(..bytes.len() - rest.len())?;
    Some(Field { number: key >> 3, whole, inner })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringpost_proto::v1::settings::{Mute, Profile, QuietHours};

    /// A later version's: settings, profile, mutes and quiet hours each have a field 9 more.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Later {
        #[prost(message, optional, tag = "1")]
        profile: Option<LaterProfile>,
        #[prost(int32, tag = "2")]
        last_seen: i32,
        #[prost(message, repeated, tag = "4")]
        mute: Vec<LaterMute>,
        #[prost(message, optional, tag = "5")]
        quiet_hours: Option<LaterHours>,
        #[prost(string, tag = "9")]
        theme: String,
        #[prost(fixed64, repeated, packed = "false", tag = "2000")]
        pinned: Vec<u64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct LaterProfile {
        #[prost(string, optional, tag = "1")]
        name: Option<String>,
        #[prost(string, tag = "9")]
        about: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct LaterMute {
        #[prost(message, optional, tag = "1")]
        conversation: Option<v1::Peer>,
        #[prost(uint64, tag = "2")]
        until_ms: u64,
        #[prost(fixed32, tag = "9")]
        but: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct LaterHours {
        #[prost(uint32, tag = "1")]
        from_minute: u32,
        #[prost(uint32, tag = "2")]
        to_minute: u32,
        #[prost(string, tag = "9")]
        zone: String,
    }

    fn peer(name: &str) -> Option<v1::Peer> {
        Some(v1::Peer { peer: Some(v1::peer::Peer::User(name.into())) })
    }

    fn later() -> Later {
        let mute = |name, until_ms| LaterMute { conversation: peer(name), until_ms, but: 7 };
        Later {
            profile: Some(LaterProfile { name: Some("Ann".into()), about: "climbs".into() }),
            last_seen: 2,
            mute: vec![mute("bob", 9), mute("carol", 10)],
            quiet_hours: Some(LaterHours { from_minute: 1, to_minute: 2, zone: "CET".into() }),
            theme: "dark".into(),
            pinned: vec![3, u64::MAX],
        }
    }

    #[test]
    fn what_a_later_version_wrote_is_found_by_it_again() {
        let stored = later().encode_to_vec();
        let mut known = v1::Settings::decode(&stored[..]).unwrap();
        known.profile.as_mut().unwrap().name = None;
        known.last_seen = 0;
        known.mute = vec![known.mute[1].clone(), Mute { conversation: peer("dan"), until_ms: 11 }];
        known.quiet_hours = Some(QuietHours { from_minute: 5, to_minute: 6 });
        let mut expected = later();
        expected.profile.as_mut().unwrap().name = None;
        expected.last_seen = 0;
        let dan = LaterMute { conversation: peer("dan"), until_ms: 11, but: 0 };
        expected.mute = vec![expected.mute[1].clone(), dan];
        expected.quiet_hours = Some(LaterHours { from_minute: 5, to_minute: 6, zone: "CET".into() });
        // However often this version writes it.
        let mut bytes: Bytes = stored.into();
        for _ in 0..3 {
            bytes = rewritten(&bytes, known.clone()).unwrap();
            assert_eq!(v1::Settings::decode(bytes.clone()), Ok(known.clone()));
            assert_eq!(Later::decode(bytes.clone()), Ok(expected.clone()));
        }
        let ended = v1::Settings { quiet_hours: None, profile: Some(Profile::default()), ..known };
        let bytes = rewritten(&bytes, ended).unwrap();
        let found = Later::decode(bytes).unwrap();
        assert_eq!((found.quiet_hours, found.profile), (None, expected.profile));
    }

    proptest! {
        #[test]
        fn any_stored_bytes_are_carried_over_or_refused(stored in proptest::collection::vec(any::<u8>(), 0..60)) {
            let new = v1::Settings { last_seen: 1, ..Default::default() };
            if let Some(bytes) = rewritten(&stored, new) {
                prop_assert!(bytes.len() <= 2 * stored.len() + 2);
            }
        }
    }
}
