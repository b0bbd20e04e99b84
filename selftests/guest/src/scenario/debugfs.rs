// SPDX-License-Identifier: GPL-2.0
//! What KHO shows of itself in debugfs, checked against what must have been handed over.

use crate::{event, fdt};
use anyhow::Result;
use serde_json::json;
use std::fs;

const KHO: &str = "/sys/kernel/debug/kho";
/// A property of the root FDT, of kho/checksum.rs.
const CHECKSUM: &str = "rust-kho,checksum";
/// A subtree of the root FDT, of luo/formats/written.rs.
const FORMATS: &str = "formats";

/// One check a file or folder; `areas` is the number of scratch areas there must be.
pub fn check(generation: u64, areas: usize) -> Result<()> {
    for file in ["scratch_phys", "scratch_len"] {
        let text = fs::read_to_string(format!("{KHO}/out/{file}")).unwrap_or_default();
        let lines = text.lines().count();
        let detail = text.lines().collect::<Vec<_>>().join(" ");
        event::check(
            &format!("debugfs out/{file} lists {areas} areas"),
            lines == areas,
            detail,
        );
    }
    let mut sides = vec!["out"];
    if generation > 0 {
        sides.push("in");
    }
    for side in sides {
        let names: Vec<String> = fs::read_dir(format!("{KHO}/{side}/sub_fdts"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        let all = ["kexec-metadata", "memblock", "LUO"]
            .iter()
            .all(|wanted| names.iter().any(|name| name == wanted));
        event::check(
            &format!("debugfs {side}/sub_fdts shows the subtrees"),
            all,
            names.join(" "),
        );
    }
    // Mainline shows the outgoing root only on a cold boot, the incoming one on the others.
    let root = if generation == 0 { "out" } else { "in" };
    let blob = fs::read(format!("{KHO}/{root}/fdt")).unwrap_or_default();
    event::check(
        &format!("debugfs {root}/fdt is an FDT"),
        blob.starts_with(&fdt::MAGIC),
        format!("{} bytes", blob.len()),
    );
    // Ours adds a checksum right before the jump, and names a list of formats. All else must be
    // mainline's.
    let plain = fdt::without_property(&blob, CHECKSUM);
    let checksum = plain.is_some();
    let plain = plain.unwrap_or(blob);
    let plain = fdt::without_node(&plain, FORMATS).unwrap_or(plain);
    let hex: String = fdt::without_addresses(&plain)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    event::send("root", json!({"hex": hex, "checksum": checksum}));
    Ok(())
}
