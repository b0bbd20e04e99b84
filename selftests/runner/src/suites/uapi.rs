// SPDX-License-Identifier: GPL-2.0
//! The user API: our header, as it is and as a kernel tree installs it, mainline's and the Rust
//! crate must agree on every name, number, size and offset.

use super::Played;
use crate::check::Check;
use crate::lab::Lab;
use crate::testbuild;
use anyhow::{bail, Context, Result};
use kernel_tree::Tree;
use liveupdate_uapi::raw;
use std::collections::BTreeMap;
use std::mem::{align_of, offset_of, size_of};
use std::path::Path;
use std::process::Command;

/// What a header defines: expressions in C, with their values.
type Facts = BTreeMap<String, u64>;

pub fn play(lab: &Lab, name: &str) -> Result<Played> {
    let folder = lab.folder(name)?;
    let source = kernel_tree::ensure_source(Tree::Mainline, &lab.steps)?;
    let theirs = source.join("include/uapi/linux/liveupdate.h");
    let ours = kernel_tree::project_root().join("uapi/liveupdate.h");
    let tree = kernel_tree::ensure_source(Tree::Ours, &lab.steps)?;
    let installed = testbuild::install_headers(lab, &tree, &folder)?.join("linux/liveupdate.h");
    let same_text = as_installed(&read(&ours)?) == read(&installed)?;
    let theirs = facts(&theirs, &folder.join("mainline"))?;
    let ours = facts(&ours, &folder.join("ours"))?;
    let installed = facts(&installed, &folder.join("installed"))?;
    // Also a guard against a probe that finds nothing: mainline has six ioctls, with a structure
    // each.
    let structures = theirs
        .keys()
        .filter(|key| key.starts_with("sizeof"))
        .count();
    let mut checks = vec![Check::new(
        "mainline's header has structures and numbers",
        structures >= 6 && theirs.len() >= 30,
        format!("{} facts of {structures} structures", theirs.len()),
    )];
    checks.push(agree(
        "our header agrees with mainline's",
        &ours,
        &theirs,
        true,
    ));
    checks.push(Check::new(
        "the header that headers_install leaves is ours",
        same_text,
        "",
    ));
    checks.push(agree(
        "the installed header agrees with mainline's",
        &installed,
        &theirs,
        true,
    ));
    checks.push(agree(
        "the Rust crate agrees with mainline's header",
        &crate_facts(),
        &theirs,
        false,
    ));
    Ok(Played {
        checks,
        logs: vec![folder],
    })
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The kernel's scripts/headers_install.sh takes `_UAPI` off the guard's name.
fn as_installed(header: &str) -> String {
    header.replace("_UAPI_LIVEUPDATE_H", "_LIVEUPDATE_H")
}

/// Compares what both have; with `all`, neither may have something that the other lacks.
fn agree(name: &str, ours: &Facts, theirs: &Facts, all: bool) -> Check {
    let different = ours
        .iter()
        .filter(|(key, value)| theirs.get(*key) != Some(*value))
        .map(|(key, value)| format!("{key} is {value}, mainline's {:?}", theirs.get(key)));
    let missing = theirs
        .keys()
        .filter(|key| all && !ours.contains_key(*key))
        .map(|key| format!("{key} is missing"));
    let wrong: Vec<String> = different.chain(missing).collect();
    match wrong.is_empty() {
        true => Check::new(name, true, format!("{} facts", ours.len())),
        false => Check::new(name, false, wrong.join("; ")),
    }
}

/// Finds every name in a header, and lets the compiler say what it stands for.
fn facts(header: &Path, probe: &Path) -> Result<Facts> {
    let macros = preprocess(header, "-dM")?;
    let mut asked: Vec<String> = macros
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_whitespace().next())
        .filter(|name| name.starts_with("LIVEUPDATE_"))
        .map(str::to_owned)
        .collect();
    let code = preprocess(header, "-P")?;
    asked.extend(enumerators(&code));
    asked.extend(members(&code));
    let prints: String = asked
        .iter()
        .map(|asked| format!("\tprintf(\"{asked}=%llu\\n\", (unsigned long long)({asked}));\n"))
        .collect();
    let program = format!(
        "/* SPDX-License-Identifier: GPL-2.0 */\n#include \"{}\"\n#include <stddef.h>\n#include <stdio.h>\nint main(void)\n{{\n{prints}\treturn 0;\n}}\n",
        header.display()
    );
    let file = probe.with_extension("c");
    std::fs::write(&file, program).with_context(|| format!("cannot write {}", file.display()))?;
    let mut compile = Command::new("gcc");
    compile
        .arg("-Wall")
        .arg("-Werror")
        .arg("-o")
        .arg(probe)
        .arg(&file);
    output(&mut compile)?;
    output(&mut Command::new(probe))?
        .lines()
        .map(|line| {
            let (name, value) = line.split_once('=').context("the probe printed no value")?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

fn preprocess(header: &Path, how: &str) -> Result<String> {
    output(Command::new("gcc").args(["-E", how, "-x", "c"]).arg(header))
}

fn output(command: &mut Command) -> Result<String> {
    let result = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !result.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&result.stderr));
    }
    Ok(String::from_utf8(result.stdout)?)
}

/// The names in all enums of preprocessed code that are of this interface.
fn enumerators(code: &str) -> Vec<String> {
    code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("LIVEUPDATE_"))
        .map(str::to_owned)
        .collect()
}

/// A `sizeof`, an alignment, and an offset and a size a member, for each of this interface's
/// structures.
fn members(code: &str) -> Vec<String> {
    let mut asked = Vec::new();
    for part in code.split("struct ").skip(1) {
        let Some((name, rest)) = part.split_once('{') else {
            continue;
        };
        let Some((body, _)) = rest.split_once('}') else {
            continue;
        };
        let name = name.trim();
        if !name.starts_with("liveupdate_") {
            continue;
        }
        asked.push(format!("sizeof(struct {name})"));
        asked.push(format!("_Alignof(struct {name})"));
        for declaration in body.split(';') {
            // The last word of `__u8 name[64]`, without its dimension.
            let member = declaration.split('[').next().unwrap_or_default();
            if let Some(member) = member.split_whitespace().next_back() {
                asked.push(format!("offsetof(struct {name}, {member})"));
                asked.push(format!("sizeof(((struct {name} *)0)->{member})"));
            }
        }
    }
    asked
}

fn size_of_member<T, M>(_: fn(&T) -> &M) -> usize {
    size_of::<M>()
}

/// What the Rust crate says, in the words of the probe.
fn crate_facts() -> Facts {
    let mut facts = Facts::new();
    let mut fact = |key: String, value: usize| {
        facts.insert(key, value as u64);
    };
    macro_rules! structure {
        ($name:expr, $of:ty, $($member:ident),*) => {
            fact(format!("sizeof(struct {})", $name), size_of::<$of>());
            fact(format!("_Alignof(struct {})", $name), align_of::<$of>());
            $(
                let member = stringify!($member);
                fact(format!("offsetof(struct {}, {member})", $name), offset_of!($of, $member));
                fact(format!("sizeof(((struct {} *)0)->{member})", $name), size_of_member(|x: &$of| &x.$member));
            )*
        };
    }
    for which in ["create", "retrieve"] {
        let name = format!("liveupdate_ioctl_{which}_session");
        structure!(name, raw::SessionArgument, size, fd, name);
        let name = match which {
            "create" => "liveupdate_session_preserve_fd",
            _ => "liveupdate_session_retrieve_fd",
        };
        structure!(name, raw::FdArgument, size, fd, token);
    }
    let name = "liveupdate_session_finish";
    structure!(name, raw::FinishArgument, size, reserved);
    let name = "liveupdate_session_get_name";
    structure!(name, raw::NameArgument, size, reserved, name);
    for (name, value) in [
        ("IOCTL_TYPE", u32::from(raw::IOCTL_TYPE)),
        ("CMD_BASE", u32::from(raw::CMD_BASE)),
        ("CMD_SESSION_BASE", u32::from(raw::CMD_SESSION_BASE)),
        ("IOCTL_CREATE_SESSION", raw::CREATE_SESSION),
        ("IOCTL_RETRIEVE_SESSION", raw::RETRIEVE_SESSION),
        ("SESSION_PRESERVE_FD", raw::PRESERVE_FD),
        ("SESSION_RETRIEVE_FD", raw::RETRIEVE_FD),
        ("SESSION_FINISH", raw::FINISH),
        ("SESSION_GET_NAME", raw::GET_NAME),
    ] {
        fact(format!("LIVEUPDATE_{name}"), value as usize);
    }
    fact(
        "LIVEUPDATE_SESSION_NAME_LENGTH".to_owned(),
        raw::SESSION_NAME_LENGTH,
    );
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "typedef struct { int x; } fsid;\nenum { LIVEUPDATE_A = 1, };\n\
        struct liveupdate_x { __u32 size; __u64 __attribute__((aligned(8))) token; __u8 name[64]; };";

    #[test]
    fn every_name_of_the_interface_is_asked_for() {
        assert_eq!(enumerators(CODE), ["LIVEUPDATE_A"]);
        let asked = members(CODE);
        assert_eq!(asked.len(), 2 + 3 * 2);
        assert!(asked.contains(&"offsetof(struct liveupdate_x, token)".to_owned()));
        assert!(asked.contains(&"sizeof(((struct liveupdate_x *)0)->name)".to_owned()));
    }

    #[test]
    fn a_difference_and_a_gap_are_noticed() {
        let facts = |value| Facts::from([("A".to_owned(), value)]);
        assert!(agree("", &facts(1), &facts(1), true).passed);
        assert!(!agree("", &facts(1), &facts(2), false).passed);
        assert!(!agree("", &Facts::new(), &facts(1), true).passed);
        assert!(!agree("", &facts(1), &Facts::new(), false).passed);
    }
}
