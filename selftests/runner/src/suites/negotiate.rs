// SPDX-License-Identifier: GPL-2.0
//! Which formats a kernel writes for the image that is loaded, with images whose catalogues say
//! this or that.

use super::{run, Played};
use crate::check;
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use anyhow::{anyhow, Context, Result};
use formats::edit::{edit, Edit};
use std::fs;
use Which::{Mainline, Ours};

/// Images made of those that were built, by the names that the guest has for them.
fn images() -> Vec<(&'static str, Which, Vec<Edit>)> {
    let hide = |version| Edit::Hide {
        name: "memfd".into(),
        version,
    };
    vec![
        ("only-memfd-2", Ours, vec![hide(3)]),
        ("no-memfd", Ours, vec![hide(3), hide(2)]),
        ("corrupt-catalogue", Ours, vec![Edit::Corrupt]),
        (
            "linux-6.1",
            Mainline,
            vec![Edit::Release("6.1.90 (test)".into())],
        ),
        ("linux-7.3", Mainline, vec![]),
    ]
}

pub fn play(lab: &Lab, name: &str) -> Result<Played> {
    let folder = lab.folder(&format!("{name}/images"))?;
    let mut machine = Machine::new(name, "negotiate", Ours, &[Ours, Ours]).timeout(400);
    for (file, from, edits) in images() {
        let built = lab.kernel(from)?.bzimage.clone();
        let mut image =
            fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        for one in edits {
            image = edit(&image, &one).map_err(|err| anyhow!("{file}: {err}"))?;
        }
        let path = folder.join(file);
        fs::write(&path, image).with_context(|| format!("cannot write {}", path.display()))?;
        machine.files.push((format!("tests/{file}"), path));
    }
    let (mut played, outcome) = run(lab, &machine)?;
    let named = "generation 0: the log says what was not loaded and why";
    let lines = [
        "is not loaded, as it would not read what is preserved",
        "its catalogue of formats is damaged",
        "nothing can be handed over to it",
        "no reboot: files are preserved, and the image was loaded by kexec_load",
    ];
    played.checks.push(check::says(&outcome, 0, named, &lines));
    Ok(played)
}

/// Memfds with holes, merging on or off, to ours.
pub fn sparse(lab: &Lab, name: &str, which: Which, merge: bool) -> Result<Played> {
    let mut machine = Machine::new(name, "sparse", which, &[which]).timeout(400);
    if !merge {
        machine = machine.word("liveupdate.merge=off").word("lu.merge=off");
    }
    let (played, _) = run(lab, &machine)?;
    Ok(played)
}
