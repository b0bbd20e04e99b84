// SPDX-License-Identifier: GPL-2.0
//! The service manager's store of descriptors (systemd's FDSTORE): what is put there outlives this
//! process.

use sd_notify::NotifyState;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use tracing::warn;

/// Puts a descriptor there.
pub fn put(name: &str, fd: impl AsFd) {
    let state = [NotifyState::FdStore, NotifyState::FdName(name)];
    if let Err(error) = sd_notify::notify_with_fds(&state, &[fd.as_fd()]) {
        warn!("the service manager did not take {name}: {error}");
    }
}

/// Takes it out.
pub fn remove(name: &str) {
    let state = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
    if let Err(error) = sd_notify::notify(&state) {
        warn!("the service manager did not hear about {name}: {error}");
    }
}

/// What it kept. To be called once, before anything else is opened.
pub fn inherited() -> Vec<(String, OwnedFd)> {
    let Ok(stored) = sd_notify::listen_fds_with_names() else {
        return Vec::new();
    };
    stored
        .filter_map(|(fd, name)| {
            // SAFETY: the service manager has put this descriptor here for us; this is called once,
            // so nothing else owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC).ok()?;
            Some((name, fd))
        })
        .collect()
}
