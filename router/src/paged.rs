//! An array that grows by pages: what is in it never moves, and at most one page of it is room that was never used.
//!
//! A vector that doubles holds up to twice what it needs, and copying a million entries keeps everybody waiting. What was reached
//! once stays: after a peak its pages are there for the next one.

/// Bytes of a page at most; a size that allocators keep whole.
const PAGE_BYTES: usize = 16 << 10;

/// Elements by index, from 0. Grows, never shrinks.
#[derive(Debug)]
pub struct Paged<T> {
    pages: Vec<Box<[T]>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Paged<T> {
    /// Elements of a page.
    const EACH: usize = {
        let fit = PAGE_BYTES / if size_of::<T>() == 0 { 1 } else { size_of::<T>() };
        if fit == 0 { 1 } else { fit }
    };

    /// Elements that there are.
    pub fn len(&self) -> usize {
        self.pages.len() * Self::EACH
    }

    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    pub fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index / Self::EACH)?.get(index % Self::EACH)
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pages.get_mut(index / Self::EACH)?.get_mut(index % Self::EACH)
    }

    /// The element, with as many pages more as that takes, full of what `fresh` gives.
    pub fn reach(&mut self, index: usize, fresh: impl Fn() -> T) -> &mut T {
        while self.len() <= index {
            self.pages.push((0..Self::EACH).map(|_| fresh()).collect());
        }
        &mut self.pages[index / Self::EACH][index % Self::EACH]
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten()
    }

    /// Bytes of all pages.
    pub fn bytes(&self) -> usize {
        self.len() * size_of::<T>() + self.pages.capacity() * size_of::<Box<[T]>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reached_stays_where_it_was_while_pages_are_added() {
        let mut paged: Paged<u64> = Paged::default();
        assert_eq!((paged.len(), paged.get(0), paged.bytes()), (0, None, 0));
        *paged.reach(3, || 7) = 1;
        let at: *const u64 = paged.reach(3, || 8);
        let far = 3 * paged.len() + 1;
        *paged.reach(far, || 9) = 2;
        assert_eq!([paged.get(2), paged.get(3), paged.get(far)], [Some(&7), Some(&1), Some(&2)]);
        assert_eq!(paged.get(far - 1), Some(&9));
        assert!(std::ptr::eq(at, paged.reach(3, || 0)));
        assert!(paged.get(paged.len()).is_none() && paged.get_mut(paged.len()).is_none());
        assert_eq!(paged.len(), paged.iter().count());
        assert!(paged.len() <= far + PAGE_BYTES / 8);
    }

    #[test]
    fn an_element_larger_than_a_page_has_a_page_of_its_own() {
        let mut paged: Paged<[u8; PAGE_BYTES + 1]> = Paged::default();
        paged.reach(1, || [0; PAGE_BYTES + 1]);
        assert_eq!(paged.len(), 2);
    }
}
