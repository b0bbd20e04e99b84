// SPDX-License-Identifier: GPL-2.0
//! How much of the stack each function of an object takes: kernel stacks have 16 KiB, and rustc
//! does not warn of frames as the C compiler does.

use anyhow::{ensure, Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the kernel lets functions in C have (CONFIG_FRAME_WARN).
pub const MOST: u64 = 2048;

/// A function and the bytes that it takes for what it keeps on the stack, saved registers apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub function: String,
    pub bytes: u64,
}

/// The frames of all functions of the objects under a folder, the largest first.
pub fn under(dir: &Path) -> Result<Vec<Frame>> {
    let mut objects = Vec::new();
    find_objects(dir, &mut objects)?;
    ensure!(!objects.is_empty(), "no objects in {}", dir.display());
    let mut frames = Vec::new();
    for object in objects {
        let output = Command::new("objdump")
            .args(["--disassemble", "--demangle", "--no-show-raw-insn"])
            .arg(&object)
            .output()
            .context("cannot run objdump; it is in the package binutils")?;
        ensure!(
            output.status.success(),
            "objdump cannot read {}: {}",
            object.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        frames.extend(read(&String::from_utf8_lossy(&output.stdout)));
    }
    frames.sort_by(|a, b| (b.bytes, &a.function).cmp(&(a.bytes, &b.function)));
    Ok(frames)
}

fn find_objects(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find_objects(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "o") {
            into.push(path);
        }
    }
    Ok(())
}

/// Whether a function is there for tests only: KUnit runs each in a thread of its own, and kernels
/// in use have none.
pub fn is_test(function: &str) -> bool {
    function.contains("kunit_rust_wrapper_") || function.contains("::tests::")
}

/// The frames in a disassembly of x86-64. Where the stack is probed, a frame is taken in parts.
fn read(listing: &str) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    for line in listing.lines() {
        if let Some(name) = function(line) {
            frames.push(Frame {
                function: without_hashes(name),
                bytes: 0,
            });
        } else if let (Some(frame), Some(bytes)) = (frames.last_mut(), taken(line)) {
            frame.bytes += bytes;
        }
    }
    frames
}

/// The name in a line that begins a function: `0000000000000180 <name>:`.
fn function(line: &str) -> Option<&str> {
    let (address, rest) = line.split_once(" <")?;
    let is_address = address.len() == 16 && address.bytes().all(|byte| byte.is_ascii_hexdigit());
    rest.strip_suffix(">:").filter(|_| is_address)
}

/// What an instruction takes of the stack: `sub $0x628,%rsp`, or an `add` of a negative number.
fn taken(line: &str) -> Option<u64> {
    let (_, instruction) = line.split_once(":\t")?;
    let (name, operands) = instruction.trim().split_once(char::is_whitespace)?;
    let number = operands.trim().strip_prefix("$0x")?.strip_suffix(",%rsp")?;
    let number = u64::from_str_radix(number, 16).ok()?;
    match name {
        "sub" => Some(number),
        "add" => Some(number.wrapping_neg()).filter(|_| number > u64::MAX / 2),
        _ => None,
    }
}

/// A name without the hashes of its crates: `kho[d73c41caaf6c2799]::x` is `kho::x`.
fn without_hashes(name: &str) -> String {
    let mut parts = name.split('[');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((hash, rest))
                if hash.len() >= 8 && hash.bytes().all(|b| b.is_ascii_hexdigit()) =>
            {
                plain += rest;
            }
            _ => {
                plain.push('[');
                plain += part;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_from_a_listing() {
        let listing = "\
\nliveupdate.o:     file format elf64-x86-64\n\nDisassembly of section .text:\n
0000000000000180 <<liveupdate[d73c41caaf6c2799]::gather::Keeper>::gap::<[u64; 3]>>:
     180:\tpush   %rbp
     18a:\tsub    $0x628,%rsp
     1a0:\tmovq   $0x0,0x38(%rsp,%rax,1)
     1a9:\tsub    $0x8,%rax
     6f0:\tadd    $0x628,%rsp
     6f7:\tret

000000000003c2f0 <kho_slab_create>:
   3c2fa:\tsub    $0x1000,%rsp
   3c301:\tmovq   $0x0,(%rsp)
   3c309:\tadd    $0xffffffffffffff80,%rsp
   3c310:\tjmp    3c2fa <kho_slab_create+0xa>
";
        let frame = |function: &str, bytes| Frame {
            function: function.to_owned(),
            bytes,
        };
        assert_eq!(
            read(listing),
            [
                frame("<liveupdate::gather::Keeper>::gap::<[u64; 3]>", 0x628),
                frame("kho_slab_create", 0x1080),
            ]
        );
    }

    #[test]
    fn tests_are_told_by_their_names() {
        assert!(is_test(
            "liveupdate::kho::merge::tests::kunit_rust_wrapper_orders"
        ));
        assert!(!is_test("lu_settle"));
    }
}
