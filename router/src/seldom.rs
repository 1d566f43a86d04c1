//! What most have none of: 8 bytes where there is nothing.

use crate::frozen::{Frozen, Read, Reader};
use std::ops::{Deref, DerefMut};

/// Reads as the empty value where there is nothing; the first change makes room for it.
#[derive(Debug)]
pub(crate) struct Seldom<T>(Option<Box<T>>);

/// A type with an empty value that costs nothing.
pub(crate) trait Blank: Default + 'static {
    const BLANK: &'static Self;

    fn is_blank(&self) -> bool;
}

impl<T: Blank> Seldom<T> {
    /// Gives the room back if there is nothing.
    pub fn settle(&mut self) {
        self.0 = self.0.take().filter(|it| !it.is_blank());
    }
}

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Blank> Deref for Seldom<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::BLANK)
    }
}

impl<T: Blank> DerefMut for Seldom<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: Blank + Frozen> Frozen for Seldom<T> {
    fn write(&self, out: &mut Vec<u8>) {
        T::write(self, out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        let mut read = Self(Some(Box::new(T::read(from)?)));
        read.settle();
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Blank for Vec<u8> {
        const BLANK: &'static Self = &Self::new();

        fn is_blank(&self) -> bool {
            self.is_empty()
        }
    }

    #[test]
    fn nothing_costs_a_pointer_and_comes_back_to_it() {
        let mut seldom: Seldom<Vec<u8>> = Seldom::default();
        assert!(seldom.is_empty() && seldom.0.is_none());
        seldom.push(1);
        assert_eq!((seldom.pop(), seldom.0.is_some()), (Some(1), true));
        seldom.settle();
        assert!(seldom.0.is_none());
        assert_eq!(size_of::<Seldom<Vec<u8>>>(), 8);
    }
}
