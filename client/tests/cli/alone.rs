//! Without a daemon: what is refused, with which words, and what it leaves behind.

use crate::program::{Done, Home, expired_invite, invite, refused, relay_ticket};
use shadowmesh::daemon::state_dir::StateDir;
use shadowmesh_proto::ticket::Invite;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

#[test]
fn tickets_are_refused_with_a_sentence_that_says_why() {
    let home = Home::new();
    let relay = relay_ticket();
    let damaged = &relay[..relay.len() - 2];
    for (args, why) in [
        (vec!["up", "--relay", damaged], "damaged"),
        (vec!["up", "--relay", &invite("home")], "this is an invite"),
        (vec!["up", &relay], "this is a relay ticket"),
        (vec!["up", &expired_invite()], "expired"),
        (vec!["up", "hello"], "not a ShadowMesh ticket"),
        (vec!["up"], "in no network yet"),
    ] {
        refused(&home.run(&args), why);
    }
    assert!(!home.state().join("network.toml").exists());
    assert!(!home.state().join("node.key").exists());
}

#[test]
fn rules_with_a_fault_keep_a_daemon_from_starting() {
    let home = Home::new();
    let file = home.path("office rules");
    let up = |rules: &str, text: &str| {
        fs::write(&file, text).expect("written");
        let args = ["up", &invite("home"), "--device", "lo", "--rules", rules];
        let mut command = home.command(&args);
        Done::of(command.current_dir(home.path("")).output().expect("run"))
    };
    let path = file.to_str().expect("text");
    refused(&up(path, "allow any > any"), &format!("{path}:1:11: expected `->` instead of `>`"));
    refused(
        &up("office rules", "allow name:a -> any"),
        &format!("{path}:1:7: `name:a` names somebody only in rules that an admin publishes"),
    );
    refused(&up("./nowhere", ""), "nowhere cannot be read");
    assert!(!home.state().join("network.toml").exists(), "nothing was remembered");

    let done = up("office rules", "allow any -> any icmp");
    assert_eq!(done.code, Some(1), "no TAP device is called lo: {done:?}");
    assert!(!done.stderr.contains("rules"), "{done:?}");
    let config = fs::read_to_string(home.state().join("config.toml")).expect("remembered");
    assert!(config.contains(&format!("\nrules = \"{path}\"\n")), "{config}");
    fs::write(&file, "allow").expect("written");
    refused(&home.run(&["up"]), &format!("{path}:1:6: the line ends where any, tag:NAME"));

    // Back to those of the network's record.
    let done = home.run(&["up", "--rules", "none"]);
    assert!(done.code == Some(1) && !done.stderr.contains("rules"), "no TAP device is called lo: {done:?}");
    let config = fs::read_to_string(home.state().join("config.toml")).expect("remembered");
    assert!(!config.contains("\nrules = "), "{config}");
}

#[test]
fn an_invite_comes_from_stdin_too() {
    let home = Home::new();
    refused(&home.run_with_stdin(&["up", "-"], ""), "no invite on stdin");
    refused(&home.run_with_stdin(&["up", "-"], &(relay_ticket() + "\n")), "this is a relay ticket");
    let done =
        home.run_with_stdin(&["up", "-", "--device", "lo"], &format!("  {}\r\nmore\n", invite("home")));
    assert_eq!(done.code, Some(1));
    assert!(home.state().join("network.toml").exists(), "{done:?}");
    assert!(!done.stdout.contains("join with"), "{done:?}");
}

#[test]
fn a_network_that_never_ran_leaves_nothing_behind() {
    let home = Home::new();
    let first = home.run(&["up", "--relay", &relay_ticket(), "--device", "lo", "--name", "attic"]);
    assert_eq!(first.code, Some(1), "no TAP device is called lo: {first:?}");
    assert!(!first.stdout.contains("join with"), "nobody can join what never ran: {first:?}");
    for file in ["network.toml", "admin.key"] {
        assert!(!home.state().join(file).exists(), "{file}");
    }
    refused(&home.run(&["up"]), "in no network yet");
    let config = fs::read_to_string(home.state().join("config.toml")).unwrap_or_default();
    assert!(!config.contains("\nname = \"attic\"") && !config.contains("\ndevice = \"lo\""), "{config}");
    // Whoever was sent an invite meanwhile can use it.
    let joined = home.run(&["up", &invite("home"), "--device", "lo"]);
    assert!(!joined.stderr.contains("already in the network"), "{joined:?}");
    let detached = Home::new();
    refused(&detached.run(&["up", "--detach", "--relay", &relay_ticket(), "--device", "lo"]), "lo");
    assert!(!detached.state().join("network.toml").exists());
}

#[test]
fn whether_a_network_has_certificates_is_chosen_once() {
    let home = Home::new();
    home.run(&["network", "create", "office", "--relay", &relay_ticket()]);
    refused(&home.run(&["up", "--certificates", "off"]), "was made with certificates");
    let joined = Home::new();
    refused(&joined.run(&["up", &invite("home"), "--certificates", "on"]), "was made without certificates");
    assert!(!joined.state().join("network.toml").exists(), "it did not join");
    let usage = home.run(&["up", "--certificates", "maybe"]);
    assert_eq!(usage.code, Some(2), "{usage:?}");
}

#[test]
fn what_was_joined_with_is_remembered_and_the_next_run_needs_nothing() {
    let home = Home::new();
    let ticket = invite("home");
    let first = home.run(&["up", &ticket, "--device", "lo", "--name", "attic", "--mtu", "1300"]);
    assert_eq!(first.code, Some(1), "no TAP device is called lo: {first:?}");
    let second = home.run(&["up"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert_eq!(first.stderr.lines().last(), second.stderr.lines().last(), "`--device lo` was remembered");
    let config = fs::read_to_string(home.state().join("config.toml")).expect("remembered");
    assert!(config.contains("\nname = \"attic\"\n") && config.contains("\nmtu = 1300\n"), "{config}");

    let again = home.run(&["invite", "--expires", "7d", "--name", "printer"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.stderr.contains("only advice"), "{again:?}");
    let again = Invite::parse(&again.stdout, 0).expect("an invite");
    let given = Invite::parse(&ticket, 0).expect("an invite");
    assert_eq!((again.secret, again.name.as_deref()), (given.secret, Some("printer")));
    // What nobody would keep to is not promised.
    for limit in [["--uses", "1"], ["--tag", "lab"], ["--name", "lab-*"]] {
        refused(&home.run(&["invite", limit[0], limit[1]]), "no certificates");
    }
    let json = home.run(&["invite", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("a document");
    assert!(Invite::parse(json["ticket"].as_str().expect("a ticket"), 0).is_ok());
}

#[test]
fn nothing_that_is_logged_is_secret() {
    let home = Home::new();
    let ticket = invite("home");
    let done = home.command(&["up", &ticket, "--device", "lo"]).env("SHADOWMESH_LOG", "trace").output();
    let done = Done::of(done.expect("run"));
    assert!(!done.stderr.contains(&ticket[4..]), "{done:?}");
    let key = fs::read_to_string(home.state().join("node.key")).expect("a key");
    assert!(!done.stderr.contains(key.trim()), "{done:?}");
    let network = fs::read_to_string(home.state().join("network.toml")).expect("a network");
    let secret = network.lines().find_map(|line| line.strip_prefix("secret = ")).expect("a secret");
    assert!(!done.stderr.contains(secret.trim_matches('"')), "{done:?}");
}

#[test]
fn a_second_network_is_refused_until_the_first_is_left() {
    let home = Home::new();
    let first = invite("home");
    home.run(&["up", &first, "--device", "lo"]);
    refused(&home.run(&["up", &invite("work"), "--device", "lo"]), "already in the network \"home\"");
    let again = home.run(&["up", &first]);
    assert!(!again.stderr.contains("already in the network"), "{again:?}");

    let beside = home.run(&["up", &invite("work"), "--network", "work", "--device", "lo"]);
    assert!(!beside.stderr.contains("already in the network"), "{beside:?}");
    assert!(home.state().join("work/network.toml").exists());

    assert_eq!(home.run(&["leave"]).code, Some(0));
    assert!(!home.state().join("network.toml").exists());
    assert!(home.state().join("work/network.toml").exists());
    assert!(home.state().join("node.key").exists());
    let again = home.run(&["leave"]);
    assert_eq!((again.code, again.stderr.contains("in no network")), (Some(0), true));
    refused(&home.run(&["invite"]), "in no network");
}

#[test]
fn a_config_that_cannot_be_used_is_named_by_file_line_and_field() {
    let home = Home::new();
    home.run(&["up", &invite("home"), "--device", "lo"]);
    let file = home.state().join("config.toml");
    fs::write(&file, "name = \"a\"\nmtuu = 1400\n").expect("written");
    refused(
        &home.run(&["up"]),
        "config.toml line 2, column 1 has the unknown field `mtuu`, did you mean `mtu`?",
    );
    fs::write(&file, "address = \"10.0.0.0/16\"\n").expect("written");
    refused(&home.run(&["up"]), "config.toml line 1, column 11: 10.0.0.0 cannot be the address of a host");
    fs::write(&file, "name = \n").expect("written");
    refused(&home.run(&["up"]), "config.toml line 1");
}

#[test]
fn state_that_cannot_be_used_is_named_and_left_alone() {
    let home = Home::new();
    let ticket = invite("home");
    home.run(&["up", &ticket, "--device", "lo"]);

    let network = home.state().join("network.toml");
    let whole = fs::read_to_string(&network).expect("a network");
    fs::write(&network, &whole[..40]).expect("written");
    refused(&home.run(&["up"]), "network.toml is damaged");
    assert_eq!(fs::read_to_string(&network).expect("kept"), &whole[..40]);
    fs::write(&network, &whole).expect("written");

    fs::write(home.state().join("node.key"), "AAAA\n").expect("written");
    refused(&home.run(&["up"]), "node.key is damaged");

    fs::write(home.state().join("state.toml"), "version = 99\n").expect("written");
    for command in [vec!["up"], vec!["invite"], vec!["leave"]] {
        refused(&home.run(&command), "written by a newer shadowmesh");
    }
    assert_eq!(fs::read_to_string(&network).expect("kept"), whole);
}

#[test]
fn a_state_directory_that_cannot_be_written_is_refused() {
    let home = Home::new();
    let file = home.path("file");
    fs::write(&file, "").expect("written");
    let below = file.join("state");
    // Root may write everywhere, but nobody makes a directory below a file.
    let args = ["up", &invite("home"), "--state", below.to_str().expect("text")];
    refused(&home.run(&args), "cannot write to the state directory");
}

#[test]
fn a_killed_daemon_is_replaced_and_a_living_one_is_not() {
    let home = Home::new();
    let ticket = invite("home");
    drop(UnixListener::bind(home.socket()).expect("bound"));
    assert!(home.socket().exists());
    refused(&home.run(&["status"]), "no daemon is running");
    assert_eq!(home.run(&["down"]).code, Some(0));
    let done = home.run(&["up", &ticket, "--device", "lo"]);
    assert!(!done.stderr.contains("already running"), "{done:?}");
    assert!(!home.socket().exists(), "a daemon that ends leaves no socket");

    let _living = UnixListener::bind(home.socket()).expect("bound");
    refused(&home.run(&["up", &ticket, "--device", "lo"]), "already running on");
    let state = StateDir::open(home.state()).expect("opened");
    let _lock = state.lock().expect("free");
    let why = format!("already running for {} (process {})", home.state().display(), std::process::id());
    refused(&home.run(&["up", &ticket, "--device", "lo"]), &why);
}

#[test]
fn detach_reports_what_the_daemon_says() {
    let home = Home::new();
    let ticket = invite("home");
    let here = home.run(&["up", &ticket, "--device", "lo"]);
    let detached = home.run(&["up", "--detach"]);
    assert_eq!(detached.code, Some(1), "{detached:?}");
    assert_eq!(here.stderr.lines().last(), detached.stderr.lines().last());
    assert!(!home.socket().exists());
}

#[test]
fn there_is_nothing_to_ask() {
    let home = Home::new();
    refused(&home.run(&["status"]), "no daemon is running");
    refused(&home.run(&["status", "--json"]), "no daemon is running");
    refused(&home.run(&["ping", "b"]), "no daemon is running");
    let down = home.run(&["down"]);
    assert_eq!((down.code, down.stdout.as_str()), (Some(0), ""));
    assert!(!home.state().exists(), "looking makes nothing");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let home = Home::new();
    for args in [
        vec![],
        vec!["fly"],
        vec!["up", "--mtu", "1279"],
        vec!["up", "--mtu", "9001"],
        vec!["up", "--address", "10.7.3.4"],
        vec!["up", "--address", "fd00::1/64"],
        vec!["up", "--device", "a/b"],
        vec!["up", "--device", "sixteen-letters-"],
        vec!["up", "--name", "Not A Name"],
        vec!["up", "--cipher", "rot13"],
        vec!["up", "--filter", "stp"],
        vec!["up", "--allow-dhcp", "attic"],
        vec!["up", "--flood-budget", "1"],
        vec!["up", "--rekey-interval", "1s"],
        vec!["up", "--rekey-interval", "121s"],
        vec!["ping"],
        vec!["ping", "b", "-i", "0"],
        vec!["path", "b"],
        vec!["path", "b", "--use", "teleport"],
        vec!["path", "b", "--use", "auto", "--timeout", "0"],
        vec!["invite", "--expires", "soon"],
        vec!["invite", "--uses", "0"],
        vec!["status", "--network", "../x"],
        vec!["completions", "cmd"],
        vec!["rules"],
        vec!["rules", "check"],
    ] {
        let done = home.run(&args);
        assert_eq!(done.code, Some(2), "{args:?}: {done:?}");
    }
}

/// The words of each command, of those with commands below as well.
fn every_command(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
    for sub in command.get_subcommands() {
        let words = [words, &[sub.get_name().to_owned()]].concat();
        every_command(sub, &words, found);
        found.push(words);
    }
}

#[test]
fn every_command_helps_with_an_example() {
    let home = Home::new();
    let mut commands = Vec::new();
    every_command(&shadowmesh::cli::command(), &[], &mut commands);
    assert!(commands.len() > 30, "{commands:?}");
    for command in commands {
        let args: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let done = home.run(&args);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.stdout.contains("\nExample"), "{done:?}");
    }
    let done = home.run(&["--help"]);
    assert!(done.code == Some(0) && done.stdout.contains("Exit codes"), "{done:?}");
    assert_eq!(home.run(&["--version"]).code, Some(0));
}

#[test]
fn a_network_with_certificates_is_made_copied_and_taken_over() {
    let (home, other) = (Home::new(), Home::new());
    let made = home.run(&["network", "create", "office", "--relay", &relay_ticket(), "--name", "a"]);
    assert!(made.code == Some(0) && made.stderr.contains("sudo shadowmesh invite"), "{made:?}");
    for file in ["network.toml", "members", "admin.key", "node.key"] {
        let mode = fs::metadata(home.state().join(file)).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    refused(
        &home.run(&["network", "create", "x", "--relay", &relay_ticket()]),
        "already in the network \"office\"",
    );
    refused(&home.run(&["up", &invite("work"), "--device", "lo"]), "already in the network \"office\"");
    // No daemon need run: what an invite says is in the record from then on.
    let before = fs::read(home.state().join("members")).expect("members");
    let invited = home.run(&["invite", "--uses", "1", "--name", "printer", "--expires", "1h"]);
    let printer = Invite::parse(&invited.stdout, 0).expect("an invite");
    assert!(printer.delegated.is_some() && printer.name.as_deref() == Some("printer"), "{invited:?}");
    assert!(fs::read(home.state().join("members")).expect("members").len() > before.len());
    refused(&home.run(&["invite", "--tag", "a b"]), "a tag is");

    let copy = home.path("copy");
    let copy = copy.to_str().expect("text");
    assert_eq!(home.run(&["network", "export", copy]).code, Some(0));
    assert_eq!(fs::metadata(copy).expect("made").permissions().mode() & 0o777, 0o600);
    refused(&home.run(&["network", "export", copy]), "cannot make");
    let taken = other.run(&["network", "import", copy, "--json"]);
    let document: serde_json::Value = serde_json::from_str(&taken.stdout).expect("a document");
    assert_eq!(document, serde_json::json!({ "network": "office", "has_admin_key": true }));
    let key = |home: &Home| fs::read_to_string(home.state().join("admin.key")).expect("a key");
    assert_eq!(key(&home), key(&other));
    refused(&other.run(&["network", "import", copy]), "already in the network");
    fs::write(copy, "{}").expect("written");
    refused(&Home::new().run(&["network", "import", copy]), "is no copy of a network");
    refused(&Home::new().run(&["network", "export", "-"]), "in no network");

    // Who is no admin signs nothing.
    fs::remove_file(other.state().join("admin.key")).expect("removed");
    refused(&other.run(&["invite"]), "no admin of the network");

    // Who leaves with an admin's key can come back with it.
    let left = home.run(&["leave"]);
    assert_eq!(left.code, Some(0), "{left:?}");
    assert!(left.stderr.contains("its own key and its name are kept"), "{left:?}");
    let kept = home.state().join("left-office");
    assert!(left.stderr.contains(kept.to_str().expect("text")), "{left:?}");
    assert_eq!(fs::metadata(&kept).expect("kept").permissions().mode() & 0o777, 0o600);
    assert!(!home.state().join("admin.key").exists() && !home.state().join("members").exists());
    assert_eq!(home.run(&["network", "import", kept.to_str().expect("text")]).code, Some(0));
    assert!(home.state().join("admin.key").exists());
    let left = home.run(&["leave", "--discard-admin-key", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&left.stdout).expect("a document");
    assert_eq!((&document["deleted_admin_key"], &document["copy"]), (&true.into(), &serde_json::Value::Null));
    assert!(home.state().join("node.key").exists() && !home.state().join("admin.key").exists());
    // A key that waits for a network is nothing that is left.
    fs::write(home.state().join("admin.key"), "A".repeat(43)).expect("written");
    let none = home.run(&["leave"]);
    assert!(none.code == Some(0) && none.stderr.contains("in no network"), "{none:?}");
    assert!(home.state().join("admin.key").exists());
}

#[test]
fn completions_are_for_every_shell() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = home.run(&["completions", shell]);
        assert!(done.code == Some(0) && done.stdout.contains("shadowmesh"), "{shell}: {done:?}");
    }
}
