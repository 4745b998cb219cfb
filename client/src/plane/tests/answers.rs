//! What is done of a frame or a datagram that ended a sleep, before anything else is looked at.

use super::*;
use crate::transport::udp::MemorySocket;
use shadowmesh_proto::session::SealHalf;

#[test]
fn the_answer_to_the_first_frame_of_a_station_goes_to_whom_it_is_behind() {
    let (wire, device) = pair(&"mem0".parse().unwrap(), 100).unwrap();
    let there = |peer: u8| SocketAddr::from(([192, 0, 2, peer], 41_641));
    let mut directory = Directory::new(mac(1));
    let mut peers = vec![];
    for (slot, peer) in [(0, 2), (1, 3)] {
        directory.admit(PeerSlot(slot), Record::new(mac(peer))).unwrap();
        let via = Some(Via::Udp(there(peer)));
        peers.push(PeerRoute {
            is_expected: true,
            via,
            sources: [there(peer)].into(),
            ..PeerRoute::default()
        });
    }
    let (snapshot, pool) = (picture(directory, peers), ChunkPool::new(POOL_BYTES));
    let socket = Arc::new(MemorySocket::new(41_641).unwrap());
    let datagrams = DatagramSocket::Memory(Arc::clone(&socket));
    let (mut lockstep, _output) =
        Lockstep::new(device.into_device(), datagrams, snapshot, Arc::clone(&pool), RingLimits::default())
            .unwrap();
    for slot in 0..2 {
        let (key, marks) = (keys(slot).0, Arc::default());
        lockstep.plane().outbound(OutboundCommand::Start { slot: PeerSlot(slot.into()), key, marks });
    }
    let (key, open) = keys(9);
    let association = AssociationId([9; 8]);
    lockstep.plane().inbound(InboundCommand::Open { slot: PEER, association, key: open });
    let now = Instant::now();
    lockstep.run(now).unwrap();

    let mut peer = SealHalf::new(RingLimits::default(), pool, Arc::default());
    peer.install(now, key);
    let path = PathKind::DirectUdp.slot();
    socket.put(there(2), peer.seal(now, path, 0, &frame(77, 1, 0, 60)).unwrap().packet.to_vec());
    wire.send(&frame(1, 77, 1, 60)).unwrap();
    lockstep.answer(now).unwrap();
    assert_eq!(wire.receive().unwrap(), Some(frame(77, 1, 0, 60)));
    let left: Vec<_> = std::iter::from_fn(|| socket.take()).map(|(to, _)| to).collect();
    assert_eq!(left, [there(2)]);
}
