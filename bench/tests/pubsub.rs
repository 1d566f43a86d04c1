//! `flood pubsub` against servers of rooms: an honest one passes, each fault is told by its name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::rooms::{self, Fault};
use support::{Dir, figure, flood};

fn run(fault: Fault, arguments: &str) -> (i32, serde_json::Value) {
    let address = rooms::start(fault);
    flood(&Dir::new(), &format!("ws://{address}"), &format!("pubsub --protocol rooms --hold 0s {arguments}"))
}

#[test]
fn a_message_is_counted_at_every_member() {
    let (status, report) = run(Fault::None, "--rooms 2 --members 5 --connections 20 --rate 100 --duration 1s");
    assert_eq!(status, 0, "{report}");
    assert_eq!(report["connections"]["established"], 20, "eight are in no room");
    assert_eq!(report["latencies"]["publish_to_delivery"]["count"], 500);
    assert!((figure(&report, "delivered") / figure(&report, "published") - 5.0).abs() < 1e-9, "{report}");
}

#[test]
fn rooms_and_their_rate_are_divided_among_threads_without_a_rest() {
    let (status, report) = run(Fault::None, "--rings 3 --rooms 4 --members 5 --rate 120 --duration 1s");
    assert_eq!(status, 0, "{report}");
    assert_eq!(report["latencies"]["publish_to_delivery"]["count"], 5 * 120, "two threads have all rooms");
}

#[test]
fn a_closed_loop_goes_on_until_its_time_is_over() {
    let (status, report) = run(Fault::None, "--members 3 --in-flight 4 --duration 500ms");
    assert_eq!(status, 0, "{report}");
    let (published, delivered) = (figure(&report, "published"), figure(&report, "delivered"));
    assert!(published > 20.0, "more than those that began: {published}");
    assert!((delivered / published - 3.0).abs() < 1e-9, "{delivered} of {published}");
}

#[test]
fn what_comes_after_the_end_of_a_closed_loop_does_not_raise_its_rate() {
    let (status, report) = run(Fault::Late, "--in-flight 20 --duration 200ms");
    assert_eq!(status, 0, "{report}");
    assert!(report["latencies"]["publish_to_delivery"]["count"].as_u64() > Some(20), "{report}");
    let delivered = figure(&report, "delivered");
    assert!(delivered <= 20.0, "{delivered} a second of a server that forwards one in 50 ms");
}

#[test]
fn who_asks_is_answered() {
    let (status, report) = run(Fault::None, "--ping --active 4 --connections 10 --rate 100 --duration 1s");
    assert_eq!(status, 0, "{report}");
    assert_eq!(report["latencies"]["round_trip"]["count"], 100);
}

#[test]
fn each_fault_is_told() {
    let cases = [
        (Fault::Lost, "never came"),
        (Fault::Twice, "doubled or out of order"),
        (Fault::Changed, "differ from what was published"),
        (Fault::Swapped, "doubled or out of order"),
        (Fault::Closed, "connections were lost"),
    ];
    for (fault, sentence) in cases {
        let (status, report) = run(fault, "--members 3 --rate 50 --duration 500ms");
        assert_eq!(status, 1, "{fault:?}: {report}");
        assert!(report["missed"].to_string().contains(sentence), "{fault:?}: {}", report["missed"]);
    }
}

#[test]
fn rooms_acknowledge_nothing() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_flood"))
        .args(["pubsub", "--protocol", "rooms", "--durable"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("acknowledges nothing"), "{output:?}");
}
