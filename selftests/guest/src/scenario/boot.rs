// SPDX-License-Identifier: GPL-2.0
//! Only boots, and says what of live update this kernel offers: for KUnit runs, and for `kho=off`.

use crate::event;
use anyhow::Result;
use serde_json::json;
use std::path::Path;

pub fn play() -> Result<()> {
    event::send(
        "offers",
        json!({
            "device": Path::new("/dev/liveupdate").exists(),
            "debugfs": Path::new("/sys/kernel/debug/kho/out").exists(),
        }),
    );
    Ok(())
}
