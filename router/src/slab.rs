//! A slab whose keys carry a generation: a key of an entry that is gone finds nothing, never a later entry in its slot.

use crate::frozen::{Frozen, Read, Reader, RestoreError};
use crate::paged::Paged;

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

impl<T> Entry<T> {
    fn fresh() -> Self {
        Self { generation: 0, value: None }
    }
}

#[derive(Debug)]
pub struct Slab<T> {
    entries: Paged<Entry<T>>,
    /// Slots that were ever used, from the first.
    slots: u32,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Paged::default(), slots: 0, free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub fn len(&self) -> usize {
        self.slots as usize - self.free.len()
    }

    /// Slots, used or free.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Bytes of one entry, and of all that is allocated, whether it is used or not.
    pub fn bytes(&self) -> (usize, usize) {
        (size_of::<Entry<T>>(), self.entries.bytes() + self.free.capacity() * size_of::<u32>())
    }

    /// Takes the slot freed last, or a new one.
    pub fn insert(&mut self, value: T) -> Key {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        let entry = self.entries.reach(slot as usize, Entry::fresh);
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
        self.slots.write(out);
        self.entries.iter().take(self.slots as usize).for_each(|entry| entry.write(out));
        self.free.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        let (slots, mut entries, mut empty) = (u32::read(from)?, Paged::default(), 0);
        for slot in 0..slots as usize {
            let entry = Entry::read(from)?;
            empty += usize::from(entry.value.is_none());
            *entries.reach(slot, Entry::fresh) = entry;
        }
        let free: Vec<u32> = Frozen::read(from)?;
        let is_free = |slot: &u32| {
            *slot < slots && entries.get(*slot as usize).is_some_and(|entry: &Entry<T>| entry.value.is_none())
        };
        if free.len() != empty || !free.iter().all(is_free) {
            return Err(RestoreError("slots that are free and are not"));
        }
        Ok(Self { entries, slots, free })
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
