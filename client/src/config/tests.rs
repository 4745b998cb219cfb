//! The file as people see it: what is written reads back, and what is wrong is named with its place.

use super::keys::{About, Kind};
use super::*;
use proptest::prelude::*;
use shadowmesh_proto::ids::RelayId;

fn relay(key: u8, address: &str) -> RelayTicket {
    RelayTicket { key: RelayId([key; 32]), addresses: vec![address.into()], expires: Some(1) }
}

#[test]
fn the_example_that_is_installed_is_this_one_and_each_of_its_lines_can_be_used() {
    let example = Config::example();
    let installed = include_str!("../../../deploy/etc/shadowmesh/config.toml");
    assert_eq!(installed, example, "deploy/etc/shadowmesh/config.toml is not Config::example()");
    assert_eq!(Config::parse(&example), Ok(Config::default()));
    // A ticket stands for those of people.
    let ticket = relay(1, "192.0.2.1:1").to_text();
    let mut used = Vec::new();
    for line in example.lines().filter_map(|line| line.strip_prefix("# ")) {
        let Some(name) =
            line.split_once(" = ").map(|(name, _)| name).filter(|name| Key::named(name).is_some())
        else {
            continue;
        };
        let line = line.replace("smr1...", &ticket);
        let config = Config::parse(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(config.chosen(), [name], "{line}");
        used.push(name.to_owned());
    }
    assert_eq!(used, Key::names().collect::<Vec<_>>());
}

#[test]
fn what_is_said_to_be_the_default_is() {
    let nothing = Settings::new(&Config::default(), "h");
    for key in Key::ALL {
        let About { name, default, example, .. } = key.about();
        // Some examples are none: there is no value that means "nobody chose".
        if matches!(key, Key::Relays | Key::Proxy | Key::Name | Key::Address | Key::Rules) {
            continue;
        }
        let chosen = Config::parse(&format!("{name} = {example}")).unwrap();
        assert!(!Settings::new(&chosen, "h").differs(&nothing, *key), "{name} = {example} is no default");
        let said = default.split(',').next().unwrap();
        let value = nothing.shown(*key);
        assert!(said == value || (said, &*value) == ("120s", "2m"), "{name}: {said} is not {value}");
    }
}

#[test]
fn an_unknown_field_is_named_with_its_place_and_the_likely_one() {
    let error = Config::parse("# comment\nname = \"a\"\n  mtuu = 1400\n").unwrap_err();
    assert_eq!(error.to_string(), "line 3, column 3 has the unknown field `mtuu`, did you mean `mtu`?");
    let said = Config::parse("[colour]\nx = 1\n").unwrap_err().to_string();
    let expected = "line 1, column 2 has the unknown field `colour`; known are relays, proxy, ";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn a_wrong_value_is_named_with_its_place() {
    for (text, said) in [
        (
            "name = \"a\"\nmtu = 12\n",
            "line 2, column 7: the MTU must be a whole number from 1280 to 9000, in bytes",
        ),
        (
            "mtu = \"1400\"",
            "line 1, column 7: `mtu` is a whole number: 1280 to 9000, bytes; such as mtu = 1400",
        ),
        (
            "\n port_mapping  =  \"off\"",
            "line 2, column 19: `port_mapping` is true or false; such as port_mapping = true",
        ),
        ("cipher = \"des\"", "line 1, column 10: the cipher is one of auto, aes and chacha"),
        ("mtu = 0x578\nnames = \"no\"", "line 2, column 9: names are one of off, on and hosts"),
        (
            "mtu = 99999999999999999999",
            "line 1, column 7: the MTU must be a whole number from 1280 to 9000, in bytes",
        ),
    ] {
        assert_eq!(Config::parse(text).unwrap_err().to_string(), said, "{text}");
    }
    let said = Config::parse("\n\nrelays = [\n  \"smr1xx\",\n 1]\n").unwrap_err().to_string();
    assert!(said.starts_with("line 4, column 3: the ticket is damaged"), "{said}");
    assert!(said.contains("; line 5, column 2: `relays` is a list of texts: "), "{said}");
    let error = Config::parse("name = \"a").unwrap_err();
    assert!(error.faults().iter().all(|fault| fault.line == 1), "{error}");
}

#[test]
fn all_that_is_wrong_is_said_in_the_order_of_the_lines() {
    let text = "mtu = 12\nnmae = \"a\"\nflood_budget = \"lots\"\nidle_after = 5\n";
    let error = Config::parse(text).unwrap_err();
    let places: Vec<_> = error.faults().iter().map(|fault| (fault.line, fault.column)).collect();
    assert_eq!(places, [(1, 7), (2, 1), (3, 16), (4, 14)]);
    let said = error.to_string();
    assert!(said.contains("did you mean `name`?") && said.contains("from 64kbit to 10gbit"), "{said}");
    // A key that comes twice is one: which of the two was meant?
    let said = Config::parse("mtu = 1300\nmtu = 1400\n").unwrap_err().to_string();
    assert!(said.starts_with("line 2, column 1: "), "{said}");
}

#[test]
fn each_key_refuses_every_wrong_kind_with_what_is_possible() {
    let of_kinds = [
        ("\"\"", Some(Kind::Text)),
        ("-7", Some(Kind::Number)),
        ("true", Some(Kind::Switch)),
        ("[[]]", Some(Kind::List)),
        ("1.5", None),
        ("1979-05-27", None),
        ("{ a = 1 }", None),
    ];
    for key in Key::ALL {
        let About { name, kind, values, .. } = key.about();
        for (value, of) in of_kinds {
            let read = Config::parse(&format!("{name} = {value}"));
            if (*kind, of) == (Kind::Switch, Some(Kind::Switch)) {
                assert!(read.is_ok());
                continue;
            }
            let said = read.expect_err(name).to_string();
            let column = name.len() + 4 + usize::from(*kind == Kind::List && of == Some(Kind::List));
            assert!(said.starts_with(&format!("line 1, column {column}: ")), "{name} = {value}: {said}");
            assert!(of == Some(*kind) || said.contains(values), "{name} = {value}: {said}");
        }
    }
}

#[test]
fn newer_choices_win_and_relays_add_up() {
    let file = Config {
        relays: vec![relay(1, "a:1"), relay(2, "b:1")],
        mtu: "1300".parse().ok(),
        ..Config::default()
    };
    let flags = Config {
        relays: vec![relay(2, "c:1"), relay(3, "d:1")],
        name: "x".parse().ok(),
        ..Config::default()
    };
    let both = file.overlaid_with(flags);
    assert_eq!(both.relays, [relay(1, "a:1"), relay(2, "c:1"), relay(3, "d:1")]);
    assert_eq!((both.mtu.map(Mtu::bytes), both.name.as_ref().map(NodeName::as_str)), (Some(1300), Some("x")));
}

#[test]
fn an_expired_relay_that_was_accepted_once_is_still_read() {
    let config = Config { relays: vec![relay(1, "a:1")], ..Config::default() };
    assert_eq!(Config::parse(&config.to_toml()), Ok(config));
}

#[test]
fn in_a_bridge_the_mtu_is_that_of_its_lan_unless_said_otherwise_and_none_ends_it() {
    let read = |text: &str| Config::parse(text).expect("good");
    let mtu = |config: &Config| Settings::new(config, "h").mtu.bytes();
    let bridged = read("bridge = \"br0\"");
    assert_eq!((mtu(&bridged), mtu(&read("bridge = \"br0\"\nmtu = 1300"))), (1500, 1300));
    let ended = bridged.overlaid_with(Config { bridge: Some(Bridge::None), ..Config::default() });
    assert_eq!((mtu(&ended), Settings::new(&ended, "h").bridge.name()), (1400, None));
    assert!(Config::parse("bridge = \"a b\"").is_err());
}

fn config() -> impl Strategy<Value = Config> {
    let texts = (
        proptest::option::of("[a-z0-9]{1,63}"),
        (proptest::option::of("[A-Za-z0-9_-]{1,15}"), proptest::option::of("none|br[0-9]")),
        (proptest::option::of(1280i64..=9000), proptest::option::of(1..=8u8)),
        proptest::option::of((1u8..100, 0u8..255, 1u8..255)),
        proptest::option::of(0usize..3),
        (
            proptest::option::of(2u64..=120),
            proptest::option::of(any::<bool>()),
            proptest::option::of(prop_oneof![Just("off"), Just("on"), Just("hosts")]),
            proptest::option::of(prop_oneof![Just("auto"), Just("all"), Just("on-demand")]),
            proptest::option::of(2u64..=86_400),
        ),
        proptest::option::of("/[ -~\u{e4}]{0,40}"),
        (
            proptest::option::of(prop_oneof![Just("all"), Just("none"), Just("dhcp,ra"), Just("bpdu")]),
            proptest::option::of(prop_oneof![Just("any"), Just("none"), Just("abcdefghij,kkkkkkkkkk2")]),
            proptest::option::of(prop_oneof![Just("none"), Just("64kbit"), Just("1mbit"), Just("10gbit")]),
        ),
        (
            proptest::collection::vec(any::<u8>(), 0..4),
            proptest::option::of("none|http://([a-z%]{1,5}:[!-~]{0,9}@)?[a-z0-9.]{1,9}:[1-9][0-9]{0,3}"),
        ),
    );
    texts.prop_map(
        |(
            name,
            (device, bridge),
            (mtu, queues),
            address,
            cipher,
            (rekey, port_mapping, names, sessions, idle),
            rules,
            switch,
            (relays, proxy),
        )| {
            Config {
                relays: union_of_relays(
                    &[],
                    &relays.into_iter().map(|key| relay(key, "h:1")).collect::<Vec<_>>(),
                ),
                proxy: proxy.and_then(|text| text.parse().ok()),
                name: name.and_then(|text| text.parse().ok()),
                device: device.and_then(|text| text.parse().ok()),
                mtu: mtu.and_then(|bytes| bytes.try_into().ok()),
                queues: queues.and_then(|count| count.to_string().parse().ok()),
                bridge: bridge.and_then(|text| text.parse().ok()),
                address: address.and_then(|(a, b, c)| Ipv4Cidr::new([a, b, 0, c].into(), 24).ok()),
                cipher: cipher.map(|n| [CipherChoice::Auto, CipherChoice::Aes, CipherChoice::Chacha][n]),
                port_mapping,
                filter: switch.0.and_then(|text| text.parse().ok()),
                allow_dhcp: switch.1.and_then(|text| text.parse().ok()),
                flood_budget: switch.2.and_then(|text| text.parse().ok()),
                rules: rules.and_then(|path| path.parse().ok()),
                names: names.and_then(|text| text.parse().ok()),
                sessions: sessions.and_then(|text| text.parse().ok()),
                idle_after: idle.and_then(|s| format!("{s}s").parse().ok()),
                rekey_interval: rekey.and_then(|s| format!("{s}s").parse().ok()),
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_reads_back(config in config()) {
        prop_assert_eq!(Config::parse(&config.to_toml()), Ok(config));
    }

    #[test]
    fn what_is_refused_does_not_show_what_stands_there(
        key in proptest::sample::select(Key::ALL),
        before in proptest::sample::select(&["", "\"", "[", "[\"", "{ x = \"", "'''"][..]),
        after in "[\"\\\\\\] }]{0,3}",
    ) {
        const SECRET: &str = "smi1qzxvkwjyhq7p2m5n8c4t6r3qzxvkwjyhq7p2m5n8c4t6r3";
        for start in [format!("{} = ", key.about().name), String::new()] {
            let text = format!("{start}{before}{SECRET}{after}\n");
            if let Err(error) = Config::parse(&text) {
                prop_assert!(!error.to_string().contains(&SECRET[..40]), "{text} gives {error}");
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(\\PC|\n){0,200}") {
        if let Err(error) = Config::parse(&text) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}
