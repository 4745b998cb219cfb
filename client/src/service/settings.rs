//! The file of settings that `install` lays out: the example, in which nothing is chosen, until somebody writes into it.
//!
//! The example is another in every version that has another key, so what an earlier one laid out is known by its stamp, and what was laid out
//! before there was one, by its sum.

use super::stamp::{digest, is_ours, stamped};
use crate::config::Config;

/// SHA-256 of the examples of before they had a stamp.
const EARLIER: [&str; 3] = [
    "ad42b9765f775f248a41fb6c4d6572a39f3611ad5644a6bafd1cf34202583631",
    "33248453bcec2624a90da0119786fdc2a00eb3026e45036ffd9c4d35ba8b4142",
    "c1afe9af63eaac1a9ea9a332d0012a856db3a74165dc265414a4e6fed1354f07",
];

/// The file as it is laid out.
pub(super) fn laid_out() -> String {
    stamped(&Config::example())
}

/// Whether nobody wrote into it since some version laid it out, or a person put what `shadowmesh config` prints there.
pub(super) fn is_untouched(found: &str) -> bool {
    found == Config::example() || is_ours(found) || EARLIER.contains(&digest(found).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// What the first version with an example had.
    const FIRST: &str = include_str!("settings/first.toml");

    #[test]
    fn what_any_version_laid_out_is_told_from_what_a_person_wrote() {
        let earlier = stamped("# Settings, of which there were fewer.\n\n# mtu = 1400\n");
        for untouched in [laid_out(), Config::example(), earlier.clone(), FIRST.to_owned()] {
            assert!(is_untouched(&untouched), "{untouched}");
            for written in [
                untouched.replace("# mtu = 1400", "mtu = 1300"),
                format!("{untouched}mtu = 1300\n"),
                untouched.replacen("# ", "#", 1),
            ] {
                assert!(written != untouched && !is_untouched(&written), "{written}");
            }
        }
        assert!(!is_untouched(""));
    }

    #[test]
    fn what_is_laid_out_chooses_nothing() {
        assert_eq!(Config::parse(&laid_out()).expect("read"), Config::default());
    }
}
