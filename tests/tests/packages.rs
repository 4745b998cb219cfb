//! The Debian packages: what is in them, that the same input gives the same bytes, and what an installation, an upgrade, a removal and a purge leave
//! behind, by the machine's own dpkg in a directory that stands for a machine. The programs in them are stand-ins: their own tests are elsewhere.

#![expect(clippy::print_stdout, reason = "what was not tried is said, to whoever runs it with --no-capture")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PACKAGES: [&str; 2] = ["shadowmesh", "shadowmesh-relay"];

/// Whether the programs are here that this takes; says which is not.
fn has_programs(programs: &[&str]) -> bool {
    programs.iter().all(|program| {
        let is_here = Command::new(program).arg("--version").output().is_ok();
        if !is_here {
            println!("skipped: {program} is not installed on this machine");
        }
        is_here
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository")
}

fn said(done: &Output) -> String {
    [done.stdout.as_slice(), &done.stderr].map(String::from_utf8_lossy).concat()
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let done = command.output().expect("run");
    assert!(done.status.success(), "{command:?}: {}", said(&done));
    String::from_utf8(done.stdout).expect("text")
}

/// A directory with stand-ins for both programs, and for packages.
struct Shop(tempfile::TempDir);

impl Shop {
    fn new() -> Self {
        let shop = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir(shop.at("bin")).expect("made");
        for program in PACKAGES {
            fs::copy("/bin/true", shop.at("bin").join(program)).expect("copied");
        }
        shop
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn deb(&self, more: &[&str]) -> Command {
        let texts = Path::new(env!("CARGO_BIN_EXE_manpages")).parent().expect("a directory");
        let mut command = Command::new(root().join("scripts/deb"));
        command.arg("--bin-dir").arg(self.at("bin")).arg("--texts").arg(texts).arg("--uncompressed");
        command.env("SOURCE_DATE_EPOCH", "1700000000").args(more);
        command
    }

    /// Packages of a revision, in the order of [`PACKAGES`].
    fn build(&self, revision: &str) -> [PathBuf; 2] {
        let out = self.at(&format!("out{revision}"));
        run(&mut self.deb(&["--revision", revision, "--out", out.to_str().expect("text")]));
        let version = format!("{}-{revision}", env!("CARGO_PKG_VERSION"));
        PACKAGES.map(|name| out.join(format!("{name}_{version}_amd64.deb")))
    }
}

fn control(package: &Path, field: &str) -> String {
    run(Command::new("dpkg-deb").arg("--field").args([package.as_os_str(), field.as_ref()])).trim().to_owned()
}

#[test]
fn they_hold_what_a_machine_needs_and_the_same_input_gives_the_same_bytes() {
    if !has_programs(&["dpkg-deb", "objdump", "gzip"]) {
        return;
    }
    let shop = Shop::new();
    let packages = shop.build("1");
    let first = packages.each_ref().map(|package| fs::read(package).expect("read"));
    // Later, and with files that are new.
    for program in PACKAGES {
        fs::copy("/bin/true", shop.at("bin").join(program)).expect("copied");
    }
    let again = shop.build("1").map(|package| fs::read(package).expect("read"));
    assert!(first == again, "two builds differ");

    for (name, package) in PACKAGES.into_iter().zip(&packages) {
        let at = shop.at(name);
        run(Command::new("dpkg-deb").arg("--raw-extract").args([package, &at]));
        let settings = if name == "shadowmesh" { "config.toml" } else { "relay.toml" };
        for (file, mode) in [
            (format!("usr/bin/{name}"), 0o755),
            (format!("usr/lib/systemd/system/{name}.service"), 0o644),
            (format!("usr/share/man/man1/{name}.1.gz"), 0o644),
            (format!("usr/share/man/man1/{name}-completions.1.gz"), 0o644),
            (format!("usr/share/bash-completion/completions/{name}"), 0o644),
            (format!("usr/share/zsh/vendor-completions/_{name}"), 0o644),
            (format!("usr/share/fish/vendor_completions.d/{name}.fish"), 0o644),
            (format!("usr/share/doc/{name}/copyright"), 0o644),
            (format!("usr/share/doc/{name}/changelog.gz"), 0o644),
            (format!("usr/share/doc/{name}/changelog.Debian.gz"), 0o644),
            (format!("etc/shadowmesh/{settings}"), 0o644),
            ("DEBIAN/postinst".into(), 0o755),
            ("DEBIAN/prerm".into(), 0o755),
            ("DEBIAN/postrm".into(), 0o755),
        ] {
            let found =
                fs::metadata(at.join(&file)).unwrap_or_else(|error| panic!("{name}: {file}: {error}"));
            assert_eq!(found.permissions().mode() & 0o7777, mode, "{name}: {file}");
            assert!(found.len() > 0, "{name}: {file} is empty");
        }
        let same = |file: &str, source: &str| {
            let read = |path: PathBuf| fs::read_to_string(path).expect("read");
            assert_eq!(read(at.join(file)), read(root().join(source)), "{file}");
        };
        same(&format!("usr/lib/systemd/system/{name}.service"), &format!("deploy/systemd/{name}.service"));
        let conffiles = fs::read_to_string(at.join("DEBIAN/conffiles")).expect("read");
        assert_eq!(conffiles, format!("/etc/shadowmesh/{settings}\n"));
        // What the daemons say to the settings as they are installed.
        let path = at.join("etc/shadowmesh").join(settings);
        if name == "shadowmesh" {
            same("usr/lib/sysusers.d/shadowmesh.conf", "deploy/sysusers.d/shadowmesh.conf");
            let read = shadowmesh::daemon::config_file::ConfigFile::new(&path).read();
            assert_eq!(read.expect("accepted"), shadowmesh::config::Config::default());
        } else {
            let read = shadowmesh_relay::config::ConfigFile::read(&path).expect("accepted");
            assert_eq!(read.settings, shadowmesh_relay::config::Settings::default());
        }
        for script in ["postinst", "prerm", "postrm"] {
            run(Command::new("sh").arg("-n").arg(at.join("DEBIAN").join(script)));
        }
        let sums = run(Command::new("md5sum").args(["--check", "DEBIAN/md5sums"]).current_dir(&at));
        assert!(sums.lines().count() > 12 && sums.lines().all(|line| line.ends_with(": OK")), "{sums}");
        let lists = run(Command::new("dpkg-deb").arg("--contents").arg(package));
        assert!(lists.lines().all(|line| line.contains(" root/root ")), "{lists}");
        assert!(lists.lines().all(|line| line.contains("2023-11-14")), "{lists}");
        assert_eq!(control(package, "Architecture"), "amd64");
        let depends = control(package, "Depends");
        assert!(depends.starts_with("libc6 (>= 2."), "{depends}");
        assert_eq!(depends.contains("sysusers"), name == "shadowmesh", "{depends}");
    }
    // Every page is in one of them, and none in both.
    let pages = PACKAGES.map(|name| {
        let dir = fs::read_dir(shop.at(name).join("usr/share/man/man1")).expect("pages");
        dir.map(|page| page.expect("a page").file_name().into_string().expect("text"))
            .collect::<BTreeSet<_>>()
    });
    assert!(pages[0].is_disjoint(&pages[1]), "{pages:?}");
    assert!(pages[0].contains("shadowmesh-relays.1.gz") && pages[1].contains("shadowmesh-relay-ticket.1.gz"));
    let all = shadowmesh_tests::manual::pages(shadowmesh::cli::command()).expect("pages").len();
    assert_eq!(pages[0].len(), all);
}

#[test]
fn what_cannot_be_packed_is_said() {
    let shop = Shop::new();
    for (args, why) in [
        (&["--arch", "riscv64"][..], "amd64 and arm64"),
        (&["--revision", "x"], "a revision is a number"),
        (&["--bin-dir", "/nowhere"], "/nowhere/shadowmesh is not there"),
    ] {
        let done = shop.deb(args).output().expect("run");
        assert!(done.status.code() == Some(1) && said(&done).contains(why), "{args:?}: {}", said(&done));
    }
    for args in [&["--out"][..], &["--colour", "red"]] {
        assert_eq!(shop.deb(args).output().expect("run").status.code(), Some(2), "{args:?}");
    }
    let mut other = Command::new(root().join("scripts/deb"));
    let done = other.args(["--arch", "arm64"]).output().expect("run");
    assert!(done.status.code() == Some(1) && said(&done).contains("--bin-dir"), "{}", said(&done));
}

/// A directory that stands for a machine, with dpkg's records in it.
struct Machine(PathBuf);

impl Machine {
    fn new(root: PathBuf) -> Self {
        for dir in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/log", "etc"] {
            fs::create_dir_all(root.join(dir)).expect("made");
        }
        for (file, text) in [
            ("var/lib/dpkg/status", ""),
            ("var/lib/dpkg/available", ""),
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
            ("etc/group", "root:x:0:\n"),
        ] {
            fs::write(root.join(file), text).expect("written");
        }
        Self(root)
    }

    fn dpkg(&self, words: &[&str], packages: &[&Path]) -> String {
        let mut command = Command::new("dpkg");
        // No shell in there to run scripts, no C library to depend on, and no questions.
        command.args(["--force-script-chrootless", "--force-depends", "--force-confdef", "--force-confold"]);
        command.arg(format!("--root={}", self.0.display())).args(words).args(packages);
        run(command.env("DEBIAN_FRONTEND", "noninteractive"))
    }

    fn has(&self, file: &str) -> bool {
        fs::symlink_metadata(self.0.join(file)).is_ok()
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }
}

/// Whether dpkg can work here: it takes its programs, and root.
fn has_dpkg() -> bool {
    if !has_programs(&["dpkg", "dpkg-deb", "objdump", "systemd-sysusers", "userdel", "groupdel", "flock"]) {
        return false;
    }
    let is_root = fs::metadata("/proc/self").expect("there").uid() == 0;
    if !is_root {
        println!("skipped: dpkg installs for root alone");
    }
    is_root
}

#[test]
fn a_purge_names_the_keys_of_admins_that_it_deletes() {
    let shop = Shop::new();
    let machine = Machine::new(shop.at("machine"));
    let purge = || {
        let mut script = Command::new("sh");
        script.arg(root().join("deploy/debian/shadowmesh/postrm")).arg("purge").env("DPKG_ROOT", &machine.0);
        let done = script.output().expect("run");
        assert!(done.status.success() && !machine.has("var/lib/shadowmesh"), "{}", said(&done));
        said(&done)
    };
    let keys = ["admin.key", "admin.key.abcdefghij", "left-home", "work/admin.key", "work/left-my\x1blan"];
    for file in keys.into_iter().chain(["node.key", "work/network.toml"]) {
        let file = machine.0.join("var/lib/shadowmesh").join(file);
        fs::create_dir_all(file.parent().expect("below")).expect("made");
        fs::write(file, "secret").expect("written");
    }
    let said = purge();
    for file in keys {
        assert!(said.contains(&format!("shadowmesh/{}\n", file.replace('\x1b', "?"))), "{file} in {said}");
    }
    assert!(!said.contains("node.key") && !said.contains("network.toml"), "{said}");
    fs::create_dir_all(machine.0.join("var/lib/shadowmesh")).expect("made");
    assert_eq!(purge(), "", "nothing of an admin was there");
}

#[test]
fn a_purge_leaves_alone_what_is_not_the_packages() {
    if !has_dpkg() {
        return;
    }
    let shop = Shop::new();
    let [package, _] = shop.build("1");
    let machine = Machine::new(shop.at("machine"));
    let put = |file: &str, text: &str| {
        let file = machine.0.join(file);
        fs::create_dir_all(file.parent().expect("below")).expect("made");
        fs::write(file, text).expect("written");
    };
    let (unit, wants) = (
        "etc/systemd/system/shadowmesh.service",
        "etc/systemd/system/multi-user.target.wants/shadowmesh.service",
    );
    let stays = |why: &str| {
        for file in
            ["var/lib/shadowmesh/admin.key", "var/lib/shadowmesh/work/node.key", "run/shadowmesh", wants]
        {
            assert!(machine.has(file), "{why}: {file}");
        }
        for file in ["etc/passwd", "etc/group"] {
            assert!(machine.text(file).contains("\nshadowmesh:"), "{why}: {}", machine.text(file));
        }
    };
    put("var/lib/shadowmesh/admin.key", "secret");
    put("var/lib/shadowmesh/work/node.key", "secret");
    fs::create_dir_all(machine.0.join("run/shadowmesh")).expect("made");
    put(wants, "");

    // Another program's service took the place of the package's.
    machine.dpkg(&["--install"], &[&package]);
    machine.dpkg(&["--remove", "shadowmesh"], &[]);
    put(unit, "[Service]\nExecStart=/usr/local/bin/shadowmesh up --config /etc/shadowmesh/config.toml\n");
    machine.dpkg(&["--purge", "shadowmesh"], &[]);
    stays("another's unit");
    assert!(machine.has(unit));

    // A daemon by hand has the state, or one beside it.
    for lock in ["var/lib/shadowmesh/.lock", "var/lib/shadowmesh/work/.lock"] {
        fs::remove_file(machine.0.join(unit)).ok();
        machine.dpkg(&["--install"], &[&package]);
        put(lock, "1\n");
        let held = fs::File::open(machine.0.join(lock)).expect("opened");
        held.lock().expect("free");
        machine.dpkg(&["--purge", "shadowmesh"], &[]);
        stays(lock);
    }

    // A unit that runs the package's program is a person's change of it, and keeps nothing.
    machine.dpkg(&["--install"], &[&package]);
    put(unit, "[Service]\nExecStart=\nExecStart=-/usr/bin/shadowmesh up --names on\n");
    machine.dpkg(&["--purge", "shadowmesh"], &[]);
    assert!(!machine.has("var/lib/shadowmesh") && !machine.has(wants) && machine.has(unit));
    assert!(!machine.has("run/shadowmesh"), "its number is free for another user");
    assert!(!machine.text("etc/passwd").contains("shadowmesh"), "{}", machine.text("etc/passwd"));
}

#[test]
fn dpkg_installs_upgrades_removes_and_purges_them() {
    if !has_dpkg() {
        return;
    }
    let shop = Shop::new();
    let (first, second) = (shop.build("1"), shop.build("2"));
    let machine = Machine::new(shop.at("machine"));
    let version = |name: &str| {
        machine
            .dpkg(&["--status", name], &[])
            .lines()
            .find_map(|line| line.strip_prefix("Version: ").map(ToOwned::to_owned))
    };
    machine.dpkg(&["--install"], &[&first[0], &first[1]]);
    assert_eq!(version("shadowmesh"), Some(format!("{}-1", env!("CARGO_PKG_VERSION"))));
    assert!(machine.text("etc/passwd").contains("\nshadowmesh:"), "{}", machine.text("etc/passwd"));
    for name in PACKAGES {
        assert!(
            !machine.has(&format!("etc/systemd/system/multi-user.target.wants/{name}.service")),
            "nothing is enabled"
        );
    }
    assert!(!machine.has("var/lib/shadowmesh"), "nothing was started");

    // A person changes settings, joins and enables.
    fs::write(machine.0.join("etc/shadowmesh/config.toml"), "mtu = 1300\n").expect("written");
    for state in ["var/lib/shadowmesh", "var/lib/private/shadowmesh-relay"] {
        fs::create_dir_all(machine.0.join(state)).expect("made");
        fs::write(machine.0.join(state).join("key"), "secret").expect("written");
    }
    let wants = machine.0.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).expect("made");
    for name in PACKAGES {
        std::os::unix::fs::symlink(
            format!("/usr/lib/systemd/system/{name}.service"),
            wants.join(format!("{name}.service")),
        )
        .expect("laid");
    }
    machine.dpkg(&["--install"], &[&second[0], &second[1]]);
    assert_eq!(version("shadowmesh-relay"), Some(format!("{}-2", env!("CARGO_PKG_VERSION"))));
    assert_eq!(machine.text("etc/shadowmesh/config.toml"), "mtu = 1300\n");
    assert_eq!(machine.text("var/lib/shadowmesh/key"), "secret");

    machine.dpkg(&["--remove", "shadowmesh", "shadowmesh-relay"], &[]);
    assert!(!machine.has("usr/bin/shadowmesh") && !machine.has("usr/lib/systemd/system/shadowmesh.service"));
    assert_eq!(machine.text("etc/shadowmesh/config.toml"), "mtu = 1300\n");
    assert_eq!(machine.text("var/lib/private/shadowmesh-relay/key"), "secret");
    assert!(
        machine.has("etc/systemd/system/multi-user.target.wants/shadowmesh.service"),
        "a later installation goes on"
    );

    machine.dpkg(&["--purge", "shadowmesh"], &[]);
    assert!(!machine.has("var/lib/shadowmesh") && !machine.has("etc/shadowmesh/config.toml"));
    assert!(machine.has("etc/shadowmesh/relay.toml") && machine.has("var/lib/private/shadowmesh-relay/key"));
    for file in ["etc/passwd", "etc/group"] {
        assert!(!machine.text(file).contains("shadowmesh"), "{}", machine.text(file));
    }
    // A person of that name stays.
    machine.dpkg(&["--install"], &[&second[0]]);
    let person = "shadowmesh:x:1000:1000:Anna:/home/anna:/bin/sh\n";
    fs::write(machine.0.join("etc/passwd"), format!("root:x:0:0:root:/root:/bin/sh\n{person}"))
        .expect("written");
    machine.dpkg(&["--purge", "shadowmesh"], &[]);
    assert!(machine.text("etc/passwd").contains(person), "{}", machine.text("etc/passwd"));
    machine.dpkg(&["--purge", "shadowmesh-relay"], &[]);
    for gone in [
        "etc/shadowmesh",
        "var/lib/private/shadowmesh-relay",
        "usr/share/doc/shadowmesh",
        "usr/share/doc/shadowmesh-relay",
    ] {
        assert!(!machine.has(gone), "{gone}");
    }
    assert!(fs::read_dir(&wants).map_or(true, |mut links| links.next().is_none()), "a link is left");
}
