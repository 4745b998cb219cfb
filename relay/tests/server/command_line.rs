//! The program as people run it.

use serde_json::Value;
use shadowmesh_proto::ticket::RelayTicket;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn relay(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shadowmesh-relay"));
    command.arg("--state").arg(state).env("SHADOWMESH_LOG", "info").env_remove("NOTIFY_SOCKET");
    command
}

/// A running relay; killed with the test.
struct Running {
    child: Child,
    ticket: String,
}

impl Running {
    fn start(state: &Path, args: &[&str]) -> Self {
        let mut child =
            relay(state).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Some(ticket) = line.trim_end().strip_prefix("relay ticket: ") else {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("first line {line:?}; {said}");
        };
        Self { ticket: ticket.to_owned(), child }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM; what it logged.
    fn stop(mut self) -> String {
        self.signal(rustix::process::Signal::TERM);
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn state() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("state");
    (root, state)
}

fn failure(output: Output, code: i32) -> String {
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// One sentence on standard error, exit code 1.
fn sentence(output: Output) -> String {
    let said = failure(output, 1);
    let said: Vec<_> = said.lines().filter(|line| line.starts_with("shadowmesh-relay: ")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    said[0].to_owned()
}

const LOOPBACK: [&str; 2] = ["--listen", "127.0.0.1:0"];

#[test]
fn the_ticket_names_the_port_and_the_key_and_both_last() {
    let (_root, state) = state();
    let first = Running::start(&state, &LOOPBACK);
    let ticket = RelayTicket::parse(&first.ticket, 0).unwrap();
    assert!(ticket.addresses[0].starts_with("127.0.0.1:"), "{:?}", ticket.addresses);
    let mode = |name: &str| fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("relay.key"), 0o600);
    assert_eq!(mode("admin.sock"), 0o600);
    assert_eq!(mode("."), 0o700);
    let printed = relay(&state).arg("ticket").output().unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap().trim_end(), first.ticket);
    let text = first.ticket.clone();
    let log = first.stop();
    assert!(log.contains("private address") && log.contains("--public"), "{log}");
    assert!(!state.join("admin.sock").exists());

    let listen = ticket.addresses[0].clone();
    let again = Running::start(&state, &["run", "--listen", &listen]);
    assert_eq!(again.ticket, text);
    let printed = relay(&state).arg("ticket").output().unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap().trim_end(), text);
}

#[test]
fn a_public_name_is_kept_until_another_is_given() {
    let (_root, state) = state();
    let hosts = |args: &[&str]| {
        let running = Running::start(&state, &[&LOOPBACK, args].concat());
        let ticket = RelayTicket::parse(&running.ticket, 0).unwrap();
        running.stop();
        ticket.addresses
    };
    assert_eq!(hosts(&["--public", "relay.example.org:443"]), ["relay.example.org:443"]);
    assert_eq!(hosts(&[]), ["relay.example.org:443"]);
    assert!(hosts(&["--public", "auto"])[0].starts_with("127.0.0.1:"));
    assert!(hosts(&[])[0].starts_with("127.0.0.1:"));
}

#[test]
fn status_tells_of_the_running_relay_and_of_none() {
    let (_root, state) = state();
    let said = sentence(relay(&state).arg("status").output().unwrap());
    assert!(said.contains("no relay is running"), "{said}");
    let running = Running::start(&state, &LOOPBACK);
    let output = relay(&state).args(["status", "--json"]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["clients"], 0);
    assert_eq!(status["pairs"]["relayed"], 0);
    assert_eq!(status["drops"]["queue_full"], 0);
    let output = relay(&state).arg("status").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("dropped    nothing"));
    drop(running);
}

#[test]
fn a_relay_that_was_killed_starts_again() {
    let (_root, state) = state();
    let mut running = Running::start(&state, &LOOPBACK);
    let key = RelayTicket::parse(&running.ticket, 0).unwrap().key;
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert!(state.join("admin.sock").exists(), "nobody could remove it");
    let again = Running::start(&state, &LOOPBACK);
    assert_eq!(RelayTicket::parse(&again.ticket, 0).unwrap().key, key);
}

#[test]
fn a_port_or_directory_in_use_is_named() {
    let (root, state) = state();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = sentence(relay(&state).args(["--listen", &address]).output().unwrap());
    assert!(said.contains(&address) && said.contains("in use") && said.contains("--listen"), "{said}");
    let running = Running::start(&state, &LOOPBACK);
    let said = sentence(relay(&state).args(LOOPBACK).output().unwrap());
    assert!(said.contains("another shadowmesh-relay is running"), "{said}");
    // Another directory is another relay.
    let other = Running::start(&root.path().join("other"), &LOOPBACK);
    assert_ne!(other.ticket, running.ticket);
}

#[test]
fn a_bad_state_directory_is_one_sentence() {
    let (root, state) = state();
    fs::write(root.path().join("file"), "").unwrap();
    let said = sentence(relay(&root.path().join("file/state")).args(LOOPBACK).output().unwrap());
    assert!(said.contains("cannot make the state directory") && said.contains("--state"), "{said}");

    Running::start(&state, &LOOPBACK).stop();
    let key = fs::read_to_string(state.join("relay.key")).unwrap();
    fs::write(state.join("relay.key"), key.replace("secret ", "secret A")).unwrap();
    let said = sentence(relay(&state).args(LOOPBACK).output().unwrap());
    assert!(said.contains("relay.key is damaged"), "{said}");
    let said = sentence(relay(&state).arg("ticket").output().unwrap());
    assert!(said.contains("relay.key is damaged"), "{said}");

    fs::write(state.join("state.toml"), "version = 9\n").unwrap();
    let said = sentence(relay(&state).args(LOOPBACK).output().unwrap());
    assert!(said.contains("newer version"), "{said}");
    let said = sentence(relay(&root.path().join("none")).arg("ticket").output().unwrap());
    assert!(said.contains("relay.key"), "{said}");
}

#[test]
fn a_configuration_is_read_reloaded_and_refused() {
    let (root, state) = state();
    let config = root.path().join("relay.toml");
    let path = config.to_str().unwrap();
    fs::write(&config, "listen = [\"127.0.0.1:0\"]\npublic = \"relay.example.org\"\nheartbeat = \"5s\"\n")
        .unwrap();
    let mut running = Running::start(&state, &["--config", path]);
    let ticket = RelayTicket::parse(&running.ticket, 0).unwrap();
    assert!(ticket.addresses[0].starts_with("relay.example.org:"), "{:?}", ticket.addresses);

    let mut log = BufReader::new(running.child.stderr.take().unwrap());
    let mut until = |words: &str| {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended without saying {words:?}");
        }
    };
    until("listening");
    let public = "public = \"relay.example.org\"\n";
    fs::write(
        &config,
        format!("{public}listen = [\"127.0.0.1:1\"]\nheartbeat = \"6s\"\nlimits.connections = 7\n"),
    )
    .unwrap();
    running.signal(rustix::process::Signal::HUP);
    until("listen = 127.0.0.1:1: counts from the next start on, for sockets are opened at the start");
    until("heartbeat = 6s: applied, for connections that begin after it");
    until("limits.connections = 7: applied");
    until("configuration reloaded; the rest takes a restart");
    // What waits does so until then, and what was applied is no news. All that is wrong with another file is said, and nothing of it taken.
    fs::write(&config, "heartbit = \"6s\"\nmtu = 1\n").unwrap();
    running.signal(rustix::process::Signal::HUP);
    until(
        "line 1, column 1: unknown field `heartbit`, did you mean `heartbeat`?; line 2, column 7: `mtu` is a whole number",
    );
    fs::write(
        &config,
        format!("{public}listen = [\"127.0.0.1:1\"]\nheartbeat = \"7s\"\nlimits.connections = 7\n"),
    )
    .unwrap();
    running.signal(rustix::process::Signal::HUP);
    until("listen = 127.0.0.1:1: counts");
    // The next line of all: the limit is as it was.
    until("heartbeat = 7s: applied");
    fs::write(&config, format!("{public}listen = [\"127.0.0.1:0\"]\n")).unwrap();
    // A storm: those that come while one is done are one.
    for _ in 0..100 {
        running.signal(rustix::process::Signal::HUP);
    }
    until("heartbeat = 15s: applied");
    until("limits.connections = 16384: applied");
    until("configuration reloaded");
    drop(running);

    fs::write(&config, "heartbit = \"6s\"\n").unwrap();
    let said = sentence(relay(&state).args(["--config", path]).output().unwrap());
    assert!(said.contains("line 1, column 1: unknown field `heartbit`"), "{said}");
    fs::write(&config, "public = \"not a host\"\n").unwrap();
    let said = sentence(relay(&state).args(["--config", path]).output().unwrap());
    assert!(said.contains("line 1, column 10: `public` is text in quotes: HOST or HOST:PORT"), "{said}");
    let said = sentence(relay(&state).args(["--config", "/nonexistent.toml"]).output().unwrap());
    assert!(said.contains("cannot read the configuration"), "{said}");
}

#[test]
fn a_reload_says_what_a_flag_keeps_from_counting() {
    let (root, state) = state();
    let config = root.path().join("relay.toml");
    fs::write(&config, "heartbeat = \"5s\"\n").unwrap();
    let at = config.to_str().unwrap();
    let mut running =
        Running::start(&state, &[&["--config", at, "--public", "a.example:1"], &LOOPBACK[..]].concat());
    let mut log = BufReader::new(running.child.stderr.take().unwrap());
    let mut until = |words: &str| {
        let mut lines = String::new();
        loop {
            let from = lines.len();
            assert_ne!(log.read_line(&mut lines).unwrap(), 0, "it ended without saying {words:?}: {lines}");
            if lines[from..].contains(words) {
                return lines;
            }
        }
    };
    until("listening");
    fs::write(&config, "listen = [\"127.0.0.1:1\"]\npublic = \"b.example:1\"\nheartbeat = \"6s\"\n").unwrap();
    running.signal(rustix::process::Signal::HUP);
    let said = until("configuration reloaded");
    for kept in
        ["listen = 127.0.0.1:1: does not count, --listen", "public = b.example:1: does not count, --public"]
    {
        assert!(said.contains(kept), "{said}");
    }
    assert!(said.contains("heartbeat = 6s: applied"), "{said}");
    assert!(
        !said.contains("takes a restart") && !said.contains("next start"),
        "nothing waits for one: {said}"
    );
    // What no flag stands before does wait.
    fs::write(&config, "stun_alt = 2\nheartbeat = \"6s\"\n").unwrap();
    running.signal(rustix::process::Signal::HUP);
    let said = until("configuration reloaded");
    assert!(
        said.contains("stun_alt = 2: counts from the next start on") && said.contains("takes a restart"),
        "{said}"
    );
}

/// What is wrong with `value` by `schema`, as far as schemas of ours go; a field that the schema does not name is wrong as well.
fn faults(schema: &Value, whole: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = whole.pointer(reference.trim_start_matches('#')).expect("it is there");
        return faults(schema, whole, value, at);
    }
    if let Some(either) = schema["anyOf"].as_array() {
        let mut each = either.iter().map(|schema| faults(schema, whole, value, at));
        return each.clone().find(Vec::is_empty).or_else(|| each.next()).unwrap_or_default();
    }
    let is_of = match schema["type"].as_str() {
        Some("null") => value.is_null(),
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        other => panic!("{at}: no document has {other:?}"),
    };
    if !is_of {
        return vec![format!("{at}: {value} is no {}", schema["type"])];
    }
    let mut found = Vec::new();
    for required in schema["required"].as_array().into_iter().flatten() {
        if value.get(required.as_str().unwrap()).is_none() {
            found.push(format!("{at} has no {required}"));
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
            Some(schema) => found.extend(faults(schema, whole, field, &format!("{at}/{name}"))),
            None => found.push(format!("{at}/{name} is not in the schema")),
        }
    }
    for item in value.as_array().into_iter().flatten() {
        found.extend(faults(&schema["items"], whole, item, at));
    }
    found
}

#[test]
fn what_is_printed_has_the_shape_of_the_schema() {
    let (_root, state) = state();
    let running = Running::start(&state, &LOOPBACK);
    let printed = |args: &[&str]| -> Value {
        let output = relay(&state).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let schemas = printed(&["schema"]);
    let all = schemas.as_object().unwrap();
    assert!(!all.is_empty());
    for (command, schema) in all {
        let mut document = printed(&[command, "--json"]);
        assert_eq!(faults(schema, schema, &document, ""), Vec::<String>::new(), "{command}");
        assert_eq!(*schema, printed(&["schema", command]));
        // Another shape is noticed.
        document["another"] = Value::Null;
        assert_eq!(faults(schema, schema, &document, "").len(), 1, "{command}");
        document.as_object_mut().unwrap().clear();
        assert!(!faults(schema, schema, &document, "").is_empty(), "{command}");
    }
    drop(running);
    let said = sentence(relay(&state).args(["schema", "statsu"]).output().unwrap());
    assert!(said.contains("did you mean `status`?"), "{said}");
    let said = sentence(relay(&state).args(["schema", "config"]).output().unwrap());
    assert!(said.contains("no command prints a document"), "{said}");
}

#[test]
fn the_settings_are_printed_with_every_key_and_can_be_used() {
    let (root, state) = state();
    let printed = relay(&state).arg("config").output().unwrap();
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(
        printed.status.success() && text.contains("\n[limits]\n") && text.contains("\n# mtu = 1500\n"),
        "{text}"
    );
    assert!(!state.exists(), "nothing is made for it");
    let config = root.path().join("relay.toml");
    fs::write(&config, text).unwrap();
    drop(Running::start(&state, &[["--config", config.to_str().unwrap()], LOOPBACK].concat()));
}

#[test]
fn a_service_manager_hears_of_it_and_its_watchdog_is_fed() {
    let (root, state) = state();
    let config = root.path().join("relay.toml");
    fs::write(&config, "").unwrap();
    let path = root.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    // For failures only.
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let heard = || {
        let mut words = [0; 256];
        socket.recv(&mut words).map(|length| String::from_utf8_lossy(&words[..length]).into_owned())
    };
    let past_the_watchdog = || loop {
        let words = heard().unwrap();
        if words != "WATCHDOG=1\n" {
            return words;
        }
    };
    let watchdog = Duration::from_millis(600);
    let mut command = relay(&state);
    command.args(LOOPBACK).arg("--config").arg(&config).env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", watchdog.as_micros().to_string()).env_remove("WATCHDOG_PID");
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let running = Running { child, ticket: String::new() };
    assert_eq!(heard().unwrap(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(heard().unwrap(), "WATCHDOG=1\n");
    }
    running.signal(rustix::process::Signal::HUP);
    let words = past_the_watchdog();
    assert!(words.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{words}");
    assert_eq!(past_the_watchdog(), "READY=1\n");
    // A process that does not run says nothing, for longer than its manager waits.
    running.signal(rustix::process::Signal::STOP);
    socket.set_read_timeout(Some(watchdog * 2)).unwrap();
    while heard().is_ok() {}
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    running.signal(rustix::process::Signal::CONT);
    assert_eq!(heard().unwrap(), "WATCHDOG=1\n");
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(past_the_watchdog(), "STOPPING=1\n");
    running.stop();

    // One that is meant for another process is none of ours.
    let mut command = relay(&state);
    command.args(LOOPBACK).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let running = Running { child, ticket: String::new() };
    // The one before was told to stop twice, and may have said so twice.
    let first = std::iter::repeat_with(|| heard().unwrap()).find(|word| word != "STOPPING=1\n");
    assert_eq!(first.as_deref(), Some("READY=1\n"));
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(heard().unwrap(), "STOPPING=1\n");
    running.stop();
}

#[test]
fn usage_errors_are_two() {
    let (_root, state) = state();
    for args in [&["--lisen", "x"][..], &["--public", "a b"], &["--listen", "8443"], &["frobnicate"]] {
        failure(relay(&state).args(args).output().unwrap(), 2);
    }
    assert!(!state.exists());
}

#[test]
fn completions_are_printed() {
    let (_root, state) = state();
    for shell in ["bash", "zsh", "fish"] {
        let output = relay(&state).args(["completions", shell]).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("stun-alt"));
    }
}

/// A certificate and its key in files of `root`.
fn pair(root: &Path) -> [String; 2] {
    let key = rcgen::KeyPair::generate().unwrap();
    let made =
        rcgen::CertificateParams::new(vec!["relay.example".into()]).unwrap().self_signed(&key).unwrap();
    let pem = |kind: &str, der: &[u8]| {
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", data_encoding::BASE64.encode(der))
    };
    [("cert.pem", pem("CERTIFICATE", made.der())), ("key.pem", pem("PRIVATE KEY", &key.serialize_der()))].map(
        |(name, text)| {
            let path = root.join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        },
    )
}

#[test]
fn with_a_certificate_the_ticket_names_tls_and_half_a_pair_is_refused() {
    let (root, state) = state();
    let [cert, key] = pair(root.path());
    let running =
        Running::start(&state, &[&LOOPBACK[..], &["--tls-cert", &cert, "--tls-key", &key]].concat());
    let ticket = RelayTicket::parse(&running.ticket, 0).unwrap();
    assert!(ticket.addresses[0].starts_with("wss://127.0.0.1:"), "{:?}", ticket.addresses);
    let status = String::from_utf8(relay(&state).arg("status").output().unwrap().stdout).unwrap();
    assert!(
        status.contains("tls        0 handshakes") && status.contains("good until 4096-01-01"),
        "{status}"
    );
    drop(running);
    let refused = |args: &[&str]| sentence(relay(&state).args(LOOPBACK).args(args).output().unwrap());
    assert!(refused(&["--tls-cert", &cert]).contains("--tls-key"));
    assert!(refused(&["--tls-key", &key]).contains("--tls-cert"));
    let said = refused(&["--tls-cert", "/none/cert.pem", "--tls-key", "/none/key.pem"]);
    assert!(said.contains("/none/cert.pem") && said.contains("--tls-cert"), "{said}");
    for alone in ["--acme-email=a@b.example", "--acme-directory=https://ca.example/", "--acme-ca=/ca.pem"] {
        let said = refused(&[alone]);
        assert!(said.contains("--acme-domain") && said.contains(alone.split('=').next().unwrap()), "{said}");
    }
    for plain in ["http://ca.example/directory", "ca.example", "https://", "https:///directory"] {
        let acme = ["--acme-domain", "relay.example", "--acme-directory", plain];
        let said = failure(relay(&state).args(acme).output().unwrap(), 2);
        assert!(said.contains("no https URL"), "{said}");
    }
    let both = ["--acme-domain", "relay.example", "--tls-cert", &cert, "--tls-key", &key];
    assert!(failure(relay(&state).args(both).output().unwrap(), 2).contains("cannot be used with"));
    let said = failure(relay(&state).args(["--acme-domain", "localhost"]).output().unwrap(), 2);
    assert!(said.contains("no domain such as"), "{said}");
    let config = root.path().join("relay.toml");
    fs::write(
        &config,
        format!("acme_domains = [\"a.example\"]\ntls_cert = \"{cert}\"\ntls_key = \"{key}\"\n"),
    )
    .unwrap();
    assert!(refused(&["--config", config.to_str().unwrap()]).contains("both tls_cert and acme_domains"));
}

#[test]
fn files_that_are_of_no_use_yet_are_said_and_keep_nobody_from_connecting() {
    let (root, state) = state();
    let [cert, key] = pair(root.path());
    let certificate = fs::read(&cert).unwrap();
    fs::remove_file(&cert).unwrap();
    let args = [&LOOPBACK[..], &["--tls-cert", &cert, "--tls-key", &key]].concat();
    let mut running = Running::start(&state, &args);
    let ticket = RelayTicket::parse(&running.ticket, 0).unwrap();
    assert!(ticket.addresses[0].starts_with("wss://127.0.0.1:"), "{:?}", ticket.addresses);
    let mut log = BufReader::new(running.child.stderr.as_mut().unwrap()).lines();
    let mut said = |words: &str| log.find(|line| line.as_ref().is_ok_and(|line| line.contains(words)));
    let why = said("makes for itself is presented").expect("it is said").unwrap();
    assert!(why.contains(&cert) && why.contains("WARN"), "{why}");
    fs::write(&cert, certificate).unwrap();
    let mended = said("the TLS certificate was read again").expect("it is said").unwrap();
    assert!(mended.contains("4096-01-01"), "{mended}");
}

#[test]
fn without_a_way_to_the_authority_the_relay_serves_all_the_same_and_says_so() {
    let (_root, state) = state();
    // Nobody is there.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let directory = format!("https://{gone}/directory");
    let acme = ["--acme-domain", "relay.example", "--acme-directory", &directory];
    let mut running = Running::start(&state, &[&LOOPBACK[..], &acme].concat());
    let ticket = RelayTicket::parse(&running.ticket, 0).unwrap();
    assert!(ticket.addresses[0].starts_with("wss://relay.example:"), "{:?}", ticket.addresses);
    // Nobody gave that name as the public one, so it is not kept as if somebody had.
    let remembered = fs::read_to_string(state.join("ticket.toml")).unwrap();
    assert!(remembered.contains("wss://relay.example:") && !remembered.contains("public"), "{remembered}");
    let mut log = BufReader::new(running.child.stderr.as_mut().unwrap()).lines();
    let said = log.find(|line| line.as_ref().is_ok_and(|line| line.contains("no certificate for")));
    let said = said.expect("it is said").unwrap();
    assert!(said.contains("cannot be reached") && said.contains("the next try is in 1"), "{said}");
    let status = String::from_utf8(relay(&state).arg("status").output().unwrap().stdout).unwrap();
    assert!(status.contains("no certificate yet but one that the relay made for itself"), "{status}");
}
