// SPDX-License-Identifier: GPL-2.0
//! TAP as the kernel's selftests speak it: a line a case, the plan and the totals at the end, and
//! kselftest's exit codes.

use std::io::Write;

/// The exit code of a program in which a case failed.
const FAIL: i32 = 1;
/// The exit code of a program that could not try anything.
const SKIP: i32 = 4;

/// What has been told so far.
pub struct Tap<W> {
    out: W,
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl<W: Write> Tap<W> {
    pub fn new(out: W) -> Self {
        let mut tap = Self {
            out,
            passed: 0,
            failed: 0,
            skipped: 0,
        };
        tap.line("TAP version 13");
        tap
    }

    /// One case's verdict.
    pub fn case(&mut self, name: &str, ok: bool, detail: &str) {
        let (count, word) = match ok {
            true => (&mut self.passed, "ok"),
            false => (&mut self.failed, "not ok"),
        };
        *count += 1;
        self.result(word, name, detail);
    }

    /// A case that cannot be tried here.
    pub fn skip(&mut self, name: &str, why: &str) {
        self.skipped += 1;
        self.result("ok", name, &format!("SKIP {why}"));
    }

    /// For people.
    pub fn remark(&mut self, text: &str) {
        self.line(&format!("# {text}"));
    }

    /// Plan and totals; gives the exit code.
    pub fn end(&mut self) -> i32 {
        let Self {
            passed,
            failed,
            skipped,
            ..
        } = *self;
        self.line(&format!("1..{}", passed + failed + skipped));
        self.line(&format!(
            "# Totals: pass:{passed} fail:{failed} xfail:0 xpass:0 skip:{skipped} error:0"
        ));
        match (passed, failed, skipped) {
            (_, 1.., _) => FAIL,
            (0, _, 1..) => SKIP,
            _ => 0,
        }
    }

    /// Nothing can be tried here; gives the exit code.
    pub fn skip_all(&mut self, why: &str) -> i32 {
        self.line(&format!("1..0 # SKIP {why}"));
        SKIP
    }

    /// It cannot go on; gives the exit code.
    pub fn bail_out(&mut self, why: &str) -> i32 {
        self.line(&format!("Bail out! {}", why.replace('\n', " ")));
        FAIL
    }

    /// A `#` would begin what is about the case, not its name.
    fn result(&mut self, word: &str, name: &str, detail: &str) {
        let number = self.passed + self.failed + self.skipped;
        let name = name.replace('#', "");
        match detail.trim() {
            "" => self.line(&format!("{word} {number} {name}")),
            detail => {
                let detail = detail.replace('\n', ", ");
                self.line(&format!("{word} {number} {name} # {detail}"));
            }
        }
    }

    /// Whoever reads may have gone: the exit code still tells.
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(play: impl FnOnce(&mut Tap<&mut Vec<u8>>) -> i32) -> (String, i32) {
        let mut out = Vec::new();
        let code = play(&mut Tap::new(&mut out));
        (String::from_utf8_lossy(&out).into_owned(), code)
    }

    #[test]
    fn a_failure_outweighs_what_passed_and_what_was_skipped() {
        let (text, code) = told(|tap| {
            tap.case("one", true, "");
            tap.case("t#wo", false, "a\nb");
            tap.skip("three", "no swap");
            tap.end()
        });
        let want =
            "TAP version 13\nok 1 one\nnot ok 2 two # a, b\nok 3 three # SKIP no swap\n1..3\n\
                    # Totals: pass:1 fail:1 xfail:0 xpass:0 skip:1 error:0\n";
        assert_eq!((text.as_str(), code), (want, 1));
    }

    #[test]
    fn exit_codes_are_those_of_kselftest() {
        assert_eq!(
            told(|tap| {
                tap.case("one", true, "");
                tap.skip("two", "");
                tap.end()
            })
            .1,
            0
        );
        let (text, code) = told(|tap| tap.skip_all("no device"));
        assert_eq!(
            (text.as_str(), code),
            ("TAP version 13\n1..0 # SKIP no device\n", 4)
        );
        assert_eq!(told(|tap| tap.bail_out("broken")).1, 1);
    }
}
