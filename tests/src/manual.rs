//! The manual: a page for each command of the two programs, made of the definitions that read the command line.
//!
//! A tool of the build and no command, so that what is shipped carries no typesetter. `clap_mangen` sets what clap knows; the text below
//! an option list, which is free in clap, has a form here that every command keeps to (a test holds them to it): `Example…:` with
//! indented lines, `Faults…:` with a line of two columns each, and on the programs' own pages `Exit codes:` and `Environment:`, which hold for all of their commands.

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io;

/// The section of the manual: commands of users.
const SECTION: &str = "1";
const MANUAL: &str = "ShadowMesh Manual";
/// What the typesetter puts before everything: how an apostrophe is written. Once a page is enough.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its file: `shadowmesh-network-create.1`.
    pub file: String,
    /// Its text, in the language of man(7).
    pub text: String,
}

/// What stands below the options in a help text.
#[derive(Debug, Default)]
struct Below {
    /// What each block is called, and its lines.
    examples: Vec<(String, Vec<String>)>,
    /// What stands above the list of faults, and the list.
    faults: Option<(String, Vec<String>)>,
    exit_codes: Option<String>,
    environment: Option<String>,
}

impl Below {
    fn of(command: &clap::Command) -> Self {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let mut below = Self::default();
        let mut paragraph: Option<&mut String> = None;
        for line in text.lines() {
            if let Some(example) = line.strip_prefix("  ") {
                let block = below.faults.as_mut().or_else(|| below.examples.last_mut());
                if let Some((_, lines)) = block {
                    lines.push(example.to_owned());
                }
            } else if line.starts_with("Faults") {
                below.faults = Some((line.to_owned(), Vec::new()));
            } else if line.starts_with("Example") {
                below.examples.push((line.trim_end_matches(':').to_owned(), Vec::new()));
            } else if let Some(rest) = line.strip_prefix("Exit codes: ") {
                paragraph = Some(below.exit_codes.insert(rest.to_owned()));
            } else if let Some(rest) = line.strip_prefix("Environment: ") {
                paragraph = Some(below.environment.insert(rest.to_owned()));
            } else if let Some(paragraph) = paragraph.as_mut().filter(|_| !line.is_empty()) {
                **paragraph += &format!(" {line}");
            }
        }
        below
    }
}

/// All pages of a program: its own, then those of its commands.
///
/// # Errors
/// None that is expected: pages are written to memory.
pub fn pages(mut program: clap::Command) -> io::Result<Vec<Page>> {
    program.build();
    let common = Below::of(&program);
    let mut pages = Vec::new();
    let program_name = program.get_name().to_owned();
    add(&program, &program_name, None, &common, &mut pages)?;
    Ok(pages)
}

fn add(
    command: &clap::Command,
    name: &str,
    above: Option<&str>,
    common: &Below,
    pages: &mut Vec<Page>,
) -> io::Result<()> {
    let below: Vec<(&clap::Command, String)> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .map(|sub| (sub, format!("{name}-{}", sub.get_name())))
        .collect();
    let related: Vec<&str> = above.into_iter().chain(below.iter().map(|(_, name)| name.as_str())).collect();
    pages.push(Page { file: format!("{name}.{SECTION}"), text: page(command, name, &related, common)? });
    below.iter().try_for_each(|(sub, sub_name)| add(sub, sub_name, Some(name), common, pages))
}

fn page(command: &clap::Command, name: &str, related: &[&str], common: &Below) -> io::Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone()).section(SECTION);
    // Not the typesetter's, which leaves out an argument that is empty, here the date: the next would be taken for it.
    let title =
        format!(".TH \"{}\" \"{SECTION}\" \"\" \"ShadowMesh {version}\" \"{MANUAL}\"\n", name.to_uppercase());
    let mut text = title.into_bytes();
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.get_subcommands().any(|sub| !sub.is_hide_set()) {
        man.render_subcommands_section(&mut text)?;
    }
    let mut roff = Roff::new();
    let below = Below::of(command);
    if let Some((words, list)) = &below.faults {
        faults(&mut roff, words, list);
    }
    examples(&mut roff, &below.examples);
    for (title, words) in [("EXIT STATUS", &common.exit_codes), ("ENVIRONMENT", &common.environment)] {
        if let Some(words) = words {
            roff.control("SH", [title]).text([roman(words)]);
        }
    }
    if let Some((last, others)) = related.split_last() {
        roff.control("SH", ["SEE ALSO"]);
        others.iter().for_each(|other| {
            roff.text([bold(*other), roman(format!("({SECTION}),"))]);
        });
        roff.text([bold(*last), roman(format!("({SECTION})"))]);
    }
    roff.to_writer(&mut text)?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    Ok(format!("{PREAMBLE}{}", tidy(&text.replace(PREAMBLE, ""))))
}

fn examples(roff: &mut Roff, blocks: &[(String, Vec<String>)]) {
    roff.control("SH", ["EXAMPLES"]);
    for (title, lines) in blocks {
        if title != "Example" {
            roff.control("PP", []).text([roman(format!("{title}:"))]);
        }
        roff.control("PP", []).control("RS", ["4"]).control("nf", []);
        lines.iter().for_each(|line| {
            roff.text([roman(line)]);
        });
        roff.control("fi", []).control("RE", []);
    }
}

/// A paragraph each, with the name of the fault beside it.
fn faults(roff: &mut Roff, words: &str, list: &[String]) {
    roff.control("SH", ["FAULTS"]).text([roman(words)]);
    for line in list {
        let (name, what) = line.split_once("  ").unwrap_or((line, ""));
        roff.control("TP", []).text([bold(name)]).text([roman(what.trim_start())]);
    }
}

/// Without what a checker of manuals complains about: blanks at the end of a line, paragraphs that are empty because a section begins.
fn tidy(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let is_section = line.starts_with(".SH");
        while is_section && lines.last() == Some(&".PP") {
            lines.pop();
        }
        let is_second_break = line == ".br" && lines.last() == Some(&".br");
        if !(is_second_break
            || line == ".PP" && lines.last().is_some_and(|last| last.starts_with(".SH") || *last == ".PP"))
        {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}
