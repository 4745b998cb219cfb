//! The text of access rules: read and written back it is the same, and each fault stands where it is said to.

use shadowmesh_proto::ids::NodeId;
use shadowmesh_proto::rules::{Fault, Known, MAX_BYTES, MAX_RULES, Policy, Rules, Subject, Traffic};

/// Any bytes are a text, or there are faults in it.
///
/// # Panics
/// When a property does not hold.
pub fn check(bytes: &[u8]) {
    let read = Rules::parse(bytes);
    let checked = Rules::check(bytes, &Known::default());
    match (&read, &checked) {
        (Ok(rules), Ok(checked)) => {
            assert_eq!(rules, &checked.rules);
            is_canonical(rules);
            let lines = String::from_utf8_lossy(bytes).split('\n').count();
            assert!(checked.warnings.iter().all(|warning| (1..=lines).contains(&warning.line)));
            assert!(checked.warnings.is_sorted_by_key(|warning| warning.line));
            if let Ok(by_id) = Rules::parse_by_id(bytes) {
                assert_eq!(rules, &by_id);
            }
            is_judged(rules);
        }
        (Err(faults), Err(same)) => {
            assert_eq!(faults, same);
            are_in_it(bytes, faults);
        }
        _ => panic!("{read:?}, but {checked:?}"),
    }
    if let Err(faults) = Rules::parse_by_id(bytes) {
        are_in_it(bytes, &faults);
    }
}

fn is_canonical(rules: &Rules) {
    assert!(rules.len() <= MAX_RULES);
    let written = rules.to_string();
    assert!(written.len() <= MAX_BYTES);
    let again = Rules::parse(written.as_bytes());
    assert_eq!(again.as_ref(), Ok(rules), "{written}");
    assert_eq!(rules.to_string(), written);
}

fn is_judged(rules: &Rules) {
    let member = |byte, name: &str, tags: &[&str]| Subject {
        id: NodeId([byte; 32]),
        name: name.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
    };
    let (one, two) = (member(1, "one", &["a", "lab"]), member(2, "two", &[]));
    for (source, here) in [(&one, &two), (&two, &one)] {
        let (policy, back) = (Policy::new(rules, source, here), Policy::new(rules, here, source));
        for traffic in [
            Traffic::Tcp { port: 22 },
            Traffic::Udp { source: 9, port: 53 },
            Traffic::Ip { protocol: 6 },
            Traffic::Ip { protocol: 58 },
            Traffic::Router,
            Traffic::Topology { ethertype: 38 },
            Traffic::Other { ethertype: 0x88b5 },
        ] {
            let passes = policy.allows(traffic);
            assert!(passes || !(rules.is_open() || policy.is_unrestricted()), "{traffic:?} of {rules}");
            assert!(!passes || back.allows(Traffic::Arp), "who is sent {traffic:?} cannot be asked: {rules}");
        }
    }
}

/// In the order of places, each of which there is.
fn are_in_it(bytes: &[u8], faults: &[Fault]) {
    assert!(!faults.is_empty());
    assert!(faults.is_sorted_by_key(|fault| (fault.line, fault.column)), "{faults:?}");
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<_> = text.split('\n').collect();
    for fault in faults {
        let line = fault.line.checked_sub(1).and_then(|at| lines.get(at));
        let line = line.unwrap_or_else(|| panic!("no such line: {fault:?}"));
        let (before, column) = (fault.column.checked_sub(1), line.chars().count() + 1);
        assert!((1..=column).contains(&fault.column), "{fault:?} in {line:?}");
        let rest: String = line.chars().skip(before.unwrap_or_default()).collect();
        assert!(rest.starts_with(&fault.word), "{fault:?} in {line:?}");
        assert!(!fault.to_string().contains(char::is_control), "{fault}");
    }
}

/// Every word and sign there is, and a few slips.
pub fn seeds() -> Vec<Vec<u8>> {
    let id = NodeId([1; 32]).to_base32();
    let start = id.get(..10).unwrap_or_default();
    [
        String::new(),
        "# The office.\ndhcp   tag:gateway\nbridge tag:lan, name:printer-room\nstp any\n".to_owned(),
        "allow tag:admin -> any\ndeny  any       -> name:vault\nallow any -> tag:server tcp 22,443,8000-8010\n".to_owned(),
        format!("allow id:{id} -> id:{start},any udp 53\r\nallow\tany->any icmp\n"),
        "allow any -> any proto 50\nallow any -> any ip\nallow any -> any other\nallow any -> any ethertype 0x88cc,0x88B5".to_owned(),
        "\u{feff}alow any => any\nallow any -> 10.0.0.1\ndeny any -> tag:a:22\nallow any -> any arp\n".to_owned(),
        "allow any -> any tcp 9-8,0,70000\nallow any -> any ethertype 0x0800\nallow id:abc -> any\n".to_owned(),
        "allow any -> any \u{202e}tcp\ndeny -> \nallow , -> any\n".to_owned(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}
