//! Who is named in a daemon's log and may be known nowhere else by now: peers that are gone, a relay of before.
//!
//! The daemon's lines for people ([`crate::cli`], `up`) say names as they are, whatever is in them; those of `tracing` say ids and numbers. So the
//! former are read by the words around a name.

use shadowmesh_proto::ids::SHORT_ID_CHARS;

/// What stands before a name and what behind it; nothing before is the begin of the line, nothing behind its end.
const NAMED: [(&str, &str); 7] = [
    ("connected to ", " ("),
    ("connected to ", " via "),
    ("lost ", ": "),
    ("", " joined the network"),
    ("revoked ", ": "),
    ("this host is a member of the network now, as ", ""),
    ("members have names: NAME, and NAME.", ".internal"),
];
/// The same of relays.
const RELAYS: [(&str, &str); 4] = [
    ("connected to relay ", " "),
    ("connected to relay ", ""),
    ("connecting to relay ", ""),
    ("no connection to relay ", ": "),
];

/// Whom a log names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// Peers and this host.
    pub(super) peers: Vec<String>,
    /// Hosts of relays.
    pub(super) relays: Vec<String>,
}

impl Named {
    /// By the words around them.
    pub(super) fn of(log: &str) -> Self {
        let mut named = Self::default();
        for line in log.lines() {
            // The journal says before each line when that was, where, and of which process.
            let line = line.split_once("]: ").map_or(line, |(_, said)| said);
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
    let is_id = id.len() == SHORT_ID_CHARS && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
    is_id.then_some(name)
}

/// The host in a `host:port`.
pub(super) fn host_of(authority: &str) -> &str {
    authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']'])
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
             DEBUG path proven kind=direct-udp\nleaving (in a moment)\n",
        );
        assert_eq!(named.peers, ["Anna's phone", "bob", "carol", "dave", "eve", "frank"]);
        assert_eq!(named.relays, ["tower", "198.51.100.2"]);
    }
}
