//! Requests that come over the control socket.

use super::{Echo, EventLoop, Sleeper};
use crate::control::message::{ErrorCode, Netcheck, Request, Response};
use crate::control::names;
use crate::control::server::{Incoming, Reply};
use crate::control::status as doc;
use crate::daemon::{clock, netcheck, report};
use crate::system_rng::SystemRng;
use shadowmesh_proto::endpoint::event::PeerState;
use shadowmesh_proto::endpoint::status::{PeerStatus, RelayStatus};
use shadowmesh_proto::membership::Verdict;
use shadowmesh_proto::rng::Rng as _;
use std::collections::BTreeMap;
use std::time::Instant;

impl EventLoop {
    /// Answers; `true` when the daemon was asked to end.
    pub(super) fn answer(&mut self, incoming: Incoming) -> bool {
        let Incoming { request, reply, .. } = incoming;
        match request {
            Request::Status => reply.send(Response::Status(Box::new(self.status()))),
            Request::Netcheck => reply.send(Response::Netcheck(Box::new(self.netcheck()))),
            Request::Ping { peer } => self.ping(&peer, reply),
            Request::Path { peer, wanted, timeout_ms } => {
                if let Some((found, reply)) = self.find(&peer, reply) {
                    self.want_path(found.slot, wanted, timeout_ms, reply);
                }
            }
            Request::Reload => {
                let response = self.reload();
                reply.send(response);
            }
            Request::Down => {
                reply.send(Response::Leaving);
                return true;
            }
            Request::Invite { expires_s, name, limits } => {
                let response = self.invite(expires_s, name, limits);
                reply.send(response);
            }
            Request::AdminId { anew } => reply.send(match self.admin_id(anew) {
                Ok(id) => Response::AdminId { id: id.to_base32() },
                Err(sentence) => Response::error(ErrorCode::Failed, sentence),
            }),
            Request::Members => reply.send(self.members_document()),
            Request::Export => reply.send(self.copy()),
            Request::Change(change) => {
                let response = self.change(change);
                reply.send(response);
            }
        }
        false
    }

    fn ping(&mut self, peer: &str, reply: Reply) {
        let now = Instant::now();
        let Some((found, reply)) = self.find(peer, reply) else { return };
        self.forget_echoes(now);
        let id = SystemRng.next_u64();
        if let Some(why) = self.why_no_frames(&found, peer) {
            reply.send(Response::error(ErrorCode::NotConnected, why));
            return;
        }
        if found.path.is_some() && self.endpoint.echo(now, found.slot, id) {
            self.echoes.insert(id, Echo { reply, sent: now, woken: None });
        } else if self.is_drowsy(&found) && self.endpoint.wake(now, found.slot) {
            self.sleepers.push(Sleeper { slot: found.slot, asked: now, reply });
        } else {
            let sentence = format!("{peer} is {}: there is no proven path to it now", found.state.as_str());
            reply.send(Response::error(ErrorCode::NotConnected, sentence));
        }
    }

    /// Whether the peer sleeps, or is being woken.
    fn is_drowsy(&self, peer: &PeerStatus) -> bool {
        match peer.state {
            PeerState::Idle => true,
            PeerState::Connecting => self.drowsy.contains(&peer.slot),
            PeerState::Connected | PeerState::Offline => false,
        }
    }

    /// The peer that is called so; without one the caller is told.
    fn find(&self, peer: &str, reply: Reply) -> Option<(PeerStatus, Reply)> {
        let peers = self.endpoint.peer_status(Instant::now());
        let named = self.named(&peers);
        match names::find(&named, peer) {
            Ok(found) => peers.into_iter().find(|peer| peer.id == found.id).map(|peer| (peer, reply)),
            Err(error) => {
                reply.send(Response::error(ErrorCode::UnknownPeer, error.to_string()));
                None
            }
        }
    }

    fn netcheck(&self) -> Netcheck {
        let shown = self.endpoint.relay_status().into_iter().zip(&self.relays);
        let (relays, addresses): (Vec<RelayStatus>, Vec<&str>) = shown
            .filter(|(status, _)| self.is_shown(status.relay))
            .map(|(status, task)| (status, task.address.as_str()))
            .unzip();
        netcheck::report(&relays, &addresses, self.endpoint.candidates())
    }

    fn peer_documents(&self, peers: &[PeerStatus], named: Vec<names::Named>) -> Vec<doc::Peer> {
        let mut documents = report::peers(peers, named, &self.routes, |no| {
            self.relays.get(no.0).map_or_else(String::new, |task| task.address.clone())
        });
        for (document, peer) in documents.iter_mut().zip(peers) {
            document.barred = self.barred(peer);
            if let Some(member) = &mut document.member {
                if let Some(Verdict::Refused(reason)) = peer.member.as_ref().map(|member| &member.verdict) {
                    member.why = Some(self.why_refused(peer.slot, reason));
                }
                member.has_new_secret = self.has_new_secret(peer.id);
            }
        }
        documents
    }

    fn status(&self) -> doc::Status {
        let peers = self.endpoint.peer_status(Instant::now());
        let named = self.named(&peers);
        let hello = self.endpoint.hello();
        let relays = self.endpoint.relay_status();
        let relay_docs = relays.iter().zip(&self.relays).filter(|(status, _)| self.is_shown(status.relay));
        let name_of = |slot| {
            let at = peers.iter().position(|peer| peer.slot == slot)?;
            named.get(at).map(|named| named.name.clone())
        };
        let switch = self.plane.as_ref().map_or_else(Default::default, |plane| {
            report::switch(self.settings.switch().protection, &plane.counters().switch, name_of)
        });
        doc::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: doc::Node {
                id: self.endpoint.id().to_base32(),
                name: self
                    .own_facts()
                    .map_or_else(|| self.settings.name.to_string(), |facts| facts.name.to_string()),
                addresses: report::address_texts(hello.ipv4, hello.ipv6),
                mac: hello.mac.to_string(),
                device: self.interface.name(),
                mtu: self.settings.mtu.bytes(),
                queues: self.interface.queues.count(),
            },
            network: doc::Network {
                id: self.network_in_force().unwrap_or_else(|| self.network.secret.derive().id()).to_base32(),
                name: self.network.name.clone(),
            },
            relays: relay_docs
                .map(|(status, task)| {
                    let proxy = self.lanes.proxy.as_ref().filter(|_| task.is_proxied);
                    let proxy = proxy.map(|rule| rule.url().shown());
                    let relay =
                        report::relay(status, &task.address, task.connecting, task.refused.as_deref());
                    doc::Relay { proxy, ..relay }
                })
                .collect(),
            peers: self.peer_documents(&peers, named),
            rules: self.rules.clone(),
            membership: self.membership(),
            dropped: self.plane.as_ref().map_or_else(BTreeMap::new, |plane| {
                report::dropped(self.endpoint.drops(), plane.counters(), self.interface.queues.drops())
            }),
            switch,
            names: self.names.status(),
            clock: clock::behind()
                .map(|clock::Behind { says, reckoned }| doc::ClockBehind { says, reckoned }),
            now: clock::unix_now(),
        }
    }
}
