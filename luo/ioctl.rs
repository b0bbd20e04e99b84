// SPDX-License-Identifier: GPL-2.0

//! The commands of /dev/liveupdate and of sessions: numbers, arguments, and who may be asked what.
//!
//! An argument begins with its size. Userspace may know more of it than this kernel does: then what
//! this kernel does not know must be zero. (Numbers and layouts: include/uapi/linux/liveupdate.h.)

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::format::NAME;

/// The type in all numbers, in place.
const TYPE: u32 = 0xba << 8;

/// Bits of a number that tell commands apart.
const NUMBER: u32 = 0xff;

/// The kind of session that a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Outgoing,
    Incoming,
}

/// Commands of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceCommand {
    Create,
    Retrieve,
}

/// Commands of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionCommand {
    Preserve,
    Retrieve,
    Finish,
    GetName,
}

/// A set of commands.
pub(crate) trait Command: Copy {
    /// The command with that number in its last byte, whatever the other bits say.
    fn numbered(cmd: u32) -> Option<Self>;
    /// The whole number.
    fn code(self) -> u32;
    /// Bytes of its argument.
    fn size(self) -> usize;
    /// The only sort of session it is for.
    fn side(self) -> Option<Side>;
}

impl Command for DeviceCommand {
    fn numbered(cmd: u32) -> Option<Self> {
        match cmd & NUMBER {
            0x00 => Some(Self::Create),
            0x01 => Some(Self::Retrieve),
            _ => None,
        }
    }

    fn code(self) -> u32 {
        TYPE | match self {
            Self::Create => 0x00,
            Self::Retrieve => 0x01,
        }
    }

    fn size(self) -> usize {
        size_of::<NameArgument>()
    }

    fn side(self) -> Option<Side> {
        None
    }
}

impl Command for SessionCommand {
    fn numbered(cmd: u32) -> Option<Self> {
        match cmd & NUMBER {
            0x40 => Some(Self::Preserve),
            0x41 => Some(Self::Retrieve),
            0x42 => Some(Self::Finish),
            0x43 => Some(Self::GetName),
            _ => None,
        }
    }

    fn code(self) -> u32 {
        TYPE | match self {
            Self::Preserve => 0x40,
            Self::Retrieve => 0x41,
            Self::Finish => 0x42,
            Self::GetName => 0x43,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Preserve | Self::Retrieve => size_of::<FdArgument>(),
            Self::Finish => size_of::<FinishArgument>(),
            Self::GetName => size_of::<NameArgument>(),
        }
    }

    fn side(self) -> Option<Side> {
        match self {
            Self::Preserve => Some(Side::Outgoing),
            Self::Retrieve | Self::Finish => Some(Side::Incoming),
            Self::GetName => None,
        }
    }
}

/// Argument of CREATE_SESSION and RETRIEVE_SESSION, and of GET_NAME, where `fd` is reserved.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct NameArgument {
    pub(crate) size: u32,
    pub(crate) fd: i32,
    pub(crate) name: [u8; NAME],
}

/// Argument of PRESERVE_FD and RETRIEVE_FD.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct FdArgument {
    pub(crate) size: u32,
    pub(crate) fd: i32,
    pub(crate) token: u64,
}

/// Argument of FINISH.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct FinishArgument {
    pub(crate) size: u32,
    pub(crate) reserved: u32,
}

const _: () = assert!(size_of::<NameArgument>() == 72);
const _: () = assert!(size_of::<FdArgument>() == 16);
const _: () = assert!(size_of::<FinishArgument>() == 8);

#[cfg_attr(kernel, kernel::prelude::kunit_tests(liveupdate_ioctl))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_header() {
        for (number, code) in [(0x00, 0xba00), (0x01, 0xba01)] {
            assert!(DeviceCommand::numbered(number).map(Command::code) == Some(code));
        }
        for number in 0x40..0x44 {
            let code = SessionCommand::numbered(number).map(Command::code);
            assert!(code == Some(0xba00 | number));
        }
        assert!(DeviceCommand::numbered(0x02).is_none());
        assert!(
            SessionCommand::numbered(0x00).is_none() && SessionCommand::numbered(0x44).is_none()
        );
    }
}
