//! The task that serves names: the newest book, by one of two ways, until the daemon ends.
//!
//! The control side never waits for it: it says what is wanted ([`Names::tell`], [`Names::choose`]), and the last word counts. What blocks (the
//! hosts file, its lock) runs on a thread of its own; `resolvectl` is another process. A member that renames itself without pause makes
//! this host write its hosts file [`BURST`] times, and then each [`EACH`].

use super::book::Book;
use super::hosts::{HostsError, HostsFile};
use super::label::{Label, TOP};
use super::responder::{Responder, Zone};
use super::{Places, block, resolved};
use crate::config::NamesChoice;
use crate::control::status as doc;
use crate::daemon::progress::{Progress, ProgressSender};
use shadowmesh_proto::ids::NodeId;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

/// So often the hosts file may be written in a row: enough for who starts in a network in which people work.
const BURST: u32 = 10;
/// Then once in this time: as long as an answer by DNS is good ([`super::responder::TTL`]), and too seldom to wear out a disk.
const EACH: Duration = Duration::from_secs(5);
/// How long taking all back may last at the end: the longest that the lock of the hosts file, or a call of `resolvectl`, is waited for, and
/// a second.
const GOODBYE: Duration = Duration::from_secs(4);

/// What does not change while a daemon runs.
#[derive(Debug, Clone)]
pub struct Identity {
    /// This node.
    pub node: NodeId,
    /// What the network may be called, best first ([`Label::of_network`]).
    pub networks: [Label; 2],
    /// The TAP device.
    pub device: String,
    /// Whether that is a port of a bridge. Then the addresses are on the bridge, whose name servers are none of ours.
    pub is_bridged: bool,
}

/// What the control side wants.
#[derive(Debug, Clone)]
struct Wanted {
    choice: NamesChoice,
    /// Counts how often somebody asked for it.
    asked: u64,
    /// Nothing before the first.
    book: Option<Arc<Book>>,
}

/// What `status` shows; nothing while names are off.
type Shown = Arc<Mutex<Option<doc::Names>>>;

/// The names of a daemon.
#[derive(Debug)]
pub struct Names {
    /// Dropped at the end.
    wanted: Option<watch::Sender<Wanted>>,
    shown: Shown,
    task: JoinHandle<()>,
    is_stale: bool,
}

impl Names {
    /// Starts the task, which takes out what an earlier daemon left, whatever the choice is.
    pub fn start(identity: Identity, places: Places, choice: NamesChoice, progress: ProgressSender) -> Self {
        let (wanted, receiver) = watch::channel(Wanted { choice, asked: 0, book: None });
        let shown = Shown::default();
        let service = Service {
            hosts: HostsFile::new(&places.hosts),
            identity,
            places,
            shown: Arc::clone(&shown),
            progress,
            network: None,
            way: None,
            followed: (choice, 0),
            paid: None,
            failures: 0,
            told: None,
        };
        Self { wanted: Some(wanted), shown, task: tokio::spawn(service.run(receiver)), is_stale: true }
    }

    /// Something may have changed about who is called what.
    pub const fn touch(&mut self) {
        self.is_stale = true;
    }

    /// Whether a new book is wanted; asked once.
    pub fn wants_book(&mut self) -> bool {
        let is_on = self.wanted.as_ref().is_some_and(|wanted| wanted.borrow().choice != NamesChoice::Off);
        is_on && std::mem::take(&mut self.is_stale)
    }

    /// These are the names now.
    pub fn tell(&self, book: Book) {
        let Some(wanted) = &self.wanted else { return };
        wanted.send_if_modified(|wanted| {
            let is_news = wanted.book.as_deref() != Some(&book);
            if is_news {
                wanted.book = Some(Arc::new(book));
            }
            is_news
        });
    }

    /// This is wanted now. All is begun anew, also where that was wanted before.
    pub fn choose(&mut self, choice: NamesChoice) {
        self.is_stale = true;
        if let Some(wanted) = &self.wanted {
            wanted.send_modify(|wanted| {
                wanted.choice = choice;
                wanted.asked += 1;
            });
        }
    }

    /// What `status` says.
    pub fn status(&self) -> Option<doc::Names> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins to take all back; [`Self::end`] waits for it.
    pub fn stop(&mut self) {
        self.wanted = None;
    }

    /// Takes all back.
    pub async fn end(mut self) {
        self.stop();
        if tokio::time::timeout(GOODBYE, self.task).await.is_err() {
            tracing::warn!("names could not be taken back in time: `shadowmesh down` does it");
        }
    }
}

/// A label that no other daemon of this machine has, for as long as this is kept: a socket of that name in the abstract namespace, which
/// the kernel gives to one alone and takes back from the dead.
#[derive(Debug)]
struct Network {
    label: Label,
    _claim: UnixDatagram,
}

/// How names are served.
#[derive(Debug)]
enum Way {
    Hosts,
    Resolved(Responder),
}

struct Service {
    identity: Identity,
    places: Places,
    hosts: HostsFile,
    shown: Shown,
    progress: ProgressSender,
    network: Option<Network>,
    way: Option<Way>,
    /// The choice that was followed, and which time it was asked for.
    followed: (NamesChoice, u64),
    /// When all writes of the hosts file are made up for, each with [`EACH`].
    paid: Option<Instant>,
    failures: u64,
    /// The failure that was said last.
    told: Option<String>,
}

impl Service {
    async fn run(mut self, mut wanted: watch::Receiver<Wanted>) {
        if let Err(sentence) = self.take_out().await {
            self.complain(format!("what an earlier daemon left could not be taken out: {sentence}"));
        }
        loop {
            let now = wanted.borrow_and_update().clone();
            self.follow(now).await;
            if wanted.changed().await.is_err() || self.rest(&mut wanted).await.is_err() {
                break;
            }
        }
        if let Err(sentence) = self.undo().await {
            self.complain(format!("names could not be taken back: {sentence}"));
        }
    }

    /// Waits until the hosts file may be written again. What changes meanwhile is written with the rest.
    async fn rest(&mut self, wanted: &mut watch::Receiver<Wanted>) -> Result<(), watch::error::RecvError> {
        let Some(until) = self.paid.and_then(|paid| paid.checked_sub(EACH * BURST)) else { return Ok(()) };
        if until <= Instant::now() {
            return Ok(());
        }
        let mut rested = std::pin::pin!(tokio::time::sleep_until(until));
        loop {
            tokio::select! {
                () = &mut rested => return Ok(()),
                changed = wanted.changed() => changed?,
            }
            // People do not wait for what members did.
            let now = wanted.borrow();
            if self.followed != (now.choice, now.asked) {
                return Ok(());
            }
        }
    }

    async fn follow(&mut self, wanted: Wanted) {
        let asked = (wanted.choice, wanted.asked);
        if std::mem::replace(&mut self.followed, asked) != asked {
            if let Err(sentence) = self.undo().await {
                self.fail(sentence);
            }
            self.told = None;
            self.show(None);
        }
        if wanted.choice == NamesChoice::Off {
            self.show(None);
            return;
        }
        let Some(book) = wanted.book else { return };
        if self.network.is_none() {
            match claim(&self.places.claims, &self.identity.networks) {
                Ok(network) => self.network = Some(network),
                Err(cause) => {
                    let [first, second] = &self.identity.networks;
                    return self
                        .fail(format!("neither {first} nor {second} is to be had for the network: {cause}"));
                }
            }
        }
        let Some(label) = self.network.as_ref().map(|network| network.label.clone()) else { return };
        let zone = Zone { network: label.clone(), book: Arc::clone(&book) };
        match &self.way {
            Some(Way::Resolved(responder)) => {
                responder.set(zone);
                self.serves(&label, &book);
            }
            Some(Way::Hosts) => self.write(&label, &book).await,
            None => self.begin(wanted.choice, zone).await,
        }
    }

    /// Chooses the way.
    async fn begin(&mut self, choice: NamesChoice, zone: Zone) {
        let mut note = None;
        if choice == NamesChoice::On && resolved::is_in_use(&self.places) {
            if self.identity.is_bridged {
                note =
                    Some("the addresses are on a bridge, whose name servers are left as they are".to_owned());
            } else {
                match self.register(&zone).await {
                    Ok(responder) => {
                        self.way = Some(Way::Resolved(responder));
                        return self.serves(&zone.network, &zone.book);
                    }
                    Err(sentence) => {
                        self.failures += 1;
                        let sentence = format!("systemd-resolved does not take the names: {sentence}");
                        self.complain(format!("{sentence}; they go into {}", self.places.hosts.display()));
                        note = Some(sentence);
                    }
                }
            }
        }
        self.way = Some(Way::Hosts);
        self.set_note(note);
        self.write(&zone.network, &zone.book).await;
    }

    async fn register(&self, zone: &Zone) -> Result<Responder, String> {
        let responder =
            Responder::start(zone.clone()).await.map_err(|cause| format!("no socket: {cause}"))?;
        let known = zone.book.entries.first();
        let known = known.and_then(|entry| Some((&entry.label, *entry.addresses.first()?)));
        let server = responder.address();
        resolved::register(&self.places, &self.identity.device, &zone.network, server, known).await?;
        Ok(responder)
    }

    /// Writes the block. Whether it was in before does not matter.
    async fn write(&mut self, network: &Label, book: &Arc<Book>) {
        let now = Instant::now();
        self.paid = Some(self.paid.map_or(now, |paid| paid.max(now)) + EACH);
        let (hosts, node) = (self.hosts.clone(), self.identity.node.to_base32());
        let (network, mut rendered) = (network.clone(), Book::default());
        let (label, book) = (network.clone(), Arc::clone(book));
        let hostname = self.hostname();
        let written = blocking(move || {
            hosts
                .put(&node, |beside| {
                    let mut beside = beside.clone();
                    beside.extend(hostname.clone());
                    // Begun anew each time that somebody else wrote meanwhile.
                    rendered = Book::clone(&book);
                    block::render(&node, &network, &mut rendered, &beside)
                })
                .map(|()| rendered)
        });
        match written.await {
            Ok(book) => self.serves(&label, &book),
            Err(sentence) => self.fail(sentence),
        }
    }

    /// What this machine is called is its own, whether its hosts file says so or systemd does.
    fn hostname(&self) -> Option<String> {
        let name = std::fs::read_to_string(&self.places.hostname).ok()?;
        let label = name.trim().split('.').next().unwrap_or_default();
        (!label.is_empty()).then(|| label.to_ascii_lowercase())
    }

    /// Takes back what is served, and gives the network's label free.
    async fn undo(&mut self) -> Result<(), String> {
        let undone = match self.way.take() {
            None => Ok(()),
            Some(Way::Hosts) => self.take_out().await,
            // The responder answers until nobody asks it any more.
            Some(Way::Resolved(_responder)) => resolved::revert(&self.places, &self.identity.device).await,
        };
        self.network = None;
        undone
    }

    async fn take_out(&self) -> Result<(), String> {
        let (hosts, node) = (self.hosts.clone(), self.identity.node.to_base32());
        blocking(move || hosts.remove(&node)).await.map(|_| ())
    }

    fn serves(&mut self, network: &Label, book: &Book) {
        let way = match &self.way {
            Some(Way::Hosts) => doc::NamesWay::Hosts,
            Some(Way::Resolved(_)) => doc::NamesWay::Resolved,
            None => doc::NamesWay::None,
        };
        let domain = format!("{network}.{TOP}");
        let before = self.shown();
        let names = doc::Names {
            way,
            domain: domain.clone(),
            served: book.entries.len(),
            left_out: book
                .left_out
                .iter()
                .map(|left| doc::NameLeftOut { name: left.name.clone(), why: left.why.clone() })
                .collect(),
            left_out_count: book.left_out_count,
            error: None,
            note: before.as_ref().and_then(|before| before.note.clone()),
            failures: self.failures,
        };
        self.told = None;
        let is_new = before.is_none_or(|before| (before.way, before.domain) != (way, domain.clone()));
        self.show(Some(names));
        if is_new {
            let file = matches!(way, doc::NamesWay::Hosts).then(|| self.places.hosts.display().to_string());
            self.progress.send(Progress::Names { domain, file });
        }
    }

    /// Names are not served as they should be; the tunnel is none the worse for it.
    fn fail(&mut self, sentence: String) {
        self.failures += 1;
        let before = self.shown().unwrap_or_default();
        let network = self.network.as_ref().map(|network| &network.label);
        let domain = network.map_or_else(String::new, |label| format!("{label}.{TOP}"));
        let names = doc::Names { domain, error: Some(sentence.clone()), failures: self.failures, ..before };
        self.show(Some(names));
        self.complain(format!("names are not served: {sentence}"));
    }

    fn shown(&self) -> Option<doc::Names> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, names: Option<doc::Names>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    fn set_note(&self, note: Option<String>) {
        self.show(Some(doc::Names { note, ..doc::Names::default() }));
    }

    /// Says it, unless that was said last.
    fn complain(&mut self, sentence: String) {
        if self.told.as_ref() != Some(&sentence) {
            tracing::warn!("{sentence}");
            self.progress.send(Progress::Notice(sentence.clone()));
            self.told = Some(sentence);
        }
    }
}

/// The first of these labels that no other daemon has.
fn claim(prefix: &str, labels: &[Label]) -> io::Result<Network> {
    let mut refused = io::ErrorKind::AddrInUse.into();
    for label in labels {
        let name = format!("{prefix}/{label}");
        match SocketAddr::from_abstract_name(name).and_then(|name| UnixDatagram::bind_addr(&name)) {
            Ok(claim) => return Ok(Network { label: label.clone(), _claim: claim }),
            Err(cause) => refused = cause,
        }
    }
    Err(refused)
}

/// On a thread that may wait.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, HostsError> + Send + 'static,
) -> Result<T, String> {
    match spawn_blocking(act).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::book::{Candidate, Voucher};
    use super::*;
    use crate::daemon::progress::ProgressSender;
    use std::fs;
    use std::net::IpAddr;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use tokio::sync::mpsc::UnboundedReceiver;

    const OWN: &str = "127.0.0.1 localhost\n10.0.0.9 nas";

    /// A machine with places of its own.
    struct Machine {
        home: tempfile::TempDir,
        places: Places,
    }

    impl Machine {
        fn new() -> Self {
            let home = tempfile::tempdir().expect("a directory");
            let places = Places::under(home.path());
            fs::write(&places.hosts, OWN).expect("written");
            fs::write(&places.hostname, "laptop.lan\n").expect("written");
            Self { home, places }
        }

        /// With a `resolvectl` that notes what it is called with, and then does this.
        fn with_resolved(self, does: &str) -> Self {
            fs::create_dir(&self.places.resolved).expect("made");
            fs::write(&self.places.resolv_conf, "nameserver 127.0.0.53\n").expect("written");
            let script = format!("#!/bin/sh\necho \"$*\" >>{}\n{does}\n", self.calls_path().display());
            fs::write(&self.places.resolvectl, script).expect("written");
            fs::set_permissions(&self.places.resolvectl, fs::Permissions::from_mode(0o755)).expect("set");
            self
        }

        fn calls_path(&self) -> PathBuf {
            self.home.path().join("calls")
        }

        /// What `resolvectl` was called with, without the port.
        fn calls(&self) -> Vec<String> {
            let calls = fs::read_to_string(self.calls_path()).unwrap_or_default();
            let port = |line: &str| match line.split_once("127.0.0.1:") {
                Some((before, _)) => format!("{before}127.0.0.1:PORT"),
                None => line.to_owned(),
            };
            calls.lines().map(port).collect()
        }

        fn start(&self, node: u8, choice: NamesChoice) -> (Names, UnboundedReceiver<Progress>) {
            let (progress, said) = ProgressSender::channel();
            let identity = Identity {
                node: NodeId([node; 32]),
                networks: Label::of_network("office", &format!("tail{node:02}")),
                device: "smesh0".into(),
                is_bridged: false,
            };
            (Names::start(identity, self.places.clone(), choice, progress), said)
        }

        fn hosts(&self) -> String {
            fs::read_to_string(&self.places.hosts).expect("read")
        }
    }

    fn book(names: &[(&str, u8)]) -> Book {
        let candidate = |(name, id): &(&str, u8)| Candidate {
            id: NodeId([*id; 32]),
            name: (*name).into(),
            voucher: Voucher::Itself,
            addresses: vec![IpAddr::from([10, 7, 0, *id])],
        };
        Book::new(&names.iter().map(candidate).collect::<Vec<_>>())
    }

    /// Waits until it says so.
    async fn said(events: &mut UnboundedReceiver<Progress>, is_it: impl Fn(&Progress) -> bool) -> Progress {
        let found = async {
            loop {
                let event = events.recv().await.expect("it ended without saying so");
                if is_it(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.expect("in time")
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let became = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(EACH * 4 * BURST, became).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    const fn is_served(event: &Progress) -> bool {
        matches!(event, Progress::Names { .. })
    }

    #[tokio::test]
    async fn a_block_follows_the_book_and_is_gone_at_the_end() {
        let machine = Machine::new();
        let (names, mut events) = machine.start(1, NamesChoice::On);
        // Number 1 is this node, which is called as its host.
        names.tell(book(&[("b", 2), ("nas", 3), ("Laptop", 1), ("wpad", 5)]));
        let Progress::Names { domain, file } = said(&mut events, is_served).await else { panic!() };
        assert_eq!(
            (domain.as_str(), file),
            ("office.internal", Some(machine.places.hosts.display().to_string()))
        );
        let text = machine.hosts();
        assert!(text.contains("10.7.0.2\tb.office.internal b\n"), "{text}");
        // What the host calls something, or itself, stays its own.
        assert!(text.contains("10.7.0.3\tnas.office.internal\n"), "{text}");
        assert!(text.contains("10.7.0.1\tlaptop.office.internal\n"), "{text}");
        let shown = names.status().expect("on");
        assert_eq!((shown.way, shown.served, shown.left_out_count), (doc::NamesWay::Hosts, 3, 2));
        assert_eq!((shown.error, shown.failures), (None, 0));

        names.tell(book(&[("bob", 2)]));
        until("the new name", || machine.hosts().contains("10.7.0.2\tbob.office.internal bob\n")).await;
        assert!(!machine.hosts().contains("\tb.office.internal"), "{}", machine.hosts());
        names.end().await;
        assert_eq!(machine.hosts(), OWN);
    }

    #[tokio::test]
    async fn off_touches_nothing_but_what_was_left() {
        let machine = Machine::new().with_resolved("");
        let (mut names, _events) = machine.start(1, NamesChoice::Off);
        assert!(!names.wants_book());
        names.tell(book(&[("b", 2)]));
        names.end().await;
        assert_eq!((machine.hosts().as_str(), machine.calls().len()), (OWN, 0));

        // A daemon that is killed takes nothing out; this runtime ends without a word to its tasks.
        let leave = |node| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("made");
            runtime.block_on(async {
                let (names, mut events) = machine.start(node, NamesChoice::Hosts);
                names.tell(book(&[("b", 2)]));
                said(&mut events, is_served).await;
                std::mem::forget(names);
            });
        };
        // Within this test's own runtime none can be waited for.
        std::thread::scope(|scope| {
            scope.spawn(|| [1, 2].map(leave));
        });
        let both = machine.hosts();
        assert_eq!(both.matches("shadowmesh begin").count(), 2, "{both}");
        let (names, _events) = machine.start(1, NamesChoice::Off);
        names.end().await;
        let left = machine.hosts();
        assert_eq!(left.matches("shadowmesh begin").count(), 1, "another's is another's: {left}");
        assert!(super::super::sweep(&machine.places, NodeId([2; 32])).expect("taken out"));
        assert_eq!(machine.hosts(), OWN);
        assert!(!super::super::sweep(&machine.places, NodeId([2; 32])).expect("nothing"));
    }

    #[tokio::test]
    async fn two_networks_of_one_name_have_two_labels() {
        let machine = Machine::new();
        let (first, mut first_says) = machine.start(1, NamesChoice::On);
        first.tell(book(&[("b", 2)]));
        said(&mut first_says, is_served).await;
        let (second, mut second_says) = machine.start(9, NamesChoice::On);
        second.tell(book(&[("b", 4), ("c", 5)]));
        let Progress::Names { domain, .. } = said(&mut second_says, is_served).await else { panic!() };
        assert_eq!(domain, "office-tail09.internal");
        let text = machine.hosts();
        assert!(text.contains("10.7.0.2\tb.office.internal b\n"), "{text}");
        assert!(text.contains("10.7.0.4\tb.office-tail09.internal\n"), "the short one is taken: {text}");
        assert!(text.contains("10.7.0.5\tc.office-tail09.internal c\n"), "{text}");
        first.end().await;
        assert!(machine.hosts().contains("office-tail09") && !machine.hosts().contains("b.office.internal"));
        second.end().await;
        assert_eq!(machine.hosts(), OWN);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_said_and_counted_and_tried_again() {
        let machine = Machine::new();
        fs::remove_file(&machine.places.hosts).expect("removed");
        let (mut names, mut events) = machine.start(1, NamesChoice::On);
        names.tell(book(&[("b", 2)]));
        let is_complaint = |event: &Progress| matches!(event, Progress::Notice(_));
        let Progress::Notice(sentence) = said(&mut events, is_complaint).await else { panic!() };
        assert!(
            sentence.starts_with("names are not served: ") && sentence.contains("is not there"),
            "{sentence}"
        );
        let shown = names.status().expect("on");
        assert_eq!((shown.served, shown.failures), (0, 1));
        assert!(shown.error.is_some_and(|error| error.contains("hosts is not there")));
        // `reload`.
        fs::write(&machine.places.hosts, OWN).expect("written");
        names.choose(NamesChoice::On);
        said(&mut events, is_served).await;
        let shown = names.status().expect("on");
        assert_eq!((shown.served, shown.failures, shown.error), (1, 1, None));
        // And off again.
        names.choose(NamesChoice::Off);
        until("nothing left", || machine.hosts() == OWN).await;
        until("nothing shown", || names.status().is_none()).await;
        names.end().await;
    }

    #[tokio::test]
    async fn systemd_resolved_is_told_asked_and_told_to_forget() {
        let machine = Machine::new();
        let does = "case $2 in query) echo \"$3: 10.7.0.2  -- link: smesh0\";; esac";
        let machine = machine.with_resolved(does);
        let (names, mut events) = machine.start(1, NamesChoice::On);
        names.tell(book(&[("b", 2)]));
        let Progress::Names { domain, file } = said(&mut events, is_served).await else { panic!() };
        assert_eq!((domain.as_str(), file), ("office.internal", None));
        let shown = names.status().expect("on");
        assert_eq!((shown.way, shown.served, shown.note), (doc::NamesWay::Resolved, 1, None));
        names.end().await;
        assert_eq!(
            machine.calls(),
            [
                "dns smesh0 127.0.0.1:PORT",
                "domain smesh0 office.internal",
                "default-route smesh0 no",
                "dnssec smesh0 no",
                "dnsovertls smesh0 no",
                "--legend=no query b.office.internal",
                "revert smesh0",
            ]
        );
        assert_eq!(machine.hosts(), OWN, "the block is not needed");
    }

    #[tokio::test]
    async fn where_systemd_resolved_does_not_answer_the_block_stands_in() {
        for (does, why) in [
            ("case $1 in domain) echo 'Failed to set: no' >&2; exit 1;; esac", "Failed to set: no"),
            // It takes all, and asks somebody else.
            ("case $2 in query) echo \"$3: 192.0.2.1\";; esac", "it does not say 10.7.0.2"),
        ] {
            let machine = Machine::new().with_resolved(does);
            let (names, mut events) = machine.start(1, NamesChoice::On);
            names.tell(book(&[("b", 2)]));
            said(&mut events, is_served).await;
            let shown = names.status().expect("on");
            assert_eq!((shown.way, shown.failures), (doc::NamesWay::Hosts, 1));
            assert!(shown.note.is_some_and(|note| note.contains(why)));
            assert_eq!(machine.calls().last().map(String::as_str), Some("revert smesh0"));
            assert!(machine.hosts().contains("b.office.internal b"));
            names.end().await;
            assert_eq!(machine.hosts(), OWN);
        }
        // Nobody asked for it.
        let machine = Machine::new().with_resolved("");
        let (names, mut events) = machine.start(1, NamesChoice::Hosts);
        names.tell(book(&[("b", 2)]));
        said(&mut events, is_served).await;
        names.end().await;
        assert!(machine.calls().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_changes_its_name_all_the_time_does_not_wear_out_the_disk() {
        let machine = Machine::new();
        let (names, mut events) = machine.start(1, NamesChoice::On);
        names.tell(book(&[("b", 2)]));
        said(&mut events, is_served).await;
        let mut last = machine.hosts();
        let mut writes = 1;
        for n in 0..600 {
            names.tell(book(&[(&format!("b{n}"), 2)]));
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = machine.hosts();
            writes += usize::from(now != last);
            last = now;
        }
        assert!((12..=24).contains(&writes), "{writes} times in a minute");
        // The last word counts.
        until("the last name", || machine.hosts().contains("b599.office.internal b599")).await;
        names.end().await;
        assert_eq!(machine.hosts(), OWN);
    }
}
