//! `shadowmesh doctor`: what is wrong on this host, and what to type.

use super::global::Global;
use super::output::{self, clean, counted, wrapped};
use super::{runtime, vocabulary};
use crate::doctor::{Report, Severity, bundle, examine, gather, looks_at};
use anyhow::{Context as _, bail};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Say what is wrong on this host, and the line that mends it
///
/// Looks at the machine, the state directory, the daemon, its device and the relays, and changes nothing. Root sees all of it. Exit code
/// 0 without a fault, where there may be warnings and hints; 1 with one.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub(super) struct Args {
    /// Write an archive for who helps: status, counters, settings and log, with names, addresses and keys replaced and without secrets
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,

    /// Look at this file of settings [default: what the daemon reads, or the service]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

const EXAMPLE: &str = "\
Example:
  sudo shadowmesh doctor
  sudo shadowmesh doctor --json | jq -r '.findings[].line'
  sudo shadowmesh doctor --bundle for-help.tar.gz
";

/// The example, and what is looked at, as the checks themselves say it.
fn after_help() -> String {
    let widest = looks_at().map(|(id, _)| id.len()).max().unwrap_or_default();
    let mut text = format!("{EXAMPLE}\nFaults, each by its name and by what is so where it is not there:\n");
    for (id, what) in looks_at() {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {id:widest$}  {what}");
    }
    text
}

/// Of a terminal that nobody has made wider.
const WIDTH: usize = 80;
const INDENT: &str = "    ";

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let config = args.config.as_ref().map(std::path::absolute).transpose();
    let config = config.context("the working directory is gone")?;
    let facts = runtime.block_on(gather(global.call(), config))?;
    let report = examine(&facts);
    let parts = args.bundle.as_ref().map(|_| {
        let ordinary = vocabulary::words(&super::command());
        runtime.block_on(bundle::parts(&facts, &report, ordinary))
    });
    // A name that is still being looked up is no reason to wait.
    runtime.shutdown_background();
    if let (Some(file), Some(parts)) = (&args.bundle, &parts) {
        bundle::write(file, parts).with_context(|| format!("cannot make {}", file.display()))?;
    }
    if global.json {
        output::document(&report)?;
    } else {
        output::data(table(&report).trim_end())?;
    }
    if let (Some(file), Some(parts)) = (&args.bundle, parts) {
        let names: Vec<String> = parts.into_iter().map(|part| part.name).collect();
        output::note(&format!("wrote {}: {}", file.display(), names.join(", ")));
        output::note(
            "names, addresses and keys in it are replaced, and no secret is in it; look at it before you hand it on",
        );
    }
    let faults = report.findings.iter().filter(|finding| finding.severity == Severity::Fault).count();
    if faults > 0 {
        bail!("{} found", counted(faults, "fault"));
    }
    Ok(())
}

/// For people, in [`WIDTH`] columns but for a line to copy, which stands alone on its line, however long it is.
fn table(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    for finding in &report.findings {
        let severity = match finding.severity {
            Severity::Fault => "FAULT",
            Severity::Warning => "warning",
            Severity::Hint => "hint",
        };
        let sentence = format!("{severity}: {} ({})", clean(&finding.sentence, 600), finding.id);
        wrapped(&sentence, WIDTH).iter().for_each(|line| {
            let _ = writeln!(text, "{line}");
        });
        if let Some(line) = &finding.line {
            let host = finding.host.as_ref().map(|host| format!("on {}: ", clean(host, 100)));
            let _ = writeln!(text, "{INDENT}{}{}", host.unwrap_or_default(), clean(line, 4_000));
        }
    }
    let what: Vec<&str> = report.clean.iter().map(|looked| looked.what.as_str()).collect();
    if report.findings.is_empty() {
        let _ = writeln!(text, "nothing is wrong. {} looked at:", counted(what.len(), "thing"));
    } else {
        let _ = writeln!(text, "\nin order ({}):", what.len());
    }
    let list = |text: &mut String, item: &str| {
        for (n, line) in wrapped(item, WIDTH - 2 * INDENT.len()).iter().enumerate() {
            let _ = writeln!(text, "{INDENT}{}{line}", if n == 0 { "" } else { INDENT });
        }
    };
    what.iter().for_each(|what| list(&mut text, what));
    if !report.unknown.is_empty() {
        let _ = writeln!(text, "not looked at:");
    }
    for unknown in &report.unknown {
        list(&mut text, &format!("{}: {}", unknown.id, unknown.why));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Finding, Looked, NotLooked};

    #[test]
    fn the_help_lists_every_fault() {
        let help = after_help();
        let (example, list) = help.split_once("\nFaults").expect("a list");
        assert!(example.starts_with("Example:\n") && example.contains("--bundle"));
        let listed: Vec<&str> =
            list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        let checks: Vec<&str> = looks_at().map(|(id, _)| id).collect();
        assert!(checks.len() > 40, "{checks:?}");
        assert_eq!(listed, checks);
    }

    #[test]
    fn a_line_to_copy_stands_whole_on_a_line_and_drives_no_terminal() {
        let finding = Finding {
            id: "x".into(),
            severity: Severity::Fault,
            sentence: "b\x1b[2J is wrong".into(),
            line: Some("sudo mend it".into()),
            host: Some("the relay".into()),
        };
        let mut report = Report {
            version: "1".into(),
            healthy: false,
            findings: vec![finding.clone(), Finding { host: None, severity: Severity::Hint, ..finding }],
            clean: vec![Looked { id: "y".into(), what: "all is well".into() }],
            unknown: vec![NotLooked { id: "z".into(), why: "it is dark".into() }],
        };
        assert_eq!(
            table(&report),
            "FAULT: b[2J is wrong (x)\n    on the relay: sudo mend it\nhint: b[2J is wrong (x)\n    sudo mend it\n\n\
             in order (1):\n    all is well\nnot looked at:\n    z: it is dark\n"
        );
        report.findings[0].sentence = "alpha ".repeat(80);
        report.findings[0].host = None;
        report.clean[0].what = "beta ".repeat(20);
        report.unknown[0].why = "gamma ".repeat(20);
        let text = table(&report);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(["alpha", "beta", "gamma"].map(|word| text.matches(word).count()), [80, 20, 20], "{text}");
        report.findings.clear();
        report.clean[0].what = "all is well".into();
        assert!(table(&report).starts_with("nothing is wrong. 1 thing looked at:\n    all is well\n"));
    }
}
