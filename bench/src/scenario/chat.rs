//! Users who write to each other on a fixed schedule, in pairs and in groups, while some of them come and go.
//!
//! Owns: who writes when, and to whom. Guarantees: the schedule alone decides when something is sent; who is away does not
//! write, and whoever is drawn instead does. Never does: looking at what arrives; that is the crowd's.

use super::churn::{Churn, Move};
use super::crowd::{Crowd, Lead};
use crate::load::worker::User;
use crate::load::{Links, Stage};
use crate::schedule::Schedule;
use crate::text::mix;
use crate::verify::Room;
use std::time::Duration;

/// Draws of a writer before one who is away does: then most are.
const DRAWS: u32 = 64;

/// What a run of chat is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Messages per second of all workers.
    pub rate: f64,
    pub duration: Duration,
    /// Messages of all workers at most.
    pub messages: u64,
    /// Messages of all workers that may be without an answer. What is due beyond them waits, and is scheduled for when it is
    /// sent; without it nothing waits.
    pub unanswered: Option<u64>,
    /// Share of the messages that go to groups, 0 to 1.
    pub group_share: f64,
    /// Members of a group; every user is in one, but for those that are left over.
    pub group_size: u32,
    /// Share of the users who are away at any time, 0 to 1.
    pub offline: f64,
    /// How long each of them is.
    pub away: Duration,
    /// Share of those who go that say goodbye, 0 to 1; the others are cut.
    pub goodbyes: f64,
    /// Nobody goes while more than this share of the users is on the way back, 0 to 1.
    pub crowding: f64,
    pub seed: u64,
    /// This worker's number.
    pub worker: u64,
    /// Latencies are kept over time in slices of this width; zero: they are not.
    pub slice: Duration,
}

/// Whether a draw is among this share of all, 0 to 1.
pub fn chance(draw: u64, share: f64) -> bool {
    draw & 0xffff_ffff < (share * 4_294_967_296.0) as u64
}

/// The lead of one worker's chat.
pub struct Chat {
    settings: Settings,
    schedule: Option<Schedule>,
    drawn: u64,
    first_group: Room,
    groups: u32,
    churn: Option<Churn>,
    is_back: bool,
    moves: Vec<Move>,
}

impl Chat {
    /// Enters the pairs (neighbours) and groups (chunks of neighbours) into the crowd.
    pub fn new(crowd: &mut Crowd<'_>, settings: Settings) -> Self {
        let users = crowd.users();
        (0..users / 2).for_each(|pair| {
            crowd.pair(2 * pair, 2 * pair + 1);
        });
        let size = settings.group_size.max(1);
        let groups = if settings.group_share > 0.0 { users / size } else { 0 };
        for group in 0..groups {
            let members: Vec<User> = (group * size..(group + 1) * size).collect();
            crowd.group(&members, 0);
        }
        let drawn = mix(settings.seed ^ settings.worker);
        Self {
            settings,
            schedule: None,
            drawn,
            first_group: users / 2,
            groups,
            churn: None,
            is_back: false,
            moves: Vec::new(),
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn = mix(self.drawn);
        self.drawn
    }

    fn send_due(&mut self, crowd: &mut Crowd<'_>, began: u64) -> (bool, u64) {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let (rate, duration) = (self.settings.rate, nanos(self.settings.duration));
        let (worker, workers, messages) = (self.settings.worker, crowd.shared.workers(), self.settings.messages);
        crowd.slices.begin(began, nanos(self.settings.slice));
        let new = || Schedule::new(rate, began, duration, worker, workers).up_to(messages);
        let mut schedule = self.schedule.take().unwrap_or_else(new);
        let own = self.settings.unanswered.map(|all| all.div_ceil(workers).max(1));
        let has_room = |crowd: &Crowd<'_>| own.is_none_or(|own| crowd.ledger.unanswered() < own);
        while has_room(crowd)
            && let Some(at) = schedule.take_due(crowd.shared.clock.now())
        {
            self.say(crowd, if own.is_some() { crowd.shared.clock.now() } else { at });
        }
        let next = schedule.peek();
        self.schedule = Some(schedule);
        // What waits for answers is behind its schedule, which says nothing of the end then.
        let is_over = own.is_some() && crowd.shared.clock.now() >= began.saturating_add(duration);
        (next.is_none() || is_over, next.filter(|_| has_room(crowd)).unwrap_or(u64::MAX))
    }

    fn say(&mut self, crowd: &mut Crowd<'_>, at: u64) {
        let is_group = self.groups > 0 && chance(self.draw(), self.settings.group_share);
        let size = self.settings.group_size.max(1);
        let writers = if is_group { self.groups * size } else { crowd.users() / 2 * 2 };
        let Some(mut from) = self.draw().checked_rem(u64::from(writers)) else { return };
        if self.churn.is_some() {
            for _ in 0..DRAWS {
                if crowd.is_present(from as User) {
                    break;
                }
                from = self.draw() % u64::from(writers);
            }
        }
        let from = from as User;
        let room = if is_group { self.first_group + from / size } else { from / 2 };
        crowd.say(room, from, at);
    }

    fn come_and_go(&mut self, crowd: &mut Crowd<'_>, links: &mut Links<'_>) {
        let (now, users) = (crowd.shared.clock.now(), crowd.users());
        let count = (self.settings.offline * f64::from(users)).round() as u32;
        let nanos = u64::try_from(self.settings.away.as_nanos()).unwrap_or(u64::MAX);
        if count == 0 {
            return;
        }
        let mut moves = std::mem::take(&mut self.moves);
        let is_crowded = f64::from(crowd.returning()) > self.settings.crowding * f64::from(users);
        match &mut self.churn {
            None => {
                let mut churn = Churn::new(count, nanos, self.drawn);
                churn.start(now, count, users, |user| crowd.is_present(user), &mut moves);
                self.churn = Some(churn);
            }
            Some(churn) => churn.turn(now, users, |user| !is_crowded && crowd.is_present(user), &mut moves),
        }
        self.move_all(crowd, links, moves);
    }

    fn all_back(&mut self, crowd: &mut Crowd<'_>, links: &mut Links<'_>) {
        if let Some(churn) = self.churn.as_mut().filter(|_| !self.is_back) {
            let mut moves = std::mem::take(&mut self.moves);
            churn.end(&mut moves);
            self.move_all(crowd, links, moves);
        }
        self.is_back = true;
    }

    fn move_all(&mut self, crowd: &mut Crowd<'_>, links: &mut Links<'_>, mut moves: Vec<Move>) {
        for step in moves.drain(..) {
            match step {
                Move::Go(user) if chance(self.draw(), self.settings.goodbyes) => crowd.part(links, user),
                Move::Go(user) => crowd.leave(links, user),
                Move::Back(user) => crowd.come_back(links, user),
            }
        }
        self.moves = moves;
    }
}

impl Lead for Chat {
    fn turn(&mut self, crowd: &mut Crowd<'_>, links: &mut Links<'_>, stage: Stage, began: u64) -> (bool, u64) {
        match stage {
            Stage::Connect => (crowd.is_settled(), u64::MAX),
            Stage::Groups => (crowd.create_groups(links), u64::MAX),
            Stage::Load => {
                self.come_and_go(crowd, links);
                self.send_due(crowd, began)
            }
            Stage::Return => {
                self.all_back(crowd, links);
                (crowd.is_back(), u64::MAX)
            }
            Stage::Settle => (crowd.ledger.is_settled(), u64::MAX),
            Stage::Hold | Stage::PingAll | Stage::Away | Stage::Slow | Stage::Finish => (false, u64::MAX),
        }
    }
}
