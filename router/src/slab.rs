//! A slab whose keys carry a generation: a key of an entry that is gone finds nothing, never a later entry in its slot.

use crate::frozen::{Frozen, Read, Reader, RestoreError};

/// Slot in the low 32 bits, generation above.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key {
    pub slot: u32,
    pub generation: u32,
}

impl Key {
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    pub fn from_u64(number: u64) -> Self {
        Self { slot: number as u32, generation: (number >> 32) as u32 }
    }
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Slots, used or free.
    pub fn slots(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Takes the slot freed last, or a new one.
    pub fn insert(&mut self, value: T) -> Key {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, value: None });
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[slot as usize];
        entry.value = Some(value);
        Key { slot, generation: entry.generation }
    }

    pub fn get(&self, key: Key) -> Option<&T> {
        let entry = self.entries.get(key.slot as usize)?;
        if entry.generation == key.generation { entry.value.as_ref() } else { None }
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        if entry.generation == key.generation { entry.value.as_mut() } else { None }
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        if entry.generation != key.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(value)
    }

    /// The key of what is in `slot` now.
    pub fn key_at(&self, slot: u32) -> Option<Key> {
        let entry = self.entries.get(slot as usize)?;
        entry.value.as_ref().map(|_| Key { slot, generation: entry.generation })
    }

    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.entries.iter().enumerate().filter_map(|(slot, entry)| {
            let key = Key { slot: slot as u32, generation: entry.generation };
            entry.value.as_ref().map(|value| (key, value))
        })
    }
}

impl<T: Frozen> Frozen for Slab<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.entries.write(out);
        self.free.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        let (entries, free): (Vec<Entry<T>>, Vec<u32>) = Frozen::read(from)?;
        let is_free = |slot: &u32| entries.get(*slot as usize).is_some_and(|entry| entry.value.is_none());
        let empty = entries.iter().filter(|entry| entry.value.is_none()).count();
        if free.len() != empty || !free.iter().all(is_free) {
            return Err(RestoreError("slots that are free and are not"));
        }
        Ok(Self { entries, free })
    }
}

impl<T: Frozen> Frozen for Entry<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.generation.write(out);
        self.value.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        Ok(Self { generation: Frozen::read(from)?, value: Frozen::read(from)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing_in_a_slot_used_again() {
        let mut slab = Slab::default();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(second.slot, first.slot);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!((slab.get(second), slab.len()), (Some(&"second"), 1));
        assert_eq!(Key::from_u64(second.to_u64()), second);
    }
}
