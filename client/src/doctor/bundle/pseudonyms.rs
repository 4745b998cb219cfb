//! Replaces what tells who somebody is by names that tell nothing: the same one for the same thing, within one archive.
//!
//! | what | becomes |
//! |---|---|
//! | an IP address | `private4-s1-n2-h3`: its kind, and numbers for its /16, its /24 and itself (IPv6: /48, /64), so that what lies together still does |
//! | an address of the network itself | the same with `overlay4` or `overlay6` |
//! | an Ethernet address | `mac-1` |
//! | a key or an id, whole or its start; a hash | `key-1` |
//! | a ticket | `ticket-1` |
//! | a name that is known ([`Pseudonyms::name`]) or looks like that of a host | `name-1`, `host-1` |
//!
//! Addresses that are the same everywhere (loopback, unspecified, multicast, broadcast) stay. Ports and prefix lengths stay.
//!
//! A pseudonym is never of the form of what it stands for, so that none can be taken for somebody else's. Numbers are given in the order of
//! appearance and tell nothing.

use crate::net::Cidr;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

/// As many characters of letters and digits in a row are a key, a hash or part of one: 24 bytes in base64, 15 in hexadecimal.
const KEY: usize = 32;
/// The shortest start of an id that is shown anywhere.
const SHORT_KEY: usize = shadowmesh_proto::ids::SHORT_ID_CHARS;
/// Endings of files, and other words with a dot that are no names of hosts.
const ENDINGS: [&str; 12] =
    ["toml", "log", "key", "sock", "conf", "service", "rs", "json", "txt", "lock", "slice", "scope"];

/// What stands for what.
#[derive(Debug, Default)]
pub(super) struct Pseudonyms {
    /// Ranges of the network itself.
    overlay: Vec<Cidr>,
    /// Names, by which pseudonym.
    names: BTreeMap<String, String>,
    numbers: BTreeMap<(&'static str, String), usize>,
    /// How many were given, by kind.
    given: BTreeMap<&'static str, usize>,
    keys: Vec<String>,
}

impl Pseudonyms {
    /// This is a range of the network itself.
    pub(super) fn overlay(&mut self, range: Cidr) {
        self.overlay.push(range.network());
    }

    /// This is somebody's name, wherever it stands as a word of its own.
    pub(super) fn name(&mut self, name: &str) {
        self.remember("name", name);
    }

    /// This is the name of a host, if it is no number.
    pub(super) fn host(&mut self, host: &str) {
        if host.parse::<IpAddr>().is_err() {
            self.remember("host", host);
        }
    }

    /// This is a key's id: its start stands for it as well.
    pub(super) fn key(&mut self, id: &str) {
        if id.len() >= SHORT_KEY && !self.keys.iter().any(|known| known == id) {
            self.keys.push(id.to_owned());
        }
    }

    fn remember(&mut self, kind: &'static str, name: &str) {
        let name = name.to_lowercase();
        if !name.is_empty() && !self.names.contains_key(&name) {
            let pseudonym = self.numbered(kind, &name);
            self.names.insert(name, pseudonym);
        }
    }

    fn number(&mut self, kind: &'static str, of: &str) -> usize {
        let next = self.given.get(kind).copied().unwrap_or(0) + 1;
        let number = *self.numbers.entry((kind, of.to_owned())).or_insert(next);
        if number == next {
            self.given.insert(kind, next);
        }
        number
    }

    fn numbered(&mut self, kind: &'static str, of: &str) -> String {
        format!("{kind}-{}", self.number(kind, of))
    }

    /// A text with everything replaced.
    pub(super) fn text(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let word = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
            let (run, behind) = rest.split_at(word);
            out.push_str(&self.run(run));
            let gap = behind.find(is_of_word).unwrap_or(behind.len());
            out.push_str(behind.get(..gap).unwrap_or_default());
            rest = behind.get(gap..).unwrap_or_default();
        }
        out
    }

    /// A document with every text in it replaced. What fields are called is ours, what maps are keyed by not always.
    pub(super) fn document(&mut self, value: &serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => Value::Array(items.iter().map(|item| self.document(item)).collect()),
            Value::Object(fields) => Value::Object(
                fields.iter().map(|(name, value)| (name.clone(), self.document(value))).collect(),
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    /// Characters between blanks, brackets, slashes and the like.
    fn run(&mut self, run: &str) -> String {
        let word = run.trim_end_matches(['.', ':']);
        let end = run.get(word.len()..).unwrap_or_default();
        // `::` at the end belongs to an address, as in fd00::/64.
        if run.ends_with("::")
            && let Ok(address) = run.parse::<Ipv6Addr>()
        {
            return self.ip(IpAddr::V6(address));
        }
        format!("{}{end}", self.word(word))
    }

    fn word(&mut self, word: &str) -> String {
        if let Some(known) = self.names.get(&word.to_lowercase()) {
            return known.clone();
        }
        if let Ok(address) = word.parse::<IpAddr>() {
            return self.ip(address);
        }
        if let Ok(address) = word.parse::<SocketAddrV4>() {
            return format!("{}:{}", self.ip(IpAddr::V4(*address.ip())), address.port());
        }
        if is_mac(word) {
            let lower = word.to_lowercase();
            return if lower == "ff:ff:ff:ff:ff:ff" { lower } else { self.numbered("mac", &lower) };
        }
        let is_part_of_key =
            |part: &str| part.len() >= KEY && part.chars().filter(char::is_ascii_digit).count() > 0;
        if word.contains("smr1") || word.contains("smi1") {
            let is_whole = word.len() > 16;
            return if is_whole { self.numbered("ticket", word) } else { word.to_owned() };
        }
        if let Some(id) = self.known_key(word) {
            return self.numbered("key", &id);
        }
        if is_part_of_key(word) && !word.contains(['.', ':']) {
            return self.numbered("key", word);
        }
        for separator in [':', '.', '_'] {
            if separator == '.' && is_host(word) {
                return self.numbered("host", &word.to_lowercase());
            }
            if word.contains(separator) {
                let parts: Vec<String> = word.split(separator).map(|part| self.word(part)).collect();
                return parts.join(&separator.to_string());
            }
        }
        word.to_owned()
    }

    /// The whole of an id that begins so.
    fn known_key(&self, word: &str) -> Option<String> {
        let lower = word.to_lowercase();
        let begins = |id: &&String| lower.len() >= SHORT_KEY && id.starts_with(&lower);
        self.keys.iter().find(begins).cloned()
    }

    fn ip(&mut self, address: IpAddr) -> String {
        let Some(class) = class(address) else { return address.to_string() };
        let is_overlay = self.overlay.iter().any(|range| range.contains(address));
        let (class, prefixes) = match address {
            IpAddr::V4(_) => (if is_overlay { "overlay4" } else { class }, [16, 24, 32]),
            IpAddr::V6(_) => (if is_overlay { "overlay6" } else { class }, [48, 64, 128]),
        };
        let mut text = class.to_owned();
        for (kind, letter, prefix) in
            [("site", 's', prefixes[0]), ("net", 'n', prefixes[1]), ("ip", 'h', prefixes[2])]
        {
            let network = Cidr::new(address, prefix)
                .map_or_else(|_| address.to_string(), |cidr| cidr.network().to_string());
            text += &format!("-{letter}{}", self.number(kind, &network));
        }
        text
    }
}

/// What a name, an address or a key consists of.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | ':' | '-' | '_')
}

fn is_mac(word: &str) -> bool {
    let groups: Vec<&str> = word.split(':').collect();
    groups.len() == 6
        && groups.iter().all(|group| group.len() == 2 && group.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Labels with dots between, the last of letters, and no file of ours.
fn is_host(word: &str) -> bool {
    let labels: Vec<&str> = word.split('.').collect();
    let is_label = |label: &&str| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-');
    let last = labels.last().copied().unwrap_or_default();
    labels.len() > 1
        && labels.iter().all(is_label)
        && last.len() > 1
        && last.chars().all(char::is_alphabetic)
        && !ENDINGS.contains(&last)
}

/// The kind of an address; `None` for those that are the same everywhere.
fn class(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(ip) => class4(ip),
        IpAddr::V6(ip) => class6(ip),
    }
}

fn class4(ip: Ipv4Addr) -> Option<&'static str> {
    let is_shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
    let is_same_everywhere =
        ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast();
    (!is_same_everywhere).then_some(match ip {
        ip if ip.is_private() => "private4",
        ip if ip.is_link_local() => "link4",
        _ if is_shared => "carrier4",
        _ => "public4",
    })
}

fn class6(ip: Ipv6Addr) -> Option<&'static str> {
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return class4(mapped);
    }
    // A group that is made of an address would tell it (RFC 4291 §2.7.1).
    let is_solicited = ip.segments()[0] == 0xff02 && ip.segments()[6] >> 8 == 0xff;
    let is_same_everywhere = ip.is_loopback() || ip.is_unspecified() || (ip.is_multicast() && !is_solicited);
    (!is_same_everywhere).then_some(match ip {
        ip if ip.is_unique_local() => "private6",
        ip if ip.is_unicast_link_local() => "link6",
        ip if ip.is_multicast() => "group6",
        _ => "public6",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Pseudonyms {
        let mut known = Pseudonyms::default();
        known.overlay("10.7.3.4/16".parse().expect("a range"));
        known.name("anna-laptop");
        known.key(&"4k7dqx2mzp".repeat(5));
        known.host("relay.example");
        known
    }

    #[test]
    fn the_same_is_the_same_and_what_lies_together_still_does() {
        let mut known = known();
        assert_eq!(
            known.text("192.168.1.2:41641 [2001:db8::1]:5 192.168.1.9/24 10.7.9.9 192.168.2.1, 192.168.1.2."),
            "private4-s1-n1-h1:41641 [public6-s2-n2-h2]:5 private4-s1-n1-h3/24 overlay4-s3-n3-h4 private4-s1-n4-h5, \
             private4-s1-n1-h1."
        );
        assert_eq!(known.text("fd00::/64 fe80::1%eth0"), "private6-s4-n5-h6/64 link6-s5-n6-h7%eth0");
    }

    #[test]
    fn names_keys_and_tickets_are_replaced_wherever_they_stand() {
        let mut known = known();
        let whole = "4k7dqx2mzp".repeat(5);
        assert_eq!(known.text("Anna-Laptop (4k7dqx2mzp): connected"), "name-1 (key-1): connected");
        assert_eq!(known.text(&format!("id={whole}")), "id=key-1");
        assert_eq!(known.text("ws://relay.example:8443/v1, other.host.net"), "ws://host-1:8443/v1, host-2");
        let ticket = format!("smr1{}", "Ab3_-".repeat(30));
        assert_eq!(known.text(&format!("relays = [\"{ticket}\"]")), "relays = [\"ticket-1\"]");
        assert_eq!(known.text("02:00:5E:00:00:01 ff:ff:ff:ff:ff:ff"), "mac-1 ff:ff:ff:ff:ff:ff");
        assert_eq!(known.text(&"0f".repeat(32)), "key-2");
        assert_eq!(known.text("anna-laptop.lan and 01:02:anna-laptop"), "host-3 and 01:02:name-1");
    }

    #[test]
    fn what_tells_nothing_stays() {
        let mut known = known();
        for text in [
            "Noise_IKhfs+psk0_25519+MLKEM768_ChaChaPoly_BLAKE2s ML-KEM-768",
            "/var/lib/shadowmesh/config.toml 6.18.44-fc-v657 12:30:45 2026-01-01T00:00:00.123456Z",
            "127.0.0.1 ::1 0.0.0.0 224.0.0.251 ff02::1 255.255.255.255 direct-udp 0.1.0",
            "sudo shadowmesh up smi1... smr1",
        ] {
            assert_eq!(known.text(text), text);
        }
    }
}
