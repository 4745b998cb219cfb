//! What a host knows of its network: the secret, the way to a relay, and which address it holds.

use crate::config::{remembered_relay, union_of_relays};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use shadowmesh_proto::addresses::AddressSpace;
use shadowmesh_proto::crypto::keys::NetworkSecret;
use shadowmesh_proto::ids::Fingerprint;
use shadowmesh_proto::membership::Secrets;
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::ticket::{Delegated, Invite, MAX_ENTRIES, MAX_TEXT, RelayTicket};
use shadowmesh_proto::wire::control::Cidr4;
use std::fmt::Write as _;
use zeroize::{Zeroize as _, Zeroizing};

/// Longest name of a network that is kept, characters.
const MAX_NAME: usize = 63;

/// The IPv4 address this host claims (protocol §1.5, §1.6), unless one was given by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AddressClaim {
    /// Which derivation is in use.
    pub attempt: u8,
    /// Whether it lived through a meeting, or was made with the network.
    pub settled: bool,
}

/// A network as this host belongs to it.
#[derive(Debug, Clone)]
pub struct NetworkState {
    /// The network secret and its generation (protocol §1.2).
    pub secret: NetworkSecret,
    /// The one that takes its place, while both are in use (protocol §8.8).
    pub next: Option<NetworkSecret>,
    /// What people call the network; printable, at most 63 characters.
    pub name: String,
    /// The relays that came with the network, 1 to [`MAX_ENTRIES`].
    pub relays: Vec<RelayTicket>,
    /// The address held.
    pub claim: AddressClaim,
    /// The IPv4 address that the network gave this host last (protocol §8.7): which block it came from is not known for ever.
    pub given: Option<Cidr4>,
    /// Who says who is a member; nobody in a network without certificates.
    pub root: Option<Fingerprint>,
}

impl NetworkState {
    /// A new network. Its first member's address is settled from the start (protocol §1.6).
    pub fn create(name: &str, relays: Vec<RelayTicket>, rng: &mut dyn Rng) -> Self {
        let claim = AddressClaim { attempt: 0, settled: true };
        Self {
            secret: NetworkSecret::generate(rng),
            next: None,
            name: printable(name),
            relays,
            claim,
            given: None,
            root: None,
        }
    }

    /// The network that `invite` leads into.
    pub fn join(invite: &Invite) -> Self {
        Self {
            secret: NetworkSecret::from_bytes(invite.secret.clone(), invite.generation),
            next: None,
            name: printable(&invite.network_name),
            relays: invite.relays.clone(),
            claim: AddressClaim::default(),
            given: None,
            root: invite.delegated.as_ref().map(|delegated| delegated.root),
        }
    }

    /// Whether `invite` leads into this network: one with certificates is known by its root, whatever became of its secret.
    pub fn is_of(&self, invite: &Invite) -> bool {
        // Both secrets are this user's own, so there is nobody to learn from the time this takes.
        let is_same = |secret: &NetworkSecret| {
            secret.to_bytes() == invite.secret && secret.generation() == invite.generation
        };
        self.root == invite.delegated.as_ref().map(|delegated| delegated.root)
            && (self.root.is_some() || is_same(&self.secret))
    }

    /// Takes the secret that `invite` brings beside the newest here, where it is not older: how a host comes back that was away for
    /// longer than a rotation leaves both in use.
    pub fn take_secret(&mut self, invite: &Invite) {
        let brought = NetworkSecret::from_bytes(invite.secret.clone(), invite.generation);
        let secrets = self.secrets();
        let newest = secrets.all().map(NetworkSecret::generation).max();
        if !secrets.holds(brought.derive().id()) && newest <= Some(brought.generation()) {
            let kept = self.next.take().unwrap_or_else(|| self.secret.clone());
            (self.secret, self.next) = (kept, Some(brought));
        }
    }

    /// All that are in use.
    pub fn secrets(&self) -> Secrets {
        Secrets::new([&self.secret].into_iter().chain(&self.next).cloned())
    }

    /// These are in use from now on. Whether that is news.
    pub fn set_secrets(&mut self, secrets: &Secrets) -> bool {
        if self.secrets().ids().eq(secrets.ids()) {
            return false;
        }
        let mut all = secrets.all().cloned();
        // A host has at least one, and whoever holds none keeps the only one elsewhere.
        let Some(secret) = all.next() else { return false };
        (self.secret, self.next) = (secret, all.next());
        true
    }

    /// What its addresses derive from (protocol §1.5).
    pub fn address_space(&self) -> AddressSpace {
        self.root.map_or_else(|| self.secret.derive().id().into(), Into::into)
    }

    /// What tells it from another network of the same name: its root, or where it has none its id. Neither changes while it is in use.
    pub fn label_id(&self) -> String {
        self.root.map_or_else(|| self.secret.derive().id().to_base32(), |root| root.to_base32())
    }

    /// An invite into this network, naming its relays and `more_relays`: as many as a ticket holds.
    ///
    /// `expires` in seconds since 1970 is advice to the joining program (protocol §2); in a network with certificates, where an invite is of
    /// use only with what an admin `delegated`, that says it again.
    pub fn invite(
        &self,
        more_relays: &[RelayTicket],
        expires: Option<u64>,
        name: Option<String>,
        delegated: Option<Delegated>,
    ) -> Invite {
        let mut relays = union_of_relays(&self.relays, more_relays);
        relays.truncate(MAX_ENTRIES);
        let mut invite = Invite {
            secret: self.secret.to_bytes(),
            generation: self.secret.generation(),
            network_name: self.name.clone(),
            relays,
            expires,
            name,
            delegated,
        };
        while invite.relays.len() > 1 && invite.to_text().len() > MAX_TEXT {
            invite.relays.pop();
        }
        invite
    }

    /// The text of `network.toml`.
    pub(super) fn to_toml(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(MAX_TEXT * self.relays.len() + 512));
        let secret = Zeroizing::new(BASE64URL_NOPAD.encode(self.secret.to_bytes().as_slice()));
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "# Holds the network secret: whoever reads it can join.\nsecret = \"{}\"\ngeneration = {}\nname = {}\n",
            *secret,
            self.secret.generation(),
            toml::Value::String(self.name.clone()),
        );
        if let Some(root) = self.root {
            let _ = writeln!(text, "root = \"{root}\"");
        }
        text.push_str("relays = [\n");
        for relay in &self.relays {
            let _ = writeln!(text, "    \"{}\",", relay.to_text());
        }
        text.push_str("]\n");
        if let Some(next) = &self.next {
            let secret = Zeroizing::new(BASE64URL_NOPAD.encode(next.to_bytes().as_slice()));
            let _ = write!(text, "\n[next]\nsecret = \"{}\"\ngeneration = {}\n", *secret, next.generation());
        }
        text
    }

    /// The text of `address.toml`.
    pub(super) fn address_to_toml(&self) -> Zeroizing<String> {
        let AddressClaim { attempt, settled } = self.claim;
        let given = self.given.map(|given| format!("given = \"{given}\"\n")).unwrap_or_default();
        Zeroizing::new(format!("attempt = {attempt}\nsettled = {settled}\n{given}"))
    }

    /// Reads the text of `address.toml`; the error says what is wrong with it.
    pub(super) fn take_address(&mut self, text: &str) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Stored {
            attempt: u8,
            settled: bool,
            given: Option<String>,
        }
        let Stored { attempt, settled, given } =
            toml::from_str(text).map_err(|error| one_line(error.message()))?;
        let given =
            given.map(|text| read_cidr(&text).ok_or("the given address in it is none")).transpose()?;
        (self.claim, self.given) = (AddressClaim { attempt, settled }, given);
        Ok(())
    }

    /// Reads the text of `network.toml`; the error says what is wrong with it, without quoting it. The address is not in it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Stored {
            secret: String,
            generation: u32,
            name: String,
            relays: Vec<String>,
            root: Option<String>,
            next: Option<StoredNext>,
        }
        #[derive(Deserialize)]
        struct StoredNext {
            secret: String,
            generation: u32,
        }
        let mut stored: Stored = toml::from_str(text).map_err(|error| one_line(error.message()))?;
        let secret = decode_key(&stored.secret);
        stored.secret.zeroize();
        let next = stored.next.as_mut().map(|next| {
            let secret = decode_key(&next.secret).ok_or("the next secret is not 32 bytes of base64url");
            next.secret.zeroize();
            secret.map(|secret| NetworkSecret::from_bytes(secret, next.generation))
        });
        let relays: Result<Vec<_>, _> = stored.relays.iter().map(|text| remembered_relay(text)).collect();
        let root = stored.root.map(|text| Fingerprint::from_base32(&text).ok_or(())).transpose();
        let secret = secret.ok_or("the secret is not 32 bytes of base64url")?;
        Ok(Self {
            secret: NetworkSecret::from_bytes(secret, stored.generation),
            next: next.transpose()?,
            name: printable(&stored.name),
            relays: relays.map_err(|_| "a relay ticket in it is damaged")?,
            claim: AddressClaim::default(),
            given: None,
            root: root.map_err(|()| "the root in it is damaged")?,
        })
    }
}

/// Reads 32 bytes of base64url without padding.
pub(super) fn decode_key(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(text.trim().as_bytes()).ok()?);
    Some(Zeroizing::new(bytes.as_slice().try_into().ok()?))
}

fn read_cidr(text: &str) -> Option<Cidr4> {
    let (address, prefix) = text.split_once('/')?;
    Cidr4::new(address.parse().ok()?, prefix.parse().ok()?)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Keeps what a terminal may be shown: the name arrives in an invite that somebody else made.
fn printable(name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    if name.is_empty() { "network".into() } else { name }
}

#[cfg(test)]
impl PartialEq for NetworkState {
    fn eq(&self, other: &Self) -> bool {
        self.to_toml() == other.to_toml() && self.address_to_toml() == other.address_to_toml()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shadowmesh_proto::ids::{RelayId, StatementHash};
    use shadowmesh_proto::rng::SeededRng;
    use shadowmesh_proto::ticket::Delegated;

    fn relay(key: u8, addresses: usize) -> RelayTicket {
        let addresses = (0..addresses).map(|n| format!("{}-{n}.example:8443", "x".repeat(200))).collect();
        RelayTicket { key: RelayId([key; 32]), addresses, expires: Some(0) }
    }

    #[test]
    fn an_invite_joins_the_network_it_was_made_of() {
        let network = NetworkState::create("home", vec![relay(1, 1)], &mut SeededRng::new(1));
        let invite = network.invite(&[relay(2, 1)], Some(10), None, None);
        assert_eq!(invite.relays, [relay(1, 1), relay(2, 1)]);
        let joined = NetworkState::join(&Invite::parse(&invite.to_text(), 9).expect("read"));
        assert!(network.is_of(&invite) && joined.is_of(&invite));
        assert!(network.claim.settled && !joined.claim.settled);
        let other = NetworkState::create("home", vec![relay(1, 1)], &mut SeededRng::new(2));
        assert!(!other.is_of(&invite));
    }

    #[test]
    fn a_network_with_certificates_is_known_by_its_root_and_takes_a_newer_secret() {
        let root = Fingerprint([9; 32]);
        let secret =
            |generation: u32, draw| NetworkSecret::from_bytes(Zeroizing::new([draw; 32]), generation);
        let invite = |secret: &NetworkSecret| {
            let mut network = NetworkState::create("home", vec![relay(1, 1)], &mut SeededRng::new(1));
            network.secret = secret.clone();
            let delegation = StatementHash([1; 32]);
            let delegated = Some(Delegated { root, seed: Zeroizing::new([2; 32]), delegation });
            network.invite(&[], None, None, delegated)
        };
        let ids = |network: &NetworkState| network.secrets().ids().collect::<Vec<_>>();
        let id = |secret: &NetworkSecret| secret.derive().id();
        let (first, second, third) = (secret(0, 1), secret(1, 2), secret(2, 3));
        let mut network = NetworkState::join(&invite(&first));
        assert!(network.is_of(&invite(&second)), "its secret is another");
        for known in [&first, &secret(0, 1)] {
            network.take_secret(&invite(known));
            assert_eq!(ids(&network), [id(&first)]);
        }
        network.take_secret(&invite(&second));
        assert_eq!(ids(&network), [id(&first), id(&second)]);
        network.take_secret(&invite(&third));
        assert_eq!(ids(&network), [id(&second), id(&third)]);
        network.take_secret(&invite(&first));
        assert_eq!(ids(&network), [id(&second), id(&third)], "an invite from before is still one into it");
        // Of two that were drawn at once.
        network.take_secret(&invite(&secret(2, 4)));
        assert_eq!(ids(&network), [id(&third), id(&secret(2, 4))]);
    }

    #[test]
    fn secrets_are_news_once() {
        let mut network = NetworkState::create("home", vec![relay(1, 1)], &mut SeededRng::new(1));
        assert!(!network.set_secrets(&network.secrets()) && !network.set_secrets(&Secrets::default()));
        let next = NetworkSecret::from_bytes(Zeroizing::new([2; 32]), 1);
        let both = Secrets::new([network.secret.clone(), next.clone()]);
        assert!(network.set_secrets(&both) && !network.set_secrets(&both));
        assert!(network.set_secrets(&Secrets::new([next.clone()])));
        assert!(network.next.is_none() && network.secret.to_bytes() == next.to_bytes());
    }

    #[test]
    fn an_invite_stays_readable_however_many_relays_there_are() {
        let relays: Vec<_> = (0..12).map(|key| relay(key, 8)).collect();
        let network = NetworkState::create("home", vec![relay(100, 1)], &mut SeededRng::new(1));
        let invite = network.invite(&relays, None, None, None);
        assert_eq!(Invite::parse(&invite.to_text(), 0), Ok(invite));
    }

    #[test]
    fn debug_shows_no_secret_and_a_damaged_one_is_not_quoted() {
        let network = NetworkState::create("home", vec![relay(1, 1)], &mut SeededRng::new(1));
        assert!(!format!("{network:?}").contains(&format!("{:?}", network.secret.to_bytes()[0])));
        let text = network.to_toml().replacen("secret = \"", "secret = \"?", 1);
        assert_eq!(
            NetworkState::parse(&text).expect_err("refused"),
            "the secret is not 32 bytes of base64url"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(seed: u64, name in "\\PC{1,63}", attempt: u8, settled: bool, keys in proptest::collection::vec(any::<u8>(), 1..8)) {
            let relays = keys.into_iter().map(|key| relay(key, 1)).collect();
            let mut network = NetworkState::create(&name, relays, &mut SeededRng::new(seed));
            network.claim = AddressClaim { attempt, settled };
            network.given = settled.then(|| Cidr4::new([10, 7, 3, attempt].into(), attempt % 33)).flatten();
            network.root = settled.then_some(Fingerprint([attempt; 32]));
            network.next = settled.then(|| NetworkSecret::from_bytes(Zeroizing::new([attempt; 32]), 7));
            let mut read = NetworkState::parse(&network.to_toml()).expect("its own text");
            prop_assert_eq!(read.take_address(&network.address_to_toml()), Ok(()));
            prop_assert_eq!(read, network);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|\n){0,200}") {
            let _ = NetworkState::parse(&text);
            let _ = NetworkState::create("x", vec![relay(1, 1)], &mut SeededRng::new(1)).take_address(&text);
        }
    }
}
