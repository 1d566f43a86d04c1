//! One writer to each large group, whose members are partly online.
//!
//! Owns: when which group is written to. Guarantees: with a rate, the schedule alone decides; without one, so many messages of a
//! group are on their way, and one more is written when every online member has the oldest of them. Never does: looking at what
//! arrives; the ledger knows.

use super::crowd::{Crowd, Lead};
use crate::load::worker::User;
use crate::load::{Links, Stage};
use crate::schedule::Schedule;
use crate::verify::Room;
use std::collections::VecDeque;
use std::time::Duration;

/// What a fan-out is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Members of a group who connect, its writer not counted.
    pub online: u32,
    /// Members who never connect.
    pub absent: u32,
    /// Groups that have the same members, each with a writer of its own.
    pub sharing: u32,
    /// Messages of a group that are on their way at a time, where there is no rate.
    pub in_flight: u32,
    /// Messages per second of all workers; `None`: a closed loop.
    pub rate: Option<f64>,
    pub duration: Duration,
    pub worker: u64,
}

/// The lead of one worker's fan-out.
pub struct Fanout {
    settings: Settings,
    /// The groups with their writers, and the numbers of the messages that are on their way.
    groups: Vec<(Room, User, VecDeque<u32>)>,
    schedule: Option<Schedule>,
    next: usize,
}

impl Fanout {
    /// Enters the groups into the crowd.
    pub fn new(crowd: &mut Crowd<'_>, settings: Settings) -> Self {
        let users = crowd.users();
        let mut groups = Vec::new();
        let unit = settings.online + settings.sharing;
        for first in (0..users).step_by(unit.max(1) as usize) {
            let (members, end) = (first + settings.sharing, (first + unit).min(users));
            for writer in first..members.min(end) {
                let members: Vec<User> = std::iter::once(writer).chain(members..end).collect();
                groups.push((crowd.group(&members, settings.absent), writer, VecDeque::new()));
            }
        }
        Self { settings, groups, schedule: None, next: 0 }
    }

    fn on_schedule(&mut self, crowd: &mut Crowd<'_>, rate: f64, began: u64) -> (bool, u64) {
        let duration = u64::try_from(self.settings.duration.as_nanos()).unwrap_or(u64::MAX);
        let (worker, workers) = (self.settings.worker, crowd.shared.workers());
        let schedule = self.schedule.get_or_insert_with(|| Schedule::new(rate, began, duration, worker, workers));
        while let Some(at) = schedule.take_due(crowd.shared.clock.now()) {
            if let Some((room, writer, _)) = self.groups.get(self.next) {
                crowd.say(*room, *writer, at);
            }
            self.next = (self.next + 1).checked_rem(self.groups.len()).unwrap_or(0);
        }
        (schedule.peek().is_none(), schedule.peek().unwrap_or(u64::MAX))
    }

    fn closed_loop(&mut self, crowd: &mut Crowd<'_>, began: u64) -> (bool, u64) {
        let now = crowd.shared.clock.now();
        let end = began.saturating_add(u64::try_from(self.settings.duration.as_nanos()).unwrap_or(u64::MAX));
        if now >= end {
            return (true, u64::MAX);
        }
        for (room, writer, on_their_way) in &mut self.groups {
            while on_their_way.front().is_some_and(|&number| crowd.ledger.is_whole(number)) {
                on_their_way.pop_front();
            }
            while on_their_way.len() < self.settings.in_flight as usize {
                let Some(number) = crowd.say(*room, *writer, now) else { break };
                on_their_way.push_back(number);
            }
        }
        (false, end)
    }
}

impl Lead for Fanout {
    fn turn(&mut self, crowd: &mut Crowd<'_>, links: &mut Links<'_>, stage: Stage, began: u64) -> (bool, u64) {
        match (stage, self.settings.rate) {
            (Stage::Connect, _) => (crowd.is_settled(), u64::MAX),
            (Stage::Groups, _) => (crowd.create_groups(links), u64::MAX),
            (Stage::Load, Some(rate)) => self.on_schedule(crowd, rate, began),
            (Stage::Load, None) => self.closed_loop(crowd, began),
            (Stage::Settle, _) => (crowd.ledger.is_settled(), u64::MAX),
            _ => (false, u64::MAX),
        }
    }
}
