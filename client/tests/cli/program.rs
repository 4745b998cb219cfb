//! Runs the program in a home of its own, and tickets to run it with.

use shadowmesh_proto::ids::RelayId;
use shadowmesh_proto::ticket::{Invite, RelayTicket};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use zeroize::Zeroizing;

/// A state directory and a socket that nobody else has.
pub(crate) struct Home(tempfile::TempDir);

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("control.sock")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_shadowmesh")), args)
    }

    pub(crate) fn command_of(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        // Through the environment, so that a test's own --state wins.
        command.env("SHADOWMESH_STATE", self.state()).env("SHADOWMESH_SOCKET", self.socket());
        command.env_remove("JOURNAL_STREAM").env_remove("RUST_LOG").env_remove("SHADOWMESH_LOG");
        // Another machine has its own.
        if args.contains(&"--root") {
            command.env_remove("SHADOWMESH_STATE").env_remove("SHADOWMESH_SOCKET");
        }
        command.args(args).stdin(Stdio::null());
        if self.path("bin").exists() {
            command.env(
                "PATH",
                format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap_or_default()),
            );
        }
        command
    }

    /// Programs of the machine that do nothing, from now on, and are found before the real ones.
    pub(crate) fn stand_in(&self, programs: &[&str]) {
        fs::create_dir_all(self.path("bin")).expect("made");
        for program in programs {
            let file = self.path("bin").join(program);
            fs::write(&file, "#!/bin/sh\n").expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("set");
        }
    }

    /// The root directory of a machine that has this program in /usr/bin and no user but root.
    pub(crate) fn image(&self) -> PathBuf {
        let root = self.path("root");
        for dir in ["etc", "usr/bin"] {
            fs::create_dir_all(root.join(dir)).expect("made");
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("written");
        fs::write(root.join("etc/group"), "root:x:0:\n").expect("written");
        fs::write(root.join("usr/bin/shadowmesh"), "#!/bin/sh\n").expect("written");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(root.join("usr/bin/shadowmesh"), mode).expect("set");
        root
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).output().expect("run"))
    }

    pub(crate) fn run_with_stdin(&self, args: &[&str], stdin: &str) -> Done {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        child.stdin.take().expect("a pipe").write_all(stdin.as_bytes()).expect("written");
        Done::of(child.wait_with_output().expect("ended"))
    }
}

/// A relay that is nowhere: port 1 of this machine.
fn relay() -> RelayTicket {
    RelayTicket { key: RelayId([7; 32]), addresses: vec!["127.0.0.1:1".into()], expires: None }
}

pub(crate) fn relay_ticket() -> String {
    relay().to_text()
}

/// An invite into a network that no other call names.
pub(crate) fn invite(network: &str) -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    invite_with(network, NEXT.fetch_add(1, Ordering::Relaxed), None)
}

pub(crate) fn expired_invite() -> String {
    invite_with("old", 200, Some(1_000_000_000))
}

fn invite_with(network: &str, secret: u8, expires: Option<u64>) -> String {
    let invite = Invite {
        secret: Zeroizing::new([secret; 32]),
        generation: 0,
        network_name: network.into(),
        relays: vec![relay()],
        expires,
        name: None,
        delegated: None,
    };
    invite.to_text().to_string()
}

/// Asserts exit code 1 and one sentence, the last line of stderr, that contains `why`.
#[track_caller]
pub(crate) fn refused(done: &Done, why: &str) {
    assert_eq!(done.code, Some(1), "{done:?}");
    let sentence = done.stderr.lines().last().unwrap_or_default();
    assert!(sentence.starts_with("shadowmesh: ") && sentence.contains(why), "{why:?} in {done:?}");
}
