//! What operators have asked for users.

use super::{Kind, Text};
use crate::control::operator::Counters;
use std::sync::atomic::Ordering::Relaxed;

pub fn add(text: &mut Text, counters: &Counters) {
    for (name, done, failed) in [
        ("ringpost_user_exports_total", &counters.exported, &counters.exports_failed),
        ("ringpost_user_erasures_total", &counters.erased, &counters.erasures_failed),
    ] {
        text.sample(Kind::Counter, name, "outcome=\"done\"", done.load(Relaxed) as f64);
        text.sample(Kind::Counter, name, "outcome=\"failed\"", failed.load(Relaxed) as f64);
    }
    let records = counters.records_erased.load(Relaxed);
    text.sample(Kind::Counter, "ringpost_user_records_erased_total", "", records as f64);
}
