// SPDX-License-Identifier: GPL-2.0
//! The floors: which part of the code may use which, and that no two files use each other.
//!
//! A crate's modules are read from its root on, as the compiler finds them. Each path in them is
//! followed, through re-exports, to the file that defines what it names. Comments and texts do not
//! count; the bodies of macros do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Finding;

mod paths;

use paths::{Item, Source};

/// A crate, and its floors from the top down. Parts of one floor do not use each other.
pub(super) struct House {
    /// The file the crate begins with.
    pub(super) root: &'static str,
    /// First parts of module paths. What is named in none may use everything.
    pub(super) floors: &'static [&'static [&'static str]],
    /// Whether a module and those in its folder may use each other.
    pub(super) folders: bool,
    /// Circles that are still to be cut: a file of each. One that is gone must leave this list.
    pub(super) open: &'static [&'static str],
}

/// The kernel part and the simulated machine's tests on top of it, then the programs that test it.
pub(super) const HOUSES: [House; 3] = [
    House {
        root: "liveupdate.rs",
        floors: &[
            &["sim"],
            &["entry"],
            &["memfd_luo", "eventfd_luo"],
            &["luo"],
            &["kho"],
            &["sys"],
            &["common"],
        ],
        folders: false,
        open: &[
            "driver/liveupdate/record/table.rs",
            "selftests/sim/luo/sample.rs",
            "selftests/sim/luo/targets.rs",
            "selftests/sim/sample.rs",
        ],
    },
    House {
        root: "selftests/runner/src/main.rs",
        floors: &[],
        folders: true,
        open: &["selftests/runner/src/lab.rs"],
    },
    House {
        root: "selftests/guest/src/main.rs",
        floors: &[],
        folders: true,
        open: &[],
    },
];

/// No use, path or re-export runs up, and no files use each other in a circle.
pub(super) fn check(root: &Path) -> Finding {
    let mut found = Vec::new();
    let (mut files, mut left) = (0, 0);
    for house in &HOUSES {
        match Modules::read(root, house.root) {
            Ok(modules) => {
                files += modules.all.len();
                let arrows = modules.arrows();
                found.extend(upward(house.floors, &modules, &arrows));
                let mut open: BTreeSet<&str> = house.open.iter().copied().collect();
                for circle in circles(&modules, &arrows, house.folders) {
                    let known = circle
                        .files
                        .iter()
                        .find(|file| open.contains(file.as_str()));
                    match known {
                        Some(file) => {
                            left += 1;
                            open.remove(file.as_str());
                        }
                        None => found.push(circle.line),
                    }
                }
                found.extend(open.iter().map(|file| {
                    format!("{file} is in no circle any more: take it out of the list")
                }));
            }
            Err(err) => found.push(format!("{err:#}")),
        }
    }
    match found.is_empty() {
        true if left == 0 => Ok(format!("{files} files")),
        true => Ok(format!("{files} files; {left} circles are still to be cut")),
        false => Err(found),
    }
}

/// A module that is a file.
struct Module {
    file: PathBuf,
    path: Vec<String>,
    source: Source,
}

/// That one file uses something of another, and where.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    from: usize,
    to: usize,
    line: usize,
    /// A re-export alone.
    passes_on: bool,
}

/// All modules of a crate.
struct Modules {
    all: Vec<Module>,
    by_path: BTreeMap<Vec<String>, usize>,
}

impl Modules {
    fn read(base: &Path, root: &str) -> Result<Self> {
        let mut modules = Self {
            all: Vec::new(),
            by_path: BTreeMap::new(),
        };
        let root = Path::new(root);
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        modules.add(base, root, &folder, Vec::new())?;
        Ok(modules)
    }

    /// Reads a file and those of the modules it declares, which are in `folder` unless it says
    /// where.
    fn add(&mut self, base: &Path, file: &Path, folder: &Path, path: Vec<String>) -> Result<()> {
        let text = fs::read_to_string(base.join(file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        let source =
            Source::parse(&text).with_context(|| format!("{} is no Rust", file.display()))?;
        let children = source.modules.clone();
        self.by_path.insert(path.clone(), self.all.len());
        self.all.push(Module {
            file: file.to_owned(),
            path: path.clone(),
            source,
        });
        for child in children {
            let mut below = path.clone();
            below.extend(child.within);
            let within: PathBuf = below[path.len()..].iter().collect();
            let (file, folder) = match child.at {
                Some(at) => {
                    let file = tidy(&file.parent().unwrap_or(Path::new("")).join(at));
                    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
                    (file, folder)
                }
                None => {
                    let folder = folder.join(within).join(&child.name);
                    let alone = folder.with_extension("rs");
                    match base.join(&alone).is_file() {
                        true => (alone, folder),
                        false => (folder.join("mod.rs"), folder),
                    }
                }
            };
            below.push(child.name);
            self.add(base, &file, &folder, below)?;
        }
        Ok(())
    }

    /// Every arrow between two files, once.
    fn arrows(&self) -> Vec<Arrow> {
        let mut first = BTreeMap::new();
        for (from, module) in self.all.iter().enumerate() {
            for item in &module.source.items {
                for to in self.meant(from, item) {
                    if to == from {
                        continue;
                    }
                    let key = (from, to, item.exported);
                    first.entry(key).or_insert(item.line);
                }
            }
        }
        first
            .into_iter()
            .map(|((from, to, passes_on), line)| Arrow {
                from,
                to,
                line,
                passes_on,
            })
            .collect()
    }

    /// The files that define what an item of a module names; none if that is of another crate.
    fn meant(&self, module: usize, item: &Item) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        if let Some(path) = self.absolute(module, item) {
            self.follow(&path, &mut BTreeSet::new(), &mut found);
        }
        found
    }

    /// The path from the crate's root; `None` if it does not begin in the crate.
    fn absolute(&self, module: usize, item: &Item) -> Option<Vec<String>> {
        let mut at = self.all[module].path.clone();
        at.extend(item.within.iter().cloned());
        let mut rest = item.path.as_slice();
        match rest.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    at.pop()?;
                    rest = &rest[1..];
                }
            }
            child => {
                at.push(child.to_owned());
                if !self.by_path.contains_key(&at) {
                    return None;
                }
                rest = &rest[1..];
            }
        }
        at.extend(rest.iter().cloned());
        Some(at)
    }

    fn follow(&self, path: &[String], seen: &mut BTreeSet<Vec<String>>, to: &mut BTreeSet<usize>) {
        if !seen.insert(path.to_vec()) {
            return;
        }
        // The file of the longest part of the path that is one.
        let Some((depth, module)) = (0..=path.len())
            .rev()
            .find_map(|depth| Some((depth, *self.by_path.get(&path[..depth])?)))
        else {
            return;
        };
        let rest = &path[depth..];
        let Some(name) = rest.first() else {
            to.insert(module);
            return;
        };
        let before = to.len();
        let exported = |item: &&Item| item.exported && item.within.is_empty();
        let items = self.all[module].source.items.iter().filter(exported);
        for item in items {
            let beyond: &[String] = match &item.name {
                Some(given) if given == name => &rest[1..],
                Some(_) => continue,
                // A glob.
                None if self.all[module].source.defines(name) => continue,
                None => rest,
            };
            if let Some(mut path) = self.absolute(module, item) {
                path.extend(beyond.iter().cloned());
                let glob = item.name.is_none();
                if !glob || self.has(&path) {
                    self.follow(&path, seen, to);
                }
            }
        }
        if to.len() == before && name != "*" || name == "*" {
            to.insert(module);
        }
    }

    /// Whether the module that a path leads to has what its next part names.
    fn has(&self, path: &[String]) -> bool {
        let found = (0..=path.len())
            .rev()
            .find_map(|depth| Some((depth, *self.by_path.get(&path[..depth])?)));
        let Some((depth, module)) = found else {
            return false;
        };
        let Some(name) = path.get(depth) else {
            return true;
        };
        let source = &self.all[module].source;
        let passed_on =
            |item: &Item| item.exported && item.name.as_ref().is_none_or(|given| given == name);
        source.defines(name) || source.items.iter().any(passed_on)
    }

    fn shown(&self, module: usize) -> String {
        self.all[module].file.display().to_string()
    }
}

/// Without `.` and `x/..`.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                tidy.pop();
            }
            std::path::Component::CurDir => {}
            part => tidy.push(part),
        }
    }
    tidy
}

/// A line for each arrow that runs up, or from one part of a floor to another.
fn upward(floors: &[&[&str]], modules: &Modules, arrows: &[Arrow]) -> Vec<String> {
    let floor_of = |module: usize| {
        let part = modules.all[module].path.first()?.as_str();
        let floor = floors.iter().position(|floor| floor.contains(&part))?;
        Some((floor, part))
    };
    let mut found = Vec::new();
    for arrow in arrows {
        let (Some((from, own)), Some((to, other))) = (floor_of(arrow.from), floor_of(arrow.to))
        else {
            continue;
        };
        if to < from || to == from && own != other {
            found.push(format!(
                "{}:{}: {own} uses {other} ({}), which is not below it",
                modules.shown(arrow.from),
                arrow.line,
                modules.shown(arrow.to)
            ));
        }
    }
    found
}

/// Files that use each other.
struct Circle {
    files: Vec<String>,
    /// What ties each to the next.
    line: String,
}

/// The circles of files.
///
/// What a folder's `mod.rs` passes on of the folder is no use of it; with `folders`, nor is a use.
fn circles(modules: &Modules, arrows: &[Arrow], folders: bool) -> Vec<Circle> {
    let mut next: BTreeMap<usize, BTreeMap<usize, usize>> = BTreeMap::new();
    for arrow in arrows {
        let below = modules.all[arrow.to]
            .path
            .starts_with(&modules.all[arrow.from].path);
        if !(below && (folders || arrow.passes_on)) {
            let ways = next.entry(arrow.from).or_default();
            ways.entry(arrow.to).or_insert(arrow.line);
        }
    }
    let reached = |from: usize| {
        let mut seen = BTreeSet::new();
        let mut todo = vec![from];
        while let Some(at) = todo.pop() {
            for to in next.get(&at).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(*to) {
                    todo.push(*to);
                }
            }
        }
        seen
    };
    let reach: Vec<BTreeSet<usize>> = (0..modules.all.len()).map(reached).collect();
    let mut found = Vec::new();
    let mut done = BTreeSet::new();
    for module in 0..modules.all.len() {
        if !reach[module].contains(&module) || !done.insert(module) {
            continue;
        }
        let circle: BTreeSet<usize> = reach[module]
            .iter()
            .copied()
            .filter(|other| reach[*other].contains(&module))
            .collect();
        done.extend(&circle);
        let mut line = format!("a circle of {} files:", circle.len());
        for from in &circle {
            for (to, at) in next.get(from).into_iter().flatten() {
                if circle.contains(to) {
                    let (from, to) = (modules.shown(*from), modules.shown(*to));
                    let _ = write!(line, " {from}:{at} uses {to};");
                }
            }
        }
        let files = circle.iter().map(|file| modules.shown(*file)).collect();
        found.push(Circle { files, line });
    }
    found
}

#[cfg(test)]
#[path = "floors_tests.rs"]
mod tests;
