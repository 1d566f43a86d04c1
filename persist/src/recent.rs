//! What was used lately, in two generations: what leaves the young one when that is full stays in the old one until the next
//! time. Bounded, without a list to keep in order.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::hash::Hash;

pub(crate) struct Recent<K, V> {
    young: HashMap<K, V, FixedState>,
    old: HashMap<K, V, FixedState>,
    cost_of: fn(&V) -> usize,
    /// Of the young ones.
    cost: usize,
    most: usize,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    /// `most`: what one generation may cost, as `cost_of` tells; that never changes while a value is here. `seed`: a secret
    /// where others choose keys.
    pub(crate) fn new(most: usize, seed: u64, cost_of: fn(&V) -> usize) -> Self {
        let map = || HashMap::with_hasher(FixedState::with_seed(seed));
        Self { young: map(), old: map(), cost_of, cost: 0, most }
    }

    /// From now on one generation may cost so much. What larger ones took is given back.
    pub(crate) fn bound(&mut self, most: usize) {
        self.most = most;
        self.settle();
        self.young.shrink_to_fit();
        self.old.shrink_to_fit();
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&V> {
        if !self.young.contains_key(key) {
            let value = self.old.remove(key)?;
            self.put(key.clone(), value);
        }
        self.young.get(key)
    }

    pub(crate) fn take(&mut self, key: &K) -> Option<V> {
        let Some(value) = self.young.remove(key) else { return self.old.remove(key) };
        self.cost -= (self.cost_of)(&value);
        Some(value)
    }

    /// It may be too much then: see [`Self::settle`].
    pub(crate) fn put(&mut self, key: K, value: V) {
        drop(self.take(&key));
        self.cost += (self.cost_of)(&value);
        self.young.insert(key, value);
    }

    /// Bytes of the tables; what values hold on the heap, `each` of them about, with it.
    pub(crate) fn bytes(&self, each: usize) -> u64 {
        let tables = self.young.allocation_size() + self.old.allocation_size();
        (tables + (self.young.len() + self.old.len()) * each) as u64
    }

    /// Whether the young ones are too many.
    pub(crate) fn is_full(&self) -> bool {
        self.cost > self.most
    }

    /// If the young ones are too many they become the old ones, and those are forgotten.
    pub(crate) fn settle(&mut self) {
        if self.is_full() {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.cost = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut recent = Recent::new(10, 1, |value: &usize| *value);
        for key in 0..100 {
            recent.put(key, 3);
            recent.settle();
            assert_eq!(recent.get(&0), Some(&3));
            recent.settle();
            assert!(recent.young.len() + recent.old.len() <= 9, "{key}");
        }
        assert_eq!(recent.get(&99), Some(&3));
        assert_eq!(recent.get(&50), None);
    }

    #[test]
    fn a_tighter_bound_gives_back_what_a_wider_one_took() {
        let mut recent = Recent::new(10_000, 1, |value: &usize| *value);
        (0..9_000).for_each(|key| recent.put(key, 1));
        recent.bound(10);
        assert!(recent.young.capacity() == 0 && recent.old.len() == 9_000);
        (0..11).for_each(|key| recent.put(key, 1));
        recent.settle();
        recent.bound(10);
        assert!(recent.old.len() == 11 && recent.young.capacity() + recent.old.capacity() < 100);
    }

    #[test]
    fn of_a_key_there_is_one_value_and_its_cost_goes_with_it() {
        let mut recent = Recent::new(10, 1, |value: &usize| *value);
        recent.put('a', 11);
        recent.settle();
        recent.put('a', 2);
        assert_eq!(recent.get(&'a'), Some(&2));
        assert_eq!(recent.cost, 2);
        assert_eq!((recent.take(&'a'), recent.cost), (Some(2), 0));
        assert_eq!(recent.take(&'a'), None);
    }
}
