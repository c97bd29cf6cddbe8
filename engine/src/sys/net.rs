//! Socket calls, with checked lengths and descriptors as plain numbers.
//!
//! The promise: every pointer passed to the kernel is to memory of the length passed with it, for the time of the
//! call. Descriptors are the caller's duty; a wrong one gives an error, not undefined behaviour.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::driver::{Address, Batch, Fd, Shut, SocketOptions};

/// A socket address in the kernel's form.
pub struct SockAddr {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl SockAddr {
    /// Room for whatever the kernel fills in.
    pub fn any() -> SockAddr {
        // SAFETY: all zeros is a valid `sockaddr_storage` (family "unspecified").
        let storage = unsafe { std::mem::zeroed() };
        SockAddr { storage, len: size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    fn of<T: Copy>(address: T) -> SockAddr {
        assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>() && align_of::<T>() <= 8);
        let mut this = SockAddr::any();
        this.len = size_of::<T>() as libc::socklen_t;
        // SAFETY: the storage is large and aligned enough, as asserted, and `T` is a plain C struct.
        unsafe { this.as_mut_ptr().cast::<T>().write(address) };
        this
    }

    /// The length that goes with the pointer.
    pub fn len(&self) -> libc::socklen_t {
        self.len
    }

    /// The address in the kernel's form.
    pub fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        (&raw mut self.storage).cast()
    }

    fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    /// Decodes an address of `len` bytes that the kernel filled in.
    pub fn to_socket_addr(&self, len: libc::socklen_t) -> Option<SocketAddr> {
        match self.storage.ss_family as i32 {
            libc::AF_INET if len as usize >= size_of::<libc::sockaddr_in>() => {
                // SAFETY: the family says that this is a `sockaddr_in`, which fits the storage.
                let v4 = unsafe { *self.as_ptr().cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 if len as usize >= size_of::<libc::sockaddr_in6>() => {
                // SAFETY: the family says that this is a `sockaddr_in6`, which fits the storage.
                let v6 = unsafe { *self.as_ptr().cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    fn to_address(&self, len: libc::socklen_t) -> Address {
        match self.to_socket_addr(len) {
            Some(address) => Address::Ip(address),
            None => {
                // SAFETY: what is not an IP address here is a Unix one, which fits the storage.
                let unix = unsafe { *self.as_ptr().cast::<libc::sockaddr_un>() };
                let path = unix.sun_path.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect::<Vec<u8>>();
                Address::Unix(Path::new(std::ffi::OsStr::from_bytes(&path)).to_owned())
            }
        }
    }
}

impl From<&Address> for SockAddr {
    fn from(address: &Address) -> SockAddr {
        match address {
            Address::Ip(SocketAddr::V4(v4)) => SockAddr::of(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            }),
            Address::Ip(SocketAddr::V6(v6)) => SockAddr::of(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            }),
            Address::Unix(path) => {
                let mut unix = libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
                // A longer path is cut here and refused by `check_path` before it is used.
                let bytes = path.as_os_str().as_bytes().iter().take(107);
                unix.sun_path.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from as libc::c_char);
                SockAddr::of(unix)
            }
        }
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_len(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Closes on early return.
struct Opening(i32);

impl Opening {
    fn keep(self) -> Fd {
        let fd = Fd(self.0);
        std::mem::forget(self);
        fd
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        close(Fd(self.0));
    }
}

fn open(family: i32, kind: i32) -> io::Result<Opening> {
    // SAFETY: a system call on plain numbers.
    check(unsafe { libc::socket(family, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) }).map(Opening)
}

fn family(address: &Address) -> i32 {
    match address {
        Address::Ip(SocketAddr::V4(_)) => libc::AF_INET,
        Address::Ip(SocketAddr::V6(_)) => libc::AF_INET6,
        Address::Unix(_) => libc::AF_UNIX,
    }
}

fn set(fd: i32, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: `value` is the four bytes that the length says.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of::<i32>() as u32) })?;
    Ok(())
}

fn bind(fd: i32, address: &Address) -> io::Result<()> {
    let name = SockAddr::from(address);
    // SAFETY: `name` holds an address of `len` bytes.
    check(unsafe { libc::bind(fd, name.as_ptr(), name.len) })?;
    Ok(())
}

fn local(fd: i32) -> io::Result<Address> {
    let mut name = SockAddr::any();
    let mut len = name.len;
    // SAFETY: `name` has room for `len` bytes, and `len` is ours to write.
    check(unsafe { libc::getsockname(fd, name.as_mut_ptr(), &mut len) })?;
    Ok(name.to_address(len))
}

/// Opens a listening socket.
pub fn listen(address: &Address, options: &SocketOptions) -> io::Result<(Fd, Address)> {
    let socket = open(family(address), libc::SOCK_STREAM)?;
    match address {
        Address::Ip(_) => {
            set(socket.0, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
            if options.reuse_port {
                set(socket.0, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
            }
            configure(Fd(socket.0), options)?;
        }
        Address::Unix(path) => {
            check_path(path)?;
            remove_stale(path);
        }
    }
    bind(socket.0, address)?;
    // SAFETY: a system call on plain numbers.
    check(unsafe { libc::listen(socket.0, options.backlog.min(i32::MAX as u32) as i32) })?;
    let bound = local(socket.0)?;
    Ok((socket.keep(), bound))
}

/// Another descriptor of the same socket.
pub fn share(socket: Fd) -> io::Result<OwnedFd> {
    // SAFETY: a system call on plain numbers.
    let fd = check(unsafe { libc::fcntl(socket.0, libc::F_DUPFD_CLOEXEC, 3) })?;
    Ok(own(Fd(fd)))
}

/// A descriptor that closes itself, of one that the caller has just opened and that nobody else knows.
pub fn own(fd: Fd) -> OwnedFd {
    // SAFETY: the descriptor is open, and the caller gives it away.
    unsafe { OwnedFd::from_raw_fd(fd.0) }
}

/// Takes over a listening socket that somebody else has opened, and sets what would be set if it were opened here.
///
/// # Errors
/// It is no listening socket; the kernel's.
pub fn adopt_listener(socket: OwnedFd, options: &SocketOptions) -> io::Result<(Fd, Address)> {
    let fd = socket.as_raw_fd();
    if get(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket that was handed over does not listen"));
    }
    let bound = local(fd)?;
    if let Address::Ip(_) = bound {
        configure(Fd(fd), options)?;
    }
    // Listening once more changes the length of the queue and nothing else.
    // SAFETY: a system call on plain numbers.
    check(unsafe { libc::listen(fd, options.backlog.min(i32::MAX as u32) as i32) })?;
    // SAFETY: as above; accepting from it must never block, whoever opened it.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok((Fd(socket.into_raw_fd()), bound))
}

/// Where a socket is bound.
pub fn local_of(socket: &OwnedFd) -> io::Result<Address> {
    local(socket.as_raw_fd())
}

fn get(fd: i32, level: i32, name: i32) -> io::Result<i32> {
    let mut value = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` has room for the four bytes that `len` says.
    check(unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &mut len) })?;
    Ok(value)
}

fn check_path(path: &Path) -> io::Result<()> {
    if path.as_os_str().len() > 107 {
        let text = format!("the socket path {} is longer than the kernel's 107 bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

/// Removes a socket file that a dead server left: one on which nobody answers.
fn remove_stale(path: &Path) {
    let dead = std::os::unix::net::UnixStream::connect(path);
    if dead.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        // If this fails, `bind` says what is wrong.
        let _bind_will_tell = std::fs::remove_file(path);
    }
}

/// Opens a stream socket that can connect to `peer`.
pub fn socket(peer: &Address, options: &SocketOptions) -> io::Result<Fd> {
    if let Address::Unix(path) = peer {
        check_path(path)?;
    }
    let socket = open(family(peer), libc::SOCK_STREAM)?;
    if let Address::Ip(_) = peer {
        configure(Fd(socket.0), options)?;
    }
    Ok(socket.keep())
}

/// Opens two stream sockets that are connected with each other.
pub fn pair() -> io::Result<(Fd, Fd)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    Ok((Fd(ends[0]), Fd(ends[1])))
}

/// Opens a bound datagram socket.
pub fn datagram(local_address: SocketAddr) -> io::Result<(Fd, SocketAddr)> {
    let address = Address::Ip(local_address);
    let socket = open(family(&address), libc::SOCK_DGRAM)?;
    bind(socket.0, &address)?;
    match local(socket.0)? {
        Address::Ip(bound) => Ok((socket.keep(), bound)),
        Address::Unix(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// Applies the TCP options; they are inherited from a listener by what it accepts.
pub fn configure(socket: Fd, options: &SocketOptions) -> io::Result<()> {
    let whole = |duration: Duration, unit: Duration| {
        (duration.as_nanos().div_ceil(unit.as_nanos())).min(i32::MAX as u128) as i32
    };
    set(socket.0, libc::IPPROTO_TCP, libc::TCP_NODELAY, options.no_delay as i32)?;
    if let Some(idle) = options.keep_alive {
        set(socket.0, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
        set(socket.0, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, whole(idle, Duration::from_secs(1)))?;
    }
    if let Some(patience) = options.user_timeout {
        set(socket.0, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, whole(patience, Duration::from_millis(1)))?;
    }
    if let Some(bytes) = options.not_sent_low_water_bytes {
        set(socket.0, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes.min(i32::MAX as u32) as i32)?;
    }
    Ok(())
}

/// The address of a connected socket's peer.
pub fn peer(socket: Fd) -> io::Result<Address> {
    let mut name = SockAddr::any();
    let mut len = name.len;
    // SAFETY: `name` has room for `len` bytes, and `len` is ours to write.
    check(unsafe { libc::getpeername(socket.0, name.as_mut_ptr(), &mut len) })?;
    Ok(name.to_address(len))
}

/// Shuts one or both halves down.
pub fn shutdown(socket: Fd, how: Shut) {
    let how = if how == Shut::Write { libc::SHUT_WR } else { libc::SHUT_RDWR };
    // SAFETY: a system call on plain numbers. An error means that the connection is gone already.
    unsafe { libc::shutdown(socket.0, how) };
}

/// Closes a descriptor.
pub fn close(fd: Fd) {
    // SAFETY: a system call on a plain number. Linux frees the descriptor whatever it returns.
    unsafe { libc::close(fd.0) };
}

/// The next waiting connection.
pub fn accept(listener: Fd) -> io::Result<Fd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: null pointers say that the address is not wanted.
    check(unsafe { libc::accept4(listener.0, std::ptr::null_mut(), std::ptr::null_mut(), flags) }).map(Fd)
}

/// Starts connecting; `EINPROGRESS` when it goes on in the background.
pub fn connect(socket: Fd, peer: &Address) -> io::Result<()> {
    let name = SockAddr::from(peer);
    // SAFETY: `name` holds an address of `len` bytes.
    check(unsafe { libc::connect(socket.0, name.as_ptr(), name.len) })?;
    Ok(())
}

/// The error that a background connect ended with, if any.
pub fn take_error(socket: Fd) -> io::Result<()> {
    let mut error = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    let place = (&raw mut error).cast();
    // SAFETY: `place` has room for the four bytes that `len` says.
    check(unsafe { libc::getsockopt(socket.0, libc::SOL_SOCKET, libc::SO_ERROR, place, &mut len) })?;
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Receives what is there.
pub fn recv(socket: Fd, memory: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `memory` is ours to write for its whole length.
    check_len(unsafe { libc::recv(socket.0, memory.as_mut_ptr().cast(), memory.len(), libc::MSG_DONTWAIT) })
}

/// Receives what is there, at most `want` bytes, behind what `memory` holds.
pub fn recv_append(socket: Fd, memory: &mut Vec<u8>, want: usize) -> io::Result<usize> {
    memory.reserve(want);
    let room = memory.spare_capacity_mut().as_mut_ptr();
    // SAFETY: at least `want` bytes were reserved behind the length.
    let read = check_len(unsafe { libc::recv(socket.0, room.cast(), want, libc::MSG_DONTWAIT) })?;
    // SAFETY: the kernel wrote `read <= want` bytes there.
    unsafe { memory.set_len(memory.len() + read) };
    Ok(read)
}

/// Sends what the socket takes of the batch.
pub fn send(socket: Fd, batch: &Batch) -> io::Result<usize> {
    let mut parts = gather(batch);
    // SAFETY: all zeros is an empty `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = parts.len();
    // SAFETY: `message` points at `parts`, and these at the batch's frames; all live until the call returns.
    check_len(unsafe { libc::sendmsg(socket.0, &message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) })
}

/// The batch's frames as the kernel takes them, at most its `UIO_MAXIOV` (1,024).
pub fn gather(batch: &Batch) -> Vec<libc::iovec> {
    let frames = batch.frames().iter().take(1024);
    frames.map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() }).collect()
}

/// Receives one datagram into `memory`'s spare capacity.
pub fn recv_from(socket: Fd, memory: &mut Vec<u8>) -> io::Result<SocketAddr> {
    let mut name = SockAddr::any();
    let mut len = name.len;
    let room = memory.spare_capacity_mut();
    let (start, most) = (room.as_mut_ptr().cast(), room.len());
    // SAFETY: `start` has room for `most` bytes and `name` for `len`.
    let read = unsafe { libc::recvfrom(socket.0, start, most, libc::MSG_DONTWAIT, name.as_mut_ptr(), &mut len) };
    let read = check_len(read)?;
    // SAFETY: the kernel wrote `read <= most` bytes there.
    unsafe { memory.set_len(memory.len() + read) };
    name.to_socket_addr(len).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Sends one datagram.
pub fn send_to(socket: Fd, memory: &[u8], peer: SocketAddr) -> io::Result<usize> {
    let name = SockAddr::from(&Address::Ip(peer));
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: `memory` and `name` are as long as the lengths say.
    check_len(unsafe { libc::sendto(socket.0, memory.as_ptr().cast(), memory.len(), flags, name.as_ptr(), name.len) })
}

/// The running kernel's release, such as `6.8.0-31-generic`; empty if it cannot be read.
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_form() {
        for text in ["127.0.0.1:80", "[::1]:443", "[2001:db8::7]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            let name = SockAddr::from(&Address::Ip(address));
            assert_eq!(name.to_socket_addr(name.len()), Some(address));
        }
        let unix = Address::Unix("/run/some.sock".into());
        let name = SockAddr::from(&unix);
        assert_eq!(name.to_address(name.len()), unix);
        assert!(check_path(Path::new(&"x".repeat(108))).is_err());
    }

    #[test]
    fn a_chosen_port_is_told_and_a_taken_one_refused() {
        let (fd, address) = listen(&Address::Ip("127.0.0.1:0".parse().unwrap()), &SocketOptions::default()).unwrap();
        let Address::Ip(ip) = &address else { panic!("not an IP address") };
        assert_ne!(ip.port(), 0);
        let error = listen(&address, &SocketOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        close(fd);
    }
}
