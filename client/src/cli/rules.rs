//! `shadowmesh rules`: the access rules of a network, as a text.
//!
//! Errors are said as compilers say them, `FILE:LINE:COLUMN: sentence`, so that editors jump there; below stand the line and a caret.

use super::documents::{Remark, RulesChecked, RulesShown};
use super::global::Global;
use super::output::{self, counted};
use crate::control::message::{Change, Member, Members};
use anyhow::{Context as _, bail};
use shadowmesh_proto::ids::NodeId;
use shadowmesh_proto::rules::{Fault, Known, MAX_BYTES, Rules, Warning, Wrong};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Look at the access rules of a network
///
/// A rule a line, the first that matches decides, and what no rule allows is denied once there is a rule; answers to what a host
/// sent pass by themselves. Hosts are named by tag, name or id: `any`, `tag:NAME`, `name:NAME`, `id:START`. `shadowmesh up --rules FILE`
/// enforces a file on this node, by id alone. `rules publish` makes a text that of a network with certificates: its record vouches for
/// names and tags, and nodes without a file keep to it.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, after_help = EXAMPLE)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "Example of rules:
  allow id:4k7dqx2mzp -> any                      # the start of an id, from `shadowmesh status --json`
  allow any -> any tcp 22,443,8000-8010
  allow any -> any icmp

Example:
  shadowmesh rules check office.rules
  sudo shadowmesh up --rules office.rules
  sudo shadowmesh reload                          # after the file was changed";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say what is wrong with a text of rules, with line and column, and what is odd about it
    #[command(after_help = "Example:\n  shadowmesh rules check office.rules --tags admin,server\n  \
                            shadowmesh rules check --json - < office.rules | jq .errors")]
    Check(Check),
    /// Make a text the rules of the network, signed with its record; only on an admin's host
    #[command(after_help = "Example:\n  sudo shadowmesh rules publish office.rules")]
    Publish(Publish),
    /// Print the rules of the network, as they were published last
    #[command(after_help = "Example:\n  sudo shadowmesh rules show > office.rules")]
    Show,
}

#[derive(Debug, clap::Args)]
struct Publish {
    /// The text, or - for stdin
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Check {
    /// The text, or - for stdin
    file: PathBuf,

    /// Tags that the hosts of the network have, to be warned of others
    #[arg(long, value_name = "TAG,...", value_delimiter = ',')]
    tags: Option<Vec<String>>,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Check(check) => self::check(global, check),
        Command::Publish(args) => publish(global, args),
        Command::Show => show(global),
    }
}

fn publish(global: &Global, args: &Publish) -> anyhow::Result<()> {
    let text = String::from_utf8(read(&args.file)?).context("the rules are no text")?;
    if let Err(faults) = Rules::parse(text.as_bytes()) {
        let first = faults.first().map(|fault| format!(":{}:{}: {fault}", fault.line, fault.column));
        bail!("{}{}", name(&args.file), first.unwrap_or_default());
    }
    // What is not known of the network is not said; whether it may be changed says the change itself.
    if let Ok(members) = super::members::ask(global) {
        for warning in odd(&text, &members) {
            output::note(&pointed(&name(&args.file), "warning: ", &warning, &text));
        }
    }
    super::members::change(global, Change::SetRules { text })
}

/// What is odd about rules that read, in a network with these members.
fn odd(text: &str, members: &Members) -> Vec<Remark> {
    let is_one = |member: &&Member| !matches!(member.standing.as_str(), "revoked" | "pending");
    let known = || members.members.iter().filter(is_one);
    let tags: Vec<String> = known().flat_map(|member| member.tags.iter().cloned()).collect();
    let names: Vec<String> = known().map(|member| member.name.clone()).collect();
    let ids: Vec<NodeId> = known().filter_map(|member| NodeId::from_base32(&member.id)).collect();
    let known = Known { tags: Some(&tags), names: Some(&names), ids: Some(&ids) };
    let checked = Rules::check(text.as_bytes(), &known);
    checked.map_or_else(|_| Vec::new(), |checked| checked.warnings.iter().map(Remark::from).collect())
}

fn show(global: &Global) -> anyhow::Result<()> {
    let text = super::members::ask(global)?.rules;
    if global.json {
        return output::document(&RulesShown { text });
    }
    match text {
        None => output::note("the network's record has no rules: what a host has no file for is let in"),
        Some(text) => output::data(&shown(&text))?,
    }
    Ok(())
}

/// As it was published, but for characters that a terminal could take for a command.
fn shown(text: &str) -> String {
    let visible = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { '·' } else { c };
    text.trim_end().chars().map(visible).collect()
}

impl From<&Fault> for Remark {
    fn from(fault: &Fault) -> Self {
        Self {
            line: fault.line,
            column: fault.column,
            word: Some(fault.word.clone()),
            sentence: fault.to_string(),
            suggestion: fault.suggestion.clone(),
            has_line: !matches!(fault.wrong, Wrong::TooLong | Wrong::TooLongWritten(_)),
        }
    }
}

impl From<&Warning> for Remark {
    fn from(warning: &Warning) -> Self {
        let (line, column, sentence) = (warning.line, warning.column, warning.to_string());
        Self { line, column, word: None, sentence, suggestion: None, has_line: true }
    }
}

fn check(global: &Global, args: &Check) -> anyhow::Result<()> {
    let text = read(&args.file)?;
    let known = Known { tags: args.tags.as_deref(), ..Known::default() };
    let report = match Rules::check(&text, &known) {
        Ok(checked) => {
            let refused = Rules::parse_by_id(&text).err().unwrap_or_default();
            // One is enough: where there is one, there are many.
            let warnings = checked.warnings.iter().map(Remark::from).chain(refused.first().map(Remark::from));
            let mut warnings: Vec<_> = warnings.collect();
            warnings.sort_by_key(|warning| (warning.line, warning.column));
            RulesChecked {
                valid: true,
                enforceable: refused.is_empty(),
                rules: Some(checked.rules.len()),
                errors: Vec::new(),
                warnings,
                canonical: Some(checked.rules.to_string()),
            }
        }
        Err(faults) => RulesChecked {
            valid: false,
            enforceable: false,
            rules: None,
            errors: faults.iter().map(Remark::from).collect(),
            warnings: Vec::new(),
            canonical: None,
        },
    };
    let name = name(&args.file);
    if global.json {
        output::document(&report)?;
    } else {
        let text = String::from_utf8_lossy(&text);
        report.errors.iter().for_each(|error| output::note(&pointed(&name, "", error, &text)));
        report.warnings.iter().for_each(|warning| output::note(&pointed(&name, "warning: ", warning, &text)));
    }
    let Some(rules) = report.rules else {
        bail!("{name} has {}: these rules cannot be used", counted(report.errors.len(), "error"))
    };
    if !global.json {
        let warnings = match report.warnings.len() {
            0 => String::new(),
            n => format!(", {}", counted(n, "warning")),
        };
        let rest = if rules == 0 { "everything is allowed" } else { "what none of them allows is denied" };
        let what =
            if report.enforceable { "can be used" } else { "can be published, but not be a host's own file" };
        output::note(&format!("{name} {what}: {}{warnings}; {rest}", counted(rules, "rule")));
    }
    Ok(())
}

/// At most a byte more than may be read, whatever the file is.
fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    let most = MAX_BYTES as u64 + 1;
    if file == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut text).context("cannot read rules from stdin")?;
    } else {
        let open = File::open(file).and_then(|open| open.take(most).read_to_end(&mut text));
        open.with_context(|| format!("cannot read {}", file.display()))?;
    }
    Ok(text)
}

fn name(file: &Path) -> String {
    if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() }
}

/// A remark, the line that it is about, and a caret below.
fn pointed(name: &str, kind: &str, remark: &Remark, text: &str) -> String {
    let Remark { line, column, sentence, has_line, .. } = remark;
    if !has_line {
        return format!("{name}: {kind}{sentence}");
    }
    let head = format!("{name}:{line}:{column}: {kind}{sentence}");
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(shown) = text.split('\n').nth(line.saturating_sub(1)).filter(|shown| !shown.trim().is_empty())
    else {
        return head;
    };
    let (shown, caret) = window(shown.trim_end(), column.saturating_sub(1));
    format!("{head}\n    {shown}\n    {caret}")
}

/// Columns of a line that are shown.
const WIDTH: usize = 100;

/// As much of a line as fits a terminal, around the character `at`, and a caret below that. A character that a terminal could take
/// for a command, or that takes another width than one column, is shown as a dot; each takes one column, so the caret is where it is.
fn window(line: &str, at: usize) -> (String, String) {
    let begin = if at < WIDTH * 3 / 4 { 0 } else { at - WIDTH / 2 };
    let dot = |c: char| match c {
        '\t' => ' ',
        c if c.is_ascii_graphic() || c == ' ' => c,
        c if ('\u{a1}'..='\u{24f}').contains(&c) && c != '\u{ad}' => c,
        _ => '·',
    };
    let shown: String = line.chars().skip(begin).take(WIDTH).map(dot).collect();
    let before: String = std::iter::repeat_n(' ', at - begin).collect();
    (shown.trim_end().to_owned(), before + "^")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remark(line: usize, column: usize) -> Remark {
        Remark { line, column, word: None, sentence: "odd".into(), suggestion: None, has_line: true }
    }

    #[test]
    fn a_caret_stands_below_the_word() {
        let text = "\u{feff}# first\n\tallow \u{fc}\u{6f22}\u{1b}x -> any\r\nlast";
        assert_eq!(pointed("f", "", &remark(2, 8), text), "f:2:8: odd\n     allow ü··x -> any\n           ^");
        assert_eq!(
            pointed("f", "warning: ", &remark(3, 5), text),
            "f:3:5: warning: odd\n    last\n        ^"
        );
        assert_eq!(pointed("f", "", &remark(4, 1), text), "f:4:1: odd", "there is no such line");
    }

    #[test]
    fn what_is_shown_commands_no_terminal() {
        assert_eq!(shown("# a\x1b[2J\u{9b}b\n\tallow any -> any\r\n\n"), "# a·[2J·b\n\tallow any -> any");
    }

    #[test]
    fn a_long_line_is_shown_around_the_word() {
        let line = format!("{}HERE{}", "a".repeat(1_000), "b".repeat(1_000));
        let (shown, caret) = window(&line, 1_000);
        assert_eq!(shown.chars().count(), WIDTH);
        let begun = caret.chars().count() - 1;
        assert_eq!(shown.get(begun..begun + 4), Some("HERE"));
    }
}
