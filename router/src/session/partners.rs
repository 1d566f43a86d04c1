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

/// Pairs that are remembered at first; two that fall on one place take turns. Powers of two.
const FIRST: usize = 64;
/// At most as many.
const MOST: usize = 8_192;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Partners {
    /// Nothing is allocated before somebody writes.
    places: Vec<Option<(UserKey, Named)>>,
    taken: usize,
    /// Of what the places point at.
    heap_bytes: usize,
}

impl Partners {
    /// The direct conversation of `own` with the user of the same tenant who has this name.
    pub fn named(&mut self, own: &UserKey, peer: &str) -> Result<Named, NameError> {
        // No secret: who aims at a place only has it derived anew.
        let hash = FixedState::with_seed(own.spread()).hash_one(peer) as usize;
        if let Some(Some((of, known))) = self.places.get(hash & self.places.len().wrapping_sub(1))
            && of == own
            && is_with(known, own, peer)
        {
            return Ok(known.clone());
        }
        let named = direct_named(own, peer)?;
        if self.taken * 2 >= self.places.len() && self.places.len() < MOST {
            // Who writes on is found again soon.
            let places = (2 * self.places.len()).max(FIRST);
            *self = Self { places: vec![None; places], ..Self::default() };
        }
        let place = hash & (self.places.len() - 1);
        self.heap_bytes += heap_bytes(&named);
        match self.places[place].replace((own.clone(), named.clone())) {
            Some((_, before)) => self.heap_bytes -= heap_bytes(&before),
            None => self.taken += 1,
        }
        Ok(named)
    }

    /// Bytes of the places that are taken, with what they point at, and of those that are not.
    pub fn bytes(&self) -> (usize, usize) {
        let place = size_of::<Option<(UserKey, Named)>>();
        (self.taken * place + self.heap_bytes, (self.places.capacity() - self.taken) * place)
    }
}

/// The kind and the two names, which nobody else may have.
fn heap_bytes(named: &Named) -> usize {
    let names = match &*named.kind {
        ConversationKind::Direct(two) => two.each_ref().map(|user| rounded_up(user.heap_bytes())).iter().sum(),
        ConversationKind::Group => 0,
    };
    // A kind is behind two counters.
    names + rounded_up(2 * size_of::<usize>() + size_of::<ConversationKind>())
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
    use std::sync::Arc;

    fn user(tenant: &str, name: &str) -> UserKey {
        UserKey::new(tenant, name).unwrap()
    }

    #[test]
    fn who_writes_again_is_remembered_and_as_it_would_be_derived() {
        let mut partners = Partners::default();
        let users: Vec<_> = (0..200).map(|n| user("acme", &format!("user-{n}"))).collect();
        for own in &users {
            for peer in &users {
                let named = partners.named(own, peer.user()).unwrap();
                assert_eq!(named.id, own.direct_with(peer));
                assert_eq!(*named.kind, super::super::request::direct(own.clone(), peer.clone()));
                assert!(Arc::ptr_eq(&named.kind, &partners.named(own, peer.user()).unwrap().kind), "derived anew");
            }
        }
        assert!(partners.places.len() == MOST && partners.taken > MOST / 2, "{} pairs are remembered", partners.taken);
        let counted: usize = partners.places.iter().flatten().map(|(_, named)| heap_bytes(named)).sum();
        assert_eq!(partners.heap_bytes, counted);
    }

    #[test]
    fn users_of_other_tenants_who_are_called_the_same_are_others() {
        let mut partners = Partners::default();
        let (ours, theirs) = (user("acme", "zoe"), user("other", "zoe"));
        // So many names that some of both fall on one place.
        for n in 0..50_000 {
            let name = format!("a{n}");
            for own in [&ours, &theirs, &ours] {
                assert_eq!(partners.named(own, &name).unwrap().id, own.direct_with(&user(own.tenant(), &name)));
            }
        }
    }

    #[test]
    fn a_name_that_nobody_may_have_is_refused_each_time_and_nothing_is_kept() {
        let mut partners = Partners::default();
        let own = user("acme", "anna");
        assert!(partners.named(&own, "").is_err() && partners.named(&own, "").is_err());
        assert_eq!(partners.bytes(), (0, 0));
    }
}
