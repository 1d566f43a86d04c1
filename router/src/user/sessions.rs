//! The sessions of one user: nearly always one, which takes no allocation.

use crate::frozen::{Frozen, Read, Reader};
use crate::seldom::{Blank, Seldom};
use crate::slab::Key;
use smallvec::SmallVec;

const NONE: Key = Key { slot: u32::MAX, generation: u32::MAX };

/// In the order in which they were added.
#[derive(Debug)]
pub(crate) struct Sessions {
    first: Key,
    others: Seldom<Vec<Key>>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { first: NONE, others: Seldom::default() }
    }
}

impl Blank for Vec<Key> {
    const BLANK: &'static Self = &Self::new();

    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl Sessions {
    pub fn is_empty(&self) -> bool {
        self.first == NONE
    }

    pub fn iter(&self) -> impl Iterator<Item = Key> + '_ {
        (!self.is_empty()).then_some(self.first).into_iter().chain(self.others.iter().copied())
    }

    /// A copy: what is done with a session may change which there are.
    pub fn list(&self) -> SmallVec<[Key; 2]> {
        self.iter().collect()
    }

    pub fn push(&mut self, session: Key) {
        if self.is_empty() { self.first = session } else { self.others.push(session) }
    }

    pub fn remove(&mut self, session: Key) {
        if self.first == session {
            self.first = if self.others.is_empty() { NONE } else { self.others.remove(0) };
        } else if self.others.contains(&session) {
            self.others.retain(|other| *other != session);
        }
        self.others.settle();
    }
}

impl Frozen for Sessions {
    fn write(&self, out: &mut Vec<u8>) {
        self.list().write(out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        let mut sessions = Self::default();
        SmallVec::<[Key; 2]>::read(from)?.into_iter().for_each(|session| sessions.push(session));
        Ok(sessions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeps_what_a_list_keeps_in_its_order(steps in proptest::collection::vec((any::<bool>(), 0..6u32), 0..60)) {
            let (mut sessions, mut model) = (Sessions::default(), Vec::new());
            for (adds, slot) in steps {
                let key = Key { slot, generation: 0 };
                if adds && !model.contains(&key) {
                    sessions.push(key);
                    model.push(key);
                } else if !adds {
                    sessions.remove(key);
                    model.retain(|other| *other != key);
                }
                prop_assert_eq!(sessions.list().to_vec(), model.clone());
                prop_assert_eq!(sessions.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn one_takes_sixteen_bytes() {
        assert_eq!(size_of::<Sessions>(), 16);
    }
}
