// SPDX-License-Identifier: GPL-2.0
//! The program that makes the catalogue when a kernel is linked, run as Kbuild runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use formats::side::Origin;
use formats::Side;

/// The program, built once, by the compiler alone as Kbuild does.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, program) = PROGRAM.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let source = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../luo/formats/build/make_catalogue.rs"
        );
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let built = Command::new(rustc)
            .args([
                "--edition",
                "2021",
                "-O",
                "-Dwarnings",
                "-Wunreachable_pub",
                "--out-dir",
            ])
            .arg(dir.path())
            .arg(source)
            .output()
            .unwrap();
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        let program = dir.path().join("make_catalogue");
        (dir, program)
    });
    program
}

struct Build(tempfile::TempDir);

impl Build {
    fn new(modinfo: &str, config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("modinfo", modinfo),
            ("auto.conf", config),
            ("kernel.release", "7.3.4-x\n"),
        ] {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        Self(dir)
    }

    fn run(&self) -> Output {
        Command::new(program())
            .current_dir(self.0.path())
            .args([
                "modinfo",
                "auto.conf",
                "kernel.release",
                "catalogue",
                "report",
            ])
            .output()
            .unwrap()
    }

    fn side(&self) -> Side {
        let made = self.run();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        Side::read(&self.0.path().join("catalogue"), false).unwrap()
    }
}

const SOME: &str = "liveupdate.liveupdate_format=luo:5:rw:0000abcd\0entry.license=GPL\0\
                    x.y.liveupdate_format=memfd:2:r\0liveupdate.liveupdate_format=memfd:1:r\0x.parm=liveupdate_format=a:1:r\0";

#[test]
fn the_catalogue_has_what_was_declared() {
    let build = Build::new(SOME, "CONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT=y\n");
    let side = build.side();
    assert_eq!(
        (side.release.as_str(), side.origin),
        ("7.3.4-x", Origin::Catalogue)
    );
    assert_eq!(side.flags, 1);
    let report = std::fs::read_to_string(build.0.path().join("report")).unwrap();
    assert_eq!(report, "luo 5 rw 0000abcd\nmemfd 1 r -\nmemfd 2 r -\n");
    assert_eq!(side.formats.len(), 3);
}

#[test]
fn the_built_in_command_line_counts_where_it_is_always_read() {
    let line = "CONFIG_CMDLINE=\"kho=\\\"on\\\" liveupdate=1\"\n";
    for (config, flags) in [
        (String::new(), 0),
        (line.to_string(), 0),
        (format!("{line}CONFIG_CMDLINE_BOOL=y\n"), 3),
        (format!("CONFIG_CMDLINE_FORCE=y\n{line}"), 3),
        ("CONFIG_CMDLINE_BOOL=y\nCONFIG_CMDLINE=\"kho=off\"\nCONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT=y\n".into(), 0),
        ("# CONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT is not set\n".into(), 0),
    ] {
        assert_eq!(Build::new(SOME, &config).side().flags, flags, "{config}");
    }
}

#[test]
fn what_is_declared_twice_fails_the_build() {
    let twice = format!("{SOME}other.liveupdate_format=memfd:2:rw\0");
    let output = Build::new(&twice, "").run();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("version 2 of the format memfd is declared twice, by x.y and by other"),
        "{text}"
    );
    let build = Build::new(&twice, "");
    build.run();
    assert!(!build.0.path().join("catalogue").exists());
}

#[test]
fn what_is_no_declaration_fails_the_build() {
    for (bad, why) in [
        ("a.liveupdate_format=memfd\0", "NAME:VERSION:ACCESS"),
        ("a.license=GPL\0", "declares none"),
        ("", "declares none"),
    ] {
        let output = Build::new(bad, "").run();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(text.contains(why), "{text}");
    }
    let output = Command::new(program()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
