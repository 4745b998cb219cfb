//! Frames whose TCP or UDP checksum was left out: the field holds the sum of the pseudo-header alone (protocol §5, *Checksums*).
//!
//! The kernel hands them over so, when we promised to complete them, and takes them so, when told where the field is. Between members a frame
//! says of itself where: in it the headers are looked for, and only one whose headers say the same as its kernel goes so.

use super::super::checksum;
use super::super::vnet::VnetHeader;
use super::get;
use super::headers::{Headers, Transport};

/// The ports of DHCP (RFC 2131 §4.1) and DHCPv6 (RFC 8415 §7.2).
const DHCP: [u16; 4] = [67, 68, 546, 547];

/// What the device is told of a frame whose checksum was left out; `None` of one that is neither TCP nor UDP, or is a fragment.
pub fn partial_header(frame: &[u8]) -> Option<VnetHeader> {
    let headers = Headers::of_complete(frame)?;
    (!headers.is_fragment(frame)).then(|| headers.partial())
}

/// Whether `frame`, of which the kernel says `header`, may go to another member with its checksum left out.
pub(in crate::device) fn may_stay_partial(header: &VnetHeader, frame: &[u8]) -> bool {
    let Some(found) = partial_header(frame) else { return false };
    let is_there = found.checksum_start == header.checksum_start
        && found.checksum_offset == header.checksum_offset
        && header.needs_checksum();
    is_there && !is_dhcp(frame)
}

/// DHCP, of which some clients read frames before the kernel would complete or cut them; and each message of it is looked at for itself by who lets
/// frames in.
pub fn is_dhcp(frame: &[u8]) -> bool {
    Headers::of_complete(frame).is_some_and(|headers| has_dhcp_ports(headers, frame))
}

/// The same of a frame whose headers were found.
pub(super) fn has_dhcp_ports(headers: Headers, frame: &[u8]) -> bool {
    let body = frame.get(headers.transport_at..).unwrap_or_default();
    headers.transport == Transport::Udp && (DHCP.contains(&get(body, 0)) || DHCP.contains(&get(body, 2)))
}

/// Completes the checksum of a frame for which [`partial_header`] has an answer.
pub fn complete(frame: &mut [u8]) {
    if let Some(VnetHeader { checksum_start, checksum_offset, .. }) = partial_header(frame) {
        // `of_complete` has seen that the header is there, and the field is in it.
        let _ = checksum::complete(frame, checksum_start, checksum_offset);
    }
}

#[cfg(test)]
mod tests {
    use super::super::split::tests::{Choice, PLAIN, all, choice, made};
    use super::super::{Superframe, put};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_left_out_is_completed_to_what_it_was(
            choice in choice(),
            payload in proptest::collection::vec(any::<u8>(), 1..3000),
        ) {
            let whole = made(choice, &payload);
            let superframe = Superframe::new(&whole.header, &whole.frame).unwrap();
            let partial: Vec<Vec<u8>> = {
                let mut segments = superframe.segments(None).partial();
                std::iter::from_fn(|| {
                    let mut out = Vec::new();
                    segments.next_into(&mut out).then_some(out)
                })
                .collect()
            };
            let complete_ones = all(&superframe, None);
            prop_assert_eq!(partial.len(), complete_ones.len());
            for (mut partial, whole) in partial.into_iter().zip(complete_ones) {
                let header = partial_header(&partial).unwrap();
                prop_assert!(may_stay_partial(&header, &partial));
                complete(&mut partial);
                prop_assert_eq!(partial, whole);
            }
        }

        #[test]
        fn any_bytes_are_looked_over(mut frame in proptest::collection::vec(any::<u8>(), 0..200)) {
            complete(&mut frame);
        }
    }

    fn udp(ports: [u16; 2]) -> (VnetHeader, Vec<u8>) {
        let made = made(Choice { is_tcp: false, tcp_options: 0, ..PLAIN }, &[7; 100]);
        let mut frame = made.frame;
        put(&mut frame[made.transport_at..], 0, ports[0]);
        put(&mut frame[made.transport_at..], 2, ports[1]);
        (VnetHeader { gso_type: 0, gso_size: 0, ..made.header }, frame)
    }

    #[test]
    fn dhcp_and_what_the_frame_does_not_bear_out_is_completed_here() {
        let (header, frame) = udp([1000, 2000]);
        assert!(may_stay_partial(&header, &frame));
        for ports in [[68, 67], [67, 68], [1000, 67], [68, 1000], [547, 546], [1000, 547]] {
            let (header, frame) = udp(ports);
            assert!(is_dhcp(&frame), "{ports:?}");
            assert!(!may_stay_partial(&header, &frame), "{ports:?}");
        }
        for header in [
            VnetHeader { flags: 0, ..header },
            VnetHeader { checksum_start: header.checksum_start + 8, ..header },
            VnetHeader { checksum_offset: 16, ..header },
        ] {
            assert!(!may_stay_partial(&header, &frame), "{header:?}");
        }
        let mut fragment = frame.clone();
        fragment[14 + 6] = 0x20;
        assert!(!may_stay_partial(&header, &fragment) && partial_header(&fragment).is_none());
        let mut other = frame;
        other[14 + 9] = 132;
        assert!(!may_stay_partial(&header, &other), "SCTP has a checksum of another kind");
    }
}
