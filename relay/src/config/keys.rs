//! The keys of the relay's file of settings. Each is described here and nowhere else.
//!
//! From this table come the commented example, the keys that are known and the one that was probably meant, what is said of a value that does
//! not fit, and what a reload says of a change.
//!
//! Invariant: a key that is not described here cannot be read or shown: what is done for each key is a `match` without a rest.

use toml::de::DeValue;

/// The table of the file that limits stand in.
pub(super) const LIMITS: &str = "limits";

/// What a value is in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text in quotes.
    Text,
    /// A time in quotes, such as "15s".
    Time,
    /// A whole number.
    Number,
    /// A number.
    Rate,
    /// `true` or `false`.
    Switch,
    /// Texts in square brackets.
    List,
}

impl Kind {
    /// Whether a value is of this kind. What is in a list is looked at later.
    pub(super) fn fits(self, value: &DeValue<'_>) -> bool {
        match self {
            Self::Text | Self::Time => value.is_str(),
            Self::Number => value.is_integer(),
            Self::Rate => value.is_integer() || value.is_float(),
            Self::Switch => value.is_bool(),
            Self::List => value.is_array(),
        }
    }

    /// For people.
    const fn words(self) -> &'static str {
        match self {
            Self::Text => "text in quotes",
            Self::Time => "a time in quotes",
            Self::Number => "a whole number",
            Self::Rate => "a number",
            Self::Switch => "true or false",
            Self::List => "a list of texts",
        }
    }
}

/// From when on a change of a key counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// As soon as the file is read again.
    AtOnce,
    /// The same, for these.
    For(&'static str),
    /// From the next start on, for this reason.
    NextStart(&'static str),
}

/// What people are told of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct About {
    /// The table that it stands in; empty for the file itself.
    pub(crate) table: &'static str,
    /// As it is written there.
    pub(crate) name: &'static str,
    kind: Kind,
    /// What it does: sentences.
    what: &'static str,
    /// Which values there are, with their unit.
    values: &'static str,
    /// What holds where nobody chose, in words.
    default: &'static str,
    /// A value as it is written in TOML: the default where that is one.
    example: &'static str,
    /// From when on a change counts.
    pub(crate) counts: Counts,
}

/// Makes the enum of the keys and their table of one list.
macro_rules! keys {
    ($($key:ident { $($field:ident: $value:expr,)* })*) => {
        /// A key of the file.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Key {
            $($key,)*
        }

        impl Key {
            /// All of them, in the order in which they are written.
            pub(crate) const ALL: &[Self] = &[$(Self::$key,)*];

            /// What there is to say of it.
            pub(crate) const fn about(self) -> &'static About {
                match self {
                    $(Self::$key => &About { $($field: $value,)* },)*
                }
            }
        }
    };
}

const AT_START: Counts = Counts::NextStart("sockets are opened at the start");
const CONNECTIONS: Counts = Counts::For("connections that begin after it");
const PAIRS: Counts = Counts::For("pairs that are introduced after it");
const ADDRESSES: Counts = Counts::For("addresses that had no connection of late");

keys! {
    Listen {
        table: "",
        name: "listen",
        kind: Kind::List,
        what: "Where it listens, TCP and UDP. Ports below 1024 are allowed to the service.",
        values: "at least one of ADDRESS:PORT, an IPv6 address in square brackets",
        default: "[::]:8443, which takes both families",
        example: "[\"[::]:8443\"]",
        counts: AT_START,
    }
    Public {
        table: "",
        name: "public",
        kind: Kind::Text,
        what: "What the ticket names: how everybody reaches this host. With auto the relay looks for it.",
        values: "HOST or HOST:PORT, without a port those of listen; wss:// before it where a proxy adds TLS; or auto",
        default: "what was given last, else auto",
        example: "\"auto\"",
        counts: Counts::NextStart("the ticket is made at the start"),
    }
    TlsCert {
        table: "",
        name: "tls_cert",
        kind: Kind::Text,
        what: "Certificate for wss://, on the ports of ws:// as well, with its chain; PEM. Read again when it changes.",
        values: "the path of a file; tls_key goes with it",
        default: "no TLS",
        example: "\"/etc/shadowmesh/tls/fullchain.pem\"",
        counts: AT_START,
    }
    TlsPrivate {
        table: "",
        name: "tls_key",
        kind: Kind::Text,
        what: "Its key, PEM, which the relay's user can read.",
        values: "the path of a file; tls_cert goes with it",
        default: "no TLS",
        example: "\"/etc/shadowmesh/tls/privkey.pem\"",
        counts: AT_START,
    }
    AcmeDomains {
        table: "",
        name: "acme_domains",
        kind: Kind::List,
        what: "Names for which it gets a certificate by itself (ACME), and renews it; that agrees to the authority's terms.",
        values: "names that lead here, on port 443 too; in the place of tls_cert",
        default: "none",
        example: "[\"relay.example.org\"]",
        counts: AT_START,
    }
    AcmeEmail {
        table: "",
        name: "acme_email",
        kind: Kind::Text,
        what: "Whom the authority may write to.",
        values: "an address of e-mail",
        default: "nobody",
        example: "\"you@example.org\"",
        counts: AT_START,
    }
    AcmeDirectory {
        table: "",
        name: "acme_directory",
        kind: Kind::Text,
        what: "Which authority.",
        values: "the https URL of its directory",
        default: "Let's Encrypt",
        example: "\"https://acme-v02.api.letsencrypt.org/directory\"",
        counts: AT_START,
    }
    AcmeCa {
        table: "",
        name: "acme_ca",
        kind: Kind::Text,
        what: "Root certificates, PEM, that the authority's own leads to, where it is one's own.",
        values: "the path of a file",
        default: "the public roots",
        example: "\"/etc/shadowmesh/tls/ca.pem\"",
        counts: AT_START,
    }
    StunAlt {
        table: "",
        name: "stun_alt",
        kind: Kind::Number,
        what: "The second STUN port, by which a client tells what router it is behind.",
        values: "1 to 65535",
        default: "the port after the first that it listens on",
        example: "8444",
        counts: AT_START,
    }
    Heartbeat {
        table: "",
        name: "heartbeat",
        kind: Kind::Time,
        what: "How often a client is heard that has nothing to say.",
        values: "1s to 60s",
        default: "15s",
        example: "\"15s\"",
        counts: CONNECTIONS,
    }
    Rotation {
        table: "",
        name: "rotation",
        kind: Kind::Time,
        what: "How often pairs replace their keys, unless theirs is shorter.",
        values: "2s to 120s",
        default: "120s",
        example: "\"120s\"",
        counts: PAIRS,
    }
    Mtu {
        table: "",
        name: "mtu",
        kind: Kind::Number,
        what: "Largest packet between a pair.",
        values: "1280 to 9000, bytes",
        default: "1500",
        example: "1500",
        counts: PAIRS,
    }
    Direct {
        table: "",
        name: "direct",
        kind: Kind::Switch,
        what: "Whether pairs may try a direct link.",
        values: "true or false",
        default: "true",
        example: "true",
        counts: PAIRS,
    }
    HandshakeTimeout {
        table: "",
        name: "handshake_timeout",
        kind: Kind::Time,
        what: "How long a handshake and the registration may take together.",
        values: "1s to 60s",
        default: "10s",
        example: "\"10s\"",
        counts: CONNECTIONS,
    }
    WriteTimeout {
        table: "",
        name: "write_timeout",
        kind: Kind::Time,
        what: "How long a client for which something waits may take nothing.",
        values: "1s to 10m",
        default: "10s",
        example: "\"10s\"",
        counts: CONNECTIONS,
    }
    TrustedProxies {
        table: "",
        name: "trusted_proxies",
        kind: Kind::List,
        what: "Reverse proxies before it that say, always, whose stream it is: PROXY protocol 2, or X-Forwarded-For.",
        values: "addresses, and ranges such as 10.0.0.0/8; everybody else's word is passed over",
        default: "none",
        example: "[\"127.0.0.1\", \"::1\"]",
        counts: CONNECTIONS,
    }
    Connections {
        table: LIMITS,
        name: "connections",
        kind: Kind::Number,
        what: "Connections at once.",
        values: "at least 1; no more than there are descriptors (LimitNOFILE=)",
        default: "16384",
        example: "16384",
        counts: Counts::AtOnce,
    }
    ConnectionsPerAddress {
        table: LIMITS,
        name: "connections_per_address",
        kind: Kind::Number,
        what: "Connections of one address at once; of an IPv6 network of 64 bits.",
        values: "at least 1",
        default: "1024",
        example: "1024",
        counts: Counts::AtOnce,
    }
    MembersPerNetwork {
        table: LIMITS,
        name: "members_per_network",
        kind: Kind::Number,
        what: "Members of one network at once.",
        values: "at least 1",
        default: "512",
        example: "512",
        counts: Counts::AtOnce,
    }
    ConnectsPerSecond {
        table: LIMITS,
        name: "connects_per_second",
        kind: Kind::Rate,
        what: "New connections of one address, in the long run.",
        values: "above 0, a second",
        default: "50.0",
        example: "50.0",
        counts: ADDRESSES,
    }
    ConnectsBurst {
        table: LIMITS,
        name: "connects_burst",
        kind: Kind::Rate,
        what: "New connections of one address, in one go.",
        values: "above 0",
        default: "512.0",
        example: "512.0",
        counts: ADDRESSES,
    }
    ControlPerSecond {
        table: LIMITS,
        name: "control_per_second",
        kind: Kind::Rate,
        what: "Control messages of one client, in the long run.",
        values: "above 0, a second",
        default: "100.0",
        example: "100.0",
        counts: CONNECTIONS,
    }
    ControlBurst {
        table: LIMITS,
        name: "control_burst",
        kind: Kind::Rate,
        what: "Control messages of one client, in one go.",
        values: "above 0",
        default: "2048.0",
        example: "2048.0",
        counts: CONNECTIONS,
    }
    BytesPerSecond {
        table: LIMITS,
        name: "bytes_per_second",
        kind: Kind::Rate,
        what: "What is forwarded for one client.",
        values: "above 0, bytes a second",
        default: "no limit",
        example: "12500000",
        counts: CONNECTIONS,
    }
    QueueBytes {
        table: LIMITS,
        name: "queue_bytes",
        kind: Kind::Number,
        what: "What waits for one client.",
        values: "at least 65536, bytes: one message",
        default: "524288",
        example: "524288",
        counts: CONNECTIONS,
    }
    BackPressure {
        table: LIMITS,
        name: "back_pressure",
        kind: Kind::Time,
        what: "How long a sender is held back when that is full.",
        values: "0ms, which is never, to 1s",
        default: "10ms",
        example: "\"10ms\"",
        counts: CONNECTIONS,
    }
}

impl Key {
    /// The one that is written so in this table.
    pub(super) fn named(table: &str, name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| (key.about().table, key.about().name) == (table, name))
    }

    /// What may stand in this table.
    pub(super) fn names(table: &str) -> impl Iterator<Item = &'static str> {
        let is_top = table.is_empty();
        let keys = Self::ALL.iter().map(|key| key.about()).filter(move |about| about.table == table);
        keys.map(|about| about.name).chain(is_top.then_some(LIMITS))
    }
}

impl About {
    /// With its table, for people.
    pub(crate) fn path(&self) -> String {
        match self.table {
            "" => self.name.to_owned(),
            table => format!("{table}.{}", self.name),
        }
    }

    /// Whether a value is of its kind.
    pub(super) fn fits(&self, value: &DeValue<'_>) -> bool {
        self.kind.fits(value)
    }

    /// What its value has to be, for people.
    pub(super) fn expected(&self) -> String {
        let Self { name, kind, values, example, .. } = self;
        let values = if *kind == Kind::Switch { String::new() } else { format!(": {values}") };
        format!("`{}` is {}{values}; such as {name} = {example}", self.path(), kind.words())
    }

    /// What is said of it in the example, and the line to be used.
    pub(super) fn explained(&self) -> String {
        let counts = match self.counts {
            Counts::AtOnce => "A change counts with a reload.".to_owned(),
            Counts::For(what) => format!("A change counts with a reload, for {what}."),
            Counts::NextStart(_) => "A change counts from the next start on.".to_owned(),
        };
        let Self { what, values, default, name, example, .. } = self;
        format!("# {what}\n# Values: {values}.\n# Default: {default}. {counts}\n# {name} = {example}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_key_is_described_once_and_in_full() {
        let paths: HashSet<_> = Key::ALL.iter().map(|key| key.about().path()).collect();
        assert_eq!(paths.len(), Key::ALL.len());
        for key in Key::ALL {
            let about = key.about();
            let About { table, name, what, values, default, example, .. } = about;
            assert_eq!(Key::named(table, name), Some(*key));
            assert!(what.ends_with('.') && !values.is_empty() && !default.is_empty(), "{name}");
            assert!(!example.is_empty(), "{name}");
            assert!(about.explained().lines().all(|line| line.len() <= 120), "{name}");
        }
        assert_eq!(Key::named("", "connections"), None);
        assert_eq!(Key::names(LIMITS).count() + Key::names("").count(), Key::ALL.len() + 1);
    }
}
