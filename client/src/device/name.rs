//! The name of a network device, checked before the kernel sees it.
//!
//! The kernel's own answer to a bad name is `EINVAL`, which says neither what is wrong nor that the name is.
//! The rules are those of `dev_valid_name` in `net/core/dev.c`, plus two of our own: `%` (the kernel would
//! expand it into a number, so the device would not have the name that was asked for) and the names that
//! clash with sysctl directories.

use std::fmt;
use std::str::FromStr;

/// Longest name in bytes: `IFNAMSIZ` without its terminating zero.
pub const MAX_NAME_LEN: usize = 15;

/// A name the kernel will take for a network device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceName(String);

/// Why a name cannot be a device's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("the device name is empty; choose one such as smesh0")]
    Empty,
    /// Over [`MAX_NAME_LEN`] bytes.
    #[error(
        "the device name {name:?} is {len} bytes long and Linux allows {MAX_NAME_LEN}; choose a shorter one"
    )]
    TooLong {
        /// As given.
        name: String,
        /// Its length in bytes.
        len: usize,
    },
    /// A byte that no device name may have.
    #[error("the device name {name:?} contains {found:?}; use letters, digits, `-`, `_` and `.`")]
    BadCharacter {
        /// As given.
        name: String,
        /// The first character that is refused.
        found: char,
    },
    /// A word the kernel keeps for itself.
    #[error("the device name {name:?} is reserved by the kernel; choose one such as smesh0")]
    Reserved {
        /// As given.
        name: String,
    },
}

impl DeviceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME_LEN {
            return Err(NameError::TooLong { name: text.to_owned(), len: text.len() });
        }
        if matches!(text, "." | ".." | "all" | "default") {
            return Err(NameError::Reserved { name: text.to_owned() });
        }
        match text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '/' | ':' | '%')) {
            Some(found) => Err(NameError::BadCharacter { name: text.to_owned(), found }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_taken_as_they_are() {
        for name in ["smesh0", "a", "tap-1_x.y", "fifteen-bytes-x"] {
            assert_eq!(name.parse::<DeviceName>().map(|n| n.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn each_refusal_names_its_cause() {
        let refuse = |text: &str| text.parse::<DeviceName>().expect_err(text);
        assert_eq!(refuse(""), NameError::Empty);
        assert_eq!(
            refuse("sixteen-bytes-xx"),
            NameError::TooLong { name: "sixteen-bytes-xx".into(), len: 16 }
        );
        for (name, found) in
            [("a/b", '/'), ("a:b", ':'), ("smesh%d", '%'), ("a b", ' '), ("a\0", '\0'), ("ä", 'ä')]
        {
            assert_eq!(refuse(name), NameError::BadCharacter { name: name.into(), found });
        }
        for name in [".", "..", "all", "default"] {
            assert_eq!(refuse(name), NameError::Reserved { name: name.into() });
        }
    }
}
