// SPDX-License-Identifier: GPL-2.0
//! Builds the kernel's own selftests, unmodified, the way their vmtest.sh does.

use crate::lab::Lab;
use anyhow::Result;
use kernel_tree::Tree;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The ones that run across a kexec; built with the kernel's own small libc.
pub const ACROSS_KEXEC: [&str; 4] = [
    "luo_kexec_simple",
    "luo_multi_session",
    "luo_stress_files",
    "luo_stress_sessions",
];
/// The one that runs within one kernel; the kselftest harness wants a whole libc.
pub const WITHIN: &str = "liveupdate";

/// Built selftests of the kernel source.
pub struct Selftests {
    /// Name in the initramfs and file, those of tools/testing/selftests/liveupdate.
    pub liveupdate: Vec<(String, PathBuf)>,
    /// /init of tools/testing/selftests/kho.
    pub kho_init: PathBuf,
}

pub fn build(lab: &Lab) -> Result<Selftests> {
    let source = kernel_tree::ensure_source(Tree::Mainline, &lab.steps)?;
    let out = lab.folder("kernel-selftests")?;
    let mut headers = out.join("usr/include");
    if !headers.join("linux/liveupdate.h").is_file() {
        headers = install_headers(lab, &source, &out)?;
    }
    let selftests = source.join("tools/testing/selftests");
    let here = selftests.join("liveupdate");
    let library = here.join("lib/lu_utils.c");
    let mut liveupdate = Vec::new();
    for name in ACROSS_KEXEC.iter().chain([&WITHIN]) {
        let program = out.join(name);
        let mut compile = compiler(&headers, &program);
        if *name != WITHIN {
            nolibc(&mut compile, &source);
        }
        compile
            .args(["-O2", "-Wno-unused-function", "-I"])
            .arg(here.join("lib/include"))
            .arg("-I")
            .arg(&selftests)
            .arg(here.join(format!("{name}.c")))
            .arg(&library);
        lab.steps
            .run(&format!("compiling selftest {name}"), &mut compile)?;
        liveupdate.push((format!("tests/{name}"), program));
    }
    let kho_init = out.join("kho-init");
    let mut compile = compiler(&headers, &kho_init);
    nolibc(&mut compile, &source);
    compile
        .args(["-s", "-Os"])
        .arg(selftests.join("kho/init.c"));
    lab.steps.run("compiling selftest kho", &mut compile)?;
    Ok(Selftests {
        liveupdate,
        kho_init,
    })
}

/// What `make headers_install` of a kernel tree leaves: the folder programs include from, below
/// `out`.
pub fn install_headers(lab: &Lab, source: &Path, out: &Path) -> Result<PathBuf> {
    let mut install = Command::new("make");
    // The variables of the make that may have called us are not for the kernel's.
    for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"] {
        install.env_remove(name);
    }
    install
        .arg("-C")
        .arg(source)
        .arg(format!("O={}", out.join("headers").display()))
        .arg(format!("INSTALL_HDR_PATH={}", out.join("usr").display()))
        .arg("headers_install");
    let name = source.file_name().unwrap_or_default().to_string_lossy();
    lab.steps
        .run(&format!("installing the headers of {name}"), &mut install)?;
    Ok(out.join("usr/include"))
}

fn compiler(headers: &Path, program: &Path) -> Command {
    let mut compile = Command::new("gcc");
    compile
        .args(["-static", "-D_GNU_SOURCE=", "-o"])
        .arg(program)
        .arg("-I")
        .arg(headers);
    compile
}

fn nolibc(compile: &mut Command, source: &Path) {
    compile
        .args(["-nostdinc", "-nostdlib", "-fno-asynchronous-unwind-tables"])
        .args(["-fno-ident", "-fno-stack-protector", "-I"])
        .arg(source.join("tools/include/nolibc"));
}
