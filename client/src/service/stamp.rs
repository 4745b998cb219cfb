//! Whether a file is as we wrote it: its first line is a comment with the SHA-256 of the rest.
//!
//! So nothing else has to remember what was written, and a file of an older version, which may be replaced, is told from one that a person changed,
//! which may not. It is no signature: who writes the file may write the stamp.

use data_encoding::HEXLOWER;
use shadowmesh_proto::crypto::kdf::sha256;

const BEFORE: &str =
    "# Written by `shadowmesh install`; changed by hand it is left alone. SHA-256 of what follows: ";

/// What a file of ours is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is not there.
    Absent,
    /// It is as we would write it.
    Same,
    /// We wrote it, for another program or in another version.
    Ours,
    /// Somebody else wrote or changed it.
    Changed,
}

/// `text` with its stamp before it.
pub fn stamped(text: &str) -> String {
    format!("{BEFORE}{}\n{text}", digest(text))
}

/// What `found` is beside `wanted`, a text with its stamp.
pub fn standing(found: Option<&str>, wanted: &str) -> Standing {
    match found {
        None => Standing::Absent,
        Some(found) if found == wanted => Standing::Same,
        Some(found) if is_ours(found) => Standing::Ours,
        Some(_) => Standing::Changed,
    }
}

/// Whether its stamp is right.
pub fn is_ours(found: &str) -> bool {
    found
        .strip_prefix(BEFORE)
        .and_then(|rest| rest.split_once('\n'))
        .is_some_and(|(stamp, text)| stamp == digest(text))
}

/// SHA-256, in hex.
pub(super) fn digest(text: &str) -> String {
    HEXLOWER.encode(&sha256(&[text.as_bytes()]))
}

/// The lines in which `found` differs from `wanted`: `-` before those that would go, `+` before those that would come. The stamp's line is none.
pub fn differences(found: &str, wanted: &str) -> Vec<String> {
    let lines = |text| -> Vec<&str> { str::lines(text).filter(|line| !line.starts_with(BEFORE)).collect() };
    let (found, wanted) = (lines(found), lines(wanted));
    // Of the longest common subsequence of what follows each pair of places: files of a hundred lines.
    let width = wanted.len() + 1;
    let mut common = vec![0_usize; (found.len() + 1) * width];
    let at = |table: &[usize], i: usize, j: usize| table.get(i * width + j).copied().unwrap_or(0);
    for (i, old) in found.iter().enumerate().rev() {
        for (j, new) in wanted.iter().enumerate().rev() {
            let length = if old == new {
                at(&common, i + 1, j + 1) + 1
            } else {
                at(&common, i + 1, j).max(at(&common, i, j + 1))
            };
            if let Some(place) = common.get_mut(i * width + j) {
                *place = length;
            }
        }
    }
    let (mut i, mut j, mut differences) = (0, 0, Vec::new());
    loop {
        match (found.get(i), wanted.get(j)) {
            (None, None) => return differences,
            (Some(old), Some(new)) if old == new => (i, j) = (i + 1, j + 1),
            (Some(old), new) if new.is_none() || at(&common, i + 1, j) >= at(&common, i, j + 1) => {
                differences.push(format!("-{old}"));
                i += 1;
            }
            (_, Some(new)) => {
                differences.push(format!("+{new}"));
                j += 1;
            }
            (Some(_), None) => i += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_person_changed_is_told_from_what_an_older_version_wrote() {
        let wanted = stamped("[Unit]\nA=1\n");
        assert_eq!(standing(None, &wanted), Standing::Absent);
        assert_eq!(standing(Some(&wanted), &wanted), Standing::Same);
        assert_eq!(standing(Some(&stamped("[Unit]\nA=0\n")), &wanted), Standing::Ours);
        for found in
            [wanted.replace("A=1", "A=2"), wanted.clone() + "B=1\n", "[Unit]\nA=1\n".into(), String::new()]
        {
            assert_eq!(standing(Some(&found), &wanted), Standing::Changed, "{found}");
        }
    }

    #[test]
    fn differences_are_lines_that_go_and_lines_that_come() {
        assert_eq!(differences("a\nb\nc\n", "a\nx\nc\nd\n"), ["-b", "+x", "+d"]);
        assert_eq!(differences(&stamped("a\n"), &stamped("b\n")), ["-a", "+b"]);
        assert!(differences(&stamped("a\n"), "a\n").is_empty());
    }

    proptest! {
        #[test]
        fn what_goes_and_comes_makes_one_text_of_the_other(old in "([abc]\n){0,9}", new in "([abc]\n){0,9}") {
            let differences = differences(&old, &new);
            let count = |text: &str, line: &str| text.lines().filter(|other| *other == line).count();
            for line in ["a", "b", "c"] {
                let changed = |sign: char| differences.iter().filter(|other| **other == format!("{sign}{line}")).count();
                prop_assert_eq!(count(&old, line) - changed('-') + changed('+'), count(&new, line));
            }
            prop_assert_eq!(differences.is_empty(), old == new);
        }
    }
}
