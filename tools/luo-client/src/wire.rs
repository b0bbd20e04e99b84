// SPDX-License-Identifier: GPL-2.0
//! Bytes and descriptors through a Unix socket, each call one system call.

use rustix::io::{retry_on_intr, Result};
use rustix::net::{
    recvmsg, sendmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Sends as many of the bytes as the socket takes, and a descriptor with the first of them. Never
/// raises SIGPIPE.
///
/// # Errors
///
/// Nothing was sent.
pub fn send(socket: impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: &[BorrowedFd<'_>] = match &fd {
        Some(fd) => std::slice::from_ref(fd),
        None => &[],
    };
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    retry_on_intr(|| {
        sendmsg(
            &socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })
}

/// What a call of [`receive`] brought.
#[derive(Debug)]
pub struct Received {
    /// Bytes in the buffer; none at the end of the stream.
    pub bytes: usize,
    /// The descriptor that came with them.
    pub fd: Option<OwnedFd>,
    /// More descriptors came than there was room for, and are closed already.
    pub truncated: bool,
}

/// Reads what is there, with one descriptor, or with none if `take_fd` is not set. The kernel
/// closes all others that were sent.
///
/// # Errors
///
/// Nothing was read.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], take_fd: bool) -> Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let room = if take_fd { space.len() } else { 0 };
    let mut control = RecvAncillaryBuffer::new(space.get_mut(..room).unwrap_or_default());
    let message = retry_on_intr(|| {
        recvmsg(
            &socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let mut fd = None;
    for ancillary in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = ancillary {
            // Padding may make room for a second one; it is dropped, and so closed.
            for one in fds {
                fd.get_or_insert(one);
            }
        }
    }
    Ok(Received {
        bytes: message.bytes,
        fd,
        truncated: message.flags.contains(ReturnFlags::CTRUNC),
    })
}
