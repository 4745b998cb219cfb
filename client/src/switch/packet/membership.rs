//! Who wants which group: IGMP (RFC 1112 appendix I, RFC 2236, RFC 3376) and MLD (RFC 2710, RFC 3810).
//!
//! ```text
//! IGMP  | type 1 | max response 1 | checksum 2 | group 4 |            (v3 query: | flags, robustness 1 | interval 1 | sources 2 …)
//!        0x11 query, 0x12 0x16 report, 0x17 leave
//!       | 0x22 1 | 0 | checksum 2 | 0 0 | records 2 | { type 1 | aux words 1 | sources 2 | group 4 | sources 4 each | aux }…
//! MLD   | type 1 | 0 | checksum 2 | max response 2 | 0 0 | group 16 | (v2 query: | flags, robustness 1 | interval 1 | sources 2 …)
//!        130 query, 131 report, 132 done
//!       | 143 1 | 0 | checksum 2 | 0 0 | records 2 | { type 1 | aux words 1 | sources 2 | group 16 | sources 16 each | aux }…
//! ```
//!
//! Groups are told by the MAC that their frames go to (RFC 1112 §6.4, RFC 2464 §7): 32 groups of IPv4, and many of IPv6,
//! share one, so a peer may be sent what it did not ask for, and is never sent too little. Which sources it wants is not
//! looked at, for the same reason. What has a wrong checksum is nothing (RFC 4541 §2.1.1).

use super::ipv4::Ipv4;
use super::ipv6::Ipv6;
use super::{PROTOCOL_IGMP, checksum, word};
use shadowmesh_proto::ids::MacAddr;
use std::time::Duration;

const IGMP_QUERY: u8 = 0x11;
const IGMP_REPORT_1: u8 = 0x12;
const IGMP_REPORT_2: u8 = 0x16;
const IGMP_LEAVE: u8 = 0x17;
const IGMP_REPORT_3: u8 = 0x22;
const MLD_QUERY: u8 = 130;
const MLD_REPORT_1: u8 = 131;
const MLD_DONE: u8 = 132;
const MLD_REPORT_2: u8 = 143;

/// The defaults of a querier that does not say (RFC 3376 §8, RFC 3810 §9).
const ROBUSTNESS: u32 = 2;
const QUERY_INTERVAL: Duration = Duration::from_secs(125);
const MAX_RESPONSE: Duration = Duration::from_secs(10);

/// A message about membership.
#[derive(Debug, Clone)]
pub(in crate::switch) enum Membership<'a> {
    /// Somebody asks.
    Query(Query),
    /// A host says what it wants, or wants no more. `is_overheard`: other hosts that hear it say nothing themselves.
    Report { is_overheard: bool, wishes: Wishes<'a> },
}

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::switch) struct Query {
    pub(in crate::switch) family: Family,
    /// About all groups, and not only one.
    pub(in crate::switch) is_general: bool,
    /// Whether who asks has an address, and so may be a router: a switch that asks has none (RFC 4541 §2.1.1).
    pub(in crate::switch) is_from_router: bool,
    /// How long a report is good for, by the timers of who asks: robustness × interval + response (RFC 3376 §8.4).
    pub(in crate::switch) membership: Duration,
    /// How long hosts may take to answer.
    pub(in crate::switch) response: Duration,
}

/// What a host wants of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::switch) struct Wish {
    /// Where frames for the group go.
    pub(in crate::switch) group: MacAddr,
    /// To be sent them, or not any more.
    pub(in crate::switch) is_wanted: bool,
}

/// The wishes in a report. One that is cut short ends there.
#[derive(Debug, Clone)]
pub(in crate::switch) struct Wishes<'a> {
    single: Option<Wish>,
    family: Family,
    records: usize,
    rest: &'a [u8],
}

/// The two kinds of groups, each with its own protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::switch) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    const fn address(self) -> usize {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
        }
    }
}

impl<'a> Membership<'a> {
    /// `None` for anything else.
    pub(in crate::switch) fn in_ipv4(packet: &Ipv4<'a>) -> Option<Self> {
        let message = packet.payload;
        let is_whole = !packet.is_later_fragment && !packet.is_more;
        if packet.protocol != PROTOCOL_IGMP || !is_whole || checksum(&[message]) != 0 {
            return None;
        }
        let group = message.get(4..8)?;
        let tenths = u32::from(*message.get(1)?);
        match *message.first()? {
            IGMP_QUERY => {
                let timing = match (message.get(8).zip(message.get(9)), tenths) {
                    (Some((flags, interval)), _) => Timing::said(*flags, *interval, 100 * eased(tenths)),
                    (None, 0) => Timing::default(),
                    (None, tenths) => Timing {
                        response: Duration::from_millis(u64::from(100 * tenths)),
                        ..Timing::default()
                    },
                };
                Some(Self::query(Family::Ipv4, group, !packet.source.is_unspecified(), timing))
            }
            IGMP_REPORT_1 | IGMP_REPORT_2 => Self::single(Family::Ipv4, group, true),
            IGMP_LEAVE => Self::single(Family::Ipv4, group, false),
            IGMP_REPORT_3 => Self::several(Family::Ipv4, message),
            _ => None,
        }
    }

    /// `None` for anything else.
    pub(in crate::switch) fn in_ipv6(packet: &Ipv6<'a>) -> Option<Self> {
        let message = packet.icmp()?;
        let is_from_link = packet.source.is_unicast_link_local();
        // RFC 3810 §5: from the link, to the link. Hosts that have no address yet report as nobody (RFC 3590).
        if packet.hop_limit != 1 || !(is_from_link || packet.source.is_unspecified()) {
            return None;
        }
        let kind = *message.first()?;
        match kind {
            MLD_QUERY if is_from_link => {
                let response = u32::from(word(message, 4)?);
                let timing = match message.get(24).zip(message.get(25)) {
                    Some((flags, interval)) => Timing::said(*flags, *interval, eased_word(response)),
                    None => {
                        Timing { response: Duration::from_millis(u64::from(response)), ..Timing::default() }
                    }
                };
                Some(Self::query(Family::Ipv6, message.get(8..24)?, true, timing))
            }
            MLD_REPORT_1 | MLD_DONE => Self::single(Family::Ipv6, message.get(8..24)?, kind == MLD_REPORT_1),
            MLD_REPORT_2 => Self::several(Family::Ipv6, message),
            _ => None,
        }
    }

    fn query(family: Family, group: &[u8], is_from_router: bool, timing: Timing) -> Self {
        let is_general = group.iter().all(|byte| *byte == 0);
        let Timing { robustness, interval, response } = timing;
        let membership = interval * robustness + response;
        Self::Query(Query { family, is_general, is_from_router, membership, response })
    }

    fn single(family: Family, group: &[u8], is_wanted: bool) -> Option<Self> {
        let single = Some(Wish { group: mac_of(group)?, is_wanted });
        Some(Self::Report { is_overheard: true, wishes: Wishes { single, family, records: 0, rest: &[] } })
    }

    fn several(family: Family, message: &'a [u8]) -> Option<Self> {
        let (records, rest) = (usize::from(word(message, 6)?), message.get(8..)?);
        Some(Self::Report { is_overheard: false, wishes: Wishes { single: None, family, records, rest } })
    }
}

impl Iterator for Wishes<'_> {
    type Item = Wish;

    fn next(&mut self) -> Option<Wish> {
        if let Some(single) = self.single.take() {
            return Some(single);
        }
        while self.records > 0 {
            self.records -= 1;
            let (kind, aux) = (*self.rest.first()?, usize::from(*self.rest.get(1)?));
            let (sources, address) = (usize::from(word(self.rest, 2)?), self.family.address());
            let group = self.rest.get(4..4 + address)?;
            let wish = wish_of(kind, sources).zip(mac_of(group));
            self.rest = self.rest.get(4 + address + sources * address + 4 * aux..)?;
            if let Some((is_wanted, group)) = wish {
                return Some(Wish { group, is_wanted });
            }
        }
        None
    }
}

/// What a record says (RFC 3376 §4.2.12): whether the group is wanted from anybody, or that nothing changes.
const fn wish_of(kind: u8, sources: usize) -> Option<bool> {
    match kind {
        // MODE_IS_INCLUDE, CHANGE_TO_INCLUDE_MODE: these sources alone.
        1 | 3 => Some(sources > 0),
        // MODE_IS_EXCLUDE, CHANGE_TO_EXCLUDE_MODE: all but these.
        2 | 4 => Some(true),
        // ALLOW_NEW_SOURCES: these as well.
        5 if sources > 0 => Some(true),
        _ => None,
    }
}

/// Where frames for this group go. `None` when it is no group.
fn mac_of(address: &[u8]) -> Option<MacAddr> {
    match *address {
        [first, b, c, d] if first & 0xf0 == 0xe0 => Some(MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d])),
        [0xff, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d] => Some(MacAddr([0x33, 0x33, a, b, c, d])),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy)]
struct Timing {
    robustness: u32,
    interval: Duration,
    response: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { robustness: ROBUSTNESS, interval: QUERY_INTERVAL, response: MAX_RESPONSE }
    }
}

impl Timing {
    /// What a query of the newer versions says: a robustness or an interval of zero says nothing.
    fn said(flags: u8, interval: u8, response_ms: u32) -> Self {
        let Self { mut robustness, interval: mut every, .. } = Self::default();
        if flags & 7 != 0 {
            robustness = u32::from(flags & 7);
        }
        if interval != 0 {
            every = Duration::from_secs(u64::from(eased(u32::from(interval))));
        }
        Self { robustness, interval: every, response: Duration::from_millis(u64::from(response_ms)) }
    }
}

/// A byte that is a number up to 127 and a small floating point number above (RFC 3376 §4.1.1).
const fn eased(code: u32) -> u32 {
    if code < 128 { code } else { (code & 0x0f | 0x10) << ((code >> 4 & 7) + 3) }
}

/// The same in two bytes (RFC 3810 §5.1.3).
const fn eased_word(code: u32) -> u32 {
    if code < 32_768 { code } else { (code & 0x0fff | 0x1000) << ((code >> 12 & 7) + 3) }
}

#[cfg(test)]
pub(in crate::switch) mod tests {
    use super::super::ipv4::tests::packet as ipv4;
    use super::super::ipv6::tests::{icmp, packet as ipv6};
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// Who speaks.
    const HOST: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 9);
    const LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

    /// An IGMP message with a right checksum, in IPv4.
    pub(in crate::switch) fn igmp(from: Ipv4Addr, message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        let sum = checksum(&[&message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        ipv4(from, PROTOCOL_IGMP, 0, &message)
    }

    /// A report of version 3 about one group.
    pub(in crate::switch) fn report_3(kind: u8, group: Ipv4Addr) -> Vec<u8> {
        igmp(HOST, &[&[0x22, 0, 0, 0, 0, 0, 0, 1, kind, 0, 0, 0][..], &group.octets()].concat())
    }

    /// A message of version 2.
    pub(in crate::switch) fn igmp_2(from: Ipv4Addr, kind: u8, group: Ipv4Addr) -> Vec<u8> {
        igmp(from, &[&[kind, 100, 0, 0][..], &group.octets()].concat())
    }

    /// An MLD message, with the hop limit it must have.
    pub(in crate::switch) fn mld(from: Ipv6Addr, message: &[u8]) -> Vec<u8> {
        let mut packet = icmp(from, ROUTERS, message);
        packet[7] = 1;
        packet
    }

    /// A report of version 2 about one group.
    pub(in crate::switch) fn mld_report(kind: u8, group: Ipv6Addr) -> Vec<u8> {
        mld(LINK, &[&[143, 0, 0, 0, 0, 0, 0, 1, kind, 0, 0, 0][..], &group.octets()].concat())
    }

    fn read_4(packet: &[u8]) -> Option<Membership<'_>> {
        Membership::in_ipv4(&Ipv4::parse(packet)?)
    }

    fn read_6(packet: &[u8]) -> Option<Membership<'_>> {
        Membership::in_ipv6(&Ipv6::parse(packet)?)
    }

    fn wishes(read: Option<Membership<'_>>) -> (bool, Vec<(MacAddr, bool)>) {
        match read {
            Some(Membership::Report { is_overheard, wishes }) => {
                (is_overheard, wishes.map(|wish| (wish.group, wish.is_wanted)).collect())
            }
            other => panic!("no report: {other:?}"),
        }
    }

    fn query(read: Option<Membership<'_>>) -> Query {
        match read {
            Some(Membership::Query(query)) => query,
            other => panic!("no query: {other:?}"),
        }
    }

    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 129, 2, 3);
    const GROUP_MAC: MacAddr = MacAddr([1, 0, 0x5e, 1, 2, 3]);
    const GROUP_6: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0x0102, 0x0304);
    const GROUP_6_MAC: MacAddr = MacAddr([0x33, 0x33, 1, 2, 3, 4]);

    #[test]
    fn reports_of_every_version_are_read() {
        assert_eq!(wishes(read_4(&igmp_2(HOST, 0x16, GROUP))), (true, vec![(GROUP_MAC, true)]));
        assert_eq!(wishes(read_4(&igmp_2(HOST, 0x12, GROUP))), (true, vec![(GROUP_MAC, true)]));
        assert_eq!(wishes(read_4(&igmp_2(HOST, 0x17, GROUP))), (true, vec![(GROUP_MAC, false)]));
        assert_eq!(wishes(read_4(&report_3(4, GROUP))), (false, vec![(GROUP_MAC, true)]));
        assert_eq!(wishes(read_4(&report_3(3, GROUP))), (false, vec![(GROUP_MAC, false)]));
        let old = |kind| mld(LINK, &[&[kind, 0, 0, 0, 0, 0, 0, 0][..], &GROUP_6.octets()].concat());
        assert_eq!(wishes(read_6(&old(131))), (true, vec![(GROUP_6_MAC, true)]));
        assert_eq!(wishes(read_6(&old(132))), (true, vec![(GROUP_6_MAC, false)]));
        assert_eq!(wishes(read_6(&mld_report(2, GROUP_6))), (false, vec![(GROUP_6_MAC, true)]));
    }

    #[test]
    fn a_report_of_several_records_is_read_to_its_end() {
        let record = |kind: u8, sources: u16, aux: u8, group: Ipv4Addr| {
            let rest = vec![9; usize::from(sources) * 4 + usize::from(aux) * 4];
            [&[kind, aux][..], &sources.to_be_bytes(), &group.octets(), &rest].concat()
        };
        let other = Ipv4Addr::new(225, 0, 0, 9);
        let records = [
            record(1, 2, 0, GROUP),
            record(6, 1, 0, GROUP),
            record(1, 0, 3, other),
            record(4, 0, 0, Ipv4Addr::new(10, 0, 0, 1)),
            record(5, 1, 0, other),
        ];
        let message = [&[0x22, 0, 0, 0, 0, 0, 0, 5][..], &records.concat()].concat();
        let other_mac = MacAddr([1, 0, 0x5e, 0, 0, 9]);
        let all = vec![(GROUP_MAC, true), (other_mac, false), (other_mac, true)];
        assert_eq!(wishes(read_4(&igmp(HOST, &message))), (false, all.clone()));
        let cut = &message[..message.len() - 5];
        assert_eq!(wishes(read_4(&igmp(HOST, cut))).1, all[..2]);
    }

    #[test]
    fn queries_say_how_long_reports_are_good_for() {
        let seconds = Duration::from_secs;
        let old = query(read_4(&igmp_2(HOST, 0x11, Ipv4Addr::UNSPECIFIED)));
        assert_eq!((old.is_general, old.is_from_router, old.membership), (true, true, seconds(260)));
        assert!(!query(read_4(&igmp_2(Ipv4Addr::UNSPECIFIED, 0x11, Ipv4Addr::UNSPECIFIED))).is_from_router);
        assert!(!query(read_4(&igmp_2(HOST, 0x11, GROUP))).is_general);
        // Robustness 3, interval 2^3 × 24 = 192 s, response 2 s.
        let new = igmp(HOST, &[0x11, 20, 0, 0, 0, 0, 0, 0, 3, 0x88, 0, 0]);
        assert_eq!(query(read_4(&new)).membership, seconds(3 * 192 + 2));
        let silent = igmp(HOST, &[0x11, 100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(query(read_4(&silent)).membership, seconds(260));
        let mut message = vec![0; 28];
        (message[0], message[4], message[24], message[25]) = (130, 0x80, 2, 60);
        let read = query(read_6(&mld(LINK, &message)));
        // The code 0x8000 is 2^3 × 4096 ms.
        assert_eq!((read.is_general, read.membership), (true, Duration::from_millis(2 * 60_000 + 32_768)));
    }

    #[test]
    fn what_is_damaged_or_was_routed_is_nothing() {
        let mut bent = report_3(4, GROUP);
        bent[24] ^= 1;
        assert!(read_4(&bent).is_none(), "checksum");
        let mut routed = mld_report(2, GROUP_6);
        routed[7] = 64;
        assert!(read_6(&routed).is_none());
        let global = mld("fd00::1".parse().unwrap(), &[130; 24]);
        assert!(read_6(&global).is_none(), "not from the link");
        assert!(read_4(&igmp_2(HOST, 0x16, Ipv4Addr::new(10, 0, 0, 1))).is_none(), "no group");
    }

    proptest! {
        #[test]
        fn other_bytes_are_read_or_refused(
            kind in prop_oneof![Just(0x11u8), Just(0x16), Just(0x22), any::<u8>()],
            bytes in proptest::collection::vec(any::<u8>(), 3..80),
            code in 0u32..65_536,
        ) {
            let message = [&[kind], &bytes[..]].concat();
            if let Some(Membership::Report { wishes, .. }) = read_4(&igmp(HOST, &message)) {
                prop_assert!(wishes.count() <= 10);
            }
            for kind in [130, 131, 132, 143] {
                let message = [&[kind], &bytes[..]].concat();
                if let Some(Membership::Report { wishes, .. }) = read_6(&mld(LINK, &message)) {
                    prop_assert!(wishes.count() <= 4);
                }
            }
            let _ = read_6(&ipv6(LINK, ROUTERS, 58, &message));
            prop_assert!(eased(code % 256) <= 31_744 && eased_word(code) <= 8_387_584);
        }
    }
}
