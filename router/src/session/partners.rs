//! Whom users of this shard wrote to lately, so that the next message finds its conversation without checking the name and
//! hashing both.
//!
//! Owns: a memo of bounded size. Never decides: what is not here is derived anew, and comes out the same. In no snapshot.

use super::request::{Named, direct_named};
use crate::ledger::rounded_up;
use foldhash::fast::FixedState;
use ringpost_persist::ConversationKind;
use ringpost_proto::id::{NameError, UserKey};
use std::hash::BuildHasher;

/// At most as many pairs are remembered per shard; two that fall on one place take turns. A power of two.
const PLACES: usize = 8_192;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Partners {
    /// Nothing is allocated before somebody writes.
    places: Vec<Option<(UserKey, Named)>>,
    taken: usize,
}

impl Partners {
    /// The direct conversation of `own` with the user of the same tenant who has this name.
    pub fn named(&mut self, own: &UserKey, peer: &str) -> Result<Named, NameError> {
        let place = FixedState::with_seed(own.spread()).hash_one(peer) as usize % PLACES;
        if let Some(Some((of, known))) = self.places.get(place)
            && of == own
            && is_with(known, own, peer)
        {
            return Ok(known.clone());
        }
        let named = direct_named(own, peer)?;
        self.places.resize(PLACES, None);
        let before = self.places[place].replace((own.clone(), named.clone()));
        self.taken += usize::from(before.is_none());
        Ok(named)
    }

    /// Bytes held: of the places, and of the kinds that they point at.
    pub fn bytes(&self) -> usize {
        // A kind is behind two counters.
        let kind = rounded_up(2 * size_of::<usize>() + size_of::<ConversationKind>());
        self.places.capacity() * size_of::<Option<(UserKey, Named)>>() + self.taken * kind
    }
}

/// Whether it is between `own` and this user, who may be the same.
fn is_with(known: &Named, own: &UserKey, peer: &str) -> bool {
    match &*known.kind {
        ConversationKind::Direct([a, b]) => (if a == own { b } else { a }).user() == peer,
        ConversationKind::Group => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_what_would_be_derived() {
        let mut partners = Partners::default();
        let users: Vec<_> = (0..200).filter_map(|n| UserKey::new("acme", &format!("user-{n}")).ok()).collect();
        for _ in 0..2 {
            for own in &users {
                for peer in &users {
                    let named = partners.named(own, peer.user()).unwrap();
                    assert_eq!(named.id, own.direct_with(peer));
                    assert_eq!(*named.kind, super::super::request::direct(own.clone(), peer.clone()));
                }
            }
        }
        assert!(partners.taken <= PLACES && partners.taken > PLACES / 2, "{} pairs are remembered", partners.taken);
    }

    #[test]
    fn users_of_other_tenants_who_are_called_the_same_are_others() {
        let mut partners = Partners::default();
        let (ours, theirs) = (UserKey::new("acme", "anna").unwrap(), UserKey::new("other", "anna").unwrap());
        let ids: Vec<_> = [&ours, &theirs, &ours].map(|own| partners.named(own, "carl").unwrap().id).into();
        assert_ne!(ids[0], ids[1]);
        assert_eq!(ids[0], ids[2]);
    }

    #[test]
    fn a_name_that_nobody_may_have_is_refused_each_time_and_nothing_is_kept() {
        let mut partners = Partners::default();
        let own = UserKey::new("acme", "anna").unwrap();
        assert!(partners.named(&own, "").is_err() && partners.named(&own, "").is_err());
        assert_eq!(partners.bytes(), 0);
    }
}
