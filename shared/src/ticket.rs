//! Tickets: one line of text that carries an address and a pinned key (protocol §2).
//!
//! `smr1…` names a relay and may be shown to anybody who shall use it. `smi1…` invites into a network and **is** the
//! network secret, and in a network with certificates the right to make one: it is never logged, and its `Debug` shows nothing of it.
//!
//! A ticket that was mistyped, one that has expired and one of the other kind are three different errors, because the
//! person in front of it has to do three different things.

use crate::ids::{Fingerprint, RelayId, StatementHash};
use crate::wire::codec;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

const RELAY_PREFIX: &str = "smr1";
const INVITE_PREFIX: &str = "smi1";
const CHECK_LEN: usize = 4;
/// Most relays in an invite, and most addresses of a relay: a ticket stays one line that fits a terminal.
pub const MAX_ENTRIES: usize = 8;
/// Longest ticket text that is looked at, characters.
pub const MAX_TEXT: usize = 4096;

/// Why a ticket was refused; the text says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// No known prefix.
    #[error(
        "this is not a ShadowMesh ticket: tickets begin with smr1 (a relay) or smi1 (an invite); copy the whole line again"
    )]
    NotATicket,
    /// An invite was needed.
    #[error(
        "this is a relay ticket (smr1…) but an invite (smi1…) is needed here; to make a new network on this relay use `--relay`"
    )]
    RelayNotInvite,
    /// A relay ticket was needed.
    #[error(
        "this is an invite (smi1…) but a relay ticket (smr1…) is needed here; join with `shadowmesh up smi1…` instead"
    )]
    InviteNotRelay,
    /// Checksum, alphabet or layout wrong.
    #[error("the ticket is damaged: characters are missing or changed; copy the whole line again")]
    Damaged,
    /// Its time is over.
    #[error("the ticket has expired; ask for a new one (`shadowmesh invite`, or `shadowmesh-relay ticket`)")]
    Expired,
}

/// An address of a relay, as tickets write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'a> {
    /// Whether the stream there is wrapped in TLS: `wss://` stands before it.
    pub is_tls: bool,
    /// `host:port`.
    pub host_port: &'a str,
}

impl<'a> Address<'a> {
    /// What stands before one that is reached by TLS.
    pub const TLS: &'static str = "wss://";

    /// Of a text that a ticket may hold.
    pub fn of(text: &'a str) -> Self {
        match text.strip_prefix(Self::TLS) {
            Some(host_port) => Self { is_tls: true, host_port },
            None => Self { is_tls: false, host_port: text },
        }
    }
}

/// Where a relay is and which key it must prove (protocol §2).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RelayTicket {
    /// The relay's static key.
    #[n(0)]
    pub key: RelayId,
    /// An [`Address`] each, 1 to [`MAX_ENTRIES`].
    #[n(1)]
    pub addresses: Vec<String>,
    /// Seconds since 1970 after which it is not to be used, if any.
    #[n(2)]
    pub expires: Option<u64>,
}

/// An invitation into a network: **a secret**.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Invite {
    /// The network secret.
    #[n(0)]
    #[cbor(with = "secret_bytes")]
    pub secret: Zeroizing<[u8; 32]>,
    /// Its generation.
    #[n(1)]
    pub generation: u32,
    /// What people call the network.
    #[n(2)]
    pub network_name: String,
    /// Relays that know the network, 1 to [`MAX_ENTRIES`].
    #[n(3)]
    pub relays: Vec<RelayTicket>,
    /// Seconds since 1970 after which joining with it is refused (advice to the joining program only).
    #[n(4)]
    pub expires: Option<u64>,
    /// A name proposed for the node that joins.
    #[n(5)]
    pub name: Option<String>,
    /// What makes a member of whoever joins; absent in a network without certificates.
    #[n(6)]
    pub delegated: Option<Delegated>,
}

/// The right to certify whoever joins (protocol §8.4): **a secret**. The delegation itself has thousands of bytes, and members have it.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Delegated {
    /// Which network.
    #[n(0)]
    pub root: Fingerprint,
    /// Makes the delegate's keys.
    #[n(1)]
    #[cbor(with = "secret_bytes")]
    pub seed: Zeroizing<[u8; 32]>,
    /// The delegation to ask for.
    #[n(2)]
    pub delegation: StatementHash,
}

impl std::fmt::Debug for Delegated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delegated").field("root", &self.root).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Invite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invite").field("network_name", &self.network_name).finish_non_exhaustive()
    }
}

impl RelayTicket {
    /// The line of text.
    pub fn to_text(&self) -> String {
        write(RELAY_PREFIX, &codec::encode(self))
    }

    /// Reads a line; `unix_now` in seconds since 1970.
    ///
    /// # Errors
    /// See [`TicketError`].
    pub fn parse(text: &str, unix_now: u64) -> Result<Self, TicketError> {
        let text = text.trim();
        if text.starts_with(INVITE_PREFIX) {
            return Err(TicketError::InviteNotRelay);
        }
        let ticket: Self = read(RELAY_PREFIX, text)?;
        ticket.check()?;
        expired(ticket.expires, unix_now)?;
        Ok(ticket)
    }

    /// Reads a line that was accepted earlier and kept: how long it was to be used, and how long it may be, concerned that moment only.
    /// What a network's record names was never a line before, and is kept as one.
    ///
    /// # Errors
    /// See [`TicketError`]; never `Expired`.
    pub fn recall(text: &str) -> Result<Self, TicketError> {
        let ticket: Self =
            read_body(text.trim().strip_prefix(RELAY_PREFIX).ok_or(TicketError::NotATicket)?, RELAY_PREFIX)?;
        ticket.check()?;
        Ok(ticket)
    }

    pub(crate) fn check(&self) -> Result<(), TicketError> {
        let count_ok = (1..=MAX_ENTRIES).contains(&self.addresses.len());
        if count_ok && self.addresses.iter().all(|address| is_host_port(Address::of(address).host_port)) {
            Ok(())
        } else {
            Err(TicketError::Damaged)
        }
    }
}

impl Invite {
    /// The line of text: a secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        // Room for the longest from the start: what a buffer leaves behind when it grows is not wiped.
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_TEXT));
        codec::encode_to(self, &mut body);
        Zeroizing::new(write(INVITE_PREFIX, &body))
    }

    /// Reads a line; `unix_now` in seconds since 1970.
    ///
    /// # Errors
    /// See [`TicketError`].
    pub fn parse(text: &str, unix_now: u64) -> Result<Self, TicketError> {
        let text = text.trim();
        if text.starts_with(RELAY_PREFIX) {
            return Err(TicketError::RelayNotInvite);
        }
        let invite: Self = read(INVITE_PREFIX, text)?;
        if !(1..=MAX_ENTRIES).contains(&invite.relays.len()) {
            return Err(TicketError::Damaged);
        }
        invite.relays.iter().try_for_each(RelayTicket::check)?;
        expired(invite.expires, unix_now)?;
        Ok(invite)
    }
}

fn write(prefix: &str, body: &[u8]) -> String {
    let mut bytes = Zeroizing::new(Vec::with_capacity(body.len() + CHECK_LEN));
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&checksum(prefix, body));
    let mut text = String::with_capacity(prefix.len() + BASE64URL_NOPAD.encode_len(bytes.len()));
    text.push_str(prefix);
    BASE64URL_NOPAD.encode_append(&bytes, &mut text);
    text
}

fn read<T: for<'b> Decode<'b, ()>>(prefix: &str, text: &str) -> Result<T, TicketError> {
    let rest = text.strip_prefix(prefix).ok_or(TicketError::NotATicket)?;
    if text.len() > MAX_TEXT {
        return Err(TicketError::Damaged);
    }
    read_body(rest, prefix)
}

fn read_body<T: for<'b> Decode<'b, ()>>(rest: &str, prefix: &str) -> Result<T, TicketError> {
    let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(rest.as_bytes()).map_err(|_| TicketError::Damaged)?);
    let (body, check) = bytes.split_last_chunk::<CHECK_LEN>().ok_or(TicketError::Damaged)?;
    // Not a secret: it guards against slips of a hand, not of an enemy, so an ordinary comparison will do.
    if checksum(prefix, body) != *check {
        return Err(TicketError::Damaged);
    }
    codec::decode(body).map_err(|_| TicketError::Damaged)
}

fn checksum(prefix: &str, body: &[u8]) -> [u8; CHECK_LEN] {
    let hash = digest(&SHA256, &Zeroizing::new([prefix.as_bytes(), body].concat()));
    let mut check = [0; CHECK_LEN];
    for (to, from) in check.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    check
}

const fn expired(expires: Option<u64>, unix_now: u64) -> Result<(), TicketError> {
    match expires {
        Some(at) if at <= unix_now => Err(TicketError::Expired),
        _ => Ok(()),
    }
}

/// `host:port`, `192.0.2.1:443`, `[2001:db8::1]:443`; no white space, no control characters, port not 0.
fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host_ok = !host.is_empty()
        && host.len() <= 255
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']'));
    host_ok && port.parse::<u16>().is_ok_and(|port| port != 0)
}

mod secret_bytes {
    use super::Zeroizing;
    use minicbor::decode::{self, Decoder};
    use minicbor::encode::{self, Encoder, Write};

    pub(super) fn encode<C, W: Write>(
        secret: &Zeroizing<[u8; 32]>,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.bytes(secret.as_slice())?.ok()
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Zeroizing<[u8; 32]>, decode::Error> {
        let array = d.bytes()?.try_into().map_err(|_| decode::Error::message("not 32 bytes"))?;
        Ok(Zeroizing::new(array))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn relay() -> RelayTicket {
        RelayTicket {
            key: RelayId([7; 32]),
            addresses: vec!["192.0.2.1:8443".into(), "wss://[2001:db8::1]:443".into()],
            expires: None,
        }
    }

    fn invite() -> Invite {
        Invite {
            secret: Zeroizing::new([9; 32]),
            generation: 0,
            network_name: "home".into(),
            relays: vec![relay()],
            expires: Some(1_000),
            name: None,
            delegated: None,
        }
    }

    fn delegated() -> Delegated {
        Delegated {
            root: Fingerprint([1; 32]),
            seed: Zeroizing::new([0x55; 32]),
            delegation: StatementHash([3; 32]),
        }
    }

    #[test]
    fn round_trip() {
        assert_eq!(RelayTicket::parse(&relay().to_text(), 5), Ok(relay()));
        assert_eq!(Invite::parse(&format!(" {}\n", *invite().to_text()), 999), Ok(invite()));
    }

    #[test]
    fn what_was_kept_is_read_whatever_its_time_and_length() {
        let addresses = vec![format!("{}:443", "a".repeat(255)); MAX_ENTRIES];
        let kept = RelayTicket { expires: Some(0), addresses, ..relay() };
        assert!(kept.check().is_ok() && kept.to_text().len() < 2 * MAX_TEXT);
        assert_eq!(RelayTicket::recall(&kept.to_text()), Ok(kept));
        let soon = RelayTicket { expires: Some(0), ..relay() };
        assert_eq!(RelayTicket::parse(&soon.to_text(), 0), Err(TicketError::Expired));
        assert_eq!(RelayTicket::recall(&soon.to_text()), Ok(soon));
        assert_eq!(RelayTicket::recall(&invite().to_text()), Err(TicketError::NotATicket));
        let nowhere = RelayTicket { addresses: vec![], ..relay() };
        assert_eq!(RelayTicket::recall(&nowhere.to_text()), Err(TicketError::Damaged));
    }

    #[test]
    fn an_invite_that_delegates_is_one_line_of_a_terminal() {
        let invite = Invite { delegated: Some(delegated()), ..invite() };
        let text = invite.to_text();
        assert!(text.len() < 5 * 80, "{} characters", text.len());
        assert_eq!(Invite::parse(&text, 0), Ok(invite.clone()));
        let printed = format!("{invite:?} {:?}", invite.delegated);
        assert!(!printed.contains("55") && !printed.contains("85"), "{printed}");
    }

    #[test]
    fn invites_of_the_version_before_are_read() {
        let invite = invite();
        let mut body = codec::encode(&invite);
        assert_eq!(body[0] & 0xe0, 0x80, "an array");
        if body[0] == 0x87 {
            assert_eq!(body.pop(), Some(0xf6), "null at the end");
            body[0] = 0x86;
        }
        assert_eq!(Invite::parse(&write(INVITE_PREFIX, &body), 0), Ok(Invite { delegated: None, ..invite }));
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let (smr, smi) = (relay().to_text(), invite().to_text());
        assert_eq!(RelayTicket::parse(&smi, 0), Err(TicketError::InviteNotRelay));
        assert_eq!(Invite::parse(&smr, 0), Err(TicketError::RelayNotInvite));
        assert_eq!(Invite::parse("hello", 0), Err(TicketError::NotATicket));
        assert_eq!(Invite::parse(&smi, 1_000), Err(TicketError::Expired));
        assert_eq!(Invite::parse(&smi[..smi.len() - 1], 0), Err(TicketError::Damaged));
        assert_eq!(RelayTicket::parse("smr1", 0), Err(TicketError::Damaged));
    }

    #[test]
    fn every_single_changed_character_is_noticed() {
        let text = relay().to_text();
        for at in RELAY_PREFIX.len()..text.len() {
            for other in ['A', 'b', '0', '-', '_', '!'] {
                let mut bytes: Vec<char> = text.chars().collect();
                if bytes[at] == other {
                    continue;
                }
                bytes[at] = other;
                let changed: String = bytes.into_iter().collect();
                assert_eq!(RelayTicket::parse(&changed, 0), Err(TicketError::Damaged), "{at} {other}");
            }
        }
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        for bad in [
            "",
            "host",
            "host:",
            ":1",
            "host:0",
            "host:99999",
            "a b:1",
            "a\u{7}:1",
            "wss://",
            "wss://host",
            "ws://host:1",
            "https://host:1",
            "wss://wss://host:1",
            "WSS://host:1",
        ] {
            let ticket = RelayTicket { addresses: vec![bad.into()], ..relay() };
            assert_eq!(RelayTicket::parse(&ticket.to_text(), 0), Err(TicketError::Damaged), "{bad:?}");
        }
        let none = RelayTicket { addresses: vec![], ..relay() };
        assert_eq!(RelayTicket::parse(&none.to_text(), 0), Err(TicketError::Damaged));
    }

    #[test]
    fn an_address_says_whether_it_is_reached_by_tls() {
        let of = |text| (Address::of(text).is_tls, Address::of(text).host_port);
        assert_eq!(of("192.0.2.1:8443"), (false, "192.0.2.1:8443"));
        assert_eq!(of("wss://[2001:db8::1]:443"), (true, "[2001:db8::1]:443"));
    }

    #[test]
    fn an_invite_does_not_print_its_secret() {
        assert_eq!(format!("{:?}", invite()), "Invite { network_name: \"home\", .. }");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(smr1|smi1)?[A-Za-z0-9_-]{0,200}") {
            let _ = (RelayTicket::parse(&text, 0), Invite::parse(&text, 0));
        }
    }
}
