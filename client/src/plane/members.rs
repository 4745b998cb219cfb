//! What is believed of the members: from it the [`Directory`] is made that both threads look things up in.
//!
//! This is the seam between who says something of a member and what the switch does with it. In a network without
//! certificates members say it themselves, in HELLO, so little of it is believed ([`Members::record`]):
//!
//! - The MAC follows from the key (protocol §1.5) and is the member's from the moment it is known, whatever it says.
//! - The IPv6 address follows from the key as well: it is taken when the member says that it has it, and no other.
//! - An IPv4 address is a claim. It is taken where it lies in this node's own range (from elsewhere it could not be
//!   reached on the link anyway, and a claim to an address of some other network would only be a lie). Whoever has it
//!   keeps it for as long as it is there and says so: one that is to give way does that itself, so that nobody takes it
//!   from one that does not. Else, of two that claim one, this node among them, the firmer has it, and between equals the
//!   lower key (protocol §1.6).
//! - What a member may do it does not say: the access rules do ([`Members::set_rights`]), and besides this node's own
//!   policy says who may serve. Without rules it may bridge strangers.
//!
//! With certificates ([`Members::certify`]) the network says it (protocol §8.7), and only a member that is let in has any address:
//!
//! - An address that the record gives to somebody is nobody else's, whether that one is here or not.
//! - Those that a member's certificate names are its own, whatever is in HELLO. Of two whose certificates name one, where the
//!   record is silent, who names it in HELLO has it, of two who do who has it keeps it, else the lower key has it.
//! - Those that follow from its key are its own beside: the IPv6 address, and the IPv4 address derived from its key that HELLO names,
//!   if it names one. A claim to any other, by hand or not, is nobody's.

use crate::switch::{Directory, Record, Rights, SwitchConfig};
use shadowmesh_proto::addresses::{self, AddressSpace};
use shadowmesh_proto::ids::{MacAddr, NodeId, PeerSlot};
use shadowmesh_proto::wire::control::{Cidr4, Claim, Hello};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Everybody that this node has met.
#[derive(Debug)]
pub struct Members {
    node: NodeId,
    mac: MacAddr,
    network: AddressSpace,
    config: SwitchConfig,
    ipv4: Option<Cidr4>,
    ipv6: Option<IpAddr>,
    claim: Claim,
    /// By slot.
    members: Vec<Option<Member>>,
    meetings: u64,
    /// Who had which IPv4 address when a directory was made last.
    holders: HashMap<Ipv4Addr, NodeId>,
    /// In a network with certificates: what it says.
    certified: Option<Certified>,
    /// What this node may do by the rules that it keeps to, which are everybody's where the record has them.
    own_rights: Rights,
    /// Whether what is believed changed since a directory was made of it.
    is_changed: bool,
}

/// What the network says where it has certificates.
#[derive(Debug, Default)]
struct Certified {
    /// What the record gives to whom.
    given: HashMap<IpAddr, NodeId>,
    /// What it vouches for of this node.
    own: Vec<IpAddr>,
}

impl Certified {
    fn is_anothers(&self, address: IpAddr, id: NodeId) -> bool {
        self.given.get(&address).is_some_and(|holder| *holder != id)
    }
}

/// How much it counts that somebody has an IPv4 address; the most last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// As HELLO says.
    Said(Claim),
    /// The network vouches for it.
    Vouched,
}

#[derive(Debug)]
struct Member {
    id: NodeId,
    /// These follow from it.
    mac: MacAddr,
    ipv6: Ipv6Addr,
    /// When it was met, beside the others: who was first keeps a MAC that two keys give.
    meeting: u64,
    /// What it said of itself last.
    said: Option<Said>,
    /// Which addresses the network vouches for; `None` where it vouches for nothing.
    vouched: Option<Vec<IpAddr>>,
    /// What the rules let it do.
    rights: Rights,
    is_there: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Said {
    ipv4: Option<Cidr4>,
    claim: Claim,
    has_ipv6: bool,
    /// Whether the IPv4 address follows from its key; nobody asks without certificates.
    is_derived: bool,
}

impl Members {
    /// Nobody but this node, which calls itself what is in `hello`.
    pub fn new(node: NodeId, network: AddressSpace, hello: &Hello, config: SwitchConfig) -> Self {
        Self {
            node,
            mac: addresses::mac(&node),
            network,
            config,
            ipv4: hello.ipv4,
            ipv6: hello.ipv6.map(|cidr| IpAddr::V6(cidr.address())),
            claim: hello.claim,
            members: Vec::new(),
            meetings: 0,
            holders: HashMap::new(),
            certified: None,
            own_rights: Rights::default(),
            is_changed: true,
        }
    }

    /// The network has certificates: it says who has which address from now on.
    pub fn certify(&mut self) {
        self.certified = Some(Certified::default());
        self.is_changed = true;
    }

    /// To whom its record gives addresses, and what it vouches for of this node.
    pub fn set_given(&mut self, given: HashMap<IpAddr, NodeId>, own: Vec<IpAddr>) {
        if let Some(certified) = &mut self.certified {
            self.is_changed |= certified.given != given || certified.own != own;
            *certified = Certified { given, own };
        }
    }

    /// It lets a peer in, with these addresses, or with `None` not any more.
    pub fn vouch(&mut self, slot: PeerSlot, addresses: Option<Vec<IpAddr>>) {
        let place = usize::try_from(slot.0).ok().and_then(|at| self.members.get_mut(at));
        if let Some(member) = place.and_then(Option::as_mut) {
            self.is_changed |= member.vouched != addresses;
            member.vouched = addresses;
        }
    }

    /// What the rules let a peer do.
    pub fn set_rights(&mut self, slot: PeerSlot, rights: Rights) {
        let place = usize::try_from(slot.0).ok().and_then(|at| self.members.get_mut(at));
        if let Some(member) = place.and_then(Option::as_mut) {
            self.is_changed |= member.rights != rights;
            member.rights = rights;
        }
    }

    /// What they let this node do.
    pub fn set_own_rights(&mut self, rights: Rights) {
        self.is_changed |= self.own_rights != rights;
        self.own_rights = rights;
    }

    /// A peer is known. Its MAC is its own from now on, whatever others send.
    ///
    /// # Errors
    /// A sentence for people, where somebody has that MAC already.
    pub fn introduce(&mut self, slot: PeerSlot, id: NodeId) -> Result<(), String> {
        self.remove(slot);
        let (mac, ipv6) = (addresses::mac(&id), addresses::ipv6(&self.network, &id));
        let is_taken = self.mac == mac || self.members.iter().flatten().any(|member| member.mac == mac);
        self.meetings += 1;
        let member = Member {
            id,
            mac,
            ipv6,
            meeting: self.meetings,
            said: None,
            vouched: None,
            rights: Rights::default(),
            is_there: false,
        };
        let Ok(at) = usize::try_from(slot.0) else { return Ok(()) };
        if at >= self.members.len() {
            self.members.resize_with(at + 1, || None);
        }
        if let Some(place) = self.members.get_mut(at) {
            *place = Some(member);
            self.is_changed = true;
        }
        if is_taken {
            return Err(format!(
                "the MAC {mac} of member {} belongs to another member already; one of the two must be given a new key",
                id.short()
            ));
        }
        Ok(())
    }

    /// A peer is forgotten.
    pub fn remove(&mut self, slot: PeerSlot) {
        if let Some(place) = usize::try_from(slot.0).ok().and_then(|at| self.members.get_mut(at)) {
            *place = None;
            self.is_changed = true;
        }
    }

    /// It is connected, or about to be, or it is not.
    pub fn set_presence(&mut self, slot: PeerSlot, is_there: bool) {
        let place = usize::try_from(slot.0).ok().and_then(|at| self.members.get_mut(at));
        if let Some(member) = place.and_then(Option::as_mut) {
            self.is_changed |= member.is_there != is_there;
            member.is_there = is_there;
        }
    }

    /// It said who it is.
    ///
    /// # Errors
    /// A sentence for people, where what it claims does not follow from its key.
    pub fn on_hello(&mut self, slot: PeerSlot, hello: &Hello) -> Result<(), String> {
        let place = usize::try_from(slot.0).ok().and_then(|at| self.members.get_mut(at));
        let Some(member) = place.and_then(Option::as_mut) else { return Ok(()) };
        let (mac, ipv6) = (member.mac, member.ipv6);
        let claimed = hello.ipv6.map(|cidr| cidr.address());
        // What it says again changes nothing, and it may say it often.
        let known = member.said.as_ref().filter(|said| said.ipv4 == hello.ipv4).map(|said| said.is_derived);
        let is_derived = known.unwrap_or_else(|| {
            let is_asked = self.certified.is_some();
            let address = hello.ipv4.filter(|_| is_asked).map(|cidr| cidr.address());
            address.is_some_and(|address| addresses::is_derived_ipv4(self.network, member.id, address))
        });
        let has_ipv6 = claimed == Some(ipv6);
        let said = Some(Said { ipv4: hello.ipv4, claim: hello.claim, has_ipv6, is_derived });
        self.is_changed |= member.said != said;
        member.said = said;
        let lie = |what: &str, claimed: &dyn std::fmt::Display, own: &dyn std::fmt::Display| {
            let id = member.id.short();
            Err(format!(
                "member {id} claims the {what} {claimed}, but its key gives it {own}: the claim is ignored"
            ))
        };
        match claimed {
            _ if hello.mac != mac => lie("MAC", &hello.mac, &mac),
            Some(claimed) if claimed != ipv6 => lie("address", &claimed, &ipv6),
            Some(_) | None => Ok(()),
        }
    }

    /// This node has its switch do this about members from now on.
    pub fn set_switch(&mut self, config: SwitchConfig) {
        self.is_changed |= self.config != config;
        self.config = config;
    }

    /// This node has another IPv4 address, which it holds firmly.
    pub fn set_own(&mut self, address: Cidr4) {
        self.take_own(address, Claim::Settled);
    }

    /// This node has another IPv4 address, which it holds so firmly.
    pub fn take_own(&mut self, address: Cidr4, claim: Claim) {
        self.ipv4 = Some(address);
        self.claim = claim;
        self.is_changed = true;
    }

    /// This node's claim on its address lived through a meeting.
    pub fn settle(&mut self) {
        self.is_changed |= self.claim < Claim::Settled;
        self.claim = self.claim.max(Claim::Settled);
    }

    /// What is believed of everybody, if that changed since it was asked last.
    pub fn renewed(&mut self) -> Option<Directory> {
        self.is_changed.then(|| self.directory())
    }

    /// What is believed of everybody.
    pub fn directory(&mut self) -> Directory {
        self.is_changed = false;
        self.holders = self.holders();
        let holders = &self.holders;
        let mut known: Vec<(PeerSlot, &Member)> = (0..)
            .map(PeerSlot)
            .zip(&self.members)
            .filter_map(|(slot, member)| Some((slot, member.as_ref()?)))
            .collect();
        known.sort_by_key(|(_, member)| member.meeting);
        let own = self.ipv4.map(|cidr| cidr.address()).filter(|own| holders.get(own) == Some(&self.node));
        let own: Vec<IpAddr> = own.map(IpAddr::V4).into_iter().chain(self.ipv6).collect();
        let mut directory = Directory::new(self.mac)
            .with_addresses(&own)
            .with_protection(self.config.protection)
            .with_own_rights(self.own_rights);
        for (slot, member) in known {
            // Who has the MAC of another was told of when it was met, and has no record.
            let _ = directory.admit(slot, self.record(member));
        }
        directory.reserve(self.certified.iter().flat_map(|certified| certified.given.keys().copied()));
        directory
    }

    /// What is believed of a member: see the module page.
    fn record(&self, member: &Member) -> Record {
        let rights = Rights {
            may_serve_dhcp: member.rights.may_serve_dhcp || self.config.dhcp_servers.allows(&member.id),
            ..member.rights
        };
        let has_it = |address: &Ipv4Addr| self.holders.get(address) == Some(&member.id);
        let ipv4 = self.claims_of(member).into_iter().map(|(address, _)| address).filter(has_it);
        let addresses: Vec<IpAddr> = ipv4.map(IpAddr::V4).chain(self.ipv6_of(member)).collect();
        Record::new(member.mac).with_addresses(&addresses).with_rights(rights)
    }

    /// Who has each IPv4 address that somebody claims: whom the network vouches for, else who has had it and is there, else the
    /// firmest, and of equals the one with the lowest key.
    fn holders(&self) -> HashMap<Ipv4Addr, NodeId> {
        let own = self.own_claim().map(|(address, weight)| (true, true, weight, address, self.node));
        let of_member = |member: &Member| {
            let (is_there, id) = (member.is_there, member.id);
            let said = member.said.as_ref().and_then(|said| said.ipv4).map(|cidr| cidr.address());
            let claims = self.claims_of(member).into_iter();
            claims.map(move |(address, weight)| (said == Some(address), is_there, weight, address, id))
        };
        let mut claims: Vec<_> = self.members.iter().flatten().flat_map(of_member).chain(own).collect();
        let has_it = |address: &Ipv4Addr, id: &NodeId| self.holders.get(address) == Some(id);
        // The best last: it replaces the others.
        claims.sort_by_key(|(says_so, is_there, weight, address, id)| {
            let is_vouched = *weight == Weight::Vouched;
            // Who gave way to another whose certificate names it as well says another address.
            (is_vouched, *says_so, *is_there && has_it(address, id), *weight, Reverse(*id))
        });
        claims.into_iter().map(|(.., address, id)| (address, id)).collect()
    }

    /// This node's own address, unless the record gives it to another.
    fn own_claim(&self) -> Option<(Ipv4Addr, Weight)> {
        let address = self.ipv4?.address();
        let Some(certified) = &self.certified else { return Some((address, Weight::Said(self.claim))) };
        let weight = if certified.own.contains(&address.into()) {
            Weight::Vouched
        } else {
            Weight::Said(self.claim.min(Claim::Settled))
        };
        (!certified.is_anothers(address.into(), self.node)).then_some((address, weight))
    }

    /// The IPv4 addresses that count as a member's.
    fn claims_of(&self, member: &Member) -> Vec<(Ipv4Addr, Weight)> {
        let Some(certified) = &self.certified else {
            let said = self.said_of(member).map(|(address, said)| (address, Weight::Said(said.claim)));
            return said.into_iter().collect();
        };
        let Some(vouched) = &member.vouched else { return Vec::new() };
        let mut claims: Vec<(Ipv4Addr, Weight)> = vouched
            .iter()
            .filter_map(|address| match address {
                IpAddr::V4(address) => Some((*address, Weight::Vouched)),
                IpAddr::V6(_) => None,
            })
            .collect();
        let derived = self.said_of(member).filter(|(address, said)| {
            said.is_derived && !claims.iter().any(|(vouched, _)| vouched == address)
        });
        let weight = |claim: Claim| Weight::Said(claim.min(Claim::Settled));
        claims.extend(derived.map(|(address, said)| (address, weight(said.claim))));
        claims.retain(|(address, _)| !certified.is_anothers((*address).into(), member.id));
        claims
    }

    /// The address that a member claims, if it is one that could be reached.
    fn said_of<'a>(&self, member: &'a Member) -> Option<(Ipv4Addr, &'a Said)> {
        let said = member.said.as_ref()?;
        let (own, address) = (self.ipv4?, said.ipv4?.address());
        is_host_of(own, address).then_some((address, said))
    }

    /// The IPv6 addresses that count as a member's.
    fn ipv6_of(&self, member: &Member) -> Vec<IpAddr> {
        let derived = IpAddr::V6(member.ipv6);
        let Some(certified) = &self.certified else {
            let has_it = member.said.as_ref().is_some_and(|said| said.has_ipv6);
            return has_it.then_some(derived).into_iter().collect();
        };
        let Some(vouched) = &member.vouched else { return Vec::new() };
        let named = vouched.iter().copied().filter(IpAddr::is_ipv6);
        let all: HashSet<IpAddr> = named.chain([derived]).collect();
        all.into_iter().filter(|address| !certified.is_anothers(*address, member.id)).collect()
    }
}

/// Whether a host may have this address in that range.
fn is_host_of(range: Cidr4, address: Ipv4Addr) -> bool {
    let hosts = u32::MAX.checked_shr(range.prefix().into()).unwrap_or(0);
    let (own, other) = (range.address().to_bits(), address.to_bits());
    own & !hosts == other & !hosts && other & hosts != 0 && other & hosts != hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::{Bridging, DhcpServers, Owner};
    use shadowmesh_proto::wire::control::Cidr6;

    const US: NodeId = NodeId([5; 32]);
    const LOW: NodeId = NodeId([1; 32]);
    const HIGH: NodeId = NodeId([9; 32]);
    const NETWORK: AddressSpace = AddressSpace([7; 32]);
    const A: PeerSlot = PeerSlot(0);
    const B: PeerSlot = PeerSlot(1);

    fn cidr(n: u8) -> Option<Cidr4> {
        Cidr4::new(Ipv4Addr::new(10, 7, 0, n), 16)
    }

    fn hello(node: &NodeId, ipv4: Option<Cidr4>, claim: Claim) -> Hello {
        Hello {
            name: "x".into(),
            mac: addresses::mac(node),
            ipv4,
            ipv6: Cidr6::new(addresses::ipv6(&NETWORK, node), 64),
            claim,
            mtu: 1400,
            revision: 1,
        }
    }

    /// This node has 10.7.0.1, settled; LOW is in slot A and HIGH in slot B.
    fn members(config: SwitchConfig) -> Members {
        let mut members = Members::new(US, NETWORK, &hello(&US, cidr(1), Claim::Settled), config);
        members.introduce(A, LOW).unwrap();
        members.introduce(B, HIGH).unwrap();
        members
    }

    fn holder(members: &mut Members, n: u8) -> Option<Owner> {
        members.directory().holder(Ipv4Addr::new(10, 7, 0, n).into(), 0)
    }

    #[test]
    fn a_mac_is_a_members_before_it_says_anything_and_addresses_after() {
        let mut members = members(SwitchConfig::default());
        let directory = members.directory();
        assert_eq!(directory.owner(addresses::mac(&LOW)), Some(Owner::Member(A)));
        assert_eq!(directory.local(), addresses::mac(&US));
        assert!(directory.member(A).unwrap().addresses.is_empty());
        members.on_hello(A, &hello(&LOW, cidr(2), Claim::Fresh)).unwrap();
        let directory = members.directory();
        let six = IpAddr::V6(addresses::ipv6(&NETWORK, &LOW));
        assert_eq!(directory.member(A).unwrap().addresses, [Ipv4Addr::new(10, 7, 0, 2).into(), six]);
        assert_eq!(directory.holder(addresses::ipv6(&NETWORK, &US).into(), 0), Some(Owner::Local));
        members.remove(A);
        assert_eq!(holder(&mut members, 2), None);
    }

    #[test]
    fn what_does_not_follow_from_the_key_is_ignored_and_said() {
        let mut members = members(SwitchConfig::default());
        let mac = Hello { mac: MacAddr([2; 6]), ..hello(&LOW, cidr(2), Claim::Fresh) };
        let error = members.on_hello(A, &mac).expect_err("a lie");
        assert!(
            error.contains("claims the MAC 02:02:02:02:02:02") && error.contains("is ignored"),
            "{error}"
        );
        let theirs = Hello { mac: addresses::mac(&LOW), ..hello(&HIGH, cidr(2), Claim::Fresh) };
        let error = members.on_hello(A, &theirs).expect_err("a lie");
        assert!(error.contains("claims the address fd"), "{error}");
        let directory = members.directory();
        assert_eq!(directory.owner(addresses::mac(&LOW)), Some(Owner::Member(A)));
        assert_eq!(directory.owner(MacAddr([2; 6])), None);
        assert_eq!(directory.holder(addresses::ipv6(&NETWORK, &HIGH).into(), 0), None);
    }

    #[test]
    fn of_two_claims_the_firmer_counts_and_between_equals_the_lower_key() {
        let mut members = members(SwitchConfig::default());
        members.on_hello(A, &hello(&LOW, cidr(2), Claim::Fresh)).unwrap();
        members.on_hello(B, &hello(&HIGH, cidr(2), Claim::Fresh)).unwrap();
        assert_eq!(holder(&mut members, 2), Some(Owner::Member(A)));
        members.on_hello(B, &hello(&HIGH, cidr(2), Claim::ByHand)).unwrap();
        assert_eq!(holder(&mut members, 2), Some(Owner::Member(B)));
        // Ours, too.
        members.on_hello(A, &hello(&LOW, cidr(1), Claim::Fresh)).unwrap();
        assert_eq!(holder(&mut members, 1), Some(Owner::Local));
        members.on_hello(A, &hello(&LOW, cidr(1), Claim::ByHand)).unwrap();
        assert_eq!(holder(&mut members, 1), Some(Owner::Local), "until this node takes another");
        members.set_own(cidr(3).unwrap());
        assert_eq!(
            (holder(&mut members, 1), holder(&mut members, 3)),
            (Some(Owner::Member(A)), Some(Owner::Local))
        );
    }

    #[test]
    fn nobody_takes_an_address_from_who_has_it_is_there_and_does_not_give_way() {
        let mut members = members(SwitchConfig::default());
        members.set_presence(A, true);
        members.set_presence(B, true);
        members.on_hello(A, &hello(&LOW, cidr(2), Claim::Fresh)).unwrap();
        assert_eq!(holder(&mut members, 2), Some(Owner::Member(A)));
        members.on_hello(B, &hello(&HIGH, cidr(2), Claim::ByHand)).unwrap();
        assert_eq!(holder(&mut members, 2), Some(Owner::Member(A)), "it has it");
        members.on_hello(A, &hello(&LOW, cidr(7), Claim::Fresh)).unwrap();
        assert_eq!(
            (holder(&mut members, 2), holder(&mut members, 7)),
            (Some(Owner::Member(B)), Some(Owner::Member(A)))
        );
        // It comes back to what another has by now, by hand as well.
        members.on_hello(A, &hello(&LOW, cidr(2), Claim::ByHand)).unwrap();
        assert_eq!(holder(&mut members, 2), Some(Owner::Member(B)));
        // Who is away keeps an address only from those who claim it less firmly.
        members.set_presence(B, false);
        assert_eq!(holder(&mut members, 2), Some(Owner::Member(A)));
        members.on_hello(A, &hello(&LOW, cidr(2), Claim::Fresh)).unwrap();
        members.set_presence(A, false);
        assert_eq!(holder(&mut members, 2), Some(Owner::Member(B)));
    }

    #[test]
    fn only_what_changes_something_makes_a_directory() {
        let mut members = members(SwitchConfig::default());
        assert!(members.renewed().is_some() && members.renewed().is_none());
        let said = hello(&LOW, cidr(2), Claim::Fresh);
        members.on_hello(A, &said).unwrap();
        assert!(members.renewed().is_some());
        members.on_hello(A, &Hello { revision: 2, name: "y".into(), ..said }).unwrap();
        members.settle();
        assert!(members.renewed().is_none());
        members.set_own(cidr(9).unwrap());
        assert!(members.renewed().is_some());
        members.on_hello(A, &hello(&LOW, cidr(2), Claim::ByHand)).unwrap();
        assert!(members.renewed().is_some());
        members.remove(A);
        assert!(members.renewed().is_some());
    }

    #[test]
    fn a_claim_to_what_could_not_be_reached_is_none() {
        let mut members = members(SwitchConfig::default());
        for (address, prefix) in
            [([192, 168, 1, 1], 24), ([10, 8, 0, 1], 16), ([10, 7, 0, 0], 16), ([10, 7, 255, 255], 16)]
        {
            let claimed = Cidr4::new(address.into(), prefix);
            members.on_hello(A, &hello(&LOW, claimed, Claim::ByHand)).unwrap();
            let directory = members.directory();
            assert_eq!(directory.holder(Ipv4Addr::from(address).into(), 0), None, "{address:?}");
        }
        assert!(is_host_of(Cidr4::new([1, 2, 3, 4].into(), 0).unwrap(), [9, 9, 9, 9].into()));
        assert!(!is_host_of(Cidr4::new([1, 2, 3, 4].into(), 32).unwrap(), [1, 2, 3, 4].into()));
    }

    #[test]
    fn who_may_serve_is_what_this_node_says_and_not_the_member() {
        let config =
            SwitchConfig { dhcp_servers: DhcpServers::Some(vec![LOW.short()]), ..SwitchConfig::default() };
        let directory = members(config).directory();
        assert!(directory.rights(A).may_serve_dhcp && !directory.rights(B).may_serve_dhcp);
        assert_eq!(directory.rights(A).may_bridge, Bridging::Strangers);
        assert!(!members(SwitchConfig::default()).directory().rights(A).may_serve_dhcp);
        // Or what the rules say, which is told while it is there.
        let mut members = members(SwitchConfig::default());
        members.directory();
        let server = Rights { may_serve_dhcp: true, ..Rights::default() };
        members.set_rights(A, server);
        members.set_own_rights(Rights { may_speak_to_bridges: true, ..Rights::default() });
        let directory = members.renewed().expect("that is news");
        assert_eq!((directory.rights(A), directory.rights(B)), (server, Rights::default()));
        assert!(directory.own_rights().may_speak_to_bridges);
        members.set_rights(A, server);
        assert!(members.renewed().is_none());
    }

    #[test]
    fn a_mac_of_two_keys_stays_with_who_was_met_first() {
        // Two slots of one id stand in for two ids of one MAC, which take 2^46 keys to find.
        let mut members = members(SwitchConfig::default());
        members.remove(A);
        let refused = members.introduce(A, HIGH).expect_err("taken");
        assert!(refused.contains("belongs to another member already"), "{refused}");
        assert!(members.introduce(PeerSlot(2), US).is_err(), "ours as well");
        let directory = members.directory();
        assert_eq!(directory.owner(addresses::mac(&HIGH)), Some(Owner::Member(B)), "not the lower slot");
        assert_eq!((directory.member(A), directory.member(PeerSlot(2))), (None, None));
    }

    /// The same in a network with certificates, where nobody was let in yet.
    fn certified() -> Members {
        let mut members =
            Members::new(US, NETWORK, &hello(&US, derived(&US, 0), Claim::Settled), SwitchConfig::default());
        members.certify();
        members.introduce(A, LOW).unwrap();
        members.introduce(B, HIGH).unwrap();
        members
    }

    fn derived(node: &NodeId, nth: usize) -> Option<Cidr4> {
        let (_, address) = addresses::ipv4_attempts(NETWORK, *node).nth(nth)?;
        Cidr4::new(address, 16)
    }

    fn has(members: &mut Members, address: impl Into<IpAddr>) -> Option<Owner> {
        members.directory().holder(address.into(), 0)
    }

    #[test]
    fn with_certificates_only_who_is_let_in_has_addresses_and_only_those_of_its_key() {
        let mut members = certified();
        let (six, four) = (addresses::ipv6(&NETWORK, &LOW), derived(&LOW, 3).unwrap());
        members.on_hello(A, &hello(&LOW, Some(four), Claim::ByHand)).unwrap();
        assert_eq!((has(&mut members, six), has(&mut members, four.address())), (None, None));
        assert_eq!(members.directory().owner(addresses::mac(&LOW)), Some(Owner::Member(A)));
        members.vouch(A, Some(vec![]));
        let owner = Some(Owner::Member(A));
        assert_eq!((has(&mut members, six), has(&mut members, four.address())), (owner, owner));
        // By hand it may have what it likes, and is the owner of nothing.
        let chosen = Cidr4::new(addresses::ipv4_network(&NETWORK) | Ipv4Addr::new(0, 0, 99, 99), 16).unwrap();
        members.on_hello(A, &hello(&LOW, Some(chosen), Claim::ByHand)).unwrap();
        assert_eq!((has(&mut members, chosen.address()), has(&mut members, four.address())), (None, None));
        // Nor does a hand move who has an address of its key.
        let ours = derived(&US, 0).unwrap();
        members.on_hello(A, &hello(&LOW, Some(ours), Claim::ByHand)).unwrap();
        assert_eq!(has(&mut members, ours.address()), Some(Owner::Local));
        members.on_hello(A, &hello(&LOW, Some(four), Claim::Fresh)).unwrap();
        members.vouch(A, None);
        assert_eq!((has(&mut members, six), has(&mut members, four.address())), (None, None));
    }

    #[test]
    fn what_a_certificate_names_is_its_members_whatever_is_said() {
        let mut members = certified();
        let named = Ipv4Addr::new(192, 168, 9, 9);
        let theirs = derived(&HIGH, 0).unwrap();
        members.vouch(B, Some(vec![]));
        members.set_presence(B, true);
        members.on_hello(B, &hello(&HIGH, Some(theirs), Claim::Settled)).unwrap();
        assert_eq!(has(&mut members, theirs.address()), Some(Owner::Member(B)));
        let six: IpAddr = "fd99::9".parse().unwrap();
        members.vouch(A, Some(vec![named.into(), theirs.address().into(), six]));
        members.on_hello(A, &hello(&LOW, derived(&LOW, 0), Claim::Settled)).unwrap();
        let owner = Some(Owner::Member(A));
        assert_eq!((has(&mut members, named), has(&mut members, six)), (owner, owner));
        assert_eq!(has(&mut members, theirs.address()), owner, "also where somebody was there");
        let of_its_key = derived(&LOW, 0).unwrap().address();
        assert_eq!(has(&mut members, of_its_key), owner, "and the one of its key that it says it has");
        let chosen = Cidr4::new(addresses::ipv4_network(&NETWORK) | Ipv4Addr::new(0, 0, 99, 99), 16);
        members.on_hello(A, &hello(&LOW, chosen, Claim::ByHand)).unwrap();
        assert_eq!(has(&mut members, chosen.unwrap().address()), None);
        assert_eq!(has(&mut members, of_its_key), None, "it has those and no others");
        assert_eq!(has(&mut members, addresses::ipv6(&NETWORK, &LOW)), owner);
        // Of two certificates that name one the lower key has it, and who has it keeps it.
        members.vouch(B, Some(vec![named.into()]));
        members.set_presence(A, true);
        assert_eq!(has(&mut members, named), owner);
        members.vouch(A, Some(vec![]));
        assert_eq!(has(&mut members, named), Some(Owner::Member(B)));
        members.vouch(A, Some(vec![named.into()]));
        assert_eq!(has(&mut members, named), Some(Owner::Member(B)));
        // But not who gave way: it says another.
        members.on_hello(A, &hello(&LOW, Cidr4::new(named, 24), Claim::Settled)).unwrap();
        assert_eq!(has(&mut members, named), owner);
    }

    #[test]
    fn what_the_record_gives_is_nobody_elses_whoever_is_here() {
        let mut members = certified();
        let (theirs, ours) = (derived(&HIGH, 0).unwrap(), derived(&US, 0).unwrap().address());
        members.vouch(B, Some(vec![]));
        members.on_hello(B, &hello(&HIGH, Some(theirs), Claim::Settled)).unwrap();
        assert_eq!(has(&mut members, ours), Some(Owner::Local));
        let given = [theirs.address().into(), ours.into(), addresses::ipv6(&NETWORK, &HIGH).into()];
        members.set_given(given.map(|address: IpAddr| (address, LOW)).into(), vec![]);
        assert!(members.renewed().is_some());
        for address in given {
            assert_eq!(has(&mut members, address), Some(Owner::Absent), "{address}");
        }
        members.vouch(A, Some(given.to_vec()));
        for address in given {
            assert_eq!(has(&mut members, address), Some(Owner::Member(A)), "{address}");
        }
        members.set_given(HashMap::new(), vec![ours.into()]);
        members.vouch(A, None);
        assert_eq!(has(&mut members, ours), Some(Owner::Local));
        assert_eq!(has(&mut members, theirs.address()), Some(Owner::Member(B)));
    }
}
