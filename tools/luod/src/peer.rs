// SPDX-License-Identifier: GPL-2.0
//! Who is at the other end of a socket, by the kernel's word: user, group, and supplementary
//! groups, as they were at connect(2).

use crate::machine::Peer;
use rustix::net::sockopt::socket_peercred;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Root is a member, and who has the group.
///
/// # Errors
///
/// The kernel does not say.
pub fn peer(socket: impl AsFd, group: Option<u32>) -> io::Result<Peer> {
    let credentials = socket_peercred(&socket)?;
    let uid = credentials.uid.as_raw();
    let member = uid == 0
        || match group {
            None => false,
            Some(group) => credentials.gid.as_raw() == group || groups(&socket)?.contains(&group),
        };
    let pid = u32::try_from(credentials.pid.as_raw_nonzero().get()).unwrap_or(0);
    Ok(Peer { uid, pid, member })
}

/// SO_PEERGROUPS, which rustix does not have.
fn groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    // The kernel allows no more than this (NGROUPS_MAX).
    let mut groups: Vec<libc::gid_t> = vec![0; 65536];
    let mut bytes = libc::socklen_t::try_from(std::mem::size_of_val(groups.as_slice()))
        .map_err(io::Error::other)?;
    // SAFETY: the buffer is writable and as long as `bytes` says; the kernel writes no more and
    // says how much in `bytes`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &mut bytes,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(bytes as usize / size_of::<libc::gid_t>());
    Ok(groups)
}

/// The number of a group: by its name, from wherever this machine has its groups, or as it is.
pub fn group_number(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let group = nix::unistd::Group::from_name(name).ok()?;
    group.map(|group| group.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_group_has_a_number() {
        assert_eq!(group_number("root"), Some(0));
        assert_eq!(group_number("no such group: x"), None);
        assert_eq!(group_number("12"), Some(12));
    }

    #[test]
    fn the_kernel_says_who_we_are() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        let me = rustix::process::getuid().as_raw();
        let gid = rustix::process::getgid().as_raw();
        let peer = peer(&one, Some(gid)).expect("a peer");
        assert_eq!(
            peer,
            Peer {
                uid: me,
                pid: std::process::id(),
                member: true
            }
        );
        assert!(groups(&one).is_ok());
    }
}
