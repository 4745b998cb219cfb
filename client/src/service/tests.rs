//! A machine in a directory, whose systemctl, systemd-sysusers, userdel and journalctl are scripts that write down what they are told.

use super::install::{self, SYSUSERS, UNIT, Wish};
use super::machine::ProgramFault;
use super::unit::PathFault;
use super::*;
use crate::daemon::config_file;
use crate::daemon::state_dir::{self, NetworkState, StateDir};
use crate::system_rng::SystemRng;
use rustix::process::geteuid;
use shadowmesh_proto::membership::Authority;
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

/// A machine with the program in /usr/bin.
struct Stage {
    home: tempfile::TempDir,
    machine: Machine,
}

impl Stage {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let at = |name: &str| home.path().join(name);
        let machine = Machine {
            root: at("root"),
            is_live: true,
            systemctl: at("systemctl"),
            sysusers: at("systemd-sysusers"),
            userdel: at("userdel"),
            groupdel: at("groupdel"),
            journalctl: at("journalctl"),
        };
        let stage = Self { home, machine };
        stage.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\n");
        stage.put("/etc/group", "root:x:0:\n");
        stage.put("/usr/bin/shadowmesh", "");
        stage.mode("/usr/bin/shadowmesh", 0o755);
        let users = stage.machine.at("/etc/passwd");
        let users = users.display();
        stage.script("systemctl", "");
        let groups = stage.machine.at("/etc/group");
        let groups = groups.display();
        let make =
            format!("echo 'shadowmesh:x:990:990::/:/none' >> {users}; echo 'shadowmesh:x:990:a' >> {groups}");
        stage.script("systemd-sysusers", &make);
        stage.script("groupdel", &format!("sed -i /^shadowmesh:/d {groups}"));
        stage.script("userdel", &format!("sed -i /^shadowmesh:/d {users}"));
        stage.script("journalctl", "exit 1");
        stage
    }

    /// A program that says what it was told, but for the other root, and then does `what`.
    fn script(&self, name: &str, what: &str) {
        let (file, log) = (self.home.path().join(name), self.home.path().join("log"));
        let text = format!(
            "#!/bin/sh\ncase $1 in --root=*) shift;; esac\necho \"{name} $*\" >> {}\n{what}\n",
            log.display()
        );
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("set");
    }

    fn put(&self, path: &str, text: &str) {
        let file = self.machine.at(path);
        fs::create_dir_all(file.parent().expect("below")).expect("made");
        fs::write(file, text).expect("written");
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.machine.at(path), fs::Permissions::from_mode(mode)).expect("set");
    }

    fn text(&self, path: &str) -> String {
        self.machine.read(path).expect("read").unwrap_or_else(|| panic!("no {path}"))
    }

    fn has(&self, path: &str) -> bool {
        self.machine.at(path).exists()
    }

    /// What was told since this was asked last.
    fn told(&self) -> Vec<String> {
        let log = self.home.path().join("log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(log);
        text.lines().map(ToOwned::to_owned).collect()
    }

    fn state(&self) -> StateDir {
        StateDir::open(self.machine.at(state_dir::DEFAULT)).expect("opened")
    }

    fn join(&self, name: &str) {
        let state = self.state();
        state.load_or_create_node_key(&mut SystemRng).expect("made");
        state.save_network(&NetworkState::create(name, Vec::new(), &mut SystemRng)).expect("saved");
    }

    fn install(&self, wish: &Wish) -> anyhow::Result<Installed> {
        install::install(&self.machine, wish, || Ok(()))
    }

    fn uninstall(&self, wish: uninstall::Wish) -> anyhow::Result<Uninstalled> {
        uninstall::uninstall(&self.machine, wish, || Ok(()))
    }

    /// The refusal, which changed nothing.
    #[track_caller]
    fn refused(&self, wish: &Wish) -> ServiceError {
        self.told();
        let before = self.files();
        let error = self.install(wish).expect_err("refused");
        assert_eq!((self.files(), self.told()), (before, Vec::new()), "{error}");
        error.downcast().expect("ours")
    }

    /// Every file of the machine, with what it holds.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn below(dir: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in fs::read_dir(dir).expect("a directory").flatten() {
                if entry.path().is_dir() {
                    below(&entry.path(), found);
                } else {
                    // A link may lead nowhere.
                    found.push((entry.path(), fs::read(entry.path()).unwrap_or_default()));
                }
            }
        }
        let mut found = Vec::new();
        below(&self.machine.root, &mut found);
        found.sort();
        found
    }
}

fn wish() -> Wish {
    Wish { program: "/usr/bin/shadowmesh".into(), config: None, start: Start::WhenJoined, force: false }
}

fn paths(paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(PathBuf::from).collect()
}

#[test]
fn it_is_written_enabled_and_started_and_twice_is_as_good_as_once() {
    let stage = Stage::new();
    let before = stage.files();
    assert!(!stage.machine.has_service());
    let done = stage.install(&wish()).expect("installed");
    assert!(stage.machine.has_service());
    let expected = Installed {
        unit: UNIT.into(),
        written: paths(&[UNIT, SYSUSERS, config_file::DEFAULT]),
        waits_for_network: true,
        ..Installed::default()
    };
    assert_eq!(done, expected);
    let prepare = ["systemctl daemon-reload", "systemctl enable shadowmesh.service"];
    assert_eq!(stage.told(), [&["systemd-sysusers shadowmesh.conf"], &prepare[..]].concat());
    for path in [UNIT, SYSUSERS, config_file::DEFAULT] {
        let mode = fs::metadata(stage.machine.at(path)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{path}");
    }
    assert!(stage.text(UNIT).ends_with(unit::TEXT));
    assert_eq!(stage.text(config_file::DEFAULT), settings::laid_out());

    stage.join("home");
    let written = stage.files();
    let made_way = Cell::new(false);
    let make_way = || {
        made_way.set(true);
        Ok(())
    };
    let done = install::install(&stage.machine, &wish(), make_way).expect("installed");
    assert!(made_way.get() && done.is_started && done.written.is_empty(), "{done:?}");
    assert_eq!(stage.told(), [&prepare[..], &["systemctl start shadowmesh.service"]].concat());
    assert_eq!(stage.files(), written);

    // Another program: what runs is not what is written, and is started anew. A link to it is not what is written.
    stage.put("/usr/local/bin/shadowmesh", "");
    stage.mode("/usr/local/bin/shadowmesh", 0o755);
    symlink("shadowmesh", stage.machine.at("/usr/local/bin/sm")).expect("laid");
    let linked = Wish { program: "/usr/local/bin/sm".into(), ..wish() };
    let done = stage.install(&linked).expect("installed");
    fs::remove_file(stage.machine.at("/usr/local/bin/sm")).expect("removed");
    let other = Wish { program: "/usr/local/bin/shadowmesh".into(), ..wish() };
    assert_eq!(done.written, paths(&[UNIT]));
    assert_eq!(stage.told().last().map(String::as_str), Some("systemctl restart shadowmesh.service"));
    assert!(
        stage
            .text(UNIT)
            .contains("\nExecStart=/usr/local/bin/shadowmesh up --config /etc/shadowmesh/config.toml\n")
    );

    let done = stage.install(&Wish { start: Start::No, ..other }).expect("installed");
    assert!(!done.is_started && stage.told() == prepare);

    // All of it goes, and nothing else.
    assert!(!Machine { is_live: false, ..stage.machine.clone() }.has_service());
    fs::remove_file(stage.machine.at("/usr/local/bin/shadowmesh")).expect("removed");
    let done = stage.uninstall(uninstall::Wish { purge: true, ..Default::default() }).expect("removed");
    assert!(done.removed_user && done.left.is_empty(), "{done:?}");
    assert_eq!(stage.files(), before);
    let verbs = ["disable --now", "daemon-reload", "reset-failed"];
    let told = stage.told();
    assert!(
        told.iter().zip(verbs).all(|(line, verb)| line.starts_with(&format!("systemctl {verb}"))),
        "{told:?}"
    );
    let gone = ["userdel", "groupdel"]
        .map(|program| format!("{program} --prefix {} shadowmesh", stage.machine.root.display()));
    assert_eq!(told[verbs.len()..], gone);
    let again =
        stage.uninstall(uninstall::Wish { purge: true, ..Default::default() }).expect("nothing to do");
    assert_eq!((again, stage.told()), (Uninstalled::default(), Vec::new()));
}

#[test]
fn what_a_person_changed_stays_and_what_an_older_version_wrote_does_not() {
    let stage = Stage::new();
    stage.install(&wish()).expect("installed");
    stage.put(config_file::DEFAULT, "mtu = 1300\n");
    stage.put(UNIT, &stamp::stamped("[Service]\nExecStart=/old\n"));
    let done = stage.install(&wish()).expect("installed");
    assert_eq!((done.written, done.overwritten), (paths(&[UNIT]), Vec::new()));
    assert_eq!(stage.text(config_file::DEFAULT), "mtu = 1300\n");
    stage.told();

    for changed in [
        stage.text(UNIT).replace("WatchdogSec=30", "WatchdogSec=0"),
        unit::TEXT.replace("User=shadowmesh", "User=root"),
    ] {
        stage.put(UNIT, &changed);
        let ServiceError::Changed { path, differences } = stage.refused(&wish()) else { panic!("another") };
        assert_eq!((path, differences.len()), (UNIT.into(), 2), "{differences:?}");
        let error = stage.uninstall(uninstall::Wish::default()).expect_err("refused");
        assert!(matches!(error.downcast_ref(), Some(ServiceError::Changed { .. })), "{error}");
        assert_eq!((stage.text(UNIT), stage.told()), (changed, Vec::new()));
    }
    let done = stage.install(&Wish { force: true, ..wish() }).expect("installed");
    assert_eq!(done.overwritten, ["-User=root", "+User=shadowmesh"]);
    stage.put(UNIT, "mine");
    let done = stage.uninstall(uninstall::Wish { force: true, ..Default::default() }).expect("removed");
    assert!(done.overwritten.contains(&"-mine".to_owned()) && !stage.has(UNIT), "{done:?}");
    assert_eq!(done.left, paths(&[config_file::DEFAULT, SYSUSERS]));
}

#[test]
fn a_packages_unit_is_enabled_and_started_as_it_is() {
    let stage = Stage::new();
    stage.install(&wish()).expect("installed");
    stage.told();
    let packaged = "/usr/lib/systemd/system/shadowmesh.service";
    stage.put(packaged, unit::TEXT);
    stage.join("home");
    let done = stage.install(&wish()).expect("installed");
    assert!(done.is_packaged && done.is_started && done.written.is_empty(), "{done:?}");
    assert_eq!((done.unit, done.removed), (packaged.into(), paths(&[UNIT])));
    assert_eq!(stage.told().last().map(String::as_str), Some("systemctl restart shadowmesh.service"));
    let error = stage.uninstall(uninstall::Wish::default()).expect_err("refused");
    assert!(error.to_string().contains("sudo apt remove shadowmesh"), "{error}");
    assert!(stage.has(packaged) && stage.told().is_empty());
    // Another program than the package's has a unit of its own, which goes without the package's.
    stage.put("/opt/sm", "");
    stage.mode("/opt/sm", 0o755);
    let done = stage.install(&Wish { program: "/opt/sm".into(), ..wish() }).expect("installed");
    assert_eq!((done.is_packaged, done.written), (false, paths(&[UNIT])));
    let done = stage.uninstall(uninstall::Wish::default()).expect("removed");
    assert_eq!(done.removed.first(), Some(&PathBuf::from(UNIT)));
    assert!(stage.has(packaged));
}

#[test]
fn programs_and_settings_that_the_service_could_not_use_are_refused() {
    let stage = Stage::new();
    let program = |path: &str| {
        let ServiceError::Program { fault, .. } = stage.refused(&Wish { program: path.into(), ..wish() })
        else {
            panic!("another")
        };
        fault
    };
    assert_eq!(program("/usr/bin/none"), ProgramFault::Missing);
    assert_eq!(program("/usr/bin"), ProgramFault::Missing);
    assert_eq!(program("/home/a/shadowmesh"), ProgramFault::Path(PathFault::Hidden));
    assert_eq!(program("bin/shadowmesh"), ProgramFault::Path(PathFault::Characters));
    stage.mode("/usr/bin/shadowmesh", 0o750);
    assert_eq!(program("/usr/bin/shadowmesh"), ProgramFault::NotExecutable);
    stage.mode("/usr/bin/shadowmesh", 0o757);
    assert_eq!(program("/usr/bin/shadowmesh"), ProgramFault::Writable);
    stage.mode("/usr/bin/shadowmesh", 0o755);
    // Who may write the directory puts another program there, unless it is sticky.
    stage.mode("/usr/bin", 0o777);
    assert_eq!(program("/usr/bin/shadowmesh"), ProgramFault::Writable);
    stage.mode("/usr/bin", 0o1777);
    stage.machine.check_program(Path::new("/usr/bin/shadowmesh")).expect("good");
    stage.mode("/usr/bin", 0o755);
    // A link is followed once, when it is looked at: who has its directory may let it lead elsewhere tomorrow.
    fs::create_dir_all(stage.machine.at("/opt/dev")).expect("made");
    symlink("../../usr/bin/shadowmesh", stage.machine.at("/opt/dev/sm")).expect("laid");
    let linked = stage.machine.check_program(Path::new("/opt/dev/sm")).expect("good");
    assert_eq!(linked, Path::new("/usr/bin/shadowmesh"));
    for out in ["/usr/bin/env", "../../../../../../../usr/bin/env"] {
        symlink(out, stage.machine.at("/opt/dev/out")).expect("laid");
        assert_eq!(program("/opt/dev/out"), ProgramFault::Missing, "{out} is none of the image's");
        fs::remove_file(stage.machine.at("/opt/dev/out")).expect("removed");
    }
    // Only root can make another its owner, or its group one that it is not in.
    if geteuid().is_root() {
        for (path, mode) in [("/usr/bin/shadowmesh", 0o775), ("/usr/bin", 0o2775)] {
            stage.mode(path, mode);
            stage.machine.check_program(Path::new("/usr/bin/shadowmesh")).expect("root's group");
            chown(stage.machine.at(path), None, Some(4_242)).expect("given away");
            stage.mode(path, mode);
            assert_eq!(program("/usr/bin/shadowmesh"), ProgramFault::Writable, "{path}");
            chown(stage.machine.at(path), None, Some(0)).expect("taken back");
            stage.mode(path, 0o755);
        }
        for path in ["/usr/bin/shadowmesh", "/usr"] {
            chown(stage.machine.at(path), Some(4_242), None).expect("given away");
            assert_eq!(program("/usr/bin/shadowmesh"), ProgramFault::Foreign, "{path}");
            chown(stage.machine.at(path), Some(0), None).expect("taken back");
        }
    }

    let settings = |path: &str| stage.refused(&Wish { config: Some(path.into()), ..wish() }).to_string();
    assert!(settings("/etc/none.toml").contains("none.toml cannot be read"));
    stage.put("/etc/mesh.toml", "mtuu = 1\n");
    assert!(settings("/etc/mesh.toml").contains("did you mean `mtu`?"));
    for hidden in ["/home/a/mesh.toml", "/etc/a b.toml"] {
        stage.put(hidden, "");
        assert!(settings(hidden).contains("move them, as into /etc/shadowmesh"), "{hidden}");
    }
    stage.put("/etc/mesh.toml", "mtu = 1300\n");
    let done = stage.install(&Wish { config: Some("/etc/mesh.toml".into()), ..wish() }).expect("installed");
    assert!(!done.written.contains(&config_file::DEFAULT.into()), "{done:?}");
    assert!(stage.text(UNIT).contains(" up --config /etc/mesh.toml\n"));
    // Whoever installs again need not say it again, and nothing becomes of the other file.
    let done = stage.install(&wish()).expect("installed");
    assert_eq!(done.written, paths(&[]));
    assert!(stage.text(UNIT).contains(" up --config /etc/mesh.toml\n") && !stage.has(config_file::DEFAULT));
    // The usual one is no less read, where it is there.
    stage.put(config_file::DEFAULT, "mtuu = 1\n");
    assert!(settings(config_file::DEFAULT).contains("did you mean `mtu`?"));
}

#[test]
fn nothing_is_changed_where_a_link_leads_out_of_an_image() {
    let elsewhere = tempfile::tempdir().expect("a directory");
    let put = |name: &str, text: &str| {
        let file = elsewhere.path().join(name);
        fs::create_dir_all(file.parent().expect("below")).expect("made");
        fs::write(file, text).expect("written");
    };
    put("shadowmesh/state.toml", "version = 1\n");
    put("config.toml", "mtu = 1300\n");
    let purge = uninstall::Wish { purge: true, force: true, ..Default::default() };
    for dir in ["/etc", "/etc/systemd/system", "/etc/sysusers.d", "/etc/shadowmesh", "/var/lib", "/usr/bin"] {
        let stage = Stage::new();
        let at = stage.machine.at(dir);
        if let Ok(found) = fs::symlink_metadata(&at) {
            assert!(found.is_dir());
            fs::rename(&at, stage.home.path().join("before")).expect("moved");
        }
        fs::create_dir_all(at.parent().expect("below")).expect("made");
        symlink(elsewhere.path(), &at).expect("laid");
        let before = tree(elsewhere.path());
        let error = stage.install(&wish()).expect_err("refused");
        assert!(matches!(error.downcast_ref(), Some(ServiceError::Outside { .. })), "{dir}: {error}");
        if dir != "/usr/bin" {
            let error = stage.uninstall(purge).expect_err("refused");
            assert!(matches!(error.downcast_ref(), Some(ServiceError::Outside { .. })), "{dir}: {error}");
        }
        assert_eq!((tree(elsewhere.path()), stage.told()), (before, Vec::new()), "{dir}");
    }
    // One that stays inside is the image's own affair.
    let stage = Stage::new();
    fs::rename(stage.machine.at("/usr"), stage.machine.at("/usr2")).expect("moved");
    symlink("usr2", stage.machine.at("/usr")).expect("laid");
    stage.install(&wish()).expect("installed");
    let nowhere = Machine { root: stage.home.path().join("none"), ..stage.machine.clone() };
    let error = uninstall::uninstall(&nowhere, purge, || Ok(())).expect_err("refused");
    assert!(error.to_string().contains("none (No such file"), "{error}");
}

/// Names below a directory, and what is in them.
fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        if entry.file_type().expect("a kind").is_dir() {
            found.extend(tree(&entry.path()));
        } else {
            found.push((entry.path(), fs::read(entry.path()).unwrap_or_default()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_unit_that_is_masked_stays_so_without_force() {
    let stage = Stage::new();
    fs::create_dir_all(stage.machine.at("/etc/systemd/system")).expect("made");
    for to in ["/dev/null", "/nowhere"] {
        symlink(to, stage.machine.at(UNIT)).expect("laid");
        assert!(matches!(stage.refused(&wish()), ServiceError::Changed { .. }), "{to}");
        let error = stage.uninstall(uninstall::Wish::default()).expect_err("refused");
        assert!(matches!(error.downcast_ref(), Some(ServiceError::Changed { .. })), "{to}: {error}");
        fs::remove_file(stage.machine.at(UNIT)).expect("removed");
    }
    symlink("/dev/null", stage.machine.at(UNIT)).expect("laid");
    stage.install(&Wish { force: true, ..wish() }).expect("installed");
    assert!(fs::symlink_metadata(stage.machine.at(UNIT)).expect("there").is_file());
}

#[test]
fn a_purge_follows_no_link_and_says_that_settings_go() {
    let stage = Stage::new();
    let purge = uninstall::Wish { purge: true, ..Default::default() };
    stage.install(&wish()).expect("installed");
    stage.join("home");
    // A service that was taken over lays a link to what root alone may change.
    let victim = tempfile::tempdir().expect("a directory");
    fs::write(victim.path().join("state.toml"), "version = 1\n").expect("written");
    symlink(victim.path(), stage.machine.at(state_dir::DEFAULT).join("work")).expect("laid");
    stage.put(config_file::DEFAULT, "mtu = 1300\n");
    let loss = uninstall::loss(&stage.machine, purge).expect("read").expect("something");
    assert_eq!((loss.networks, loss.settings), (vec!["home".into()], Some(config_file::DEFAULT.into())));
    let done = stage.uninstall(purge).expect("removed");
    assert!(done.removed.contains(&config_file::DEFAULT.into()), "{done:?}");
    assert!(!stage.has(state_dir::DEFAULT) && !stage.has(config_file::DEFAULT));
    assert_eq!(tree(victim.path()), [(victim.path().join("state.toml"), b"version = 1\n".to_vec())]);

    // The directory itself may be on another disk: what is there is not deleted by taking away the link.
    symlink(victim.path(), stage.machine.at(state_dir::DEFAULT)).expect("laid");
    let error = stage.uninstall(purge).expect_err("refused");
    assert!(matches!(error.downcast_ref(), Some(ServiceError::StateLink(_))), "{error}");
    fs::remove_file(stage.machine.at(state_dir::DEFAULT)).expect("removed");
    // Settings alone are something that is lost, too.
    stage.put(config_file::DEFAULT, "mtu = 1300\n");
    let loss = uninstall::loss(&stage.machine, purge).expect("read").expect("something");
    assert_eq!((loss.state, loss.settings), (None, Some(config_file::DEFAULT.into())));
}

#[test]
fn what_a_package_brought_stays_beside_a_unit_of_ours() {
    let stage = Stage::new();
    stage.put("/opt/sm", "");
    stage.mode("/opt/sm", 0o755);
    stage.install(&Wish { program: "/opt/sm".into(), ..wish() }).expect("installed");
    stage.put("/usr/lib/systemd/system/shadowmesh.service", unit::TEXT);
    stage.put(config_file::DEFAULT, "mtu = 1300\n");
    stage.join("home");
    let purge = uninstall::Wish { purge: true, ..Default::default() };
    let loss = uninstall::loss(&stage.machine, purge).expect("read").expect("something");
    assert_eq!(loss.settings, None);
    let done = stage.uninstall(purge).expect("removed");
    assert!(!done.removed_user && stage.machine.has_user().expect("read"), "{done:?}");
    assert_eq!(stage.text(config_file::DEFAULT), "mtu = 1300\n");
    assert!(!stage.has(state_dir::DEFAULT) && !stage.has(UNIT));
}

#[test]
fn what_cannot_be_started_is_said_before_anything_is_done() {
    let stage = Stage::new();
    let error = stage.refused(&Wish { start: Start::Now, ..wish() });
    assert!(matches!(error, ServiceError::NoNetwork), "{error}");
    // This machine itself, with nothing that could be installed, should it be tried.
    let here = Machine { is_live: false, ..Machine::new(None) };
    let nothing = Wish { program: "/none".into(), ..wish() };
    for start in [Start::WhenJoined, Start::Now] {
        let error =
            install::install(&here, &Wish { start, ..nothing.clone() }, || Ok(())).expect_err("refused");
        assert!(matches!(error.downcast_ref(), Some(ServiceError::NoSystemd)), "{error}");
        assert!(error.to_string().contains("shadowmesh up --detach"));
    }
}

#[test]
fn what_systemd_says_is_passed_on_and_better_what_the_daemon_said() {
    let stage = Stage::new();
    stage.join("home");
    stage.script("systemctl", "[ $1 != restart ] || { echo; echo 'Job failed.' >&2; exit 1; }");
    let error = stage.install(&wish()).expect_err("it fails");
    assert!(error.to_string().contains("restart shadowmesh.service` failed: Job failed."), "{error}");
    stage.script(
        "journalctl",
        "echo 'shadowmesh: old'; echo 'shadowmesh: the MTU is odd'; echo 'Main process exited'",
    );
    stage.put(UNIT, &stamp::stamped("older"));
    let error = stage.install(&wish()).expect_err("it fails");
    assert_eq!(error.to_string(), "the service does not start: the MTU is odd");

    // A daemon that does not make way is a reason not to start.
    stage.told();
    let error =
        install::install(&stage.machine, &wish(), || anyhow::bail!("it stays")).expect_err("it fails");
    assert_eq!(error.to_string(), "it stays");
    assert!(!stage.told().iter().any(|line| line.contains("start")));

    stage.script("systemctl", "exit 3");
    let error = stage.uninstall(uninstall::Wish::default()).expect_err("it fails");
    assert!(error.to_string().ends_with("failed: without a word"), "{error}");
    assert!(stage.has(UNIT), "what still runs is not removed");
    let missing = Machine { systemctl: stage.home.path().join("none"), ..stage.machine.clone() };
    let error = install::install(&missing, &wish(), || Ok(())).expect_err("it fails");
    assert!(error.to_string().contains("cannot be run"), "{error}");
    let missing = Machine { sysusers: stage.home.path().join("none"), ..stage.machine.clone() };
    stage.put("/etc/passwd", "");
    let error = install::install(&missing, &wish(), || Ok(())).expect_err("it fails");
    assert!(error.to_string().contains("none --root="), "{error}");
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_nothing_half_is_left() {
    let stage = Stage::new();
    stage.put("/etc/systemd", "");
    let error = stage.install(&wish()).expect_err("it fails");
    assert!(error.to_string().starts_with(&format!("cannot read {UNIT} (")), "{error}");
    fs::remove_file(stage.machine.at("/etc/systemd")).expect("removed");
    fs::create_dir_all(stage.machine.at("/etc/systemd/system")).expect("made");
    stage.put("/etc/sysusers.d", "");
    let error = stage.install(&wish()).expect_err("it fails");
    assert!(error.to_string().contains(SYSUSERS), "{error}");
    let left = stage.files();
    assert!(
        left.iter().all(|(path, _)| !path.file_name().unwrap().to_string_lossy().starts_with('.')),
        "{left:?}"
    );
    let error = stage.machine.write("/etc/passwd/x", "").expect_err("below a file");
    assert!(error.to_string().starts_with("cannot write /etc/passwd/x ("), "{error}");
    let error = stage.machine.remove("/usr/bin").expect_err("a directory");
    assert!(error.to_string().starts_with("cannot remove /usr/bin ("), "{error}");
}

#[test]
fn a_purge_deletes_the_state_and_the_user_that_install_made() {
    let stage = Stage::new();
    let purge = uninstall::Wish { purge: true, ..Default::default() };
    assert_eq!(uninstall::loss(&stage.machine, purge).expect("nothing"), None);
    stage.install(&wish()).expect("installed");
    stage.join("home");
    let beside = StateDir::open(stage.machine.at(state_dir::DEFAULT).join("work")).expect("opened");
    beside.save_network(&NetworkState::create("work", Vec::new(), &mut SystemRng)).expect("saved");
    let loss = uninstall::loss(&stage.machine, purge).expect("read").expect("something");
    let expected = Loss {
        state: Some(state_dir::DEFAULT.into()),
        settings: None,
        networks: vec!["home".into(), "work".into()],
        has_node_key: true,
        has_admin_key: false,
        copies: vec![],
    };
    assert_eq!(loss, expected);

    // Without it the state stays, and whose it is.
    stage.put("/etc/systemd/system/shadowmesh.service.d/names.conf", "");
    stage.put("/etc/shadowmesh/rules", "");
    // As an earlier version laid it out, which had fewer keys.
    stage.put(config_file::DEFAULT, &stamp::stamped("# Settings.\n\n# mtu = 1400\n"));
    let stopped = Cell::new(false);
    let make_way = || {
        stopped.set(stage.told().iter().any(|line| line == "systemctl disable --now shadowmesh.service"));
        Ok(())
    };
    let done = uninstall::uninstall(&stage.machine, uninstall::Wish::default(), make_way).expect("removed");
    assert!(stopped.get(), "names that it left are taken out when it is gone");
    let drop_ins = "/etc/systemd/system/shadowmesh.service.d";
    assert_eq!(done.removed, paths(&[UNIT, config_file::DEFAULT]));
    assert_eq!(done.left, paths(&[drop_ins, state_dir::DEFAULT, SYSUSERS]));
    assert!(stage.machine.has_user().expect("read") && stage.has("/etc/shadowmesh/rules"));
    stage.install(&wish()).expect("installed again");
    stage.put(config_file::DEFAULT, "mtu = 1300\n");
    stage.told();

    // A network beside it that is in use keeps all.
    let lock = beside.lock().expect("free");
    let error = stage.uninstall(purge).expect_err("refused");
    assert!(error.to_string().contains("already running"), "{error}");
    assert!(stage.has(UNIT) && stage.told().is_empty());
    drop(lock);
    // One that took the state when the service was stopped keeps that.
    let mut lock = None;
    let taken = || {
        lock = Some(stage.state().lock().expect("free"));
        Ok(())
    };
    let error = uninstall::uninstall(&stage.machine, purge, taken).expect_err("refused");
    assert!(error.to_string().contains("already running"), "{error}");
    assert!(stage.has(state_dir::DEFAULT));
    drop(lock);
    // The directory of the socket belongs to the user.
    stage.put("/run/shadowmesh/other.sock", "");
    let done = stage.uninstall(purge).expect("removed");
    assert!(done.removed_user && !stage.has(state_dir::DEFAULT) && !stage.has(SYSUSERS), "{done:?}");
    assert_eq!(done.left, paths(&[drop_ins, "/run/shadowmesh"]));
    fs::remove_file(stage.machine.at("/run/shadowmesh/other.sock")).expect("removed");
    let done = stage.uninstall(purge).expect("removed");
    assert_eq!((done.removed, done.left), (paths(&["/run/shadowmesh"]), paths(&[drop_ins])));
}

#[test]
fn a_user_that_was_there_before_stays() {
    let stage = Stage::new();
    stage.put("/etc/passwd", "shadowmesh:x:1:1::/:/bin/sh\n");
    let done = stage.install(&wish()).expect("installed");
    assert!(!done.written.contains(&SYSUSERS.into()), "{done:?}");
    assert!(!stage.told().iter().any(|line| line.starts_with("systemd-sysusers")));
    stage.join("home");
    let done = stage.uninstall(uninstall::Wish { purge: true, ..Default::default() }).expect("removed");
    assert!(!done.removed_user && stage.machine.has_user().expect("read"), "{done:?}");
}

#[test]
fn what_leave_promised_to_keep_is_not_purged_without_a_word() {
    let stage = Stage::new();
    let purge = uninstall::Wish { purge: true, ..Default::default() };
    stage.install(&wish()).expect("installed");
    stage.join("home");
    let beside = StateDir::open(stage.machine.at(state_dir::DEFAULT).join("work")).expect("opened");
    beside.save_network(&NetworkState::create("work", Vec::new(), &mut SystemRng)).expect("saved");
    let without = beside.keep_copy().expect("kept").expect("a copy");
    let key = Authority::generate(&mut SystemRng);
    beside.save_authority(&key).expect("saved");
    let active = beside.keep_copy().expect("kept").expect("a copy");
    beside.put_authority_aside().expect("put aside");
    beside.discard_authority(None).expect("discarded");
    let aside = beside.keep_copy().expect("kept").expect("a copy");
    beside.forget_network().expect("left");
    // One that does not read may be all that is left of a key.
    let half = stage.machine.at(state_dir::DEFAULT).join("left-half");
    fs::write(&half, "{ \"shadowmesh_network\": 1, ").expect("written");
    symlink("nowhere", stage.machine.at(state_dir::DEFAULT).join("left-link")).expect("laid");
    stage.told();
    let refused = |error: &ServiceError| {
        let said = error.to_string();
        for (file, is_named) in [(&active, true), (&aside, true), (&half, true), (&without, false)] {
            let shown = file.display().to_string();
            let is_there = said.contains(&format!("{shown},")) || said.contains(&format!("{shown})"));
            assert_eq!(is_there, is_named, "{shown} in {said}");
        }
        assert!(said.contains("--discard-admin-key") && !said.contains("left-link"), "{said}");
    };
    refused(&uninstall::loss(&stage.machine, purge).expect_err("refused"));
    let error = stage.uninstall(purge).expect_err("refused");
    refused(error.downcast_ref().expect("one of ours"));
    assert!(stage.has(UNIT) && active.exists() && stage.told().is_empty());
    let given_up = uninstall::Wish { discard_admin_key: true, ..purge };
    let loss = uninstall::loss(&stage.machine, given_up).expect("read").expect("something");
    assert!(!loss.has_admin_key && loss.copies.len() == 3, "{loss:?}");
    stage.uninstall(given_up).expect("removed");
    assert!(!stage.has(state_dir::DEFAULT));
}

#[test]
fn the_key_of_an_admin_and_what_is_no_state_stay() {
    let stage = Stage::new();
    let purge = uninstall::Wish { purge: true, ..Default::default() };
    stage.install(&wish()).expect("installed");
    stage.put("/var/lib/shadowmesh/photos/1", "");
    stage.told();
    let error = stage.uninstall(purge).expect_err("refused");
    assert!(matches!(error.downcast_ref(), Some(ServiceError::NotState(_))), "{error}");
    stage.join("home");
    stage.put("/var/lib/shadowmesh/admin.key", "x");
    let error = stage.uninstall(purge).expect_err("refused");
    assert!(matches!(error.downcast_ref(), Some(ServiceError::AdminKey)), "{error}");
    // Also one that another took the place of.
    fs::remove_file(stage.machine.at("/var/lib/shadowmesh/admin.key")).expect("removed");
    stage.put("/var/lib/shadowmesh/admin.key.abcdefghij", "x");
    let error = uninstall::loss(&stage.machine, purge).expect_err("refused");
    assert!(matches!(error, ServiceError::AdminKey), "{error}");
    // What cannot be read may be of a newer version, and is nobody's to delete.
    stage.put("/var/lib/shadowmesh/state.toml", "version = 9\n");
    let given_up = uninstall::Wish { discard_admin_key: true, ..purge };
    let error = stage.uninstall(given_up).expect_err("refused");
    assert!(error.to_string().contains("newer shadowmesh"), "{error}");
    assert!(stage.has(UNIT) && stage.told().is_empty());
    stage.put("/var/lib/shadowmesh/state.toml", "version = 1\n");
    stage.put("/var/lib/shadowmesh/network.toml", "?");
    let loss = uninstall::loss(&stage.machine, given_up).expect("read").expect("something");
    assert!(loss.has_admin_key && loss.networks == ["one that cannot be read"], "{loss:?}");
    stage.uninstall(given_up).expect("removed");
    assert!(!stage.has(state_dir::DEFAULT));
}
