//! Asking the scheduler for short time slices.
//!
//! Owns: one system call. Guarantees: a thread keeps its policy and niceness. Never does: take a larger share of the processors;
//! fail loudly (without it the thread is served as others are).

use std::io;

/// The shortest slice that the kernel grants, in nanoseconds.
const SHORTEST_NS: u64 = 100_000;

/// For threads that run briefly and are waited for: from now on the calling thread, when it wakes, runs before threads
/// of the usual slice (2.8 ms, in effect until the next tick) instead of after them. Its share stays what it was. A thread that was
/// given a policy without slices keeps it. Linux 6.12; older kernels ignore it.
///
/// # Errors
/// Where the call is forbidden (seccomp).
pub fn ask_for_short_slices() -> io::Result<()> {
    let mut attr = attributes()?;
    if is_fair(attr.sched_policy) {
        attr.sched_runtime = SHORTEST_NS;
        // SAFETY: the kernel reads `size` bytes of a structure that lives through the call, and writes nothing.
        let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
        checked(done)?;
    }
    Ok(())
}

/// Whether threads of this policy run in slices, each for its share.
fn is_fair(policy: u32) -> bool {
    [libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_IDLE].iter().any(|fair| *fair as u32 == policy)
}

/// How the calling thread is scheduled.
fn attributes() -> io::Result<libc::sched_attr> {
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
    checked(done)?;
    Ok(attr)
}

fn checked(done: libc::c_long) -> io::Result<()> {
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_short_slices_and_stays_as_nice_as_it_was() {
        let thread = std::thread::spawn(|| {
            let _ = rustix::process::setpriority_process(None, 3);
            ask_for_short_slices().and_then(|()| attributes())
        });
        let told = thread.join().ok().and_then(Result::ok);
        let told = told.map(|told| (told.sched_policy, told.sched_runtime, told.sched_nice));
        assert_eq!(told, Some((libc::SCHED_OTHER as u32, SHORTEST_NS, 3)));
    }

    #[test]
    fn a_thread_keeps_its_policy() {
        let thread = std::thread::spawn(|| {
            let batch = libc::sched_attr { sched_policy: libc::SCHED_BATCH as u32, ..attributes()? };
            // SAFETY: the kernel reads `size` bytes of a structure that lives through the call, and writes nothing.
            checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const batch, 0) })?;
            ask_for_short_slices()?;
            attributes()
        });
        let told = thread.join().ok().and_then(Result::ok).map(|told| (told.sched_policy, told.sched_runtime));
        assert_eq!(told, Some((libc::SCHED_BATCH as u32, SHORTEST_NS)));
        assert!(!is_fair(libc::SCHED_RR as u32) && !is_fair(libc::SCHED_FIFO as u32));
    }
}
