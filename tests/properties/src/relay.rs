//! Messages on a relay's stream: split, and read by both sides in the same way.

use shadowmesh_proto::ids::{ChannelId, NetworkId, NodeId};
use shadowmesh_proto::version::Versions;
use shadowmesh_proto::wire::packet::MAX_PACKET;
use shadowmesh_proto::wire::relay::{
    Control, Forward, ForwardBuilder, GoneReason, MAX_MESSAGE, MAX_SENTENCE, MAX_STUN_PORTS, StreamMessage,
    packets,
};

/// Any bytes are a message or none; those behind the first are a control body or none.
///
/// # Panics
/// When a property does not hold.
pub fn check(bytes: &[u8]) {
    if let Ok(message) = StreamMessage::parse(bytes) {
        assert!(bytes.len() <= MAX_MESSAGE);
        let written = match message {
            StreamMessage::LinkInit(noise) => StreamMessage::link_init(noise),
            StreamMessage::LinkResponse(noise) => StreamMessage::link_response(noise),
            StreamMessage::Control(sealed) => StreamMessage::control(sealed),
            StreamMessage::Forward(forward) => repacked(&forward, bytes),
        };
        assert_eq!(written, bytes);
    }
    ends(bytes);
    is_read(bytes);
    is_read(bytes.get(1..).unwrap_or_default());
}

/// The packets in a message of our own; also as the receiver takes them.
fn repacked(forward: &Forward<'_>, message: &[u8]) -> Vec<u8> {
    let mut builder = ForwardBuilder::new(forward.channel, Vec::new());
    for packet in forward.packets() {
        assert!((1..=MAX_PACKET).contains(&packet.len()) && builder.push(packet));
    }
    assert!(packets(message).eq(forward.packets()));
    builder.finish()
}

fn ends(bytes: &[u8]) {
    assert!(packets(bytes).count() <= bytes.len() / 2 + 1);
}

fn is_read(bytes: &[u8]) {
    let Ok(Some(body)) = Control::decode(bytes) else { return };
    if let Control::Error { sentence, .. } = &body {
        assert!(sentence.len() <= MAX_SENTENCE && !sentence.contains(char::is_control));
    }
    if let Control::Registered { stun_ports, .. } = &body {
        assert!(stun_ports.len() <= MAX_STUN_PORTS);
    }
    assert_eq!(Control::decode(&body.encode()), Ok(Some(body)));
}

/// One of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let (v4, v6) = (([192, 0, 2, 1], 9_443).into(), ([0xfd00, 0, 0, 0, 0, 0, 0, 1], 9).into());
    let channel = ChannelId(7);
    let bodies = [
        Control::Register {
            network: NetworkId([1; 32]),
            network_key: [2; 32],
            signature: [3; 64],
            instance: 4,
            features: 5,
            versions: Versions::new(1, 2),
        },
        Control::Registered {
            observed_tcp: v4,
            stun_token: [6; 16],
            stun_ports: vec![3_478, 3_479],
            heartbeat_ms: 15_000,
            instance: 7,
            direct: Some(true),
            versions: Versions::new(2, 3),
            version: Some(2),
        },
        Control::Connect { peer: Some(NodeId([8; 32])) },
        Control::Peer { peer: NodeId([8; 32]), channel, instance: 1 },
        Control::Established {
            channel,
            session: [9; 16],
            mtu: 1_400,
            heartbeat_ms: 1,
            rotation_s: 2,
            peer_tcp: Some(v6),
            peer_udp: None,
            direct: true,
        },
        Control::PeerGone { peer: NodeId([8; 32]), channel, reason: GoneReason::Lost },
        Control::Ping { id: 1 },
        Control::Pong { id: 1 },
        Control::Release { channel },
        Control::Confirmed { channel },
        Control::Drain { within_ms: 5_000 },
        Control::Error { code: 3, sentence: "too many\u{1b}[2J".to_owned(), retry_ms: Some(1) },
        Control::Leave,
        Control::Observed { udp: v6 },
        Control::Bind { nonce: [1; 8], udp: v4 },
        Control::Bound { tag: 9 },
    ];
    let mut builder = ForwardBuilder::new(channel, Vec::new());
    let packets: [&[u8]; 3] = [&[0xc0; 20], &[1], &[0xc8; 60]];
    let all_fit = packets.iter().all(|packet| builder.push(packet));
    assert!(all_fit);
    let streams =
        [StreamMessage::link_init(&[1; 40]), StreamMessage::link_response(&[2; 40]), builder.finish()];
    let bodies = bodies.iter().map(Control::encode);
    bodies.clone().map(|body| StreamMessage::control(&body)).chain(bodies).chain(streams).collect()
}
