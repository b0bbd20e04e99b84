// SPDX-License-Identifier: GPL-2.0
//! Loads the next kernel, after saying what would not work.

use crate::cli::{Load, LoadOptions};
use crate::report::{size, Report};
use crate::{command_line, formats, image, lock, sys, sysfs};
use anyhow::{bail, Context, Result};
use serde_json::json;
use std::fs::File;
use std::path::Path;

/// What was loaded.
pub struct Loaded {
    pub release: String,
    pub bytes: u64,
}

pub fn run(report: &Report, load: &Load) -> Result<()> {
    // An update that is under way goes to the kernel that it has checked.
    let _lock = lock::take(Path::new(lock::PATH), "luoctl load")?;
    let loaded = load_kernel(report, &load.kernel, &load.options)?;
    report.tell(
        &format!(
            "Linux {} is loaded ({}); `luoctl update` goes to it",
            loaded.release,
            size(loaded.bytes)
        ),
        json!({"loaded": loaded.release, "bytes": loaded.bytes}),
    );
    Ok(())
}

pub fn unload(report: &Report) -> Result<()> {
    let _lock = lock::take(Path::new(lock::PATH), "luoctl unload")?;
    sys::kexec_unload().map_err(|error| explain(&error, "unload"))?;
    report.tell("no kernel is loaded", json!({"loaded": null}));
    Ok(())
}

pub fn load_kernel(report: &Report, kernel: &Path, options: &LoadOptions) -> Result<Loaded> {
    let (file, image) = image::read(kernel)?;
    let initrd = options.initrd.as_deref().map(|path| {
        File::open(path).with_context(|| format!("cannot open the initramfs {}", path.display()))
    });
    let initrd = initrd.transpose()?;
    let initrd_bytes = initrd
        .as_ref()
        .map_or(Ok(0), |file| file.metadata().map(|data| data.len()))?;
    let cmdline = cmdline(options, command_line::of_this_kernel)?;
    let outlook = formats::outlook(kernel, &cmdline);
    for remark in &outlook.remarks {
        report.remark(remark);
    }
    let mut faults = outlook.faults;
    if let Some("0") = sysfs::value("enabled").as_deref() {
        faults.push("live update is off in this kernel (kho=on liveupdate=on turns it on)".into());
    }
    match sysfs::scratch() {
        Some(areas) => faults.extend(scratch_faults(&areas, image.memory, initrd_bytes)),
        None => report.remark(
            "whether scratch is large enough is not known; mount debugfs, or watch the kernel's log",
        ),
    }
    if !faults.is_empty() {
        let faults = faults.join("; ");
        if !options.force_load {
            bail!("not loaded, as the update would not work: {faults} (--force-load loads it all the same)");
        }
        report.remark(&format!("loaded all the same: {faults}"));
    }
    sys::kexec_load(&file, initrd.as_ref(), &cmdline).map_err(|error| explain(&error, "load"))?;
    Ok(Loaded {
        release: image.release,
        bytes: file.metadata()?.len() + initrd_bytes,
    })
}

/// The next kernel's command line, as it was asked for.
fn cmdline(options: &LoadOptions, this: impl Fn() -> std::io::Result<String>) -> Result<String> {
    let begin = match (&options.cmdline, options.reuse_cmdline) {
        (Some(cmdline), _) => cmdline.clone(),
        (None, true) => this().context("cannot read /proc/cmdline")?,
        (None, false) => bail!("say which command line: --reuse-cmdline, or --cmdline TEXT"),
    };
    let Some(more) = &options.append else {
        return Ok(begin);
    };
    // After two dashes all is the init program's.
    Ok(match begin.split_once(" -- ") {
        Some((kernel, init)) => format!("{kernel} {more} -- {init}"),
        None => format!("{begin} {more}"),
    })
}

/// Each segment goes into one area whole, and all of them into all of the areas.
fn scratch_faults(areas: &[u64], kernel: u64, initrd: u64) -> Option<String> {
    let largest = areas.iter().copied().max().unwrap_or(0);
    let whole: u64 = areas.iter().sum();
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let (what, wanted) = match () {
        () if kernel > largest => ("the kernel with the room it unpacks into", kernel),
        () if initrd > largest => ("the initramfs", initrd),
        () if kernel + initrd > whole => ("kernel and initramfs together", kernel + initrd),
        () => return None,
    };
    Some(format!(
        "{what} needs {} MiB of scratch, and the largest area has {} MiB: boot this kernel with a larger second number in \
         kho_scratch= (kho_bootmem= since Linux 7.4; {}M at least), or use a smaller initramfs",
        mib(wanted),
        mib(largest),
        mib(wanted) + 4
    ))
}

/// What the kernel's error means, and what to do about it.
fn explain(error: &std::io::Error, what: &str) -> anyhow::Error {
    let said = sysfs::value("last_error").filter(|text| !text.is_empty());
    if let (Some(libc::EPROTONOSUPPORT), Some(said)) = (error.raw_os_error(), said) {
        return anyhow::anyhow!(
            "the kernel refused to load it, as the update would not work: {said}"
        );
    }
    let advice = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "run luoctl as root; if you did, kexec is disabled (sysctl kernel.kexec_load_disabled)"
        }
        Some(libc::EADDRNOTAVAIL) => {
            "it does not fit into scratch; the kernel's log says what kho_scratch= must be"
        }
        Some(libc::ENOEXEC) => "the kernel does not take it for a kernel image",
        Some(libc::EBUSY) => "another kexec is under way; try again",
        Some(libc::ENOMEM) => "not enough memory",
        Some(libc::EKEYREJECTED | libc::ENODATA) => {
            "this kernel wants a signature that the image does not have"
        }
        Some(libc::ENOSYS) => "this kernel was built without CONFIG_KEXEC_FILE",
        _ => "the kernel's log may say why",
    };
    anyhow::anyhow!("the kernel refused to {what} it: {error} ({advice})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_words_come_after_the_command_line() {
        let line = |given: Option<&str>, append: Option<&str>| {
            let options = LoadOptions {
                initrd: None,
                reuse_cmdline: given.is_none(),
                cmdline: given.map(str::to_owned),
                append: append.map(str::to_owned),
                force_load: false,
            };
            cmdline(&options, || Ok("kho=on quiet -- single".into())).expect("a line")
        };
        assert_eq!(line(None, None), "kho=on quiet -- single");
        assert_eq!(line(None, Some("a=b")), "kho=on quiet a=b -- single");
        assert_eq!(line(Some("x"), Some("y z")), "x y z");
    }

    #[test]
    fn an_error_is_called_what_it_is() {
        let said = |errno| explain(&std::io::Error::from_raw_os_error(errno), "unload").to_string();
        assert!(said(libc::ENOSYS).contains("CONFIG_KEXEC_FILE"));
        assert!(!said(libc::ENOSYS).contains("root"));
        assert!(said(libc::EPERM).contains("as root"));
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_does_not_fit_is_said_with_a_number() {
        let areas = [64 * MIB, 256 * MIB];
        assert_eq!(scratch_faults(&areas, 40 * MIB, 200 * MIB), None);
        let text = scratch_faults(&areas, 40 * MIB, 300 * MIB).expect("a fault");
        assert!(
            text.contains("initramfs needs 300 MiB") && text.contains("304M"),
            "{text}"
        );
        assert!(scratch_faults(&areas, 200 * MIB, 150 * MIB).is_some());
        assert!(scratch_faults(&[], 1, 0).is_some());
    }
}
