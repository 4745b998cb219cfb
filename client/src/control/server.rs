//! The daemon's side of the control socket.
//!
//! Life: [`ControlSocket::bind`] takes the place of a dead daemon's socket and refuses a live one's; [`ControlServer::start`]
//! accepts; the event loop takes [`Incoming`] from [`ControlServer::next`] and answers through its [`Reply`]; dropping the
//! server removes the file.
//!
//! Invariants: the event loop never waits for a caller (a request is read, within a deadline, before it is handed over, and an
//! answer goes to a queue of its own); at most [`MAX_CALLERS`] connections of the group exist, and [`MAX_OWN`] of those who may change
//! something, whose requests wait in a queue of their own and are taken first, so that nobody keeps these out; what changes something is asked only by root
//! or the daemon's own user, whatever the mode of the file says.

use super::framing::{self, LineError, MAX_REQUEST};
use super::message::{ErrorCode, Request, Response};
use rustix::fs::{AtFlags, Mode, OFlags, chownat, open};
use rustix::process::{Gid, geteuid};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Most connections of the group at a time: a dozen people and their monitoring; the next is told to try again.
pub const MAX_CALLERS: usize = 32;
/// The same of root and the daemon's own user.
pub const MAX_OWN: usize = 8;
/// How long a caller may take to write its request, or to read its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests read and not yet taken by the event loop, of the group and of those who may change something.
const QUEUE: usize = 8;
/// Pause after a failed accept (no file descriptors, above all), so that the failure does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// The group whose members may look.
const GROUP: &str = "shadowmesh";

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something answers on it.
    #[error(
        "a daemon is already running on {}: stop it first with `shadowmesh down`, or name another socket with --socket", .0.display()
    )]
    Live(PathBuf),
    /// Something else is in its place.
    #[error("{} is not a socket: move it away, or name another socket with --socket", .0.display())]
    NotASocket(PathBuf),
    /// The machine refused.
    #[error("cannot make the control socket {} ({cause}): run this as root, or name another one with --socket", .path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// A bound control socket, whose callers wait until a [`ControlServer`] accepts them; its file is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: StdListener,
    file: SocketFile,
}

impl ControlSocket {
    /// Binds `path`, making its directory (0755) where it is missing.
    ///
    /// The file is 0660 and of group `shadowmesh` where that group exists, else 0600; it has its final mode before it has its
    /// name. Two daemons that start at one moment are kept apart by the lock of the state directory.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let refused = |cause| BindError::Refused { path: path.to_owned(), cause };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(BindError::NotASocket(path.to_owned()));
            }
            // Only a refused connection tells that nobody listens: a listener that is busy or not ours is alive too.
            Ok(_) => match StdStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(_) | Err(_) => return Err(BindError::Live(path.to_owned())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refused(error)),
        }
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(refused)?;
        }
        let nascent = SocketFile::nascent(path);
        let _ = fs::remove_file(&nascent.path);
        let listener = StdListener::bind(&nascent.path).map_err(refused)?;
        settle(&nascent.path, group_id(GROUP)).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let file = nascent.rename(path).map_err(refused)?;
        Ok(Self { listener, file })
    }
}

/// Gives a socket that was just bound its group and mode: 0660 where it may belong to `group`, else 0600.
///
/// The directory may be that of the service's user, and this program root: what has the name by now may be a link to a file of root's that this
/// user laid. So it is looked at first, and what was looked at is changed, whatever has the name then.
fn settle(path: &Path, group: Option<u32>) -> io::Result<()> {
    let file = File::from(open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?);
    let found = file.metadata()?;
    // One that has two names may be another program's.
    if !found.file_type().is_socket() || found.nlink() != 1 || found.uid() != geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "something else took its place as it was made",
        ));
    }
    let belongs = group
        .is_some_and(|gid| chownat(&file, "", None, Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH).is_ok());
    let mode = if belongs { 0o660 } else { 0o600 };
    // fchmod(2) takes no descriptor that only looks; by this name the kernel goes to what it is open on (proc_pid_fd(5)).
    fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), fs::Permissions::from_mode(mode))
}

/// A socket's file. Dropping removes it, unless another has taken its place meanwhile.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: Option<u64>,
}

impl SocketFile {
    fn nascent(path: &Path) -> Self {
        // Short: the kernel takes at most 107 bytes of path (unix(7)).
        Self { path: path.with_file_name(format!(".{}", std::process::id())), inode: None }
    }

    fn rename(mut self, to: &Path) -> io::Result<Self> {
        self.inode = Some(fs::symlink_metadata(&self.path)?.ino());
        fs::rename(&self.path, to)?;
        to.clone_into(&mut self.path);
        Ok(self)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| self.inode.is_none_or(|inode| inode == found.ino()));
        if ours {
            // Nothing can be done about a failure now; the next start finds it stale and replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Who called, as the kernel says (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process, if it is in a namespace that this one sees.
    pub pid: Option<i32>,
}

impl Caller {
    /// Whether a daemon that runs as `owner` does what this caller asks. The kernel has already kept out who is neither
    /// owner, root nor in the group.
    pub const fn may(&self, request: &Request, owner: u32) -> bool {
        self.is_own(owner) || request.is_read_only()
    }

    /// Whether it may change something.
    const fn is_own(&self, owner: u32) -> bool {
        self.uid == 0 || self.uid == owner
    }
}

/// A request to answer.
#[derive(Debug)]
pub struct Incoming {
    /// What is asked. It is allowed: that was checked.
    pub request: Request,
    /// By whom.
    pub caller: Caller,
    /// Where the answer goes. Dropped without one, the caller is told that the daemon is busy or leaving.
    pub reply: Reply,
}

/// Answers one request.
#[derive(Debug)]
pub struct Reply(mpsc::Sender<Response>);

impl Reply {
    /// Answers. Never waits; an answer to a caller that hung up is dropped.
    pub fn send(self, response: Response) {
        let _ = self.0.try_send(response);
    }

    /// Whether the caller hung up: then nobody waits for the answer.
    pub fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// Accepts callers until it is dropped.
#[derive(Debug)]
pub struct ControlServer {
    others: mpsc::Receiver<Incoming>,
    own: mpsc::Receiver<Incoming>,
    accepting: JoinHandle<()>,
    _file: SocketFile,
}

impl ControlServer {
    /// Starts accepting on the current runtime.
    ///
    /// # Errors
    /// When the runtime cannot register the socket.
    pub fn start(socket: ControlSocket) -> io::Result<Self> {
        let ControlSocket { listener, file } = socket;
        let listener = UnixListener::from_std(listener)?;
        let (to_others, others) = mpsc::channel(QUEUE);
        let (to_own, own) = mpsc::channel(QUEUE);
        let queues = Queues { others: to_others, own: to_own };
        Ok(Self { others, own, accepting: tokio::spawn(accept(listener, queues)), _file: file })
    }

    /// The next request. Cancel-safe.
    pub async fn next(&mut self) -> Option<Incoming> {
        tokio::select! {
            biased;
            Some(request) = self.own.recv() => Some(request),
            request = self.others.recv() => request,
        }
    }
}

/// Where requests wait.
#[derive(Debug, Clone)]
struct Queues {
    others: mpsc::Sender<Incoming>,
    own: mpsc::Sender<Incoming>,
}

impl Queues {
    /// Puts one in its place; `false` when there is no room.
    fn put(&self, incoming: Incoming, owner: u32) -> bool {
        let queue = if incoming.caller.is_own(owner) { &self.own } else { &self.others };
        queue.try_send(incoming).is_ok()
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Room for connections.
#[derive(Debug)]
struct Places {
    others: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

impl Places {
    fn new() -> Self {
        Self { others: Arc::new(Semaphore::new(MAX_CALLERS)), own: Arc::new(Semaphore::new(MAX_OWN)) }
    }

    /// A place for a caller with this user id, as long as it is kept; `None` when all are taken.
    fn take(&self, uid: u32, owner: u32) -> Option<OwnedSemaphorePermit> {
        let places = if uid == 0 || uid == owner { &self.own } else { &self.others };
        Arc::clone(places).try_acquire_owned().ok()
    }
}

async fn accept(listener: UnixListener, requests: Queues) {
    let places = Places::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let uid = stream.peer_cred().map(|credentials| credentials.uid());
                let place = uid.ok().and_then(|uid| places.take(uid, geteuid().as_raw()));
                let requests = requests.clone();
                tokio::spawn(async move {
                    let result = match &place {
                        Some(_) => converse(stream, requests).await,
                        None => refuse(stream).await,
                    };
                    if let Err(error) = result {
                        tracing::debug!(%error, "a control connection ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a control connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection too many: it is not read, and told so. A fresh socket has room for that, so nothing is waited for.
async fn refuse(mut stream: UnixStream) -> io::Result<()> {
    let sentence = "too many ask this daemon at once: try again";
    framing::write(&mut stream, &Response::error(ErrorCode::Busy, sentence)).await
}

/// One connection: a request, its answer, the end.
async fn converse(stream: UnixStream, requests: Queues) -> io::Result<()> {
    let credentials = stream.peer_cred()?;
    let caller = Caller { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() };
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let read = timeout(PATIENCE, framing::read::<Request>(&mut reader, MAX_REQUEST)).await;
    let response = match read.map_err(|_| io::ErrorKind::TimedOut)? {
        Ok(None) => return Ok(()),
        Ok(Some(request)) if !caller.may(&request, geteuid().as_raw()) => {
            Response::error(ErrorCode::Denied, "only root may ask this of the daemon: use sudo")
        }
        Ok(Some(request)) => match answer(request, caller, &requests, &mut reader).await {
            Some(response) => response,
            None => return Ok(()),
        },
        Err(LineError::Io(error)) => return Err(error),
        Err(error @ (LineError::TooLong(_) | LineError::NotAMessage(_))) => {
            let sentence =
                format!("the daemon does not know this request, is it of another version? ({error})");
            Response::error(ErrorCode::BadRequest, sentence)
        }
    };
    timeout(PATIENCE, framing::write(&mut writer, &response)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Hands a request to the event loop and waits for its answer; `None` when the caller hung up first.
async fn answer(
    request: Request,
    caller: Caller,
    requests: &Queues,
    reader: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
) -> Option<Response> {
    let busy = || Response::error(ErrorCode::Busy, "the daemon is leaving or too busy to answer: try again");
    let (reply, mut response) = mpsc::channel(1);
    if !requests.put(Incoming { request, caller, reply: Reply(reply) }, geteuid().as_raw()) {
        return Some(busy());
    }
    tokio::select! {
        answered = response.recv() => Some(answered.unwrap_or_else(busy)),
        // A second line is not part of the contract: like the end of the stream it means that the caller is done.
        _ = framing::read::<serde_json::Value>(reader, MAX_REQUEST) => None,
    }
}

/// The id of a group of this machine, from `/etc/group`.
///
/// Read here rather than through `getgrnam(3)`: a group that only a directory server knows is not one that this machine's
/// administrator made for us.
fn group_id(name: &str) -> Option<u32> {
    parse_group(&fs::read_to_string("/etc/group").ok()?, name)
}

fn parse_group(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::super::client::{self, ControlError};
    use super::*;
    use crate::control::message::InviteLimits;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn scene() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("run/control.sock");
        (dir, path)
    }

    fn serve(path: &Path) -> ControlServer {
        ControlServer::start(ControlSocket::bind(path).expect("bound")).expect("started")
    }

    async fn write_raw(path: &Path, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).await.expect("connected");
        stream.write_all(bytes).await.expect("written");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("read");
        text
    }

    #[tokio::test]
    async fn a_request_is_answered_and_the_file_goes_with_the_server() {
        let (_dir, path) = scene();
        let mut server = serve(&path);
        let asking = tokio::spawn({
            let path = path.clone();
            async move { client::call(&path, &Request::Down).await }
        });
        let incoming = server.next().await.expect("a request");
        assert_eq!((incoming.request, incoming.caller.uid), (Request::Down, geteuid().as_raw()));
        incoming.reply.send(Response::Leaving);
        assert_eq!(asking.await.expect("joined").expect("answered"), Response::Leaving);
        drop(server);
        assert!(!path.exists());
        assert!(matches!(client::call(&path, &Request::Status).await, Err(ControlError::NotRunning(_))));
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let (_dir, path) = scene();
        fs::create_dir(path.parent().expect("a directory")).expect("made");
        drop(StdListener::bind(&path).expect("bound"));
        assert!(path.exists(), "what a killed daemon leaves behind");
        let server = serve(&path);
        assert!(matches!(ControlSocket::bind(&path), Err(BindError::Live(_))));
        drop(server);
        fs::write(&path, "").expect("written");
        assert!(matches!(ControlSocket::bind(&path), Err(BindError::NotASocket(_))));
        assert!(path.exists());
        assert!(matches!(ControlSocket::bind(&path.join("x")), Err(BindError::Refused { .. })));
    }

    #[test]
    fn what_took_the_place_of_a_socket_that_was_just_bound_is_left_as_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("victim"), "precious").expect("written");
        fs::set_permissions(at("victim"), fs::Permissions::from_mode(0o640)).expect("set");
        let foreign = StdListener::bind(at("foreign")).expect("bound");
        fs::set_permissions(at("foreign"), fs::Permissions::from_mode(0o640)).expect("set");
        std::os::unix::fs::symlink(at("victim"), at("link")).expect("laid");
        std::os::unix::fs::symlink(at("foreign"), at("link to a socket")).expect("laid");
        fs::hard_link(at("foreign"), at("second name")).expect("laid");
        let is = |name: &str| {
            fs::metadata(at(name)).map(|found| (found.mode() & 0o7777, found.uid(), found.gid()))
        };
        let before = [is("victim").expect("there"), is("foreign").expect("there")];
        // Any group: only root may give a file to one that it is not in.
        let group = if geteuid().is_root() { 4_242 } else { before[0].2 };
        for name in ["link", "link to a socket", "victim", "second name"] {
            assert!(settle(&at(name), Some(group)).is_err(), "{name}");
            assert_eq!([is("victim").expect("there"), is("foreign").expect("there")], before, "{name}");
        }
        if geteuid().is_root() {
            // Somebody else's, with no other name.
            fs::remove_file(at("second name")).expect("removed");
            std::os::unix::fs::chown(at("foreign"), Some(4_242), None).expect("given away");
            assert!(settle(&at("foreign"), Some(group)).is_err());
            assert_eq!(is("foreign").expect("there"), (0o640, 4_242, before[1].2));
        }
        drop(foreign);
        let _ours = StdListener::bind(at("ours")).expect("bound");
        settle(&at("ours"), Some(group)).expect("settled");
        assert_eq!(is("ours").expect("there"), (0o660, geteuid().as_raw(), group));
        settle(&at("ours"), None).expect("settled");
        assert_eq!(is("ours").expect("there").0, 0o600);
    }

    #[tokio::test]
    async fn a_socket_that_took_the_place_is_not_removed() {
        let (_dir, path) = scene();
        let server = serve(&path);
        fs::remove_file(&path).expect("removed");
        let other = StdListener::bind(&path).expect("bound");
        drop(server);
        assert!(path.exists());
        drop(other);
    }

    #[tokio::test]
    async fn nonsense_is_answered_with_a_sentence() {
        let (_dir, path) = scene();
        let _server = serve(&path);
        let huge = [vec![b'x'; MAX_REQUEST + 1], b"\n".to_vec()].concat();
        for bytes in
            [b"nonsense\n".to_vec(), b"{\"request\":\"fly\"}\n".to_vec(), b"\xff\xfe\n".to_vec(), huge]
        {
            // The end of an overlong line may find the connection closed; only the answer counts.
            let text = write_raw(&path, bytes.get(..MAX_REQUEST + 1).unwrap_or(&bytes)).await;
            assert!(text.contains("\"bad-request\""), "{text}");
        }
    }

    #[tokio::test]
    async fn a_request_nobody_answers_ends_with_a_sentence() {
        let (_dir, path) = scene();
        let mut server = serve(&path);
        let asking = tokio::spawn({
            let path = path.clone();
            async move { client::call(&path, &Request::Status).await }
        });
        drop(server.next().await.expect("a request"));
        let error = asking.await.expect("joined").expect_err("refused");
        assert!(matches!(error, ControlError::Refused { code: ErrorCode::Busy, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_caller_that_hangs_up_is_noticed() {
        let (_dir, path) = scene();
        let mut server = serve(&path);
        let mut stream = UnixStream::connect(&path).await.expect("connected");
        stream.write_all(b"{\"request\":\"ping\",\"peer\":\"b\"}\n").await.expect("written");
        let incoming = server.next().await.expect("a request");
        assert!(!incoming.reply.is_gone());
        drop(stream);
        timeout(PATIENCE, incoming.reply.0.closed()).await.expect("noticed");
        assert!(incoming.reply.is_gone());
    }

    #[test]
    fn the_group_keeps_nobody_else_out() {
        let places = Places::new();
        let others: Vec<_> = (0..100).filter_map(|_| places.take(1000, 7)).collect();
        assert_eq!(others.len(), MAX_CALLERS);
        let own: Vec<_> = [0, 7].iter().filter_map(|uid| places.take(*uid, 7)).collect();
        assert_eq!(own.len(), 2);
        drop(others);
        assert!(places.take(1000, 7).is_some());
    }

    #[tokio::test]
    async fn requests_of_the_group_wait_behind_those_who_may_change_something() {
        let (to_others, others) = mpsc::channel(QUEUE);
        let (to_own, own) = mpsc::channel(QUEUE);
        let queues = Queues { others: to_others, own: to_own };
        let (_dir, path) = scene();
        let file = SocketFile::nascent(&path);
        let mut server = ControlServer { others, own, accepting: tokio::spawn(async {}), _file: file };
        let put = |uid, request| {
            let caller = Caller { uid, gid: 5, pid: None };
            queues.put(Incoming { request, caller, reply: Reply(mpsc::channel(1).0) }, 7)
        };
        // Nobody takes what the group asks.
        let taken = (0..100).filter(|_| put(1_000, Request::Status)).count();
        assert_eq!(taken, QUEUE);
        assert!(
            put(0, Request::Reload) && put(7, Request::Down),
            "there is room for root and the daemon's user"
        );
        for expected in [Request::Reload, Request::Down, Request::Status] {
            assert_eq!(server.next().await.expect("a request").request, expected);
        }
        assert!(put(1_000, Request::Status), "what was taken makes room");
        drop(queues);
        let left = std::iter::repeat_with(|| server.others.try_recv()).take_while(Result::is_ok).count();
        assert_eq!(left, QUEUE);
        assert!(server.next().await.is_none(), "nobody is left who could ask");
    }

    #[tokio::test]
    async fn a_connection_too_many_is_told_so_and_one_that_ends_makes_room() {
        let (_dir, path) = scene();
        let mut server = serve(&path);
        // All of the same user as the daemon.
        let mut idle = Vec::new();
        for _ in 0..MAX_OWN {
            idle.push(UnixStream::connect(&path).await.expect("connected"));
        }
        let text = write_raw(&path, b"").await;
        assert!(text.contains("\"busy\""), "{text}");
        drop(idle);
        let asking = tokio::spawn(async move {
            loop {
                match client::call(&path, &Request::Status).await {
                    Err(ControlError::Refused { code: ErrorCode::Busy, .. }) => {
                        tokio::task::yield_now().await
                    }
                    other => return other,
                }
            }
        });
        server.next().await.expect("a request").reply.send(Response::Leaving);
        assert_eq!(asking.await.expect("joined").expect("answered"), Response::Leaving);
    }

    #[test]
    fn only_root_and_the_owner_change_anything() {
        let caller = |uid| Caller { uid, gid: 5, pid: None };
        let invite = Request::Invite { expires_s: 1, name: None, limits: InviteLimits::default() };
        for request in [Request::Down, Request::Reload, invite] {
            assert!(caller(0).may(&request, 7) && caller(7).may(&request, 7) && !caller(8).may(&request, 7));
        }
        for request in [Request::Status, Request::Ping { peer: "b".into() }] {
            assert!(caller(8).may(&request, 7));
        }
    }

    #[test]
    fn groups_are_found_by_their_whole_name() {
        let text = "root:x:0:\nshadowmesh2:x:5:\nshadowmesh:x:977:alice,bob\nbroken\n";
        assert_eq!(parse_group(text, "shadowmesh"), Some(977));
        assert_eq!(parse_group(text, "broken"), None);
        assert_eq!(parse_group(text, "none"), None);
    }
}
