//! The admin socket: a Unix socket in the state directory (mode 0700), so that only the relay's user and root reach it.
//!
//! One JSON line in, one JSON line out. No HTTP: nothing that a browser could be talked into calling.

use crate::core::matchmaking::PairCounts;
use crate::metrics::{DroppedSnapshot, ForwardedSnapshot, TlsSnapshot};
use crate::server::Handle;
use crate::server::tls::Front;
use crate::store::StoreError;
use rustix::fs::Mode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// Longest request line.
const MAX_REQUEST: u64 = 4096;
/// For one exchange; both ends are on one machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted; one is answered at a time.
const BACKLOG: i32 = 16;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum Request {
    /// Everything in [`Status`].
    Status,
}

/// The relay at one moment. A contract with scripts: fields are added, none is renamed or removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Of this program.
    pub version: String,
    /// Since the sockets were taken, seconds.
    pub uptime_s: u64,
    /// Registered now.
    pub clients: usize,
    /// Networks with a member here now.
    pub networks: usize,
    /// Pairs by what carries their data.
    pub pairs: Pairs,
    /// Bytes of FORWARD messages and datagrams passed on since the start.
    pub forwarded_bytes: u64,
    /// FORWARD messages passed on since the start.
    pub forwarded_messages: u64,
    /// Datagrams passed on since the start.
    #[serde(default)]
    pub forwarded_datagrams: u64,
    /// Connections accepted since the start.
    pub connections: u64,
    /// Registrations accepted since the start.
    pub registrations: u64,
    /// Connections that gave way to a newer one of the same key.
    pub replaced: u64,
    /// Introductions since the start.
    pub introductions: u64,
    /// STUN requests answered since the start.
    pub stun_answered: u64,
    /// Of streams wrapped in TLS; `null` where none is spoken.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Dropped, refused or cut since the start, by cause.
    #[schemars(with = "BTreeMap<String, u64>")]
    pub drops: serde_json::Map<String, serde_json::Value>,
}

/// See [`Status::pairs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pairs {
    /// Over a link of their own.
    pub direct: usize,
    /// Through the relay.
    pub relayed: usize,
    /// Introduced, not yet confirmed by both.
    pub meeting: usize,
}

/// See [`Status::tls`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tls {
    /// Handshakes completed since the start.
    pub handshakes: u64,
    /// Those of them whose keys are post-quantum (X25519MLKEM768).
    pub post_quantum: u64,
    /// When the time of the certificate that is presented is over, seconds since 1970; 0 while that is one that the relay made for itself.
    pub certificate_expires: u64,
}

impl Tls {
    fn of(front: &Front, counted: TlsSnapshot) -> Self {
        let TlsSnapshot { handshakes, post_quantum } = counted;
        let presented = front.presented();
        let expires = presented.not_after().duration_since(SystemTime::UNIX_EPOCH);
        let certificate_expires = match expires {
            Ok(passed) if !presented.is_self_made() => passed.as_secs(),
            Ok(_) | Err(_) => 0,
        };
        Self { handshakes, post_quantum, certificate_expires }
    }
}

impl From<PairCounts> for Pairs {
    fn from(counts: PairCounts) -> Self {
        let PairCounts { relayed, direct, meeting } = counts;
        Self { direct, relayed, meeting }
    }
}

impl Status {
    /// Of `server`, now.
    pub fn of(server: &Handle) -> Self {
        let hub = server.hub();
        let (census, metrics) = (hub.census(), hub.metrics());
        let ForwardedSnapshot { bytes, messages, datagrams } = metrics.forwarded.snapshot();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: Instant::now().duration_since(server.started()).as_secs(),
            clients: census.clients,
            networks: census.networks,
            pairs: census.pairs.into(),
            forwarded_bytes: bytes,
            forwarded_messages: messages,
            forwarded_datagrams: datagrams,
            connections: metrics.connections.value(),
            registrations: census.counters.registrations,
            replaced: census.counters.replaced,
            introductions: census.counters.introductions,
            stun_answered: metrics.stun_answered.value(),
            tls: server.front().map(|front| Tls::of(front, metrics.tls.snapshot())),
            drops: drops(&metrics.dropped.snapshot()),
        }
    }
}

fn drops(snapshot: &DroppedSnapshot) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(snapshot) {
        Ok(serde_json::Value::Object(map)) => map,
        // A struct of numbers is an object.
        Ok(_) | Err(_) => serde_json::Map::new(),
    }
}

/// The listening admin socket; its file goes with it.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Listens at `path` (mode 0600). The caller holds the directory's lock, so a file that is there is a dead relay's.
    ///
    /// Nothing is done to the file once it is there: the directory may be that of the service's user and the caller root, and what has the name by then
    /// may be a link that this user laid.
    ///
    /// # Errors
    /// `Io`.
    pub fn bind(path: &Path) -> Result<Self, StoreError> {
        let fail = |source| StoreError::io("make the admin socket", path, source);
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let listen = || -> io::Result<UnixListener> {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            // The file gets the mode that the socket has when it is bound, less the umask.
            rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
            socket.bind(&SockAddr::unix(path)?)?;
            socket.listen(BACKLOG)?;
            UnixListener::from_std(socket.into())
        };
        let listener = listen().map_err(fail)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers for ever, one caller after the other.
    pub async fn serve(self, server: Handle) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    // Whoever is slow or talks nonsense gets no answer; there is nobody to tell.
                    let answered = tokio::time::timeout(PATIENCE, answer(stream, &server)).await;
                    tracing::trace!(?answered, "admin request");
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the admin socket; trying again");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // Left behind it would only be removed by the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(stream: UnixStream, server: &Handle) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    (&mut stream).take(MAX_REQUEST).read_line(&mut line).await?;
    let mut answer = match serde_json::from_str(&line) {
        Ok(Request::Status) => serde_json::to_vec(&Status::of(server))?,
        Err(error) => serde_json::to_vec(&serde_json::json!({ "error": error.to_string() }))?,
    };
    answer.push(b'\n');
    stream.write_all(&answer).await
}

/// Asks the relay that answers at `path`.
///
/// # Errors
/// Whatever the system says: `NotFound` or `ConnectionRefused` when none runs.
pub fn ask_status(path: &Path) -> io::Result<Status> {
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = serde_json::to_vec(&Request::Status)?;
    request.push(b'\n');
    stream.write_all(&request)?;
    let mut line = String::new();
    io::BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    #[tokio::test]
    async fn what_takes_the_place_of_the_socket_as_it_is_made_is_left_as_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("victim"), "precious").expect("written");
        fs::set_permissions(at("victim"), fs::Permissions::from_mode(0o640)).expect("set");
        let socket = AdminSocket::bind(&at("socket")).expect("bound");
        assert_eq!(fs::metadata(at("socket")).expect("there").permissions().mode() & 0o7777, 0o600);
        drop(socket);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // Once the socket is there, and before anything more is done to it.
                    if fs::symlink_metadata(at("socket")).is_ok_and(|found| !found.is_symlink()) {
                        let _ = symlink(at("victim"), at("link"));
                        let _ = fs::rename(at("link"), at("socket"));
                    }
                }
            });
            for _ in 0..500 {
                // It may be refused: who races for its place may keep it from being made.
                drop(AdminSocket::bind(&at("socket")));
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::metadata(at("victim")).expect("there").permissions().mode() & 0o7777, 0o640);
    }
}
