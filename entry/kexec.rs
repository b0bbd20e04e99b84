// SPDX-License-Identifier: GPL-2.0

//! The hooks of kexec_file_load: kernel/kexec_internal.h.

use core::ffi::c_void;

use kernel::bindings;
use kernel::prelude::*;

use crate::kho::kexec::{explain_no_room, place, warn_if_tight, Placed};
use crate::kho::state;

/// Alignment of the scratch list, so that early code can map it in one piece.
const LIST_ALIGN: usize = 64 << 10;

/// Whether an image is handed over to at all: crash kernels are not.
///
/// # Safety
///
/// `image` is a valid image.
unsafe fn takes_handover(image: *const bindings::kimage) -> bool {
    // SAFETY: By the caller's promise.
    state::enabled() && unsafe { (*image).type_() } != bindings::KEXEC_TYPE_CRASH
}

/// Adds what the next kernel needs to find the handover.
///
/// # Safety
///
/// `image` is a valid image that is being loaded by the caller alone.
#[export]
unsafe extern "C" fn kho_fill_kimage(image: *mut bindings::kimage) -> c_int {
    // SAFETY: By the caller's promise.
    if !unsafe { takes_handover(image) } {
        return 0;
    }
    let fdt = match state::OUTGOING.lock().as_ref().and_then(|out| out.fdt()) {
        Some(fdt) => fdt.page().frame().phys(),
        None => return EINVAL.to_errno(),
    };
    warn_of_loss();
    #[cfg(CONFIG_LIVEUPDATE)]
    // SAFETY: By the caller's promise.
    if let Err(err) = unsafe { super::luo::registry::negotiate(image) } {
        return err.to_errno();
    }
    let list = state::SCRATCH.entries();
    #[cfg(all(CONFIG_KEXEC_HANDOVER_DEBUG, CONFIG_KEXEC_HANDOVER_DEBUGFS))]
    let list = super::inject::spoilt_list().unwrap_or(list);
    let bytes = size_of_val(list);
    let mut buffer = bindings::kexec_buf {
        image,
        buffer: list.as_ptr().cast_mut().cast(),
        bufsz: bytes,
        mem: bindings::KEXEC_BUF_MEM_UNKNOWN as c_ulong,
        memsz: bytes,
        buf_align: LIST_ALIGN,
        buf_max: c_ulong::MAX,
        top_down: true,
        ..Default::default()
    };
    // SAFETY: The buffer describes the list, which lives for ever; the image is the caller's.
    unsafe {
        let err = bindings::kexec_add_buffer(&mut buffer);
        if err != 0 {
            return err;
        }
        (*image).kho.fdt = fdt.raw();
        let segments = (*image).nr_segments;
        let segment = &raw mut (*image).segment;
        (*image).kho.scratch = segment
            .cast::<bindings::kexec_segment>()
            .add(segments.saturating_sub(1));
        // The image's own segments come after this.
        let image_bytes = (*image).kernel_buf_len as u64 + (*image).initrd_buf_len as u64;
        warn_if_tight(&state::SCRATCH, image_bytes, state::early_bytes());
    }
    0
}

/// Says what the next kernel would refuse to take over. Where there is an orchestrator it does,
/// which knows of files, and of the next kernel's command line.
fn warn_of_loss() {
    #[cfg(CONFIG_LIVEUPDATE)]
    if super::luo::orchestrator::luo().is_ok() {
        return;
    }
    let audited = state::outgoing(|out| Ok(out.audit(|_| Ok(()))));
    if let Ok(Err(wrong)) = audited {
        pr_warn!("the next kernel will not take over what is preserved: {wrong}\n");
    }
}

/// The machine is about to jump to the next kernel, or to reboot: all that is preserved has been
/// preserved.
#[no_mangle]
extern "C" fn lu_reboot() {
    if let Some(out) = state::OUTGOING.lock().as_mut() {
        if out.seal().is_err() {
            pr_warn!("handed over without a checksum: the FDT is full\n");
        }
    }
    #[cfg(all(CONFIG_KEXEC_HANDOVER_DEBUG, CONFIG_KEXEC_HANDOVER_DEBUGFS))]
    super::inject::spoil();
}

/// Finds room for a segment: in scratch and nowhere else.
///
/// # Safety
///
/// `kbuf` is valid, and `func` a function that takes a resource and it.
#[export]
unsafe extern "C" fn kho_locate_mem_hole(
    kbuf: *mut bindings::kexec_buf,
    func: Option<unsafe extern "C" fn(*mut bindings::resource, *mut c_void) -> c_int>,
) -> c_int {
    // SAFETY: By the caller's promise.
    let (ours, bytes) = unsafe { (takes_handover((*kbuf).image), (*kbuf).memsz) };
    let (true, Some(func)) = (ours, func) else {
        return 1;
    };
    let placed = place(&state::SCRATCH, |area| {
        if area.size == 0 {
            return Placed::No;
        }
        let mut resource = bindings::resource {
            start: area.start.raw(),
            end: area.start.raw() + (area.size - 1),
            ..Default::default()
        };
        // SAFETY: By the caller's promise.
        match unsafe { func(&mut resource, kbuf.cast()) } {
            0 => Placed::No,
            1 => Placed::Here,
            _ => Placed::Failed,
        }
    });
    if placed {
        return 0;
    }
    explain_no_room(&state::SCRATCH, bytes as u64);
    EADDRNOTAVAIL.to_errno()
}
