//! What every store must pass: the Store contract as executable cases.
//!
//! A backend's test implements [`Driver`] and calls [`run`]. A case fails by panicking, as a test does.

mod appends;
mod expiry;
mod groups;
mod loads;
mod registers;
mod samples;
mod small;

use crate::{Outcome, StoreAnswer, StoreRequest};
use ringpost_proto::id::{ConversationId, Seq};

/// The store under test, with its clock and its waiting.
pub trait Driver {
    fn submit(&mut self, request: StoreRequest);

    /// Waits for the next answer to anything submitted and not yet answered.
    fn answer(&mut self) -> StoreAnswer;

    /// Ends the store and opens it again over what is durable.
    fn reopen(&mut self);

    /// It is `unix_ms`, and the records of this log up to `upto`, which are older than 61 days then, expire. `false`: here
    /// nothing does.
    fn expire(&mut self, conversation: &ConversationId, upto: Seq, unix_ms: u64) -> bool {
        let _ = (conversation, upto, unix_ms);
        false
    }
}

/// One statement of the contract, shown on a fresh store.
pub type Case = fn(&mut dyn Driver);

/// All cases, by what they state.
pub const CASES: &[(&str, Case)] = &[
    ("appended records are dense and read back as they were", appends::dense),
    ("an append on another head stores nothing and names the head", appends::conflict),
    ("an append that breaks its form stores nothing", appends::malformed),
    ("the append answers of a conversation come in the order of the requests", appends::ordered_answers),
    ("every request is answered exactly once, under its tag", appends::tags),
    ("appended records survive a reopening", appends::durable),
    ("a log is read upwards within its limits", appends::read_upwards),
    ("a log is read downwards within its limits", appends::read_downwards),
    ("a client message id is found however old it is", appends::find_cmid),
    ("a client message id is found within its scope only", appends::cmid_scope),
    ("a conversation's tail holds the last 256 records", loads::tail),
    ("a conversation's tail holds the last two minutes, 256 to 4,096 records", loads::tail_of_minutes),
    ("a conversation's tail holds 8 MiB beyond its newest record", loads::tail_of_bytes),
    ("the latest time that a client message id names is known of the whole log", loads::latest_cmid),
    ("what nobody wrote to is empty", loads::nothing),
    ("a user's conversations come newest first, in pages", loads::user_pages),
    ("a user's page tells heads, own records and registers", loads::user_entry),
    ("a user who talks to itself has one entry and no peer", loads::self_talk),
    ("registers only grow", registers::max_merge),
    ("raised registers survive a reopening", registers::durable),
    ("a room is told Delivered and Read, and no ticks", registers::in_a_room),
    ("the peer's progress is the maximum over its devices", registers::peer_minima),
    ("who hides what it reads shows others what it showed before", registers::shown_reads),
    ("who is in a group sees the log from its joining to its removal", groups::membership),
    ("a room is told its roster: roles, names, epoch", groups::roster),
    ("a group is in the lists of those who are or were in it", groups::lists),
    ("a group stands in the list of who has left where it was then", groups::places_of_former_members),
    ("unread is what counts after Read, without one's own and what is hidden", groups::unread_counts),
    ("what comes while the sender is blocked stays hidden", groups::blocks),
    ("what is said of a record is for those who see the record", groups::said_about),
    ("an erasure takes the body and leaves the rest", groups::erased),
    ("what has expired is told to whoever reads", expiry::told),
    ("what has expired is not unread", expiry::unread),
    ("what a member missed is kept, and its senders are told", expiry::missed),
    ("what a member missed though it has not expired is told as well", expiry::missed_and_kept),
    ("who missed too often is shown as receiving nothing from there on", expiry::missed_too_often),
    ("a document is written on the version that one knows", small::documents),
    ("an item is handed out once", small::once),
    ("reserved requests are answered Unimplemented", reserved),
];

/// Runs every case, each on a store of its own that `fresh` makes.
pub fn run(mut fresh: impl FnMut() -> Box<dyn Driver>) {
    for (name, case) in CASES {
        // Shown by the test harness for the case that fails.
        println!("case: {name}");
        case(&mut *fresh());
    }
}

/// Submits one request and waits for its answer.
fn ask(store: &mut dyn Driver, request: StoreRequest) -> Outcome {
    let tag = request.tag();
    store.submit(request);
    let answer = store.answer();
    assert_eq!(answer.tag, tag, "another request was answered");
    answer.outcome
}

fn reserved(store: &mut dyn Driver) {
    let outcome = ask(store, StoreRequest::Sweep { tag: 3 });
    assert!(matches!(outcome, Outcome::Unimplemented), "{outcome:?}");
}
