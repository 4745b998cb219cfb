//! `rules check`: exit codes, where errors are said to be, and the document.

use crate::program::{Done, Home, refused};
use serde_json::{Value, json};
use std::fs;

/// Checks `text` in a file; what is printed names it `FILE`.
fn check(text: &[u8], options: &[&str]) -> Done {
    let home = Home::new();
    let file = home.path("office.rules");
    fs::write(&file, text).expect("written");
    let path = file.to_str().expect("text");
    let done = home.run(&[&["rules", "check", path], options].concat());
    assert!(!home.state().exists(), "looking makes nothing");
    Done { stderr: done.stderr.replace(path, "FILE"), ..done }
}

#[test]
fn rules_without_a_fault_are_said_to_be_usable() {
    let done =
        check(b"# office\nallow id:aaaaaaaaaa -> any\nallow any -> any icmp\ndhcp id:bbbbbbbbbb\n", &[]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), ""));
    assert_eq!(done.stderr, "FILE can be used: 2 rules; what none of them allows is denied\n");
    let done = check(b"", &[]);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(0), "FILE can be used: 0 rules; everything is allowed\n")
    );
}

#[test]
fn errors_have_a_place_a_sentence_and_a_caret() {
    let done =
        check(b"allow any -> any\n\tallow tga:admin, any -> tag:server tcp 22,http\ndrop any -> any\n", &[]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    let expected = "\
FILE:2:8: `tga:admin` names no members: expected any, tag:NAME, name:NAME or id:START_OF_AN_ID; did you mean `tag:admin`?
     allow tga:admin, any -> tag:server tcp 22,http
           ^
FILE:2:44: `http` is no port: expected a number from 1 to 65535, or a range such as 8000-8010; did you mean `80`?
     allow tga:admin, any -> tag:server tcp 22,http
                                               ^
FILE:3:1: `drop` begins no statement: expected allow, deny, bridge, dhcp or stp; did you mean `deny`?
    drop any -> any
    ^
shadowmesh: FILE has 3 errors: these rules cannot be used
";
    assert_eq!(done.stderr, expected);
    refused(&done, "3 errors");
}

#[test]
fn warnings_are_no_errors() {
    let text = b"allow any -> any\ndeny tag:gest -> any\n";
    let done = check(text, &["--tags", "guest,admin"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let expected = "\
FILE:2:1: warning: this rule never matches: line 1 allows all that it covers
    deny tag:gest -> any
    ^
FILE:2:6: warning: `tag:gest` names nobody: no member has this tag; did you mean `tag:guest`?
    deny tag:gest -> any
         ^
FILE:2:6: warning: `tag:gest` names somebody only in rules that an admin publishes: for a host's own file expected any or id:START_OF_AN_ID
    deny tag:gest -> any
         ^
FILE can be published, but not be a host's own file: 2 rules, 3 warnings; what none of them allows is denied
";
    assert_eq!(done.stderr, expected);
    assert!(!check(text, &[]).stderr.contains("names nobody"), "nothing is known of tags");
}

#[test]
fn the_document_has_all_of_it() {
    let document = |done: &Done| serde_json::from_str::<Value>(&done.stdout).expect("a document");
    let done = check(b"allow any->any tcp 23,22\n", &["--json"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        document(&done),
        json!({ "valid": true, "enforceable": true, "rules": 1, "errors": [], "warnings": [], "canonical": "allow any -> any tcp 22-23\n" })
    );
    let done = check(b"allow any -> anny\n", &["--json"]);
    refused(&done, "FILE has 1 error: these rules cannot be used");
    assert_eq!(done.stderr.lines().count(), 1);
    let sentence = "`anny` names no members: expected any, tag:NAME, name:NAME or id:START_OF_AN_ID; did you mean `any`?";
    let error = json!({ "line": 1, "column": 14, "word": "anny", "sentence": sentence, "suggestion": "any" });
    assert_eq!(
        document(&done),
        json!({ "valid": false, "enforceable": false, "rules": null, "errors": [error], "warnings": [], "canonical": null })
    );
}

#[test]
fn a_text_that_drives_the_terminal_does_not() {
    let done = check("allow any -> \u{1b}[2J\u{202e}x\n# \u{7}\nallow tag:\u{9b}1m -> any".as_bytes(), &[]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.chars().all(|c| c == '\n' || !c.is_control()), "{done:?}");
    assert!(!done.stderr.contains('\u{202e}'), "{done:?}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let home = Home::new();
    refused(&home.run(&["rules", "check", "/nowhere/at/all"]), "cannot read /nowhere/at/all");
    refused(&home.run(&["rules", "check", "/proc"]), "cannot read /proc");
    // One without an end, that is no text either.
    refused(&home.run(&["rules", "check", "/dev/zero"]), "/dev/zero has 1 error");
    refused(&check(b"# \xff\n", &[]), "FILE has 1 error");
    let done = check(&b"# long\n".repeat(10_000), &[]);
    let sentence = "FILE: the text is longer than 65536 bytes, which is all that it may have\n";
    assert_eq!(done.stderr, format!("{sentence}shadowmesh: FILE has 1 error: these rules cannot be used\n"));
}

#[test]
fn rules_come_from_stdin_too() {
    let home = Home::new();
    let done = home.run_with_stdin(&["rules", "check", "-"], "allow any -> any tpc\n");
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.starts_with("stdin:1:18: `tpc` is no kind of traffic"), "{done:?}");
    let done = home.run_with_stdin(&["rules", "check", "-"], "allow any -> any tcp\n");
    assert_eq!(done.code, Some(0), "{done:?}");
}
