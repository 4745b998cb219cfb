//! Routers do what they are called, and what can be reached is what the lab's matrix says.

use super::*;
use shadowmesh_proto::path::select::PathKind;

const HOME: Placement = Placement {
    uplink: Uplink::new(Nat::PortRestricted),
    beside: None,
    mtu: 1500,
    latency: Duration::from_millis(10),
    jitter: Duration::ZERO,
};

const fn behind(nat: Nat) -> Placement {
    Placement { uplink: Uplink::new(nat), ..HOME }
}

const fn of_family(family: Family) -> Placement {
    Placement { uplink: Uplink { nat: Nat::Firewall, family, ..HOME.uplink }, ..HOME }
}

fn net(placements: &[Placement]) -> Net {
    Net::new(placements, None, Wire::default(), Dice::new(1))
}

/// Whether a datagram from `from` to `to` comes out at the node `at`, and as whose.
fn passes(net: &mut Net, now: Instant, from: usize, to: SocketAddr, at: usize) -> Option<SocketAddr> {
    net.send(now, from, to, vec![1; 60]);
    let (place, flight) = net.arrival(now + Duration::from_secs(1))?;
    (place == Place::Node(at)).then_some(flight.from)
}

/// How the relay sees a node.
fn seen(net: &mut Net, now: Instant, node: usize) -> Option<SocketAddr> {
    let (relay, _) = net.relay_of(node);
    net.send(now, node, relay, vec![1; 60]);
    net.arrival(now + Duration::from_secs(1)).map(|(_, flight)| flight.from)
}

/// Whether two nodes hear each other, when each writes to where the relay saw the other, and then to where it heard it from.
fn meet(net: &mut Net, now: Instant) -> bool {
    let (Some(a), Some(b)) = (seen(net, now, 0), seen(net, now, 1)) else { return false };
    let mut heard = [None, None];
    for _ in 0..3 {
        heard[1] = passes(net, now, 0, heard[0].unwrap_or(b), 1).or(heard[1]);
        heard[0] = passes(net, now, 1, heard[1].unwrap_or(a), 0).or(heard[0]);
    }
    heard.iter().all(Option::is_some)
}

#[test]
fn routers_do_what_they_are_called() {
    let now = Instant::now();
    for nat in Nat::ALL {
        for other in Nat::ALL {
            let mut net = net(&[behind(nat), behind(other)]);
            assert_eq!(
                meet(&mut net, now),
                net.best(0, 1, true) == PathKind::DirectUdp,
                "{nat:?} and {other:?}"
            );
        }
        let mut net = net(&[behind(nat), behind(Nat::Open)]);
        let Some(outside) = seen(&mut net, now, 0) else {
            assert!(!nat.passes_udp());
            continue;
        };
        let is_translated = outside.ip() != net.addresses(0)[0].ip();
        assert_eq!(is_translated, nat.translates(), "{nat:?}");
        let is_kept = outside.port() == net.port(0);
        assert_eq!(is_kept, !matches!(nat, Nat::PortShifting | Nat::Symmetric), "{nat:?}");
        // Unasked, from somebody that was never written to.
        let unasked = passes(&mut net, now, 1, outside, 0);
        assert_eq!(unasked.is_some(), nat.lets_all_in(), "{nat:?}");
    }
}

#[test]
fn a_rebind_turns_away_what_goes_to_the_old_port_and_a_hole_ends() {
    let now = Instant::now();
    let mut net = net(&[behind(Nat::FullCone), behind(Nat::Open)]);
    let old = seen(&mut net, now, 0).unwrap();
    assert!(passes(&mut net, now, 1, old, 0).is_some());
    net.rebind(0);
    let new = seen(&mut net, now, 0).unwrap();
    assert_ne!(new, old);
    assert!(passes(&mut net, now, 1, old, 0).is_none());
    net.dig(Place::Node(1), Place::Node(0), now + Duration::from_secs(1));
    assert!(passes(&mut net, now, 1, new, 0).is_none());
    let later = now + Duration::from_secs(1);
    assert!(passes(&mut net, later, 1, new, 0).is_some());
    net.roam(0, Uplink::new(Nat::FullCone));
    assert!(passes(&mut net, later, 1, new, 0).is_none(), "it moved away");
}

#[test]
fn a_router_forgets_what_nobody_says_anything_through() {
    let now = Instant::now();
    for nat in [Nat::FullCone, Nat::PortRestricted, Nat::Firewall] {
        let mut net = net(&[behind(nat), behind(Nat::Open)]);
        let outside = seen(&mut net, now, 0).unwrap();
        let other = net.addresses(1)[0];
        let [shortest, longest] = site::UDP_IDLE;
        assert!(passes(&mut net, now, 0, other, 1).is_some());
        // What is said in time keeps it, what comes in does not.
        let later = now + shortest - Duration::from_secs(2);
        assert!(passes(&mut net, later, 0, other, 1).is_some());
        let still = later + shortest - Duration::from_secs(2);
        assert!(passes(&mut net, still, 1, outside, 0).is_some(), "{nat:?}");
        let gone = later + longest;
        assert!(passes(&mut net, gone, 1, outside, 0).is_none(), "{nat:?}");
        assert!(passes(&mut net, gone, 0, other, 1).is_some());
        assert!(passes(&mut net, gone, 1, outside, 0).is_some(), "{nat:?}: a port stays where it is free");
    }
}

#[test]
fn hosts_of_one_site_meet_inside_and_by_its_outside_where_that_turns_back() {
    let now = Instant::now();
    for hairpins in [false, true] {
        for beside in [Beside::Lan(0), Beside::Router(0)] {
            let first = Placement { uplink: Uplink { hairpins, ..HOME.uplink }, ..HOME };
            let mut net = net(&[first, Placement { beside: Some(beside), ..HOME }]);
            assert_eq!(meet(&mut net, now), hairpins, "{beside:?}");
            let inside = net.addresses(0)[0];
            let by_inside = passes(&mut net, now, 1, inside, 0);
            let is_lan = beside == Beside::Lan(0);
            assert_eq!(by_inside, is_lan.then(|| net.addresses(1)[0]));
            assert_eq!(net.best(0, 1, true) == PathKind::DirectUdp, is_lan || hairpins);
        }
    }
}

#[test]
fn families_do_not_mix_and_the_relay_has_both() {
    let now = Instant::now();
    let families = [Family::V4, Family::V6, Family::Dual];
    for one in families {
        for other in families {
            let mut net = net(&[of_family(one), of_family(other)]);
            let has_both = (one.has_4() && other.has_4()) || (one.has_6() && other.has_6());
            assert_eq!(net.best(0, 1, true) == PathKind::DirectUdp, has_both, "{one:?} and {other:?}");
            assert!(seen(&mut net, now, 0).is_some_and(|from| from.is_ipv4() == one.has_4()));
            for to in net.addresses(1) {
                let has_it = if to.is_ipv4() { one.has_4() } else { one.has_6() };
                assert!(passes(&mut net, now, 0, to, 1).is_none(), "unasked");
                for back in net.addresses(0).into_iter().filter(|back| back.is_ipv4() == to.is_ipv4()) {
                    let _opens = passes(&mut net, now, 1, back, 0);
                }
                assert_eq!(passes(&mut net, now, 0, to, 1).is_some(), has_it);
            }
        }
    }
}

/// The placements of a row of the lab's matrix.
fn row(a: &str, b: &str) -> Option<[Placement; 2]> {
    let plain = |name: &str| {
        let nat = name.strip_prefix("dual-").unwrap_or(name);
        let placement = match nat {
            "open" => behind(Nat::Open),
            "firewall" => behind(Nat::Firewall),
            "full-cone" => behind(Nat::FullCone),
            "address-restricted" => behind(Nat::AddressRestricted),
            // Here all have the same addresses inside.
            "port-restricted" | "overlapping" => behind(Nat::PortRestricted),
            "port-shifting" => behind(Nat::PortShifting),
            "symmetric" => behind(Nat::Symmetric),
            "udp-blocked" => behind(Nat::UdpBlocked),
            "tcp-443" => behind(Nat::Tcp443),
            "ipv6-only" => of_family(Family::V6),
            "carrier" => {
                let carrier = Some(Nat::PortRestricted);
                Placement { uplink: Uplink { carrier, ..HOME.uplink }, ..HOME }
            }
            _ => return None,
        };
        // With both families the second word is what its router does to IPv4.
        let family = if nat == name { placement.uplink.family } else { Family::Dual };
        Some(Placement { uplink: Uplink { family, ..placement.uplink }, ..placement })
    };
    Some(match (a, b) {
        ("same-lan", nat) => [plain(nat)?, Placement { beside: Some(Beside::Lan(0)), ..HOME }],
        ("one-nat", turns) => {
            let hairpins = turns == "hairpin";
            let first = Placement { uplink: Uplink { hairpins, ..HOME.uplink }, ..HOME };
            [first, Placement { beside: Some(Beside::Router(0)), ..HOME }]
        }
        (a, b) => [plain(a)?, plain(b)?],
    })
}

#[test]
fn what_can_be_reached_is_what_the_matrix_of_the_lab_says() {
    let rows = include_str!("../../../lab/matrix.tsv").lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in rows {
        let mut fields = line.split('\t');
        let (Some(a), Some(b), Some(kind)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let Some(placements) = row(a, b) else { panic!("what is that: {line}") };
        let net = net(&placements);
        assert_eq!(net.best(0, 1, true).as_str(), kind, "{line}");
        assert_eq!(net.best(1, 0, true).as_str(), kind, "{line}");
        count += 1;
    }
    assert!(count > 70, "{count}");
}

#[test]
fn what_is_stolen_comes_later_from_elsewhere_and_more_than_once() {
    let now = Instant::now();
    let mut net = net(&[behind(Nat::Open), behind(Nat::PortRestricted)]);
    let (Some(a), Some(b)) = (seen(&mut net, now, 0), seen(&mut net, now, 1)) else { panic!("seen") };
    assert!(passes(&mut net, now, 1, a, 0).is_some());
    net.rob(1, now + Duration::from_secs(1));
    let mut came = [0, 0];
    for number in 0..100 {
        let mut packet = vec![number; 60];
        packet[0] = PacketType::Control as u8;
        net.send(now, 0, b, packet);
    }
    while let Some((place, flight)) = net.arrival(now + Duration::from_secs(2)) {
        assert_eq!(place, Place::Node(1));
        came[usize::from(is_thief(flight.from))] += 1;
    }
    assert!(came[0] > 30 && came[0] < 70 && came[1] > 2 * (100 - came[0]), "{came:?}");
    // Data is left alone, and all of it later.
    net.send(now, 0, b, vec![PacketType::Data as u8; 60]);
    net.send(now + Duration::from_secs(1), 0, b, vec![PacketType::Control as u8; 60]);
    let mut honest = 0;
    while let Some((_, flight)) = net.arrival(now + Duration::from_secs(3)) {
        honest += u32::from(!is_thief(flight.from));
    }
    assert_eq!(honest, 2);
}
