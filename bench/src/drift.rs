//! Whether the gateway's memory grows though as many sessions are there.
//!
//! Owns: which moments of a soak are compared, and by how much memory may differ. Guarantees: memory is that without the memory
//! tables and the cache of the store and without rooms, which keep more the more is written, each within bounds of its own, and
//! have gauges; of a moment it is the lowest of a few seconds, so that a checkpoint or a merge passes for no growth. Never does:
//! reading.

/// From a moment on, or up to it, so many seconds are looked at.
const WINDOW: f64 = 15.0;
/// Of the sessions that were there before a storm, the share that is back when it is over; others come and go always.
const BACK: f64 = 0.99;
/// How much memory may grow: a share of what it was, for what the allocator does not give back of pages that are not empty ...
const SHARE: f64 = 0.10;
/// ... some of it whatever it was, for buffers of threads, ...
const FIXED: f64 = 16.0 * MIB;
/// ... and a share of what rooms grew by, for what the allocator rounds up and does not give back of pages that they leave as they
/// grow. A third was measured in 30 minutes.
const ROOMS: f64 = 0.4;
const MIB: f64 = 1_048_576.0;

/// What the gateway said of itself at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look {
    /// Since the load began.
    pub seconds: f64,
    /// Bytes.
    pub resident: f64,
    /// Of it the store's memory tables and its cache.
    pub store: f64,
    /// Of it rooms, with what they keep of their newest records.
    pub rooms: f64,
    pub sessions: f64,
    pub conversations: f64,
}

impl Look {
    pub fn memory(&self) -> f64 {
        self.resident - self.store - self.rooms
    }
}

/// A moment that is compared with others.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    pub when: String,
    pub look: Look,
}

/// The moments of a load that lasted until `end`: after the warm-up, before and after each storm that came later, and the end.
/// Seconds; those at which nothing was told are left out.
pub fn moments(looks: &[Look], warm_up: f64, storms: &[f64], end: f64) -> Vec<Moment> {
    let mut moments = Vec::new();
    let mut add = |when: String, look: Option<Look>| moments.extend(look.map(|look| Moment { when, look }));
    add("after the warm-up".to_owned(), lowest(looks, warm_up - WINDOW, warm_up));
    for (number, &storm) in (1..).zip(storms).filter(|(_, storm)| **storm > warm_up) {
        let before = lowest(looks, storm - WINDOW, storm);
        let next = storms.iter().copied().find(|&next| next > storm).unwrap_or(end);
        let is_back = |look: &&Look| before.is_some_and(|before| look.sessions >= BACK * before.sessions);
        let mut later = looks.iter().filter(|look| look.seconds > storm + 1.0 && look.seconds < next);
        let back = later.find(is_back).map(|look| look.seconds);
        add(format!("before storm {number}"), before);
        add(
            format!("after storm {number}"),
            back.and_then(|back| lowest(looks, back - 0.001, next.min(back + WINDOW))),
        );
    }
    add("at the end of the load".to_owned(), lowest(looks, end - WINDOW, end));
    moments
}

/// The look with the least memory after `from` and not after `to`.
fn lowest(looks: &[Look], from: f64, to: f64) -> Option<Look> {
    let within = looks.iter().filter(|look| look.seconds > from && look.seconds <= to);
    within.min_by(|a, b| a.memory().total_cmp(&b.memory())).copied()
}

/// What memory may be where it was `first`, bytes.
pub fn allowed(first: &Look, now: &Look) -> f64 {
    first.memory() * (1.0 + SHARE) + FIXED + ROOMS * (now.rooms - first.rooms).max(0.0)
}

/// What memory may be when all have gone and no room is left: no more than it was with all that was there `first`.
pub fn allowed_at_rest(first: &Look) -> f64 {
    (first.memory() + first.rooms) * (1.0 + SHARE) + FIXED
}

/// A sentence for each moment at which memory was more than the first one allows.
pub fn growth(moments: &[Moment]) -> Vec<String> {
    let Some((first, later)) = moments.split_first() else { return Vec::new() };
    let judge = |moment: &Moment| {
        let (is, allowed) = (moment.look.memory(), allowed(&first.look, &moment.look));
        (is > allowed).then(|| {
            format!(
                "memory was {:.1} MiB {} and {:.1} MiB {}: {:.1} MiB more, {:.1} allowed",
                first.look.memory() / MIB,
                first.when,
                is / MIB,
                moment.when,
                (is - first.look.memory()) / MIB,
                (allowed - first.look.memory()) / MIB
            )
        })
    };
    later.iter().filter_map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(seconds: f64, memory: f64, sessions: f64) -> Look {
        let (store, rooms) = (50.0 * MIB, 30.0 * MIB);
        Look { seconds, resident: memory * MIB + store + rooms, store, rooms, sessions, conversations: 10.0 }
    }

    /// 100 MiB and a little more each second, storms at 30 and 60 s that last for 5.
    fn looks(per_second: f64) -> Vec<Look> {
        let sessions =
            |second: i32| if (31..35).contains(&second) || (61..65).contains(&second) { 900.0 } else { 999.0 };
        (0..=90)
            .map(|second| look(f64::from(second), 100.0 + per_second * f64::from(second), sessions(second)))
            .collect()
    }

    #[test]
    fn moments_are_before_and_after_each_storm_with_everybody_there() {
        let moments = moments(&looks(1.0), 20.0, &[10.0, 30.0, 60.0], 90.0);
        let told: Vec<_> = moments.iter().map(|moment| (moment.when.as_str(), moment.look.seconds)).collect();
        let wanted = [
            ("after the warm-up", 6.0),
            ("before storm 2", 16.0),
            ("after storm 2", 35.0),
            ("before storm 3", 46.0),
            ("after storm 3", 65.0),
            ("at the end of the load", 76.0),
        ];
        assert_eq!(told, wanted, "the lowest of each window, and the storm within the warm-up is left out");
    }

    #[test]
    fn memory_that_stays_is_no_growth_and_memory_that_climbs_is() {
        assert!(growth(&moments(&looks(0.0), 20.0, &[30.0, 60.0], 90.0)).is_empty());
        let told = growth(&moments(&looks(1.0), 20.0, &[30.0, 60.0], 90.0));
        // 106 MiB at first: 26.6 MiB more are allowed.
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!(
            told[0],
            "memory was 106.0 MiB after the warm-up and 135.0 MiB after storm 1: 29.0 MiB more, 26.6 allowed"
        );
    }

    #[test]
    fn rooms_are_left_aside_and_a_share_of_their_growth_is_allowed_for() {
        let first = look(0.0, 100.0, 9.0);
        let grown = |mib: f64| Look { resident: first.resident + mib * MIB, rooms: first.rooms + mib * MIB, ..first };
        assert_eq!((grown(50.0).memory() / MIB).round(), 100.0);
        let allowed = |mib: f64| (allowed(&first, &grown(mib)) / MIB).round();
        assert_eq!((allowed(0.0), allowed(50.0), allowed(-20.0)), (126.0, 146.0, 126.0));
        assert_eq!((allowed_at_rest(&first) / MIB).round(), 159.0);
    }

    #[test]
    fn a_storm_from_which_nobody_came_back_has_no_moment_after_it() {
        let mut looks = looks(0.0);
        looks.iter_mut().filter(|look| look.seconds > 30.0).for_each(|look| look.sessions = 1.0);
        let moments = moments(&looks, 20.0, &[30.0], 90.0);
        assert!(moments.iter().all(|moment| moment.when != "after storm 1") && moments.len() == 3);
        assert!(growth(&[]).is_empty());
    }
}
