//! `doctor` without a daemon or a network: what is wrong with the state is found, the line that it prints is run as it stands, and the
//! fault is gone. What takes a network is in the lab (`tests/lab/scenarios/doctor.sh`).

use crate::answered::play;
use crate::program::{Done, Home, invite, refused};
use serde_json::Value;
use shadowmesh::control::message::{Request, Response};
use shadowmesh::control::status::{Peer, Status};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Far more than the deadlines of all that `doctor` asks, one after another.
const PATIENCE: Duration = Duration::from_secs(60);

fn report(home: &Home) -> Value {
    let done = home.run(&["doctor", "--json"]);
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

/// The line for what this check found.
#[track_caller]
fn line(report: &Value, id: &str) -> String {
    let mut findings = report["findings"].as_array().expect("findings").iter();
    let found = findings.find(|found| found["id"] == id).unwrap_or_else(|| panic!("no {id} in {report}"));
    found["line"].as_str().expect("a line").to_owned()
}

fn is_clean(report: &Value, id: &str) -> bool {
    report["clean"].as_array().expect("a list").iter().any(|clean| clean["id"] == id)
}

/// Types a line: with this program, and as a user who is root where it says sudo.
fn typed(home: &Home, line: &str) -> Done {
    let bin = home.path("bin");
    fs::create_dir_all(&bin).expect("made");
    let sudo = bin.join("sudo");
    fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n").expect("written");
    fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755)).expect("set");
    let program = Path::new(env!("CARGO_BIN_EXE_shadowmesh")).parent().expect("a directory");
    let path =
        format!("{}:{}:{}", bin.display(), program.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("PATH", path).stdin(Stdio::null());
    Done::of(command.output().expect("run"))
}

/// A host in a network, whose daemon cannot start.
fn joined() -> Home {
    let home = Home::new();
    home.run(&["up", &invite("home"), "--device", "lo"]);
    assert!(home.state().join("network.toml").exists());
    home
}

#[test]
fn a_mistyped_key_is_mended_by_the_line() {
    let home = joined();
    let file = home.state().join("config.toml");
    let text = fs::read_to_string(&file).expect("a configuration") + "mtuu = 1300\nflod_budget = \"none\"\n";
    fs::write(&file, &text).expect("written");
    // All are told at once.
    let line_for = || line(&report(&home), "config");
    let line = line_for();
    assert_eq!(typed(&home, &line).code, Some(0), "{line}");
    assert!(is_clean(&report(&home), "config"));
    let mended = fs::read_to_string(&file).expect("a configuration");
    assert!(mended.contains("\nmtu = 1300\nflood_budget = \"none\"\n"), "{mended}");
    // A value that cannot be, and a key like nothing.
    fs::write(&file, mended.replace("1300", "13") + "colour = 1\n").expect("written");
    let line = line_for();
    assert_eq!(typed(&home, &line).code, Some(0), "{line}");
    assert!(is_clean(&report(&home), "config"));
    let mended = fs::read_to_string(&file).expect("a configuration");
    assert!(mended.contains("\n# mtu = 13\n") && mended.contains("\n# colour = 1\n"), "{mended}");
}

#[test]
fn a_file_of_settings_is_mended_by_the_line_and_counts() {
    let home = joined();
    let file = home.path("mesh.toml");
    let path = file.to_str().expect("text");
    let report = || {
        let done = home.run(&["doctor", "--json", "--config", path]);
        serde_json::from_str::<Value>(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
    };
    // It is not there, then it has a mistake, then a relay of its own, which is looked for.
    let missing = line(&report(), "settings");
    assert_eq!(typed(&home, &missing).code, Some(0), "{missing}");
    assert!(is_clean(&report(), "settings"));
    fs::write(&file, format!("relayz = [\"{}\"]\n", crate::program::relay_ticket())).expect("written");
    let before = report();
    let mistake = line(&before, "settings");
    assert_eq!(typed(&home, &mistake).code, Some(0), "{mistake}");
    assert!(is_clean(&report(), "settings"), "{}", report());
    assert!(fs::read_to_string(&file).expect("settings").starts_with("relays = ["));
    let daemon = line(&report(), "daemon");
    assert!(daemon.ends_with(&format!("up --detach --config {path}")), "{daemon}");
    // Without, nothing is said of it.
    assert!(line(&self::report(&home), "daemon").ends_with("up --detach"));
}

#[test]
fn keys_that_others_may_read_are_closed_by_the_line() {
    let home = joined();
    for (name, mode) in [("node.key", 0o644), ("network.toml", 0o660)] {
        fs::set_permissions(home.state().join(name), fs::Permissions::from_mode(mode)).expect("set");
    }
    let line = line(&report(&home), "secrets");
    assert_eq!(typed(&home, &line).code, Some(0), "{line}");
    assert!(is_clean(&report(&home), "secrets"));
    let mode =
        |name: &str| fs::metadata(home.state().join(name)).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode("node.key"), mode("network.toml")), (0o600, 0o600));
}

#[test]
fn a_host_in_no_network_joins_by_the_line() {
    let home = Home::new();
    let before = report(&home);
    let line = line(&before, "network").replace("smi1...", &invite("home"));
    // No daemon of a test works: this one comes as far as a relay that is not there, or the kernel that lets it make no device.
    let line = format!("{line} --device lo");
    typed(&home, &line);
    assert_eq!(before["healthy"], Value::Bool(false));
    assert!(is_clean(&report(&home), "network"));
}

#[test]
fn a_damaged_state_is_left_and_joined_anew_by_the_line() {
    let home = joined();
    fs::write(home.state().join("network.toml"), "secret = 1\n").expect("written");
    let found = report(&home);
    let line = line(&found, "state-damage").replace("smi1...", &invite("home"));
    typed(&home, &line);
    let after = report(&home);
    assert!(is_clean(&after, "state-damage") && is_clean(&after, "network"), "{after}");
}

#[test]
fn a_newer_state_is_said_to_be_one() {
    let home = joined();
    fs::write(home.state().join("state.toml"), "version = 99\n").expect("written");
    let found = report(&home);
    let newer =
        found["findings"].as_array().expect("findings").iter().find(|found| found["id"] == "state-layout");
    assert!(newer.is_some_and(|newer| newer["line"].is_null()), "{found}");
}

#[test]
fn looking_changes_nothing() {
    let home = joined();
    let listing = |home: &Home| {
        let mut all: Vec<_> = fs::read_dir(home.state())
            .expect("listed")
            .map(|entry| entry.expect("an entry"))
            .map(|entry| {
                (
                    entry.file_name(),
                    fs::read(entry.path()).expect("read"),
                    entry.metadata().expect("known").modified().expect("known"),
                )
            })
            .collect();
        all.sort();
        all
    };
    let before = listing(&home);
    let done = home.run(&["doctor"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    refused(&done, "found");
    assert!(done.stdout.contains("FAULT: no daemon is running"), "{done:?}");
    assert_eq!(listing(&home), before);
    let nowhere = Home::new();
    nowhere.run(&["doctor"]);
    assert!(!nowhere.state().exists(), "looking makes nothing");
}

#[test]
fn an_archive_names_nobody_and_is_written_once() {
    let home = joined();
    let playing = play(&home, |request| match request {
        Request::Status => {
            let peers = vec![Peer {
                name: "annas-laptop".into(),
                addresses: vec!["10.7.9.9/16".into()],
                ..Peer::default()
            }];
            Some(Response::Status(Box::new(Status {
                version: env!("CARGO_PKG_VERSION").into(),
                peers,
                ..Status::default()
            })))
        }
        Request::Netcheck
        | Request::Members
        | Request::Reload
        | Request::Down
        | Request::Ping { .. }
        | Request::Path { .. }
        | Request::Invite { .. }
        | Request::AdminId { .. }
        | Request::Export
        | Request::Change(_) => Some(Response::Leaving),
    });
    let file = home.path("help.tar.gz");
    let args = ["doctor", "--bundle", file.to_str().expect("text")];
    let done = home.run(&args);
    assert!(done.stderr.contains("README.txt") && done.stderr.contains("status.json"), "{done:?}");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    let mut text = String::new();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(&file).expect("opened")));
    for entry in archive.entries().expect("a tar") {
        std::io::Read::read_to_string(&mut entry.expect("an entry"), &mut text).expect("text");
    }
    assert!(text.contains("\"name\": \"name-"), "{text}");
    let network = fs::read_to_string(home.state().join("network.toml")).expect("a network");
    let secret =
        network.lines().find_map(|line| line.strip_prefix("secret = ")).expect("a secret").trim_matches('"');
    let key = fs::read_to_string(home.state().join("node.key")).expect("a key");
    for secret in ["annas-laptop", "10.7.9.9", secret, key.trim()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    refused(&home.run(&args), "cannot make");
    playing.end();
}

#[test]
fn a_daemon_that_does_not_answer_and_files_that_are_none_are_not_waited_for() {
    let home = joined();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    for name in ["members", "daemon.log"] {
        let file = home.state().join(name);
        let _ = fs::remove_file(&file);
        rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, mode, 0).expect("made");
    }
    let playing = play(&home, |_| None);
    let archive = home.path("help.tar.gz");
    let mut command = home.command(&["doctor", "--json", "--bundle", archive.to_str().expect("text")]);
    let mut doctor = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let began = Instant::now();
    while doctor.try_wait().expect("watched").is_none() {
        if began.elapsed() > PATIENCE {
            doctor.kill().expect("ended");
            panic!("it did not end within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let done = Done::of(doctor.wait_with_output().expect("ended"));
    let report: Value =
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    let found: Vec<&str> = report["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .filter_map(|found| found["id"].as_str())
        .collect();
    assert!(found.contains(&"silent") && found.contains(&"state-damage"), "{found:?}");
    assert!(!found.contains(&"two-daemons"), "{found:?}");
    playing.end();
}
