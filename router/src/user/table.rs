//! The users of a shard, by name.
//!
//! Owns: the entries, in pages that do not move, and an index of their slots: a table that is half empty is half empty of four
//! bytes. Never does: forgetting a user by itself.

use super::User;
use crate::ledger::rounded_up;
use crate::paged::Paged;
use crate::shard::Seeded;
use hashbrown::HashTable;
use ringpost_proto::id::UserKey;
use std::hash::BuildHasher;

#[derive(Debug)]
struct Entry {
    name: UserKey,
    user: User,
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Users {
    entries: Paged<Option<Entry>>,
    /// Slots that were ever used, from the first.
    slots: u32,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: Seeded,
    /// What the names take, as it was asked for and as the allocator rounds it up.
    names: (usize, usize),
}

impl Users {
    pub fn new(hasher: Seeded) -> Self {
        Self { entries: Paged::default(), slots: 0, free: Vec::new(), index: HashTable::new(), hasher, names: (0, 0) }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn get(&self, name: &UserKey) -> Option<&User> {
        self.entry(self.find(name)?).map(|entry| &entry.user)
    }

    pub fn get_mut(&mut self, name: &UserKey) -> Option<&mut User> {
        let slot = self.find(name)?;
        self.entries.get_mut(slot as usize)?.as_mut().map(|entry| &mut entry.user)
    }

    /// The user's entry, a blank one if there was none.
    pub fn enter(&mut self, name: &UserKey) -> &mut User {
        let slot = match self.find(name) {
            Some(slot) => slot,
            None => self.add(name.clone()),
        };
        let entry = self.entries.reach(slot as usize, || None);
        debug_assert!(entry.is_some(), "what is in the index is there");
        &mut entry.get_or_insert_with(|| Entry { name: name.clone(), user: User::default() }).user
    }

    pub fn insert(&mut self, name: UserKey, user: User) {
        *self.enter(&name) = user;
    }

    pub fn remove(&mut self, name: &UserKey) -> Option<User> {
        let (hash, entries) = (self.hasher.hash_one(name), &self.entries);
        let found = self.index.find_entry(hash, |slot| is(entries, *slot, name)).ok()?;
        let (slot, _) = found.remove();
        self.free.push(slot);
        let bytes = name.heap_bytes();
        self.names = (self.names.0 - bytes, self.names.1 - rounded_up(bytes));
        self.entries.get_mut(slot as usize)?.take().map(|entry| entry.user)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&UserKey, &User)> {
        self.entries.iter().flatten().map(|entry| (&entry.name, &entry.user))
    }

    /// Bytes of one entry, of all that are allocated, and of the names.
    pub fn entry_bytes(&self) -> (usize, usize, usize) {
        let entries = self.entries.bytes() + self.free.capacity() * size_of::<u32>();
        (size_of::<Option<Entry>>(), entries, self.names.0)
    }

    pub fn names_rounded_up(&self) -> usize {
        self.names.1
    }

    /// Bytes that the index needs for one user, and all that it has.
    pub fn index_bytes(&self) -> (usize, usize) {
        (size_of::<u32>() + 1, self.index.allocation_size())
    }

    fn find(&self, name: &UserKey) -> Option<u32> {
        self.index.find(self.hasher.hash_one(name), |slot| is(&self.entries, *slot, name)).copied()
    }

    fn entry(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(slot as usize)?.as_ref()
    }

    /// A slot for a name that has none.
    fn add(&mut self, name: UserKey) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        let (hash, bytes) = (self.hasher.hash_one(&name), name.heap_bytes());
        self.names = (self.names.0 + bytes, self.names.1 + rounded_up(bytes));
        *self.entries.reach(slot as usize, || None) = Some(Entry { name, user: User::default() });
        let (entries, hasher) = (&self.entries, &self.hasher);
        let again = |slot: &u32| match entries.get(*slot as usize) {
            Some(Some(entry)) => hasher.hash_one(&entry.name),
            _ => 0,
        };
        self.index.insert_unique(hash, slot, again);
        slot
    }
}

fn is(entries: &Paged<Option<Entry>>, slot: u32, name: &UserKey) -> bool {
    matches!(entries.get(slot as usize), Some(Some(entry)) if entry.name == *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn name(number: u8) -> UserKey {
        UserKey::new("t", &format!("user{number}")).unwrap()
    }

    proptest! {
        #[test]
        fn finds_what_a_map_finds(steps in proptest::collection::vec((0..3u8, 0..40u8), 1..200)) {
            let (mut users, mut model) = (Users::new(Seeded::new(7)), BTreeMap::new());
            for (at, (step, number)) in (1..).zip(steps) {
                let name = name(number);
                match step {
                    0 => {
                        users.enter(&name).left_at(at);
                        model.insert(name, at);
                    }
                    1 => prop_assert_eq!(users.remove(&name).map(|user| user.rare.left_ms), model.remove(&name)),
                    _ => prop_assert_eq!(users.get(&name).map(|user| user.rare.left_ms), model.get(&name).copied()),
                }
                prop_assert_eq!(users.len(), model.len());
            }
            let told: BTreeMap<_, _> = users.iter().map(|(name, user)| (name.clone(), user.rare.left_ms)).collect();
            prop_assert_eq!(told, model);
            prop_assert!(users.slots <= 40);
        }
    }

    impl User {
        fn left_at(&mut self, at: u64) {
            self.rare.left_ms = at;
        }
    }
}
