//! Nonces: what STUN sends to an address, to be said over the stream by the client that received it (protocol §3.9).
//!
//! A nonce is kept nowhere. It is the front of an HMAC under a secret of this run over whose it is, where it was sent and in which
//! minute, and is made again when somebody says it: so there is no table that strangers' requests could fill or overwrite, and
//! one of another client, another address, another run or an earlier time opens nothing.

use crate::core::ConnId;
use shadowmesh_proto::crypto::kdf::{Secret32, mac};
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::wire::relayed::Nonce;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long an address is sent the same one. It is good for as long again, so that one that is under way when the minute ends
/// still counts; a client asks each 25 s (protocol §7.4) and so proves its address about once a minute.
pub const SLOT: Duration = Duration::from_secs(60);

/// Makes them and knows them again.
pub struct Nonces {
    secret: Secret32,
    began: Instant,
}

impl Nonces {
    /// With a secret of its own, for as long as this lives.
    pub fn new(now: Instant, rng: &mut dyn Rng) -> Self {
        let mut secret = Secret32::default();
        rng.fill(secret.as_mut_slice());
        Self { secret, began: now }
    }

    /// What is sent to `address` for the client behind `conn` now.
    pub fn at(&self, now: Instant, conn: ConnId, address: SocketAddr) -> Nonce {
        self.of_slot(self.slot(now), conn, address)
    }

    /// Whether `nonce` was sent to `address` for the client behind `conn`, in this slot or the one before.
    pub fn is_known(&self, now: Instant, conn: ConnId, address: SocketAddr, nonce: Nonce) -> bool {
        let slot = self.slot(now);
        // As numbers: that takes the same time wherever they differ.
        let said = u64::from_be_bytes(nonce);
        let sent = |slot| u64::from_be_bytes(self.of_slot(slot, conn, address)) == said;
        sent(slot) || slot.checked_sub(1).is_some_and(sent)
    }

    fn slot(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / SLOT.as_secs()
    }

    /// The first 8 bytes of HMAC-SHA-256 over connection u64, address (16 bytes, an IPv4 one mapped), port u16, slot u64.
    fn of_slot(&self, slot: u64, ConnId(conn): ConnId, address: SocketAddr) -> Nonce {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let parts =
            [&conn.to_be_bytes()[..], &ip.octets(), &address.port().to_be_bytes(), &slot.to_be_bytes()];
        let mac = mac(self.secret.as_slice(), &parts);
        let [a, b, c, d, e, f, g, h, ..] = *mac;
        [a, b, c, d, e, f, g, h]
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shadowmesh_proto::rng::SeededRng;

    const CONN: ConnId = ConnId(7);

    fn address() -> SocketAddr {
        "198.51.100.7:4000".parse().unwrap()
    }

    proptest! {
        #[test]
        fn one_is_known_for_one_to_two_minutes(sent in 0u64..500_000, later in 0u64..500_000) {
            let began = Instant::now();
            let nonces = Nonces::new(began, &mut SeededRng::new(1));
            let [sent, later] = [sent, sent + later].map(Duration::from_millis);
            let nonce = nonces.at(began + sent, CONN, address());
            let is_known = nonces.is_known(began + later, CONN, address(), nonce);
            prop_assert!(is_known || later - sent > SLOT);
            prop_assert!(!is_known || later - sent < 2 * SLOT);
        }

        #[test]
        fn one_of_another_client_address_or_run_is_not_known(
            conn: u64, ip: [u8; 16], v4: [u8; 4], port: u16, seed in 2u64.., minute in 0u32..1000
        ) {
            let began = Instant::now();
            let nonces = Nonces::new(began, &mut SeededRng::new(1));
            let now = began + minute * SLOT;
            let known = |nonce| nonces.is_known(now, CONN, address(), nonce);
            prop_assert!(known(nonces.at(now, CONN, address())));
            prop_assert!(conn == CONN.0 || !known(nonces.at(now, ConnId(conn), address())));
            for other in [SocketAddr::from((ip, port)), (v4, port).into(), (address().ip(), port).into()] {
                prop_assert!(other == address() || !known(nonces.at(now, CONN, other)));
            }
            let of_another_run = Nonces::new(began, &mut SeededRng::new(seed)).at(now, CONN, address());
            prop_assert!(!known(of_another_run));
        }
    }

    #[test]
    fn the_secret_is_not_printed() {
        let nonces = Nonces::new(Instant::now(), &mut SeededRng::new(1));
        assert_eq!(format!("{nonces:?}"), "Nonces { .. }");
    }
}
