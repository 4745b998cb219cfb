//! What texts mean, what is said of wrong ones, and that a policy is the first rule that matches.

mod faults;
mod pairs;
mod properties;
mod warned;

use super::{Rules, Subject};
use crate::ids::NodeId;

/// The rules of a text that can be read.
#[track_caller]
fn rules(text: &str) -> Rules {
    Rules::parse(text.as_bytes()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// A member; `byte` makes its key.
fn member(byte: u8, name: &str, tags: &[&str]) -> Subject {
    Subject {
        id: NodeId([byte; 32]),
        name: name.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
    }
}
