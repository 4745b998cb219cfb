//! A file that is replaced whole: written beside, synced, renamed over, and the directory synced so that the name is safe too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use zeroize::Zeroizing;

/// Nothing here is longer; a file that is was not written by us.
const MAX_LEN: u64 = 1 << 20;

/// Replaces `name` in `dir` by `bytes`, readable by the owner only.
///
/// # Errors
/// Whatever the system says. The old file is then still there.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let staged = dir.join(format!(".{name}.new"));
    // What a crash left behind; create_new then also refuses to follow a link that somebody put there.
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&staged, dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// The text of the file at `path`, wiped when dropped.
///
/// # Errors
/// Whatever the system says; `InvalidData` when it is not text or absurdly long.
pub(super) fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    if fs::metadata(path)?.len() > MAX_LEN {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too long"));
    }
    fs::read_to_string(path).map(Zeroizing::new)
}
