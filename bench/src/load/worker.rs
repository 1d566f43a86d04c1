//! One load thread: feeds what its connections say to its scenario, and moves with the run's stages.

use super::links::{Event, LinkError, Links, Target};
use super::{Down, Shared, Stage};
use crate::report::Connections;
use bytes::Bytes;
use std::time::Duration;

/// A connection of a worker, and the user on it: 0, 1, 2 ...
pub type User = u32;

/// The longest sleep: how late a change of stage or a time-out is noticed.
const MOST_WAIT: Duration = Duration::from_millis(20);

/// What is said on the connections of one worker.
pub trait Scenario {
    /// The connection is open (the upgrade was accepted).
    fn opened(&mut self, links: &mut Links<'_>, user: User);
    /// A whole message, which arrived at `now`.
    fn message(&mut self, links: &mut Links<'_>, user: User, payload: Bytes, now: u64);
    /// Bytes that are no message: the peer lives.
    fn activity(&mut self, _user: User, _now: u64) {}
    /// The connection ended, or could not be opened.
    fn down(&mut self, links: &mut Links<'_>, user: User, why: &Down);
    /// Called once a turn, after all events: say what is due. Gives whether the stage is done, and when to be called again
    /// at the latest (nanoseconds; `u64::MAX`: on the next event).
    fn turn(&mut self, links: &mut Links<'_>, stage: Stage, began: u64) -> (bool, u64);
}

/// Runs `scenario` until the run finishes. `users` connections are opened at the start.
pub fn run<S: Scenario>(
    target: &Target<'_>,
    users: u32,
    shared: &Shared,
    scenario: &mut S,
) -> Result<Connections, LinkError> {
    let mut links = Links::new(target, users, shared)?;
    (0..users).for_each(|user| links.want(user));
    let mut events = Vec::new();
    let mut done = None;
    loop {
        let (stage, began) = shared.stage();
        if stage == Stage::Finish {
            return Ok(links.finish());
        }
        let (is_done, next) = scenario.turn(&mut links, stage, began);
        if is_done && done != Some(stage) {
            shared.done(stage);
            done = Some(stage);
        }
        let wait = Duration::from_nanos(next.saturating_sub(shared.clock.now())).min(MOST_WAIT);
        links.turn(wait, &mut events)?;
        for event in events.drain(..) {
            match event {
                Event::Opened(user) => scenario.opened(&mut links, user),
                Event::Message { user, payload, at } => scenario.message(&mut links, user, payload, at),
                Event::Activity { user, at } => scenario.activity(user, at),
                Event::Down { user, why } => scenario.down(&mut links, user, &why),
            }
        }
    }
}
