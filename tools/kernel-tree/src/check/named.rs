// SPDX-License-Identifier: GPL-2.0
//! What documents name is there: files, folders, targets of make, packages of cargo, scenarios of
//! the runner and commands of luoctl.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{listed, Finding};

/// Endings of files that are named without their folder.
const NAMED_ALONE: [&str; 4] = [".rs", ".rst", ".config", ".md"];

/// Targets of the kernel's own make.
const KERNELS_MAKE: [&str; 4] = [
    "headers_install",
    "liveupdate_formats",
    "mrproper",
    "rustavailable",
];

/// Beginnings of paths that are not the project's: debugfs.
const ELSEWHERE: [&str; 2] = ["kho/in/", "kho/out/"];

/// What there is to name.
struct There<'a> {
    /// Files of the project, and the folders they lie in.
    paths: BTreeSet<String>,
    /// A kernel tree, in which a path may be as well.
    kernel: Option<&'a Path>,
    targets: BTreeSet<String>,
    packages: BTreeSet<String>,
    scenarios: BTreeSet<String>,
    commands: BTreeSet<String>,
}

/// Every document of the project; `kernel` is a kernel tree, if there is one.
pub(super) fn check(root: &Path, kernel: Option<&Path>) -> Finding {
    let files = listed::files(root)?;
    let there = There::read(root, &files, kernel);
    let mut count = 0;
    let mut found = Vec::new();
    for name in files.iter().filter(|name| is_document(name)) {
        let text = fs::read_to_string(root.join(name)).unwrap_or_default();
        let ticks = if name.ends_with(".md") { "`" } else { "``" };
        for (index, line) in text.lines().enumerate() {
            for span in spans(line, ticks) {
                count += 1;
                let wrong = there.lacks(span);
                found.extend(wrong.map(|what| format!("{name}:{}: {what}", index + 1)));
            }
        }
    }
    match found.is_empty() {
        true => Ok(format!("{count} names and commands")),
        false => Err(found),
    }
}

fn is_document(name: &str) -> bool {
    name.ends_with(".md") || name.starts_with("Documentation/") && name.ends_with(".rst")
}

/// What stands between ticks, where links lead to, and lines that are to be typed.
fn spans<'a>(line: &'a str, ticks: &str) -> Vec<&'a str> {
    let typed = line
        .strip_prefix("    ")
        .map(|l| l.trim_start_matches("$ "));
    let typed = typed.filter(|l| l.starts_with("make ") || l.starts_with("cargo "));
    let quoted = line.split(ticks).skip(1).step_by(2);
    let links = line.split("](").skip(1).filter_map(|l| l.split(')').next());
    typed.into_iter().chain(quoted).chain(links).collect()
}

impl<'a> There<'a> {
    fn read(root: &Path, files: &[String], kernel: Option<&'a Path>) -> Self {
        let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
        let mut paths = BTreeSet::new();
        for file in files {
            paths.insert(file.clone());
            let folders = file.match_indices('/').map(|(at, _)| file[..at].to_owned());
            paths.extend(folders);
        }
        let manifests = files.iter().filter(|f| f.ends_with("Cargo.toml"));
        let packages = manifests.filter_map(|f| word_after(&read(f), "\nname = \"", '"'));
        let suites: String = files
            .iter()
            .filter(|f| f.starts_with("selftests/runner/src/") && f.ends_with(".rs"))
            .map(|f| read(f))
            .collect();
        let targets = [read("Makefile"), read("selftests/Makefile")];
        let targets = targets.iter().flat_map(|text| targets_of(text));
        Self {
            paths,
            kernel,
            targets: targets.chain(KERNELS_MAKE.map(str::to_owned)).collect(),
            packages: packages.collect(),
            scenarios: words_after(&suites, "name: \"", '"').collect(),
            commands: variants(&read("tools/luoctl/src/cli.rs")),
        }
    }

    /// What of `span` is not there.
    fn lacks(&self, span: &str) -> Option<String> {
        let typed = span.split("  ").next().unwrap_or_default();
        let words: Vec<&str> = typed.split_whitespace().collect();
        let after = |word: &str| {
            let at = words.iter().position(|w| *w == word)?;
            words.get(at + 1).copied()
        };
        let is_name = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
        match words.as_slice() {
            ["make", rest @ ..] if !rest.contains(&"...") => {
                let folder = rest.iter().position(|w| *w == "-C").map(|at| at + 1);
                let target = |(at, w): &(usize, &&str)| {
                    Some(*at) != folder && is_name(w) && !self.targets.contains(**w)
                };
                let (_, wrong) = rest.iter().enumerate().find(target)?;
                Some(format!("make has no target {wrong}"))
            }
            ["cargo", ..] => {
                if let Some(package) = after("-p").filter(|p| !self.packages.contains(*p)) {
                    return Some(format!("there is no package {package}"));
                }
                let runs = after("-p") == Some("runner");
                let scenario = after("test").filter(|name| runs && is_name(name))?;
                (!self.scenarios.contains(scenario))
                    .then(|| format!("the runner has no scenario {scenario}"))
            }
            ["luoctl", command, ..] if is_name(command) => (!self.commands.contains(*command))
                .then(|| format!("luoctl has no command {command}")),
            [word] => (!self.has(word)).then(|| format!("there is no {word}")),
            _ => None,
        }
    }

    /// Whether the path is there; also if it is none, or one of another machine.
    fn has(&self, word: &str) -> bool {
        // Written when a test fails, and an ending alone.
        if word.ends_with(".proptest-regressions") || word.starts_with('.') {
            return true;
        }
        // `X` stands for any name.
        if word.split('/').any(|part| part == "X") {
            return true;
        }
        if ELSEWHERE.iter().any(|start| word.starts_with(start)) {
            return true;
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "/_.-*".contains(c);
        let Some((first, rest)) = word.split_once('/') else {
            let alone = NAMED_ALONE.iter().any(|end| word.ends_with(end)) && word.chars().all(fits);
            let same = |path: &String| path.rsplit('/').next() == Some(word);
            return !alone || word.contains('*') || self.paths.iter().any(same);
        };
        let in_kernel = |path: &str| self.kernel.is_some_and(|tree| tree.join(path).exists());
        let known = self.paths.contains(first) || self.kernel.is_some() && in_kernel(first);
        // Without a tree, paths that may be the kernel's cannot be told from wrong ones.
        let kernels = ["include", "Documentation", "samples", "tools", "driver"].contains(&first);
        if first.is_empty() || !known || !word.chars().all(fits) || rest.is_empty() {
            return true;
        }
        let path = word.trim_end_matches('/');
        match path.split_once('*') {
            Some((start, end)) => self.paths.iter().any(|p| {
                p.len() >= start.len() + end.len() && p.starts_with(start) && p.ends_with(end)
            }),
            None => {
                self.paths.contains(path) || in_kernel(path) || kernels && self.kernel.is_none()
            }
        }
    }
}

/// What follows each `before`, up to `end`.
fn words_after<'t>(
    text: &'t str,
    before: &'t str,
    end: char,
) -> impl Iterator<Item = String> + use<'t> {
    let rest = text.split(before).skip(1);
    rest.filter_map(move |rest| Some(rest.split_once(end)?.0.to_owned()))
}

fn word_after(text: &str, before: &str, end: char) -> Option<String> {
    words_after(text, before, end).next()
}

/// The targets of a makefile.
fn targets_of(text: &str) -> Vec<String> {
    let rules = text
        .lines()
        .filter(|l| !l.starts_with(['\t', '#', '.', ' ']));
    let rules = rules.filter_map(|l| l.split_once(':').filter(|(_, r)| !r.starts_with('=')));
    rules
        .flat_map(|(names, _)| names.split_whitespace().map(str::to_owned))
        .collect()
}

/// The commands of a program that clap reads: variants of its enum `Command`, as they are typed.
fn variants(text: &str) -> BTreeSet<String> {
    let (_, inside) = text.split_once("enum Command {").unwrap_or_default();
    let inside = inside.split("\n}").next().unwrap_or_default();
    let lines = inside.lines().filter_map(|l| l.strip_prefix("    "));
    lines
        .filter(|l| l.starts_with(|c: char| c.is_ascii_uppercase()))
        .filter_map(|l| l.split([',', ' ', '(', '{']).next())
        .map(str::to_lowercase)
        .chain(["help".to_owned()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_documents_name_what_is_there() {
        let wrong = check(&crate::project_root(), None)
            .err()
            .unwrap_or_default();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    fn there() -> There<'static> {
        let set = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        There {
            paths: set(&[
                "kho",
                "kho/key.rs",
                "kho/tree",
                "kho/tree/edit.rs",
                "README.md",
            ]),
            kernel: None,
            targets: set(&["demo", "deb"]),
            packages: set(&["runner"]),
            scenarios: set(&["guide"]),
            commands: set(&["status"]),
        }
    }

    #[test]
    fn paths_are_looked_for() {
        let there = there();
        for good in [
            "kho/key.rs",
            "kho/tree/",
            "kho/X",
            "kho/*.rs",
            "key.rs",
            "/kho/x",
            "a/b",
            "README.md",
        ] {
            assert_eq!(there.lacks(good), None, "{good}");
        }
        for bad in ["kho/keys.rs", "kho/trees/", "kho/*.c", "keys.rs"] {
            assert!(there.lacks(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn commands_are_looked_for() {
        let there = there();
        let good = [
            "make demo LINUX=tree",
            "make -C kho deb",
            "cargo run -p runner -- test guide",
            "cargo run -p runner -- test NAME",
            "luoctl status",
            "luoctl --json",
        ];
        for good in good {
            assert_eq!(there.lacks(good), None, "{good}");
        }
        for bad in [
            "make demos",
            "cargo run -p run",
            "cargo run -p runner -- test gude",
            "luoctl stat",
        ] {
            assert!(there.lacks(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn names_are_read_from_sources() {
        assert_eq!(
            targets_of("a b: c\n\techo d: e\n.PHONY: f\nx := y\n"),
            ["a", "b"]
        );
        let cli = "enum Command {\n    /// Says\n    Status,\n    Load(Load),\n    Run {\n        Arg: u8,\n    },\n}\n";
        let wanted = ["help", "load", "run", "status"];
        assert!(variants(cli).iter().eq(wanted.iter()));
    }

    #[test]
    fn spans_of_a_line() {
        assert_eq!(spans("a ``b c`` d ``e``", "``"), ["b c", "e"]);
        assert_eq!(
            spans("see [x](Documentation/x.rst)", "`"),
            ["Documentation/x.rst"]
        );
        assert_eq!(spans("    $ make demo", "``"), ["make demo"]);
    }
}
