//! Replaces what tells who somebody is by names that tell nothing: the same one for the same thing, within one archive.
//!
//! | what | becomes |
//! |---|---|
//! | an IP address | `private4-s1-n2-h3`: its kind, and numbers for its /16, its /24 and itself (IPv6: /48, /64), so that what lies together still does |
//! | an address of the network itself | the same with `overlay4` or `overlay6` |
//! | an Ethernet address | `mac-1` |
//! | a key or an id, whole or its start; a hash | `key-1` |
//! | a ticket | `ticket-1` |
//! | a name that is known ([`Pseudonyms::name`]) or looks like that of a host | `name-1`, `host-1`; one that is an ordinary word only where names stand |
//! | a path that a person chose: known ([`Pseudonyms::path`]), or where machines have none of their own | `/path-1` |
//! | an interface that somebody gave a name, or that has its Ethernet address for one | `interface-1` |
//!
//! Addresses that are the same everywhere (loopback, unspecified, multicast, broadcast) stay. Ports and prefix lengths stay.
//!
//! A pseudonym is never of the form of what it stands for, so that none can be taken for somebody else's. Numbers are given in the order of
//! appearance and tell nothing.

use crate::daemon::state_dir;
use crate::net::Cidr;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::path::Path;

/// As many characters of letters and digits in a row are a key, a hash or part of one: 24 bytes in base64, 15 in hexadecimal.
const KEY: usize = 32;
/// The shortest start of an id that is shown anywhere.
const SHORT_KEY: usize = shadowmesh_proto::ids::SHORT_ID_CHARS;
/// Endings of files, and other words with a dot that are no names of hosts.
const ENDINGS: [&str; 15] = [
    "toml", "log", "key", "sock", "conf", "service", "rs", "json", "txt", "lock", "slice", "scope", "gz",
    "x86_64", "aarch64",
];
/// Settings of the kernel look like names of hosts (sysctl.d(5)).
const SETTINGS: [&str; 5] = ["net.ipv4.", "net.ipv6.", "net.core.", "net.bridge.", "net.netfilter."];
/// Fields of our documents in which names stand, and nothing else.
const NAMES: [&str; 3] = ["name", "tags", "with"];
/// Where people have files of their own: what is below tells who they are (file-hierarchy(7)).
const HOMES: [&str; 3] = ["/home/", "/Users/", "/run/user/"];
/// Where the machine has its own, which are called the same on most.
const SYSTEM: [&str; 12] =
    ["bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "usr", "var"];
/// Where files of ours are by default, which tells nothing.
const OURS: [&str; 3] = [state_dir::DEFAULT, "/run/shadowmesh", "/etc/shadowmesh/rules"];
/// What the kernel, systemd and programs that everybody has call interfaces, before a number.
const USUAL: [&str; 25] = [
    "lo",
    "eth",
    "wlan",
    "wwan",
    "br",
    "docker",
    "veth",
    "virbr",
    "wg",
    "tun",
    "tap",
    "smesh",
    "bond",
    "team",
    "dummy",
    "ppp",
    "lxcbr",
    "tailscale",
    "usb",
    "ifb",
    "sit",
    "gre",
    "gretap",
    "erspan",
    "tunl",
];

/// What stands for what.
#[derive(Debug, Default)]
pub(super) struct Pseudonyms {
    /// Ranges of the network itself.
    overlay: Vec<Cidr>,
    /// Names, by which pseudonym.
    names: BTreeMap<String, String>,
    /// Words of which our own sentences are made.
    ordinary: BTreeSet<String>,
    /// Names that are one of those, by which pseudonym: replaced where nothing but a name can stand.
    common: BTreeMap<String, String>,
    /// Texts that are more than a word, the longest first, by which pseudonym.
    phrases: Vec<(String, String)>,
    numbers: BTreeMap<(&'static str, String), usize>,
    /// How many were given, by kind.
    given: BTreeMap<&'static str, usize>,
    keys: Vec<String>,
}

impl Pseudonyms {
    /// Where these words, in lower case, are of every text and name nobody.
    pub(super) fn among(ordinary: BTreeSet<String>) -> Self {
        Self { ordinary, ..Self::default() }
    }

    /// This is a range of the network itself.
    pub(super) fn overlay(&mut self, range: Cidr) {
        self.overlay.push(range.network());
    }

    /// This is somebody's name, wherever it stands as a word of its own.
    pub(super) fn name(&mut self, name: &str) {
        self.remember("name", name);
        // A word is found as one; anything else has to be looked for.
        if !name.chars().all(is_of_word) && name.chars().any(char::is_alphanumeric) {
            let pseudonym = self.numbered("name", &name.to_lowercase());
            self.phrase(name, pseudonym);
        }
    }

    /// This is the name of a host, if it is no number.
    pub(super) fn host(&mut self, host: &str) {
        if host.parse::<IpAddr>().is_err() {
            self.remember("host", host);
        }
    }

    /// This is an interface of somebody's machine.
    pub(super) fn interface(&mut self, name: &str) {
        if !is_usual_interface(name) {
            self.remember("interface", name);
        }
    }

    /// This is where somebody has a file.
    pub(super) fn path(&mut self, path: &Path) {
        if path.is_absolute() && path.parent().is_some() && !OURS.iter().any(|ours| path.starts_with(ours)) {
            let path = path.display().to_string();
            let pseudonym = format!("/{}", self.numbered("path", &path));
            self.phrase(&path, pseudonym);
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
        let is_common = self.ordinary.contains(&name);
        let known = if is_common { &self.common } else { &self.names };
        if !name.is_empty() && !known.contains_key(&name) {
            let pseudonym = self.numbered(kind, &name);
            let known = if is_common { &mut self.common } else { &mut self.names };
            known.insert(name, pseudonym);
        }
    }

    /// This text, as it stands and as it stands between quotation marks.
    pub(super) fn phrase(&mut self, text: &str, pseudonym: String) {
        let quoted = format!("{text:?}");
        for text in [text, quoted.trim_matches('"')] {
            if !self.phrases.iter().any(|(known, _)| known == text) {
                self.phrases.push((text.to_owned(), pseudonym.clone()));
            }
        }
        self.phrases.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    fn number(&mut self, kind: &'static str, of: &str) -> usize {
        let next = self.given.get(kind).copied().unwrap_or(0) + 1;
        let number = *self.numbers.entry((kind, of.to_owned())).or_insert(next);
        if number == next {
            self.given.insert(kind, next);
        }
        number
    }

    /// The pseudonym of something of a kind, the same for the same.
    pub(super) fn numbered(&mut self, kind: &'static str, of: &str) -> String {
        format!("{kind}-{}", self.number(kind, of))
    }

    /// A text with everything replaced.
    pub(super) fn text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (known, pseudonym) in &self.phrases {
            if text.contains(known) {
                text = text.replace(known, pseudonym);
            }
        }
        let text = self.paths(&text);
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
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
        self.field("", value)
    }

    /// The same of what a field of this name has.
    fn field(&mut self, field: &str, value: &serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(text) if NAMES.contains(&field) => match self.common.get(&text.to_lowercase()) {
                Some(known) => Value::String(known.clone()),
                None => Value::String(self.text(text)),
            },
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => Value::Array(items.iter().map(|item| self.field(field, item)).collect()),
            Value::Object(fields) => Value::Object(
                fields.iter().map(|(name, value)| (name.clone(), self.field(name, value))).collect(),
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    /// A text without paths that people chose.
    fn paths(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = path_in(rest) {
            let (before, path) = rest.split_at(at);
            let is_end = |c: char| c.is_whitespace() || c.is_control() || "\"'`,;()[]{}<>|&".contains(c);
            let (path, behind) = path.split_at(path.find(is_end).unwrap_or(path.len()));
            let named = path.trim_end_matches(['.', ':', '/']);
            out.push_str(before);
            out.push_str(&format!("/{}", self.numbered("path", named)));
            out.push_str(path.get(named.len()..).unwrap_or_default());
            rest = behind;
        }
        out.push_str(rest);
        out
    }

    /// Characters between blanks, brackets, slashes and the like.
    fn run(&mut self, run: &str) -> String {
        // `::` at the end belongs to an address, as in fd00::/64, and a dot may be of a name.
        let mut word = run;
        loop {
            let end = run.get(word.len()..).unwrap_or_default();
            if let Some(known) = self.names.get(&word.to_lowercase()) {
                return format!("{known}{end}");
            }
            if word.ends_with("::")
                && let Ok(address) = word.parse::<Ipv6Addr>()
            {
                return format!("{}{end}", self.ip(IpAddr::V6(address)));
            }
            match word.strip_suffix(['.', ':']) {
                Some(shorter) => word = shorter,
                None => return format!("{}{end}", self.word(word)),
            }
        }
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
        if let Some(mac) = mac(word) {
            let is_everybody = mac == "ff:ff:ff:ff:ff:ff";
            return if is_everybody { word.to_owned() } else { self.numbered("mac", &mac) };
        }
        if has_mac(word) {
            return self.numbered("interface", &word.to_lowercase());
        }
        if word.contains("smr1") || word.contains("smi1") {
            let is_whole = word.len() > 16;
            return if is_whole { self.numbered("ticket", word) } else { word.to_owned() };
        }
        if let Some(id) = self.known_key(word) {
            return self.numbered("key", &id);
        }
        let has_digit = word.contains(|c: char| c.is_ascii_digit());
        if word.len() >= KEY && has_digit && !word.contains(['.', ':']) {
            return self.numbered("key", word);
        }
        // Ranges, and names that are made of an address.
        for separator in ['-', '_'] {
            let parts = || word.split(separator);
            if parts().any(|part| part.parse::<IpAddr>().is_ok() || part.parse::<SocketAddrV4>().is_ok()) {
                let parts: Vec<String> = parts().map(|part| self.word(part)).collect();
                return parts.join(&separator.to_string());
            }
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

/// Where a path begins that a person chose: one into a home, or a whole one that does not begin as the machine's own do.
fn path_in(text: &str) -> Option<usize> {
    let home = HOMES.iter().filter_map(|home| text.find(home)).min();
    let is_before = |c: char| c.is_whitespace() || "\"'`=(<[{,;".contains(c);
    let is_chosen = |at: &usize| {
        let (before, path) = text.split_at(*at);
        let first: &str = path.trim_start_matches('/');
        let first = first.split(|c| !is_of_word(c)).next().unwrap_or_default();
        before.chars().next_back().is_none_or(is_before)
            && path.get(1..).is_some_and(|path| path.starts_with(is_of_word) && !path.starts_with("path-"))
            && !SYSTEM.contains(&first)
    };
    let whole = text.match_indices('/').map(|(at, _)| at).find(is_chosen);
    home.into_iter().chain(whole).min()
}

/// What a name, an address or a key consists of.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | ':' | '-' | '_')
}

/// An Ethernet address, in one of the ways in which they are written. Twelve digits alone are a count.
fn mac(word: &str) -> Option<String> {
    let is_hex = word.len() == 12 && word.chars().all(|c| c.is_ascii_hexdigit());
    if is_hex && word.chars().any(|c| c.is_ascii_alphabetic()) {
        let groups: Vec<&str> = (0..6).filter_map(|group| word.get(2 * group..2 * group + 2)).collect();
        return Some(groups.join(":").to_lowercase());
    }
    let separator = if word.contains(':') { ':' } else { '-' };
    let groups: Vec<&str> = word.split(separator).collect();
    let is_group = |group: &&str| group.len() == 2 && group.chars().all(|c| c.is_ascii_hexdigit());
    (groups.len() == 6 && groups.iter().all(is_group)).then(|| groups.join(":").to_lowercase())
}

/// Whether it is an interface that is called after its Ethernet address (systemd.net-naming-scheme(7)).
fn has_mac(word: &str) -> bool {
    let kinds = ["en", "wl", "ww", "sl", "ib"];
    let rest = kinds.iter().find_map(|kind| word.strip_prefix(kind)?.strip_prefix('x'));
    rest.is_some_and(|mac| mac.len() == 12 && mac.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Whether an interface has a name that very many have.
fn is_usual_interface(name: &str) -> bool {
    let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let is_hex = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit());
    let is_slot = |text: &str| {
        let mut chars = text.chars();
        matches!(chars.next(), Some('o' | 's' | 'P' | 'p'))
            && chars.next().is_some_and(|c| c.is_ascii_digit())
            && chars.all(|c| c.is_ascii_digit() || "fnsdpuic.".contains(c))
    };
    USUAL.iter().any(|usual| name.strip_prefix(usual).is_some_and(is_number))
        || ["en", "wl", "ww"].iter().any(|kind| name.strip_prefix(kind).is_some_and(is_slot))
        // Of containers, by the start of an id.
        || ["br-", "veth"].iter().any(|kind| name.strip_prefix(kind).is_some_and(is_hex))
}

/// Labels with dots between, the last of which begins with a letter, and no file of ours.
fn is_host(word: &str) -> bool {
    let labels: Vec<&str> = word.split('.').collect();
    let is_of_label = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let is_label = |label: &&str| !label.is_empty() && label.chars().all(is_of_label);
    let last = labels.last().copied().unwrap_or_default();
    labels.len() > 1
        && labels.iter().all(is_label)
        && last.chars().count() > 1
        && last.starts_with(char::is_alphabetic)
        && !ENDINGS.contains(&last)
        && !SETTINGS.iter().any(|setting| word.starts_with(setting))
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
    fn addresses_are_found_in_whatever_they_are_written_in() {
        let mut known = Pseudonyms::default();
        assert_eq!(
            known.text("192.0.2.1-192.0.2.9 ip_192.0.2.1"),
            "public4-s1-n1-h1-public4-s1-n1-h2 ip_public4-s1-n1-h1"
        );
        assert_eq!(known.text("on 2001:db8::."), "on public6-s2-n2-h3.");
        assert_eq!(
            known.text("00-11-22-AA-bb-cc is 00:11:22:aa:bb:cc, 001122aabbcc, 123456789012"),
            "mac-1 is mac-1, mac-1, 123456789012"
        );
        assert_eq!(known.text("enx001122aabbcc: wlx001122aabbcc"), "interface-1: interface-2");
        assert_eq!(known.text("box.xn--p1ai my_box.lan1 BOX.XN--P1AI"), "host-1 host-2 host-1");
        assert_eq!(known.text("10-0-0-1.ec2.internal"), "host-3");
    }

    #[test]
    fn names_of_more_than_a_word_are_replaced_as_they_stand() {
        let mut known = Pseudonyms::default();
        known.name("My \"Home\" & Garden");
        known.name("Home");
        known.name("anna.");
        assert_eq!(
            known.text("of My \"Home\" & Garden: \"My \\\"Home\\\" & Garden\"; Home, anna. anna.."),
            "of name-1: \"name-1\"; name-2, name-3 name-3."
        );
    }

    #[test]
    fn paths_that_people_chose_are_replaced_and_ours_stay() {
        let mut known = Pseudonyms::default();
        known.path(Path::new("/data/annas files/state"));
        for ours in ["/", "/var/lib/shadowmesh", "/run/shadowmesh/control.sock"] {
            known.path(Path::new(ours));
        }
        assert_eq!(known.text("'/data/annas files/state/node.key'"), "'/path-1/node.key'");
        assert_eq!(
            known.text("/home/anna/Acme: /var/home/anna/rules. \"/root/x\" --state=/opt/acme and /var/lib/shadowmesh/node.key"),
            "/path-2: /var/path-3. \"/path-4\" --state=/path-5 and /var/lib/shadowmesh/node.key"
        );
    }

    #[test]
    fn interfaces_keep_the_names_that_very_many_have() {
        let mut known = Pseudonyms::default();
        let usual =
            "lo eth0 enp3s0 enp0s31f6 eno1 wlp2s0 wlan0 br0 br-0123456789ab docker0 veth12ab wg0 eth0.5";
        for name in usual.split(' ').chain(["acme-vpn", "enx001122aabbcc", "broffice"]) {
            known.interface(name);
        }
        assert_eq!(known.text(usual), usual);
        assert_eq!(known.text("acme-vpn: 1 broffice: 2"), "interface-1: 1 interface-3: 2");
    }

    #[test]
    fn what_tells_nothing_stays() {
        let mut known = known();
        for text in [
            "Noise_IKhfs+psk0_25519+MLKEM768_ChaChaPoly_BLAKE2s ML-KEM-768",
            "/var/lib/shadowmesh/config.toml 6.18.44-fc-v657 6.8.5-301.fc40.x86_64 12:30:45 2026-01-01T00:00:00.123456Z",
            "127.0.0.1 ::1 0.0.0.0 224.0.0.251 ff02::1 255.255.255.255 direct-udp 0.1.0",
            "sudo shadowmesh up smi1... smr1",
            "ws://127.0.0.1/v1 direct/udp sed -i '2s/^/# /' 3s/mtuu/mtu/ /etc/hosts wlan0/5 / // /dev/net/tun",
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.bridge.bridge-nf-call-iptables=0 net.core.rmem_max=8388608",
        ] {
            assert_eq!(known.text(text), text);
        }
    }
}
