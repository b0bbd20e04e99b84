// SPDX-License-Identifier: GPL-2.0

//! What /sys/kernel/liveupdate shows; the attributes themselves are `sysfs.c`.

use kernel::prelude::*;

use super::orchestrator::luo;
use crate::kho::state;
use crate::sys::glue;

/// Copies what fits; returns how much that was.
fn copy(to: &mut [u8], from: impl IntoIterator<Item = u8>) -> usize {
    to.iter_mut().zip(from).map(|(to, from)| *to = from).count()
}

/// A decimal number.
fn number(to: &mut [u8], mut value: u64) -> usize {
    let mut digits = [0u8; 20];
    let mut first = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        first -= 1;
        if value == 0 {
            break;
        }
    }
    copy(to, digits.into_iter().skip(first))
}

/// Writes one attribute; returns its length.
///
/// # Safety
///
/// `to` has room for `len` bytes.
#[no_mangle]
unsafe extern "C" fn lu_luo_show(what: c_uint, to: *mut u8, len: usize) -> usize {
    // SAFETY: By the caller's promise.
    let to = unsafe { core::slice::from_raw_parts_mut(to, len) };
    let luo = luo();
    match (what, luo) {
        (glue::LU_SHOW_ENABLED, luo) => number(to, luo.is_ok().into()),
        (glue::LU_SHOW_STATE, Ok(luo)) => copy(to, luo.state().bytes()),
        (glue::LU_SHOW_STATE, Err(_)) => copy(to, *b"off"),
        (glue::LU_SHOW_NUMBER, luo) => number(to, luo.map_or(0, |luo| luo.number)),
        (glue::LU_SHOW_PREVIOUS, _) => copy(to, state::previous_release()),
        (glue::LU_SHOW_LAST_ERROR, Ok(luo)) => luo.last_error(to),
        (glue::LU_SHOW_LOADED, Ok(luo)) => luo.loaded(to),
        (glue::LU_SHOW_ARRIVAL, Ok(luo)) => copy(to, luo.arrival().text().bytes()),
        (glue::LU_SHOW_ARRIVED, Ok(luo)) => luo.arrived_formats(to),
        _ => 0,
    }
}

/// Writes the list of sessions from an offset on; returns how much that was.
///
/// # Safety
///
/// `to` has room for `len` bytes.
#[no_mangle]
unsafe extern "C" fn lu_luo_sessions(offset: u64, to: *mut u8, len: usize) -> usize {
    // SAFETY: By the caller's promise.
    let to = unsafe { core::slice::from_raw_parts_mut(to, len) };
    luo().map_or(0, |luo| luo.sessions(offset, to))
}

// The records are as large here as in C.
const _: () = {
    use crate::luo::format::{FileSer, FlbHeaderSer, FlbSer, LuoSer, SessionSer};
    use kernel::bindings;
    assert!(size_of::<bindings::luo_ser>() == size_of::<LuoSer>());
    assert!(size_of::<bindings::luo_session_ser>() == size_of::<SessionSer>());
    assert!(size_of::<bindings::luo_file_ser>() == size_of::<FileSer>());
    assert!(size_of::<bindings::luo_flb_header_ser>() == size_of::<FlbHeaderSer>());
    assert!(size_of::<bindings::luo_flb_ser>() == size_of::<FlbSer>());
};
