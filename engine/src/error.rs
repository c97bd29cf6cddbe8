//! Start-up failures as sentences: what happened, to what, why, and what to do.

use std::io;

use crate::driver::Address;
use crate::sys::net::kernel_release;

/// Why listening on `address` failed.
pub fn explain_listen(address: &Address, error: &io::Error) -> String {
    let why = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            "the address is in use. Stop what uses it (`ss -ltnp` shows it), or choose another port".to_owned()
        }
        Some(libc::EACCES) => match address {
            Address::Ip(ip) if ip.port() < 1024 => {
                "ports below 1024 are for root. Choose a higher port, or run `setcap cap_net_bind_service=+ep` on the \
                 binary"
                    .to_owned()
            }
            _ => "permission was denied. Choose an address this user may use".to_owned(),
        },
        Some(libc::EADDRNOTAVAIL) => {
            "this machine has no such address. Use one that `ip addr` shows, 127.0.0.1 or 0.0.0.0".to_owned()
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            "file descriptors ran out. Raise the limit: `ulimit -n`, or LimitNOFILE= in the unit file".to_owned()
        }
        _ => format!("{error}"),
    };
    format!("cannot listen on {address}: {why}.")
}

/// Why io_uring cannot be used here.
pub(crate) fn explain_uring(error: &io::Error) -> String {
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    explain_uring_with(error, sysctl.trim(), &kernel_release())
}

fn explain_uring_with(error: &io::Error, sysctl: &str, release: &str) -> String {
    let errno = error.raw_os_error();
    let (cause, remedy) = match (errno, sysctl) {
        (Some(libc::EPERM), "1" | "2") => (
            format!("the system forbids it (kernel.io_uring_disabled = {sysctl})"),
            "run `sysctl kernel.io_uring_disabled=0`",
        ),
        (Some(libc::EPERM | libc::EACCES | libc::ENOSYS), _) => (
            "a sandbox blocks it (the usual default of container runtimes)".to_owned(),
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile",
        ),
        (Some(libc::ENOMEM), _) => {
            ("locked memory is short".to_owned(), "raise `ulimit -l`, or LimitMEMLOCK= in the unit file")
        }
        (Some(libc::EINVAL), _) => (format!("Linux {release} is too old for it"), "use Linux 6.0 or later"),
        _ => (error.to_string(), "use Linux 6.0 or later where nothing blocks io_uring"),
    };
    let name = match errno {
        Some(libc::EPERM) => "EPERM".to_owned(),
        Some(libc::ENOSYS) => "ENOSYS".to_owned(),
        Some(libc::ENOMEM) => "ENOMEM".to_owned(),
        Some(libc::EINVAL) => "EINVAL".to_owned(),
        Some(errno) => format!("errno {errno}"),
        None => "refused".to_owned(),
    };
    format!("io_uring_setup failed: {name}. Likely cause: {cause}. Remedy: {remedy}, or set engine.driver = \"epoll\".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_names_its_remedy() {
        let says = |errno, sysctl| explain_uring_with(&io::Error::from_raw_os_error(errno), sysctl, "5.10.0");
        assert!(says(libc::EPERM, "2").contains("sysctl kernel.io_uring_disabled=0"));
        assert!(says(libc::EPERM, "0").contains("seccomp"));
        assert!(says(libc::ENOSYS, "").contains("seccomp"));
        assert!(says(libc::ENOMEM, "0").contains("ulimit -l"));
        assert!(says(libc::EINVAL, "").contains("5.10.0 is too old"));
        let unsupported = io::Error::new(io::ErrorKind::Unsupported, "Linux 6.1.7 is not used");
        assert!(explain_uring_with(&unsupported, "0", "6.1.7").contains("6.1.7"));
    }

    #[test]
    fn a_busy_or_forbidden_port_is_one_sentence() {
        let address = Address::Ip(([127, 0, 0, 1], 80).into());
        let says = |errno| explain_listen(&address, &io::Error::from_raw_os_error(errno));
        assert!(says(libc::EADDRINUSE).contains("127.0.0.1:80") && says(libc::EADDRINUSE).contains("ss -ltnp"));
        assert!(says(libc::EACCES).contains("setcap"));
        assert!(says(libc::EMFILE).contains("ulimit -n"));
    }
}
