//! The machine that the service is one of: its files, and the programs that are told.
//!
//! Another machine's root directory can stand for it (`--root`): files are written there, systemctl and systemd-sysusers are told where, and nothing is
//! started.

use super::install;
use super::unit::{self, PathFault};
use rustix::process::{getegid, geteuid};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Largest file of ours that is read, bytes.
const MAX_FILE: u64 = 256 * 1024;
/// What begins the sentence with which a daemon fails.
const FAILURE: &str = "shadowmesh: ";

/// Why the service was not installed or removed. Each text is one sentence with a remedy.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Nobody could start it.
    #[error(
        "systemd does not run here (there is no /run/systemd/system): run `sudo shadowmesh up --detach` instead, or only write the files, with --no-start"
    )]
    NoSystemd,
    /// Only root writes units.
    #[error("only root can do this: type it with sudo, or name another root directory with --root")]
    NotRoot,
    /// The unit is written for the usual directory and socket.
    #[error(
        "the service is that of the network in /var/lib/shadowmesh: --state, --socket and --network (and SHADOWMESH_STATE, SHADOWMESH_SOCKET) \
         name another one, for which a copy of the unit is made by hand (deploy/README.md)"
    )]
    Elsewhere,
    /// The program is where the service cannot run it.
    #[error("the service cannot run {} ({fault}): `sudo install -m 0755 {} /usr/local/bin/shadowmesh`, then `sudo shadowmesh install`", .path.display(), .path.display())]
    Program {
        /// The program.
        path: PathBuf,
        /// Why not.
        fault: ProgramFault,
    },
    /// The file of settings cannot be named.
    #[error("the service cannot read settings from {} ({fault}): move them, as into /etc/shadowmesh", .path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// Why not.
        fault: PathFault,
    },
    /// The file of settings is not there, or has a fault.
    #[error(transparent)]
    ConfigFile(#[from] crate::daemon::config_file::ConfigFileError),
    /// There is nothing to start it for.
    #[error(
        "this host is in no network yet, so there is nothing to start: join one with `sudo shadowmesh up --detach smi1...` and install the service then, or leave out --now"
    )]
    NoNetwork,
    /// A person changed a file of ours.
    #[error(
        "{} is not as `shadowmesh install` wrote it: keep changes in a drop-in (`sudo systemctl edit shadowmesh`), or give them up with --force", .path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// What would go and come.
        differences: Vec<String>,
    },
    /// A package's files are the package's.
    #[error(
        "the service belongs to a package: remove it with `sudo apt remove shadowmesh`, or with its state by `sudo apt purge shadowmesh`"
    )]
    Packaged,
    /// The state has the key of an admin.
    #[error(
        "this host has the key of an admin: keep a copy (`sudo shadowmesh network export FILE`), or give it up with --discard-admin-key"
    )]
    AdminKey,
    /// The state has copies of networks that were left, and the key of an admin is in them.
    #[error(
        "the key of an admin is in what `shadowmesh leave` kept here ({}): move it away, or give it up with --discard-admin-key",
        in_one(.0)
    )]
    AdminCopies(Vec<PathBuf>),
    /// What is behind it is somewhere else, and may be more than the state.
    #[error("{} is a link: delete what it leads to by hand, then the link", .0.display())]
    StateLink(PathBuf),
    /// It would be written or removed on this machine instead of the one that is meant.
    #[error("{} leads out of {} by a link, and nothing is changed outside of that directory", .path.display(), .root.display())]
    Outside {
        /// The file.
        path: PathBuf,
        /// The root directory that was named.
        root: PathBuf,
    },
    /// It is a directory of something else.
    #[error("{} is not a state directory of shadowmesh, and stays: delete it by hand", .0.display())]
    NotState(PathBuf),
    /// The state's directory is in use, or cannot be read.
    #[error(transparent)]
    State(#[from] crate::daemon::state_dir::StateError),
    /// A file or directory.
    #[error("cannot {what} {} ({cause})", .path.display())]
    File {
        /// Write, read or remove.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A program that has to be told.
    #[error("`{line}` {said}")]
    Told {
        /// What was run.
        line: String,
        /// How it ended.
        said: String,
    },
    /// The daemon ended as soon as it began.
    #[error("the service does not start: {0}")]
    DoesNotStart(String),
}

/// Why the service cannot run a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProgramFault {
    /// It cannot be named, or is where the service does not look.
    #[error(transparent)]
    Path(#[from] PathFault),
    /// It is not there.
    #[error("it is not there")]
    Missing,
    /// The service's user may not run it: its mode, or that of a directory above it.
    #[error("others than its owner may not run it")]
    NotExecutable,
    /// Others could replace what runs with rights over the network.
    #[error("others than root, or a group, may write to it or to a directory above it")]
    Writable,
    /// Its owner could.
    #[error("another user than root owns it, or a directory above it")]
    Foreign,
}

/// A machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its root directory: `/`, or another machine's.
    pub root: PathBuf,
    /// Whether its systemd runs and can be told.
    pub is_live: bool,
    /// Programs, looked for in `PATH` where they are no whole paths.
    pub systemctl: PathBuf,
    /// Makes users (systemd-sysusers(8)).
    pub sysusers: PathBuf,
    /// Removes them (userdel(8)).
    pub userdel: PathBuf,
    /// Removes groups (groupdel(8)).
    pub groupdel: PathBuf,
    /// Reads the journal (journalctl(1)).
    pub journalctl: PathBuf,
}

impl Machine {
    /// This one, or one whose root directory is mounted at `root`.
    pub fn new(root: Option<PathBuf>) -> Self {
        let is_live = root.is_none() && sd_notify::booted().unwrap_or(false);
        Self {
            root: root.unwrap_or_else(|| "/".into()),
            is_live,
            systemctl: "systemctl".into(),
            sysusers: "systemd-sysusers".into(),
            userdel: "userdel".into(),
            groupdel: "groupdel".into(),
            journalctl: "journalctl".into(),
        }
    }

    /// Whether it is the one that this runs on.
    pub fn is_this(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where one of its files is found here.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The text of one of its files; `None` where it is not there.
    ///
    /// # Errors
    /// `File`.
    pub fn read(&self, path: &str) -> Result<Option<String>, ServiceError> {
        let refused = |cause| ServiceError::File { what: "read", path: path.into(), cause };
        let at = self.at(path);
        // Nobody waits for who may write into what is no ordinary file.
        let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&at) {
            Ok(file) => file,
            // A link to nothing is somebody's, such as that of `systemctl mask` in an image.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(fs::symlink_metadata(at).is_ok().then(String::new));
            }
            Err(error) => return Err(refused(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(refused)?;
        // What is no text was not written by us.
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Puts one of its files in place of what is there, whole; everybody may read it.
    ///
    /// # Errors
    /// `File`.
    pub fn write(&self, path: &str, text: &str) -> Result<(), ServiceError> {
        let refused = |cause| ServiceError::File { what: "write", path: path.into(), cause };
        let to = self.at(path);
        let dir = to.parent().unwrap_or(&self.root);
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        // systemd, systemd-sysusers and people do not look at names that begin with a dot.
        let temporary = dir.join(format!(".{name}.{}", std::process::id()));
        let put = || -> io::Result<()> {
            fs::create_dir_all(dir)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &to)?;
            File::open(dir)?.sync_all()
        };
        put().map_err(|cause| {
            let _ = fs::remove_file(&temporary);
            refused(cause)
        })
    }

    /// Removes one of its files; `false` where it is not there.
    ///
    /// # Errors
    /// `File`.
    pub fn remove(&self, path: &str) -> Result<bool, ServiceError> {
        match fs::remove_file(self.at(path)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(cause) => Err(ServiceError::File { what: "remove", path: path.into(), cause }),
        }
    }

    /// Whether systemd runs and has a unit of ours: that of `install`, or a package's.
    pub fn has_service(&self) -> bool {
        self.is_live && (self.at(install::UNIT).exists() || install::has_package(self).unwrap_or(false))
    }

    /// The file of settings that the service reads, by its unit and what people added to that; `None` where it reads none, or there is no service.
    pub fn service_config(&self) -> Option<PathBuf> {
        let units = [install::UNIT].into_iter().chain(install::PACKAGED);
        let unit = units.into_iter().find_map(|path| self.read(path).ok()?)?;
        let names = fs::read_dir(self.at(unit::DROP_INS)).into_iter().flatten().flatten();
        let mut names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| name.ends_with(".conf"));
        names.sort();
        let drop_ins: Vec<String> =
            names.iter().filter_map(|name| self.read(&format!("{}/{name}", unit::DROP_INS)).ok()?).collect();
        unit::config_in(std::iter::once(unit.as_str()).chain(drop_ins.iter().map(String::as_str)))
    }

    /// Makes sure that no directory on the way to these files leads out of another machine's root: an image may come from anybody, and what a link
    /// in it leads to is looked for on this machine.
    ///
    /// # Errors
    /// `Outside`, `File`.
    pub fn check_inside(&self, paths: &[&Path]) -> Result<(), ServiceError> {
        if self.is_this() {
            return Ok(());
        }
        let root = fs::canonicalize(&self.root).map_err(|cause| ServiceError::File {
            what: "read",
            path: self.root.clone(),
            cause,
        })?;
        for path in paths {
            let at = self.at(path);
            let mut above = at.ancestors().skip(1).take_while(|dir| dir.starts_with(&self.root));
            // Below the innermost that is there they are made.
            let dir = above.find_map(|dir| fs::canonicalize(dir).ok());
            if dir.is_none_or(|dir| !dir.starts_with(&root)) {
                return Err(ServiceError::Outside { path: path.to_path_buf(), root: self.root.clone() });
            }
        }
        Ok(())
    }

    /// Whether it has a user of the service's name.
    ///
    /// # Errors
    /// `File`.
    pub fn has_user(&self) -> Result<bool, ServiceError> {
        self.lists("/etc/passwd")
    }

    /// Whether a file of users or groups has the service's.
    fn lists(&self, file: &str) -> Result<bool, ServiceError> {
        let text = self.read(file)?.unwrap_or_default();
        Ok(text.lines().any(|line| line.split(':').next() == Some(unit::USER)))
    }

    /// Where `program` is without links, if the service can run it: what was looked at is what a unit has to name, for a link may lead somewhere
    /// else tomorrow, and whoever has the directory that it is in decides that.
    ///
    /// # Errors
    /// `Program`.
    pub fn check_program(&self, program: &Path) -> Result<PathBuf, ServiceError> {
        let check = || -> Result<PathBuf, ProgramFault> {
            unit::check_path(program)?;
            let plain = |path: &Path| fs::canonicalize(path).map_err(|_| ProgramFault::Missing);
            let (root, file) = (plain(&self.root)?, plain(&self.at(program))?);
            // A whole path in a link of an image is looked for on this machine, and is none of the image's.
            let below = file.strip_prefix(&root).map_err(|_| ProgramFault::Missing)?;
            let named = Path::new("/").join(below);
            unit::check_path(&named)?;
            let found =
                fs::metadata(&file).ok().filter(fs::Metadata::is_file).ok_or(ProgramFault::Missing)?;
            let dirs = file.ancestors().skip(1).take_while(|dir| dir.starts_with(&root));
            let dirs: Vec<fs::Metadata> = dirs.filter_map(|dir| fs::metadata(dir).ok()).collect();
            // The root of another machine may be mounted where only root looks.
            let are_open = dirs.iter().all(|dir| dir.mode() & 0o001 != 0 || !self.is_this());
            if found.mode() & 0o001 == 0 || !are_open {
                return Err(ProgramFault::NotExecutable);
            }
            let trusted = [0, geteuid().as_raw()];
            let trusted_groups = [0, getegid().as_raw()];
            let is_others = |one: &fs::Metadata| {
                one.mode() & 0o002 != 0 || (one.mode() & 0o020 != 0 && !trusted_groups.contains(&one.gid()))
            };
            // Who may write a directory may put another program in its place, unless it is sticky.
            if is_others(&found) || dirs.iter().any(|dir| dir.mode() & 0o1000 == 0 && is_others(dir)) {
                return Err(ProgramFault::Writable);
            }
            let are_trusted = dirs.iter().chain([&found]).all(|one| trusted.contains(&one.uid()));
            if are_trusted { Ok(named) } else { Err(ProgramFault::Foreign) }
        };
        check().map_err(|fault| ServiceError::Program { path: program.into(), fault })
    }

    /// Tells systemd, or makes the links that it would find in the other root.
    ///
    /// # Errors
    /// `Told`.
    pub fn systemctl(&self, words: &[&str]) -> Result<(), ServiceError> {
        run(&self.systemctl, &self.rooted("--root", words)).map(drop)
    }

    /// Makes the service's user by its file.
    ///
    /// # Errors
    /// `Told`.
    pub fn make_user(&self, file: &str) -> Result<(), ServiceError> {
        let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
        run(&self.sysusers, &self.rooted("--root", &[&name])).map(drop)
    }

    /// Removes it, and its group, which userdel leaves where people are in it or login.defs(5) says so.
    ///
    /// # Errors
    /// `Told`, `File`.
    pub fn remove_user(&self) -> Result<(), ServiceError> {
        let mut words: Vec<String> = Vec::new();
        if !self.is_this() {
            words.extend(["--prefix".into(), self.root.display().to_string()]);
        }
        words.push(unit::USER.into());
        run(&self.userdel, &words)?;
        if self.lists("/etc/group")? { run(&self.groupdel, &words).map(drop) } else { Ok(()) }
    }

    /// The sentence with which the daemon failed last, as the journal has it.
    pub fn last_failure(&self) -> Option<String> {
        let words =
            ["--unit", unit::NAME, "--output", "cat", "--lines", "50", "--no-pager"].map(String::from);
        let said = run(&self.journalctl, &words).ok()?;
        said.lines().rev().find_map(|line| line.strip_prefix(FAILURE)).map(ToOwned::to_owned)
    }

    fn rooted(&self, option: &str, words: &[&str]) -> Vec<String> {
        let root = (!self.is_this()).then(|| format!("{option}={}", self.root.display()));
        root.into_iter().chain(words.iter().map(|word| (*word).to_owned())).collect()
    }
}

/// Runs a program to its end; what it printed.
fn run(program: &Path, words: &[String]) -> Result<String, ServiceError> {
    let line = || format!("{} {}", program.display(), words.join(" "));
    let mut command = Command::new(program);
    command.args(words).env("LC_ALL", "C").stdin(Stdio::null());
    let ended = command
        .output()
        .map_err(|cause| ServiceError::Told { line: line(), said: format!("cannot be run: {cause}") })?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let said = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("without a word");
    let said = format!("failed: {}", said.chars().take(300).collect::<String>());
    Err(ServiceError::Told { line: line(), said })
}

/// Files, as a part of a sentence: whose names the service's user may have chosen.
fn in_one(files: &[PathBuf]) -> String {
    let shown: Vec<String> =
        files.iter().map(|file| file.display().to_string().escape_debug().to_string()).collect();
    shown.join(", ")
}
