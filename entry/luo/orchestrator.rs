// SPDX-License-Identifier: GPL-2.0

//! The orchestrator of this kernel, for all who come in.

use core::sync::atomic::{AtomicBool, Ordering};

use kernel::prelude::*;
use kernel::sync::SetOnce;

use crate::luo::Luo;
use crate::sys::error::Result;

/// Set by `liveupdate=`, cleared when LUO cannot start.
pub(super) static ENABLED: AtomicBool = AtomicBool::new(false);

pub(super) static LUO: SetOnce<Luo> = SetOnce::new();

/// The orchestrator; `EOPNOTSUPP` when it is off.
pub(in crate::entry) fn luo() -> Result<&'static Luo> {
    let on = ENABLED.load(Ordering::Relaxed);
    LUO.as_ref().filter(|_| on).ok_or(EOPNOTSUPP)
}
