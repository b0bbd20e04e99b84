// SPDX-License-Identifier: GPL-2.0
//! The paths in a Rust file: what it uses, what it passes on, and which modules it declares.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::{anyhow, Result};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A module that a file declares and another file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) name: String,
    /// Modules within the file that it is declared in.
    pub(super) within: Vec<String>,
    /// What `#[path]` says.
    pub(super) at: Option<String>,
}

/// A path that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) path: Vec<String>,
    /// What it is called here, if it is imported; `None` for everything that is there.
    pub(super) name: Option<String>,
    /// Whether others can find it here.
    pub(super) exported: bool,
    /// Modules within the file that it stands in.
    pub(super) within: Vec<String>,
    pub(super) line: usize,
}

/// What is in a file.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) modules: Vec<Child>,
    pub(super) items: Vec<Item>,
    names: BTreeSet<String>,
}

/// Words that the name of something follows.
const DEFINES: [&str; 9] = [
    "fn", "struct", "enum", "union", "trait", "type", "const", "static", "mod",
];

impl Source {
    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// When it is no Rust.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let tokens = TokenStream::from_str(text).map_err(|err| anyhow!("{err}"))?;
        let mut source = Self::default();
        source.walk(tokens, &[]);
        Ok(source)
    }

    /// Whether the file itself defines something of that name.
    pub(super) fn defines(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    fn walk(&mut self, tokens: TokenStream, within: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        let mut said = None;
        let mut public = false;
        while let Some(token) = tokens.get(at) {
            let before = at;
            match token {
                TokenTree::Ident(word) => match word.to_string().as_str() {
                    "pub" => {
                        public = true;
                        at += 1;
                        if let Some(TokenTree::Group(of)) = tokens.get(at) {
                            if of.delimiter() == Delimiter::Parenthesis {
                                at += 1;
                            }
                        }
                        continue;
                    }
                    "use" => at = self.import(&tokens, at + 1, public, within),
                    "mod" => at = self.module(&tokens, at + 1, said.take(), within),
                    "macro_rules" => {
                        if let Some(TokenTree::Ident(name)) = tokens.get(at + 2) {
                            self.names.insert(name.to_string());
                        }
                        at += 1;
                    }
                    word if DEFINES.contains(&word) => {
                        if let Some(TokenTree::Ident(name)) = tokens.get(at + 1) {
                            if within.is_empty() {
                                self.names.insert(name.to_string());
                            }
                        }
                        at += 1;
                    }
                    _ => at = self.path(&tokens, at, within),
                },
                TokenTree::Group(group) => {
                    let attribute = matches!(at.checked_sub(1).map(|i| &tokens[i]),
                        Some(TokenTree::Punct(p)) if p.as_char() == '#');
                    match attribute.then(|| path_attribute(group)).flatten() {
                        Some(path) => said = Some(path),
                        None => self.walk(group.stream(), within),
                    }
                    at += 1;
                }
                _ => at += 1,
            }
            let visibility_goes_on = matches!(&tokens[before], TokenTree::Punct(_));
            if !visibility_goes_on {
                public = false;
            }
        }
    }

    /// `mod NAME;` or `mod NAME { … }`; returns where to go on.
    fn module(
        &mut self,
        tokens: &[TokenTree],
        at: usize,
        said: Option<String>,
        within: &[String],
    ) -> usize {
        let Some(TokenTree::Ident(name)) = tokens.get(at) else {
            return at;
        };
        let name = name.to_string();
        match tokens.get(at + 1) {
            Some(TokenTree::Punct(end)) if end.as_char() == ';' => self.modules.push(Child {
                name,
                within: within.to_vec(),
                at: said,
            }),
            Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => {
                if within.is_empty() {
                    self.names.insert(name.clone());
                }
                let mut inner = within.to_vec();
                inner.push(name);
                self.walk(body.stream(), &inner);
                return at + 2;
            }
            _ => {}
        }
        at + 1
    }

    /// The tree after `use`; returns where to go on.
    fn import(
        &mut self,
        tokens: &[TokenTree],
        at: usize,
        public: bool,
        within: &[String],
    ) -> usize {
        let end = tokens[at..]
            .iter()
            .position(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ';'))
            .map_or(tokens.len(), |length| at + length);
        self.tree(&tokens[at..end], &[], public, within);
        end
    }

    fn tree(&mut self, tokens: &[TokenTree], begin: &[String], exported: bool, within: &[String]) {
        for part in tokens.split(|t| matches!(t, TokenTree::Punct(p) if p.as_char() == ',')) {
            let mut path = begin.to_vec();
            let mut name = None;
            let mut line = 0;
            let mut rest = part.iter();
            let mut inner = None;
            while let Some(token) = rest.next() {
                match token {
                    TokenTree::Ident(word) if word == "as" => {
                        name = rest.next().map(ToString::to_string);
                    }
                    TokenTree::Ident(word) => {
                        line = word.span().start().line;
                        path.push(word.to_string());
                    }
                    TokenTree::Punct(p) if p.as_char() == '*' => {
                        line = p.span().start().line;
                        path.push("*".into());
                    }
                    TokenTree::Group(group) => inner = Some(group),
                    _ => {}
                }
            }
            if let Some(group) = inner {
                let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
                self.tree(&tokens, &path, exported, within);
                continue;
            }
            let glob = path.last().is_some_and(|word| word == "*");
            if path.last().is_some_and(|word| word == "self") || glob {
                path.pop();
            }
            let Some(last) = path.last().cloned() else {
                continue;
            };
            self.items.push(Item {
                path,
                name: (!glob).then(|| name.unwrap_or(last)),
                exported,
                within: within.to_vec(),
                line,
            });
        }
    }

    /// A path in an expression, a type or a macro; returns where to go on.
    fn path(&mut self, tokens: &[TokenTree], at: usize, within: &[String]) -> usize {
        let line = tokens[at].span().start().line;
        let mut path = Vec::new();
        let mut end = at;
        while let Some(TokenTree::Ident(word)) = tokens.get(end) {
            path.push(word.to_string());
            end += 1;
            let colon =
                |i: usize| matches!(tokens.get(i), Some(TokenTree::Punct(p)) if p.as_char() == ':');
            if !(colon(end) && colon(end + 1)) {
                break;
            }
            end += 2;
        }
        if path.len() > 1 {
            self.items.push(Item {
                name: Some(String::new()),
                path,
                exported: false,
                within: within.to_vec(),
                line,
            });
        }
        end.max(at + 1)
    }
}

/// The file in `[path = "…"]`.
fn path_attribute(group: &Group) -> Option<String> {
    let mut tokens = group.stream().into_iter();
    match (tokens.next()?, tokens.next()?, tokens.next()?) {
        (TokenTree::Ident(word), TokenTree::Punct(_), TokenTree::Literal(text))
            if word == "path" =>
        {
            Some(text.to_string().trim_matches('"').to_owned())
        }
        _ => None,
    }
}
