//! The manual is whole and well-formed: each command has a page, each option stands on it, and no typesetter complains.

use clap::CommandFactory as _;
use shadowmesh_tests::manual::{Page, pages};
use std::process::Command;

fn programs() -> [clap::Command; 2] {
    [shadowmesh::cli::command(), shadowmesh_relay::cli::Cli::command()].map(|mut program| {
        program.build();
        program
    })
}

fn page<'a>(pages: &'a [Page], file: &str) -> &'a Page {
    pages.iter().find(|page| page.file == file).unwrap_or_else(|| panic!("no page {file}"))
}

/// As it stands in a page: the dash of an option is no hyphen.
fn set(text: &str) -> String {
    text.replace('-', "\\-")
}

fn is_whole(command: &clap::Command, name: &str, pages: &[Page], seen: &mut usize) {
    *seen += 1;
    let page = page(pages, &format!("{name}.1"));
    for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES"] {
        let heading = format!("\n.SH {section}\n");
        assert_eq!(page.text.matches(&heading).count(), 1, "{name}: {section}\n{}", page.text);
    }
    assert!(page.text.contains(".SH \"EXIT STATUS\""), "{name}");
    for argument in command.get_arguments() {
        let text = match argument.get_long() {
            Some(long) => set(&format!("--{long}")),
            None => set(argument.get_value_names().and_then(<[_]>::first).expect("a name").as_str()),
        };
        // A word of its own: `--watch` is not `--watch-out`.
        let stands = page.text.match_indices(&text).any(|(at, _)| {
            let after = page.text[at + text.len()..].chars().next();
            !after.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-')
        });
        assert_eq!(stands, !argument.is_hide_set(), "{name}: {text}\n{}", page.text);
    }
    let help = command.get_after_help().expect("an example").to_string();
    for line in help.lines().filter_map(|line| line.strip_prefix("  ")) {
        let first = line.split_whitespace().next().expect("a word");
        assert!(page.text.contains(&set(first)), "{name}: {line}");
    }
    for sub in command.get_subcommands() {
        let sub_name = format!("{name}-{}", sub.get_name());
        assert!(page.text.contains(&set(&format!("{sub_name}(1)"))), "{name} leads to {sub_name}");
        is_whole(sub, &sub_name, pages, seen);
    }
}

#[test]
fn each_command_has_a_page_with_each_of_its_options_and_examples() {
    let mut seen = 0;
    let mut made = 0;
    for program in programs() {
        let pages = pages(program.clone()).expect("made");
        made += pages.len();
        is_whole(&program, program.get_name(), &pages, &mut seen);
    }
    assert!(seen == made && seen > 30, "{seen} commands, {made} pages");
}

#[test]
fn pages_are_well_formed() {
    const MACROS: [&str; 12] = ["TH", "SH", "PP", "TP", "IP", "RS", "RE", "nf", "fi", "ie", "el", "br"];
    for page in programs().into_iter().flat_map(|program| pages(program).expect("made")) {
        let mut open = Vec::new();
        let title = page.text.lines().find(|line| line.starts_with(".TH ")).expect("a title");
        let name = page.file.strip_suffix(".1").expect("of the first section").to_uppercase();
        assert!(title.starts_with(&format!(".TH \"{name}\" \"1\" \"\" \"ShadowMesh ")), "{title}");
        assert_eq!(page.text.matches(".TH ").count(), 1, "{}", page.file);
        for line in page.text.lines() {
            assert_eq!(line, line.trim_end(), "{}", page.file);
            let Some(request) = line.strip_prefix('.') else { continue };
            let name = request.split(' ').next().expect("a word");
            assert!(MACROS.contains(&name), "{}: {line}", page.file);
            match name {
                "RS" => open.push("RE"),
                "nf" => open.push("fi"),
                "RE" | "fi" => assert_eq!(open.pop(), Some(name), "{}", page.file),
                _ => {}
            }
        }
        assert!(open.is_empty(), "{}: {open:?}", page.file);
    }
}

#[test]
fn no_typesetter_complains() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut files = Vec::new();
    for page in programs().into_iter().flat_map(|program| pages(program).expect("made")) {
        let file = dir.path().join(&page.file);
        std::fs::write(&file, &page.text).expect("written");
        files.push(file);
    }
    // Whichever of the two is here; the structure is checked above in any case.
    let checkers: [(&str, &[&str]); 2] =
        [("mandoc", &["-Tlint", "-Wwarning"]), ("groff", &["-man", "-Tutf8", "-ww", "-z"])];
    for (checker, options) in checkers {
        for file in &files {
            let Ok(done) = Command::new(checker).args(options).arg(file).output() else { break };
            let said = [done.stdout, done.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            // Pages are made anew for each build and have no date of their own, so that they are the same from the same source.
            let complaints: Vec<&str> = said.lines().filter(|line| !line.contains("missing date")).collect();
            assert!(complaints.is_empty(), "{checker}: {}", complaints.join("\n"));
        }
    }
}
