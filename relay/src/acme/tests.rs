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
    // Whatever is behind it in the chain.
    let above = self::issued((2020, 1, 1), (2021, 1, 1)).chain;
    let chain = format!("{}{above}", issued.chain);
    let chained = Certificate::from_pem(chain.as_bytes(), issued.key.as_bytes()).unwrap();
    assert!(chained.not_after() < certificate.not_after());
    assert_eq!(renew_at(&chained), renew_at(&certificate));
}

#[test]
fn one_that_is_due_at_once_is_followed_by_a_pause() {
    let pause = |from, until| {
        let issued = issued(from, until);
        pause_after(&Certificate::from_pem(issued.chain.as_bytes(), issued.key.as_bytes()).unwrap())
    };
    assert_eq!(pause((2030, 1, 1), (2030, 4, 1)), PAUSE_ISSUED_MAX);
    assert_eq!(pause((2030, 1, 1), (2030, 1, 2)), Duration::from_secs(8 * 3_600));
    assert_eq!(pause((2030, 1, 2), (2030, 1, 1)), PAUSE);
}

#[test]
fn a_clock_that_is_set_delays_no_try_beyond_its_pause() {
    let day = |day: u32| SystemTime::UNIX_EPOCH + Duration::from_secs(86_400) * day;
    let (now, pause) = (Instant::now(), Duration::from_secs(600));
    // A try failed, by a clock of 2036, which is then set to 2026.
    let schedule = Schedule { due: None, not_before: now + pause };
    for calendar in [day(24_107), day(20_454), day(0)] {
        assert_eq!(schedule.wait(calendar, now), pause);
        assert_eq!(schedule.wait(calendar, now + pause), Duration::ZERO);
    }
    // What is due by the calendar is so when that says so.
    let schedule = Schedule { due: Some(day(20_500)), ..schedule };
    assert_eq!(schedule.wait(day(20_499), now + pause), Duration::from_secs(86_400));
    assert_eq!(schedule.wait(day(24_107), now), pause);
    assert_eq!(schedule.wait(day(24_107), now + pause), Duration::ZERO);
}

#[test]
fn a_pause_outlasts_a_restart_and_ends_in_any_case() {
    let (_root, state) = state();
    let left = |config: Config| {
        let keeper = Keeper::new(config, StateDir::open(state.path())).unwrap();
        keeper.schedule.wait(SystemTime::now(), Instant::now())
    };
    assert_eq!(left(config()), Duration::ZERO);
    Keeper::new(config(), StateDir::open(state.path())).unwrap().put_off_by(Duration::from_secs(3_600));
    let kept = left(config());
    assert!(kept > Duration::from_secs(3_500) && kept <= Duration::from_secs(3_600), "{kept:?}");
    // Who wants something else is not held up by it.
    assert_eq!(left(Config { domains: vec!["other.example".into()], ..config() }), Duration::ZERO);
    assert_eq!(left(Config { directory: "https://other.example/".into(), ..config() }), Duration::ZERO);
    // A clock that was ten years ahead.
    Keeper::new(config(), StateDir::open(state.path())).unwrap().put_off_by(Duration::from_secs(315_360_000));
    let kept = left(config());
    assert!(kept > http::PUT_OFF_MAX / 2 && kept <= http::PUT_OFF_MAX, "{kept:?}");
}

#[test]
fn what_an_authority_says_is_a_line_of_a_bounded_length() {
    assert_eq!(plain("a\nb\u{1b}[2Jc\u{202e}d"), "a b [2Jc d");
    let long = plain(&"x".repeat(1 << 20));
    assert_eq!(long.len(), SAID + 3);
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
    assert!(first.schedule.due.is_none() && first.front().presented().is_self_made(), "it orders at once");
    let mut kept = Kept::default().for_config(&config());
    kept.take(&config(), issued((2030, 1, 1), (2090, 1, 1)));
    kept.write(&state).unwrap();
    let second = again(&state);
    assert!(second.schedule.due.is_some() && !second.front().presented().is_self_made());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(state.path().join("acme.toml")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o7777, 0o600);
    // For other names, or by another authority, another is ordered; until it is there, this one is presented, also after one more restart.
    for other in [
        Config { domains: vec!["other.example".into()], ..config() },
        Config { directory: "https://other.example/directory".into(), ..config() },
    ] {
        for _ in 0..2 {
            let keeper = Keeper::new(other.clone(), StateDir::open(state.path())).unwrap();
            assert!(keeper.schedule.due.is_none() && !keeper.front().presented().is_self_made());
            keeper.kept.write(&state).unwrap();
        }
        kept.write(&state).unwrap();
    }
    // Damage to the certificate costs an order, as damage to the file does.
    let path = state.path().join("acme.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("BEGIN CERTIFICATE", "BEGIN NOTHING")).unwrap();
    assert!(again(&state).schedule.due.is_none());
    for damaged in [&b"nonsense"[..], &[0xff; 64], &[b'#'; (1 << 20) + 1]] {
        std::fs::write(&path, damaged).unwrap();
        let keeper = again(&state);
        assert!(keeper.schedule.due.is_none() && keeper.front().presented().is_self_made());
    }
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
    // An authority may do that at any time, and want to be asked again later than there is time.
    authority.has(Whims { bad_nonces: 1, retry_after: Some(u64::MAX), ..Whims::default() });
    assert!(!is_trusted(address, &authority, "relay.example").await);
    first.renew().await.unwrap();
    assert!(is_trusted(address, &authority, "relay.example").await);
    assert!(!is_trusted(address, &authority, "other.example").await);
    assert!(first.schedule.due.is_some() && first.put_off.is_none());
    first.renew().await.unwrap();
    assert_eq!(authority.counts(), (1, 2, 0), "one account, and an order each");
    // It is there after a restart, with the account, and the authority is not asked.
    authority.close();
    let second = keeper(&authority, &state);
    let (address, _stop) = relay(&second);
    assert!(is_trusted(address, &authority, "relay.example").await && second.schedule.due.is_some());
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
async fn what_is_due_at_once_is_ordered_once() {
    let ((_root, state), authority) = (state(), Authority::start().await);
    let keeper = keeper(&authority, &state);
    let (address, _stop) = relay(&keeper);
    authority.leads_to(address);
    authority.has(Whims { backdated: true, ..Whims::default() });
    let (front, hurry) = (keeper.front(), Arc::new(Notify::new()));
    let told = Arc::clone(&hurry);
    let running = tokio::spawn(async move { keeper.run(&told).await });
    while front.presented().is_self_made() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(
        front.presented().good_for(SystemTime::now()).is_none(),
        "it is better than one that nobody signed"
    );
    // Time for several more.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(authority.counts().1, 1);
    // Nor does such a one take the place of one that is good.
    authority.has(Whims::default());
    hurry.notify_one();
    while front.presented().good_for(SystemTime::now()).is_none() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    running.abort();
    let mut keeper = self::keeper(&authority, &state);
    let good = keeper.front().presented();
    let (address, _stop) = relay(&keeper);
    authority.leads_to(address);
    authority.has(Whims { backdated: true, ..Whims::default() });
    let said = keeper.renew().await.unwrap_err().to_string();
    assert!(
        said.contains("the one before is presented on") && keeper.put_off == Some(PAUSE_ISSUED_MAX),
        "{said}"
    );
    assert!(Arc::ptr_eq(&keeper.front().presented(), &good));
}

#[tokio::test]
async fn an_account_that_is_known_no_more_is_made_anew() {
    let ((_root, state), authority) = (state(), Authority::start().await);
    let mut keeper = keeper(&authority, &state);
    let (address, _stop) = relay(&keeper);
    authority.leads_to(address);
    keeper.renew().await.unwrap();
    authority.forget_accounts();
    keeper.renew().await.unwrap();
    assert_eq!(authority.counts(), (1, 2, 0));
    // That one is kept.
    let mut keeper = self::keeper(&authority, &state);
    let (address, _stop) = relay(&keeper);
    authority.leads_to(address);
    keeper.renew().await.unwrap();
    assert_eq!(authority.counts(), (1, 3, 0));
}

#[tokio::test]
async fn what_an_authority_writes_around_the_certificates_is_not_kept() {
    let ((_root, state), authority) = (state(), Authority::start().await);
    let mut first = keeper(&authority, &state);
    let (address, _stop) = relay(&first);
    authority.leads_to(address);
    authority.has(Whims { verbose: true, ..Whims::default() });
    first.renew().await.unwrap();
    let text = std::fs::read_to_string(state.path().join("acme.toml")).unwrap();
    assert!(text.len() < 16 * 1024 && text.matches("BEGIN CERTIFICATE").count() == 2, "{} bytes", text.len());
    assert!(!keeper(&authority, &state).front().presented().is_self_made());
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
        (Some(address), Whims { unasked: 10_000, ..Whims::default() }, "more names than it was asked for"),
        (Some(address), Whims { another_name: true, ..Whims::default() }, "proof of other.example"),
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
        assert!(keeper.schedule.due.is_none() && keeper.front().presented().is_self_made(), "{said}");
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
