// SPDX-License-Identifier: GPL-2.0
//! The structures and numbers of `liveupdate.h`, and the six ioctls with nothing added. The only
//! file here with `unsafe`.
//!
//! The names are those of the header without their common beginnings. A function returns what it
//! was given with the kernel's answer filled in.

use rustix::io::Result;
use rustix::ioctl::{ioctl, opcode, Opcode, Updater};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

/// The type of all numbers.
pub const IOCTL_TYPE: u8 = 0xba;
/// Room for a session's name, its terminating NUL included.
pub const SESSION_NAME_LENGTH: usize = 64;

/// Where the device's numbers begin.
pub const CMD_BASE: u8 = 0x00;
/// Where the numbers of sessions begin.
pub const CMD_SESSION_BASE: u8 = 0x40;

/// On the device, with [`SessionArgument`].
pub const CREATE_SESSION: Opcode = opcode::none(IOCTL_TYPE, CMD_BASE);
/// On the device, with [`SessionArgument`].
pub const RETRIEVE_SESSION: Opcode = opcode::none(IOCTL_TYPE, CMD_BASE + 1);
/// On an outgoing session, with [`FdArgument`].
pub const PRESERVE_FD: Opcode = opcode::none(IOCTL_TYPE, CMD_SESSION_BASE);
/// On an incoming session, with [`FdArgument`].
pub const RETRIEVE_FD: Opcode = opcode::none(IOCTL_TYPE, CMD_SESSION_BASE + 1);
/// On an incoming session, with [`FinishArgument`].
pub const FINISH: Opcode = opcode::none(IOCTL_TYPE, CMD_SESSION_BASE + 2);
/// On any session, with [`NameArgument`].
pub const GET_NAME: Opcode = opcode::none(IOCTL_TYPE, CMD_SESSION_BASE + 3);

/// `struct liveupdate_ioctl_create_session` and `struct liveupdate_ioctl_retrieve_session`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionArgument {
    /// In: bytes of this structure.
    pub size: u32,
    /// Out: the session.
    pub fd: i32,
    /// In: the name, ended by a NUL.
    pub name: [u8; SESSION_NAME_LENGTH],
}

/// `struct liveupdate_session_preserve_fd` and `struct liveupdate_session_retrieve_fd`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdArgument {
    /// In: bytes of this structure.
    pub size: u32,
    /// The file; in when preserving, out when retrieving.
    pub fd: i32,
    /// In: what the file is called in its session.
    pub token: u64,
}

/// `struct liveupdate_session_finish`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishArgument {
    /// In: bytes of this structure.
    pub size: u32,
    /// In: 0.
    pub reserved: u32,
}

/// `struct liveupdate_session_get_name`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameArgument {
    /// In: bytes of this structure.
    pub size: u32,
    /// In: 0.
    pub reserved: u32,
    /// Out: the name, ended by a NUL.
    pub name: [u8; SESSION_NAME_LENGTH],
}

/// The size of a structure, as its first member has it.
const fn size_of<T>() -> u32 {
    let size = std::mem::size_of::<T>();
    assert!(size <= 4096, "no argument is that large");
    size as u32
}

/// What an argument says of its own size must be true: the kernel reads and writes that many bytes.
trait Argument {
    const SIZE: u32;
}

impl Argument for SessionArgument {
    const SIZE: u32 = size_of::<Self>();
}

impl Argument for FdArgument {
    const SIZE: u32 = size_of::<Self>();
}

impl Argument for FinishArgument {
    const SIZE: u32 = size_of::<Self>();
}

impl Argument for NameArgument {
    const SIZE: u32 = size_of::<Self>();
}

/// Calls with an argument made here, so that its size is right.
fn call<const OPCODE: Opcode, T: Argument>(
    on: impl AsFd,
    make: impl FnOnce(u32) -> T,
) -> Result<T> {
    let mut argument = make(T::SIZE);
    // SAFETY: each caller below pairs a number with the structure that liveupdate.h gives it. On
    // another kind of file the number, of a type that is ours alone, is refused.
    let call = unsafe { Updater::<OPCODE, T>::new(&mut argument) };
    // SAFETY: the argument lives through the call, and the kernel keeps to the size it begins with,
    // which is its own.
    unsafe { ioctl(on, call) }?;
    Ok(argument)
}

/// Takes over a descriptor that a successful call has just put into its argument.
fn own(fd: i32) -> OwnedFd {
    // SAFETY: the kernel made this descriptor for us in this call; nothing else can have it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Makes a session.
pub fn create_session(device: impl AsFd, name: [u8; SESSION_NAME_LENGTH]) -> Result<OwnedFd> {
    let argument = |size| SessionArgument { size, fd: -1, name };
    Ok(own(call::<CREATE_SESSION, _>(device, argument)?.fd))
}

/// Gets a session that has arrived.
pub fn retrieve_session(device: impl AsFd, name: [u8; SESSION_NAME_LENGTH]) -> Result<OwnedFd> {
    let argument = |size| SessionArgument { size, fd: -1, name };
    Ok(own(call::<RETRIEVE_SESSION, _>(device, argument)?.fd))
}

/// Puts a file into a session.
pub fn preserve_fd(session: impl AsFd, fd: i32, token: u64) -> Result<()> {
    let argument = |size| FdArgument { size, fd, token };
    call::<PRESERVE_FD, _>(session, argument).map(drop)
}

/// Gets a file out of a session.
pub fn retrieve_fd(session: impl AsFd, token: u64) -> Result<OwnedFd> {
    let argument = |size| FdArgument {
        size,
        fd: -1,
        token,
    };
    Ok(own(call::<RETRIEVE_FD, _>(session, argument)?.fd))
}

/// Ends a session that has arrived.
pub fn finish(session: impl AsFd) -> Result<()> {
    let argument = |size| FinishArgument { size, reserved: 0 };
    call::<FINISH, _>(session, argument).map(drop)
}

/// Asks for a session's name.
pub fn get_name(session: impl AsFd) -> Result<[u8; SESSION_NAME_LENGTH]> {
    let argument = |size| NameArgument {
        size,
        reserved: 0,
        name: [0; SESSION_NAME_LENGTH],
    };
    Ok(call::<GET_NAME, _>(session, argument)?.name)
}
