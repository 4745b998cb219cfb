//! `run`: everything that can fail, before anything is announced; then serve until a signal.

use super::{Options, Tls, manager, say};
use crate::acme::Keeper;
use crate::admin::AdminSocket;
use crate::config::ConfigFile;
use crate::config::keys::{Counts, Key};
use crate::public::{self, Public};
use crate::random::SystemRng;
use crate::server::tls::Front;
use crate::server::tls::files::Watch;
use crate::server::{Handle, Server, Stop};
use crate::store::{Remembered, StateDir};
use anyhow::Context as _;
use shadowmesh_proto::ids::RelayId;
use shadowmesh_proto::ticket::RelayTicket;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

pub(super) fn execute(options: Options) -> anyhow::Result<()> {
    // Whatever is made from here on is for this user alone, from its first moment.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Handshakes: whatever comes, one core stays for forwarding.
        .max_blocking_threads(cores.saturating_sub(1).max(1))
        .build()
        .context("cannot start: the system gives no event queue; check the limit on open files")?
        .block_on(serve(options))
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let at = options.state.clone();
    let state = StateDir::create(&at)?;
    let lock = state.lock()?;
    let secret = state.key_or_new(&mut SystemRng)?;
    let renewer = options.tls.clone().map(|tls| Renewer::new(tls, &at)).transpose()?;
    let mut server =
        Server::bind(&options.sockets, &options.file.settings, secret.clone(), options.versions)?;
    if let Some(renewer) = &renewer {
        server = server.with_tls(renewer.front());
    }
    let admin = AdminSocket::bind(&state.socket())?;
    let (handle, stop) = (server.handle(), Stop::new());
    // Before anything is announced: whoever reads the ticket may already want the relay to stop.
    let signals = Signals::new().context("cannot watch for signals; check the limit on open files")?;

    let remembered = remember(&options, &server, &state)?;
    let ticket =
        RelayTicket { key: RelayId(secret.public().0), addresses: remembered.addresses, expires: None };
    say(&format!("relay ticket: {}", ticket.to_text()))?;

    let look = Arc::new(Notify::new());
    let signals = tokio::spawn(signals.watch(stop.clone(), handle.clone(), options, Arc::clone(&look)));
    let certificates = renewer.map(|renewer| tokio::spawn(async move { renewer.run(&look).await }));
    let admin = tokio::spawn(admin.serve(handle));
    manager::ready();
    let watchdog = tokio::spawn(manager::feed_watchdog());
    tracing::info!(ports = ?server.ports(), state = %at.display(), "listening");
    server.run(stop).await?;
    for task in [Some(watchdog), Some(signals), certificates].into_iter().flatten() {
        task.abort();
    }
    admin.abort();
    // Its file goes when the task is dropped, which must be before the lock is.
    let _ = admin.await;
    drop(lock);
    tracing::info!("stopped");
    Ok(())
}

/// Sees to it that the certificate is a good one.
enum Renewer {
    Files(Box<Watch>),
    Acme(Box<Keeper>),
}

impl Renewer {
    fn new(tls: Tls, state: &Path) -> anyhow::Result<Self> {
        Ok(match tls {
            Tls::Files(files) => Self::Files(Box::new(Watch::new(files)?)),
            Tls::Acme(config) => Self::Acme(Box::new(Keeper::new(config, StateDir::open(state))?)),
        })
    }

    fn front(&self) -> Front {
        match self {
            Self::Files(watch) => watch.front(),
            Self::Acme(keeper) => keeper.front(),
        }
    }

    /// For ever; at once when `hurry` says so.
    async fn run(self, hurry: &Notify) {
        match self {
            Self::Files(watch) => watch.run(hurry).await,
            Self::Acme(keeper) => keeper.run(hurry).await,
        }
    }
}

/// Settles what the ticket says, and keeps it for `ticket` and the next start.
fn remember(options: &Options, server: &Server, state: &StateDir) -> anyhow::Result<Remembered> {
    let before = state.read_state()?;
    let kept = before.public.as_deref().and_then(|text| text.parse().ok());
    // A certificate is for a name: that is the one to be asked for.
    let certified = || match &options.tls {
        Some(Tls::Acme(config)) => config.domains.first()?.parse().ok(),
        Some(Tls::Files(_)) | None => None,
    };
    let given = options.public.clone().or(kept);
    let public = given.clone().or_else(certified);
    let listen: Vec<SocketAddr> = options
        .sockets
        .listen
        .iter()
        .zip(server.ports())
        .map(|(address, port)| SocketAddr::new(address.ip(), port))
        .collect();
    let found = public::addresses(public.as_ref(), &listen, options.tls.is_some());
    if found.private {
        tracing::warn!(
            "the ticket names a private address, which only this network reaches; for the internet run: shadowmesh-relay --public <the address or name that others reach this host by>"
        );
    }
    let remembered =
        // What nobody gave counts as long as the certificate is for it.
        Remembered { addresses: found.addresses, public: given.as_ref().and_then(Public::to_remember) };
    state.write_state(&remembered)?;
    Ok(remembered)
}

/// SIGTERM and SIGINT stop, a second one at once; SIGHUP reloads.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From here on the signals are ours.
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// A reload has the files of TLS `look`ed at as well.
    async fn watch(mut self, stop: Stop, handle: Handle, options: Options, look: Arc<Notify>) {
        let Options { config, file: mut in_force, by_flag, .. } = options;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => stop_by(&stop),
                _ = self.interrupt.recv() => stop_by(&stop),
                _ = self.hangup.recv() => manager::reloading(|| {
                    look.notify_one();
                    in_force = reload(&handle, config.as_deref(), in_force.clone(), &by_flag);
                }),
            }
        }
    }
}

fn stop_by(stop: &Stop) {
    manager::stopping();
    stop.ask();
}

/// Reads the file again. What is `in_force` afterwards: of what counts from the next start on, what it was.
fn reload(handle: &Handle, path: Option<&Path>, in_force: ConfigFile, by_flag: &[(Key, &str)]) -> ConfigFile {
    let Some(path) = path else {
        tracing::info!("nothing to reload: the relay was started without --config");
        return in_force;
    };
    let newer = match ConfigFile::read(path) {
        Ok(newer) => newer,
        Err(error) => {
            tracing::error!("configuration not reloaded, the old one holds: {error}");
            return in_force;
        }
    };
    let mut waits = false;
    for key in in_force.changed(&newer) {
        let (about, value) = (key.about(), newer.shown(key));
        let what = format!("{} = {value}", about.path());
        if let Some((_, flag)) = by_flag.iter().find(|(by_flag, _)| *by_flag == key) {
            // At the next start as well, if that is with it.
            tracing::warn!("{what}: does not count, {flag} of the command line does in its place");
            continue;
        }
        match about.counts {
            Counts::AtOnce => tracing::info!("{what}: applied"),
            Counts::For(of) => tracing::info!("{what}: applied, for {of}"),
            Counts::NextStart(why) => {
                waits = true;
                tracing::warn!("{what}: counts from the next start on, for {why}");
            }
        }
    }
    handle.reconfigure(&newer.settings);
    let restart = if waits {
        "; the rest takes a restart, such as `sudo systemctl restart shadowmesh-relay`"
    } else {
        ""
    };
    tracing::info!(path = %path.display(), "configuration reloaded{restart}");
    ConfigFile { settings: newer.settings, ..in_force }
}
