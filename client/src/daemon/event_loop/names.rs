//! Who has which name for the programs of this machine ([`crate::names`]), by what the loop knows of everybody.
//!
//! In a network with certificates those have one that the record or a certificate names, and that are let in, or that nobody met yet and the
//! record knows; without, everybody that said its name. Addresses are those that the switch believes.

use super::EventLoop;
use crate::daemon::report;
use crate::names::book::{Book, Candidate, Voucher};
use shadowmesh_proto::endpoint::status::PeerStatus;
use shadowmesh_proto::ids::NodeId;
use shadowmesh_proto::membership::{Trust, Verdict};
use std::net::IpAddr;
use std::time::Instant;

impl EventLoop {
    /// Says who is called what, where that may have changed and somebody wants to know.
    pub(super) fn tell_names(&mut self) {
        if self.names.wants_book() {
            self.names.tell(Book::new(&self.candidates()));
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let peers = self.endpoint.peer_status(Instant::now());
        let own = self.endpoint.hello();
        let own: Vec<IpAddr> = own
            .ipv4
            .map(|cidr| IpAddr::V4(cidr.address()))
            .into_iter()
            .chain(own.ipv6.map(|cidr| IpAddr::V6(cidr.address())))
            .collect();
        let Some(trust) = self.endpoint.trust() else {
            let said = peers.iter().filter_map(|peer| {
                let name = peer.hello.as_ref()?.name.clone();
                let addresses = self.addresses_in_use(peer);
                Some(Candidate { id: peer.id, name, voucher: Voucher::Itself, addresses })
            });
            let id = self.endpoint.id();
            let own = Candidate {
                id,
                name: self.settings.name.to_string(),
                voucher: Voucher::Itself,
                addresses: own,
            };
            return said.chain([own]).collect();
        };
        let named = self.roster().into_iter().filter_map(|(id, name)| {
            let peer = peers.iter().find(|peer| peer.id == id);
            let addresses =
                if id == trust.node() { own.clone() } else { self.addresses_of_member(trust, id, peer)? };
            let is_recorded = trust.view().word(id).is_some_and(|word| word.name.is_some());
            let voucher = if is_recorded { Voucher::Record } else { Voucher::Certificate };
            // Whom nobody names goes by its id, which is for people to type to this program.
            (name != id.short()).then_some(Candidate { id, name, voucher, addresses })
        });
        named.collect()
    }

    /// Those of a member that is let in, or that the record knows and nobody met; `None` for who is no member.
    fn addresses_of_member(
        &self,
        trust: &Trust,
        id: NodeId,
        peer: Option<&PeerStatus>,
    ) -> Option<Vec<IpAddr>> {
        let view = trust.view();
        if view.revocation(id).is_some() {
            return None;
        }
        match peer.and_then(|peer| Some((peer, peer.member.as_ref()?))) {
            Some((peer, member)) => match member.verdict {
                Verdict::Admitted(_) => Some(self.addresses_in_use(peer)),
                Verdict::Pending | Verdict::Refused(_) => None,
            },
            None => {
                let given = view.addresses().filter(|(_, holder)| *holder == id);
                view.knows(id).then(|| given.map(|(address, _)| address).collect())
            }
        }
    }

    /// Those that a peer says it has and that are its own; behind them the others that are.
    ///
    /// One that has no IPv6 says so: its address would be answered for, and lead nowhere.
    fn addresses_in_use(&self, peer: &PeerStatus) -> Vec<IpAddr> {
        let (said, believed) = (report::addresses(peer), self.routes.addresses(peer.slot));
        let has_said = peer.hello.is_some();
        let in_use = said.iter().filter(|address| believed.contains(address));
        let others =
            believed.iter().filter(|address| !(said.contains(address) || has_said && address.is_ipv6()));
        in_use.chain(others).copied().collect()
    }
}
