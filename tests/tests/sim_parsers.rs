//! What anybody may send: whatever the bytes, they are read or refused, nothing panics, and nothing comes of them.
//!
//! The parsers have properties of their own beside them (`wire`, `ticket`, `handshake`). Here are the machines behind them,
//! fed from outside as a network would, and the two readers of FORWARD, which have to agree.

use proptest::prelude::*;
use shadowmesh_proto::addresses;
use shadowmesh_proto::crypto::aead::CipherSet;
use shadowmesh_proto::crypto::keys::{NetworkSecret, NodeSecret};
use shadowmesh_proto::endpoint::Endpoint;
use shadowmesh_proto::endpoint::config::Config;
use shadowmesh_proto::endpoint::event::Contact;
use shadowmesh_proto::ids::{ChannelId, RelayId};
use shadowmesh_proto::link::{ServerInput, ServerLink};
use shadowmesh_proto::rng::SeededRng;
use shadowmesh_proto::transmit::{RelayNo, Transmit};
use shadowmesh_proto::version::SPOKEN;
use shadowmesh_proto::wire::control::{Claim, Hello};
use shadowmesh_proto::wire::relay::{self, Forward, ForwardBuilder};
use shadowmesh_relay::public::Public;
use std::time::{Duration, Instant};

const RELAY: RelayNo = RelayNo(0);

/// A node whose stream to the relay is open, the relay's key, and the node's LINK_INIT.
fn node() -> (Endpoint, NodeSecret, Vec<u8>) {
    let mut rng = SeededRng::new(7);
    let relay = NodeSecret::generate(&mut rng);
    let node = NodeSecret::generate(&mut rng);
    let hello = Hello {
        name: "a".into(),
        mac: addresses::mac(&node.public()),
        ipv4: None,
        ipv6: None,
        claim: Claim::Fresh,
        mtu: 1400,
        revision: 1,
    };
    let network = NetworkSecret::generate(&mut rng).derive();
    let config = Config {
        node,
        addresses: network.id().into(),
        network,
        relays: vec![RelayId(relay.public().0)],
        ciphers: CipherSet::ALL,
        hello,
        address_attempt: None,
        rekey_interval: Duration::from_secs(120),
        instance: 1,
        program: "test".into(),
        versions: SPOKEN,
    };
    let mut endpoint = Endpoint::new(config, Box::new(rng));
    endpoint.handle_stream_opened(Instant::now(), RELAY, ([192, 0, 2, 1], 9443).into());
    let init = sent(&mut endpoint);
    (endpoint, relay, init)
}

/// The next message for the relay's stream.
fn sent(endpoint: &mut Endpoint) -> Vec<u8> {
    match endpoint.poll_transmit() {
        Some(Transmit::Stream { message, .. }) => message,
        other => panic!("{other:?}"),
    }
}

/// Bytes that begin like packets, so that more than the first byte is looked at.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(vec![0xc0u8, 0xc1, 0xc2, 0xc8, 0xc9, 0x00, 0xff]);
    (kinds, prop::collection::vec(any::<u8>(), 0..2000), any::<bool>()).prop_map(|(kind, mut rest, well)| {
        if let (true, [version, reserved @ ..]) = (well, rest.as_mut_slice()) {
            *version = 1;
            reserved.iter_mut().take(2).for_each(|byte| *byte = 0);
        }
        rest.insert(0, kind);
        rest
    })
}

proptest! {
    #[test]
    fn no_packet_of_a_stranger_does_anything(mut packet in packets(), channel: u32) {
        let (mut endpoint, ..) = node();
        let contact = Contact { relay: RELAY, channel: ChannelId(channel) };
        prop_assert!(endpoint.handle_packet(Instant::now(), contact, &mut packet).is_err());
        prop_assert!(endpoint.poll_event().is_none());
        prop_assert!(endpoint.poll_transmit().is_none(), "silence is the answer");
        let drops = endpoint.drops();
        prop_assert_eq!(drops.handshake + drops.forged + drops.out_of_place, 1);
    }

    #[test]
    fn no_message_that_is_not_the_relays_opens_the_link(message in prop::collection::vec(any::<u8>(), 0..2000), kind in 0u8..6) {
        let (mut endpoint, ..) = node();
        let message = [&[kind], message.as_slice()].concat();
        prop_assert!(endpoint.handle_stream_message(Instant::now(), RELAY, &message).is_err());
        prop_assert!(!endpoint.is_registered(RELAY));
        prop_assert!(endpoint.poll_transmit().is_none());
    }

    #[test]
    fn a_relay_survives_any_second_message(message in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..6, at: prop::sample::Index, to: u8) {
        let (mut endpoint, relay, init) = node();
        let mut rng = SeededRng::new(8);
        let mut link = ServerLink::new(SPOKEN);
        let answer = link.handle(&relay, &init, &mut rng).unwrap();
        let ServerInput::Send(response) = answer else { panic!("{answer:?}") };
        // A damaged REGISTER, and anything at all.
        endpoint.handle_stream_message(Instant::now(), RELAY, &response).unwrap();
        let mut register = sent(&mut endpoint);
        let at = at.index(register.len());
        prop_assume!(register[at] != to);
        register[at] = to;
        prop_assert!(link.handle(&relay, &register, &mut rng).is_err());
        prop_assert!(!link.is_registered());
        let message = [&[kind], message.as_slice()].concat();
        prop_assert!(link.handle(&relay, &message, &mut rng).is_err());
    }

    #[test]
    fn both_readers_of_forward_agree(lengths in prop::collection::vec(1usize..200, 1..20), cut: prop::sample::Index, noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut builder = ForwardBuilder::new(ChannelId(9), Vec::new());
        for (mark, length) in lengths.iter().enumerate() {
            prop_assert!(builder.push(&vec![u8::try_from(mark).unwrap(); *length]));
        }
        let whole = builder.finish();
        let torn = whole[..cut.index(whole.len())].to_vec();
        for message in [whole, torn, noise] {
            let Ok(forward) = Forward::parse(&message) else { continue };
            let read: Vec<_> = forward.packets().map(<[u8]>::to_vec).collect();
            let taken: Vec<_> = relay::packets(&message).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(read, taken);
        }
    }

    #[test]
    fn taking_packets_from_any_bytes_ends(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(relay::packets(&bytes).count() <= 1000);
    }

    #[test]
    fn a_public_address_is_refused_or_remembered_as_it_was_said(text in "\\PC{0,60}") {
        if let Ok(public) = text.parse::<Public>()
            && let Some(remembered) = public.to_remember()
        {
            prop_assert_eq!(remembered.parse::<Public>(), Ok(public));
        }
    }
}
