//! Who is named in a daemon's log and may be known nowhere else by now: peers that are gone, a relay of before.
//!
//! The daemon's lines for people ([`crate::cli`], `up`) say names as they are, whatever is in them; those of `tracing` say ids and numbers. So the
//! former are read by the words around a name.

use shadowmesh_proto::ids::SHORT_ID_CHARS;
use shadowmesh_proto::ticket::Address;

/// What stands before a name and what behind it; nothing before is the begin of the line, nothing behind its end.
const NAMED: [(&str, &str); 10] = [
    ("connected to ", " ("),
    ("connected to ", " via "),
    ("lost ", ": "),
    ("", " joined the network"),
    ("revoked ", ": "),
    ("this host is a member of the network now, as ", ""),
    ("this host is called ", " in the network now"),
    ("members have names: NAME, and NAME.", ".internal"),
    ("this node and ", " are bridged to one LAN"),
    ("", " answers as a DHCP server or a router"),
];
/// The same of relays.
const RELAYS: [(&str, &str); 4] = [
    ("connected to relay ", " "),
    ("connected to relay ", ""),
    ("connecting to relay ", ""),
    ("no connection to relay ", ": "),
];
/// What stands before all relays of the network, with commas between, and what may stand behind them.
const ALL_RELAYS: (&str, &str) = ("the relays of the network changed: this host uses ", ", and not ");

/// Who is told of by the id alone.
const SOMEBODY: &str = "another member";
/// As long as the start of an id, and none.
const OURS: &str = "shadowmesh";

/// Whom a log names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// Peers and this host.
    pub(super) peers: Vec<String>,
    /// Hosts of relays.
    pub(super) relays: Vec<String>,
    /// Starts of ids.
    pub(super) keys: Vec<String>,
    /// What the machine was called when the journal took a line.
    pub(super) machines: Vec<String>,
}

impl Named {
    /// By the words around them.
    pub(super) fn of(log: &str) -> Self {
        let mut named = Self::default();
        for line in log.lines() {
            // The journal says before each line when that was, where, and of which process.
            named.keys.extend(ids(line).map(ToOwned::to_owned));
            let line = match line.split_once("]: ") {
                Some((before, said)) => {
                    named.machines.extend(machine(before).map(ToOwned::to_owned));
                    said
                }
                None => line,
            };
            if let Some(relays) = line.strip_prefix(ALL_RELAYS.0) {
                let relays = relays.split(ALL_RELAYS.1).next().unwrap_or_default().split(", ");
                named.relays.extend(relays.map(|relay| host_of(relay).to_owned()));
                continue;
            }
            let by = |words: &[(&str, &str)]| {
                words.iter().find_map(|(before, behind)| between(line, before, behind))
            };
            match by(&RELAYS) {
                Some(relay) => named.relays.push(host_of(relay).to_owned()),
                None => named.peers.extend(by(&NAMED).or_else(|| before_id(line)).map(ToOwned::to_owned)),
            }
        }
        named.peers.retain(|name| !name.is_empty());
        named
    }
}

/// The words that stand so in a line.
fn between<'a>(line: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(before)?;
    if behind.is_empty() { Some(rest) } else { rest.split_once(behind).map(|(name, _)| name) }
}

/// `NAME (ID): …`
fn before_id(line: &str) -> Option<&str> {
    let (name, rest) = line.split_once(" (")?;
    let (id, _) = rest.split_once(')')?;
    (is_id(id) && name != SOMEBODY).then_some(name)
}

/// Starts of ids: words of their length and letters. One that has no digit may be a word, unless it stands where ids do.
fn ids(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| {
        let has = |kind: fn(&u8) -> bool| word.bytes().any(|byte| kind(&byte));
        is_id(word) && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
    });
    let told = ["--allow-dhcp ", " ("].into_iter().flat_map(move |before| line.split(before).skip(1));
    let told = told.filter_map(|behind| {
        let (id, rest) = behind.split_at_checked(SHORT_ID_CHARS)?;
        (is_id(id) && id != OURS && rest.starts_with(['`', ')'])).then_some(id)
    });
    words.chain(told)
}

/// Whether it is as an id is shown.
fn is_id(word: &str) -> bool {
    word.len() == SHORT_ID_CHARS && word.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
}

/// What the machine is called in what the journal says before a line: `TIME MACHINE PROGRAM[PROCESS`. It may have had another name then.
fn machine(before: &str) -> Option<&str> {
    let mut words = before.split(' ');
    let (time, machine, program) = (words.next()?, words.next()?, words.next()?);
    let is_time = time.starts_with(|c: char| c.is_ascii_digit()) && time.contains('T');
    (is_time && program.contains('[') && words.next().is_none()).then_some(machine)
}

/// The host in a relay's address.
pub(super) fn host_of(authority: &str) -> &str {
    let host_port = Address::of(authority).host_port;
    host_port.rsplit_once(':').map_or(host_port, |(host, _)| host).trim_matches(['[', ']'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_by_the_words_around_them() {
        let named = Named::of(
            "connecting to relay tower:8443\nconnected to relay 198.51.100.2:8443 in 3 ms\n\
             2026-01-01T00:00:00+00:00 box shadowmesh[7]: connected to Anna's phone (10.7.3.4) via relay-ws 12 ms\n\
             connected to bob via relay-ws\nlost carol: it left\ndave joined the network\n\
             eve (4k7dqx2mzp): waits for an admin's approval\nthis host is a member of the network now, as frank\n\
             this host is called frank-2 in the network now\n\
             DEBUG path proven kind=direct-udp\nleaving (in a moment) (everything)\n\
             this node and bobs-phone are bridged to one LAN, which makes a loop: unplug one of the two bridges\n\
             carols-nas answers as a DHCP server or a router, which is not let in: `shadowmesh up --allow-dhcp abcdefghij` lets it\n\
             the relays of the network changed: this host uses tower2:8443, [2001:db8::1]:443, and not 2 more\n\
             another member (klmnopqrst) already has this node's address\n\
             DEBUG a peer was introduced peer=zyxwvut234 3333333333 [x]: y\n",
        );
        assert_eq!(
            named.peers,
            ["Anna's phone", "bob", "carol", "dave", "eve", "frank", "frank-2", "bobs-phone", "carols-nas"]
        );
        assert_eq!(named.relays, ["tower", "198.51.100.2", "tower2", "2001:db8::1"]);
        assert_eq!(
            named.keys,
            ["4k7dqx2mzp", "4k7dqx2mzp", "everything", "abcdefghij", "klmnopqrst", "zyxwvut234"]
        );
        assert_eq!(named.machines, ["box"]);
    }
}
