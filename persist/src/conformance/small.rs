//! Small versioned documents, and items that are handed out once.

use super::samples::*;
use super::{Driver, ask};
use crate::{DOCUMENT_BYTES, DocumentKey, ItemKey, Outcome, StoreRequest};
use bytes::Bytes;

fn cas(store: &mut dyn Driver, key: &DocumentKey, expected: u64, bytes: &'static str) -> Outcome {
    ask(store, StoreRequest::Cas { tag: 4, key: key.clone(), expected, bytes: bytes.into() })
}

fn document(store: &mut dyn Driver, key: &DocumentKey) -> Option<(u64, Bytes)> {
    match ask(store, StoreRequest::ReadDocument { tag: 4, key: key.clone() }) {
        Outcome::Document(found) => found,
        other => unreachable!("no document: {other:?}"),
    }
}

pub(super) fn documents(store: &mut dyn Driver) {
    let (devices, settings) = (DocumentKey::Devices(user("ann")), DocumentKey::Settings(user("ann")));
    assert_eq!(document(store, &devices), None);
    assert!(matches!(cas(store, &devices, 1, "x"), Outcome::Stale(None)));
    assert!(matches!(cas(store, &devices, 0, "first"), Outcome::Stored { version: 1 }));
    let stale = cas(store, &devices, 0, "again");
    assert!(matches!(stale, Outcome::Stale(Some((1, ref bytes))) if bytes == "first"), "{stale:?}");
    assert!(matches!(cas(store, &devices, 1, "second"), Outcome::Stored { version: 2 }));
    assert!(matches!(cas(store, &settings, 0, "quiet"), Outcome::Stored { version: 1 }));
    for _ in 0..2 {
        assert_eq!(document(store, &devices), Some((2, "second".into())));
        assert_eq!(document(store, &settings), Some((1, "quiet".into())));
        assert_eq!(document(store, &DocumentKey::Devices(user("bob"))), None);
        store.reopen();
    }
    assert!(matches!(cas(store, &devices, 2, "third"), Outcome::Stored { version: 3 }));
    let large = vec![0; DOCUMENT_BYTES + 1].into();
    let refused = ask(store, StoreRequest::Cas { tag: 4, key: devices, expected: 3, bytes: large });
    assert!(matches!(refused, Outcome::Unimplemented));
}

fn take(store: &mut dyn Driver, key: &ItemKey) -> Option<Bytes> {
    match ask(store, StoreRequest::Take { tag: 4, key: Box::new(key.clone()) }) {
        Outcome::Taken(taken) => taken,
        other => unreachable!("not taken: {other:?}"),
    }
}

fn items(store: &mut dyn Driver, of: &str, limit: u32) -> Vec<u64> {
    match ask(store, StoreRequest::ListItems { tag: 4, user: user("ann"), device: device(of), limit }) {
        Outcome::Items(items) => items,
        other => unreachable!("not listed: {other:?}"),
    }
}

pub(super) fn once(store: &mut dyn Driver) {
    let key = |of: &str, number| ItemKey { user: user("ann"), device: device(of), number };
    for (of, number) in [("phone", 7), ("phone", 300), ("phone", 2), ("tablet", 2)] {
        let bytes = Bytes::from(format!("{of} {number}"));
        let put = ask(store, StoreRequest::Put { tag: 4, key: Box::new(key(of, number)), bytes });
        assert!(matches!(put, Outcome::Stored { version: 0 }), "{put:?}");
    }
    store.reopen();
    assert_eq!(items(store, "phone", 9), [2, 7, 300]);
    assert_eq!(items(store, "phone", 2), [2, 7]);
    assert_eq!(take(store, &key("phone", 2)), Some("phone 2".into()));
    assert_eq!(take(store, &key("phone", 2)), None, "each is handed out once");
    store.reopen();
    assert_eq!(take(store, &key("phone", 2)), None, "after a restart as well");
    assert_eq!(take(store, &key("tablet", 2)), Some("tablet 2".into()));
    assert_eq!(take(store, &key("phone", 8)), None);
    assert_eq!(items(store, "phone", 9), [7, 300]);
    assert_eq!(items(store, "laptop", 9), [0; 0]);
}
