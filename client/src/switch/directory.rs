//! Who has which MAC and which addresses, and what each may do: facts, not traffic.
//!
//! Built by the control task ([`crate::plane`]'s members) and published to both data threads in their snapshot, so it
//! is immutable while they look. Whoever builds it decides what is a fact; here every record is believed. A MAC follows
//! from a node's key, so two members with one is either an attack or a one in 2^45 accident; the first keeps it.
//!
//! What is not in a record belongs to nobody: the stations of bridged LANs, addresses that a member was given beside
//! its own, link-local addresses. Of the last, those that follow from a MAC (modified EUI-64, RFC 4291 appendix A)
//! belong to whom the MAC belongs.
//!
//! A MAC is its owner's in every VLAN, for interfaces of VLANs have that of the device. Addresses are those of the device
//! itself: a VLAN is another segment, in which the same range may be somebody else's.

use super::protection::Protection;
use shadowmesh_proto::ids::{MacAddr, PeerSlot};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Who owns a MAC or an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Our own device.
    Local,
    /// A member's device.
    Member(PeerSlot),
    /// A member that is not here. Nobody else is it meanwhile.
    Absent,
}

/// For what a member may speak beside itself. Declared least first, so `Ord` says who may more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Bridging {
    /// For nothing: a MAC or an address that is not its own is not let in.
    Nothing,
    /// For what nobody owns: a LAN behind it. Everybody may, where no rule says otherwise.
    #[default]
    Strangers,
    /// For what others own as well: a rule lets it stand between them and the rest.
    Anybody,
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rights {
    /// Speak for others.
    pub may_bridge: Bridging,
    /// Answer as a DHCP server, advertise itself as a router, redirect, ask for all who is in which group.
    pub may_serve_dhcp: bool,
    /// Send what bridges say to each other: BPDUs, LLDP.
    pub may_speak_to_bridges: bool,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its own MAC.
    pub mac: MacAddr,
    /// Its own addresses on the overlay, IPv4 and IPv6.
    pub addresses: Vec<IpAddr>,
    /// What it may do.
    pub rights: Rights,
}

impl Record {
    /// A member with this MAC, no address, and what everybody may.
    pub const fn new(mac: MacAddr) -> Self {
        let rights =
            Rights { may_bridge: Bridging::Strangers, may_serve_dhcp: false, may_speak_to_bridges: false };
        Self { mac, addresses: Vec::new(), rights }
    }

    /// With these addresses.
    #[must_use]
    pub fn with_addresses(mut self, addresses: &[IpAddr]) -> Self {
        self.addresses = addresses.to_vec();
        self
    }

    /// With these rights.
    #[must_use]
    pub const fn with_rights(mut self, rights: Rights) -> Self {
        self.rights = rights;
        self
    }
}

/// The MAC has an owner already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the MAC {mac} belongs to another member already; one of the two must be given a new key")]
pub struct Taken {
    /// The MAC in question.
    pub mac: MacAddr,
    /// Who has it.
    pub owner: Owner,
}

/// Every record, found by slot, by MAC and by address; and what this node keeps out.
#[derive(Debug, Clone)]
pub struct Directory {
    local: MacAddr,
    macs: HashMap<MacAddr, PeerSlot>,
    addresses: HashMap<IpAddr, Owner>,
    members: Vec<Option<Record>>,
    protection: Protection,
    own_rights: Rights,
}

impl Directory {
    /// Nobody but our own device, which has no address yet.
    pub fn new(local: MacAddr) -> Self {
        Self {
            local,
            macs: HashMap::new(),
            addresses: HashMap::new(),
            members: Vec::new(),
            protection: Protection::default(),
            own_rights: Rights::default(),
        }
    }

    /// With our own addresses, in place of those before.
    #[must_use]
    pub fn with_addresses(mut self, own: &[IpAddr]) -> Self {
        self.addresses.retain(|_, owner| *owner != Owner::Local);
        self.addresses.extend(own.iter().map(|address| (*address, Owner::Local)));
        self
    }

    /// Keeps addresses for those who are not here, as far as nobody has them.
    pub fn reserve(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        for address in addresses {
            self.addresses.entry(address).or_insert(Owner::Absent);
        }
    }

    /// With this protection.
    #[must_use]
    pub const fn with_protection(mut self, protection: Protection) -> Self {
        self.protection = protection;
        self
    }

    /// With what this node may do, by the rules of others.
    #[must_use]
    pub const fn with_own_rights(mut self, rights: Rights) -> Self {
        self.own_rights = rights;
        self
    }

    /// What this node may do.
    pub const fn own_rights(&self) -> Rights {
        self.own_rights
    }

    /// Our own MAC.
    pub const fn local(&self) -> MacAddr {
        self.local
    }

    /// What this node keeps out.
    pub const fn protection(&self) -> &Protection {
        &self.protection
    }

    /// Takes in a member's record, in place of the one it had. An address that somebody has is left out of it.
    ///
    /// # Errors
    /// [`Taken`] when somebody else has the MAC; nothing changes then.
    pub fn admit(&mut self, slot: PeerSlot, mut record: Record) -> Result<(), Taken> {
        match self.owner(record.mac) {
            Some(owner) if owner != Owner::Member(slot) => return Err(Taken { mac: record.mac, owner }),
            _ => {}
        }
        let Ok(at) = usize::try_from(slot.0) else { return Ok(()) };
        self.remove(slot);
        let owner = Owner::Member(slot);
        record.addresses.retain(|address| *self.addresses.entry(*address).or_insert(owner) == owner);
        self.macs.insert(record.mac, slot);
        if at >= self.members.len() {
            self.members.resize(at + 1, None);
        }
        if let Some(place) = self.members.get_mut(at) {
            *place = Some(record);
        }
        Ok(())
    }

    /// Forgets a member that left.
    pub fn remove(&mut self, slot: PeerSlot) {
        let place = usize::try_from(slot.0).ok().and_then(|at| self.members.get_mut(at));
        let Some(record) = place.and_then(Option::take) else { return };
        self.macs.remove(&record.mac);
        for address in &record.addresses {
            self.addresses.remove(address);
        }
    }

    /// The record of a member.
    pub fn member(&self, slot: PeerSlot) -> Option<&Record> {
        self.members.get(usize::try_from(slot.0).ok()?)?.as_ref()
    }

    /// What a member may do; one without a record what everybody may.
    pub fn rights(&self, slot: PeerSlot) -> Rights {
        self.member(slot).map(|record| record.rights).unwrap_or_default()
    }

    /// Who owns `mac`, if anyone does.
    pub fn owner(&self, mac: MacAddr) -> Option<Owner> {
        if mac == self.local {
            return Some(Owner::Local);
        }
        self.macs.get(&mac).copied().map(Owner::Member)
    }

    /// In whose record `address` is; nobody's has one of a VLAN (0 is none).
    pub fn holder(&self, address: IpAddr, vlan: u16) -> Option<Owner> {
        if vlan == 0 { self.addresses.get(&address).copied() } else { None }
    }

    /// Who alone may speak as `address` there: who has it in his record, or has the MAC that it is made of.
    pub fn bearer(&self, address: IpAddr, vlan: u16) -> Option<Owner> {
        self.holder(address, vlan).or_else(|| match address {
            IpAddr::V6(address) => self.owner(mac_in(address)?),
            IpAddr::V4(_) => None,
        })
    }
}

/// The MAC that a link-local address was made of, if it looks so: fe80::/64 and a modified EUI-64.
fn mac_in(address: Ipv6Addr) -> Option<MacAddr> {
    match address.octets() {
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, 0xff, 0xfe, d, e, f] => {
            Some(MacAddr([a ^ 0x02, b, c, d, e, f]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: PeerSlot = PeerSlot(1);
    const B: PeerSlot = PeerSlot(2);

    const fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_owner_keeps_a_mac() {
        let mut directory = Directory::new(mac(0));
        assert_eq!(directory.admit(A, Record::new(mac(1))), Ok(()));
        assert_eq!(directory.admit(A, Record::new(mac(1))), Ok(()));
        let taken = Taken { mac: mac(1), owner: Owner::Member(A) };
        assert_eq!(directory.admit(B, Record::new(mac(1))), Err(taken));
        let ours = Taken { mac: mac(0), owner: Owner::Local };
        assert_eq!(directory.admit(B, Record::new(mac(0))), Err(ours));
        assert_eq!(directory.owner(mac(0)), Some(Owner::Local));
        assert_eq!(directory.owner(mac(1)), Some(Owner::Member(A)));
        assert_eq!((directory.owner(mac(9)), directory.member(B)), (None, None));
    }

    #[test]
    fn the_first_owner_keeps_an_address() {
        let mut directory = Directory::new(mac(0)).with_addresses(&[ip("10.7.0.1")]);
        let record = |n, addresses: &[IpAddr]| Record::new(mac(n)).with_addresses(addresses);
        directory.admit(A, record(1, &[ip("10.7.0.2"), ip("fd00::2")])).unwrap();
        directory.admit(B, record(2, &[ip("10.7.0.1"), ip("fd00::2"), ip("10.7.0.3")])).unwrap();
        assert_eq!(directory.holder(ip("10.7.0.1"), 0), Some(Owner::Local));
        assert_eq!(directory.holder(ip("fd00::2"), 0), Some(Owner::Member(A)));
        assert_eq!(directory.holder(ip("10.7.0.3"), 0), Some(Owner::Member(B)));
        assert_eq!(directory.member(B).unwrap().addresses, [ip("10.7.0.3")]);
        // B leaves: what A has stays A's.
        directory.remove(B);
        assert_eq!(directory.holder(ip("fd00::2"), 0), Some(Owner::Member(A)));
        assert_eq!((directory.holder(ip("10.7.0.3"), 0), directory.owner(mac(2))), (None, None));
    }

    #[test]
    fn an_address_is_kept_for_who_is_not_here_unless_somebody_has_it() {
        let mut directory = Directory::new(mac(0)).with_addresses(&[ip("10.7.0.1")]);
        directory.admit(A, Record::new(mac(1)).with_addresses(&[ip("10.7.0.2")])).unwrap();
        directory.reserve(["10.7.0.1", "10.7.0.2", "10.7.0.3"].map(ip));
        let holders = ["10.7.0.1", "10.7.0.2", "10.7.0.3"].map(|address| directory.holder(ip(address), 0));
        assert_eq!(holders, [Some(Owner::Local), Some(Owner::Member(A)), Some(Owner::Absent)]);
        assert_eq!(directory.bearer(ip("10.7.0.3"), 5), None, "a VLAN is another segment");
    }

    #[test]
    fn a_member_has_one_record_until_it_leaves() {
        let mut directory = Directory::new(mac(0));
        directory.admit(A, Record::new(mac(1)).with_addresses(&[ip("10.7.0.2")])).unwrap();
        directory.admit(A, Record::new(mac(2)).with_addresses(&[ip("10.7.0.9")])).unwrap();
        assert_eq!((directory.owner(mac(1)), directory.owner(mac(2))), (None, Some(Owner::Member(A))));
        assert_eq!(
            (directory.holder(ip("10.7.0.2"), 0), directory.holder(ip("10.7.0.9"), 0).is_some()),
            (None, true)
        );
        directory.remove(A);
        assert_eq!(directory.owner(mac(2)), None);
        assert_eq!(directory.admit(B, Record::new(mac(2))), Ok(()));
    }

    #[test]
    fn a_link_local_address_made_of_a_mac_belongs_with_it() {
        let mut directory = Directory::new(mac(0));
        directory.admit(A, Record::new(mac(1))).unwrap();
        assert_eq!(directory.bearer(ip("fe80::ff:fe00:1"), 0), Some(Owner::Member(A)));
        assert_eq!(directory.bearer(ip("fe80::ff:fe00:0"), 0), Some(Owner::Local));
        assert_eq!(directory.bearer(ip("fe80::ff:fe00:9"), 0), None);
        assert_eq!(directory.bearer(ip("fe80::1"), 0), None);
        assert_eq!(directory.holder(ip("fe80::ff:fe00:1"), 0), None, "it is in no record");
    }

    proptest! {
        /// Every index agrees with the records, whatever is admitted and removed.
        #[test]
        fn the_indices_agree_with_the_records(
            steps in proptest::collection::vec(
                (0u32..4, 0u8..5, proptest::collection::vec(0u8..6, 0..3), any::<bool>()), 0..60),
        ) {
            let mut directory = Directory::new(mac(0)).with_addresses(&[ip("10.0.0.0")]);
            for (slot, n, addresses, leaves) in steps {
                let slot = PeerSlot(slot);
                if leaves {
                    directory.remove(slot);
                } else {
                    let addresses: Vec<IpAddr> = addresses.iter().map(|n| IpAddr::from([10, 0, 0, *n])).collect();
                    let _ = directory.admit(slot, Record::new(mac(n)).with_addresses(&addresses));
                }
                let records = || (0..4).map(PeerSlot).filter_map(|slot| Some((slot, directory.member(slot)?)));
                prop_assert_eq!(records().count(), directory.macs.len());
                for (slot, record) in records() {
                    prop_assert_eq!(directory.owner(record.mac), Some(Owner::Member(slot)));
                    for address in &record.addresses {
                        prop_assert_eq!(directory.holder(*address, 0), Some(Owner::Member(slot)));
                    }
                }
                let members = directory.addresses.values().filter(|owner| **owner != Owner::Local).count();
                let distinct = |record: &Record| record.addresses.iter().collect::<std::collections::HashSet<_>>().len();
                prop_assert_eq!(members, records().map(|(_, record)| distinct(record)).sum::<usize>());
                prop_assert_eq!(directory.holder(ip("10.0.0.0"), 0), Some(Owner::Local));
            }
        }
    }
}
