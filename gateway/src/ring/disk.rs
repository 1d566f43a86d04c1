//! Asking for the disk after everybody else.
//!
//! Owns: one system call. Never does: fail loudly (without it the thread is served as others are).

use std::io;

/// `IOPRIO_WHO_PROCESS` of linux/ioprio.h, by which a thread is meant, and the class of those who wait, in the upper bits.
const WHO_PROCESS: libc::c_int = 1;
const IDLE: libc::c_int = 3 << 13;

/// From now on the disk serves what the calling thread asks for when nobody else wants anything, or after ten seconds. Of effect
/// where the disk has a scheduler (`mq-deadline` since Linux 5.14, `bfq`), which serves readers before writers, and a merge reads as
/// fast as it can. See ioprio_set(2).
///
/// # Errors
/// Where the call is forbidden (seccomp).
pub fn wait_at_the_disk() -> io::Result<()> {
    // SAFETY: numbers only; 0 is the calling thread.
    match unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, IDLE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calling_thread_waits_and_no_other() {
        // SAFETY: numbers only.
        let class = || unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0) };
        let before = class();
        let waits = std::thread::spawn(move || wait_at_the_disk().map(|()| class()));
        assert_eq!(waits.join().ok().and_then(Result::ok), Some(libc::c_long::from(IDLE)));
        assert_eq!(class(), before);
    }
}
