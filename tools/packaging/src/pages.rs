// SPDX-License-Identifier: GPL-2.0
//! Man pages and completions, made of the command lines that the programs themselves read.

use anyhow::Result;
use clap::{Command, CommandFactory};
use clap_complete::{generate, Shell};
use clap_mangen::Man;

/// A file, by its path below PREFIX/share.
pub type Page = (String, Vec<u8>);

/// All of them; zsh's completions go into this folder of zsh's.
pub fn all(zsh: &str) -> Result<Vec<Page>> {
    let mut luoctl = luoctl::cli::Arguments::command().disable_help_subcommand(true);
    luoctl.build();
    let mut pages = vec![
        page(luod::cli::Arguments::command(), "luod".into(), 8)?,
        ("man/man5/luod.toml.5".into(), settings().into_bytes()),
    ];
    pages.push(page(luoctl.clone(), "luoctl".into(), 1)?);
    for command in luoctl.get_subcommands() {
        if command.is_hide_set() {
            continue;
        }
        let name = format!("luoctl-{}", command.get_name());
        pages.push(page(command.clone(), name, 1)?);
    }
    for (shell, path) in [
        (Shell::Bash, "bash-completion/completions/luoctl".into()),
        (Shell::Zsh, format!("zsh/{zsh}/_luoctl")),
        (Shell::Fish, "fish/vendor_completions.d/luoctl.fish".into()),
    ] {
        let mut text = Vec::new();
        generate(
            shell,
            &mut luoctl::cli::Arguments::command(),
            "luoctl",
            &mut text,
        );
        pages.push((path, text));
    }
    Ok(pages)
}

fn page(command: Command, name: String, section: u8) -> Result<Page> {
    let mut text = Vec::new();
    let title = name.to_uppercase();
    let extra = command.get_after_long_help().map(ToString::to_string);
    let several = command.get_subcommands().any(|one| !one.is_hide_set());
    // The usage has the name with a space, the page and its title with a dash.
    let man = Man::new(command.display_name(name.clone()))
        .title(title)
        .source(concat!("liveupdate-rs ", env!("CARGO_PKG_VERSION")))
        .section(section.to_string());
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if several {
        man.render_subcommands_section(&mut text)?;
    }
    let own = extra.unwrap_or_default();
    text.extend(sections(&own).bytes());
    if section == 1 && !own.contains("Exit codes:") {
        let all = luoctl::cli::Arguments::command();
        let all = all.get_after_long_help().map(ToString::to_string);
        let all = all.unwrap_or_default();
        let codes = all.find("Exit codes:").and_then(|at| all.get(at..));
        text.extend(sections(codes.unwrap_or_default()).bytes());
    }
    text.extend(sections(if section == 1 { TOOL_FILES } else { "" }).bytes());
    let others = [("luod", 8), ("luod.toml", 5), ("luoctl", 1)];
    let others: Vec<String> = others
        .into_iter()
        .filter(|(other, _)| *other != name)
        .map(|(other, section)| format!("\\fB{other}\\fR({section})"))
        .collect();
    text.extend(format!(".SH \"SEE ALSO\"\n{}\n", others.join(", ")).bytes());
    Ok((format!("man/man{section}/{name}.{section}"), text))
}

const TOOL_FILES: &str = "\
Files:
  /run/luod/liveupdate.sock: luod's socket
  /run/luoctl.lock: which luoctl is loading, unloading or updating";

/// What stands below a command's help, in sections as pages have them.
fn sections(help: &str) -> String {
    let mut page = String::new();
    for line in help.lines() {
        let heading = match line.trim_end_matches(':') {
            text if !line.ends_with(':') || line.starts_with(' ') => {
                let text = roff(text.trim_start());
                page.push_str(&match line
                    .strip_prefix("  ")
                    .and_then(|line| line.split_once(": "))
                {
                    Some((what, is)) if !what.contains("luoctl ") => {
                        format!(".TP\n{}\n{}\n", roff(what), roff(is))
                    }
                    _ if line.starts_with(' ') => format!(".br\n{text}\n"),
                    _ if text.is_empty() => ".PP\n".to_owned(),
                    _ => format!("{text}\n"),
                });
                continue;
            }
            "Exit codes" => "EXIT STATUS".to_owned(),
            text => text.to_uppercase(),
        };
        page.push_str(&format!(".SH \"{heading}\"\n"));
    }
    page
}

/// A text that is only text.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

/// The page of luod's configuration, made of the file that is installed: what stands above a
/// setting says what it is.
fn settings() -> String {
    let mut page = concat!(
        ".TH LUOD.TOML 5 \"\" \"liveupdate-rs ",
        env!("CARGO_PKG_VERSION"),
        "\"\n.SH NAME\nluod.toml \\- luod's configuration\n.SH DESCRIPTION\n",
        "/etc/luod.toml is read when luod starts. It has a line for each setting that differs from what is shown here,\n",
        "as TOML. \\fBluod \\-\\-check\\fR says whether it makes sense; luod does not start otherwise (exit code 2).\n",
        ".SH SETTINGS\n"
    )
    .to_owned();
    let mut about = Vec::new();
    let mut said = true;
    let text = include_str!("../../luod/luod.toml");
    for line in text.lines().skip_while(|line| !line.is_empty()) {
        let Some(line) = line.strip_prefix("# ") else {
            continue;
        };
        let setting = line.split_once(" = ").filter(|(name, _)| {
            let fit = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            name.bytes().all(fit)
        });
        match setting {
            Some(_) => {
                let line = roff(line);
                // Several can share what is said of them.
                page.push_str(if said { ".TQ\n" } else { ".TP\n" });
                page.push_str(&format!("\\fB{line}\\fR\n"));
                said = true;
            }
            None => {
                flush(&mut page, &mut about, said);
                said = false;
                about.push(roff(line));
            }
        }
    }
    flush(&mut page, &mut about, said);
    page.push_str(
        ".SH FILES\n/etc/luod.toml\n.SH \"SEE ALSO\"\n\\fBluod\\fR(8), \\fBluoctl\\fR(1)\n",
    );
    page
}

fn flush(page: &mut String, about: &mut Vec<String>, said: bool) {
    if said && !about.is_empty() {
        page.push_str(&about.join("\n"));
        page.push('\n');
        about.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let pages = all("site-functions").expect("pages");
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in [
            "man/man8/luod.8",
            "man/man1/luoctl.1",
            "man/man1/luoctl-update.1",
            "man/man5/luod.toml.5",
            "zsh/site-functions/_luoctl",
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

    fn text(name: &str) -> String {
        let pages = all("site-functions").expect("pages");
        let page = pages.into_iter().find(|(path, _)| path.ends_with(name));
        String::from_utf8(page.expect(name).1).expect("text")
    }

    #[test]
    fn pages_have_the_sections_that_are_looked_for() {
        for name in ["/luoctl.1", "/luoctl-update.1"] {
            let text = text(name);
            for part in ["EXIT STATUS", "EXAMPLES", "FILES", "SEE ALSO"] {
                assert!(text.contains(&format!(".SH \"{part}\"")), "{name}: {part}");
            }
            assert!(
                !text.contains("EXTRA") && !text.contains("luoctl\\-help"),
                "{name}"
            );
        }
        assert!(!text("/luoctl-update.1").contains("systemd"));
    }

    #[test]
    fn every_setting_has_its_words() {
        let page = text("/luod.toml.5");
        let file = include_str!("../../luod/luod.toml");
        let names = file
            .lines()
            .filter_map(|line| line.strip_prefix("# ")?.split_once(" = "));
        let names: Vec<&str> = names
            .map(|(name, _)| name)
            .filter(|name| !name.contains(' '))
            .collect();
        assert!(names.len() >= 11);
        for name in names {
            assert!(page.contains(&format!("\\fB{name} = ")), "{name}");
        }
        // No setting is without a text below it.
        assert!(
            !page.contains(".TP\n.SH") && !page.contains("fR\n.TP"),
            "{page}"
        );
    }

    #[test]
    fn a_hidden_command_has_none() {
        let pages = all("site-functions").expect("pages");
        assert!(!pages.iter().any(|(name, _)| name.contains("hold")));
    }
}
