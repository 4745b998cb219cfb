//! The command line's side of the control socket.

use super::framing::{self, LineError, MAX_RESPONSE};
use super::message::{ErrorCode, Request, Response};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long a daemon may take to answer what it answers at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer. Each text is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no daemon is running (nobody listens on {}): start one with `sudo shadowmesh up`", .0.display())]
    NotRunning(PathBuf),
    /// The file's mode keeps this user out.
    #[error("you may not talk to the daemon on {}: use sudo, or join the group shadowmesh to see its status", .0.display())]
    KeptOut(PathBuf),
    /// The daemon says no.
    #[error("{sentence}")]
    Refused {
        /// For programs.
        code: ErrorCode,
        /// For people.
        sentence: String,
    },
    /// It answers with something that this program does not understand.
    #[error("the daemon on {} answers in a way this shadowmesh does not understand ({why}): are both of one version?", .path.display())]
    NotUnderstood {
        /// The socket.
        path: PathBuf,
        /// What was wrong.
        why: String,
    },
    /// It does not answer.
    #[error("the daemon on {} does not answer ({cause}): see its log, or restart it", .path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What happened instead.
        cause: io::Error,
    },
}

/// A connection that has not asked yet.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    path: PathBuf,
}

impl Connection {
    /// Connects to the daemon on `path`.
    ///
    /// # Errors
    /// `NotRunning`, `KeptOut`, `Silent`.
    pub async fn open(path: &Path) -> Result<Self, ControlError> {
        let path = path.to_owned();
        match UnixStream::connect(&path).await {
            Ok(stream) => Ok(Self { stream, path }),
            Err(cause) if is_nobody(&cause) => Err(ControlError::NotRunning(path)),
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => Err(ControlError::KeptOut(path)),
            Err(cause) => Err(ControlError::Silent { path, cause }),
        }
    }

    /// The daemon's process, if it is in a namespace that this one sees.
    pub fn daemon_pid(&self) -> Option<i32> {
        self.stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0)
    }

    /// Asks, and waits as long as it takes; [`Response::Error`] becomes an error.
    ///
    /// # Errors
    /// `Refused`, `NotUnderstood`, `Silent`.
    pub async fn ask(self, request: &Request) -> Result<Response, ControlError> {
        let Self { stream, path } = self;
        let (reader, mut writer) = stream.into_split();
        if let Err(cause) = framing::write(&mut writer, request).await {
            return Err(ControlError::Silent { path, cause });
        }
        match framing::read(&mut BufReader::new(reader), MAX_RESPONSE).await {
            Ok(Some(Response::Error { code, sentence })) => Err(ControlError::Refused { code, sentence }),
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(ControlError::Silent { path, cause: io::ErrorKind::UnexpectedEof.into() }),
            Err(LineError::Io(cause)) => Err(ControlError::Silent { path, cause }),
            Err(error @ (LineError::TooLong(_) | LineError::NotAMessage(_))) => {
                Err(ControlError::NotUnderstood { path, why: error.to_string() })
            }
        }
    }
}

/// Whether nobody listens: there is no file, or a daemon that was killed left it behind.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Asks the daemon on `path` what it answers at once.
///
/// # Errors
/// See [`ControlError`].
pub async fn call(path: &Path, request: &Request) -> Result<Response, ControlError> {
    let asking = async { Connection::open(path).await?.ask(request).await };
    let silent = |_| ControlError::Silent { path: path.to_owned(), cause: io::ErrorKind::TimedOut.into() };
    timeout(PATIENCE, asking).await.map_err(silent)?
}

/// The error for an answer to another question than was asked.
pub fn unexpected(path: &Path) -> ControlError {
    ControlError::NotUnderstood { path: path.to_owned(), why: "an answer to another question".to_owned() }
}
