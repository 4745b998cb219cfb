//! The document of `netcheck`: what relays' STUN and this machine's interfaces tell of the network here.

use super::report::{millis, relay_url};
use crate::control::message::{Netcheck, NetcheckRelay};
use shadowmesh_proto::endpoint::status::RelayStatus;
use shadowmesh_proto::traverse::candidate::{Candidate, CandidateKind};
use shadowmesh_proto::traverse::mapping::MappingBehaviour::{EndpointDependent, EndpointIndependent};
use std::net::IpAddr;

/// What lets in a packet from an address that was not asked is found out by such a packet alone (RFC 5780 §4.4), and a relay sends nothing
/// to where it was not asked from (protocol §3.8).
const FILTERING_WHY: &str = "a packet from an address that was not asked would tell, and a relay sends none";

/// `addresses` are the relays', in the same order.
pub(super) fn report(relays: &[RelayStatus], addresses: &[&str], candidates: &[Candidate]) -> Netcheck {
    let udp = match relays.iter().map(|relay| relay.udp).collect::<Vec<_>>() {
        found if found.contains(&Some(true)) => Some(true),
        found if !found.is_empty() && found.iter().all(|udp| *udp == Some(false)) => Some(false),
        _ => None,
    };
    let mapping = relays.iter().find_map(|relay| relay.mapping);
    let is_registered = relays.iter().any(|relay| relay.registered);
    let mapping_why = match (mapping, udp, is_registered) {
        (Some(EndpointIndependent), _, _) => {
            "one outside port for every destination: peers can be invited to it"
        }
        (Some(EndpointDependent), _, _) => {
            "another outside port for each destination: direct paths need a peer whose router lets any port in"
        }
        (None, _, false) => "no relay is connected, and who else could tell",
        (None, Some(false), _) => "UDP does not work here",
        (None, _, true) => "two answers of STUN are needed, and are not there yet",
    };
    let is_global = |ip: IpAddr| match ip {
        IpAddr::V6(v6) => !v6.is_unique_local() && !v6.is_unicast_link_local() && !v6.is_loopback(),
        IpAddr::V4(_) => false,
    };
    let mapped = candidates.iter().filter(|candidate| candidate.kind == CandidateKind::PortMapped);
    Netcheck {
        udp,
        mapping: mapping.map(|mapping| match mapping {
            EndpointIndependent => "endpoint-independent".to_owned(),
            EndpointDependent => "endpoint-dependent".to_owned(),
        }),
        mapping_why: mapping_why.to_owned(),
        filtering: None,
        filtering_why: FILTERING_WHY.to_owned(),
        ipv6: candidates.iter().any(|candidate| is_global(candidate.address.ip())),
        mapped_ports: mapped.map(|candidate| candidate.address.to_string()).collect(),
        candidates: candidates
            .iter()
            .map(|candidate| format!("{} {}", candidate.kind.as_str(), candidate.address))
            .collect(),
        relays: relays
            .iter()
            .zip(addresses)
            .map(|(relay, address)| NetcheckRelay {
                url: relay_url(address),
                connected: relay.registered,
                rtt_ms: relay.rtt.map(millis),
                udp: relay.udp,
                observed_udp: relay.observed_udp.map(|address| address.to_string()),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shadowmesh_proto::transmit::RelayNo;
    use std::time::Duration;

    fn relay() -> RelayStatus {
        RelayStatus {
            relay: RelayNo(0),
            registered: true,
            rtt: Some(Duration::from_millis(12)),
            observed_tcp: None,
            version: Some(1),
            observed_udp: "203.0.113.7:41641".parse().ok(),
            udp: Some(true),
            mapping: Some(EndpointIndependent),
        }
    }

    #[test]
    fn what_is_not_known_is_null_and_says_why() {
        let found = report(&[relay()], &["r:1"], &[]);
        assert_eq!((found.udp, found.mapping.as_deref()), (Some(true), Some("endpoint-independent")));
        assert_eq!((found.filtering, found.ipv6), (None, false));
        assert_eq!(found.filtering_why, FILTERING_WHY);
        let unknown = report(&[RelayStatus { udp: None, mapping: None, ..relay() }], &["r:1"], &[]);
        assert_eq!((unknown.udp, unknown.mapping), (None, None));
        assert!(unknown.mapping_why.contains("not there yet"));
        let blocked = report(&[RelayStatus { udp: Some(false), mapping: None, ..relay() }], &["r:1"], &[]);
        assert_eq!(blocked.udp, Some(false));
        let one_works = [RelayStatus { udp: Some(false), mapping: None, ..relay() }, relay()];
        assert_eq!(report(&one_works, &["r:1", "s:1"], &[]).udp, Some(true));
        let none = report(&[], &[], &[]);
        assert_eq!(none.udp, None);
        assert!(none.mapping_why.contains("no relay"));
    }

    #[test]
    fn only_an_ipv6_address_that_others_reach_counts() {
        let with = |address: &str| {
            let candidate = Candidate::new(CandidateKind::Host, address.parse().expect("an address"));
            report(&[], &[], &[candidate]).ipv6
        };
        assert!(with("[2001:db8::1]:5"));
        assert!(!with("[fd00::1]:5") && !with("192.0.2.1:5"));
    }
}
