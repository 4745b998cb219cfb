//! Whatever is written: it is read or refused, it reads back, and it means what a slow reader takes it for.

use super::member;
use crate::rules::{Known, Policy, Rules, Subject, Traffic};
use proptest::prelude::*;

/// A rule as it is written and as the page explains it: the reference that a policy is held against. Nothing of the module is used
/// here but the text.
#[derive(Debug, Clone)]
struct Plain {
    allows: bool,
    sources: Vec<Who>,
    destinations: Vec<Who>,
    what: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Who {
    Any,
    Tag(&'static str),
    Name(&'static str),
    Id(u8, usize),
}

#[derive(Debug, Clone)]
enum Kind {
    Everything,
    Tcp(Vec<(u16, u16)>),
    Udp(Vec<(u16, u16)>),
    Icmp,
    Protocol(u8),
    Ip,
    Other,
    Types(Vec<u16>),
}

const TAGS: [&str; 3] = ["a", "B.2", "c_c-c"];
const NAMES: [&str; 3] = ["one", "two", "a"];

impl Who {
    fn text(&self) -> String {
        match self {
            Self::Any => "any".to_owned(),
            Self::Tag(tag) => format!("tag:{tag}"),
            Self::Name(name) => format!("name:{name}"),
            Self::Id(byte, len) => format!("id:{}", &member(*byte, "", &[]).id.to_base32()[..*len]),
        }
    }

    fn is(&self, who: &Subject) -> bool {
        match self {
            Self::Any => true,
            Self::Tag(tag) => who.tags.iter().any(|has| has == tag),
            Self::Name(name) => who.name == *name,
            Self::Id(byte, _) => who.id.0 == [*byte; 32],
        }
    }
}

impl Kind {
    fn text(&self) -> String {
        let ports = |ports: &[(u16, u16)]| {
            let text = |(a, b): &(u16, u16)| if a == b { a.to_string() } else { format!("{a}-{b}") };
            ports.iter().map(text).collect::<Vec<_>>().join(" ,")
        };
        match self {
            Self::Everything => String::new(),
            Self::Tcp(list) => format!("tcp {}", ports(list)),
            Self::Udp(list) => format!("udp {}", ports(list)),
            Self::Icmp => "icmp".to_owned(),
            Self::Protocol(number) => format!("proto {number}"),
            Self::Ip => "ip".to_owned(),
            Self::Other => "other".to_owned(),
            Self::Types(types) => {
                format!(
                    "ethertype {}",
                    types.iter().map(|kind| format!("0x{kind:04X}")).collect::<Vec<_>>().join(",")
                )
            }
        }
    }

    /// `None`: of some ports, but not of all.
    fn covers(&self, traffic: Traffic) -> Option<bool> {
        let among = |ports: &[(u16, u16)], port| {
            ports.is_empty() || ports.iter().any(|(a, b)| (*a..=*b).contains(&port))
        };
        let number = match traffic {
            Traffic::Tcp { .. } => Some(6),
            Traffic::Udp { .. } => Some(17),
            Traffic::Ip { protocol } => Some(protocol),
            Traffic::Router => Some(58),
            Traffic::Arp | Traffic::NeighbourDiscovery | Traffic::Topology { .. } | Traffic::Other { .. } => {
                None
            }
        };
        let port = match traffic {
            Traffic::Tcp { port } | Traffic::Udp { port, .. } => Some(port),
            Traffic::Arp
            | Traffic::NeighbourDiscovery
            | Traffic::Router
            | Traffic::Ip { .. }
            | Traffic::Topology { .. }
            | Traffic::Other { .. } => None,
        };
        let kind = match traffic {
            Traffic::Other { ethertype } | Traffic::Topology { ethertype } => Some(ethertype),
            Traffic::Arp
            | Traffic::NeighbourDiscovery
            | Traffic::Router
            | Traffic::Tcp { .. }
            | Traffic::Udp { .. }
            | Traffic::Ip { .. } => None,
        };
        Some(match self {
            Self::Everything => true,
            Self::Ip => number.is_some(),
            Self::Other => number.is_none(),
            Self::Icmp => matches!(number, Some(1 | 58)),
            Self::Protocol(wanted) => number == Some(*wanted),
            Self::Tcp(ports) | Self::Udp(ports) => {
                let wanted = if matches!(self, Self::Tcp(_)) { 6 } else { 17 };
                match port {
                    Some(port) => number == Some(wanted) && among(ports, port),
                    None if number == Some(wanted) && !ports.is_empty() => return None,
                    None => number == Some(wanted),
                }
            }
            Self::Types(types) => kind.is_some_and(|kind| types.contains(&kind)),
        })
    }
}

impl Plain {
    fn text(&self) -> String {
        let list = |who: &[Who], comma: &str| who.iter().map(Who::text).collect::<Vec<_>>().join(comma);
        let verb = if self.allows { "allow" } else { "deny" };
        let (sources, destinations) = (list(&self.sources, ",  "), list(&self.destinations, ","));
        format!("{verb}\t{sources}->{destinations} {} # {verb}\r\n", self.what.text())
    }
}

/// The first rule that matches. Where ports are not known, whether every port passes: asked of each that a rule names, and one beside.
fn decide(rules: &[Plain], source: &Subject, here: &Subject, traffic: Traffic) -> bool {
    let (Traffic::Ip { protocol: protocol @ (6 | 17) }, false) = (traffic, rules.is_empty()) else {
        for rule in rules {
            let is_about = rule.sources.iter().any(|who| who.is(source))
                && rule.destinations.iter().any(|who| who.is(here));
            if is_about && rule.what.covers(traffic) == Some(true) {
                return rule.allows;
            }
        }
        return rules.is_empty();
    };
    let named = rules.iter().flat_map(|rule| match &rule.what {
        Kind::Tcp(ports) | Kind::Udp(ports) => ports.clone(),
        Kind::Everything | Kind::Icmp | Kind::Protocol(_) | Kind::Ip | Kind::Other | Kind::Types(_) => vec![],
    });
    let edges = named.flat_map(|(a, b)| [a - 1, a, b, b.saturating_add(1)]).chain([0]);
    edges.into_iter().all(|port| {
        let traffic = if protocol == 6 { Traffic::Tcp { port } } else { Traffic::Udp { source: 9, port } };
        decide(rules, source, here, traffic)
    })
}

fn who() -> impl Strategy<Value = Vec<Who>> {
    let one = prop_oneof![
        2 => Just(Who::Any),
        3 => prop::sample::select(&TAGS[..]).prop_map(Who::Tag),
        2 => prop::sample::select(&NAMES[..]).prop_map(Who::Name),
        2 => (0u8..3, prop::sample::select(vec![10usize, 17, 52])).prop_map(|(byte, len)| Who::Id(byte, len)),
    ];
    prop::collection::vec(one, 1..4)
}

fn ports() -> impl Strategy<Value = Vec<(u16, u16)>> {
    let port = || prop_oneof![1u16..8, 20u16..25, 65_530u16..=u16::MAX];
    prop::collection::vec((port(), port()).prop_map(|(a, b)| (a.min(b), a.max(b))), 0..4)
}

const TYPES: [u16; 5] = [0x0600, 0x88b5, 0x88cc, 0x8863, 0xffff];

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Everything),
        ports().prop_map(Kind::Tcp),
        ports().prop_map(Kind::Udp),
        Just(Kind::Icmp),
        prop::sample::select(vec![0u8, 1, 6, 17, 47, 58, 63, 64, 255]).prop_map(Kind::Protocol),
        Just(Kind::Ip),
        Just(Kind::Other),
        prop::collection::vec(prop::sample::select(&TYPES[..]), 1..3).prop_map(Kind::Types),
    ]
}

fn plain() -> impl Strategy<Value = Vec<Plain>> {
    let rule = (any::<bool>(), who(), who(), kind())
        .prop_map(|(allows, sources, destinations, what)| Plain { allows, sources, destinations, what });
    prop::collection::vec(rule, 0..8)
}

fn subject() -> impl Strategy<Value = Subject> {
    let names = prop::sample::select(vec!["one", "two", "a", "elsewhere"]);
    (0u8..4, names, prop::sample::subsequence(&TAGS[..], 0..=3))
        .prop_map(|(byte, name, tags)| member(byte, name, &tags))
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let port = || prop_oneof![0u16..9, 19u16..26, 65_529u16..=u16::MAX];
    prop_oneof![
        port().prop_map(|port| Traffic::Tcp { port }),
        port().prop_map(|port| Traffic::Udp { source: 9, port }),
        prop::sample::select(vec![0u8, 1, 6, 17, 47, 58, 63, 64, 99, 255])
            .prop_map(|protocol| Traffic::Ip { protocol }),
        Just(Traffic::Router),
        prop_oneof![0u16..0x600, prop::sample::select(&TYPES[..])]
            .prop_map(|ethertype| Traffic::Other { ethertype }),
        prop::sample::select(vec![38u16, 0x88cc]).prop_map(|ethertype| Traffic::Topology { ethertype }),
    ]
}

fn text(rules: &[Plain]) -> String {
    rules.iter().map(Plain::text).collect()
}

proptest! {
    #[test]
    fn a_policy_is_the_first_rule_that_matches(plain in plain(), source in subject(), here in subject(), traffic in prop::collection::vec(traffic(), 1..20)) {
        let rules = Rules::parse(text(&plain).as_bytes()).unwrap();
        let policy = Policy::new(&rules, &source, &here);
        for traffic in traffic {
            let expected = decide(&plain, &source, &here, traffic);
            prop_assert_eq!(policy.allows(traffic), expected, "{:?} of {}", traffic, text(&plain));
            prop_assert!(expected || !(policy.is_unrestricted() || rules.is_open()));
            let back = Policy::new(&rules, &here, &source);
            prop_assert!(!expected || (policy.allows(Traffic::Arp) && back.allows(Traffic::Arp)));
        }
    }

    #[test]
    fn the_canonical_form_reads_back(plain in plain(), rights in prop::collection::vec((0usize..3, who()), 0..5)) {
        let word = |at: usize| ["bridge", "dhcp", "stp"][at];
        let list = |who: &[Who]| who.iter().map(Who::text).collect::<Vec<_>>().join(" , ");
        let rights: String = rights.iter().map(|(at, who)| format!("{} {}\n", word(*at), list(who))).collect();
        let rules = Rules::parse((rights + &text(&plain)).as_bytes()).unwrap();
        let written = rules.to_string();
        prop_assert_eq!(&Rules::parse(written.as_bytes()).unwrap(), &rules);
        prop_assert_eq!(Rules::parse(written.as_bytes()).unwrap().to_string(), written);
    }

    #[test]
    fn a_dead_rule_is_missed_by_nobody(plain in plain(), source in subject(), here in subject(), traffic in prop::collection::vec(traffic(), 1..20)) {
        let checked = Rules::check(text(&plain).as_bytes(), &Known::default()).unwrap();
        let dead = checked.warnings.iter().filter(|warning| warning.to_string().contains("never matches"));
        for warning in dead {
            let mut without = plain.clone();
            without.remove(warning.line - 1);
            let before = Policy::new(&checked.rules, &source, &here);
            let after = Policy::new(&Rules::parse(text(&without).as_bytes()).unwrap(), &source, &here);
            for traffic in &traffic {
                prop_assert_eq!(before.allows(*traffic), after.allows(*traffic), "line {} of {}", warning.line, text(&plain));
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check_places(&bytes)?;
    }

    /// What people type, more or less: words, signs and slips.
    #[test]
    fn any_words_are_read_or_refused(words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..40)) {
        check_places(words.concat().as_bytes())?;
    }

    /// One character of a good text is another.
    #[test]
    fn a_slip_is_read_or_refused_where_it_is(plain in plain(), at: prop::sample::Index, c: char) {
        let mut chars: Vec<_> = text(&plain).chars().collect();
        prop_assume!(!chars.is_empty());
        let at = at.index(chars.len());
        chars[at] = c;
        let line = 1 + chars[..at].iter().filter(|c| **c == '\n').count();
        let slipped: String = chars.into_iter().collect();
        check_places(slipped.as_bytes())?;
        if let Err(faults) = Rules::parse(slipped.as_bytes()) {
            let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
            prop_assert!(lines.iter().all(|named| *named == line || *named == line + 1), "{lines:?}, not {line}");
        }
    }
}

const WORDS: [&str; 34] = [
    "allow ",
    "deny ",
    "bridge ",
    "dhcp ",
    "stp ",
    "any",
    "tag:a",
    "name:b",
    "id:abcdefghij",
    "tag:",
    "tag:a:22",
    "*",
    "->",
    " -> ",
    "=>",
    ",",
    " , ",
    " ",
    "\t",
    "\n",
    "\n",
    "\r\n",
    "#",
    "tcp ",
    " udp 53",
    "22",
    "-",
    "8-9",
    " icmp",
    " proto 47",
    " ethertype 0x88cc",
    " other",
    "\u{202e}",
    "\u{e4}",
];

/// That a text is read or refused, and that each fault stands in it, in order.
fn check_places(text: &[u8]) -> Result<(), TestCaseError> {
    let Err(faults) = Rules::parse(text) else {
        prop_assert!(Rules::check(text, &Known::default()).is_ok());
        return Ok(());
    };
    prop_assert!(!faults.is_empty());
    prop_assert!(faults.is_sorted_by_key(|fault| (fault.line, fault.column)));
    let text = String::from_utf8_lossy(text);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<_> = text.split('\n').collect();
    for fault in &faults {
        let line = lines.get(fault.line - 1).ok_or_else(|| TestCaseError::fail(format!("{fault:?}")))?;
        let rest: String = line.chars().skip(fault.column - 1).collect();
        prop_assert!(rest.starts_with(&fault.word), "{:?} in {:?}", fault, line);
        prop_assert!(fault.column <= line.chars().count() + 1);
        prop_assert!(!fault.to_string().contains('\n'));
    }
    Ok(())
}
