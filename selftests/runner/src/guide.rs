// SPDX-License-Identifier: GPL-2.0
//! The user's guide as a script: what `Documentation/users.rst` tells to type, where, and what is
//! printed then.
//!
//! Every literal block of the guide is a transcript, or words of the kernel command line. In a
//! transcript a line that begins with `$ ` is typed in the project's folder, one that begins with
//! `# ` by root on the machine that is updated; the lines below it are what it prints. `# kexec -e`
//! goes to the next kernel.

use anyhow::{bail, ensure, Context, Result};
use std::path::PathBuf;

/// What leaves a kernel.
const JUMP: &str = "kexec -e";

/// A line to type, and all that it prints.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    pub command: String,
    pub output: String,
}

/// The guide, in order.
#[derive(Debug, Default)]
pub struct Guide {
    /// What must be on the command line of the kernels.
    pub words: Vec<String>,
    /// What is typed where programs are built.
    pub host: Vec<Step>,
    /// What is typed in each kernel. The last line of each but the last one goes to the next.
    pub kernels: Vec<Vec<Step>>,
}

pub fn path() -> PathBuf {
    kernel_tree::project_root().join("Documentation/users.rst")
}

/// Reads the guide.
pub fn read() -> Result<Guide> {
    let path = path();
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} cannot be followed", path.display()))
}

fn parse(text: &str) -> Result<Guide> {
    let mut guide = Guide {
        kernels: vec![Vec::new()],
        ..Guide::default()
    };
    for block in blocks(text) {
        match block.first() {
            Some(line) if prompt(line).is_some() => transcript(&block, &mut guide)?,
            Some(line) if line.starts_with("kho=") && block.len() == 1 => {
                let words = line.split_whitespace().map(str::to_owned);
                guide.words.extend(words);
            }
            Some(line) => bail!("a block begins with \"{line}\", which is no line to type"),
            None => bail!("a block is empty"),
        }
    }
    Ok(guide)
}

/// Who types, and what.
fn prompt(line: &str) -> Option<(bool, &str)> {
    let here = line.strip_prefix("$ ").map(|command| (true, command));
    here.or_else(|| line.strip_prefix("# ").map(|command| (false, command)))
}

fn transcript(block: &[String], guide: &mut Guide) -> Result<()> {
    let mut lines = block.iter().peekable();
    while let Some(line) = lines.next() {
        let (here, command) = prompt(line).context("a transcript begins with a line to type")?;
        let mut output = String::new();
        while let Some(line) = lines.next_if(|line| prompt(line).is_none()) {
            output += line;
            output.push('\n');
        }
        let step = Step {
            command: command.to_owned(),
            output,
        };
        if here {
            guide.host.push(step);
            continue;
        }
        let jumps = command == JUMP;
        ensure!(
            !jumps || step.output.is_empty(),
            "nobody sees what {JUMP} prints"
        );
        guide
            .kernels
            .last_mut()
            .context("there is a first kernel")?
            .push(step);
        if jumps {
            guide.kernels.push(Vec::new());
        }
    }
    Ok(())
}

/// The literal blocks: what is indented below a line that ends with two colons.
fn blocks(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.ends_with("::") || line.trim_start().starts_with("..") {
            continue;
        }
        let mut block: Vec<&str> = Vec::new();
        while let Some(line) =
            lines.next_if(|line| line.trim().is_empty() || line.starts_with([' ', '\t']))
        {
            block.push(line);
        }
        let filled = |line: &&str| !line.trim().is_empty();
        let indent = |line: &str| line.len() - line.trim_start().len();
        let least = block.iter().copied().filter(filled).map(indent).min();
        let lines = block.iter().copied().filter(filled);
        let cut = |line: &str| {
            line.get(least.unwrap_or(0)..)
                .unwrap_or_default()
                .to_owned()
        };
        found.push(lines.map(cut).collect());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Which::Ours;
    use crate::machine::Machine;

    #[test]
    fn lines_are_typed_where_their_prompt_says() {
        let text = "Do::\n\n    $ make\n    made\n\nand::\n\n    # a\n    # kexec -e\n    # b\n    1\n      2\n\nend\n";
        let guide = parse(text).expect("it is a guide");
        let step = |command: &str, output: &str| Step {
            command: command.into(),
            output: output.into(),
        };
        assert_eq!(guide.host, [step("make", "made\n")]);
        assert_eq!(guide.kernels[0], [step("a", ""), step("kexec -e", "")]);
        assert_eq!(guide.kernels[1], [step("b", "1\n  2\n")]);
    }

    #[test]
    fn a_block_that_nobody_would_run_is_refused() {
        assert!(parse("Do::\n\n    int main(void);\n").is_err());
        assert!(parse("Do::\n\nno block\n").is_err());
    }

    #[test]
    fn all_of_the_guide_is_run() {
        let text = std::fs::read_to_string(path()).expect("the guide is there");
        let guide = parse(&text).expect("each block is one that is run");
        assert_eq!(guide.kernels.len(), 2);
        assert!(guide.host.len() > 1 && guide.kernels.iter().all(|steps| steps.len() > 3));
        assert!(!guide.words.is_empty());
        let machine = Machine::new("guide", "guide", Ours, &[Ours]);
        for word in &guide.words {
            assert!(machine.words.contains(word), "{word} is not tried");
        }
        // Code comes from files that are compiled, nothing is typed into the text.
        assert!(!text.contains(".. code"));
        for file in ["examples/keep.c", "../uapi/examples/keep.rs"] {
            assert!(text.contains(&format!(".. include:: {file}\n")), "{file}");
        }
    }
}
