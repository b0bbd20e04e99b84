// SPDX-License-Identifier: GPL-2.0
//! The program as a person calls it: what it prints, and its exit code.

mod common;

use common::{formats, images, made, ours, said, some};
use serde_json::Value;

#[test]
fn an_image_is_shown() {
    let dir = images();
    let (text, code) = said(&formats(dir.path(), &["ours"]));
    assert_eq!(code, 0);
    assert!(
        text.starts_with("ours: bzImage, release 7.3.4, by its catalogue\n"),
        "{text}"
    );
    assert!(
        text.contains("memfd           3        rw      00000008\n"),
        "{text}"
    );
    let (text, _) = said(&formats(dir.path(), &["vmlinux", "--json"]));
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["kho"], true);
    assert_eq!(json["formats"].as_array().unwrap().len(), ours().len());
    assert_eq!(json["formats"][7]["version"], 3);
}

#[test]
fn an_update_that_can_be_done() {
    let dir = images();
    let (text, code) = said(&formats(dir.path(), &["check", "mainline", "ours"]));
    assert_eq!(code, 0, "{text}");
    let line = ["--cmdline", "kho=on liveupdate=on"];
    let args = [&["check", "ours", "mainline"][..], &line].concat();
    let (text, code) = said(&formats(dir.path(), &args));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("memfd           2 (of 3)\n"), "{text}");
    let (text, code) = said(&formats(dir.path(), &["check", "--json", "older", "ours"]));
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &json["can"]), (0, &Value::Bool(true)));
}

#[test]
fn an_update_that_cannot_be_done_says_why() {
    let dir = images();
    for (args, why) in [
        (&["ours", "without-luo"][..], "does not read it"),
        (
            &[
                "ours",
                "mainline",
                "--cmdline",
                "kho=on kho=off liveupdate=1",
            ],
            "put kho=on last",
        ),
        (
            &["ours", "mainline", "--cmdline", "kho=on"],
            "put liveupdate=on last",
        ),
        (&["ours", "other-luo"], "changed without a new version"),
        (
            &["ours", "ours", "--old-module", "counter.ko"],
            "--without counter",
        ),
    ] {
        let (text, code) = said(&formats(dir.path(), &[&["check"], args].concat()));
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(why), "{text}");
    }
    for args in [
        &[
            "check",
            "ours",
            "ours",
            "--old-module",
            "counter.ko",
            "--new-module",
            "counter.ko",
        ][..],
        &[
            "check",
            "ours",
            "ours",
            "--old-module",
            "counter.ko",
            "--without",
            "counter",
        ],
    ] {
        let (text, code) = said(&formats(dir.path(), args));
        assert_eq!(code, 0, "{text}");
    }
}

#[test]
fn bad_input_is_a_sentence_and_exit_code_2() {
    let dir = images();
    for (args, why) in [
        (&["nothing"][..], "cannot be read"),
        (&["."], "cannot be read"),
        (&["spoilt"], "its checksum is wrong"),
        (&["check", "ours", "unknown"], "--unknown mainline"),
        (&["check", "ours"], "required"),
        (&["check", "--running", "ours", "older"], "alone"),
        (
            &["check", "ours", "ours", "--old-module", "older"],
            "not a module",
        ),
        (
            &[
                "check",
                "ours",
                "ours",
                "--old-module",
                "counter.ko",
                "--old-module",
                "counter.ko",
            ],
            "only one of them can register it",
        ),
        (&["--frob"], "unexpected argument"),
    ] {
        let output = formats(dir.path(), args);
        let (text, code) = said(&output);
        assert_eq!(code, 2, "{args:?}: {text}");
        assert!(output.stdout.is_empty());
        assert!(text.contains(why), "{args:?}: {text}");
    }
    let (_, code) = said(&formats(dir.path(), &["unknown", "--unknown", "mainline"]));
    assert_eq!(code, 0);
}

#[test]
fn a_changed_layout_is_found() {
    let dir = images();
    let (text, code) = said(&formats(dir.path(), &["compare", "ours", "other-layout"]));
    assert_eq!(code, 1);
    assert!(
        text.contains(
            "BROKEN: format memfd, version 2: its layout changed, from 00000007 to 00001234"
        ),
        "{text}"
    );
    let (text, code) = said(&formats(dir.path(), &["compare", "older", "ours"]));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("format memfd, version 3: new (rw)"), "{text}");
    let (text, code) = said(&formats(dir.path(), &["compare", "ours", "without-luo"]));
    assert_eq!(code, 1);
    assert!(text.contains("format luo, version 5: gone"), "{text}");
    assert!(
        text.contains("breaks the update from ours to without-luo"),
        "{text}"
    );
    let (text, code) = said(&formats(dir.path(), &["compare", "ours", "ours"]));
    assert_eq!(
        (code, text.ends_with("the formats are the same\n")),
        (0, true)
    );
}

#[test]
fn all_pairs_of_kernels() {
    let dir = images();
    let (text, code) = said(&formats(
        dir.path(),
        &["matrix", "mainline", "ours", "without-luo"],
    ));
    assert_eq!(code, 0);
    assert!(
        text.contains("[1]  yes    yes  no\n[2]  older  yes  no\n"),
        "{text}"
    );
    assert!(
        text.contains("[2] to [3]: ours writes the format luo"),
        "{text}"
    );
    let (text, _) = said(&formats(dir.path(), &["matrix", "--json", "ours", "older"]));
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 4);
}

#[test]
fn two_formats_are_told_apart_by_name_alone() {
    let dir = images();
    let image = made(&some(&[("memfd", 3, "rw", 8), ("memfd-x", 3, "r", 1)]));
    std::fs::write(dir.path().join("x"), image).unwrap();
    let (text, code) = said(&formats(dir.path(), &["check", "x", "ours"]));
    assert_eq!(code, 0, "{text}");
}
