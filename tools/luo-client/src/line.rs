// SPDX-License-Identifier: GPL-2.0
//! Cuts what comes through a socket into lines, in memory that has a bound.

/// Bytes of which no line has been made yet.
#[derive(Debug)]
pub struct Lines {
    waiting: Vec<u8>,
    /// Up to here there is no end of a line.
    searched: usize,
    most: usize,
}

/// A line is longer than any may be. What follows it cannot be read either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Lines {
    /// For lines of at most so many bytes, without what ends them.
    pub fn new(most: usize) -> Self {
        Self {
            waiting: Vec::new(),
            searched: 0,
            most,
        }
    }

    /// Takes what was read. Take the lines out before more is read: the bound is of this and one
    /// line.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next whole line, without its end.
    ///
    /// # Errors
    ///
    /// What waits is no line, and too long to become one.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let fresh = self.waiting.get(self.searched..).unwrap_or_default();
        let Some(end) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.waiting.len();
            return if self.searched > self.most {
                self.waiting = Vec::new();
                self.searched = 0;
                Err(TooLong)
            } else {
                Ok(None)
            };
        };
        let end = self.searched + end;
        let rest = self.waiting.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.waiting, rest);
        self.searched = 0;
        line.truncate(end);
        if line.len() > self.most {
            return Err(TooLong);
        }
        Ok(Some(line))
    }

    /// Whether [`Self::next_line`] has something to give, or to say.
    pub fn has_line(&self) -> bool {
        let fresh = self.waiting.get(self.searched..).unwrap_or_default();
        fresh.contains(&b'\n') || self.waiting.len() > self.most
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_that_never_ends_is_let_go_of() {
        let mut lines = Lines::new(10);
        lines.push(b"0123456789");
        assert_eq!(lines.next_line(), Ok(None));
        lines.push(b"x");
        assert_eq!(lines.next_line(), Err(TooLong));
        assert!(lines.is_empty());
    }

    proptest! {
        /// However a text is cut, the same lines come out.
        #[test]
        fn cuts_do_not_matter(text in prop::collection::vec(prop::sample::select(vec![b'a', b'b', b'\n']), 0..200),
                              cut in 1usize..20) {
            let mut lines = Lines::new(usize::MAX);
            let mut out = Vec::new();
            for piece in text.chunks(cut) {
                lines.push(piece);
                loop {
                    let promised = lines.has_line();
                    let line = lines.next_line();
                    prop_assert_eq!(promised, !matches!(line, Ok(None)));
                    let Ok(Some(line)) = line else { break };
                    out.push(line);
                }
            }
            let mut whole: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
            let rest = whole.pop().unwrap_or_default();
            prop_assert_eq!(out, whole);
            prop_assert_eq!(lines.len(), rest.len());
        }
    }
}
