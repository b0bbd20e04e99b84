// SPDX-License-Identifier: GPL-2.0

//! The C API of the orchestrator: include/linux/liveupdate.h, its start, and the reboot.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use kernel::bindings::{self, liveupdate_file_handler, liveupdate_flb};
use kernel::prelude::*;
use kernel::sync::aref::ARef;

use super::formats::{hide, show, show_all};
use super::orchestrator::{luo, ENABLED, LUO};
use crate::kho::state;
use crate::luo::format::SUBTREE;
use crate::luo::formats::id::Id;
use crate::luo::formats::own::hidden;
use crate::luo::formats::written;
use crate::luo::text::Compatible;
use crate::luo::{Left, Luo};
use crate::sys::cmdline;
use crate::sys::driver::{Flb, Ops, Versions};
use crate::sys::error::Result;
use crate::sys::glue;

#[no_mangle]
extern "C" fn lu_parse_liveupdate(on: bool) -> c_int {
    ENABLED.store(on, Ordering::Relaxed);
    0
}

#[no_mangle]
extern "C" fn lu_parse_on_error(panic: bool) -> c_int {
    cmdline::set_panic(panic);
    0
}

/// The first initcalls run: reads what the previous kernel left, before drivers ask for it.
#[no_mangle]
extern "C" fn lu_luo_start() -> c_int {
    if !state::enabled() {
        if ENABLED.swap(false, Ordering::Relaxed) {
            pr_warn!("luo: off, as KHO is off\n");
        }
        return 0;
    }
    if !ENABLED.load(Ordering::Relaxed) {
        return 0;
    }
    let started = Luo::start(left()).and_then(|mut luo| {
        if let Ok(found) = state::find_subtree(written::SUBTREE) {
            let size = usize::try_from(found.size).unwrap_or(usize::MAX);
            luo.judge(found.data, size)?;
        }
        Ok(luo)
    });
    match started {
        Ok(luo) => {
            if luo.number > 0 {
                pr_info!("luo: this is live update number {}\n", luo.number);
            }
            LUO.populate(luo);
            0
        }
        Err(err) => {
            pr_err!("luo: off: {err:?}\n");
            ENABLED.store(false, Ordering::Relaxed);
            err.to_errno()
        }
    }
}

/// What the previous kernel left for this one's orchestrator.
fn left() -> Left {
    match state::find_subtree(SUBTREE) {
        Ok(found) => Left::Root(
            found.data,
            usize::try_from(found.size).unwrap_or(usize::MAX),
        ),
        Err(ENOENT) if !state::refused() => Left::Nothing,
        Err(_) if state::refused_version() => Left::OtherVersion,
        Err(_) => Left::Lost,
    }
}

/// Everything a driver needs is there.
#[no_mangle]
extern "C" fn lu_luo_publish() -> c_int {
    let Ok(luo) = luo() else {
        return 0;
    };
    let ready = luo.publish().and_then(|()| super::device::register());
    if let Err(err) = ready {
        pr_err!("luo: off, as nothing can be handed over: {err:?}\n");
        ENABLED.store(false, Ordering::Relaxed);
        return err.to_errno();
    }
    show_all(luo);
    0
}

/// An image is being loaded: settles what will be written for it; see [`Luo::negotiate`].
///
/// # Safety
///
/// `image` is a valid image that is being loaded by the caller alone, its file and its command line
/// are there.
pub(in crate::entry) unsafe fn negotiate(image: *const bindings::kimage) -> Result {
    let Ok(luo) = luo() else {
        return Ok(());
    };
    /// # Safety
    ///
    /// `at` is null, or so many bytes from there on may be read as long as this lives.
    unsafe fn bytes<'a>(at: *const c_void, len: usize) -> &'a [u8] {
        if at.is_null() {
            return &[];
        }
        // SAFETY: By the caller's promise.
        unsafe { core::slice::from_raw_parts(at.cast(), len) }
    }
    // SAFETY: By the caller's promise: both are as long as the image says, and stay until it is
    // loaded.
    let (file, cmdline) = unsafe {
        (
            bytes((*image).kernel_buf, (*image).kernel_buf_len),
            bytes((*image).cmdline_buf.cast(), (*image).cmdline_buf_len),
        )
    };
    luo.negotiate(image.addr(), file, cmdline)
}

#[export]
extern "C" fn liveupdate_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

#[export]
extern "C" fn liveupdate_reboot() -> c_int {
    errno(luo().map_or(Ok(()), Luo::reboot))
}

fn errno(result: Result) -> c_int {
    match result {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

/// # Safety
///
/// `fh` is a file handler that stays as it is until it is unregistered.
#[export]
unsafe extern "C" fn liveupdate_register_file_handler(fh: *mut liveupdate_file_handler) -> c_int {
    // SAFETY: By the caller's promise.
    errno(unsafe { register(fh, Versions::default()) })
}

/// Registers a handler that has more than one version, each with a handler of its own. `convert`
/// makes what another version's handler has preserved into what this one would have: it gets the
/// arguments as the other one left them, and that one's version. Handlers with the same `family`,
/// any address that is theirs, keep the same in `private_data`; from others nothing is converted.
///
/// # Safety
///
/// As for [`liveupdate_register_file_handler`].
#[no_mangle]
unsafe extern "C" fn lu_luo_register_version(
    fh: *mut glue::liveupdate_file_handler,
    convert: glue::lu_convert_fn,
    family: *const c_void,
) -> c_int {
    let family = family.addr();
    // SAFETY: By the caller's promise.
    errno(unsafe { register(fh.cast(), Versions { convert, family }) })
}

/// # Safety
///
/// As for [`liveupdate_register_file_handler`].
unsafe fn register(fh: *mut liveupdate_file_handler, versions: Versions) -> Result {
    let luo = luo()?;
    // SAFETY: By the caller's promise.
    let ops = unsafe { Ops::new(fh, versions) }.ok_or(EINVAL)?;
    let compatible = ops.compatible().ok_or(EINVAL)?;
    let format = Id::of(&compatible);
    if hidden(&format) {
        pr_warn!("luo: no handler for {format}: liveupdate.hide names it\n");
        return Ok(());
    }
    luo.drivers.lock().register(ops, compatible)?;
    show(&format);
    // SAFETY: As above. The test registers FLBs, so no lock may be held.
    unsafe { glue::lu_test_register(fh.cast()) };
    Ok(())
}

/// # Safety
///
/// `fh` was registered, and none of its files is preserved any more.
#[export]
unsafe extern "C" fn liveupdate_unregister_file_handler(fh: *mut liveupdate_file_handler) {
    // SAFETY: By the caller's promise.
    if let (Ok(luo), Some(ops)) = (luo(), unsafe { Ops::new(fh, Versions::default()) }) {
        luo.drivers.lock().unregister(ops);
        if let Some(compatible) = ops.compatible() {
            hide(luo, &Id::of(&compatible));
        }
    }
}

/// The FLB at an address with its name.
///
/// # Safety
///
/// `flb` is null or an FLB that stays as it is as long as it is used.
unsafe fn flb_at(flb: *mut liveupdate_flb) -> Result<(Flb, Compatible)> {
    // SAFETY: By the caller's promise.
    let flb = unsafe { Flb::new(flb) }.ok_or(EINVAL)?;
    let name = flb.compatible().ok_or(EINVAL)?;
    Ok((flb, name))
}

/// # Safety
///
/// `fh` is a file handler, `flb` an FLB that stays as it is until it is unregistered.
#[export]
unsafe extern "C" fn liveupdate_register_flb(
    fh: *mut liveupdate_file_handler,
    flb: *mut liveupdate_flb,
) -> c_int {
    let register = || {
        let luo = luo()?;
        // SAFETY: By the caller's promise.
        let ops = unsafe { Ops::new(fh, Versions::default()) }.ok_or(EINVAL)?;
        // SAFETY: As above.
        let (flb, name) = unsafe { flb_at(flb) }?;
        if ops.compatible().is_some_and(|name| hidden(&Id::of(&name))) {
            // Its driver must not fail for that: it may have other handlers.
            return Ok(());
        }
        luo.drivers.lock().register_flb(ops, flb, name)
    };
    errno(register())
}

/// # Safety
///
/// As for [`liveupdate_register_flb`].
#[export]
unsafe extern "C" fn liveupdate_unregister_flb(
    fh: *mut liveupdate_file_handler,
    flb: *mut liveupdate_flb,
) {
    let unregister = || -> Result<bool> {
        let luo = luo()?;
        // SAFETY: By the caller's promise.
        let ops = unsafe { Ops::new(fh, Versions::default()) }.ok_or(EINVAL)?;
        // SAFETY: As above.
        let (flb, _) = unsafe { flb_at(flb) }?;
        Ok(luo.drivers.lock().unregister_flb(ops, flb))
    };
    match unregister() {
        Ok(true) | Err(EOPNOTSUPP) => {}
        _ => pr_warn!("luo: an FLB is unregistered that was not registered\n"),
    }
}

/// # Safety
///
/// `flb` is an FLB that stays as it is while its object is held; `objp` may be written.
#[export]
unsafe extern "C" fn liveupdate_flb_get_incoming(
    flb: *mut liveupdate_flb,
    objp: *mut *mut c_void,
) -> c_int {
    let get = || {
        let luo = luo()?;
        // SAFETY: By the caller's promise.
        let (flb, name) = unsafe { flb_at(flb) }?;
        let object = luo.get_incoming(flb, name)?;
        // SAFETY: As above.
        unsafe { objp.write(object.raw()) };
        Ok(())
    };
    errno(get())
}

/// What arrived as a whole, for drivers; include/linux/liveupdate_arrival.h.
#[no_mangle]
extern "C" fn liveupdate_arrival() -> c_int {
    errno(
        luo()
            .map_err(|_| ENOENT)
            .and_then(|luo| luo.arrival().result()),
    )
}

/// The record of an FLB that arrived.
///
/// # Safety
///
/// As for [`liveupdate_flb_get_incoming`].
#[no_mangle]
unsafe extern "C" fn liveupdate_flb_arrival(flb: *mut liveupdate_flb) -> c_int {
    let arrival = || {
        let luo = luo().map_err(|_| ENOENT)?;
        // SAFETY: By the caller's promise.
        let (_, name) = unsafe { flb_at(flb) }?;
        luo.flb_arrival(&name)
    };
    errno(arrival())
}

/// # Safety
///
/// The caller holds the object of `flb` by [`liveupdate_flb_get_incoming`].
#[export]
unsafe extern "C" fn liveupdate_flb_put_incoming(flb: *mut liveupdate_flb) {
    // SAFETY: By the caller's promise.
    if let (Ok(luo), Ok((flb, name))) = (luo(), unsafe { flb_at(flb) }) {
        luo.put_incoming(flb, name);
    }
}

/// # Safety
///
/// As for [`liveupdate_flb_get_incoming`].
#[export]
unsafe extern "C" fn liveupdate_flb_get_outgoing(
    flb: *mut liveupdate_flb,
    objp: *mut *mut c_void,
) -> c_int {
    let get = || {
        luo()?;
        // SAFETY: By the caller's promise.
        let (flb, _) = unsafe { flb_at(flb) }?;
        let object = crate::luo::flb::get_outgoing(flb)?;
        // SAFETY: As above.
        unsafe { objp.write(object.raw()) };
        Ok(())
    };
    errno(get())
}

/// # Safety
///
/// The caller holds the object of `flb` by [`liveupdate_flb_get_outgoing`].
#[export]
unsafe extern "C" fn liveupdate_flb_put_outgoing(flb: *mut liveupdate_flb) {
    // SAFETY: By the caller's promise.
    if let Ok((flb, _)) = unsafe { flb_at(flb) } {
        crate::luo::flb::put_outgoing(flb);
    }
}

/// Whether a file is preserved, or retrieved and not finished: what a driver asks whose own file is
/// of no use without it. Not in the tree's headers; `kernel::liveupdate` declares it.
///
/// # Safety
///
/// `file` is a file the caller has a reference to.
#[no_mangle]
unsafe extern "C" fn liveupdate_file_is_preserved(file: *mut glue::file) -> bool {
    let (Ok(luo), Some(file)) = (luo(), NonNull::new(file.cast::<bindings::file>())) else {
        return false;
    };
    // SAFETY: By the caller's promise; the reference made here is given up below. Files that are
    // preserved are reached by handlers, which do not move their position.
    let file: crate::sys::driver::File = unsafe {
        bindings::get_file(file.as_ptr());
        ARef::from_raw(file.cast())
    };
    luo.is_preserved(&file)
}
