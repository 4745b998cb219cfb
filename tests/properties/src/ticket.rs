//! Tickets: the lines that people paste, as text and as what is inside of one whose checksum is right.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use shadowmesh_proto::ids::{Fingerprint, RelayId, StatementHash};
use shadowmesh_proto::ticket::{Delegated, Invite, MAX_ENTRIES, MAX_TEXT, RelayTicket, TicketError};

const RELAY: &str = "smr1";
const INVITE: &str = "smi1";
const NOW: u64 = 1_000;

/// Any bytes are a line, and inside of a line.
///
/// # Panics
/// When a property does not hold.
pub fn check(bytes: &[u8]) {
    is_read(&String::from_utf8_lossy(bytes));
    for prefix in [RELAY, INVITE] {
        is_read(&line(prefix, bytes));
    }
}

/// A line with a checksum that is right.
fn line(prefix: &str, body: &[u8]) -> String {
    let hash = digest(&SHA256, &[prefix.as_bytes(), body].concat());
    let check = hash.as_ref().get(..4).unwrap_or_default();
    format!("{prefix}{}", BASE64URL_NOPAD.encode(&[body, check].concat()))
}

fn is_read(text: &str) {
    let (relay, invite) = (RelayTicket::parse(text, NOW), Invite::parse(text, NOW));
    assert!(relay.is_err() || invite.is_err(), "one or the other");
    // It says what the line is, whoever asks.
    assert_eq!(relay == Err(TicketError::InviteNotRelay), text.trim().starts_with(INVITE));
    assert_eq!(invite == Err(TicketError::RelayNotInvite), text.trim().starts_with(RELAY));
    if relay.is_ok() || relay == Err(TicketError::Expired) {
        let kept = RelayTicket::recall(text).expect("what was read can be recalled");
        assert!(relay.as_ref().is_ok_and(|relay| *relay == kept) || kept.expires.is_some_and(|at| at <= NOW));
    }
    if let Ok(kept) = RelayTicket::recall(text) {
        is_relay(&kept);
        assert_eq!(RelayTicket::recall(&kept.to_text()), Ok(kept));
    }
    if let Ok(invite) = invite {
        assert!((1..=MAX_ENTRIES).contains(&invite.relays.len()));
        invite.relays.iter().for_each(is_relay);
        assert!(invite.expires.is_none_or(|at| at > NOW));
        let written = invite.to_text();
        // One of an older version has fewer fields, and what is not there is written as a word.
        if written.len() <= MAX_TEXT {
            assert_eq!(Invite::parse(&written, NOW), Ok(invite.clone()));
        }
        let cut = written.get(..written.len() - 1).unwrap_or_default();
        assert_eq!(Invite::parse(cut, NOW), Err(TicketError::Damaged));
        assert!(!format!("{invite:?}").contains(&format!("{:?}", invite.secret.as_slice())));
    }
}

fn is_relay(relay: &RelayTicket) {
    assert!((1..=MAX_ENTRIES).contains(&relay.addresses.len()));
    for address in &relay.addresses {
        assert!(!address.contains(|c: char| c.is_control() || c.is_whitespace()), "{address:?}");
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        assert!(port.is_some_and(|port| port > 0), "{address:?}");
    }
}

/// A relay.
pub(crate) fn relay() -> RelayTicket {
    let addresses = vec!["192.0.2.1:8443".to_owned(), "[2001:db8::1]:443".to_owned()];
    RelayTicket { key: RelayId([7; 32]), addresses, expires: None }
}

/// Both kinds, as lines and as what is inside of them.
pub fn seeds() -> Vec<Vec<u8>> {
    let delegated =
        Delegated { root: Fingerprint([1; 32]), seed: [2; 32].into(), delegation: StatementHash([3; 32]) };
    let plain = Invite {
        secret: [9; 32].into(),
        generation: 1,
        network_name: "home".to_owned(),
        relays: vec![relay()],
        expires: Some(NOW + 1),
        name: Some("laptop".to_owned()),
        delegated: None,
    };
    let with = Invite { delegated: Some(delegated), ..plain.clone() };
    let old = RelayTicket { expires: Some(NOW), ..relay() };
    let lines = [relay().to_text(), old.to_text(), plain.to_text().to_string(), with.to_text().to_string()];
    let inside = lines.iter().filter_map(|line| {
        let bytes = BASE64URL_NOPAD.decode(line.get(4..)?.as_bytes()).ok()?;
        Some(bytes.get(..bytes.len().checked_sub(4)?)?.to_vec())
    });
    inside.chain(lines.iter().map(|line| line.clone().into_bytes())).collect()
}
