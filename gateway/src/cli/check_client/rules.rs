//! What a client must do, one line each, and what was found.

use serde::Serialize;

/// A rule: its name on the command line and in reports, and what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub name: &'static str,
    pub text: &'static str,
    /// Not showing it is no fault.
    pub optional: bool,
}

macro_rules! rules {
    ($($id:ident $name:literal $text:literal $optional:literal;)*) => {
        $(pub const $id: Rule = Rule { name: $name, text: $text, optional: $optional };)*
        /// In the order of reports.
        pub const ALL: &[Rule] = &[$($id),*];
    };
}

rules! {
    FRAMES "frames" "every message is a frame of the session's encoding" false;
    HELLO "hello-first" "the first frame of a connection is hello, within 10 s" false;
    TOKEN "token" "a connection carries a token that names user and device" false;
    MESSAGE_ID "message-id" "every send has a request id and a clientMessageId of 16 bytes" false;
    RETRY "retry" "a send without SENT is repeated after 5 s" false;
    RECONNECT "retry-reconnect" "a send without SENT is repeated after a reconnect" false;
    SAME_BYTES "same-bytes" "a repeated send has the same content under the same id" false;
    SENT_ENDS "sent-ends" "a send is not repeated after SENT" false;
    DUPLICATE "duplicate" "SENT with duplicate: true ends a send like any SENT" false;
    RETRY_AFTER "retry-after" "a retryable error: the same send again, not before retryAfterMs" false;
    FINAL_ERROR "final-error" "an error that is not retryable ends the send" false;
    ACK "ack" "pushes are acknowledged, by rising numbers of what was pushed" false;
    ACK_REPEAT "ack-repeat" "the push of a record that the client has is acknowledged all the same" false;
    HAVE "have" "hello names how far a conversation was received, never more than was pushed" false;
    AGAIN "push-again" "what was not acknowledged is pushed again and acknowledged by the new session's numbers" false;
    GAP "gap" "a gap between positions is fetched" false;
    SKIPS "skips" "skips of a page fill the gap: they are not fetched again" false;
    UNKNOWN "unknown" "unknown fields, frames and pushes disturb nothing" false;
    PING "ping" "a ping of the transport is answered with its payload" false;
    RESET "reset" "after reset the position beyond the log is dropped" false;
    DRAIN "drain" "after drain and 4000 it comes back at reconnectAfterMs, not earlier" false;
    BACK_OFF "back-off" "after 4001 to 4004 it comes back within 60 s, after delays that are drawn and grow" false;
    STOP "stop" "after 4500, 4501, 4503, 4504 and 4505 it does not come back by itself" false;
    NEW_TOKEN "new-token" "after 4502 it comes back only with another token" false;
    RESUME "resume" "hello names the resumeToken of the last welcome, so that a restored server voids positions" true;
    RENEW "renew" "renewSoon is answered by renew with a new token" true;
    DURABLE "durable" "what was acknowledged is still there after a kill -9" true;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "camelCase")]
pub enum Verdict {
    Kept,
    /// Never contradicted, and never shown.
    NotShown,
    Broken {
        expected: String,
        seen: String,
    },
}

/// What is known of every rule. The first fault of a rule stays.
#[derive(Clone, Debug, Default)]
pub struct Report {
    found: Vec<(Rule, Verdict)>,
}

impl Report {
    pub fn kept(&mut self, rule: Rule) {
        if self.verdict(rule) == Verdict::NotShown {
            self.found.push((rule, Verdict::Kept));
        }
    }

    pub fn broken(&mut self, rule: Rule, expected: impl Into<String>, seen: impl Into<String>) {
        if matches!(self.verdict(rule), Verdict::Broken { .. }) {
            return;
        }
        self.found.retain(|(known, _)| *known != rule);
        self.found.push((rule, Verdict::Broken { expected: expected.into(), seen: seen.into() }));
    }

    pub fn verdict(&self, rule: Rule) -> Verdict {
        self.found.iter().find(|(known, _)| *known == rule).map_or(Verdict::NotShown, |(_, verdict)| verdict.clone())
    }

    /// Every rule that must be shown was, and none is broken.
    pub fn passed(&self) -> bool {
        ALL.iter().all(|&rule| match self.verdict(rule) {
            Verdict::Kept => true,
            Verdict::NotShown => rule.optional,
            Verdict::Broken { .. } => false,
        })
    }

    /// One line for each rule, and two more for a broken one.
    pub fn lines(&self) -> Vec<String> {
        let line = |rule: &Rule| match self.verdict(*rule) {
            Verdict::Kept => format!("kept       {:16} {}", rule.name, rule.text),
            Verdict::NotShown if rule.optional => format!("optional   {:16} {}", rule.name, rule.text),
            Verdict::NotShown => format!("NOT SHOWN  {:16} {}", rule.name, rule.text),
            Verdict::Broken { expected, seen } => {
                let head = format!("BROKEN     {:16} {}", rule.name, rule.text);
                format!("{head}\n           expected {expected}\n           seen     {seen}")
            }
        };
        ALL.iter().map(line).collect()
    }

    pub fn json(&self) -> serde_json::Value {
        let rule = |rule: &Rule| {
            let mut value = serde_json::to_value(self.verdict(*rule)).unwrap_or_default();
            value["rule"] = rule.name.into();
            value["text"] = rule.text.into();
            value["optional"] = rule.optional.into();
            value
        };
        serde_json::json!({"passed": self.passed(), "rules": ALL.iter().map(rule).collect::<Vec<_>>()})
    }
}
