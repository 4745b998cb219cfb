//! Settings that are read again: what each key does, over the control socket and by SIGHUP; and files with a fault.

use super::*;
use crate::config::Key;
use crate::config::keys::Counts;
use crate::control::message::Setting;
use crate::daemon::config_file::ConfigFile;
use rustix::process::{Signal as Sig, getpid, kill_process};
use shadowmesh_proto::endpoint::event::Event;

/// Another value of a key than the default, as the file has it.
fn other(key: Key, home: &std::path::Path) -> String {
    match key {
        Key::Relays => {
            let key = RelayId(NodeSecret::generate(&mut SeededRng::new(77)).public().0);
            let ticket = RelayTicket { key, addresses: vec!["127.0.0.1:9".into()], expires: None };
            format!("[\"{}\"]", ticket.to_text())
        }
        Key::Proxy => "\"http://u:p@127.0.0.1:9\"".into(),
        Key::Name => "\"attic\"".into(),
        Key::Device => "\"other0\"".into(),
        Key::Mtu => "1300".into(),
        Key::Queues => "3".into(),
        Key::Bridge => "\"br7\"".into(),
        Key::Address => "\"10.9.8.7/16\"".into(),
        Key::Cipher => "\"chacha\"".into(),
        // It is off in these tests.
        Key::PortMapping => "true".into(),
        Key::Filter => "\"dhcp\"".into(),
        Key::AllowDhcp => "\"any\"".into(),
        Key::FloodBudget => "\"2mbit\"".into(),
        Key::Rules => format!("\"{}\"", home.join("rules").display()),
        Key::Names => "\"hosts\"".into(),
        Key::Sessions => "\"on-demand\"".into(),
        Key::IdleAfter => "\"7s\"".into(),
        Key::RekeyInterval => "\"9s\"".into(),
    }
}

/// Whether it does what [`other`] says. What only the endpoint knows is tried there, and what sessions and names do in their own tests.
fn does(key: Key, made: &EventLoop) -> bool {
    let directory = made.routes.snapshot().directory;
    match key {
        Key::Relays => made.relays.iter().any(|task| task.address == "127.0.0.1:9" && task.handle.is_some()),
        Key::Proxy => made.settings.proxy.is_some(),
        Key::Name => made.endpoint.hello().name == "attic" && made.settings.name.as_str() == "attic",
        Key::PortMapping => made.mapper.is_some(),
        Key::Filter => directory.protection().filters.to_string() == "dhcp",
        Key::AllowDhcp => directory.member(PeerSlot(0)).unwrap().rights.may_serve_dhcp,
        Key::FloodBudget => directory.protection().flood_budget.to_string() == "2mbit",
        Key::Rules => made.rules.as_ref().is_some_and(|rules| rules.count == 1 && rules.error.is_none()),
        Key::Cipher => made.settings.cipher == CipherChoice::Chacha,
        Key::Names => made.settings.names.as_str() == "hosts",
        Key::Sessions => made.settings.sessions.as_str() == "on-demand",
        Key::IdleAfter => made.settings.idle_after.to_string() == "7s",
        Key::RekeyInterval => made.settings.rekey_interval.to_string() == "9s",
        Key::Device => made.settings.device.as_str() == "other0",
        Key::Mtu => made.settings.mtu.bytes() == 1300,
        Key::Queues => made.settings.queues.count() == 3,
        Key::Bridge => made.settings.bridge.name().is_some(),
        Key::Address => made.settings.address.is_some(),
    }
}

/// The keys of the settings in an answer that were applied, and those that wait.
fn keys(response: &Response) -> (Vec<&'static str>, Vec<&'static str>) {
    let Response::Reloaded { applied, waits, restart, .. } = response else { panic!("{response:?}") };
    assert_eq!(restart.as_deref(), (!waits.is_empty()).then_some(RESTART));
    let names = |list: &[Setting]| -> Vec<&'static str> {
        list.iter().map(|setting| Key::named(&setting.key).unwrap().about().name).collect()
    };
    (names(applied), names(waits))
}

/// A loop that does not run, with a member that is known and a file of people's that it reads.
async fn alone(home: &tempfile::TempDir) -> (EventLoop, MemoryPort, mpsc::UnboundedReceiver<Progress>) {
    let network = NetworkState::create("test", vec![], &mut SystemRng);
    let config = FileConfig { port_mapping: Some(false), ..FileConfig::default() };
    StateDir::open(home.path().join("state")).unwrap().save_config(&config).unwrap();
    std::fs::write(home.path().join("hosts"), "").unwrap();
    std::fs::write(home.path().join("rules"), "allow any -> any icmp\n").unwrap();
    let (mut made, wire, progress) = made(home, "a", network, config, None).await;
    made.config_file = Some(ConfigFile::new(home.path().join("people.toml")));
    let added = Event::PeerAdded { slot: PeerSlot(0), id: NodeId([3; 32]) };
    made.routes.steer(Instant::now(), made.plane.as_ref().unwrap(), added).unwrap();
    (made, wire, progress)
}

#[test]
fn each_key_is_applied_or_said_to_wait_as_it_is_described() {
    crate::net::namespace::isolated(|| in_network("", each_key()));
}

async fn each_key() {
    let home = tempfile::tempdir().unwrap();
    let (mut made, _wire, _progress) = alone(&home).await;
    let file = home.path().join("people.toml");
    std::fs::write(&file, "").unwrap();
    assert_eq!(keys(&made.reload()), (vec![], vec![]));
    for key in Key::ALL {
        let about = key.about();
        assert!(!does(*key, &made), "{} is the default", about.name);
        std::fs::write(&file, format!("{} = {}\n", about.name, other(*key, home.path()))).unwrap();
        let expected = match about.counts {
            Counts::AtOnce | Counts::From(_) => (vec![about.name], vec![]),
            Counts::NextStart(_) => {
                // In a bridge the MTU is another by default.
                let with = if *key == Key::Bridge { vec!["mtu", "bridge"] } else { vec![about.name] };
                (vec![], with)
            }
        };
        assert_eq!(keys(&made.reload()), expected, "{}", about.name);
        assert_eq!(does(*key, &made), expected.1.is_empty(), "{}", about.name);
        // What is applied is no news; what waits does so until the next start.
        assert_eq!(keys(&made.reload()), (vec![], expected.1.clone()), "{}", about.name);
        // And back.
        std::fs::write(&file, "").unwrap();
        assert_eq!(keys(&made.reload()), (expected.0, vec![]), "{}", about.name);
        // A relay is left a while after that.
        assert!(*key == Key::Relays || !does(*key, &made), "{} is back", about.name);
    }
    made.leave().await;
}

#[test]
fn a_fault_in_any_file_changes_nothing_and_is_told_with_its_place() {
    crate::net::namespace::isolated(|| in_network("", faults()));
}

async fn faults() {
    let home = tempfile::tempdir().unwrap();
    let (mut made, _wire, _progress) = alone(&home).await;
    let (file, remembered) = (home.path().join("people.toml"), home.path().join("state/config.toml"));
    let good = format!(
        "flood_budget = \"2mbit\"\nfilter = \"dhcp\"\nname = \"attic\"\nrules = {}\n",
        other(Key::Rules, home.path())
    );
    std::fs::write(&file, &good).unwrap();
    assert_eq!(keys(&made.reload()).0, ["name", "filter", "flood_budget", "rules"]);
    let in_force = made.settings.clone();
    let holds = |made: &EventLoop| {
        assert_eq!(made.settings, in_force);
        for key in [Key::Name, Key::Filter, Key::FloodBudget] {
            assert!(does(key, made), "{key:?}");
        }
        assert_eq!(made.rules.as_ref().map(|rules| rules.count), Some(1));
    };
    let told = |made: &mut EventLoop, words: &[&str]| {
        let response = made.reload();
        let Response::Error { sentence, .. } = response else { panic!("{response:?}") };
        assert!(words.iter().all(|words| sentence.contains(words)), "{sentence}");
        assert!(
            sentence.contains("nothing is changed, and the rules from before stay in force"),
            "{sentence}"
        );
        assert!(made.rules.as_ref().is_some_and(|rules| rules.error.is_some()));
        holds(made);
    };
    // All that is good beside it does not count either.
    std::fs::write(&file, "flood_budget = \"none\"\nmtuu = 1\nidle_after = \"1s\"\n").unwrap();
    told(&mut made, &["people.toml line 2, column 1 has the unknown field `mtuu`", "; line 3, column 14: "]);
    std::fs::write(&file, good.replace("2mbit", "3mbit")).unwrap();
    std::fs::write(home.path().join("rules"), "allow any -> any tcp 0\n").unwrap();
    told(&mut made, &["rules:1:22: "]);
    std::fs::write(home.path().join("rules"), "allow any -> any icmp\n").unwrap();
    let text = std::fs::read_to_string(&remembered).unwrap();
    std::fs::write(&remembered, "cipher = \"des\"\n").unwrap();
    told(&mut made, &["config.toml line 1, column 10: the cipher is"]);
    std::fs::write(&remembered, &text).unwrap();
    std::fs::remove_file(&file).unwrap();
    told(&mut made, &["people.toml cannot be read (No such file"]);
    // A pipe that nobody writes to holds up nobody.
    crate::net::namespace::sh(&format!("mkfifo {}", file.display()));
    told(&mut made, &["it is no ordinary file"]);
    std::fs::remove_file(&file).unwrap();

    // Written half-way, at whatever byte: taken or refused, and good again with the rest.
    for end in 0..good.len() {
        std::fs::write(&file, &good[..end]).unwrap();
        let response = made.reload();
        assert!(matches!(response, Response::Reloaded { .. } | Response::Error { .. }));
    }
    std::fs::write(&file, &good).unwrap();
    made.reload();
    holds(&made);
    assert_eq!(made.rules.as_ref().and_then(|rules| rules.error.clone()), None);
    made.leave().await;
}

#[test]
fn a_signal_does_what_the_request_does_and_a_storm_of_them_no_harm() {
    crate::net::namespace::isolated(|| in_network("", by_signal()));
}

async fn by_signal() {
    let mut scene = Scene::new().await;
    let state = StateDir::open(scene.a.home.path().join("state")).unwrap();
    let hangup = || kill_process(getpid(), Sig::HUP).unwrap();
    let budget = |text: &str| FileConfig {
        flood_budget: text.parse().ok(),
        port_mapping: Some(false),
        ..FileConfig::default()
    };
    let is_note = |words: &'static str| move |progress: &Progress| matches!(progress, Progress::Notice(line) if line.contains(words));
    state.save_config(&budget("none")).unwrap();
    hangup();
    scene.a.says("that it is applied", is_note("flood_budget = none: applied")).await;
    assert_eq!(scene.a.status().await.switch.flood_budget, "none");
    state.save_config(&FileConfig { mtu: "1300".parse().ok(), ..budget("2mbit") }).unwrap();
    hangup();
    scene.a.says("that it waits", is_note("mtu = 1300: counts from the next start on")).await;
    scene.a.says("what to type", is_note(RESTART)).await;
    let config = scene.a.home.path().join("state/config.toml");
    std::fs::write(&config, "flood_budget = \"3mbit\"\nnmae = \"x\"\n").unwrap();
    hangup();
    let fault = is_note("line 2, column 1 has the unknown field `nmae`, did you mean `name`?");
    scene.a.says("the fault", fault).await;
    assert_eq!(scene.a.status().await.switch.flood_budget, "2mbit");

    // A hundred at once, and frames beside them.
    state.save_config(&budget("4mbit")).unwrap();
    for n in 0..100 {
        hangup();
        scene.a.send(&scene.b, n);
    }
    assert_eq!(scene.b.numbers(100).await, (0..100).collect::<Vec<_>>());
    scene.a.says("that it is applied", is_note("flood_budget = 4mbit: applied")).await;
    // Those that came while one was done were one.
    let status = scene.a.status().await;
    assert_eq!((status.switch.flood_budget.as_str(), status.node.mtu), ("4mbit", 1400));
    let mut more = 0;
    while let Ok(progress) = scene.a.progress.try_recv() {
        more += usize::from(is_note("none is other than before")(&progress));
    }
    assert!(more <= 100, "{more} reloads");
    let reloaded = within("an answer", call(&scene.a.socket, &Request::Reload)).await.unwrap();
    assert_eq!(keys(&reloaded), (vec![], vec![]));
    let Scene { a, serving, .. } = scene;
    within("an answer", call(&a.socket, &Request::Down)).await.unwrap();
    within("the end", a.task).await.unwrap().unwrap();
    serving.abort();
}
