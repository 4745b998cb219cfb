//! `install` and `uninstall` into the root directory of another machine, by the machine's own systemctl and systemd-sysusers. What they do where
//! systemd runs is in the lab (`tests/lab/scenarios/service.sh`), and each refusal beside the code.

use crate::program::{Done, Home, invite, refused};
use shadowmesh::daemon::state_dir::StateDir;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: [&str; 2] = ["--program", "/usr/bin/shadowmesh"];

/// Whether the programs are here that a service is made with; says which is not.
#[expect(clippy::print_stdout, reason = "what was not tried is said, to whoever runs it with --no-capture")]
fn has_programs() -> bool {
    ["systemctl", "systemd-sysusers", "userdel", "groupdel"].iter().all(|program| {
        let is_here = Command::new(program).arg("--version").output().is_ok();
        if !is_here {
            println!("skipped: {program} is not installed on this machine");
        }
        is_here
    })
}

fn service(home: &Home, command: &str, root: &Path, more: &[&str]) -> Done {
    home.run(&[&[command, "--root", root.to_str().expect("text")], more].concat())
}

/// All files below, with what they hold or where they lead.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root).expect("a directory").map(|entry| entry.expect("an entry")) {
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_symlink() {
            let to = fs::read_link(&path).expect("a link");
            found.insert(path, to.display().to_string());
        } else if kind.is_dir() {
            found.extend(tree(&path));
        } else {
            let bytes = fs::read(&path).expect("read");
            found.insert(path, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    found
}

#[test]
fn an_image_gets_the_service_and_loses_all_of_it_again() {
    if !has_programs() {
        return;
    }
    let home = Home::new();
    let root = home.image();
    let before = tree(&root);
    let done = service(&home, "install", &root, &PROGRAM);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("starts with the machine"), "{done:?}");
    let link = root.join("etc/systemd/system/multi-user.target.wants/shadowmesh.service");
    assert!(fs::read_link(&link).is_ok_and(|to| to == Path::new("/etc/systemd/system/shadowmesh.service")));
    let user = || fs::read_to_string(root.join("etc/passwd")).expect("users");
    assert!(user().contains("\nshadowmesh:"), "{}", user());
    let config = fs::read_to_string(root.join("etc/shadowmesh/config.toml")).expect("an example");
    assert!(config.contains("\n# mtu = 1400\n"), "{config}");

    let first = tree(&root);
    let again = service(&home, "install", &root, &PROGRAM);
    assert_eq!((again.code, again.stderr.contains("wrote")), (Some(0), false), "{again:?}");
    assert_eq!(tree(&root), first);

    let gone = service(&home, "uninstall", &root, &["--purge", "--yes"]);
    assert_eq!(gone.code, Some(0), "{gone:?}");
    // What the tools for users keep beside their files is theirs.
    let theirs = ["passwd-", "group-", "shadow", "shadow-", "gshadow", "gshadow-", ".pwd.lock"];
    let mut after = tree(&root);
    theirs.iter().for_each(|name| drop(after.remove(&root.join("etc").join(name))));
    assert_eq!(after, before);
    assert!(!root.join("etc/shadowmesh").exists());
    let again = service(&home, "uninstall", &root, &["--purge", "--yes"]);
    assert_eq!((again.code, again.stderr.as_str()), (Some(0), "no service was installed\n"));
}

#[test]
fn a_unit_that_a_person_changed_is_shown_and_left() {
    let home = Home::new();
    home.stand_in(&["systemctl", "systemd-sysusers", "userdel", "groupdel"]);
    let root = home.image();
    assert_eq!(service(&home, "install", &root, &PROGRAM).code, Some(0));
    let unit = root.join("etc/systemd/system/shadowmesh.service");
    let changed = fs::read_to_string(&unit).expect("a unit").replace("RestartSec=2", "RestartSec=9");
    fs::write(&unit, &changed).expect("written");
    for command in ["install", "uninstall"] {
        let more: &[&str] = if command == "install" { &PROGRAM } else { &[] };
        let done = service(&home, command, &root, more);
        refused(&done, "is not as `shadowmesh install` wrote it");
        assert!(
            done.stderr.contains("\n  +RestartSec=2\n") && done.stderr.contains("  -RestartSec=9\n"),
            "{done:?}"
        );
        assert_eq!(fs::read_to_string(&unit).expect("kept"), changed);
    }
    let done = service(&home, "install", &root, &[&PROGRAM[..], &["--force"]].concat());
    assert!(done.code == Some(0) && done.stderr.contains("  -RestartSec=9\n"), "{done:?}");
    assert!(fs::read_to_string(&unit).expect("a unit").contains("\nRestartSec=2\n"));
}

#[test]
fn a_purge_says_what_is_lost_and_needs_a_word() {
    let home = Home::new();
    home.stand_in(&["systemctl", "systemd-sysusers", "userdel", "groupdel"]);
    let root = home.image();
    let state = root.join("var/lib/shadowmesh");
    let joined =
        || home.run(&["up", &invite("home"), "--device", "lo", "--state", state.to_str().expect("text")]);
    joined();
    assert_eq!(service(&home, "install", &root, &PROGRAM).code, Some(0));
    let done = service(&home, "uninstall", &root, &["--purge"]);
    refused(&done, "say --yes");
    assert!(
        done.stderr.contains("membership of home") && done.stderr.contains("this host's key"),
        "{done:?}"
    );
    assert!(root.join("etc/systemd/system/shadowmesh.service").exists(), "nothing was changed");

    let opened = StateDir::open(&state).expect("opened");
    let lock = opened.lock().expect("free");
    refused(&service(&home, "uninstall", &root, &["--purge", "--yes"]), "a daemon is already running");
    drop(lock);
    assert!(state.join("node.key").exists());
    assert_eq!(service(&home, "uninstall", &root, &["--purge", "--yes"]).code, Some(0));
    assert!(!state.exists());

    // An admin's key is not lost by a word that is typed every time.
    let made = ["network", "create", "office", "--relay", &crate::program::relay_ticket()];
    let made = home.run(&[&made[..], &["--state", state.to_str().expect("text")]].concat());
    assert_eq!(made.code, Some(0), "{made:?}");
    refused(&service(&home, "uninstall", &root, &["--purge", "--yes"]), "the key of an admin");
    assert!(state.join("admin.key").exists());
    let done = service(&home, "uninstall", &root, &["--purge", "--yes", "--discard-admin-key"]);
    assert!(done.code == Some(0) && done.stderr.contains("KEY OF AN ADMIN"), "{done:?}");
    assert!(!state.exists());
}

#[test]
fn root_writes_its_log_neither_by_a_link_nor_into_a_pipe() {
    let home = Home::new();
    home.run(&["up", &invite("home"), "--device", "lo"]);
    let (log, victim) = (home.state().join("daemon.log"), home.path("victim"));
    fs::write(&victim, "precious").expect("written");
    std::os::unix::fs::symlink(&victim, &log).expect("laid");
    // What has the name makes way; what it led to is as it was.
    let is_log = |log: &std::path::Path| fs::symlink_metadata(log).expect("there").is_file();
    refused(&home.run(&["up", "--detach"]), "lo exists");
    assert_eq!(fs::read_to_string(&victim).expect("read"), "precious");
    assert!(is_log(&log));
    fs::remove_file(&log).expect("removed");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &log, rustix::fs::FileType::Fifo, mode, 0).expect("made");
    // Nobody reads there: where it was written into this would not end.
    refused(&home.run(&["up", "--detach"]), "lo exists");
    assert!(is_log(&log));
}

#[test]
fn another_state_is_no_service() {
    let home = Home::new();
    refused(&home.run(&["install"]), "which a copy of the unit is made by hand");
    let unit = "which a copy of the unit is made by hand (deploy/README.md)";
    for command in ["install", "uninstall"] {
        for option in [["--network", "work"], ["--state", "/srv/mesh"], ["--socket", "/run/mesh"]] {
            for root in [&["--root", "/nowhere"][..], &[]] {
                refused(&home.run(&[&[command][..], &option, root].concat()), unit);
            }
        }
    }
    let readme = include_str!("../../../deploy/README.md");
    for step in ["`--network NAME`", "StateDirectory=shadowmesh/NAME", "ConditionPathExists="] {
        assert!(readme.contains(step), "{step}");
    }
    for wrong in [
        &["install", "--now", "--no-start"][..],
        &["install", "--now", "--root", "/x"],
        &["uninstall", "--discard-admin-key"],
    ] {
        assert_eq!(home.run(wrong).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn settings_of_a_file_win_and_are_never_written() {
    let home = Home::new();
    let file = home.path("settings.toml");
    let path = file.to_str().expect("text");
    fs::write(&file, "mtu = 1280\nmtuu = 1\n").expect("written");
    let up = |more: &[&str]| home.run(&[&["up", "--config", path, "--device", "lo"], more].concat());
    let fault = format!("{path} line 2, column 1 has the unknown field `mtuu`, did you mean `mtu`?");
    refused(&up(&[&invite("home")]), &fault);
    assert!(!home.state().join("network.toml").exists(), "nothing was remembered");

    // A name that no device can have: who runs it sees which one counted.
    fs::write(&file, "device = \"lo\"\nname = \"attic\"\n").expect("written");
    let text = fs::read_to_string(&file).expect("read");
    let first = home.run(&["up", "--config", path, &invite("home"), "--mtu", "1300"]);
    assert_eq!(first.code, Some(1), "no TAP device is called lo: {first:?}");
    assert!(!first.stderr.contains("says otherwise"), "{first:?}");
    let remembered = fs::read_to_string(home.state().join("config.toml")).expect("remembered");
    assert!(remembered.contains("\nmtu = 1300\n") && !remembered.contains("\ndevice ="), "{remembered}");
    assert!(!remembered.contains("\nname ="), "{remembered}");
    let other = home.run(&["up", "--config", path, "--name", "cellar"]);
    assert!(other.stderr.contains("says otherwise than what was given here"), "{other:?}");
    assert_eq!(fs::read_to_string(&file).expect("read"), text);
    let detached = home.run(&["up", "--detach", "--config", path]);
    assert_eq!(
        first.stderr.lines().last(),
        detached.stderr.lines().last(),
        "the file's device, in the background too"
    );
    refused(&home.run(&["up", "--config", "/nowhere"]), "/nowhere cannot be read");
}
