//! What is counted about tokens and their keys.

use super::{Kind, Text};
use crate::auth::Verifier;
use crate::auth::counters::Reason;
use crate::auth::keys::Alg;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// The verifier, and when the clock of its keys was 0.
pub struct Tokens {
    pub verifier: Arc<Verifier>,
    pub started: Instant,
}

pub fn add(text: &mut Text, tokens: &Tokens) {
    let counters = tokens.verifier.counters();
    for reason in Reason::ALL {
        let label = format!("reason=\"{}\"", reason.label());
        text.sample(Kind::Counter, "ringpost_tokens_refused_total", &label, counters.refused(reason) as f64);
    }
    for alg in Alg::ALL {
        let label = format!("alg=\"{}\"", alg.name());
        text.sample(Kind::Gauge, "ringpost_token_keys", &label, counters.keys(alg) as f64);
    }
    let value = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed) as f64;
    text.sample(Kind::Gauge, "ringpost_token_keys_unused", "", value(&counters.unused));
    let (file, jwks) = ("source=\"file\"", "source=\"jwks\"");
    let failures = "ringpost_token_keys_refresh_failures_total";
    text.sample(Kind::Counter, failures, file, value(&counters.file_failures));
    text.sample(Kind::Counter, failures, jwks, value(&counters.jwks_failures));
    text.sample(Kind::Gauge, "ringpost_token_keys_failing", file, value(&counters.file_failing));
    text.sample(Kind::Gauge, "ringpost_token_keys_failing", jwks, value(&counters.jwks_failing));
    let unanswered = tokens.verifier.unanswered().len();
    text.sample(Kind::Gauge, "ringpost_token_keys_unanswered", "", unanswered as f64);
    let now_ms = tokens.started.elapsed().as_millis() as u64;
    let age_ms = match counters.sources.load(Relaxed) {
        0 => 0,
        _ => now_ms.saturating_sub(counters.fresh_ms.load(Relaxed)),
    };
    text.sample(Kind::Gauge, "ringpost_jwks_age_seconds", "", age_ms as f64 / 1e3);
}
