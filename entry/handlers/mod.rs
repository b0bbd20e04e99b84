// SPDX-License-Identifier: GPL-2.0

//! The file handlers of this kernel: what LUO calls for a file of each kind.

#[cfg(CONFIG_LIVEUPDATE_EVENTFD)]
mod eventfd;
#[cfg(CONFIG_LIVEUPDATE_MEMFD)]
mod memfd;
