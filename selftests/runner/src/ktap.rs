// SPDX-License-Identifier: GPL-2.0
//! KTAP, in which KUnit and the kernel's selftests report: suites, their cases, and each case's
//! verdict.

/// One case of a suite.
#[derive(Debug, PartialEq, Eq)]
pub struct Case {
    /// The suite's name; empty for cases outside of any.
    pub suite: String,
    pub name: String,
    /// Skipped cases did not pass: nobody knows whether they would.
    pub passed: bool,
    pub note: String,
}

/// All cases in `lines`. A suite's own result line is not a case, nor is that of one parameter of a
/// case.
pub fn cases<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Case> {
    let mut found = Vec::new();
    // The suite we are in, and how deep its lines stand.
    let mut suite: Option<(String, usize)> = None;
    for line in lines {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        if let Some(name) = text.strip_prefix("# Subtest: ") {
            // Deeper ones are the parameters of a case.
            if suite.as_ref().is_none_or(|(_, at)| depth <= *at) {
                suite = Some((name.trim().to_owned(), depth));
            }
            continue;
        }
        let Some((name, passed, note)) = verdict(text) else {
            continue;
        };
        match &suite {
            Some((of, at)) if depth == *at => found.push(Case {
                suite: of.clone(),
                name,
                passed,
                note,
            }),
            Some((_, at)) if depth < *at => suite = None,
            Some(_) => {}
            None => found.push(Case {
                suite: String::new(),
                name,
                passed,
                note,
            }),
        }
    }
    found
}

/// Name, verdict and note of a result line.
fn verdict(text: &str) -> Option<(String, bool, String)> {
    let (rest, ok) = match text.strip_prefix("not ok ") {
        Some(rest) => (rest, false),
        None => (text.strip_prefix("ok ")?, true),
    };
    let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    number.parse::<u32>().ok()?;
    let (name, note) = rest.split_once('#').unwrap_or((rest, ""));
    let name = name.trim().trim_start_matches("- ").to_owned();
    let note = note.trim().to_owned();
    Some((name, ok && !note.starts_with("SKIP"), note))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kunit_output_gives_the_cases_of_each_suite() {
        let log = "KTAP version 1\n1..2\n    KTAP version 1\n    # Subtest: kho_keys\n    1..3\n    ok 1 round_trip\n        \
                   KTAP version 1\n        # Subtest: orders\n        ok 1 zero\n        not ok 2 one\n    not ok 2 orders\n    \
                   ok 3 later # SKIP no memory\n# kho_keys: pass:1 fail:1 skip:1 total:3\nnot ok 1 kho_keys\n    # Subtest: kho_runs\n    \
                   ok 1 split\nok 2 kho_runs\n";
        let found = cases(log.lines());
        let short: Vec<_> = found
            .iter()
            .map(|case| (case.suite.as_str(), case.name.as_str(), case.passed))
            .collect();
        assert_eq!(
            short,
            [
                ("kho_keys", "round_trip", true),
                ("kho_keys", "orders", false),
                ("kho_keys", "later", false),
                ("kho_runs", "split", true),
            ]
        );
    }

    #[test]
    fn flat_tap_of_a_selftest_has_cases_without_a_suite() {
        let log =
            "TAP version 13\n1..2\n#  RUN           a.b ...\nok 1 a.b\nnot ok 2 a.c # it broke\n";
        let found = cases(log.lines());
        assert_eq!(found.len(), 2);
        assert!(found[0].passed && found[0].suite.is_empty());
        assert_eq!(found[1].note, "it broke");
        assert!(!found[1].passed);
    }

    #[test]
    fn other_lines_are_not_results() {
        assert_eq!(cases(["ok then", "not ok", "okay 1 x"]), []);
    }
}
