// SPDX-License-Identifier: GPL-2.0

//! Formats of this kernel: the folders of sysfs, which are `formats.c`, and `liveupdate.unknown=`.

use core::sync::atomic::{AtomicBool, Ordering};

use kernel::prelude::*;

use super::orchestrator::luo;
use crate::luo::formats::catalogue::is_name;
use crate::luo::formats::id::Id;
use crate::luo::Luo;
use crate::sys::cmdline;
use crate::sys::error::{Result, ENODEV, ENOENT};
use crate::sys::glue;

/// Whether formats are shown as soon as they are registered.
static SHOWN: AtomicBool = AtomicBool::new(false);

#[no_mangle]
extern "C" fn lu_parse_unknown(mainline: bool) -> c_int {
    cmdline::set_unknown_is_mainline(mainline);
    0
}

/// `liveupdate.audit=off`.
#[no_mangle]
extern "C" fn lu_parse_audit(on: bool) -> c_int {
    cmdline::set_audited(on);
    0
}

/// The name as C has it, if a folder can be called that.
fn folder(format: &Id) -> Option<*const c_char> {
    let name = core::str::from_utf8(format.name.text()).ok()?;
    is_name(name).then(|| format.name.bytes().as_ptr().cast())
}

/// Shows a format that was registered.
pub(super) fn show(format: &Id) {
    if !SHOWN.load(Ordering::Acquire) {
        return;
    }
    let Some(name) = folder(format) else {
        return;
    };
    // SAFETY: The name is NUL-terminated.
    let err = unsafe { glue::lu_format_show(name, format.version) };
    if err != 0 {
        pr_warn!("luo: {format} is not in sysfs: {err}\n");
    }
}

/// Shows all formats, and from now on those that are registered.
pub(super) fn show_all(luo: &Luo) {
    SHOWN.store(true, Ordering::Release);
    for declared in luo.own.list() {
        show(&declared.id);
    }
    let mut last = None;
    loop {
        let next = luo.drivers.lock().format_after(last.as_ref());
        let Some(format) = next else {
            return;
        };
        show(&format);
        last = Some(format);
    }
}

/// A format's handler is gone.
pub(super) fn hide(luo: &Luo, format: &Id) {
    if luo.format(format).is_none() {
        if let Some(name) = folder(format) {
            // SAFETY: The name is NUL-terminated.
            unsafe { glue::lu_format_hide(name, format.version) };
        }
    }
}

/// The format of a folder.
///
/// # Safety
///
/// `name` is a string.
unsafe fn format_of(name: *const c_char, version: u32) -> Result<Id> {
    // SAFETY: By the caller's promise.
    let name = unsafe { CStr::from_char_ptr(name) };
    let name = name.to_str().map_err(|_| ENOENT)?;
    Id::new(name, version).ok_or(ENOENT)
}

/// What a file of a format's folder says, or an errno.
///
/// # Safety
///
/// `name` is a string.
#[no_mangle]
unsafe extern "C" fn lu_format_attribute(
    name: *const c_char,
    version: u32,
    what: c_uint,
) -> c_long {
    let attribute = || {
        // SAFETY: By the caller's promise.
        let format = unsafe { format_of(name, version) }?;
        let shown = luo()?.format(&format).ok_or(ENOENT)?;
        Ok(match what {
            glue::LU_FORMAT_READ => shown.read.into(),
            glue::LU_FORMAT_WRITE => shown.write.into(),
            glue::LU_FORMAT_ENABLED => shown.enabled.unwrap_or(shown.write).into(),
            // Nobody counts the uses of a format that is not a handler's.
            _ if shown.enabled.is_none() => return Err(ENODEV),
            _ => c_long::try_from(shown.users).unwrap_or(c_long::MAX),
        })
    };
    let attribute: Result<c_long> = attribute();
    attribute.unwrap_or_else(|err| err.to_errno() as c_long)
}

/// # Safety
///
/// `name` is a string.
#[no_mangle]
unsafe extern "C" fn lu_format_enable(name: *const c_char, version: u32, on: bool) -> c_int {
    let enable = || {
        // SAFETY: By the caller's promise.
        let format = unsafe { format_of(name, version) }?;
        luo()?.enable(&format, on)
    };
    kernel::error::from_result(|| enable().map(|()| 0))
}
