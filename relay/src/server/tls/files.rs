//! The operator's certificate and key, in files that something else renews: read at the start, and again when they change.
//!
//! What renews them replaces one after the other, so a change counts once both have stayed as they are from one look to the next. New files that
//! cannot be used change nothing: what was presented is presented on, and the log says what is wrong, once. They are tried again at each look, for what is wrong may be
//! mended where no look sees it, such as the rights to the directory above. A reload (SIGHUP) reads them in any case.
//!
//! Files that cannot be used at the start keep no relay from starting, for clients look at no certificate: one that it makes for itself is presented until they can be. Only
//! where neither is there the relay does not start: such a path was never right.

use super::Front;
use super::certificate::{Certificate, CertificateError};
use rustix::fs::OFlags;
use shadowmesh_proto::calendar::Day;
use std::fs::Metadata;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// Between two looks at the files. What renews them does so days before the end: this is for who waits at a terminal.
const LOOK: Duration = Duration::from_secs(2);
/// Longest file that is read, bytes: ten times a chain with large keys.
const MAX_BYTES: u64 = 256 * 1024;
/// A certificate whose time is over within this is spoken of. Whoever renews automatically does so earlier.
pub(super) const SOON: Duration = Duration::from_secs(14 * 86_400);
/// The name in the certificate that is presented as long as the files are of no use (RFC 6761 §6.4: nobody's).
const STAND_IN: &str = "relay.invalid";
/// Between two such words.
const REMIND: Duration = Duration::from_secs(86_400);

/// Why files cannot be used; one sentence.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The machine refused one.
    #[error("cannot read {path}: {cause}; check the path given with {option}, and that the relay's user may read it", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// By what it was named.
        option: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// What is in them is of no use.
    #[error("cannot use the certificate {cert} with the key {key}: {cause}", cert = cert.display(), key = key.display())]
    Contents {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
        /// What is wrong.
        cause: CertificateError,
    },
}

/// Where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The relay's certificate and the chain behind it, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn read(&self) -> Result<Certificate, FilesError> {
        let cert = contents(&self.cert, "--tls-cert")?;
        let key = contents(&self.key, "--tls-key")?;
        Certificate::from_pem(&cert, &key).map_err(|cause| FilesError::Contents {
            cert: self.cert.clone(),
            key: self.key.clone(),
            cause,
        })
    }

    /// Whether neither is there.
    fn are_absent(&self) -> bool {
        let is_absent = |path: &PathBuf| {
            std::fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        is_absent(&self.cert) && is_absent(&self.key)
    }

    /// What is presented in their place.
    fn stand_in(&self, wrong: &FilesError) -> Result<Certificate, FilesError> {
        tracing::warn!(
            "a certificate that this relay makes for itself is presented until the files can be used, which are looked at every {} s: {wrong}",
            LOOK.as_secs()
        );
        let (cert, key) = (self.cert.clone(), self.key.clone());
        Certificate::self_made(&[STAND_IN.to_owned()]).map_err(|cause| FilesError::Contents {
            cert,
            key,
            cause,
        })
    }

    fn stamp(&self) -> [Option<Stamp>; 2] {
        // What cannot be looked at is another state, and is said when it is read.
        [&self.cert, &self.key].map(|path| std::fs::metadata(path).ok().as_ref().map(Stamp::of))
    }
}

fn contents(path: &Path, option: &'static str) -> Result<Zeroizing<Vec<u8>>, FilesError> {
    let read = || -> io::Result<Zeroizing<Vec<u8>>> {
        // Nobody waits for who may write into what is no ordinary file.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no ordinary file"));
        }
        if found.len() > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
        }
        // At once as long as it may become: what a buffer leaves behind when it grows is not wiped.
        let capacity = usize::try_from(found.len().min(MAX_BYTES)).unwrap_or_default();
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity + 1));
        file.take(found.len()).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|cause| FilesError::Read { path: path.to_owned(), option, cause })
}

/// By which a file is seen to be another: whoever replaces it leaves another inode, whoever writes into it another time. Of the two times the second is one that nobody can
/// set back, as those do who copy a file with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    written: (i64, i64),
    changed: (i64, i64),
    len: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            place: (metadata.dev(), metadata.ino()),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            len: metadata.len(),
        }
    }
}

/// What a look at the files came to.
#[derive(Debug)]
enum Look {
    Same,
    /// They change, or did a moment ago.
    Unsettled,
    Changed(Result<Certificate, FilesError>),
}

/// Looks after the files of a [`Front`].
#[derive(Debug)]
pub struct Watch {
    files: Files,
    front: Front,
    /// How they were when they were read.
    read: [Option<Stamp>; 2],
    /// How they were at the last look.
    seen: [Option<Stamp>; 2],
    /// What was wrong with them when they were read, if anything, as it was said.
    wrong: Option<String>,
}

impl Watch {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// [`FilesError`], when neither is there.
    pub fn new(files: Files) -> Result<Self, FilesError> {
        // Before they are read: a change between the two is one that is seen.
        let stamp = files.stamp();
        let (certificate, wrong) = match files.read() {
            Ok(certificate) => {
                warn_of_key(&certificate);
                (certificate, None)
            }
            Err(error) if files.are_absent() => return Err(error),
            Err(error) => (files.stand_in(&error)?, Some(error.to_string())),
        };
        Ok(Self { files, front: Front::new(certificate), read: stamp, seen: stamp, wrong })
    }

    /// What presents them.
    pub fn front(&self) -> Front {
        self.front.clone()
    }

    /// Looks after them for ever, and at once when `hurry` says so (SIGHUP).
    pub async fn run(mut self, hurry: &tokio::sync::Notify) {
        let mut reminded = None;
        loop {
            remind(&self.front, &mut reminded);
            let is_asked = tokio::select! {
                () = tokio::time::sleep(LOOK) => false,
                () = hurry.notified() => true,
            };
            let look = if is_asked { self.look_now() } else { self.look() };
            match look {
                Look::Same | Look::Unsettled => {}
                Look::Changed(Ok(certificate)) => {
                    tracing::info!(
                        expires = %Date(certificate.not_after()),
                        "the TLS certificate was read again, and is presented from now on"
                    );
                    warn_of_key(&certificate);
                    self.front.present(certificate);
                    reminded = None;
                }
                Look::Changed(Err(error)) => {
                    tracing::warn!(
                        "the old TLS certificate is presented on, for the new one is of no use: {error}"
                    );
                }
            }
        }
    }

    fn look(&mut self) -> Look {
        let stamp = self.files.stamp();
        let is_settled = stamp == self.seen;
        self.seen = stamp;
        if !is_settled {
            return Look::Unsettled;
        }
        let is_read = stamp == self.read;
        if is_read && self.wrong.is_none() {
            return Look::Same;
        }
        let wrong = self.wrong.take();
        match self.look_now() {
            // It was said.
            Look::Changed(Err(_)) if is_read && self.wrong == wrong => Look::Same,
            look @ (Look::Same | Look::Unsettled | Look::Changed(_)) => look,
        }
    }

    /// Reads them, whether they changed or not.
    fn look_now(&mut self) -> Look {
        let stamp = self.files.stamp();
        (self.read, self.seen) = (stamp, stamp);
        let read = self.files.read();
        self.wrong = read.as_ref().err().map(ToString::to_string);
        Look::Changed(read)
    }
}

fn warn_of_key(certificate: &Certificate) {
    if certificate.has_slow_key() {
        tracing::warn!(
            "the TLS key is RSA of more than 2048 bits: each handshake costs this machine milliseconds; a key for ECDSA (P-256) costs a tenth of one"
        );
    }
}

/// Says that the time of what is presented is over, or will be soon; once a day.
pub(super) fn remind(front: &Front, reminded: &mut Option<SystemTime>) {
    let now = SystemTime::now();
    let certificate = front.presented();
    let is_due = reminded.is_none_or(|last| now.duration_since(last).is_ok_and(|passed| passed >= REMIND));
    if !is_due {
        return;
    }
    let expires = Date(certificate.not_after());
    match certificate.good_for(now) {
        Some(left) if left > SOON => return,
        Some(_) => {
            tracing::warn!(%expires, "the TLS certificate's time is nearly over; renew it: clients connect in any case, firewalls that look at it may not let them")
        }
        None => {
            tracing::warn!(%expires, "the TLS certificate's time is over; renew it: clients connect in any case, firewalls that look at it may not let them")
        }
    }
    *reminded = Some(now);
}

/// A day, as people write it in files: 2026-11-30.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Date(pub(crate) SystemTime);

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
        Day::at(seconds).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use std::os::unix::fs::symlink;

    /// A certificate until that year, and its key.
    fn pair(year: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["relay.example".into()]).unwrap();
        params.not_after = date_time_ymd(year, 6, 5);
        (
            pem("CERTIFICATE", params.self_signed(&key).unwrap().der()),
            pem("PRIVATE KEY", &key.serialize_der()),
        )
    }

    fn pem(kind: &str, der: &[u8]) -> String {
        let text = data_encoding::BASE64.encode(der);
        format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
    }

    struct Home {
        dir: tempfile::TempDir,
        files: Files,
    }

    impl Home {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let files = Files { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
            Self { dir, files }
        }

        fn put(&self, (cert, key): &(String, String)) {
            std::fs::write(&self.files.cert, cert).unwrap();
            std::fs::write(&self.files.key, key).unwrap();
        }
    }

    fn ends(front: &Front) -> String {
        Date(front.presented().not_after()).to_string()
    }

    /// Looks until they have settled, as the watch does.
    fn settled(watch: &mut Watch) -> Result<Certificate, FilesError> {
        loop {
            match watch.look() {
                Look::Changed(result) => return result,
                Look::Unsettled => {}
                Look::Same => panic!("no change is seen"),
            }
        }
    }

    #[test]
    fn a_renewal_is_presented_once_both_files_are_there() {
        let home = Home::new();
        home.put(&pair(2030));
        let mut watch = Watch::new(home.files.clone()).unwrap();
        let front = watch.front();
        assert_eq!(ends(&front), "2030-06-05");
        assert!(matches!(watch.look(), Look::Same));
        let (cert, key) = pair(2031);
        std::fs::write(&home.files.cert, cert).unwrap();
        assert!(matches!(watch.look(), Look::Unsettled), "the key is yet to come");
        std::fs::write(&home.files.key, key).unwrap();
        assert!(matches!(watch.look(), Look::Unsettled), "it has just come");
        front.present(settled(&mut watch).unwrap());
        assert_eq!(ends(&front), "2031-06-05");
        assert!(matches!(watch.look(), Look::Same));
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_a_change() {
        let home = Home::new();
        for (name, year) in [("old", 2030), ("new", 2031)] {
            let (cert, key) = pair(year);
            std::fs::create_dir(home.dir.path().join(name)).unwrap();
            std::fs::write(home.dir.path().join(name).join("cert.pem"), cert).unwrap();
            std::fs::write(home.dir.path().join(name).join("key.pem"), key).unwrap();
        }
        let live = home.dir.path().join("live");
        symlink("old", &live).unwrap();
        let mut watch = Watch::new(Files { cert: live.join("cert.pem"), key: live.join("key.pem") }).unwrap();
        std::fs::remove_file(&live).unwrap();
        symlink("new", &live).unwrap();
        assert_eq!(Date(settled(&mut watch).unwrap().not_after()).to_string(), "2031-06-05");
    }

    #[test]
    fn what_cannot_be_used_is_said_once_and_changes_nothing() {
        let home = Home::new();
        let good = pair(2030);
        home.put(&good);
        let mut watch = Watch::new(home.files.clone()).unwrap();
        let cases = [
            ((String::new(), good.1.clone()), "has no certificate"),
            ((good.0.clone(), String::new()), "has no private key"),
            ((good.0.clone(), pair(2030).1), "does not belong"),
            ((pem("CERTIFICATE", b"nonsense"), good.1.clone()), "validity does not parse"),
            ((good.0.repeat(11), good.1.clone()), "more than 10"),
            ((good.0.clone(), pem("PRIVATE KEY", b"nonsense")), "cannot be used"),
            (("x".repeat(300_000), good.1.clone()), "too large"),
        ];
        for (files, expected) in cases {
            home.put(&files);
            let said = settled(&mut watch).unwrap_err().to_string();
            assert!(said.contains(expected) && !said.contains('\n'), "{said}");
            assert!(matches!(watch.look(), Look::Same), "it is said once");
        }
        home.put(&good);
        settled(&mut watch).unwrap();
        std::fs::remove_file(&home.files.key).unwrap();
        assert!(settled(&mut watch).unwrap_err().to_string().contains("--tls-key"));
        assert_eq!(ends(&watch.front()), "2030-06-05");
        home.put(&good);
        settled(&mut watch).unwrap();
    }

    #[test]
    fn what_is_replaced_with_its_time_kept_is_a_change() {
        let home = Home::new();
        // As long as the other one: only its times can tell.
        let padded = |(cert, key): (String, String)| (format!("{cert:\n<1200}"), format!("{key:\n<1200}"));
        let second = padded(pair(2031));
        home.put(&padded(pair(2030)));
        let mut watch = Watch::new(home.files.clone()).unwrap();
        for (path, text) in [(&home.files.cert, &second.0), (&home.files.key, &second.1)] {
            let written = std::fs::metadata(path).unwrap().modified().unwrap();
            std::fs::write(path, text).unwrap();
            std::fs::File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
        }
        assert_eq!(Date(settled(&mut watch).unwrap().not_after()).to_string(), "2031-06-05");
    }

    #[test]
    fn what_is_mended_where_no_look_sees_it_is_read_and_a_reload_reads_in_any_case() {
        let home = Home::new();
        home.put(&pair(2030));
        let mut watch = Watch::new(home.files.clone()).unwrap();
        assert!(matches!(watch.look_now(), Look::Changed(Ok(_))));
        assert!(matches!(watch.look(), Look::Same));
        // As if they could not be read a moment ago, with the same stamps.
        watch.wrong = Some("they could not be read".to_owned());
        assert!(matches!(watch.look(), Look::Changed(Ok(_))));
        assert!(matches!(watch.look(), Look::Same));
    }

    #[test]
    fn a_relay_whose_files_are_of_no_use_yet_starts_with_one_of_its_own() {
        let home = Home::new();
        let neither = Watch::new(home.files.clone()).unwrap_err().to_string();
        assert!(neither.contains("--tls-cert"), "{neither}");
        let good = pair(2030);
        for (files, missing) in [
            ((good.0.clone(), pair(2030).1), None),
            ((String::new(), good.1.clone()), None),
            (good.clone(), Some(&home.files.key)),
            (good.clone(), Some(&home.files.cert)),
        ] {
            home.put(&files);
            if let Some(path) = missing {
                std::fs::remove_file(path).unwrap();
            }
            let mut watch = Watch::new(home.files.clone()).unwrap();
            assert!(watch.front().presented().is_self_made());
            assert!(matches!(watch.look(), Look::Same), "it is said once");
            home.put(&good);
            assert_eq!(Date(settled(&mut watch).unwrap().not_after()).to_string(), "2030-06-05");
        }
    }

    #[test]
    fn a_certificate_whose_time_is_over_is_presented_and_reminded_of_once_a_day() {
        let home = Home::new();
        home.put(&pair(2001));
        let front = Watch::new(home.files.clone()).unwrap().front();
        assert_eq!(front.presented().good_for(SystemTime::now()), None);
        let mut reminded = None;
        remind(&front, &mut reminded);
        let first = reminded.expect("said");
        remind(&front, &mut reminded);
        assert_eq!(reminded, Some(first));
        let mut long_ago = Some(first - REMIND);
        remind(&front, &mut long_ago);
        assert_ne!(long_ago, Some(first - REMIND));
        home.put(&pair(2090));
        let front = Watch::new(home.files).unwrap().front();
        let mut reminded = None;
        remind(&front, &mut reminded);
        assert_eq!(reminded, None);
    }
}
