mod authority;

use super::*;
use crate::config::Settings;
use crate::server::{Server, Sockets, Stop, StunAlt};
use authority::{Authority, Whims};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::ServerName;
use shadowmesh_proto::crypto::keys::NodeSecret;
use shadowmesh_proto::version::SPOKEN;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;

fn config() -> Config {
    Config {
        directory: "https://ca.example/directory".into(),
        domains: vec!["relay.example".into()],
        email: None,
        roots: None,
    }
}

/// As an authority would issue it.
fn issued(from: (i32, u8, u8), until: (i32, u8, u8)) -> order::Issued {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["relay.example".into()]).unwrap();
    params.not_before = date_time_ymd(from.0, from.1, from.2);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    let chain = order::pem("CERTIFICATE", params.self_signed(&key).unwrap().der());
    order::Issued { chain: chain.to_string(), key: order::pem("PRIVATE KEY", &key.serialize_der()) }
}

fn state() -> (tempfile::TempDir, StateDir) {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::create(&root.path().join("state")).unwrap();
    (root, state)
}

#[test]
fn it_is_renewed_when_two_thirds_of_its_time_are_over() {
    let issued = issued((2030, 1, 1), (2030, 4, 1));
    let certificate = Certificate::from_pem(issued.chain.as_bytes(), issued.key.as_bytes()).unwrap();
    let left = certificate.not_after().duration_since(renew_at(&certificate)).unwrap();
    assert_eq!(left, Duration::from_secs(30 * 86_400));
}

#[test]
fn tries_that_fail_become_rarer_and_do_not_end() {
    let minutes = |failures| pause(failures, None, 0).as_secs() / 60;
    assert_eq!([1, 2, 3, 6, 7, 100, u32::MAX].map(minutes), [10, 20, 40, 320, 360, 360, 360]);
    assert!(pause(1, None, u64::MAX) <= PAUSE.mul_f64(1.1));
    assert!(pause(1, None, u64::MAX) > PAUSE);
    // The authority may want more, and not less.
    assert_eq!([60, 7_200].map(|wait| pause(1, Some(Duration::from_secs(wait)), 0).as_secs()), [600, 7_200]);
}

#[test]
fn what_was_issued_is_presented_after_a_restart_and_something_before_that_too() {
    let (_root, state) = state();
    let again = |state: &StateDir| Keeper::new(config(), StateDir::open(state.path())).unwrap();
    let first = again(&state);
    assert!(first.due.is_none() && first.front().presented().is_self_made(), "it orders at once");
    let mut kept = Kept::default().for_config(&config());
    kept.take(&config(), issued((2030, 1, 1), (2090, 1, 1)));
    kept.write(&state).unwrap();
    let second = again(&state);
    assert!(second.due.is_some() && !second.front().presented().is_self_made());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(state.path().join("acme.toml")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o7777, 0o600);
    // For other names, or by another authority, another is ordered.
    for other in [
        Config { domains: vec!["other.example".into()], ..config() },
        Config { directory: "https://other.example/directory".into(), ..config() },
    ] {
        let keeper = Keeper::new(other, StateDir::open(state.path())).unwrap();
        assert!(keeper.due.is_none() && keeper.front().presented().is_self_made());
    }
    // Damage to the certificate costs an order, damage to the file is said.
    let path = state.path().join("acme.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("BEGIN CERTIFICATE", "BEGIN NOTHING")).unwrap();
    assert!(again(&state).due.is_none());
    std::fs::write(&path, "nonsense").unwrap();
    let said = Keeper::new(config(), StateDir::open(state.path())).unwrap_err().to_string();
    assert!(said.contains("acme.toml") && said.contains("remove it"), "{said}");
}

#[test]
fn names_that_no_authority_certifies_are_known() {
    for good in ["relay.example", "a.b.c-d.example", "xn--bcher-kva.example"] {
        assert!(is_domain(good), "{good}");
    }
    for bad in [
        "",
        "localhost",
        "*.example.org",
        "192.0.2.1",
        "2001:db8::1",
        "-a.example",
        "a..example",
        "a_b.example",
        "a.example.",
    ] {
        assert!(!is_domain(bad), "{bad}");
    }
}

#[test]
fn roots_that_are_none_are_said_at_the_start() {
    let (root, state) = state();
    let path = root.path().join("roots.pem");
    std::fs::write(&path, "nothing").unwrap();
    let with = Config { roots: Some(path), ..config() };
    let said = Keeper::new(with, state).unwrap_err().to_string();
    assert!(said.contains("--acme-ca") && said.contains("no certificate"), "{said}");
}

/// A relay on loopback that presents and answers what `keeper` says.
fn relay(keeper: &Keeper) -> (SocketAddr, Stop) {
    let sockets = Sockets { listen: vec!["127.0.0.1:0".parse().unwrap()], stun_alt: StunAlt::Next };
    let secret = NodeSecret::generate(&mut SystemRng);
    let server =
        Server::bind(&sockets, &Settings::default(), secret, SPOKEN).unwrap().with_tls(keeper.front());
    let (address, stop) = (SocketAddr::from(([127, 0, 0, 1], server.ports()[0])), Stop::new());
    tokio::spawn(server.run(stop.clone()));
    (address, stop)
}

fn keeper(authority: &Authority, state: &StateDir) -> Keeper {
    let config = Config {
        directory: authority.directory.clone(),
        email: Some("admin@relay.example".into()),
        roots: Some(authority.roots.clone()),
        ..config()
    };
    Keeper::new(config, StateDir::open(state.path())).unwrap()
}

/// Whether who trusts that authority alone takes what the relay presents for `name`.
async fn is_trusted(relay: SocketAddr, authority: &Authority, name: &str) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.root.clone()).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let tcp = TcpStream::connect(relay).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.is_ok()
}

#[tokio::test]
async fn a_certificate_is_ordered_proven_presented_and_kept() {
    let ((_root, state), authority) = (state(), Authority::start().await);
    let mut first = keeper(&authority, &state);
    let (address, _stop) = relay(&first);
    authority.leads_to(address);
    // An authority may do that at any time.
    authority.has(Whims { bad_nonces: 1, ..Whims::default() });
    assert!(!is_trusted(address, &authority, "relay.example").await);
    first.renew().await.unwrap();
    assert!(is_trusted(address, &authority, "relay.example").await);
    assert!(!is_trusted(address, &authority, "other.example").await);
    assert!(first.due.is_some() && first.put_off.is_none());
    first.renew().await.unwrap();
    assert_eq!(authority.counts(), (1, 2, 0), "one account, and an order each");
    // It is there after a restart, with the account, and the authority is not asked.
    authority.close();
    let second = keeper(&authority, &state);
    let (address, _stop) = relay(&second);
    assert!(is_trusted(address, &authority, "relay.example").await && second.due.is_some());
}

#[tokio::test]
async fn an_authority_that_puts_an_order_off_is_heard_and_a_reload_tries_nevertheless() {
    let ((_root, state), authority) = (state(), Authority::start().await);
    let keeper = keeper(&authority, &state);
    let (address, _stop) = relay(&keeper);
    authority.leads_to(address);
    authority.has(Whims { rate_limited: Some(7_200), ..Whims::default() });
    let (front, hurry) = (keeper.front(), Arc::new(Notify::new()));
    let told = Arc::clone(&hurry);
    let running = tokio::spawn(async move { keeper.run(&told).await });
    while authority.counts().2 == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(front.presented().is_self_made(), "what was there is presented on");
    hurry.notify_one();
    while front.presented().is_self_made() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(authority.counts(), (1, 1, 1));
    assert!(is_trusted(address, &authority, "relay.example").await);
    running.abort();
}

#[tokio::test]
async fn what_goes_wrong_is_said_and_changes_nothing() {
    let ((_root, state), authority) = (state(), Authority::start().await);
    let mut keeper = keeper(&authority, &state);
    let (address, _stop) = relay(&keeper);
    // Another relay, which knows nothing of this challenge.
    let (_other_root, other_state) = self::state();
    let elsewhere = Keeper::new(config(), other_state).unwrap();
    let (other, _other_stop) = relay(&elsewhere);
    for (leads_to, whims, expected) in [
        (Some(other), Whims::default(), "could not see that relay.example is this relay"),
        (Some(address), Whims { rate_limited: Some(60), ..Whims::default() }, "rateLimited"),
        (Some(address), Whims { rate_limited: Some(u64::MAX), ..Whims::default() }, "rateLimited"),
        (Some(address), Whims { bad_nonces: 9, ..Whims::default() }, "badNonce"),
        (
            Some(address),
            Whims { only_http: true, ..Whims::default() },
            "does not offer tls-alpn-01 for relay.example",
        ),
        (
            Some(address),
            Whims { another_key: true, ..Whims::default() },
            "does not belong to the certificate",
        ),
    ] {
        let wait = whims.rate_limited.map(|wait| Duration::from_secs(wait.min(86_400)));
        leads_to.into_iter().for_each(|relay| authority.leads_to(relay));
        authority.has(whims);
        let said = keeper.renew().await.unwrap_err().to_string();
        assert!(said.contains(expected) && !said.contains('\n'), "{said}");
        assert_eq!(keeper.put_off, wait, "{said}");
        assert!(keeper.due.is_none() && keeper.front().presented().is_self_made(), "{said}");
    }
    // What it was told before does not keep it from success.
    authority.has(Whims::default());
    keeper.renew().await.unwrap();
    assert!(is_trusted(address, &authority, "relay.example").await);
    // Whoever is not the authority that is trusted is not asked.
    let stranger = Authority::start().await;
    let roots = Some(authority.roots.clone());
    let with = Config { directory: stranger.directory.clone(), roots, ..config() };
    let mut keeper = Keeper::new(with, StateDir::open(state.path())).unwrap();
    let said = keeper.renew().await.unwrap_err().to_string();
    assert!(said.contains("cannot be reached") && stranger.counts() == (0, 0, 0), "{said}");
}
