// SPDX-License-Identifier: GPL-2.0

//! libfdt behind safe types: the kernel's own on one side, the system's on the other.

use core::ffi::{c_int, c_void, CStr};
use core::marker::PhantomData;
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
use core::slice::from_raw_parts;

#[cfg(kernel)]
use kernel::bindings as c;

#[cfg(not(kernel))]
use super::host::libfdt as c;

use super::{Frame, FRAME_WORDS};

#[cfg(kernel)]
use kernel::ffi::c_char as CChar;

#[cfg(not(kernel))]
use core::ffi::c_char as CChar;

const PAGE_BYTES: c_int = (FRAME_WORDS * 8) as c_int;

/// Bytes of the smallest header libfdt reads.
const MIN_HEADER: usize = 40;

/// What libfdt said was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FdtError {
    /// A node of this name exists.
    Exists,
    /// No room.
    NoSpace,
    /// Any other of its codes.
    Other(i32),
}

impl FdtError {
    /// libfdt's number for it, negative.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Exists => -2,
            Self::NoSpace => -3,
            Self::Other(code) => code,
        }
    }
}

/// A C string as libfdt takes it.
fn c_str(text: &CStr) -> *const CChar {
    #[cfg(kernel)]
    return kernel::str::CStrExt::as_char_ptr(text);
    #[cfg(not(kernel))]
    return text.as_ptr();
}

fn check(code: c_int) -> Result<c_int, FdtError> {
    match code {
        0.. => Ok(code),
        -2 => Err(FdtError::Exists),
        -3 => Err(FdtError::NoSpace),
        other => Err(FdtError::Other(other)),
    }
}

/// A page that holds an FDT of ours, which may be edited.
pub(crate) struct Page {
    frame: Frame,
}

impl Page {
    /// Takes a frame for an FDT; its owner uses it for nothing else meanwhile.
    pub(crate) fn new(frame: Frame) -> Self {
        Self { frame }
    }

    pub(crate) fn frame(&self) -> Frame {
        self.frame
    }

    /// Offset of the value of a property of 8 bytes.
    pub(crate) fn find(&self, node: i32, name: &CStr) -> Option<usize> {
        find_u64(self.frame.as_ptr(), node, name).map(|(at, _)| at)
    }

    /// Whether a node below the root has a name that begins so.
    #[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
    pub(crate) fn any_node(&self, prefix: &[u8]) -> bool {
        let fdt = self.frame.as_ptr();
        nodes(fdt).any(|node| {
            let mut len = 0;
            // SAFETY: The FDT is ours, and not edited meanwhile; libfdt checks the offset.
            let name = unsafe { c::fdt_get_name(fdt, node, &mut len) };
            let len = usize::try_from(len).unwrap_or(0);
            // SAFETY: libfdt says how long the name is, which stays as it is as long as this.
            !name.is_null() && unsafe { from_raw_parts(name.cast::<u8>(), len) }.starts_with(prefix)
        })
    }

    /// Bytes the FDT takes now.
    pub(crate) fn len(&self) -> usize {
        // The second big-endian 32-bit word of the header (devicetree specification, 5.2).
        (self.frame.word(0).to_ne_bytes())
            .last_chunk()
            .map_or(0, |size| u32::from_be_bytes(*size) as usize)
            .min(FRAME_WORDS * 8)
    }

    /// Writes a new FDT with a root node that `fill` gives its properties.
    pub(crate) fn create(
        &mut self,
        fill: impl FnOnce(&mut Create<'_>) -> Result<(), FdtError>,
    ) -> Result<(), FdtError> {
        let fdt = self.frame.as_ptr();
        // SAFETY: `fdt` is a page of memory, and nothing else uses it: `self` is borrowed mutably.
        check(unsafe { c::fdt_create(fdt, PAGE_BYTES) })?;
        // SAFETY: As above, and the calls come in the order libfdt wants.
        check(unsafe { c::fdt_finish_reservemap(fdt) })?;
        // SAFETY: As above; the name is a C string.
        check(unsafe { c::fdt_begin_node(fdt, c_str(c"")) })?;
        fill(&mut Create(fdt, PhantomData))?;
        // SAFETY: As above.
        check(unsafe { c::fdt_end_node(fdt) })?;
        // SAFETY: As above.
        check(unsafe { c::fdt_finish(fdt) })?;
        Ok(())
    }

    /// Opens the FDT to the whole page, lets `change` edit it, and packs it again.
    pub(crate) fn edit<T>(
        &mut self,
        change: impl FnOnce(&mut Edit<'_>) -> Result<T, FdtError>,
    ) -> Result<T, FdtError> {
        let fdt = self.frame.as_ptr();
        // SAFETY: `fdt` is a page that `create` filled, and `self` is borrowed mutably.
        check(unsafe { c::fdt_open_into(fdt, fdt, PAGE_BYTES) })?;
        let result = change(&mut Edit(fdt, PhantomData));
        // SAFETY: As above.
        check(unsafe { c::fdt_pack(fdt) })?;
        result
    }
}

/// The root node of an FDT that is being written.
pub(crate) struct Create<'a>(*mut c_void, PhantomData<&'a mut Page>);

impl Create<'_> {
    pub(crate) fn property(&mut self, name: &CStr, value: &[u8]) -> Result<(), FdtError> {
        let len = c_int::try_from(value.len()).map_err(|_| FdtError::NoSpace)?;
        // SAFETY: The FDT is being written by `Page::create`; name and value are valid as said.
        let code = unsafe { c::fdt_property(self.0, c_str(name), value.as_ptr().cast(), len) };
        check(code).map(|_| ())
    }
}

/// An FDT that is being edited. Nodes are known by their offset.
pub(crate) struct Edit<'a>(*mut c_void, PhantomData<&'a mut Page>);

impl Edit<'_> {
    /// Adds an empty node below the root.
    pub(crate) fn add_node(&mut self, name: &CStr) -> Result<i32, FdtError> {
        // SAFETY: The FDT is open for editing (`Page::edit`); the name is a C string.
        check(unsafe { c::fdt_add_subnode(self.0, Blob::ROOT, c_str(name)) })
    }

    pub(crate) fn set_property(
        &mut self,
        node: i32,
        name: &CStr,
        value: &[u8],
    ) -> Result<(), FdtError> {
        let len = c_int::try_from(value.len()).map_err(|_| FdtError::NoSpace)?;
        let (name_len, name) = (name.count_bytes() as c_int, c_str(name));
        let value = value.as_ptr().cast();
        // SAFETY: The FDT is open for editing; name and value are valid as said.
        let code = unsafe { c::fdt_setprop_namelen(self.0, node, name, name_len, value, len) };
        check(code).map(|_| ())
    }

    pub(crate) fn delete_node(&mut self, node: i32) {
        // SAFETY: The FDT is open for editing; libfdt checks the offset.
        unsafe { c::fdt_del_node(self.0, node) };
    }

    /// The nodes below the root. The FDT must not be edited while they are walked.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = i32> {
        nodes(self.0)
    }

    pub(crate) fn property_u64(&self, node: i32, name: &CStr) -> Option<u64> {
        property_u64(self.0, node, name)
    }
}

/// An FDT to be read, not trusted.
pub(crate) struct Blob<'a>(&'a [u8]);

impl<'a> Blob<'a> {
    /// Offset of the root node.
    pub(crate) const ROOT: i32 = 0;

    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn as_ptr(&self) -> *const c_void {
        self.0.as_ptr().cast()
    }

    /// Checks that the header is one, and that all it speaks of lies within the bytes there are.
    /// Nothing else may be called before this.
    pub(crate) fn check(&self) -> Result<(), FdtError> {
        const TRUNCATED: FdtError = FdtError::Other(-8);
        if self.0.len() < MIN_HEADER || self.0.as_ptr() as usize % 8 != 0 {
            return Err(TRUNCATED);
        }
        // SAFETY: There are enough bytes for a header, aligned as libfdt wants.
        check(unsafe { c::fdt_check_header(self.as_ptr()) })?;
        if self.len() > self.0.len() {
            return Err(TRUNCATED);
        }
        Ok(())
    }

    /// Bytes the FDT says it has.
    pub(crate) fn len(&self) -> usize {
        let total = self.0.get(4..8).and_then(|b| b.first_chunk());
        total.map_or(0, |b| u32::from_be_bytes(*b) as usize)
    }

    /// Whether the root node's `compatible` lists `name`.
    pub(crate) fn is_compatible(&self, name: &CStr) -> bool {
        // SAFETY: `check` found the FDT to lie within the bytes, which libfdt does not leave.
        let code = unsafe { c::fdt_node_check_compatible(self.as_ptr(), Self::ROOT, c_str(name)) };
        code == 0
    }

    /// The nodes below the root.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = i32> + '_ {
        nodes(self.as_ptr())
    }

    /// The node below the root with that name.
    pub(crate) fn node(&self, name: &CStr) -> Option<i32> {
        // SAFETY: As in `is_compatible`.
        let code = unsafe { c::fdt_subnode_offset(self.as_ptr(), Self::ROOT, c_str(name)) };
        check(code).ok()
    }

    /// A node's name.
    pub(crate) fn name(&self, node: i32) -> Option<&'a CStr> {
        // SAFETY: As in `is_compatible`; libfdt checks the offset and that the name ends.
        let name = unsafe { c::fdt_get_name(self.as_ptr(), node, core::ptr::null_mut()) };
        let start = (name as usize).checked_sub(self.0.as_ptr() as usize)?;
        CStr::from_bytes_until_nul(self.0.get(start..)?).ok()
    }

    /// The same, with the offset of the value.
    pub(crate) fn find_u64(&self, node: i32, name: &CStr) -> Option<(usize, u64)> {
        find_u64(self.as_ptr(), node, name)
    }

    /// A property that is exactly one native-endian u64.
    pub(crate) fn property_u64(&self, node: i32, name: &CStr) -> Option<u64> {
        property_u64(self.as_ptr(), node, name)
    }
}

fn nodes(fdt: *const c_void) -> impl Iterator<Item = i32> {
    // SAFETY: The callers' FDTs are checked or ours; libfdt bounds offsets by the FDT's size.
    let first = unsafe { c::fdt_first_subnode(fdt, Blob::ROOT) };
    core::iter::successors(check(first).ok(), move |&node| {
        // SAFETY: As above. Offsets ascend, so this ends.
        check(unsafe { c::fdt_next_subnode(fdt, node) }).ok()
    })
}

fn property_u64(fdt: *const c_void, node: i32, name: &CStr) -> Option<u64> {
    find_u64(fdt, node, name).map(|(_, value)| value)
}

/// Offset and value of a property that is exactly one native-endian u64.
fn find_u64(fdt: *const c_void, node: i32, name: &CStr) -> Option<(usize, u64)> {
    let mut len: c_int = 0;
    // SAFETY: The callers' FDTs are checked or ours; libfdt checks the offset.
    let value = unsafe { c::fdt_getprop(fdt, node, c_str(name), &mut len) };
    if value.is_null() || len != 8 {
        return None;
    }
    // SAFETY: libfdt found `len`, 8, bytes of the property within the FDT.
    let read = unsafe { value.cast::<u64>().read_unaligned() };
    Some(((value as usize).checked_sub(fdt as usize)?, read))
}
