//! The coordinator's side of one worker.
//!
//! Owns: the connection to it. Guarantees: to the run's stages a worker is what a load thread is: it hears of each that
//! begins, says when it has done it, and its counts are among the run's. Never does: leading.

use super::FleetError;
use super::link::{BEAT, Link, SILENCE};
use super::opening;
use super::secret::Secret;
use super::words::{MOST_PART, MOST_WORD, Opening, Order, Part, Word};
use crate::load::{Shared, Stage};
use crate::progress::Counts;
use crate::report::Connections;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};

/// For closing all sessions at the end, and for what was found to come.
const FINISH: Duration = Duration::from_secs(120);

/// A worker that is ready, or was asked to be.
pub struct Member {
    /// As it was named on the command line.
    pub name: String,
    pub users: u32,
    link: Link,
}

/// What a worker found, what became of its connections, and the percentage that its host took.
pub type Found<F> = (F, Connections, Option<f64>);

impl Member {
    /// Connects to a worker that knows the secret, and is to have so many users.
    pub fn connect(name: &str, users: u32, secret: &Secret) -> Result<Self, FleetError> {
        let mut link = Link::connect(name, secret)?;
        opening::ask(&mut link, secret)?;
        Ok(Self { name: name.to_owned(), users, link })
    }

    /// Tells the worker what it is to do.
    pub fn assign(&mut self, part: Part) -> Result<(), FleetError> {
        self.link.send(&Opening::Part(part))
    }

    /// Waits until the worker is ready to begin; gives its plan.
    pub fn ready(&mut self) -> Result<String, FleetError> {
        match self.link.wait(MOST_PART, opening::PATIENCE)? {
            Opening::Ready(plan) => Ok(plan),
            Opening::Refused(why) => Err(FleetError::Refused(why)),
            _ => Err(FleetError::Unexpected),
        }
    }

    /// Goes with the run until it is over. `None`: another worker has ended it.
    pub fn follow<F: DeserializeOwned>(mut self, shared: &Shared) -> Result<Option<Found<F>>, FleetError> {
        let (mut told, mut done, mut counts, mut spoke) = (None, None, Counts::default(), Instant::now());
        while !shared.is_broken() {
            let (stage, _) = shared.stage();
            if told != Some(stage) || spoke.elapsed() >= BEAT {
                let order = if told == Some(stage) { Order::Beat } else { Order::Stage(stage) };
                self.link.send(&order)?;
                (told, spoke) = (Some(stage), Instant::now());
            }
            let is_over = stage == Stage::Finish;
            match self.link.poll(MOST_WORD, if is_over { FINISH } else { SILENCE })? {
                None => {}
                Some(Word::Counts(now)) => {
                    shared.counters.add(&now, &counts);
                    counts = now;
                }
                Some(Word::Done(stage)) => {
                    if done != Some(stage) {
                        shared.done(stage);
                    }
                    done = Some(stage);
                }
                Some(Word::Found { found, connections, stolen }) if is_over => {
                    return Ok(Some((found, connections, stolen)));
                }
                Some(Word::Found { .. }) => return Err(FleetError::Unexpected),
                Some(Word::BrokeOff(why)) => return Err(FleetError::BrokeOff(why)),
            }
        }
        Ok(None)
    }
}
