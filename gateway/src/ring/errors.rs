//! Why a ring could not be set up, in words that name the setting to change.

use std::io;

/// A bad start. The text is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("io_uring is refused (EPERM): {}", refused(disabled))]
    Refused { disabled: String },
    #[error("io_uring is missing (ENOSYS): a seccomp profile hides it, or the kernel is older than 6.13")]
    Missing,
    #[error("no memory for io_uring (ENOMEM): raise RLIMIT_MEMLOCK (ulimit -l; LimitMEMLOCK= in a systemd unit)")]
    Memory,
    #[error("this kernel's io_uring lacks {what}: Linux 6.13 or newer is needed")]
    Old { what: &'static str },
    #[error("io_uring cannot hold {slots} sockets: RLIMIT_NOFILE (ulimit -n; LimitNOFILE=) is {limit}")]
    Descriptors { slots: u32, limit: u64 },
    #[error("io_uring: {step}: {error}")]
    Other { step: &'static str, error: io::Error },
    #[error("ring configuration: {0}")]
    Config(&'static str),
}

impl SetupError {
    pub(super) fn setup(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Refused { disabled: io_uring_disabled() },
            Some(libc::ENOSYS) => Self::Missing,
            Some(libc::ENOMEM) => Self::Memory,
            Some(libc::EINVAL) => Self::Old { what: "IORING_SETUP_DEFER_TASKRUN" },
            _ => Self::Other { step: "io_uring_setup", error },
        }
    }

    pub(super) fn files(error: io::Error, slots: u32) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE) => {
                let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
                Self::Descriptors { slots, limit }
            }
            Some(libc::ENOMEM) => Self::Memory,
            Some(libc::EPERM | libc::EACCES) => Self::Refused { disabled: io_uring_disabled() },
            _ => Self::Other { step: "registering the table of sockets", error },
        }
    }

    pub(super) fn wake(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EINVAL) => Self::Old { what: "IORING_REGISTER_SEND_MSG_RING" },
            Some(libc::EPERM | libc::EACCES) => Self::Refused { disabled: io_uring_disabled() },
            _ => Self::Other { step: "making the wake-up", error },
        }
    }

    pub(super) fn buffers(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOMEM) => Self::Memory,
            Some(libc::EINVAL) => Self::Old { what: "rings of provided buffers" },
            _ => Self::Other { step: "registering buffers", error },
        }
    }
}

const ALLOW: &str =
    "allow the system calls io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile";

/// By the value of kernel.io_uring_disabled (since Linux 6.6); empty: it could not be read.
fn refused(disabled: &str) -> String {
    match disabled {
        "0" => format!("a seccomp profile forbids it: {ALLOW}"),
        "" => format!(
            "a seccomp profile forbids it, or sysctl kernel.io_uring_disabled is not 0: {ALLOW}, or set it to 0"
        ),
        value => format!("sysctl kernel.io_uring_disabled is {value}: set it to 0"),
    }
}

fn io_uring_disabled() -> String {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .map_or_else(|_| String::new(), |text| text.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_setting_that_refuses() {
        let line = |disabled: &str| SetupError::Refused { disabled: disabled.into() }.to_string();
        assert!(line("0").contains("seccomp") && !line("0").contains("sysctl"));
        for value in ["1", "2"] {
            assert!(
                line(value).contains(&format!("kernel.io_uring_disabled is {value}"))
                    && !line(value).contains("seccomp")
            );
        }
        assert!(line("").contains("seccomp") && line("").contains("kernel.io_uring_disabled"));
    }
}
