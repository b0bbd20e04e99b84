// SPDX-License-Identifier: GPL-2.0
//! The catalogue of formats in the kernels that were built, seen with the tool that people have for
//! it.

use super::Played;
use crate::check::Check;
use crate::lab::{Lab, Which};
use anyhow::{anyhow, Context, Result};
use formats::side::Origin;
use formats::{check, Format, Options, Side, Verdict};
use std::path::Path;
use std::process::Command;

/// What is declared by others than our crate: mainline's reserve_mem, the example of a driver, and
/// the sample.
const OTHERS: [&str; 5] = [
    "memblock",
    "liveupdate-counter",
    "liveupdate-counter-history",
    "liveupdate-counter-updates",
    "liveupdate-ring",
];

/// The handlers that mainline does not have: the example's, and that of eventfds; and the sample's
/// format.
const OURS_ALONE: [&str; 5] = [
    "eventfd",
    "liveupdate-counter",
    "liveupdate-counter-history",
    "liveupdate-counter-updates",
    "liveupdate-ring",
];

pub fn play(lab: &Lab, _name: &str) -> Result<Played> {
    let kernel = lab.kernel(Which::Ours)?;
    let read = |path: &Path| Side::read(path, false).map_err(|err| anyhow!(err));
    let ours = read(&kernel.bzimage)?;
    let mainline = read(&lab.kernel(Which::Mainline)?.bzimage)?;
    let mut checks = vec![
        Check::new(
            "our bzImage has a catalogue",
            ours.origin == Origin::Catalogue,
            formats::show::side(&ours),
        ),
        Check::new(
            "mainline's is known by its release",
            mainline.origin == Origin::Release,
            formats::show::side(&mainline),
        ),
        pinned(&ours)?,
    ];
    if let Some(build) = &kernel.build_dir {
        let vmlinux = build.join("vmlinux");
        let same = read(&vmlinux)?.formats == ours.formats;
        checks.push(Check::new("vmlinux has the same one", same, ""));
        checks.push(report(&build.join("liveupdate.formats"), &ours)?);
        checks.push(note(&vmlinux)?);
    }
    checks.extend(updates(&ours, &mainline));
    Ok(Played {
        checks,
        logs: Vec::new(),
    })
}

/// What the kernel's compiler made of our declarations is what the host tests pin.
fn pinned(ours: &Side) -> Result<Check> {
    let path = kernel_tree::project_root().join("selftests/sim/golden/formats.txt");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut pinned: Vec<&str> = text.lines().collect();
    let line = |format: &Format| {
        let Format { name, version, .. } = format;
        let layout = format.layout.unwrap_or(0);
        format!("{name}:{version}:{}:{layout:08x}", format.access())
    };
    let own = ours.formats.iter();
    let own = own.filter(|format| !OTHERS.contains(&format.name.as_str()));
    let mut built: Vec<String> = own.map(line).collect();
    pinned.sort_unstable();
    built.sort_unstable();
    Ok(Check::new(
        "its formats and layouts are those that golden files pin",
        pinned == built,
        format!("pinned {pinned:?}, built {built:?}"),
    ))
}

/// A line a format, beside vmlinux.
fn report(path: &Path, ours: &Side) -> Result<Check> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = |format: &Format| {
        let layout = format
            .layout
            .map_or("-".into(), |layout| format!("{layout:08x}"));
        format!(
            "{} {} {} {layout}\n",
            format.name,
            format.version,
            format.access()
        )
    };
    let lines: String = ours.formats.iter().map(line).collect();
    Ok(Check::new(
        "liveupdate.formats lists them",
        lines == text,
        text,
    ))
}

/// What a person sees who does not have the tool.
fn note(vmlinux: &Path) -> Result<Check> {
    let mut seen = String::new();
    for program in ["readelf", "llvm-readelf-19"] {
        if let Ok(out) = Command::new(program).arg("-n").arg(vmlinux).output() {
            seen += &String::from_utf8_lossy(&out.stdout);
        }
    }
    let owner = seen.lines().find(|line| line.contains("LiveUpdate"));
    Ok(Check::new(
        "readelf -n shows the note",
        owner.is_some(),
        owner.unwrap_or("neither readelf nor llvm-readelf-19 names LiveUpdate"),
    ))
}

/// Which kernels can update to which, as the tool has it.
fn updates(ours: &Side, mainline: &Side) -> Vec<Check> {
    let options = |cmdline: &str, without: &[&str]| Options {
        cmdline: Some(cmdline.into()),
        without: without.iter().map(ToString::to_string).collect(),
    };
    let on = "console=ttyS0 kho=on liveupdate=on";
    let judge = |name: &str, verdict: &Verdict, expected: bool| {
        Check::new(
            format!("{name}: {}", if expected { "can" } else { "cannot" }),
            verdict.can() == expected,
            verdict.faults.join("; "),
        )
    };
    vec![
        judge(
            "mainline to ours",
            &check(mainline, ours, &options(on, &[])),
            true,
        ),
        judge(
            "ours to mainline, no file that it cannot read",
            &check(ours, mainline, &options(on, &OURS_ALONE)),
            true,
        ),
        judge(
            "ours to mainline, with files that it cannot read",
            &check(ours, mainline, &options(on, &[])),
            false,
        ),
        judge("ours to ours", &check(ours, ours, &options(on, &[])), true),
        judge(
            "ours to ours with kho=off",
            &check(ours, ours, &options("kho=on kho=off", &[])),
            false,
        ),
    ]
}
