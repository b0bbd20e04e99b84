// SPDX-License-Identifier: GPL-2.0
//! Man pages and completions, made of the command lines that the programs themselves read.

use anyhow::Result;
use clap::{Command, CommandFactory};
use clap_complete::{generate, Shell};
use clap_mangen::Man;

/// A file, by its path below PREFIX/share.
pub type Page = (String, Vec<u8>);

/// All of them.
pub fn all() -> Result<Vec<Page>> {
    let mut luoctl = luoctl::cli::Arguments::command();
    luoctl.build();
    let mut pages = vec![page(luod::cli::Arguments::command(), "luod".into(), 8)?];
    pages.push(page(luoctl.clone(), "luoctl".into(), 1)?);
    for command in luoctl.get_subcommands() {
        let name = command.get_name();
        if command.is_hide_set() || name == "help" {
            continue;
        }
        let command = command.clone();
        pages.push(page(command, format!("luoctl-{name}"), 1)?);
    }
    for (shell, path) in [
        (Shell::Bash, "bash-completion/completions/luoctl"),
        (Shell::Zsh, "zsh/vendor-completions/_luoctl"),
        (Shell::Fish, "fish/vendor_completions.d/luoctl.fish"),
    ] {
        let mut text = Vec::new();
        generate(
            shell,
            &mut luoctl::cli::Arguments::command(),
            "luoctl",
            &mut text,
        );
        pages.push((path.to_owned(), text));
    }
    Ok(pages)
}

fn page(command: Command, name: String, section: u8) -> Result<Page> {
    let mut text = Vec::new();
    let title = name.to_uppercase();
    // The usage has the name with a space, the page and its title with a dash.
    Man::new(command.display_name(name.clone()))
        .title(title)
        .section(section.to_string())
        .render(&mut text)?;
    Ok((format!("man/man{section}/{name}.{section}"), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let pages = all().expect("pages");
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in [
            "man/man8/luod.8",
            "man/man1/luoctl.1",
            "man/man1/luoctl-update.1",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
        let text: String = pages
            .iter()
            .filter(|(name, _)| name.starts_with("man/man1"))
            .map(|(_, text)| String::from_utf8_lossy(text).replace("\\-", "-"))
            .collect();
        for (example, _) in luoctl::cli::examples() {
            let plain = example.replace('\'', "");
            let text = text
                .replace("\\*(Aq", "")
                .replace("\\(aq", "")
                .replace('\'', "");
            assert!(text.contains(&plain), "{plain} is in no page");
        }
    }

    #[test]
    fn a_hidden_command_has_none() {
        let pages = all().expect("pages");
        assert!(!pages.iter().any(|(name, _)| name.contains("hold")));
    }
}
