use std::fmt;
use std::io;

/// Why a ring cannot be made, with what to raise or allow.
#[derive(Debug)]
pub enum RingError {
    /// The kernel setting `kernel.io_uring_disabled` forbids it to this process.
    Disabled {
        /// The setting's value: 1 leaves it to a group and to CAP_SYS_ADMIN, 2 forbids it to all.
        setting: u8,
    },
    /// Refused although the kernel setting allows it: a seccomp profile, as containers have them.
    Refused(io::Error),
    /// The limit on locked memory (RLIMIT_MEMLOCK) is used up.
    LockedMemory(io::Error),
    /// The process or the host is out of file descriptors.
    Descriptors(io::Error),
    /// The kernel does not know io_uring or a flag that is needed.
    KernelTooOld(io::Error),
    /// Anything else.
    Other(io::Error),
}

impl RingError {
    pub(super) fn from_io(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => match disabled_setting() {
                Some(setting @ 1..) => Self::Disabled { setting },
                _ => Self::Refused(error),
            },
            Some(libc::ENOMEM) => Self::LockedMemory(error),
            Some(libc::EMFILE | libc::ENFILE) => Self::Descriptors(error),
            Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => Self::KernelTooOld(error),
            _ => Self::Other(error),
        }
    }
}

fn disabled_setting() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled { setting } => write!(
                f,
                "io_uring is turned off by kernel.io_uring_disabled = {setting}: \
                 allow it with `sysctl kernel.io_uring_disabled=0`"
            ),
            Self::Refused(error) => write!(
                f,
                "io_uring is refused ({error}), probably by a seccomp profile: run the container with a profile \
                 that allows io_uring_setup, io_uring_enter and io_uring_register"
            ),
            Self::LockedMemory(error) => write!(
                f,
                "no memory for an io_uring ({error}): raise the limit on locked memory \
                 (RLIMIT_MEMLOCK: `ulimit -l`, LimitMEMLOCK= of systemd), or run fewer workers"
            ),
            Self::Descriptors(error) => write!(
                f,
                "no descriptor for an io_uring ({error}): raise the limit on open files \
                 (RLIMIT_NOFILE: `ulimit -n`, LimitNOFILE= of systemd)"
            ),
            Self::KernelTooOld(error) => {
                write!(
                    f,
                    "the kernel cannot make the io_uring that is needed ({error}): Linux 6.1 or later has it"
                )
            }
            Self::Other(error) => write!(f, "no io_uring: {error}"),
        }
    }
}

impl std::error::Error for RingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Disabled { .. } => None,
            Self::Refused(error)
            | Self::LockedMemory(error)
            | Self::Descriptors(error)
            | Self::KernelTooOld(error)
            | Self::Other(error) => Some(error),
        }
    }
}
