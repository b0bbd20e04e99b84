// SPDX-License-Identifier: GPL-2.0
//! Session names: 1 to 63 bytes, any but NUL.

use crate::error::NameError;
use crate::raw::SESSION_NAME_LENGTH;
use std::fmt;

/// A session's name. It need not be text; a `/` is as good as any other byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    /// Followed by zeros, at least one.
    padded: [u8; SESSION_NAME_LENGTH],
}

impl Name {
    /// The most bytes a name can have.
    pub const MAX: usize = SESSION_NAME_LENGTH - 1;

    /// Checks a name.
    ///
    /// # Errors
    ///
    /// The name is empty, longer than [`Name::MAX`], or has a NUL in it.
    pub fn new(name: impl AsRef<[u8]>) -> Result<Self, NameError> {
        let name = name.as_ref();
        if name.contains(&0) {
            return Err(NameError::Nul);
        }
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > Self::MAX {
            return Err(NameError::TooLong);
        }
        let mut padded = [0; SESSION_NAME_LENGTH];
        padded[..name.len()].copy_from_slice(name);
        Ok(Self { padded })
    }

    /// What a kernel has filled in; without a NUL, or empty, it is none.
    pub(crate) fn from_kernel(padded: [u8; SESSION_NAME_LENGTH]) -> Option<Self> {
        let length = padded.iter().position(|byte| *byte == 0)?;
        Self::new(&padded[..length]).ok()
    }

    /// The name without what ends it.
    pub fn as_bytes(&self) -> &[u8] {
        self.padded.split(|byte| *byte == 0).next().unwrap_or(&[])
    }

    /// The name as it stands in an argument.
    pub(crate) fn padded(&self) -> [u8; SESSION_NAME_LENGTH] {
        self.padded
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().escape_ascii().fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new([b'x'; 64]), Err(NameError::TooLong));
        assert_eq!(Name::new("a\0"), Err(NameError::Nul));
        let longest = Name::new([b'x'; 63]).expect("63 bytes");
        assert_eq!(longest.as_bytes().len(), 63);
        assert_eq!(longest.padded()[63], 0);
    }

    #[test]
    fn any_byte_but_nul_will_do() {
        for byte in 1..=255 {
            let name = Name::new([byte, b'/']).expect("a name");
            assert_eq!(name.as_bytes(), [byte, b'/']);
            assert_eq!(Name::from_kernel(name.padded()), Some(name));
        }
    }

    #[test]
    fn what_no_nul_ends_is_no_name() {
        assert_eq!(Name::from_kernel([b'x'; 64]), None);
        assert_eq!(Name::from_kernel([0; 64]), None);
    }

    #[test]
    fn it_is_shown_readably() {
        assert_eq!(
            Name::new(b"vm/\xff").expect("a name").to_string(),
            "vm/\\xff"
        );
    }
}
