// SPDX-License-Identifier: GPL-2.0
//! Small houses, sound and broken.

use std::fs;

use super::*;

const FLOORS: &[&[&str]] = &[&["top", "side"], &["low"]];

/// What is found in a crate of these files.
fn found(files: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let modules = Modules::read(dir.path(), "lib.rs").unwrap();
    let arrows = modules.arrows();
    let mut found = upward(FLOORS, &modules, &arrows);
    found.extend(
        circles(&modules, &arrows, false)
            .into_iter()
            .map(|c| c.line),
    );
    found
}

const ROOT: (&str, &str) = ("lib.rs", "mod low; mod side; mod top;");

#[test]
fn a_house_that_only_looks_down_is_sound() {
    let text = "use crate::low::{self, Thing};\nfn f(_: Thing) { low::g() }";
    let low =
        "// crate::top::f\n/// [`crate::top`]\npub struct Thing; pub fn g() { \"crate::top\"; }";
    let none = found(&[ROOT, ("low.rs", low), ("side.rs", ""), ("top.rs", text)]);
    assert_eq!(none, [""; 0]);
}

#[test]
fn a_use_that_runs_up_is_named() {
    let found = found(&[
        ROOT,
        ("low.rs", "\nuse crate::top::f;"),
        ("side.rs", ""),
        ("top.rs", "pub fn f() {}"),
    ]);
    assert_eq!(
        found,
        ["low.rs:2: low uses top (top.rs), which is not below it"]
    );
}

#[test]
fn paths_in_code_and_in_macros_count() {
    for low in [
        "fn f() { crate::top::f() }",
        "macro_rules! m { () => { $crate::top::f() } }",
        "mod inner { fn f() { super::super::top::f() } }",
        "type T = Vec<crate::top::T>;",
    ] {
        let top = ("top.rs", "pub fn f() {} pub struct T;");
        let found = found(&[ROOT, ("low.rs", low), ("side.rs", ""), top]);
        assert_eq!(found.len(), 1, "{low}: {found:?}");
    }
}

#[test]
fn a_re_export_is_followed_and_may_not_run_up() {
    // Below, something of the top is passed on; who takes it from there uses the top.
    let found = found(&[
        ("lib.rs", "mod low; mod top; mod lower;"),
        ("low.rs", "pub(crate) use crate::top::f as g;"),
        ("lower.rs", ""),
        ("top.rs", "pub fn f() {}\nuse crate::low::g;"),
    ]);
    assert_eq!(
        found,
        ["low.rs:1: low uses top (top.rs), which is not below it"]
    );
}

#[test]
fn parts_of_one_floor_do_not_use_each_other() {
    let found = found(&[
        ROOT,
        ("low.rs", ""),
        ("side.rs", "use crate::top::f;"),
        ("top.rs", "pub fn f() {}"),
    ]);
    assert_eq!(found.len(), 1);
}

#[test]
fn two_files_that_use_each_other_are_a_circle() {
    let found = found(&[
        ROOT,
        ("low/mod.rs", "mod a;\nmod b;"),
        ("low/a.rs", "use super::b::B; pub struct A;"),
        ("low/b.rs", "\nfn f(_: super::a::A) {} pub struct B;"),
        ("side.rs", ""),
        ("top.rs", ""),
    ]);
    let circle = "a circle of 2 files: low/a.rs:1 uses low/b.rs; low/b.rs:2 uses low/a.rs;";
    assert_eq!(found, [circle]);
}

#[test]
fn what_a_folder_passes_on_of_itself_is_no_circle() {
    let sound = [
        ROOT,
        ("low/mod.rs", "mod a; pub use a::A; pub struct Own;"),
        ("low/a.rs", "use super::Own; pub struct A(Own);"),
        ("side.rs", ""),
        ("top.rs", "use crate::low::A;"),
    ];
    assert_eq!(found(&sound), [""; 0]);
    // A use of it is.
    let mut broken = sound;
    broken[1].1 = "mod a; use a::A; pub struct Own; fn f(_: A) {}";
    assert_eq!(found(&broken).len(), 1);
}

#[test]
fn globs_and_files_elsewhere_are_followed() {
    let found = found(&[
        ("lib.rs", "mod low; mod top;"),
        (
            "low/mod.rs",
            "mod one; mod two; pub use one::*; pub use two::*;",
        ),
        ("low/one.rs", "pub fn f() {}"),
        ("low/two.rs", "pub fn g() { crate::top::h() }"),
        (
            "top.rs",
            "#[path = \"else/where.rs\"] mod there; pub fn h() {}",
        ),
        ("else/where.rs", "use crate::low::f;"),
    ]);
    assert_eq!(
        found,
        ["low/two.rs:1: low uses top (top.rs), which is not below it"]
    );
}

#[test]
fn the_project_is_sound() {
    assert_eq!(
        check(&crate::cache::project_root())
            .map_err(|lines| lines.join("\n"))
            .err(),
        None
    );
}
