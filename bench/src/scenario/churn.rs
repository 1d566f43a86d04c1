//! Who is offline when.
//!
//! Owns: the users who are away. Guarantees: from the start on as many as asked for are away at any time; each comes back
//! after the same time, and another goes then. Never does: reading a clock; time is an argument.

use crate::load::worker::User;
use crate::text::mix;
use std::collections::VecDeque;

/// Draws before one more is away later than it should be: almost nobody is there.
const DRAWS: u32 = 256;

/// See the module's page.
#[derive(Debug)]
pub struct Churn {
    /// Who comes back and when, the next one first; `None`: nobody was there to go.
    away: VecDeque<(u64, Option<User>)>,
    for_nanos: u64,
    drawn: u64,
}

/// What is to be done with a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Go(User),
    Back(User),
}

impl Churn {
    /// `count` users away at a time, each for so long.
    pub fn new(count: u32, for_nanos: u64, seed: u64) -> Self {
        Self { away: VecDeque::with_capacity(count as usize), for_nanos: for_nanos.max(1), drawn: seed }
    }

    /// The first users go, at `now`: their returns are spread over the time that each is away. `users`: how many there are.
    pub fn start(
        &mut self,
        now: u64,
        count: u32,
        users: u32,
        is_present: impl Fn(User) -> bool,
        moves: &mut Vec<Move>,
    ) {
        for index in 0..count {
            let due = now + self.for_nanos * u64::from(index + 1) / u64::from(count);
            self.go(due, users, &is_present, moves);
        }
    }

    /// Those whose time has come back, each for another one who goes.
    pub fn turn(&mut self, now: u64, users: u32, is_present: impl Fn(User) -> bool, moves: &mut Vec<Move>) {
        while let Some((due, user)) = self.away.pop_front_if(|(due, _)| *due <= now) {
            moves.extend(user.map(Move::Back));
            self.go(due + self.for_nanos, users, &is_present, moves);
        }
    }

    /// Everybody comes back.
    pub fn end(&mut self, moves: &mut Vec<Move>) {
        moves.extend(self.away.drain(..).filter_map(|(_, user)| user.map(Move::Back)));
    }

    fn go(&mut self, due: u64, users: u32, is_present: impl Fn(User) -> bool, moves: &mut Vec<Move>) {
        let is_free = |user: User, moves: &[Move]| is_present(user) && !moves.contains(&Move::Go(user));
        let mut draw = || {
            self.drawn = mix(self.drawn);
            self.drawn.checked_rem(u64::from(users)).map(|user| user as User)
        };
        let user = (0..DRAWS).find_map(|_| draw().filter(|&user| is_free(user, moves)));
        moves.extend(user.map(Move::Go));
        self.away.push_back((due, user));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn as_many_as_asked_for_are_away_at_any_time_and_everybody_takes_turns() {
        let (mut away, mut went, mut moves) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let mut churn = Churn::new(5, SECOND, 7);
        churn.start(0, 5, 100, |_| true, &mut moves);
        for now in 0..200 {
            churn.turn(now * SECOND / 10, 100, |user| !away.contains(&user), &mut moves);
            for step in moves.drain(..) {
                match step {
                    Move::Go(user) => assert!(
                        away.insert(user) && {
                            went.insert(user);
                            true
                        }
                    ),
                    Move::Back(user) => assert!(away.remove(&user)),
                }
            }
            assert_eq!(away.len(), 5);
        }
        assert!(went.len() > 50, "{}", went.len());
        churn.end(&mut moves);
        assert_eq!(moves.len(), 5);
    }

    #[test]
    fn who_is_away_stays_so_for_the_time_given() {
        let mut moves = Vec::new();
        let mut churn = Churn::new(1, SECOND, 7);
        churn.start(0, 1, 2, |user| user == 0, &mut moves);
        assert_eq!(std::mem::take(&mut moves), [Move::Go(0)]);
        churn.turn(SECOND - 1, 2, |user| user == 1, &mut moves);
        assert!(moves.is_empty());
        churn.turn(SECOND, 2, |user| user == 1, &mut moves);
        assert_eq!(moves, [Move::Back(0), Move::Go(1)]);
    }

    #[test]
    fn where_nobody_is_there_nobody_goes() {
        let mut moves = Vec::new();
        let mut churn = Churn::new(2, SECOND, 7);
        churn.start(0, 2, 10, |_| false, &mut moves);
        churn.turn(5 * SECOND, 0, |_| true, &mut moves);
        assert!(moves.is_empty());
    }
}
