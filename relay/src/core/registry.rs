//! Who is here: by connection, and by network and full node key (never a shortened one: two keys can share a prefix).

use crate::core::ConnId;
use crate::core::auth::{Registration, Token};
use crate::core::limits::{Bucket, Limits};
use shadowmesh_proto::ids::{ChannelId, NetworkId, NodeId};
use shadowmesh_proto::wire::relayed::BindingTag;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Who joins a network that is joined too often comes back no sooner.
const JOIN_LATER: Duration = Duration::from_secs(5);

/// A registered client.
#[derive(Debug)]
pub struct Client {
    /// What it proved, and where its stream comes from.
    pub registration: Registration,
    /// Where it is: where STUN saw it first, and then where it showed that it receives.
    pub observed: Option<SocketAddr>,
    /// Where it showed that last, and the tag of its datagrams there (protocol §3.9).
    pub bound: Option<(SocketAddr, BindingTag)>,
    /// Ties its STUN requests to it.
    pub token: Token,
    /// Whom it wants to meet.
    pub wishes: Wishes,
    /// Whom it has met: the channel to each.
    pub met: BTreeMap<NodeId, ChannelId>,
    /// Meters its control bodies.
    pub control: Bucket,
    /// Meters how often its observed UDP address changes.
    pub moves: Bucket,
    /// Meters how often this key takes its own place; handed on to the newcomer.
    pub replacements: Bucket,
}

impl Client {
    /// A client that has just proven itself.
    pub fn new(now: Instant, registration: Registration, token: Token, limits: &Limits) -> Self {
        Self {
            registration,
            observed: None,
            bound: None,
            token,
            wishes: Wishes::default(),
            met: BTreeMap::new(),
            control: Bucket::full(now, limits.control_per_second, limits.control_burst),
            moves: Bucket::full(now, limits.moves_per_second, limits.moves_burst),
            replacements: Bucket::full(now, limits.replacements_per_second, limits.replacements_burst),
        }
    }
}

/// Whom a client asked to be introduced to (protocol §3.3, CONNECT). Lasts as long as its connection.
#[derive(Debug, Default)]
pub struct Wishes {
    everybody: bool,
    peers: BTreeSet<NodeId>,
}

impl Wishes {
    /// Everybody of the network, now and later; `false` when that was wished for already.
    #[must_use]
    pub fn add_everybody(&mut self) -> bool {
        let is_new = !std::mem::replace(&mut self.everybody, true);
        // Named peers are among everybody.
        self.peers = BTreeSet::new();
        is_new
    }

    /// One peer, now or when it comes; `false` when `limit` peers are named already.
    #[must_use]
    pub fn add(&mut self, peer: NodeId, limit: usize) -> bool {
        if self.everybody || self.peers.contains(&peer) {
            return true;
        }
        self.peers.len() < limit && self.peers.insert(peer)
    }

    /// Whether `peer` is wished for.
    pub fn include(&self, peer: &NodeId) -> bool {
        self.everybody || self.peers.contains(peer)
    }
}

/// The registered clients.
///
/// Members of a network are kept in the order of their keys, so that a run in virtual time repeats exactly.
#[derive(Debug, Default)]
pub struct Registry {
    clients: HashMap<ConnId, Client>,
    networks: HashMap<NetworkId, Network>,
}

/// The members of one network that are here.
#[derive(Debug)]
struct Network {
    members: BTreeMap<NodeId, ConnId>,
    /// Meters introductions: a join costs one with everybody who is here.
    introductions: Bucket,
}

impl Registry {
    /// Clients here now.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Networks with at least one member here.
    pub fn networks(&self) -> usize {
        self.networks.len()
    }

    /// Members of `network` here now.
    pub fn members(&self, network: &NetworkId) -> usize {
        self.networks.get(network).map_or(0, |network| network.members.len())
    }

    /// The client behind `conn`.
    pub fn client(&self, conn: ConnId) -> Option<&Client> {
        self.clients.get(&conn)
    }

    /// The client behind `conn`.
    pub fn client_mut(&mut self, conn: ConnId) -> Option<&mut Client> {
        self.clients.get_mut(&conn)
    }

    /// The connection of `node` in `network`.
    pub fn find(&self, network: &NetworkId, node: &NodeId) -> Option<ConnId> {
        self.networks.get(network)?.members.get(node).copied()
    }

    /// The other members of `node`'s network, in the order of their keys.
    pub fn others(&self, network: &NetworkId, node: &NodeId) -> Vec<(NodeId, ConnId)> {
        let all = self.networks.get(network).into_iter().flat_map(|network| &network.members);
        all.filter(|(other, _)| *other != node).map(|(other, conn)| (*other, *conn)).collect()
    }

    /// Every connection with a registered client.
    pub fn conns(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.clients.keys().copied()
    }

    /// Charges `network` for one more member; if it is joined too often, how long to wait.
    pub fn charge_join(&mut self, now: Instant, network: &NetworkId) -> Option<Duration> {
        let network = self.networks.get_mut(network)?;
        let cost = u32::try_from(network.members.len()).map_or(f64::MAX, f64::from);
        (!network.introductions.take(now, cost)).then(|| network.introductions.next_in().max(JOIN_LATER))
    }

    /// Takes `client` in. Its key must not be here in that network (see [`Self::find`] and [`Self::remove`]).
    pub fn insert(&mut self, now: Instant, limits: &Limits, conn: ConnId, client: Client) {
        let registration = &client.registration;
        let network = self.networks.entry(registration.network).or_insert_with(|| Network {
            members: BTreeMap::new(),
            introductions: Bucket::full(now, limits.introductions_per_second, limits.introductions_burst),
        });
        network.members.insert(registration.node, conn);
        self.clients.insert(conn, client);
    }

    /// Takes the client behind `conn` out.
    pub fn remove(&mut self, conn: ConnId) -> Option<Client> {
        let client = self.clients.remove(&conn)?;
        let network = client.registration.network;
        if let Some(known) = self.networks.get_mut(&network) {
            known.members.remove(&client.registration.node);
            if known.members.is_empty() {
                self.networks.remove(&network);
            }
        }
        Some(client)
    }
}
