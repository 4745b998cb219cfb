//! Texts that cannot be read: where, which word, and what is said.

use super::rules;
use crate::rules::{MAX_BYTES, MAX_RULES, Rules, Wrong};

/// `line:column: sentence` of everything that is wrong.
fn faults(text: &str) -> Vec<String> {
    let faults = Rules::parse(text.as_bytes()).expect_err(text);
    faults.iter().map(|fault| format!("{}:{}: {fault}", fault.line, fault.column)).collect()
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    assert_eq!(faults(text), [expected], "{text}");
}

#[test]
fn a_first_word_is_one_of_five() {
    let rest = "begins no statement: expected allow, deny, bridge, dhcp or stp";
    refused("alow any -> any", &format!("1:1: `alow` {rest}; did you mean `allow`?"));
    refused("\n\n  ALLOW any -> any", &format!("3:3: `ALLOW` {rest}; did you mean `allow`?"));
    refused("drop any -> any", &format!("1:1: `drop` {rest}; did you mean `deny`?"));
    refused("accept any -> any", &format!("1:1: `accept` {rest}; did you mean `allow`?"));
    refused("tag:a -> any", &format!("1:1: `tag:a` {rest}"));
    refused("-> any", &format!("1:1: `->` {rest}"));
}

#[test]
fn a_selector_is_any_or_has_a_kind() {
    let rest = "names no members: expected any, tag:NAME, name:NAME or id:START_OF_AN_ID";
    for (word, meant) in [
        ("tga:admin", Some("tag:admin")),
        ("Tag:admin", Some("tag:admin")),
        ("group:admin", Some("tag:admin")),
        ("host:attic", Some("name:attic")),
        ("admin", Some("tag:admin")),
        ("ANY", Some("any")),
        ("anny", Some("any")),
        ("*", Some("any")),
        ("everyone", Some("any")),
        ("*:22", Some("any tcp 22")),
        ("teapot:x", None),
        ("a/b", None),
    ] {
        let hint = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        refused(&format!("allow any -> {word}"), &format!("1:14: `{word}` {rest}{hint}"));
    }
    let address =
        "is an address, and rules are about members: expected any, tag:NAME, name:NAME or id:START_OF_AN_ID";
    for word in ["10.7.3.4", "10.7.0.0/16", "fd00::1", "fd00::/8", "::"] {
        refused(&format!("allow {word} -> any"), &format!("1:7: `{word}` {address}"));
    }
}

#[test]
fn without_a_record_only_ids_are_sure() {
    let by_id = |text: &str| match Rules::parse_by_id(text.as_bytes()) {
        Ok(rules) => Ok(rules.to_string()),
        Err(faults) => Err(faults.iter().map(|fault| (fault.line, fault.column, fault.wrong)).collect()),
    };
    let text = "dhcp id:aaaaaaaaaa\nallow any -> id:bbbbbbbbbb udp 53\n";
    assert_eq!(by_id(text), Ok(text.to_owned()));
    let unvouched = |line, column| (line, column, Wrong::Unvouched);
    let found =
        by_id("allow tag:a,any -> any\nstp any\n\tdhcp any, name:b\ndeny any -> id:aaaaaaaaaa,name:c");
    assert_eq!(found, Err(vec![unvouched(1, 7), unvouched(3, 12), unvouched(4, 27)]));
    assert_eq!(
        by_id("allow tag:a -> any tcp 0"),
        Err(vec![(1, 24, Wrong::Port)]),
        "what cannot be read first"
    );
    let many = by_id(&"allow tag:a -> tag:b\n".repeat(999));
    assert_eq!(many.map_err(|faults| faults.len()), Err(100));
    let fault = &Rules::parse_by_id(b"allow any -> tag:a").expect_err("a tag")[0];
    let rest = "names somebody only in rules that an admin publishes: for a host's own file expected any or id:START_OF_AN_ID";
    assert_eq!(fault.to_string(), format!("`tag:a` {rest}"));
}

#[test]
fn names_and_ids_have_an_alphabet_and_a_length() {
    let name = "holds no name: expected 1 to 63 letters without accents, digits, -, _ or .";
    refused("allow tag: -> any", &format!("1:7: `tag:` {name}"));
    refused("allow name:a!b -> any", &format!("1:7: `name:a!b` {name}"));
    refused("allow tag:k\u{fc}che -> any", &format!("1:7: `tag:k\u{fc}che` {name}"));
    refused("allow tag:a\u{a0}b -> any", &format!("1:7: `tag:a\\u{{a0}}b` {name}"));
    refused(
        "allow any -> tag:server:22",
        &format!("1:14: `tag:server:22` {name}; did you mean `tag:server tcp 22`?"),
    );
    let long = "x".repeat(64);
    assert!(faults(&format!("allow tag:{long} -> any"))[0].contains(name));
    rules(&format!("allow tag:{} -> any", &long[1..]));

    let id = "holds no start of an id: expected its first 10 to 52 characters, of a-z and 2-7";
    let whole = crate::ids::NodeId([7; 32]).to_base32();
    refused("allow id:abcdefghi -> any", &format!("1:7: `id:abcdefghi` {id}"));
    refused("allow id:abcdefgh01 -> any", &format!("1:7: `id:abcdefgh01` {id}"));
    assert!(faults(&format!("allow id:{whole}a -> any"))[0].contains(id));
    let (most, last) = whole.split_at(51);
    assert_ne!(last, "b", "no key of 32 bytes ends so");
    assert!(faults(&format!("allow id:{most}b -> any"))[0].contains(id));
    assert_eq!(
        rules(&format!("allow id:{} -> any", whole.to_uppercase())),
        rules(&format!("allow id:{whole} -> any"))
    );
    rules("allow id:ABCDEFGHIJ -> any");
}

#[test]
fn lists_have_commas_and_rules_an_arrow() {
    let who = "any, tag:NAME, name:NAME or id:START_OF_AN_ID";
    refused("allow", &format!("1:6: the line ends where {who} is expected"));
    refused("allow tag:a", "1:12: the line ends where `->` is expected");
    refused("allow tag:a   # -> any", "1:12: the line ends where `->` is expected");
    refused("allow tag:a tag:b -> any", "1:13: expected `->` instead of `tag:b`");
    refused("allow tag:a => any", "1:13: expected `->` instead of `=>`; did you mean `->`?");
    refused("allow tag:a, -> any", &format!("1:14: expected {who} instead of `->`"));
    refused("allow ,tag:a -> any", &format!("1:7: expected {who} instead of `,`"));
    refused("allow tag:a ->", &format!("1:15: the line ends where {who} is expected"));
    refused("allow any -> any,", &format!("1:18: the line ends where {who} is expected"));
    refused(
        "allow any -> any tag:b",
        "1:18: expected a comma, a kind of traffic or the end of the line instead of `tag:b`",
    );
    refused(
        "allow any -> any -> any",
        "1:18: expected the end of the line (one kind of traffic a rule) instead of `->`",
    );
    refused(
        "dhcp tag:a -> any",
        "1:12: expected the end of the line (only allow and deny have a destination) instead of `->`",
    );
    refused("stp tag:a tag:b", "1:11: expected a comma or the end of the line instead of `tag:b`");
}

#[test]
fn traffic_has_seven_words() {
    let rest = "is no kind of traffic: expected tcp, udp, icmp, proto, ip, other or ethertype, or nothing for everything";
    for (word, meant) in [
        ("tpc", Some("tcp")),
        ("TCP", Some("tcp")),
        ("ping", Some("icmp")),
        ("icmpv6", Some("icmp")),
        ("22", Some("tcp 22")),
        ("8000-8010", Some("tcp 8000-8010")),
        ("tcp/22", Some("tcp 22")),
        ("53/udp", Some("udp 53")),
        ("udp:53", Some("udp 53")),
        ("gre", Some("proto 47")),
        ("ssh", Some("tcp 22")),
        ("ethertpye", Some("ethertype")),
        ("teapot", None),
    ] {
        let hint = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        refused(&format!("allow any -> any {word}"), &format!("1:18: `{word}` {rest}{hint}"));
    }
    refused(
        "deny any -> any arp",
        "1:17: `arp` needs no rule: it passes between members that may exchange anything, and cannot be denied alone",
    );
    refused(
        "allow any -> any tcp 22 udp 53",
        "1:25: expected a comma or the end of the line instead of `udp`",
    );
    refused(
        "allow any -> any icmp 8",
        "1:23: expected the end of the line (one kind of traffic a rule) instead of `8`",
    );
}

#[test]
fn numbers_have_bounds() {
    let port = "is no port: expected a number from 1 to 65535, or a range such as 8000-8010";
    for word in ["0", "65536", "+1", "1-", "-1", "1-2-3", "0x16", "99999999999999999999", "1-65536"] {
        refused(&format!("allow any -> any tcp {word}"), &format!("1:22: `{word}` {port}"));
    }
    refused("allow any -> any tcp ssh", &format!("1:22: `ssh` {port}; did you mean `22`?"));
    refused("allow any -> any tcp 10:20", &format!("1:22: `10:20` {port}; did you mean `10-20`?"));
    refused("allow any -> any tcp 9-8", "1:22: the range `9-8` ends before it begins; did you mean `8-9`?");
    refused("allow any -> any tcp 22,", "1:25: the line ends where a port is expected");
    assert_eq!(
        faults("allow any -> any udp 1,x,3,70000"),
        [format!("1:24: `x` {port}"), format!("1:28: `70000` {port}")],
        "one that is wrong does not hide the next"
    );

    let number = "is no protocol number: expected 0 to 255, as in the IP header";
    refused("allow any -> any proto 256", &format!("1:24: `256` {number}"));
    refused("allow any -> any proto gre", &format!("1:24: `gre` {number}; did you mean `47`?"));
    refused("allow any -> any proto", "1:23: the line ends where a protocol number is expected");

    let kind = "is no ethertype: expected 0x and four hexadecimal digits, from 0x0600 on";
    refused("allow any -> any ethertype 88cc", &format!("1:28: `88cc` {kind}; did you mean `0x88cc`?"));
    refused("allow any -> any ethertype 0x600", &format!("1:28: `0x600` {kind}; did you mean `0x0600`?"));
    refused("allow any -> any ethertype 0x05ff", &format!("1:28: `0x05ff` {kind}"));
    refused("allow any -> any ethertype 0x+123", &format!("1:28: `0x+123` {kind}"));
    refused(
        "allow any -> any ethertype 0x0800",
        "1:28: `0x0800` is IPv4: expected ip, tcp, udp, icmp or proto",
    );
    assert!(faults("allow any -> any ethertype 0x8100")[0].contains("VLAN"));
}

#[test]
fn a_text_is_text_and_shows_what_it_says() {
    let faults_of = |bytes: &[u8]| {
        let faults = Rules::parse(bytes).expect_err("refused");
        faults.iter().map(|fault| (fault.line, fault.column, fault.wrong)).collect::<Vec<_>>()
    };
    assert_eq!(faults_of(b"# ok\n# \xc3\xa4\xff"), [(2, 4, Wrong::NotText)]);
    assert_eq!(
        faults_of(b"\xef\xbb\xbf# \xff"),
        [(1, 3, Wrong::NotText)],
        "the mark at the front is no column"
    );
    assert_eq!(faults_of(b"# a\rallow any -> any"), [(1, 4, Wrong::Hidden('\r'))]);
    assert_eq!(faults_of("# a\u{202e}\nx".as_bytes())[0], (1, 4, Wrong::Hidden('\u{202e}')));
    assert_eq!(faults_of(b"allow any\0-> any"), [(1, 10, Wrong::Hidden('\0'))]);
    assert_eq!(
        Rules::parse(b"# a\0").expect_err("refused")[0].to_string(),
        "the character U+0000 does not show what it does, so it may stand nowhere"
    );
    // What editors leave behind.
    assert_eq!(rules("\u{feff}allow any -> any\r\n\r\n# gr\u{fc}n\r\n"), rules("allow any->any"));
}

#[test]
fn a_text_is_bounded() {
    let wrong = |text: &str| Rules::parse(text.as_bytes()).expect_err("refused")[0].wrong;
    let comment = format!("#{}", "x".repeat(MAX_BYTES - 1));
    assert!(rules(&comment).is_empty());
    assert_eq!(wrong(&(comment + "x")), Wrong::TooLong);

    let most = "allow any->any\n".repeat(MAX_RULES);
    assert_eq!(rules(&most).len(), MAX_RULES);
    let faults =
        Rules::parse((most + "dhcp any\ndeny any->any\ndeny any->any").as_bytes()).expect_err("refused");
    assert_eq!(
        faults.iter().map(|fault| (fault.line, fault.wrong)).collect::<Vec<_>>(),
        [(1002, Wrong::TooManyRules)]
    );

    // As short as it can be written, and longer than it may be once written out.
    let mut tight = "allow any->any\n".repeat(MAX_RULES - 1);
    let names = (0..).map(|n| format!("tag:{n}{}", "x".repeat(50)));
    let room = MAX_BYTES - tight.len() - "allow ->any".len();
    let list = names.take(room / 62).collect::<Vec<_>>().join(",");
    tight.push_str(&format!("allow {list}->any"));
    tight.push_str(&"# ".repeat((MAX_BYTES - tight.len()) / 2));
    let read = Rules::parse(tight.as_bytes());
    assert!(read.is_ok_and(|rules| rules.to_string().len() <= MAX_BYTES), "a comment takes no room");
    let longer = names_to_fill(MAX_BYTES - 15 * (MAX_RULES - 1));
    let tight = format!("{}{longer}", "allow any->any\n".repeat(MAX_RULES - 1));
    assert!(
        tight.len() <= MAX_BYTES
            && matches!(wrong(&tight), Wrong::TooLongWritten(bytes) if bytes > MAX_BYTES)
    );
}

/// A rule of exactly `bytes` bytes.
fn names_to_fill(bytes: usize) -> String {
    let mut rule = String::from("allow any->");
    for n in 1000.. {
        let left = bytes - rule.len();
        if left <= 60 {
            rule.push_str(&format!("tag:{}", "z".repeat(left - 4)));
            return rule;
        }
        rule.push_str(&format!("tag:{n}{},", "x".repeat(20)));
    }
    unreachable!()
}

#[test]
fn nobody_is_told_of_a_hundred_things_and_more() {
    let faults = Rules::parse("x\n".repeat(500).as_bytes()).expect_err("refused");
    assert_eq!(faults.len(), 101);
    let last = faults.last().expect("one");
    assert_eq!((last.line, last.wrong), (101, Wrong::MoreFaults));
    let list = "x,".repeat(30_000);
    let faults = Rules::parse(format!("allow any -> any tcp {list}1").as_bytes()).expect_err("refused");
    assert_eq!((faults.len(), faults.last().map(|fault| fault.column)), (101, Some(222)), "nor of one line");
    let word = "y".repeat(60_000);
    let faults = Rules::parse(word.as_bytes()).expect_err("refused");
    assert_eq!(faults[0].word.len(), 80, "nor of a word without end");
}
