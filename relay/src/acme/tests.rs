use super::*;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

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
    let minutes = |failures| pause(failures, 0).as_secs() / 60;
    assert_eq!([1, 2, 3, 6, 7, 100, u32::MAX].map(minutes), [10, 20, 40, 320, 360, 360, 360]);
    assert!(pause(1, u64::MAX) <= PAUSE.mul_f64(1.1));
    assert!(pause(1, u64::MAX) > PAUSE);
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
