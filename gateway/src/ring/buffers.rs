//! Provided buffers: the memory into which the kernel receives.
//!
//! Owns: a buffer ring (IORING_REGISTER_PBUF_RING, Linux 5.19) and its buffers. Guarantees: a buffer that the kernel filled
//! belongs to exactly one [`RecvBuf`], and goes back exactly once, when that is dropped. The kernel is given few of them at
//! first and more as they run low, so that a quiet ring touches little memory. Never does: pass the number it was made for.

use super::errors::SetupError;
use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// The group id of the one buffer ring that each ring has.
pub(super) const GROUP: u16 = 0;

/// Buffers that the kernel is given at first.
const FIRST: u16 = 64;

/// Anonymous memory, mapped lazily: pages cost nothing before the kernel first fills them.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> std::io::Result<Self> {
        // SAFETY: a fresh anonymous private mapping aliases nothing; the result is checked.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_ANONYMOUS | libc::MAP_PRIVATE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        NonNull::new(start.cast()).map(|start| Self { start, bytes }).ok_or_else(std::io::Error::last_os_error)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length and not unmapped before; whoever drops it holds no pointer into it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// The buffers of one ring. Shared by the ring and the [`RecvBuf`]s; one thread.
pub(super) struct Pool {
    entries: Mapping,
    memory: Mapping,
    count: u16,
    bytes_each: u32,
    /// Where the next returned buffer goes; the kernel sees it through the ring's tail.
    tail: Cell<u16>,
    /// Buffers from here on were never given to the kernel.
    published: Cell<u16>,
    /// Which buffers are not with the kernel.
    out: Box<[Cell<bool>]>,
    /// Buffers that are with a `RecvBuf`.
    outside: Cell<u16>,
}

impl Pool {
    /// Registers `count` buffers (a power of two, at most 32,768) of `bytes_each` with the ring.
    pub fn register(ring: &IoUring, count: u16, bytes_each: u32) -> Result<Rc<Self>, SetupError> {
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>()).map_err(SetupError::buffers)?;
        let memory = Mapping::new(usize::from(count) * bytes_each as usize).map_err(SetupError::buffers)?;
        // SAFETY: `entries` is page-aligned, large enough for `count` entries, and outlives the registration: the pool is
        // dropped after the ring is (see `Ring::drop`), or leaked.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.start.as_ptr() as u64, count, GROUP, 0) }
            .map_err(SetupError::buffers)?;
        let pool = Self {
            entries,
            memory,
            count,
            bytes_each,
            tail: Cell::new(0),
            published: Cell::new(0),
            out: (0..count).map(|_| Cell::new(true)).collect(),
            outside: Cell::new(0),
        };
        pool.publish(FIRST);
        Ok(Rc::new(pool))
    }

    /// Gives the kernel more buffers where it has few left or had none (`starved`): twice as many, as far as there are any.
    pub fn refill(&self, starved: bool) {
        let published = self.published.get();
        if published < self.count && (starved || self.available() < usize::from(published / 4)) {
            self.publish(published);
        }
    }

    fn publish(&self, more: u16) {
        let from = self.published.get();
        let to = from.saturating_add(more).min(self.count);
        for id in from..to {
            self.outside.set(self.outside.get() + 1);
            self.put_back(id);
        }
        self.published.set(to);
    }

    /// Buffers that the kernel was ever given.
    pub fn given(&self) -> usize {
        usize::from(self.published.get())
    }

    /// Buffers that the kernel may fill.
    pub fn available(&self) -> usize {
        usize::from(self.published.get() - self.outside.get())
    }

    pub fn outside(&self) -> usize {
        usize::from(self.outside.get())
    }

    /// Takes the buffer that a completion names. `None`: the kernel named one that it does not have, which would break the
    /// rule of one owner.
    pub fn take(self: &Rc<Self>, id: u16, len: u32) -> Option<RecvBuf> {
        let out = self.out.get(usize::from(id))?;
        if out.replace(true) || len > self.bytes_each {
            debug_assert!(false, "buffer {id} given out twice, or {len} bytes in it");
            return None;
        }
        self.outside.set(self.outside.get() + 1);
        Some(RecvBuf { pool: Rc::clone(self), id, len })
    }

    /// Gives a buffer back to the kernel.
    fn put_back(&self, id: u16) {
        let Some(out) = self.out.get(usize::from(id)) else { return };
        if !out.replace(false) {
            return;
        }
        self.outside.set(self.outside.get() - 1);
        let tail = self.tail.get();
        let ring: *mut BufRingEntry = self.entries.start.as_ptr().cast();
        // SAFETY: the index is masked to the ring's `count` entries, `id` is below `count` (checked above), and the kernel
        // reads an entry only after the store of the tail below; until then the entry is ours alone.
        unsafe {
            let entry = &mut *ring.add(usize::from(tail & (self.count - 1)));
            entry.set_addr(self.start_of(id) as u64);
            entry.set_len(self.bytes_each);
            entry.set_bid(id);
            (*BufRingEntry::tail(ring).cast::<AtomicU16>()).store(tail.wrapping_add(1), Ordering::Release);
        }
        self.tail.set(tail.wrapping_add(1));
    }

    fn start_of(&self, id: u16) -> *mut u8 {
        // SAFETY: `id` is below `count`, so the result stays inside the mapping.
        unsafe { self.memory.start.as_ptr().add(usize::from(id) * self.bytes_each as usize) }
    }
}

/// Bytes that the kernel received, in a buffer of the pool. Back to the pool when dropped: do not keep it for long.
pub struct RecvBuf {
    pool: Rc<Pool>,
    id: u16,
    len: u32,
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `take` gave this buffer to this value alone and checked id and length; the kernel does not touch it before
        // `put_back`, and the pool, which owns the memory, is kept alive by the `Rc`.
        unsafe { std::slice::from_raw_parts(self.pool.start_of(self.id), self.len as usize) }
    }
}

impl DerefMut for RecvBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.pool.start_of(self.id), self.len as usize) }
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        self.pool.put_back(self.id);
    }
}

impl std::fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecvBuf({} B)", self.len)
    }
}
