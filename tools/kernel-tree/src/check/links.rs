// SPDX-License-Identifier: GPL-2.0
//! What is linked in place of mainline's C: none of its objects, and all that it exports.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use super::Finding;
use crate::kernel::Kernel;
use crate::make::LLVM;

/// Mainline's files that ours stands in for.
const REPLACED: [&str; 8] = [
    "kexec_handover",
    "kexec_handover_debugfs",
    "kho_block",
    "luo",
    "luo_core",
    "luo_file",
    "luo_flb",
    "luo_session",
];

/// No object of a replaced file is in the kernel.
pub(super) fn objects(kernel: &Kernel) -> Finding {
    let archive = kernel.build_dir.join("kernel/liveupdate/built-in.a");
    let out = Command::new(format!("llvm-ar-{LLVM}"))
        .arg("t")
        .arg(&archive)
        .output();
    let list = match out {
        Ok(out) if out.status.success() => out.stdout,
        _ => {
            return Err(vec![format!(
                "llvm-ar-{LLVM} cannot list {}",
                archive.display()
            )])
        }
    };
    let list = String::from_utf8_lossy(&list).into_owned();
    let found: Vec<String> = list
        .lines()
        .filter(|l| {
            let name = l.rsplit('/').next().and_then(|n| n.strip_suffix(".o"));
            !l.contains("/rust/") && name.is_some_and(|n| REPLACED.contains(&n))
        })
        .map(|l| format!("{l} is linked"))
        .collect();
    match found.is_empty() {
        true => Ok(String::new()),
        false => Err(found),
    }
}

/// All that the replaced files export to modules is exported, and GPL-only as there.
pub(super) fn exports(kernel: &Kernel) -> Finding {
    let symvers = fs::read_to_string(kernel.build_dir.join("Module.symvers")).unwrap_or_default();
    let mut wanted = BTreeSet::new();
    // "luo" is mainline's name for the sum of the others.
    for file in REPLACED.into_iter().filter(|file| *file != "luo") {
        let path = kernel.source.join(format!("kernel/liveupdate/{file}.c"));
        let Ok(text) = fs::read_to_string(&path) else {
            return Err(vec![format!("cannot read {}", path.display())]);
        };
        wanted.extend(exported(&text));
    }
    let missing: Vec<String> = wanted
        .iter()
        .filter(|(kind, name)| !provides(&symvers, kind, name))
        .map(|(kind, name)| format!("{name} is not exported by {kind}"))
        .collect();
    match missing.is_empty() {
        true => Ok(format!("{} symbols", wanted.len())),
        false => Err(missing),
    }
}

/// The macro and the name of each export in C source.
fn exported(text: &str) -> Vec<(String, String)> {
    let one = |line: &str| {
        let (kind, rest) = line.strip_prefix("EXPORT_SYMBOL")?.split_once('(')?;
        let (name, _) = rest.split_once(')')?;
        Some((format!("EXPORT_SYMBOL{kind}"), name.to_owned()))
    };
    text.lines().filter_map(one).collect()
}

fn provides(symvers: &str, kind: &str, name: &str) -> bool {
    symvers.lines().any(|line| {
        let mut fields = line.split('\t').skip(1);
        fields.next() == Some(name) && fields.nth(1) == Some(kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_are_compared_by_name_and_kind() {
        let text = "int f(void)\n{\n}\nEXPORT_SYMBOL_GPL(f);\n";
        assert_eq!(
            exported(text),
            [("EXPORT_SYMBOL_GPL".to_owned(), "f".to_owned())]
        );
        let symvers = "0x00000000\tf\tvmlinux\tEXPORT_SYMBOL_GPL\t\n";
        assert!(provides(symvers, "EXPORT_SYMBOL_GPL", "f"));
        assert!(!provides(symvers, "EXPORT_SYMBOL", "f"));
        assert!(!provides(symvers, "EXPORT_SYMBOL_GPL", "g"));
    }
}
