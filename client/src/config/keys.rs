//! The keys of `config.toml`. Each is described here and nowhere else.
//!
//! From this table come the commented example and the text that `up` writes ([`super::Config::to_toml`]), the keys that are known and the one
//! that was probably meant, what is said of a value of the wrong kind, and what `reload` says of a change.
//!
//! # Invariants
//!
//! - A key that is not described here cannot be read, written or compared: everything that is done for each key is a `match` without a rest.
//! - What [`Counts`] says is what the daemon does: a test changes each key and looks.

use toml::de::DeValue;

/// What a value is in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text in quotes.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
    /// Texts in square brackets.
    List,
}

impl Kind {
    /// Whether a value is of this kind. What is in a list is looked at later.
    pub(super) fn fits(self, value: &DeValue<'_>) -> bool {
        match self {
            Self::Text => value.is_str(),
            Self::Number => value.is_integer(),
            Self::Switch => value.is_bool(),
            Self::List => value.is_array(),
        }
    }

    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Text => "text in quotes",
            Self::Number => "a whole number",
            Self::Switch => "true or false",
            Self::List => "a list of texts",
        }
    }
}

/// From when on a change of a key counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// As soon as `reload` or SIGHUP reads it.
    AtOnce,
    /// The same, for these, which begin after that.
    From(&'static str),
    /// From the next start on, for this reason.
    NextStart(&'static str),
}

/// What people are told of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// As it is written.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What it does: sentences.
    pub what: &'static str,
    /// Which values there are, with their unit.
    pub values: &'static str,
    /// What holds where nobody chose, in words.
    pub default: &'static str,
    /// A value as it is written in TOML: the default where that is one.
    pub example: &'static str,
    /// From when on a change counts.
    pub counts: Counts,
}

/// Makes the enum of the keys and their table of one list.
macro_rules! keys {
    ($($key:ident { $($field:ident: $value:expr,)* })*) => {
        /// A key of `config.toml`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Key {
            $(#[doc = concat!("See [`Self::about`] for ", stringify!($key), ".")] $key,)*
        }

        impl Key {
            /// All of them, in the order in which they are written.
            pub const ALL: &[Self] = &[$(Self::$key,)*];

            /// What there is to say of it.
            pub const fn about(self) -> &'static About {
                match self {
                    $(Self::$key => &About { $($field: $value,)* },)*
                }
            }
        }
    };
}

keys! {
    Relays {
        name: "relays",
        kind: Kind::List,
        what: "Relays beside those that came with the network.",
        values: "tickets, as `shadowmesh-relay ticket` prints them",
        default: "none",
        example: "[\"smr1...\"]",
        counts: Counts::AtOnce,
    }
    Proxy {
        name: "proxy",
        kind: Kind::Text,
        what: "HTTP proxy by which the relays are reached (CONNECT), for networks that let nothing else out. Direct links are tried past it.",
        values: "http://HOST:PORT or http://USER:PASSWORD@HOST:PORT; or none, whatever the environment says",
        default: "none, or what HTTPS_PROXY, ALL_PROXY and NO_PROXY say",
        example: "\"none\"",
        counts: Counts::NextStart("connections to relays are set up at the start"),
    }
    Name {
        name: "name",
        kind: Kind::Text,
        what: "What this node calls itself. In a network with certificates members are called what their certificates say: `shadowmesh rename` \
               changes that.",
        values: "1 to 63 of a-z, 0-9 and -",
        default: "the host's name",
        example: "\"attic\"",
        counts: Counts::AtOnce,
    }
    Device {
        name: "device",
        kind: Kind::Text,
        what: "Name of the TAP device.",
        values: "1 to 15 of A-Z, a-z, 0-9, and the characters - . _",
        default: "smesh0",
        example: "\"smesh0\"",
        counts: Counts::NextStart("the device is made at the start"),
    }
    Mtu {
        name: "mtu",
        kind: Kind::Number,
        what: "MTU of the TAP device.",
        values: "1280 to 9000, bytes",
        default: "1400, and 1500 in a bridge",
        example: "1400",
        counts: Counts::NextStart("the device is made with it, and members were told it"),
    }
    Queues {
        name: "queues",
        kind: Kind::Number,
        what: "Queues of the TAP device, each read by a thread of its own, on machines with cores to spare.",
        values: "1 to 8",
        default: "1",
        example: "1",
        counts: Counts::NextStart("the device is made with them"),
    }
    Bridge {
        name: "bridge",
        kind: Kind::Text,
        what: "Bridge of this host that the device is put into, which joins the LAN behind it to the network.",
        values: "the name of a bridge, or none",
        default: "none",
        example: "\"none\"",
        counts: Counts::NextStart("the device is put into it at the start"),
    }
    Address {
        name: "address",
        kind: Kind::Text,
        what: "IPv4 address of this node. In a network with certificates one that the invite gives.",
        values: "ADDRESS/BITS with 8 to 30 bits",
        default: "what the network gives, else one that follows from the key",
        example: "\"10.7.3.4/16\"",
        counts: Counts::NextStart("whether this machine has its range elsewhere is looked at at the start"),
    }
    Cipher {
        name: "cipher",
        kind: Kind::Text,
        what: "Cipher of the data. auto takes AES where both ends have instructions for it.",
        values: "auto, aes or chacha",
        default: "auto",
        example: "\"auto\"",
        counts: Counts::From("sessions"),
    }
    PortMapping {
        name: "port_mapping",
        kind: Kind::Switch,
        what: "Whether the router is asked to forward a port (PCP, NAT-PMP, UPnP).",
        values: "true or false",
        default: "true",
        example: "true",
        counts: Counts::AtOnce,
    }
    Filter {
        name: "filter",
        kind: Kind::Text,
        what: "Which protocols of members are kept out.",
        values: "all, none, or some of bpdu, lldp, cdp, dhcp and ra with commas between",
        default: "all",
        example: "\"all\"",
        counts: Counts::AtOnce,
    }
    AllowDhcp {
        name: "allow_dhcp",
        kind: Kind::Text,
        what: "Whose DHCP answers and router advertisements are let in nevertheless, and whose questions about multicast groups count.",
        values: "any, none, or ids with commas between",
        default: "none",
        example: "\"none\"",
        counts: Counts::AtOnce,
    }
    FloodBudget {
        name: "flood_budget",
        kind: Kind::Text,
        what: "How much broadcast, multicast and frames for unknown stations go to each peer, and are taken of each.",
        values: "64kbit to 10gbit a second, or none for no limit",
        default: "1mbit",
        example: "\"1mbit\"",
        counts: Counts::AtOnce,
    }
    Rules {
        name: "rules",
        kind: Kind::Text,
        what: "File with access rules: who may send what to this node. `reload` reads it again as well.",
        values: "a whole path",
        default: "none, or those of the network's record; without any, everything is let in",
        example: "\"/etc/shadowmesh/rules\"",
        counts: Counts::AtOnce,
    }
    Names {
        name: "names",
        kind: Kind::Text,
        what: "Whether `ping b` and `ssh b.NETWORK.internal` work on this host. on takes systemd-resolved where programs ask it, else a block in \
               /etc/hosts; hosts takes the block in any case.",
        values: "off, on or hosts",
        default: "off",
        example: "\"off\"",
        counts: Counts::AtOnce,
    }
    Sessions {
        name: "sessions",
        kind: Kind::Text,
        what: "Which sessions with other members are kept though nobody uses them. on-demand keeps a handful for news of members, and the first \
               frame begins another, through the relay; auto keeps all of up to 32 members, and at an admin's host however many.",
        values: "auto, all or on-demand",
        default: "auto",
        example: "\"auto\"",
        counts: Counts::AtOnce,
    }
    IdleAfter {
        name: "idle_after",
        kind: Kind::Text,
        what: "How long a session that is not kept may be of no use before it ends.",
        values: "2s to 24h",
        default: "5m",
        example: "\"5m\"",
        counts: Counts::AtOnce,
    }
    RekeyInterval {
        name: "rekey_interval",
        kind: Kind::Text,
        what: "How often session keys are replaced. Shorter than 120s is meant for tests.",
        values: "2s to 120s",
        default: "120s",
        example: "\"120s\"",
        counts: Counts::From("sessions"),
    }
}

impl Key {
    /// The one that is written so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.about().name == name)
    }

    /// As they are written.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|key| key.about().name)
    }
}

impl About {
    /// What it does, its values and its default, for a comment: lines without their `#`.
    pub(super) fn comment(&self) -> Vec<String> {
        let counts = match self.counts {
            Counts::AtOnce => "A change counts with `reload`.".to_owned(),
            Counts::From(what) => format!("A change counts with `reload`, for {what} that begin after it."),
            Counts::NextStart(_) => "A change counts from the next start on.".to_owned(),
        };
        let mut lines = wrapped(self.what);
        lines.extend(wrapped(&format!("Values: {}. Default: {}. {counts}", self.values, self.default)));
        lines
    }

    /// What its value has to be, for people.
    pub(super) fn expected(&self) -> String {
        let Self { name, kind, values, example, .. } = self;
        let values = if *kind == Kind::Switch { String::new() } else { format!(": {values}") };
        format!("`{name}` is {}{values}; such as {name} = {example}", kind.words())
    }
}

/// Characters of a line of comment: it fits a terminal of 120 with its `#`.
const WIDTH: usize = 116;

fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_key_is_described_once_and_in_full() {
        let names: HashSet<_> = Key::names().collect();
        assert_eq!(names.len(), Key::ALL.len());
        for key in Key::ALL {
            let About { name, what, values, default, example, counts, .. } = key.about();
            assert_eq!(Key::named(name), Some(*key));
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(what.ends_with('.') && !values.is_empty() && !default.is_empty(), "{name}");
            assert!(!example.is_empty() && !example.contains('\n'), "{name}");
            match counts {
                Counts::AtOnce => {}
                Counts::From(words) | Counts::NextStart(words) => assert!(!words.is_empty(), "{name}"),
            }
            for line in key.about().comment() {
                assert!(line.len() <= WIDTH, "{name}: {line}");
            }
        }
        assert_eq!(Key::named("mtuu"), None);
    }

    #[test]
    fn words_are_not_cut_and_a_long_one_has_a_line_of_its_own() {
        let long = "x".repeat(200);
        assert_eq!(wrapped(&format!("a b {long} c")), ["a b", &long, "c"]);
        assert!(wrapped("").is_empty());
    }
}
