use super::*;

const DAY_MS: u64 = 24 * 3_600 * 1_000;
/// Issued after everything.
const FRESH: u64 = u64::MAX;

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn list(names: &[&str]) -> DeviceList {
    let mut list = DeviceList::default();
    for (at, name) in names.iter().enumerate() {
        list.link(device(name), None, 1_000 + at as u64);
    }
    list
}

fn primaries(list: &DeviceList) -> Vec<&str> {
    list.devices().iter().filter(|it| it.primary).map(|it| it.device.as_str()).collect()
}

#[test]
fn the_first_device_is_primary_and_the_sixth_finds_no_place() {
    let mut list = DeviceList::default();
    assert_eq!(list.admission(device("a"), FRESH, None), Admission::First);
    for name in ["a", "b", "c", "d", "e"] {
        list.link(device(name), None, 1_000);
        assert_eq!(list.admission(device(name), FRESH, None), Admission::Known);
    }
    assert_eq!((primaries(&list), list.version()), (vec!["a"], 5));
    assert_eq!(list.admission(device("f"), FRESH, None), Admission::Full);
    assert!(list.unlink(device("c"), 2_000));
    assert_eq!(list.admission(device("f"), FRESH, None), Admission::Further);
}

#[test]
fn a_token_says_which_device_is_primary_and_there_is_never_a_second_one() {
    let mut list = list(&["a", "b"]);
    assert_eq!(list.admission(device("b"), FRESH, Some(true)), Admission::Promoted);
    list.link(device("b"), Some(true), 2_000);
    assert_eq!(primaries(&list), ["b"]);
    assert_eq!(list.admission(device("b"), FRESH, Some(true)), Admission::Known);
    list.link(device("c"), Some(false), 2_000);
    assert_eq!((primaries(&list), list.devices().len()), (vec!["b"], 3));
    let mut none = DeviceList::default();
    none.link(device("web"), Some(false), 1_000);
    assert!(primaries(&none).is_empty());
}

#[test]
fn the_primary_unlinks_any_device_and_another_only_itself() {
    let mut list = list(&["a", "b", "c"]);
    let may = |list: &DeviceList, by, whom| list.may_unlink(device(by), device(whom));
    assert!(may(&list, "a", "b") && may(&list, "a", "a") && may(&list, "b", "b"));
    assert!(!may(&list, "b", "a") && !may(&list, "b", "c"));
    assert!(!list.unlink(device("x"), 2_000));
    assert!(list.unlink(device("a"), 2_000));
    assert_eq!(primaries(&list), ["b"], "the longest linked one");
}

#[test]
fn a_token_of_before_the_unlinking_counts_no_more_and_a_newer_one_does() {
    let mut list = list(&["a", "b"]);
    list.unlink(device("b"), 5_000);
    assert_eq!(list.admission(device("b"), 5_000, None), Admission::Revoked);
    assert_eq!(list.admission(device("b"), 5_001, None), Admission::Further);
    // Other devices never were unlinked.
    assert_eq!(list.admission(device("c"), 1, None), Admission::Further);
    list.link(device("b"), None, 6_000);
    assert_eq!(list.admission(device("b"), 4_000, None), Admission::Revoked, "the old token does not come back");
    assert_eq!(list.admission(device("b"), 5_001, None), Admission::Known);
    // The clock was set back in between.
    list.unlink(device("b"), 100);
    assert_eq!(list.admission(device("b"), 4_000, None), Admission::Revoked);
}

#[test]
fn unlinked_devices_that_are_forgotten_leave_a_floor() {
    let mut list = list(&["a"]);
    for n in 0..100 {
        let name = device(&format!("d{n}"));
        list.link(name, None, 10_000 + n);
        list.unlink(name, 10_000 + n);
    }
    assert_eq!(list.admission(device("d0"), 10_000, None), Admission::Revoked);
    assert_eq!(list.admission(device("d99"), 10_099, None), Admission::Revoked);
    assert_eq!(list.admission(device("d0"), 10_068, None), Admission::Further);
    assert!(list.encode().len() < 4_096);
}

#[test]
fn who_was_not_seen_for_long_is_unlinked_but_for_who_is_here() {
    let mut list = list(&["a", "b", "c"]);
    list.seen(device("b"), 20 * DAY_MS);
    let now_ms = 31 * DAY_MS;
    assert_eq!(list.clone().unlink_dormant(0, &[], now_ms), 0);
    assert_eq!(list.unlink_dormant(30 * DAY_MS, &[device("c")], now_ms), 1);
    let left: Vec<_> = list.devices().iter().map(|it| it.device.as_str()).collect();
    assert_eq!((left, primaries(&list)), (vec!["b", "c"], vec!["b"]));
    assert_eq!(list.admission(device("a"), DAY_MS, None), Admission::Revoked);
}

#[test]
fn last_seen_is_the_latest_of_all_devices_and_never_goes_back() {
    let mut list = list(&["a", "b"]);
    let version = list.version();
    list.seen(device("a"), 9_000);
    list.seen(device("b"), 7_000);
    list.seen(device("a"), 8_000);
    list.seen(device("x"), 99_000);
    assert_eq!((list.last_seen_ms(), list.version()), (9_000, version));
    assert!(list.was_seen(device("a"), 1_000, 9_999) && !list.was_seen(device("a"), 1_000, 10_000));
    list.unlink(device("a"), 9_500);
    assert_eq!(list.last_seen_ms(), 9_000);
}

#[test]
fn bytes_of_version_one_are_read_for_ever() {
    let mut list = list(&["phone", "laptop", "tab"]);
    list.unlink(device("tab"), 2_000);
    list.seen(device("phone"), 3_000);
    let golden = "01\
        0400000000000000b80b0000000000000000000000000000\
        02\
        01000000000000000000000000e803000000000000b80b0000000000000570686f6e65\
        00000000000000000000000000e903000000000000e903000000000000066c6170746f70\
        01d00700000000000003746162";
    let hex: String = list.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden);
    assert_eq!(DeviceList::decode(&list.encode()), Ok(list.clone()));
    assert_eq!(DeviceList::decode(&[]), Ok(DeviceList::default()));
    let bytes = list.encode();
    for end in 1..bytes.len() {
        assert_eq!(DeviceList::decode(&bytes[..end]), Err(DeviceListError), "cut at {end}");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert_eq!(DeviceList::decode(&longer), Err(DeviceListError));
    longer[0] = 2;
    assert_eq!(DeviceList::decode(&longer), Err(DeviceListError), "of a later build");
}
