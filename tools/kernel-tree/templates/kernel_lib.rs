// SPDX-License-Identifier: GPL-2.0
// liveupdate-rs begin
#[cfg(CONFIG_LIVEUPDATE)]
pub mod liveupdate;
// liveupdate-rs end
