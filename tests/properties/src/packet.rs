//! The clear part of packets: what one is, and what its fields are.

use shadowmesh_proto::ids::{ChannelId, ReceiverIndex};
use shadowmesh_proto::wire::header::{HEADER_LEN, Header, PacketType};
use shadowmesh_proto::wire::packet::{Init, PacketKind, Response};
use shadowmesh_proto::wire::relayed::{BindingTag, RELAYED_HEADER_LEN, RelayedHeader, retag};

/// Any datagram is of one kind or of none.
///
/// # Panics
/// When a property does not hold.
pub fn check(bytes: &[u8]) {
    let kind = PacketKind::of(bytes);
    if let Ok(header) = Header::parse(bytes) {
        assert_eq!(kind, Some(PacketKind::Transport(header.kind)));
        assert_eq!(bytes.get(..HEADER_LEN), Some(&header.to_bytes()[..]));
    }
    if let Ok(init) = Init::parse(bytes) {
        assert_eq!(kind, Some(PacketKind::Init));
        assert_eq!(Init::write_without_mac(init.sender, init.noise), init.authenticated);
        assert_eq!([init.authenticated, &init.mac1].concat(), bytes);
    }
    if let Ok(response) = Response::parse(bytes) {
        assert_eq!(kind, Some(PacketKind::Response));
        assert_eq!(Response::write(response.sender, response.receiver, response.noise), bytes);
    }
    if let Ok(relayed) = RelayedHeader::parse(bytes) {
        assert_eq!(kind, None, "behind it there is a packet");
        assert_eq!(bytes.get(..RELAYED_HEADER_LEN), Some(&relayed.to_bytes()[..]));
        let (mut again, tag) = (bytes.to_vec(), BindingTag::new(0x0001_0203));
        retag(&mut again, bytes.len(), tag);
        assert_eq!(RelayedHeader::parse(&again), Ok(RelayedHeader { tag, ..relayed }));
        retag(&mut again, bytes.len(), relayed.tag);
        assert_eq!(again, bytes);
    }
    // A run of datagrams, whatever its stride and however it ends: lengths do not change.
    let (mut run, stride) = (bytes.to_vec(), usize::from(bytes.first().copied().unwrap_or_default()));
    retag(&mut run, stride, BindingTag::new(1));
    assert_eq!(run.len(), bytes.len());
}

/// One of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let receiver = ReceiverIndex(0x0102_0304);
    let kinds = [PacketType::Data, PacketType::Control, PacketType::Fragment];
    let transport = kinds.iter().map(|kind| {
        let header = Header { kind: *kind, receiver, counter: 99 };
        [&header.to_bytes()[..], &[5; 24]].concat()
    });
    let mut init = Init::write_without_mac(receiver, &[6; 40]);
    init.extend([7; 16]);
    let relayed = RelayedHeader { tag: BindingTag::new(8), channel: ChannelId(9) };
    let relayed = [&relayed.to_bytes()[..], &[0xc0; 20]].concat();
    transport.chain([init, Response::write(receiver, receiver, &[6; 40]), relayed]).collect()
}
