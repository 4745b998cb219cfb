//! Certificates in their second half are replaced: a member's by an admin's host that it meets or stays with, the admin's own too.

use super::*;
use crate::daemon::report::EXPIRED;
use shadowmesh_proto::membership::Seconds;

/// How long an admin makes a certificate good, and how long before its end it is due.
const LIFE: Seconds = 365 * 86_400;
const HALF: Seconds = LIFE / 2;
/// Later than the end of any test.
const NEVER: Duration = Duration::from_secs(3_600);

impl Office {
    /// A host whose certificate an admin made at `made_at`, and which looks at certificates for the first time after `look`.
    async fn certified_at(
        &self,
        name: &'static str,
        made_at: Seconds,
        is_admin: bool,
        look: Duration,
    ) -> Daemon {
        let (seed, root) = (self.root.seed(), self.root.fingerprint());
        let members: MembersOf = Box::new(move |state, node| {
            let authority = Authority::from_seed(seed);
            let mut trust = Trust::new(root, node);
            trust.keep_key(authority.public().clone());
            let mut admin = Admin::new(&mut trust, &authority, made_at);
            if is_admin {
                admin.found().unwrap();
                state.save_authority(&authority).unwrap();
            }
            admin.certify_here(Name::new(name).unwrap()).unwrap();
            state.save_members(&stored(&trust, None)).unwrap();
            Members::load(state, root, node).unwrap()
        });
        let home = tempfile::tempdir().unwrap();
        let (mut made, wire, progress) =
            made(&home, name, self.network.clone(), FileConfig::default(), Some(members)).await;
        made.members.look_in(look);
        let (mac, socket) = (addresses::mac(&made.endpoint.id()), home.path().join("control"));
        Daemon { mac, wire, socket, progress, task: spawn_local(made.run()), home }
    }
}

impl Daemon {
    async fn ends_at(&self) -> Seconds {
        self.membership().await.until.unwrap()
    }

    /// Waits until its certificate is good for a year from now.
    async fn is_renewed(&self, before: Seconds) {
        let is_so = || async {
            let until = self.ends_at().await;
            until > before && until + 60 > unix_now() + LIFE
        };
        self.until("another certificate", is_so).await;
    }
}

#[test]
fn who_meets_an_admin_in_its_second_half_has_another_certificate() {
    crate::net::namespace::isolated(|| in_network("", meeting()));
}

async fn meeting() {
    let office = Office::new().await;
    let now = unix_now();
    // Nobody looks: it is the meeting that does it.
    let b = office.certified_at("b", now - HALF - 86_400, false, NEVER).await;
    let c = office.certified_at("c", now - HALF + 86_400, false, NEVER).await;
    b.meets("c").await;
    let (of_b, of_c) = (b.ends_at().await, c.ends_at().await);
    assert_eq!((of_b, of_c), (now + HALF - 86_400, now + HALF + 86_400), "members renew nothing");
    let _a = office.certified_at("a", now, true, NEVER).await;
    for daemon in [&b, &c] {
        daemon.meets("a").await;
    }
    b.is_renewed(of_b).await;
    assert_eq!(c.ends_at().await, of_c, "it is in its first half");
    let written = || {
        let dir = StateDir::open(b.home.path().join("state")).unwrap();
        let node = dir.load_or_create_node_key(&mut SystemRng).unwrap().public();
        let members = Members::load(&dir, office.root.fingerprint(), node).unwrap();
        members.trust.own().unwrap().certificate.body().not_after
    };
    b.until("it to be written", || async { written() > of_b }).await;
    office.serving.abort();
}

#[test]
fn whose_certificate_has_expired_is_told_one_story() {
    crate::net::namespace::isolated(|| in_network("", expired()));
}

async fn expired() {
    let office = Office::new().await;
    let b = office.certified_at("b", unix_now() - LIFE - 86_400, false, NEVER).await;
    let own = b.membership().await;
    assert_eq!((own.state.as_str(), own.warnings.as_slice()), ("expired", &[EXPIRED.to_owned()][..]));
    let of_itself = b.members().await.into_iter().find(|member| member.is_here).unwrap();
    assert_eq!((of_itself.standing.as_str(), of_itself.state.as_str()), ("refused", "expired"));
    assert_eq!(of_itself.why.as_deref(), Some(EXPIRED));
    office.serving.abort();
}

#[test]
fn who_stays_with_an_admin_beyond_its_first_half_has_another_certificate() {
    crate::net::namespace::isolated(|| in_network("", staying()));
}

async fn staying() {
    let office = Office::new().await;
    // Due after they met, and before the admin's host looks.
    let (due, look) = (4, Duration::from_secs(6));
    let made_at = unix_now() - HALF + due;
    let b = office.certified_at("b", made_at, false, NEVER).await;
    let a = office.certified_at("a", made_at, true, look).await;
    b.meets("a").await;
    let (of_a, of_b) = (a.ends_at().await, b.ends_at().await);
    b.is_renewed(of_b).await;
    a.is_renewed(of_a).await;
    office.serving.abort();
}
