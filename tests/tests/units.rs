//! The units by what systemd itself says of them: nothing in them is unknown to it, and what they are exposed to.

#![expect(clippy::print_stdout, reason = "what was not tried is said, to whoever runs it with --no-capture")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The highest exposure that is accepted, in tenths: 3.0.
const THRESHOLD: u32 = 30;
const UNITS: [&str; 2] = ["shadowmesh.service", "shadowmesh-relay.service"];

fn has_systemd_analyze() -> bool {
    let is_here = Command::new("systemd-analyze").arg("--version").output().is_ok();
    if !is_here {
        println!("skipped: systemd-analyze is not installed on this machine");
    }
    is_here
}

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").join("deploy/systemd")
}

/// What `systemd-analyze security` says of a unit: whether it is within `threshold`, and its table.
fn security(unit: &Path, threshold: u32) -> (bool, String) {
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager", &format!("--threshold={threshold}")]).arg(unit);
    let done = command.output().expect("run");
    let said = [done.stdout.as_slice(), &done.stderr].map(String::from_utf8_lossy).concat();
    assert!(said.contains("Overall exposure level"), "{said}");
    (done.status.success(), said)
}

/// A unit with what its drop-ins say after it: later lines count.
fn with_drop_in(dir: &Path, drop_in: &str) -> PathBuf {
    let (unit, more) = (units().join(UNITS[0]), units().join("shadowmesh.service.d").join(drop_in));
    let text = fs::read_to_string(unit).expect("a unit") + &fs::read_to_string(more).expect("a drop-in");
    let file = dir.join(UNITS[0]);
    fs::write(&file, text).expect("written");
    file
}

#[test]
fn what_they_are_exposed_to_is_within_what_is_promised() {
    if !has_systemd_analyze() {
        return;
    }
    for unit in UNITS {
        let (is_within, said) = security(&units().join(unit), THRESHOLD);
        assert!(is_within, "{unit}: {said}");
    }
    let home = tempfile::tempdir().expect("a directory");
    for drop_in in ["names.conf", "bridge.conf"] {
        let (is_within, said) = security(&with_drop_in(home.path(), drop_in), THRESHOLD);
        assert!(is_within, "{drop_in}: {said}");
    }
    // It can fail: a unit without any of it.
    let bare = home.path().join("bare.service");
    fs::write(&bare, "[Service]\nExecStart=/bin/true\n").expect("written");
    assert!(!security(&bare, THRESHOLD).0);
}

#[test]
fn systemd_knows_every_line_of_them() {
    if !has_systemd_analyze() {
        return;
    }
    let verify = |unit: &Path| {
        let done =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit).output().expect("run");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        // Of this machine's own units nothing is said here.
        said.lines()
            .filter(|line| line.contains("shadowmesh"))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join(UNITS[0]);
    for (unit, drop_in) in
        [(UNITS[0], None), (UNITS[0], Some("names.conf")), (UNITS[0], Some("bridge.conf")), (UNITS[1], None)]
    {
        let text = match drop_in {
            Some(drop_in) => fs::read_to_string(with_drop_in(home.path(), drop_in)),
            None => fs::read_to_string(units().join(unit)),
        };
        // The programs need not be installed here.
        let text = text
            .expect("a unit")
            .replace("/usr/bin/shadowmesh-relay", "/bin/true")
            .replace("/usr/bin/shadowmesh", "/bin/true");
        fs::write(&file, &text).expect("written");
        assert_eq!(verify(&file), "", "{unit} {drop_in:?}");
        fs::write(&file, text.replace("ProtectClock=", "ProtectClocks=")).expect("written");
        assert!(verify(&file).contains("ProtectClocks"), "it can fail");
    }
}
