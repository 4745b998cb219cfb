//! Texts that can be read and are odd.

use crate::ids::NodeId;
use crate::rules::{Known, Rules};

/// `line:column: sentence` of everything that is odd.
fn warnings(text: &str, known: &Known<'_>) -> Vec<String> {
    let checked = Rules::check(text.as_bytes(), known).expect(text);
    assert_eq!(Ok(checked.rules), Rules::parse(text.as_bytes()));
    checked.warnings.iter().map(|warning| format!("{}:{}: {warning}", warning.line, warning.column)).collect()
}

#[track_caller]
fn warned(text: &str, expected: &[&str]) {
    assert_eq!(warnings(text, &Known::default()), expected, "{text}");
}

#[test]
fn a_rule_behind_one_that_decides_all_of_it_is_dead() {
    let never = "this rule never matches:";
    warned(
        "allow any -> any\n\n  deny tag:guest -> any tcp 22",
        &[&format!("3:3: {never} line 1 allows all that it covers")],
    );
    warned(
        "deny any -> any tcp\nallow tag:a -> tag:b tcp 22\nallow any -> any",
        &[&format!("2:1: {never} line 1 denies all that it covers")],
    );
    warned(
        "allow any -> any tcp 22\nallow tag:a -> any tcp 22",
        &[&format!("2:1: {never} line 1 does the same with all that it covers")],
    );
    warned(
        "allow any -> any ip\nallow any -> any other\nallow any -> any",
        &[&format!("3:1: {never} lines 1, 2 do the same with all that it covers")],
    );
    warned(
        "allow any -> any tcp 1-100\ndeny any -> any tcp 101-200\nallow tag:a -> any tcp 50-150",
        &[&format!("3:1: {never} lines 1, 2 decide about all that it covers")],
    );
    warned(
        "allow any -> any tcp 1\nallow any -> any tcp 2\nallow any -> any tcp 3\nallow any -> any tcp 4\ndeny any -> any tcp 1-4",
        &[&format!("5:1: {never} lines 1, 2, 3 and others allow all that it covers")],
    );
    warned(
        "allow id:abcdefghij -> any\ndeny id:abcdefghijkl -> any",
        &[&format!("2:1: {never} line 1 allows all that it covers")],
    );
    warned(
        "allow tag:a,tag:b -> any\ndeny tag:b -> any",
        &[&format!("2:1: {never} line 1 allows all that it covers")],
    );
}

#[test]
fn a_rule_with_something_left_to_decide_is_not() {
    for text in [
        "deny tag:guest -> any tcp 22\nallow any -> any",
        "allow tag:a -> any\ndeny tag:a,tag:b -> any",
        "allow any -> tag:a\ndeny any -> any\n",
        "allow any -> any tcp 22\nallow any -> any tcp 22,23",
        "allow any -> any ip\nallow any -> any",
        "allow name:a -> any\ndeny tag:a -> any",
        "allow id:abcdefghijkl -> any\ndeny id:abcdefghij -> any",
        "allow any -> any proto 1\nallow any -> any icmp",
        "allow any -> any tcp 1-65535\nallow any -> any tcp",
    ] {
        warned(text, &[]);
    }
}

#[test]
fn rules_that_allow_nothing_are_named_at_the_first() {
    let expected = "2:1: no rule allows anything, and what no rule allows is denied: no member reaches another. \
                    Where the rest should pass, end with `allow any -> any`";
    warned("dhcp tag:a\ndeny tag:guest -> any\ndeny tag:x -> any tcp 22", &[expected]);
    warned("dhcp tag:a", &[]);
}

#[test]
fn a_right_for_everybody_is_said() {
    warned(
        "dhcp tag:a, any\nbridge any\nstp tag:b",
        &[
            "1:13: with `dhcp any` every member may answer DHCP and send router advertisements: nothing is filtered",
            "2:8: with `bridge any` every member may send from addresses that are not its own: nothing is filtered",
        ],
    );
}

#[test]
fn strangers_are_named_where_members_are_known() {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let (tags, names, ids) =
        (texts(&["admin", "server"]), texts(&["attic"]), [NodeId([0; 32]), NodeId([9; 32])]);
    let known = Known { tags: Some(&tags), names: Some(&names), ids: Some(&ids) };
    let text = "dhcp name:atic\nallow tag:admin, tag:Server -> tag:xyzzy, id:aaaaaaaaaa, id:aaaaaaaaab";
    assert_eq!(
        warnings(text, &known),
        [
            "1:6: `name:atic` names nobody: no member has this name; did you mean `name:attic`?",
            "2:18: `tag:Server` names nobody: no member has this tag; did you mean `tag:server`?",
            "2:32: `tag:xyzzy` names nobody: no member has this tag",
            "2:58: `id:aaaaaaaaab` names nobody: no member's id begins so; did you mean `id:aaaaaaaaaa`?",
        ]
    );
    assert_eq!(warnings(text, &Known { names: None, ids: None, ..known }).len(), 2);
    assert_eq!(warnings(text, &Known::default()), [""; 0]);
}
