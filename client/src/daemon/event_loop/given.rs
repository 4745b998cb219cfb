//! The IPv4 address that the network gives this node: taken as soon as the record or its certificate says so (protocol §8.7).
//!
//! # Invariants
//!
//! - What the network gives is taken once. Whoever gives way to another whose certificate names the same address does not fight for it
//!   again before the network gives something else.
//! - A range that this machine uses elsewhere is not taken from it: the node keeps the address that its key gives it, and says so.

use super::EventLoop;
use crate::daemon::address::{self, check_beside, cidrs};
use shadowmesh_proto::membership::{Address, Delegation, Trust};
use shadowmesh_proto::wire::control::{Cidr4, Claim};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

/// How a member gets another address than it was given.
const ANEW: &str = "`sudo shadowmesh leave` and join by an invite that gives it (`shadowmesh invite --block CIDR` on an admin's host)";

impl EventLoop {
    /// Takes what the network gives, where that is news.
    pub(super) async fn follow_given(&mut self) {
        let Some(trust) = self.endpoint.trust().filter(|trust| trust.own().is_some()) else { return };
        let given =
            address::given(trust, self.network.address_space(), self.settings.address, self.network.given);
        let by_record = given.is_some_and(|given| trust.view().holder(given.address().into()).is_some());
        // One that it gave way with is its own after all once the record says so.
        if self.members.given == Some((given, by_record)) {
            return;
        }
        self.members.given = Some((given, by_record));
        self.members.given_clash = None;
        if given.is_some() && self.network.given != given {
            self.network.given = given;
            self.save_network();
        }
        let taken = match given {
            Some(given) if !self.is_usable(given).await => None,
            Some(given) => Some((given, self.claim_on(given, by_record))),
            None => None,
        };
        self.endpoint.set_given_ipv4(Instant::now(), taken);
        if let Some(sentence) = self.address_warning() {
            self.complain(sentence);
        }
    }

    /// How firmly it is held: as before where this node has it already.
    fn claim_on(&self, given: Cidr4, by_record: bool) -> Claim {
        let hello = self.endpoint.hello();
        if self.settings.address.is_some_and(|by_hand| by_hand.address() == given.address()) {
            return Claim::ByHand;
        }
        match by_record {
            true => Claim::Settled,
            false if hello.ipv4 == Some(given) => hello.claim.min(Claim::Settled),
            false => Claim::Fresh,
        }
    }

    /// Whether nothing else on this machine has the range.
    async fn is_usable(&mut self, given: Cidr4) -> bool {
        let now = self.endpoint.hello().ipv4;
        if now == Some(given) {
            return true;
        }
        let wanted = cidrs(Some(given), None);
        let there = self.interface.on_bridge().to_vec();
        let on_bridge = self.settings.bridge.name().map(|bridge| (bridge.as_str(), there.as_slice()));
        let checked = check_beside(&self.netlink, &wanted, on_bridge, Some(self.interface.index)).await;
        self.members.given_clash = checked.err().map(|error| error.to_string());
        self.members.given_clash.is_none()
    }

    /// That this node has another address than people here, or the network, want it to have.
    pub(super) fn address_warning(&self) -> Option<String> {
        let trust = self.endpoint.trust()?;
        let facts = trust.own_facts()?;
        let has = self.endpoint.hello().ipv4.map(|cidr| cidr.address());
        let instead = has.map_or_else(|| "no IPv4 address".to_owned(), |has| has.to_string());
        if let Some(clash) = &self.members.given_clash {
            let given = facts.addresses.ipv4().next()?;
            return Some(format!(
                "the network gives this host the address {given}, which is not taken: {clash}; it has {instead}"
            ));
        }
        let limits =
            trust.own().and_then(|own| own.chain.as_ref()).map(|(delegation, _)| delegation.claims());
        if let Some(wished) =
            self.settings.address.map(|by_hand| by_hand.address()).filter(|wished| has != Some(*wished))
        {
            return Some(format!("{}; this host has {instead}", self.why_not(trust, limits, wished)));
        }
        let has_blocks = limits.is_some_and(|limits| limits.blocks.iter().any(|block| block.is_ipv4()));
        let none = facts.addresses.ipv4().next().is_none() && has_blocks;
        let none = none && self.settings.address.is_none();
        none.then(|| {
            format!(
                "no address of the invite's ({}) is this host's, for others have those it tried; it has {instead}",
                blocks_of(limits)
            )
        })
    }

    /// Why this node does not have the address that people want.
    fn why_not(&self, trust: &Trust, limits: Option<&Delegation>, wished: Ipv4Addr) -> String {
        let address = Address::new(IpAddr::V4(wished));
        let holder = trust.view().holder(wished.into()).filter(|holder| *holder != trust.node());
        if let Some(holder) = holder {
            return format!("the address {wished} is not this host's but {}'s", self.name_and_id(holder));
        }
        match limits {
            Some(limits) if address.is_none_or(|address| !limits.gives(address)) => {
                format!(
                    "the invite does not give this host the address {wished} (it gives {}): {ANEW}",
                    blocks_of(Some(limits))
                )
            }
            _ if address.is_some_and(|address| trust.is_anothers(address, trust.node())) => {
                format!("the address {wished} is another member's")
            }
            _ => format!("the network does not give this host the address {wished}: {ANEW}"),
        }
    }
}

/// The blocks of a delegation, for people.
fn blocks_of(limits: Option<&Delegation>) -> String {
    let blocks: Vec<String> =
        limits.iter().flat_map(|limits| limits.blocks.iter()).map(ToString::to_string).collect();
    if blocks.is_empty() { "none".to_owned() } else { blocks.join(", ") }
}
