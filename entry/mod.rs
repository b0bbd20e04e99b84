// SPDX-License-Identifier: GPL-2.0

//! Every way into this crate: the functions that C calls, initcalls, the device, sysfs and debugfs.
//!
//! `entry/kho/X` is the C face of `kho/X`, `entry/luo/X` that of `luo/X`; `entry/handlers` has the
//! file handlers of this kernel. An entry converts what C gave, makes one call, and converts back.
//! Nothing below uses anything of this folder, and the host does not build it.

#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) mod built_in;
pub(crate) mod handlers;
#[cfg(all(CONFIG_KEXEC_HANDOVER_DEBUG, CONFIG_KEXEC_HANDOVER_DEBUGFS))]
mod inject;
mod kexec;
pub(crate) mod kho;
#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) mod luo;
