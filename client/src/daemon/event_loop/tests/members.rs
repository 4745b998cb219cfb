//! A network with certificates, from whoever makes it to who is shut out.

mod renewal;

use super::*;
use crate::control::message::{Change, ErrorCode, InviteLimits, Member as Entry};
use crate::control::status::{Membership, PeerState};
use crate::daemon::clock::unix_now;
use crate::daemon::members::admin::Admin;
use crate::daemon::members::stored;
use crate::daemon::state_dir::Joins;
use shadowmesh_proto::crypto::keys::NetworkSecret;
use shadowmesh_proto::membership::{Authority, Name, SecretName, Trust};
use shadowmesh_proto::ticket::Invite;

/// The relay, its network, and daemons by name.
pub(super) struct Office {
    relay: Relay,
    serving: JoinHandle<()>,
    network: NetworkState,
    root: Authority,
}

impl Office {
    pub(super) async fn new() -> Self {
        let (relay, ticket, serving) = Relay::start(1).await;
        let mut network = NetworkState::create("office", vec![ticket], &mut SystemRng);
        let root = Authority::generate(&mut SystemRng);
        network.root = Some(root.fingerprint());
        Self { relay, serving, network, root }
    }

    /// The host that made the network.
    pub(super) async fn admin(&self, name: &'static str) -> Daemon {
        self.admin_at(name, None).await
    }

    /// The same with an address by hand.
    async fn admin_at(&self, name: &'static str, address: Option<&str>) -> Daemon {
        let (seed, root) = (self.root.seed(), self.root.fingerprint());
        let members: MembersOf = Box::new(move |state, node| {
            let authority = Authority::from_seed(seed);
            let mut trust = Trust::new(root, node);
            let mut admin = Admin::new(&mut trust, &authority, unix_now());
            admin.found().unwrap();
            admin.certify_here(Name::new(name).unwrap()).unwrap();
            state.save_authority(&authority).unwrap();
            state.save_members(&stored(&trust, None)).unwrap();
            Members::load(state, root, node).unwrap()
        });
        let home = tempfile::tempdir().unwrap();
        Daemon::start_as(home, name, self.network.clone(), by_hand(address), Some(members)).await
    }

    /// A host that joins.
    pub(super) async fn joins(&self, name: &'static str, invite: &Invite) -> Daemon {
        self.joins_at(name, invite, None).await
    }

    /// The same with an address by hand.
    async fn joins_at(&self, name: &'static str, invite: &Invite, address: Option<&str>) -> Daemon {
        let (delegated, mut network) = (invite.delegated.clone(), NetworkState::join(invite));
        let root = self.root.fingerprint();
        // Who got hold of the secret alone knows that as well.
        network.root = Some(root);
        let members: MembersOf = Box::new(move |state, node| {
            let mut members = Members::load(state, root, node).unwrap();
            if let Some(delegated) = delegated {
                members.join(Joins::new(delegated, Name::new(name).unwrap(), &mut SystemRng));
            }
            members
        });
        let home = tempfile::tempdir().unwrap();
        Daemon::start_as(home, name, network, by_hand(address), Some(members)).await
    }

    /// A host that was there before, as its state says.
    async fn again(&self, name: &'static str, home: tempfile::TempDir) -> Daemon {
        let stored = StateDir::open(home.path().join("state")).unwrap().load_network().unwrap();
        let network = stored.unwrap_or_else(|| self.network.clone());
        let root = self.root.fingerprint();
        let members: MembersOf = Box::new(move |state, node| Members::load(state, root, node).unwrap());
        Daemon::start_in(home, name, network, Some(members)).await
    }

    /// Under how many secrets this node is registered.
    fn registrations(&self, daemon: &str) -> usize {
        let members = self.relay.members.lock().unwrap();
        members.iter().filter(|member| member.node.to_base32() == daemon).count()
    }
}

fn by_hand(address: Option<&str>) -> FileConfig {
    FileConfig { address: address.map(|address| address.parse().unwrap()), ..FileConfig::default() }
}

impl Daemon {
    async fn ask(&self, request: Request) -> Result<Response, ControlError> {
        within("an answer", call(&self.socket, &request)).await
    }

    pub(super) async fn invite(&self, limits: InviteLimits) -> Invite {
        let asked = self.ask(Request::Invite { expires_s: 3_600, name: None, limits }).await.unwrap();
        let Response::Invite { ticket } = asked else { panic!("{asked:?}") };
        Invite::parse(&ticket, unix_now()).unwrap()
    }

    pub(super) async fn change(&self, change: Change) -> Result<String, String> {
        let asked = self.ask(Request::Change(change)).await;
        if let Err(ControlError::Refused { sentence, .. }) = asked {
            return Err(sentence);
        }
        let Ok(Response::Changed { sentence }) = asked else { panic!("{asked:?}") };
        Ok(sentence)
    }

    async fn members(&self) -> Vec<Entry> {
        let Response::Members(members) = self.ask(Request::Members).await.unwrap() else {
            panic!("no members")
        };
        members.members
    }

    /// How it stands to the node of this id.
    async fn standing(&self, id: &str) -> Option<String> {
        self.members().await.into_iter().find(|member| member.id == id).map(|member| member.standing)
    }

    async fn membership(&self) -> Membership {
        self.status().await.membership.unwrap()
    }

    async fn state_of(&self, peer: &str) -> Option<(PeerState, Option<String>)> {
        let status = self.status().await;
        let found = status.peers.iter().find(|other| other.name == peer || other.id == peer)?;
        Some((found.state, found.member.as_ref().map(|member| member.standing.clone())))
    }

    /// Who of the two does not let the other in, and why.
    async fn barred(&self, peer: &str) -> Option<(String, bool, String)> {
        let status = self.status().await;
        let found = status.peers.into_iter().find(|other| other.name == peer || other.id == peer)?;
        found.barred.map(|barred| (barred.state, barred.by_us, barred.why))
    }

    /// Why no echo is sent.
    async fn no_echo(&self, peer: &str) -> String {
        match self.ask(Request::Ping { peer: peer.to_owned() }).await {
            Err(ControlError::Refused { code: ErrorCode::NotConnected, sentence }) => sentence,
            other => panic!("{other:?}"),
        }
    }

    /// Why no path is waited for; asked for so long that a test that waits for it fails.
    async fn no_path(&self, peer: &str, wanted: Wanted) -> String {
        let asked = Request::Path { peer: peer.to_owned(), wanted, timeout_ms: 3_600_000 };
        match self.ask(asked).await {
            Err(ControlError::Refused { code: ErrorCode::NotConnected, sentence }) => sentence,
            other => panic!("{other:?}"),
        }
    }

    async fn until<F: Future<Output = bool>>(&self, what: &str, mut is_so: impl FnMut() -> F) {
        let waiting = async {
            while !is_so().await {
                sleep(Duration::from_millis(5)).await;
            }
        };
        within(what, waiting).await;
    }

    async fn meets(&self, peer: &str) {
        let is_met =
            || async { self.state_of(peer).await.is_some_and(|(state, _)| state == PeerState::Connected) };
        self.until(&format!("{peer} to be connected"), is_met).await;
    }

    async fn parts_from(&self, peer: &str) {
        let is_out =
            || async { self.state_of(peer).await.is_none_or(|(state, _)| state != PeerState::Connected) };
        self.until(&format!("{peer} to be cut off"), is_out).await;
    }

    pub(super) async fn ends(self) -> tempfile::TempDir {
        self.ask(Request::Down).await.unwrap();
        within("the end", self.task).await.unwrap().unwrap();
        self.home
    }
}

fn once() -> InviteLimits {
    InviteLimits { uses: Some(1), ..InviteLimits::default() }
}

#[test]
fn hosts_join_by_invite_are_named_and_shut_out() {
    crate::net::namespace::isolated(|| in_network("", from_joining_to_revocation()));
}

async fn from_joining_to_revocation() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    assert_eq!(a.membership().await.state, "member");
    let limits = InviteLimits { tags: vec!["lab".into()], ..InviteLimits::default() };
    let invite = a.invite(limits).await;
    let mut b = office.joins("b", &invite).await;
    b.connected().await;
    a.meets("b").await;
    b.meets("a").await;
    for n in 0..100 {
        a.send(&b, n);
    }
    assert_eq!(b.numbers(100).await, (0..100).collect::<Vec<_>>(), "frames flow");
    let Response::Members(known) = a.ask(Request::Members).await.unwrap() else { panic!("no members") };
    assert_eq!(known.relays, [office.network.relays[0].addresses[0].clone()], "the record names none yet");
    let own = b.membership().await;
    assert_eq!((own.state.as_str(), own.name.as_str(), own.tags), ("member", "b", vec!["lab".to_owned()]));
    assert!(!own.is_admin && own.warnings.is_empty(), "{:?}", own.warnings);
    let known = a.members().await;
    let entry = known.iter().find(|member| member.name == "b").unwrap();
    assert!(entry.since.is_some() && entry.standing == "member", "the admin took it up: {entry:?}");

    // A third, with no admin there.
    let home = a.ends().await;
    let c = office.joins("c", &invite).await;
    c.meets("b").await;
    c.send(&b, 100);
    assert_eq!(b.numbers(1).await, [100]);
    let refused = b.change(Change::Rename { member: "c".into(), name: "d".into() }).await.unwrap_err();
    assert!(refused.contains("no admin"), "{refused}");
    let a = office.again("a", home).await;
    a.meets("c").await;
    a.meets("b").await;

    // What the admin says of others, they say as well.
    a.change(Change::Rename { member: "c".into(), name: "carol".into() }).await.unwrap();
    a.change(Change::Tag { member: "carol".into(), add: vec!["x".into()], remove: vec!["lab".into()] })
        .await
        .unwrap();
    b.meets("carol").await;
    c.until("its tags", || async { c.membership().await.tags == ["x"] }).await;
    let both = Change::Tag { member: "carol".into(), add: vec!["y".into()], remove: vec!["y".into()] };
    let refused = a.change(both).await.unwrap_err();
    assert!(refused.contains("given and taken at once"), "{refused}");
    assert_eq!(c.status().await.node.name, "carol", "the host says it of itself as others do");
    let taken = a.change(Change::Rename { member: "carol".into(), name: "b".into() }).await.unwrap_err();
    assert!(taken.contains("another member is called b"), "{taken}");

    // Rules of the record, by tag: only a speaks to others.
    a.change(Change::Tag { member: "a".into(), add: vec!["boss".into()], remove: vec![] }).await.unwrap();
    let said = a.change(Change::SetRules { text: "allow tag:boss -> any\n".into() }).await.unwrap();
    assert!(said.starts_with("the network has 1 access rule: "), "{said}");
    b.until("the rules", || async { b.status().await.rules.is_some_and(|rules| rules.count == 1) }).await;
    let Response::Members(known) = b.ask(Request::Members).await.unwrap() else { panic!("no members") };
    assert_eq!(known.rules.as_deref(), Some("allow tag:boss -> any\n"), "every host can show them");
    c.send(&b, 101);
    let denied = || async { b.status().await.dropped.get("access_not_allowed") == Some(&1) };
    b.until("a frame to be denied", denied).await;
    a.send(&b, 102);
    assert_eq!(b.numbers(1).await, [102], "and what was denied never comes");

    // One is shut out; the one that does not hear the admin itself as well. Who waits for a path that never comes waits no longer.
    let (socket, peer) = (a.socket.clone(), "carol".to_owned());
    let asked = Request::Path { peer, wanted: Wanted::RelayUdp, timeout_ms: 3_600_000 };
    let waiting = spawn_local(async move { call(&socket, &asked).await });
    let began = Instant::now();
    a.change(Change::Revoke { member: "carol".into() }).await.unwrap();
    a.parts_from("carol").await;
    b.parts_from("carol").await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    c.until("it to know", || async { c.membership().await.state == "revoked" }).await;
    // The session lasts some seconds more, and an echo in it would say that all is well.
    let shut_out = c.status().await.node.id;
    let why = a.barred(&shut_out).await;
    assert!(why.is_some_and(|(state, by_us, why)| {
        state == "revoked" && by_us && why.starts_with("revoked by the admin a on 2") && why.ends_with(" UTC")
    }));
    let silence = a.no_echo(&shut_out).await;
    assert!(silence.contains("is not let in: revoked by the admin a on 2"), "{silence}");
    let ended = within("the wait to end", waiting).await.unwrap();
    let Err(ControlError::Refused { sentence, .. }) = ended else { panic!("{ended:?}") };
    assert!(sentence.contains("is not let in: revoked by the admin a on 2"), "{sentence}");
    // Nor is there anything to wait for, with whatever path.
    for wanted in [Wanted::Relay, Wanted::Auto] {
        let why = a.no_path(&shut_out, wanted).await;
        assert!(why.contains("is not let in: revoked by the admin a on 2"), "{why}");
        assert!(why.ends_with("it takes another key and an invite to come back"), "{why}");
    }
    c.until("it to be told", || async { c.barred("a").await.is_some() }).await;
    let silence = c.no_echo("a").await;
    assert!(silence.contains("this node was revoked"), "{silence}");
    let why = c.no_path("a", Wanted::Direct).await;
    assert!(why.starts_with("a does not let this node in: ") && why.contains("shadowmesh doctor"), "{why}");
    let own = c.membership().await;
    assert_eq!(own.shut_out.as_deref(), Some("key"));
    assert!(own.warnings.iter().any(|said| said.contains("with another key")), "{:?}", own.warnings);
    a.meets("b").await;
    assert!(office.relay.members.lock().unwrap().len() == 3);
    office.serving.abort();
}

#[test]
fn who_waits_for_a_member_is_told_so_and_is_called_joining() {
    crate::net::namespace::isolated(|| in_network("", waiting_to_join()));
}

async fn waiting_to_join() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let invite = a.invite(InviteLimits::default()).await;
    let home = a.ends().await;
    // Two that join, and nobody who could let them in.
    let mut b = office.joins("b", &invite).await;
    let c = office.joins("c", &invite).await;
    let is_told = |said: &Progress| matches!(said, Progress::Notice(said) if said.starts_with("this host waits to join: a member of the network"));
    b.says("that it waits", is_told).await;
    let own = b.membership().await;
    assert_eq!(own.state, "joining");
    assert!(own.warnings.iter().any(|said| said.contains("waits to join")), "{:?}", own.warnings);
    let of_itself = b.members().await.into_iter().find(|member| member.is_here).unwrap();
    assert_eq!((of_itself.standing.as_str(), of_itself.state.as_str()), ("pending", "joining"));
    assert!(of_itself.why.is_some_and(|why| why.contains("waits to join")));
    let a = office.again("a", home).await;
    for daemon in [&b, &c] {
        daemon.until("it to be in", || async { daemon.membership().await.state == "member" }).await;
        assert!(daemon.membership().await.warnings.iter().all(|said| !said.contains("waits")));
    }
    drop(a);
    office.serving.abort();
}

#[test]
fn those_that_join_at_once_are_taken_up_together() {
    crate::net::namespace::isolated(|| in_network("", many_at_once()));
}

async fn many_at_once() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let invite = a.invite(InviteLimits::default()).await;
    let (b, c, d) = (office.joins("b", &invite).await, office.joins("c", &invite).await, "d");
    for name in ["b", "c"] {
        a.meets(name).await;
    }
    let in_record = |members: &[Entry], name: &str| {
        members.iter().any(|known| known.name == name && known.since.is_some())
    };
    // The first at once, the next two seconds later: all that come meanwhile with it.
    let began = Instant::now();
    let third = office.joins(d, &invite).await;
    a.meets(d).await;
    let mut seen = Vec::new();
    let all = async {
        while seen.last() != Some(&3) {
            let members = a.members().await;
            let count = ["b", "c", "d"].iter().filter(|name| in_record(&members, name)).count();
            seen.push(count);
            sleep(Duration::from_millis(5)).await;
        }
    };
    within("all to be in the record", all).await;
    seen.dedup();
    if began.elapsed() < Duration::from_secs(3) {
        assert_eq!(seen, [1, 3], "one after the other");
    }
    // Whom a command means is a member before: by name.
    let e = office.joins("e", &invite).await;
    a.meets("e").await;
    a.change(Change::Rename { member: "e".into(), name: "eve".into() }).await.unwrap();
    assert!(in_record(&a.members().await, "eve"));
    drop((b, c, third, e));
    office.serving.abort();
}

#[test]
fn an_invite_for_one_is_not_for_two() {
    crate::net::namespace::isolated(|| in_network("", used_twice()));
}

async fn used_twice() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let open = a.invite(InviteLimits::default()).await;
    let invite = a.invite(once()).await;
    // A member that hands out the invite while no admin is there.
    let b = office.joins("b", &open).await;
    b.meets("a").await;
    let home = a.ends().await;
    let c = office.joins("c", &invite).await;
    c.meets("b").await;
    let d = office.joins("d", &invite).await;
    d.meets("b").await;
    let a = office.again("a", home).await;
    // One of the two stays, and the invite is of no use to anybody else.
    let one_is_out =
        || async { c.membership().await.state == "revoked" || d.membership().await.state == "revoked" };
    a.until("one of them to be out", one_is_out).await;
    let (stays, goes) = if c.membership().await.state == "revoked" { (&d, &c) } else { (&c, &d) };
    let own = goes.membership().await;
    assert_eq!(own.shut_out.as_deref(), Some("invite-used-up"));
    let is_said = |said: &String| said.contains("used up by others") && said.contains("by another invite");
    assert!(own.warnings.iter().any(is_said), "{:?}", own.warnings);
    let of_itself = goes.members().await.into_iter().find(|member| member.is_here).unwrap();
    assert_eq!((of_itself.standing.as_str(), of_itself.state.as_str()), ("refused", "refused"));
    assert!(of_itself.why.is_some_and(|why| is_said(&why)));
    let (goes, stays) = (goes.status().await.node.id, stays.status().await.node.id);
    let is_told = || async {
        a.barred(&goes).await.is_some_and(|(state, by_us, why)| {
            state == "refused" && by_us && why == "the invite was used up by others"
        })
    };
    a.until("it to be told why", is_told).await;
    b.parts_from(&goes).await;
    b.meets(&stays).await;
    a.meets(&stays).await;
    let members = a.members().await;
    let out: Vec<&Entry> = members.iter().filter(|member| member.standing == "revoked").collect();
    assert!(out.is_empty(), "whoever has an invite can make nodes without end: {out:?}");
    office.serving.abort();
}

#[test]
fn who_has_to_be_approved_waits_and_an_admin_is_made_and_removed() {
    crate::net::namespace::isolated(|| in_network("", approved()));
}

async fn approved() {
    let office = Office::new().await;
    let mut a = office.admin("a").await;
    let limits = InviteLimits { needs_approval: true, tags: vec!["lab".into()], ..InviteLimits::default() };
    let b = office.joins("b", &a.invite(limits).await).await;
    let short = b.status().await.node.id[..10].to_owned();
    let prompt = format!("b ({short}) waits to be let in: `sudo shadowmesh approve {short}`");
    let waits = |said: &Progress| matches!(said, Progress::Notice(said) if said.contains(&prompt));
    a.says("that b waits", waits).await;
    assert_eq!(b.state_of("a").await.unwrap().0, PeerState::Connecting);
    b.until("it to know that it waits", || async { b.membership().await.state == "waiting" }).await;
    let own = b.membership().await;
    let remedy = format!("`sudo shadowmesh approve {short}` on an admin's host");
    assert!(own.warnings.iter().any(|said| said.contains(&remedy)), "{:?}", own.warnings);
    let of_itself = b.members().await.into_iter().find(|member| member.is_here).unwrap();
    assert_eq!((of_itself.standing.as_str(), of_itself.state.as_str()), ("refused", "waiting"));
    let of_b = a.members().await.into_iter().find(|member| member.name == "b").unwrap();
    assert_eq!((of_b.standing.as_str(), of_b.state.as_str()), ("refused", "waiting"));
    let (state, by_us, _) = b.barred("a").await.unwrap();
    assert_eq!((state.as_str(), by_us), ("waiting", false));
    // By the same name as `members` shows.
    let (state, by_us, why) = a.barred("b").await.unwrap();
    assert_eq!(
        (state.as_str(), by_us, why.as_str()),
        ("waiting", true, "the node waits for an admin's approval")
    );
    let silence = a.no_echo("b").await;
    assert_eq!(silence, format!("b is not let in: {why}"));
    let approve = format!("`sudo shadowmesh approve {short}` on an admin's host lets it in");
    assert_eq!(a.no_path("b", Wanted::Relay).await, format!("b is not let in: {why}; {approve}"));
    let there = b.no_path("a", Wanted::Relay).await;
    assert!(there.starts_with("a does not let this node in: ") && there.ends_with(&approve), "{there}");
    // Another that took the name of who is a member, and one that the same invite makes a member by its id.
    let other = office
        .joins("b", &a.invite(InviteLimits { needs_approval: true, ..InviteLimits::default() }).await)
        .await;
    let other_id = other.status().await.node.id;
    a.until("the other to wait", || async { a.standing(&other_id).await.as_deref() == Some("refused") })
        .await;
    let both = a.change(Change::Approve { member: "b".into() }).await.unwrap_err();
    assert!(both.contains(&short) && both.contains(&other_id[..10]), "{both}");
    // A name or a tag does not let it in.
    let whole = b.status().await.node.id;
    for change in [
        Change::Tag { member: whole.clone(), add: vec!["boss".into()], remove: vec![] },
        Change::Rename { member: whole.clone(), name: "y".into() },
    ] {
        let refused = a.change(change).await.unwrap_err();
        assert!(refused.contains("is no member: let it in first"), "{refused}");
    }
    assert_eq!(a.standing(&whole).await.as_deref(), Some("refused"));
    a.change(Change::Approve { member: short.clone() }).await.unwrap();
    a.meets("b").await;
    b.meets("a").await;
    assert_eq!((a.barred(&whole).await, b.barred("a").await), (None, None));
    assert_eq!(b.membership().await.state, "member");
    assert_eq!(b.membership().await.tags, ["lab"], "with what its invite gives");
    let both = a.change(Change::Approve { member: "b".into() }).await.unwrap_err();
    assert!(both.contains(&short) && both.contains(&other_id[..10]), "a member and one that waits: {both}");
    let again = a.change(Change::Approve { member: short.clone() }).await.unwrap_err();
    assert!(again.contains("is a member already"), "{again}");
    a.change(Change::Tag { member: "b".into(), add: vec!["x".into()], remove: vec![] }).await.unwrap();
    b.until("its tag", || async { b.membership().await.tags == ["lab", "x"] }).await;
    assert_eq!(a.standing(&other_id).await.as_deref(), Some("refused"));

    // b becomes an admin, and can do what one does; then it is removed.
    let Response::AdminId { id } = b.ask(Request::AdminId { anew: false }).await.unwrap() else {
        panic!("no id")
    };
    let add = Change::AddAdmin { id: id.clone(), name: "b-admin".into() };
    a.change(add).await.unwrap();
    b.until("b to be an admin", || async { b.membership().await.is_admin }).await;
    let c = office.joins("c", &b.invite(once()).await).await;
    c.meets("a").await;
    let refused = b.change(Change::RemoveAdmin { admin: "b-admin".into(), stolen: false }).await.unwrap_err();
    assert!(refused.contains("does not remove itself"), "{refused}");
    a.change(Change::RemoveAdmin { admin: id[..10].to_owned(), stolen: false }).await.unwrap();
    b.until("b to be none", || async { !b.membership().await.is_admin }).await;
    let refused = b.change(Change::Revoke { member: "c".into() }).await.unwrap_err();
    assert!(refused.contains("no say"), "{refused}");
    a.meets("c").await;
    office.serving.abort();
}

#[test]
fn who_only_has_the_secret_is_not_taken_for_a_member() {
    crate::net::namespace::isolated(|| in_network("", strangers()));
}

async fn strangers() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let invite = a.invite(InviteLimits::default()).await;
    let b = office.joins("b", &invite).await;
    a.meets("b").await;
    // Who joins takes nobody's name, nor the admin's host's.
    let mut other = office.joins("a", &invite).await;
    let other_id = other.status().await.node.id;
    a.meets(&other_id).await;
    let name = format!("a-{}", &other_id[..10]);
    other.until("its name", || async { other.membership().await.name == name }).await;
    let says =
        |sentence: String| move |said: &Progress| matches!(said, Progress::Notice(said) if *said == sentence);
    let why = says("the name that it came with is another member's: an admin's host gives it one as soon as the two meet".into());
    other.says("why it is called so", why).await;
    other
        .says(
            "the name that the admin's host gives it",
            says("this host is called a-2 in the network now".into()),
        )
        .await;
    assert_eq!(a.membership().await.name, "a");
    let uninvited = Invite { delegated: None, ..invite };
    // One that calls itself like a member, and one with a name of its own.
    let (mimic, x) = (office.joins("b", &uninvited).await, office.joins("x", &uninvited).await);
    let ids = [mimic.status().await.node.id, x.status().await.node.id];
    for id in &ids {
        a.until("a stranger to be seen", || async { a.standing(id).await.is_some() }).await;
        let shown = a.members().await.into_iter().find(|member| member.id == *id).unwrap();
        assert_eq!((shown.name.as_str(), shown.standing.as_str()), (&id[..10], "pending"));
    }
    for member in ["x", &ids[1][..10]] {
        let member = member.to_owned();
        for change in [
            Change::Revoke { member: member.clone() },
            Change::Tag { member: member.clone(), add: vec!["boss".into()], remove: vec![] },
            Change::Rename { member: member.clone(), name: "y".into() },
        ] {
            let refused = a.change(change).await.unwrap_err();
            assert!(refused.contains("no member is called"), "{refused}");
        }
    }
    let refused = a.change(Change::Approve { member: "x".into() }).await.unwrap_err();
    assert!(refused.contains("nobody that waits is called"), "{refused}");
    // What is said of b is said of the member, and a name that a stranger gave itself is free.
    a.change(Change::Rename { member: "b".into(), name: "x".into() }).await.unwrap();
    b.until("its name", || async { b.membership().await.name == "x" }).await;
    a.change(Change::Revoke { member: ids[0].clone() }).await.unwrap();
    assert_eq!(a.standing(&ids[0]).await.as_deref(), Some("revoked"));
    a.change(Change::Revoke { member: "x".into() }).await.unwrap();
    b.until("it to know", || async { b.membership().await.state == "revoked" }).await;
    office.serving.abort();
}

#[test]
fn arp_is_answered_for_who_is_let_in_and_nobody_else() {
    crate::net::namespace::isolated(|| in_network("", answered_by_the_record()));
}

/// The IPv4 address of a daemon.
async fn address(daemon: &Daemon) -> std::net::Ipv4Addr {
    let status = daemon.status().await;
    let addresses = status.node.addresses.iter().filter_map(|cidr| cidr.split('/').next()?.parse().ok());
    addresses.into_iter().next().expect("an address")
}

impl Daemon {
    /// Whether a peer said which addresses it has.
    async fn was_told_by(&self, peer: &str) -> bool {
        self.status().await.peers.iter().any(|other| other.name == peer && !other.addresses.is_empty())
    }

    /// Asks who has these, in turn; of whom it heard until the last was answered for.
    async fn asks(&self, whom: &[std::net::Ipv4Addr]) -> Vec<std::net::Ipv4Addr> {
        let own = address(self).await.octets();
        for target in whom {
            let fixed = [0, 1, 8, 0, 6, 4, 0, 1];
            let arp = [&fixed[..], &self.mac.0, &own, &[0; 6], &target.octets()].concat();
            let frame = [&[0xff; 6][..], &self.mac.0, &[8, 6], &arp].concat();
            self.wire.send(&frame).unwrap();
        }
        let mut answered = vec![];
        let all = async {
            while answered.last() != whom.last() {
                while let Some(frame) = self.wire.receive().unwrap() {
                    if let ([8, 6], [.., 2]) = (&frame[12..14], &frame[20..22]) {
                        let sender: [u8; 4] = frame[28..32].try_into().unwrap();
                        answered.push(sender.into());
                    }
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        within("an answer for the last", all).await;
        answered
    }
}

async fn answered_by_the_record() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let invite = a.invite(InviteLimits::default()).await;
    let b = office.joins("b", &invite).await;
    a.meets("b").await;
    let c = office.joins("c", &invite).await;
    a.meets("c").await;
    let both = [address(&c).await, address(&b).await];
    a.until("the address of b", || a.was_told_by("b")).await;
    a.until("the address of c", || a.was_told_by("c")).await;
    assert_eq!(a.asks(&both).await, both, "nobody but the switch is there to answer");
    a.change(Change::Revoke { member: "c".into() }).await.unwrap();
    assert_eq!(a.asks(&both).await, [both[1]]);
    office.serving.abort();
}

#[test]
fn a_rotated_secret_reaches_who_is_there_and_who_comes_later_and_loses_no_frame() {
    crate::net::namespace::isolated(|| in_network("", rotated()));
}

/// Whether a daemon holds the secret of the first rotation.
async fn has_first(daemon: &Daemon) -> bool {
    daemon.membership().await.secret.generation == 1
}

/// The same, and the one before.
async fn rotates(daemon: &Daemon) -> bool {
    has_first(daemon).await && daemon.membership().await.secret.state == "rotating"
}

async fn rotated() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let open = a.invite(InviteLimits::default()).await;
    let b = office.joins("b", &open).await;
    let c = office.joins("c", &open).await;
    for (one, other) in [(&a, "b"), (&a, "c"), (&b, "c"), (&c, "b")] {
        one.meets(other).await;
    }
    let ids = [a.status().await.node.id, b.status().await.node.id, c.status().await.node.id];
    let before = a.status().await;
    // c is away.
    let c_home = c.ends().await;
    a.parts_from("c").await;

    let refused = b.change(Change::RotateSecret { now: false }).await.unwrap_err();
    assert!(refused.contains("no admin"), "{refused}");
    for n in 0..50 {
        a.send(&b, n);
    }
    let said = a.change(Change::RotateSecret { now: false }).await.unwrap();
    assert!(said.contains("generation 1") && said.contains("7 days"), "{said}");
    for n in 50..100 {
        a.send(&b, n);
    }
    assert_eq!(b.numbers(100).await, (0..100).collect::<Vec<_>>(), "what runs goes on");
    b.until("b to have it", || rotates(&b)).await;
    let knows = || async {
        a.members().await.iter().any(|member| member.has_new_secret == Some(true) && member.name == "b")
    };
    a.until("a to know", knows).await;
    let c_entry = a.members().await.into_iter().find(|member| member.name == "c").unwrap();
    assert_ne!(c_entry.has_new_secret, Some(true));
    a.until("both to be registered twice", || async {
        ids[..2].iter().all(|id| office.registrations(id) == 2)
    })
    .await;
    let after = a.status().await;
    assert_ne!(after.network.id, before.network.id);
    assert_eq!((after.node.addresses, after.relays.len()), (before.node.addresses, 1));
    let refused = a.change(Change::RotateSecret { now: false }).await.unwrap_err();
    assert!(refused.contains("replaced already"), "{refused}");

    // Who comes back in time, and who has an invite from before, get it; a new invite brings it.
    let c = office.again("c", c_home).await;
    c.until("c to have it", || rotates(&c)).await;
    let d = office.joins("d", &open).await;
    d.until("d to have it", || rotates(&d)).await;
    assert_eq!(a.invite(InviteLimits::default()).await.generation, 1);
    d.meets("c").await;

    // A restart keeps both.
    let a = office.again("a", a.ends().await).await;
    a.meets("b").await;
    assert!(rotates(&a).await);
    office.serving.abort();
}

#[test]
fn a_machine_that_lost_power_between_the_steps_of_a_rotation_works() {
    crate::net::namespace::isolated(|| in_network("", half_rotated()));
}

async fn half_rotated() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let b = office.joins("b", &a.invite(InviteLimits::default()).await).await;
    a.meets("b").await;
    a.change(Change::RotateSecret { now: false }).await.unwrap();
    b.until("b to have it", || has_first(&b)).await;
    let (a_home, b_home) = (a.ends().await, b.ends().await);

    // As it was when b had stored the secret, and nothing of the record that names it.
    let state = StateDir::open(b_home.path().join("state")).unwrap();
    let mut members = state.load_members().unwrap();
    let root = office.root.fingerprint();
    members.blobs.retain(|blob| {
        shadowmesh_proto::membership::Unverified::<shadowmesh_proto::membership::Document>::decode(root, blob)
            .is_err()
    });
    state.save_members(&members).unwrap();
    let b = office.again("b", b_home).await;
    assert_eq!(b.membership().await.secret.generation, 0, "nobody named the other yet");
    let a = office.again("a", a_home).await;
    a.meets("b").await;
    b.until("b to follow the record", || has_first(&b)).await;

    // As it was when a had stored one that it had no time to speak of.
    let a_home = a.ends().await;
    let state = StateDir::open(a_home.path().join("state")).unwrap();
    let mut network = state.load_network().unwrap().unwrap();
    (network.secret, network.next) =
        (network.next.clone().unwrap(), Some(NetworkSecret::draw(2, &mut SystemRng)));
    state.save_network(&network).unwrap();
    let a = office.again("a", a_home).await;
    a.meets("b").await;
    assert_eq!(a.membership().await.secret.generation, 1);
    let said = a.change(Change::RotateSecret { now: true }).await.unwrap();
    assert!(said.contains("within a minute"), "{said}");
    let has_next = || async { b.membership().await.secret.generation >= 2 };
    b.until("b to have the next", has_next).await;
    a.meets("b").await;
    office.serving.abort();
}

#[test]
fn an_admins_host_that_was_revoked_comes_back_by_itself_with_another_key() {
    crate::net::namespace::isolated(|| in_network("", revoked_admin()));
}

async fn revoked_admin() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let b = office.joins("b", &a.invite(InviteLimits::default()).await).await;
    a.meets("b").await;
    let Response::AdminId { id } = b.ask(Request::AdminId { anew: false }).await.unwrap() else {
        panic!("no id")
    };
    a.change(Change::AddAdmin { id, name: "b-admin".into() }).await.unwrap();
    b.until("it to be an admin's", || async { b.membership().await.is_admin }).await;
    let before = a.status().await.node.id;
    b.change(Change::Revoke { member: before.clone() }).await.unwrap();
    a.until("it to know", || async { a.membership().await.state == "revoked" }).await;
    assert!(a.membership().await.is_admin, "what it says counts still");

    // What `doctor` says to type.
    let home = a.ends().await;
    std::fs::remove_file(home.path().join("state/node.key")).unwrap();
    let a = office.again("a", home).await;
    let id = a.status().await.node.id;
    assert_ne!(id, before);
    a.meets("b").await;
    b.meets(&id).await;
    let own = a.membership().await;
    assert!(own.state == "member" && own.is_admin && own.shut_out.is_none(), "{own:?}");
    office.serving.abort();
}

#[test]
fn a_copy_is_of_what_the_daemon_holds_now() {
    crate::net::namespace::isolated(|| in_network("", copied()));
}

async fn copied() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let b = office.joins("b", &a.invite(InviteLimits::default()).await).await;
    a.meets("b").await;
    a.change(Change::RotateSecret { now: false }).await.unwrap();
    b.until("b to have it", || has_first(&b)).await;
    let a_state = a.home.path().join("state");
    // What is on the disk is of no use to anybody: neither file is asked.
    for file in ["network.toml", "members"] {
        std::fs::remove_file(a_state.join(file)).unwrap();
    }

    let taken_over = async |daemon: &Daemon, name: &str| {
        let asked = daemon.ask(Request::Export).await.unwrap();
        assert_eq!(format!("{asked:?}"), "Copy(..)");
        let Response::Copy { text } = asked else { panic!("no copy") };
        let state = StateDir::open(daemon.home.path().join(name)).unwrap();
        let (network, has_key) = state.import(&text).unwrap();
        let ids = network.secrets().ids().collect::<Vec<_>>();
        let trust = Members::load(&state, office.root.fingerprint(), NodeId([7; 32])).unwrap().trust;
        let named = trust.view().secret().map(|secret| secret.generation);
        (ids, has_key, named, trust.view().members().count())
    };
    let (ids, has_key, named, members) = taken_over(&a, "copy").await;
    assert!(ids.len() == 2 && has_key, "both secrets of the rotation, and the key: {ids:?}");
    assert_eq!((named, members), (Some(1), 2));
    let (of_b, has_key, ..) = taken_over(&b, "copy").await;
    assert!(of_b == ids && !has_key);
    office.serving.abort();
}

#[test]
fn without_certificates_nothing_is_rotated() {
    crate::net::namespace::isolated(|| in_network("", uncertified()));
}

async fn uncertified() {
    let office = Office::new().await;
    let network = NetworkState { root: None, ..office.network.clone() };
    let a = Daemon::start("a", network).await;
    let refused = a.change(Change::RotateSecret { now: false }).await.unwrap_err();
    assert!(refused.contains("no certificates") && refused.contains("network create"), "{refused}");
    // Whoever is meant: who reads that nobody is called so would look for another name.
    for change in
        [Change::Approve { member: "b".into() }, Change::Rename { member: "b".into(), name: "c".into() }]
    {
        let refused = a.change(change).await.unwrap_err();
        assert!(refused.contains("no certificates"), "{refused}");
    }
    office.serving.abort();
}

#[test]
fn addresses_of_an_invite_reach_certificate_device_and_everybody() {
    crate::net::namespace::isolated(|| in_network("", given_addresses()));
}

impl Daemon {
    /// Its IPv4 address as it is on the device.
    async fn cidr(&self) -> String {
        self.status().await.node.addresses.first().cloned().unwrap_or_default()
    }

    /// The addresses of that member, as this host knows them.
    async fn knows_of(&self, name: &str) -> Vec<String> {
        let members = self.members().await;
        members
            .into_iter()
            .find(|member| member.name == name)
            .map(|member| member.addresses)
            .unwrap_or_default()
    }
}

async fn given_addresses() {
    let office = Office::new().await;
    // Who makes the network by hand has what it says, in the record.
    let a = office.admin_at("a", Some("10.7.3.1/24")).await;
    assert_eq!(a.cidr().await, "10.7.3.1/24");
    a.until("its address in the record", || async { a.membership().await.given == ["10.7.3.1"] }).await;
    let invite =
        a.invite(InviteLimits { blocks: vec!["10.7.3.0/24".into()], ..InviteLimits::default() }).await;

    let b = office.joins_at("b", &invite, Some("10.7.3.4/24")).await;
    a.meets("b").await;
    b.meets("a").await;
    assert_eq!((b.cidr().await, b.membership().await.given), ("10.7.3.4/24".into(), vec!["10.7.3.4".into()]));
    assert!(b.membership().await.warnings.is_empty(), "{:?}", b.membership().await.warnings);
    let ip: std::net::Ipv4Addr = "10.7.3.4".parse().unwrap();
    assert_eq!(a.asks(&[ip]).await, [ip], "and others take it as its own");
    assert_eq!(a.knows_of("b").await.first().map(String::as_str), Some("10.7.3.4"));

    // Outside of the block: said once, and shown; nobody would believe it.
    let mut c = office.joins_at("c", &invite, Some("10.9.9.9/24")).await;
    let sentence = "the invite does not give this host the address 10.9.9.9 (it gives 10.7.3.0/24)";
    let is_said = |said: &Progress| matches!(said, Progress::Notice(said) if said.contains(sentence));
    c.says("that it is not given", is_said).await;
    let own = c.cidr().await;
    assert!(own.ends_with("/16") && !own.starts_with("10.9.9.9"), "{own}");
    let warnings = c.membership().await.warnings;
    assert!(warnings.iter().any(|warning| warning.contains(sentence)), "{warnings:?}");
    assert!(c.membership().await.given.is_empty());

    // Without a wish, and with one that another has: the block gives another.
    let d = office.joins("d", &invite).await;
    let e = office.joins_at("e", &invite, Some("10.7.3.4/24")).await;
    let has = async |one: &Daemon| {
        let (cidr, given) = (one.cidr().await, one.membership().await.given);
        let is_given = given.first().is_some_and(|given| cidr == format!("{given}/24"));
        (is_given && cidr.starts_with("10.7.3.") && cidr != "10.7.3.4/24").then_some(cidr)
    };
    let have =
        || async { has(&d).await.is_some() && has(&e).await.is_some() && has(&d).await != has(&e).await };
    a.until("an address of the block each", have).await;
    let warnings = e.membership().await.warnings;
    assert!(warnings.iter().any(|said| said.contains("the address 10.7.3.4 is")), "{warnings:?}");

    // Later, without a word of it, before anybody is met.
    office.relay.is_mute.store(true, Relaxed);
    for (name, daemon, expected) in [("b", b, "10.7.3.4/24".to_owned()), ("d", d, String::new())] {
        let expected = if expected.is_empty() { daemon.cidr().await } else { expected };
        let again = office.again(name, daemon.ends().await).await;
        assert_eq!(again.cidr().await, expected);
        again.ends().await;
    }
    office.serving.abort();
}

#[test]
fn a_given_range_that_this_machine_uses_is_not_taken_from_it() {
    let lan = "ip link add lan type bridge && ip address add 10.7.3.9/24 dev lan && ip link set lan up";
    crate::net::namespace::isolated(|| in_network(lan, given_beside_a_lan()));
}

async fn given_beside_a_lan() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let invite =
        a.invite(InviteLimits { blocks: vec!["10.7.3.0/24".into()], ..InviteLimits::default() }).await;
    let mut b = office.joins("b", &invite).await;
    let is_said =
        |said: &Progress| matches!(said, Progress::Notice(said) if said.contains("which is not taken"));
    b.says("that it is not taken", is_said).await;
    assert!(b.cidr().await.ends_with("/16"), "{}", b.cidr().await);
    a.until("b to have one of its key", || async {
        let known = a.knows_of("b").await;
        known.len() == 3 && known.iter().any(|address| address.starts_with("10.7.3."))
    })
    .await;
    let ip = address(&b).await;
    assert_eq!(a.asks(&[ip]).await, [ip], "which others believe");
    office.serving.abort();
}

#[test]
fn what_the_record_gives_a_running_host_is_taken_and_given_up() {
    crate::net::namespace::isolated(|| in_network("", given_while_it_runs()));
}

async fn given_while_it_runs() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let invite =
        a.invite(InviteLimits { blocks: vec!["10.7.3.0/24".into()], ..InviteLimits::default() }).await;
    let d = office.joins("d", &invite).await;
    d.meets("a").await;
    // Two that do not hear of each other take one address.
    let a_home = a.ends().await;
    let b = office.joins_at("b", &invite, Some("10.7.3.4/24")).await;
    b.meets("d").await;
    let b_home = b.ends().await;
    d.parts_from("b").await;
    let c = office.joins_at("c", &invite, Some("10.7.3.4/24")).await;
    c.meets("d").await;
    assert_eq!(c.cidr().await, "10.7.3.4/24");
    let b = office.again("b", b_home).await;
    b.meets("c").await;
    // The record gives it to one of them, and the next one to the other.
    let a = office.again("a", a_home).await;
    a.meets("b").await;
    a.meets("c").await;
    let both = || async {
        let cidrs = [b.cidr().await, c.cidr().await];
        let is_of_block = |cidr: &String| cidr.starts_with("10.7.3.") && cidr.ends_with("/24");
        cidrs.iter().all(is_of_block) && cidrs[0] != cidrs[1] && cidrs.contains(&"10.7.3.4/24".to_owned())
    };
    a.until("both to have one", both).await;
    for one in [&b, &c] {
        let own = one.cidr().await;
        one.until("it to be given", || async {
            one.membership().await.given == [own.trim_end_matches("/24")]
        })
        .await;
    }
    office.serving.abort();
}

#[test]
fn two_hosts_rotate_one_after_the_other_under_traffic_and_lose_no_frame() {
    crate::net::namespace::isolated(|| in_network("", rotated_by_both()));
}

async fn rotated_by_both() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let b = office.joins("b", &a.invite(InviteLimits::default()).await).await;
    a.meets("b").await;
    b.meets("a").await;
    let Response::AdminId { id } = b.ask(Request::AdminId { anew: false }).await.unwrap() else {
        panic!("no id")
    };
    a.change(Change::AddAdmin { id, name: "b-admin".into() }).await.unwrap();
    b.until("b to be an admin", || async { b.membership().await.is_admin }).await;
    let mut sent = 0;
    let mut send = |count: u32| {
        for n in sent..sent + count {
            a.send(&b, n);
            b.send(&a, n);
        }
        sent += count;
    };
    send(50);
    a.change(Change::RotateSecret { now: false }).await.unwrap();
    send(50);
    b.until("b to have it", || has_first(&b)).await;
    send(50);
    b.change(Change::RotateSecret { now: true }).await.unwrap();
    send(50);
    a.until("a to have the next", || async { a.membership().await.secret.generation == 2 }).await;
    send(50);
    for one in [&a, &b] {
        assert_eq!(one.numbers(250).await, (0..250).collect::<Vec<_>>(), "what runs goes on");
        // Over at once by every clock, also one that is hours behind.
        assert_eq!(one.membership().await.secret.until, Some(0));
    }
    a.meets("b").await;
    let ids = [a.status().await.node.id, b.status().await.node.id];
    a.until("two streams each", || async { ids.iter().all(|id| office.registrations(id) == 2) }).await;
    office.serving.abort();
}

#[test]
fn a_second_rotation_waits_for_who_is_connected_and_has_not_got_the_first() {
    crate::net::namespace::isolated(|| in_network("", rotated_twice()));
}

async fn rotated_twice() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let b = office.joins("b", &a.invite(InviteLimits::default()).await).await;
    a.meets("b").await;
    b.meets("a").await;
    office.relay.is_mute.store(true, Relaxed);
    a.change(Change::RotateSecret { now: true }).await.unwrap();
    let refused = a.change(Change::RotateSecret { now: true }).await.unwrap_err();
    assert!(refused.contains("b has not got it yet"), "{refused}");
    office.relay.is_mute.store(false, Relaxed);
    b.until("b to have it", || has_first(&b)).await;
    let knows = || async {
        a.members().await.iter().any(|member| member.has_new_secret == Some(true) && member.name == "b")
    };
    a.until("a to know", knows).await;
    a.change(Change::RotateSecret { now: true }).await.unwrap();
    b.until("b to have the next", || async { b.membership().await.secret.generation == 2 }).await;
    office.serving.abort();
}

#[test]
fn who_is_stopped_between_the_record_and_the_secret_gets_it_after() {
    crate::net::namespace::isolated(|| in_network("", stopped_between()));
}

async fn stopped_between() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let b = office.joins("b", &a.invite(InviteLimits::default()).await).await;
    a.meets("b").await;
    let state = StateDir::open(b.home.path().join("state")).unwrap();
    let before = state.load_network().unwrap().unwrap();
    a.change(Change::RotateSecret { now: false }).await.unwrap();
    b.until("b to have it", || has_first(&b)).await;
    let b_home = b.ends().await;
    // As it was when b had stored the record, and had not been given the secret.
    state.save_network(&before).unwrap();
    office.relay.is_mute.store(true, Relaxed);
    let b = office.again("b", b_home).await;
    let secret = b.membership().await.secret;
    assert_eq!((secret.generation, secret.state.as_str()), (0, "missing"));
    office.relay.is_mute.store(false, Relaxed);
    b.until("b to have it", || rotates(&b)).await;
    b.meets("a").await;
    let stored = state.load_network().unwrap().unwrap();
    assert_eq!(stored.secrets().ids().count(), 2);
    office.serving.abort();
}

#[test]
fn a_secret_that_could_not_be_saved_is_saved_when_it_can_be() {
    crate::net::namespace::isolated(|| in_network("", unsaved()));
}

async fn unsaved() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let b = office.joins("b", &a.invite(InviteLimits::default()).await).await;
    a.meets("b").await;
    let state = StateDir::open(b.home.path().join("state")).unwrap();
    // No file can be written where a directory is.
    let in_the_way = state.path().join(".network.toml.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    a.change(Change::RotateSecret { now: false }).await.unwrap();
    b.until("b to have it", || has_first(&b)).await;
    let stored = |state: &StateDir| state.load_network().unwrap().unwrap().secrets().ids().count();
    assert_eq!(stored(&state), 1);
    std::fs::remove_dir(&in_the_way).unwrap();
    a.change(Change::Tag { member: "b".into(), add: vec!["x".into()], remove: vec![] }).await.unwrap();
    b.until("its tag", || async { b.membership().await.tags == ["x"] }).await;
    assert_eq!(stored(&state), 2);
    office.serving.abort();
}

#[test]
fn the_relays_of_a_network_change_while_frames_flow() {
    crate::net::namespace::isolated(|| in_network("", from_one_relay_to_another()));
}

async fn from_one_relay_to_another() {
    let office = Office::new().await;
    let first = office.network.relays[0].clone();
    let a = office.admin("a").await;
    let mut b = office.joins("b", &a.invite(once()).await).await;
    b.connected().await;
    a.meets("b").await;
    let (second, ticket, _serving) = Relay::start(2).await;
    let at = |relay: &Relay| relay.members.lock().unwrap().len();
    assert_eq!((at(&office.relay), at(&second)), (2, 0));
    a.change(Change::AddRelay { ticket: ticket.to_text() }).await.unwrap();
    let has_two = || async { at(&second) == 2 };
    a.until("both to be at the new relay", has_two).await;
    assert_eq!(at(&office.relay), 2, "and where they were");

    // From before the first one is given up until after it.
    let (mut n, mut heard) = (0, Vec::new());
    a.change(Change::RemoveRelay { relay: first.addresses[0].clone() }).await.unwrap();
    while at(&office.relay) > 0 || n < 100 {
        a.send(&b, n);
        heard.extend(b.numbers(1).await);
        n += 1;
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(heard, (0..n).collect::<Vec<_>>(), "none is lost and none comes twice");
    for daemon in [&a, &b] {
        let relays = daemon.status().await.relays;
        assert!(relays.len() == 1 && relays[0].url.contains(&ticket.addresses[0]), "{relays:?}");
    }
    a.meets("b").await;
    let mut saved = StateDir::open(b.home.path().join("state")).unwrap().load_network().unwrap().unwrap();
    assert_eq!(saved.relays.pop().map(|relay| relay.key), Some(ticket.key));

    // A list that leads nowhere cuts nobody off.
    let (gone, nowhere, serving) = Relay::start(3).await;
    serving.abort();
    a.change(Change::AddRelay { ticket: nowhere.to_text() }).await.unwrap();
    a.change(Change::RemoveRelay { relay: ticket.addresses[0].clone() }).await.unwrap();
    let has_heard = || async { b.status().await.relays.len() == 2 };
    b.until("it to hear of the relay that is not there", has_heard).await;
    let heard_of = Instant::now();
    while heard_of.elapsed() < 2 * LEAVE_AFTER {
        a.send(&b, n);
        assert_eq!(b.numbers(1).await, [n]);
        n += 1;
    }
    assert_eq!((at(&second), at(&gone)), (2, 0));
}

#[test]
fn an_admins_host_with_an_address_answers_when_it_was_revoked() {
    crate::net::namespace::isolated(|| in_network("", revoked_admin_with_an_address()));
}

async fn revoked_admin_with_an_address() {
    let office = Office::new().await;
    let a = office.admin_at("a", Some("10.7.3.4/24")).await;
    let b = office.joins("b", &a.invite(InviteLimits::default()).await).await;
    a.meets("b").await;
    let Response::AdminId { id } = b.ask(Request::AdminId { anew: false }).await.unwrap() else {
        panic!("no id")
    };
    a.change(Change::AddAdmin { id, name: "b-admin".into() }).await.unwrap();
    b.until("it to be an admin's", || async { b.membership().await.is_admin }).await;
    b.change(Change::Revoke { member: a.status().await.node.id }).await.unwrap();
    a.until("it to know", || async { a.membership().await.state == "revoked" }).await;
    // Also when it starts with that on its disk.
    let again = by_hand(Some("10.7.3.4/24"));
    let (home, network, root) = (a.ends().await, office.network.clone(), office.root.fingerprint());
    let members: MembersOf = Box::new(move |state, node| Members::load(state, root, node).unwrap());
    let a = Daemon::start_as(home, "a", network, again, Some(members)).await;
    assert_eq!(a.membership().await.state, "revoked");
    office.serving.abort();
}

#[test]
fn a_host_that_comes_back_has_its_name_again() {
    crate::net::namespace::isolated(|| in_network("", named_again()));
}

async fn named_again() {
    let office = Office::new().await;
    let a = office.admin("a").await;
    let invite = a.invite(InviteLimits::default()).await;
    let first = office.joins("anna", &invite).await;
    a.meets("anna").await;
    let (one, second) = (first.status().await.node.id, office.joins("anna", &invite).await);
    a.meets("anna-2").await;
    let two = second.status().await.node.id;
    let refused = Change::Rename { member: "anna-2".into(), name: "Anna".into() };
    let refused = a.change(refused).await.unwrap_err();
    assert!(refused.contains("another member is called anna"), "but for the case: {refused}");
    a.change(Change::Revoke { member: "anna".into() }).await.unwrap();
    a.parts_from(&one).await;

    // Who types the name of the one before may mean the other, which is not shut out by that.
    let said = a.change(Change::Revoke { member: "anna".into() }).await.unwrap_err();
    assert!(said.contains("was revoked already") && said.contains("revoke anna-2`"), "{said}");
    assert_eq!(a.standing(&two).await.as_deref(), Some("member"));
    a.change(Change::Rename { member: "anna-2".into(), name: "anna".into() }).await.unwrap();
    second.until("its name", || async { second.membership().await.name == "anna" }).await;
    a.meets("anna").await;
    a.change(Change::Revoke { member: "anna".into() }).await.unwrap();
    assert_eq!(a.standing(&two).await.as_deref(), Some("revoked"), "who stands is meant");

    // A name that only who waits to be let in has is free.
    let limits = InviteLimits { needs_approval: true, ..InviteLimits::default() };
    let waits = office.joins("vault", &a.invite(limits).await).await;
    let waiting = waits.status().await.node.id;
    a.until("it to wait", || async { a.standing(&waiting).await.as_deref() == Some("refused") }).await;
    let named = a.change(Change::Rename { member: "a".into(), name: "vault".into() }).await;
    assert!(named.is_ok(), "{named:?}");
    // Whoever is no admin's host is told where one is.
    let Response::Members(known) = a.ask(Request::Members).await.unwrap() else { panic!("no members") };
    assert_eq!(known.admins.iter().map(|admin| admin.name.as_str()).collect::<Vec<_>>(), ["vault"]);
    let third = office.joins("c", &invite).await;
    third.meets("vault").await;
    let refused = third.change(Change::Revoke { member: "vault".into() }).await.unwrap_err();
    assert!(refused.contains("ask for it where one is (vault)"), "{refused}");
    office.serving.abort();
}

#[test]
fn a_host_that_was_revoked_is_not_told_to_fetch_the_secret() {
    crate::net::namespace::isolated(|| in_network("", revoked_and_late()));
}

async fn revoked_and_late() {
    let office = Office::new().await;
    let (seed, root) = (office.root.seed(), office.root.fingerprint());
    let members: MembersOf = Box::new(move |state, node| {
        let authority = Authority::from_seed(seed);
        let mut trust = Trust::new(root, node);
        let mut admin = Admin::new(&mut trust, &authority, unix_now());
        admin.found().unwrap();
        admin.certify_here(Name::new("a").unwrap()).unwrap();
        // Replaced, long ago, by one that is not here.
        let gone = NetworkState::create("office", Vec::new(), &mut SystemRng);
        let name = SecretName { generation: 7, network: gone.secret.derive().id(), until: 0 };
        admin.rotate(gone.secrets(), name).unwrap();
        admin.revoke(node).unwrap();
        state.save_members(&stored(&trust, None)).unwrap();
        Members::load(state, root, node).unwrap()
    });
    let home = tempfile::tempdir().unwrap();
    let a = Daemon::start_as(home, "a", office.network.clone(), by_hand(None), Some(members)).await;
    let own = a.membership().await;
    assert_eq!((own.state.as_str(), own.secret.state.as_str()), ("revoked", "late"), "{own:?}");
    let [why] = own.warnings.as_slice() else { panic!("{:?}", own.warnings) };
    assert!(why.contains("with another key"), "{why}");
    office.serving.abort();
}
