//! What may be a name: one label of a host name, in lower case.

use std::fmt;

/// What the names of all networks end in.
pub const TOP: &str = "internal";
/// Longest label of a network, bytes: with a member's (63), a tail and [`TOP`] it stays far below the 253 of a whole name.
const MAX_NETWORK: usize = 40;
/// How much of an id tells two networks of one name apart, characters: of 2³⁰ one.
const TAIL: usize = 6;

/// Labels that programs look for without anybody having typed them, or that mean this machine: who has one of these is asked for
/// a proxy (`wpad`), for a way into IPv6 (`isatap`), or is taken for the machine itself. Windows' DNS servers refuse the first two for the same
/// reason (their *global query block list*); `localhost` and `local` are special by RFC 6761 and RFC 6762, the others are in the hosts
/// files of Debian, Fedora and macOS, or are what systemd's nss-myhostname answers.
const RESERVED: [&str; 14] = [
    "wpad",
    "isatap",
    "localhost",
    "localhost4",
    "localhost6",
    "localdomain",
    "local",
    "broadcasthost",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-allnodes",
    "ip6-allrouters",
    "gateway",
];

/// One label of a host name (RFC 1123 §2.1), in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

/// Why something is no name for a member. Each text goes on after the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Other characters, or too long.
    #[error("is no host name, which has letters, digits and - between them")]
    NotALabel,
    /// What programs take for an address: a number (inet_aton(3)).
    #[error("would be taken for an address")]
    Number,
    /// It means something on every machine.
    #[error("means something else on every machine")]
    Reserved,
}

impl Label {
    /// The label, in lower case; `None` when it is none.
    pub fn new(text: &str) -> Option<Self> {
        let is_label = (1..=63).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        is_label.then(|| Self(text.to_ascii_lowercase()))
    }

    /// As the name of a member.
    ///
    /// # Errors
    /// See [`Unfit`].
    pub fn of_member(text: &str) -> Result<Self, Unfit> {
        let label = Self::new(text).ok_or(Unfit::NotALabel)?;
        let hexadecimal = label.0.strip_prefix("0x").unwrap_or("-");
        if label.0.bytes().all(|byte| byte.is_ascii_digit())
            || hexadecimal.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Err(Unfit::Number);
        }
        if RESERVED.contains(&label.0.as_str()) { Err(Unfit::Reserved) } else { Ok(label) }
    }

    /// What a network is called that people call `name`, best first: the second is for where another network of this machine has the
    /// first. `id` is its own.
    pub fn of_network(name: &str, id: &str) -> [Self; 2] {
        let mut text = String::new();
        for c in name.chars().map(|c| c.to_ascii_lowercase()) {
            match c {
                'a'..='z' | '0'..='9' => text.push(c),
                // One for however many.
                _ if text.ends_with('-') => {}
                _ => text.push('-'),
            }
        }
        text.truncate(MAX_NETWORK);
        let text = text.trim_matches('-');
        let tail: String = id.chars().filter(char::is_ascii_alphanumeric).take(TAIL).collect();
        let tail = tail.to_ascii_lowercase();
        let first = if text.is_empty() { format!("net-{tail}") } else { text.to_owned() };
        let second = format!("{first}-{tail}");
        [Self(first), Self(second)]
    }

    /// This label with a number behind it, shortened so that it is one still: for who comes to a name that another has.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Self {
        let tail = format!("-{number}");
        let room = 63 - tail.len();
        let head = self.0.get(..room.min(self.0.len())).unwrap_or_default().trim_end_matches('-');
        Self(format!("{head}{tail}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_names_are_none() {
        for (text, why) in [
            ("", Unfit::NotALabel),
            ("github.com", Unfit::NotALabel),
            ("b.", Unfit::NotALabel),
            ("b c", Unfit::NotALabel),
            ("b\n8.8.8.8 x", Unfit::NotALabel),
            ("b#", Unfit::NotALabel),
            ("_dmarc", Unfit::NotALabel),
            ("-b", Unfit::NotALabel),
            ("b-", Unfit::NotALabel),
            ("ä", Unfit::NotALabel),
            ("10", Unfit::Number),
            ("0x7f000001", Unfit::Number),
            ("0X7F", Unfit::Number),
            ("localhost", Unfit::Reserved),
            ("LocalHost", Unfit::Reserved),
            ("wpad", Unfit::Reserved),
            ("ip6-loopback", Unfit::Reserved),
        ] {
            assert_eq!(Label::of_member(text), Err(why), "{text:?}");
        }
        assert_eq!(Label::of_member(&"a".repeat(64)), Err(Unfit::NotALabel));
        assert_eq!(Label::of_member("NAS-1").expect("a label").as_str(), "nas-1");
        assert_eq!(Label::of_member("0xyz").expect("a label").as_str(), "0xyz");
    }

    #[test]
    fn a_network_has_a_label_whatever_it_is_called() {
        let of = |name: &str| Label::of_network(name, "K7DQX2MZP4").map(|label| label.to_string());
        assert_eq!(of("office"), ["office", "office-k7dqx2"]);
        assert_eq!(of("My  Home & Garden!"), ["my-home-garden", "my-home-garden-k7dqx2"]);
        assert_eq!(of("Büro"), ["b-ro", "b-ro-k7dqx2"]);
        assert_eq!(of("…"), ["net-k7dqx2", "net-k7dqx2-k7dqx2"]);
        assert_eq!(of(""), ["net-k7dqx2", "net-k7dqx2-k7dqx2"]);
    }

    proptest! {
        #[test]
        fn what_is_made_is_a_label(name in "\\PC{0,80}", member in "[a-z0-9-]{1,63}", number in 2u32..100_000) {
            for label in Label::of_network(&name, "abcdefghij") {
                prop_assert_eq!(Label::new(label.as_str()), Some(label));
            }
            if let Some(label) = Label::new(&member) {
                let numbered = label.numbered(number);
                prop_assert_eq!(Label::new(numbered.as_str()), Some(numbered));
            }
        }
    }
}
