//! Asking the scheduler for short time slices.
//!
//! Owns: one system call. Guarantees: a thread keeps its policy and niceness. Never does: take a larger share of the processors;
//! fail loudly (without it the thread is served as others are).

use std::io;

/// The shortest slice that the kernel grants, in nanoseconds.
const SHORTEST_NS: u64 = 100_000;

/// For threads that run briefly and are waited for: from now on the calling thread, when it wakes, runs before threads
/// of the usual slice (2.8 ms, in effect until the next tick) instead of after them. Its share stays what it was. Linux 6.12;
/// older kernels ignore it.
///
/// # Errors
/// Where the call is forbidden (seccomp) or the policy has no slices.
pub fn ask_for_short_slices() -> io::Result<()> {
    let nice = rustix::process::getpriority_process(None)?;
    let attr = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: SHORTEST_NS,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of a structure that lives through the call, and writes nothing.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the scheduler says of the calling thread: its slice in nanoseconds, its niceness.
    fn told() -> Option<(u64, i32)> {
        let mut attr = libc::sched_attr {
            size: 0,
            sched_policy: 0,
            sched_flags: 0,
            sched_nice: 0,
            sched_priority: 0,
            sched_runtime: 0,
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: the kernel writes at most the size that is given, which is that of the structure.
        let done = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size_of_val(&attr), 0) };
        (done == 0).then_some((attr.sched_runtime, attr.sched_nice))
    }

    #[test]
    fn a_thread_gets_short_slices_and_stays_as_nice_as_it_was() {
        let thread = std::thread::spawn(|| {
            let _ = rustix::process::setpriority_process(None, 3);
            ask_for_short_slices().map(|()| told())
        });
        assert_eq!(thread.join().ok().and_then(Result::ok).flatten(), Some((SHORTEST_NS, 3)));
    }
}
