// SPDX-License-Identifier: GPL-2.0

//! Root pages: where a preserved structure begins, what it is, and what it is called.
//!
//! A structure with a name is a subtree of the root FDT: the FDT says where its root page is, the
//! next kernel has checked that all of it is preserved before anybody asks, and an operator sees it
//! in debugfs. The FDT is one page, with room for some thirty names. A structure without a name is
//! found by the address of its root page, which its owner keeps in bytes of its own; of those there
//! may be any number.

use core::ffi::CStr;

use zerocopy_derive::{FromBytes, Immutable, IntoBytes};

use super::addr::PhysAddr;
use super::adopt::Claimed;
use super::checksum::Sum;
use super::page::PreservedPage;
use super::words;
use crate::kho::state as handover;
use crate::sys::error::{Result, EINVAL};
use crate::sys::layout::{field, Field};
use crate::sys::{log, Frame, FRAME_WORDS};

/// Longest name, in bytes.
pub(crate) const NAME: usize = 48;

/// Bytes of the header; what follows is the structure's.
pub(crate) const HEADER: usize = size_of::<Header>();

/// Bytes of the name of a subtree, its prefix and its NUL included.
const SUBTREE: usize = 64;

/// A kind of structure.
pub(crate) struct Kind {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
    /// The prefix of its subtrees' names.
    pub(crate) prefix: &'static str,
}

/// The header of a root page.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: u32,
    size: u32,
    align: u32,
    zero: u32,
    name: [u8; NAME],
    sum: u64,
}

/// The header's fields, for fingerprints.
pub(crate) const FIELDS: [Field; 7] = [
    field("magic", 0, 8),
    field("version", 8, 4),
    field("size", 12, 4),
    field("align", 16, 4),
    field("zero", 20, 4),
    field("name", 24, NAME),
    field("sum", 72, 8),
];

const _: () = assert!(HEADER == 80 && HEADER % 8 == 0);

impl Header {
    /// The checksum as it should be in the page at an address.
    fn checksum(&self, at: PhysAddr) -> u64 {
        let bytes = zerocopy::IntoBytes::as_bytes(self);
        let mut sum = Sum::new();
        for word in bytes.chunks_exact(8).take(HEADER / 8 - 1) {
            sum.add(word.try_into().map_or(0, u64::from_ne_bytes));
        }
        sum.add(at.raw());
        sum.value()
    }
}

/// The type of a structure's objects; zero if it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Type {
    pub(crate) size: u32,
    pub(crate) align: u32,
}

/// Whether this kernel would hand over a structure of a kind that has a name.
pub(crate) fn any_named(kind: &Kind) -> bool {
    let prefix = kind.prefix.as_bytes();
    let mut begins = [0; SUBTREE];
    let bytes = prefix.iter().chain(b"-");
    begins
        .iter_mut()
        .zip(bytes)
        .for_each(|(to, from)| *to = *from);
    let begins = begins.get(..=prefix.len()).unwrap_or_default();
    handover::outgoing(|out| Ok(out.has_subtree(begins))).unwrap_or(false)
}

/// The root page of a structure of this kernel. Dropping it makes the name known no more, and frees
/// the page.
pub(crate) struct Root {
    page: PreservedPage,
    named: bool,
}

impl Root {
    /// Makes a root; an empty name is none.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for a name that cannot be, `EEXIST` for one in use, `ENOMEM`, also when the root
    /// FDT is full.
    pub(crate) fn create(kind: &Kind, name: &[u8], of: Type) -> Result<Self> {
        let mut header = Header {
            magic: kind.magic,
            version: kind.version,
            size: of.size,
            align: of.align,
            zero: 0,
            name: padded(name)?,
            sum: 0,
        };
        let mut root = Self {
            page: PreservedPage::new()?,
            named: false,
        };
        let frame = root.page.frame();
        header.sum = header.checksum(frame.phys());
        words::write(frame, 0, &header);
        publish(kind, name, frame)?;
        root.named = !name.is_empty();
        Ok(root)
    }

    /// Claims and checks a root that was handed over.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if it is not what is looked for, and those of [`Claimed::claim`].
    pub(crate) fn claim(
        claimed: &mut Claimed,
        kind: &Kind,
        at: PhysAddr,
        name: &[u8],
        of: Type,
    ) -> Result<Frame> {
        let name = padded(name)?;
        let frame = claimed.claim(at)?;
        let header: Header = words::read(frame, 0);
        let why = if header.magic != kind.magic {
            "is no such thing"
        } else if header.sum != header.checksum(at) {
            "is damaged"
        } else if header.version != kind.version || header.zero != 0 {
            "is of another version"
        } else if (header.size, header.align) != (of.size, of.align) {
            "is of another type"
        } else if header.name != name {
            "has another name"
        } else {
            return Ok(frame);
        };
        log::pr_warn!(
            "what was handed over at {:#x} {why}: looked for a {}\n",
            at.raw(),
            kind.prefix
        );
        Err(EINVAL)
    }

    /// Takes over a root that was claimed, with all else that was; nothing has happened on failure.
    ///
    /// # Errors
    ///
    /// As for [`Self::create`].
    pub(crate) fn adopt(claimed: Claimed, kind: &Kind, frame: Frame, name: &[u8]) -> Result<Self> {
        claimed.adopt(|| publish(kind, name, frame))?;
        Ok(Self {
            page: PreservedPage::of(frame),
            named: !name.is_empty(),
        })
    }

    pub(crate) fn frame(&self) -> Frame {
        self.page.frame()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.named {
            handover::remove_subtree(self.page.frame().phys());
        }
    }
}

/// The name of a structure's subtree, in a buffer.
///
/// # Errors
///
/// [`EINVAL`] for a name that cannot be.
pub(crate) fn subtree<'a>(
    kind: &Kind,
    name: &[u8],
    buffer: &'a mut [u8; SUBTREE],
) -> Result<&'a CStr> {
    padded(name)?;
    buffer.fill(0);
    let bytes = kind.prefix.as_bytes().iter().chain(b"-").chain(name);
    let room = buffer.iter_mut().take(SUBTREE - 1);
    room.zip(bytes).for_each(|(to, from)| *to = *from);
    CStr::from_bytes_until_nul(buffer).map_err(|_| EINVAL)
}

/// Room for the name of a subtree.
pub(crate) const fn buffer() -> [u8; SUBTREE] {
    [0; SUBTREE]
}

fn publish(kind: &Kind, name: &[u8], root: Frame) -> Result {
    if name.is_empty() {
        return Ok(());
    }
    let mut buffer = buffer();
    let subtree = subtree(kind, name, &mut buffer)?;
    handover::add_subtree(subtree, root.phys(), FRAME_WORDS * 8)
}

/// The name as it stands in a header: of letters, digits and `-_.` only, as others may not stand in
/// an FDT's or a file's name.
fn padded(name: &[u8]) -> Result<[u8; NAME]> {
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let mut padded = [0; NAME];
    let place = padded.get_mut(..name.len()).ok_or(EINVAL)?;
    if !name.iter().all(good) {
        return Err(EINVAL);
    }
    place.copy_from_slice(name);
    Ok(padded)
}
