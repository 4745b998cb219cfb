//! A full mesh of a hundred nodes behind one relay, in virtual time: what it costs to meet, and to say nothing afterwards.

use super::*;
use crate::endpoint::demand::{Keep, Sessions};
use std::collections::{BTreeMap, BTreeSet};

const NODES: usize = 100;
const IDLE: Duration = Duration::from_secs(30);

struct Member {
    endpoint: Endpoint,
    link: ServerLink,
    instance: u64,
    is_introduced: bool,
    /// Handshakes that it began, and packets of any kind that it sent to peers.
    begun: usize,
    packets: usize,
}

/// The relay is inside, and introduces everybody to everybody.
struct Mesh {
    now: Instant,
    relay: NodeSecret,
    rng: SeededRng,
    members: Vec<Member>,
    /// Arrival, then order: at a member, or at the relay from one.
    under_way: BTreeMap<(Instant, u64), (bool, usize, Vec<u8>)>,
    order: u64,
    /// When each wants to be woken, earliest first.
    due: BTreeSet<(Instant, usize)>,
    wakes: BTreeMap<usize, Instant>,
}

/// The channel of a pair.
fn channel_of(a: usize, b: usize) -> ChannelId {
    ChannelId(u32::try_from(a.min(b) * NODES + a.max(b)).unwrap())
}

impl Mesh {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
    fn new(seed: u64, sessions: Sessions) -> Self {
        let mut rng = SeededRng::new(seed);
        let (relay, network) = (NodeSecret::generate(&mut rng), NetworkSecret::generate(&mut rng));
        let now = Instant::now();
        let members = (0..NODES).map(|at| {
            let (node, instance) = (NodeSecret::generate(&mut rng), rng.next_u64());
            let name = format!("n{at}");
            let mut endpoint = endpoint(instance, &relay, &network, node, &name, |_| ());
            endpoint.set_sessions(now, sessions);
            let link = ServerLink::new(SPOKEN);
            Member { endpoint, link, instance, is_introduced: false, begun: 0, packets: 0 }
        });
        let members = members.collect();
        let mut mesh = Self {
            now,
            relay,
            rng,
            members,
            under_way: BTreeMap::new(),
            order: 0,
            due: BTreeSet::new(),
            wakes: BTreeMap::new(),
        };
        for at in 0..NODES {
            mesh.members[at].endpoint.handle_stream_opened(now, RELAY, relay_address());
            mesh.drain(at);
        }
        mesh
    }

    fn put(&mut self, is_for_member: bool, at: usize, message: Vec<u8>) {
        self.order += 1;
        self.under_way.insert((self.now + LATENCY, self.order), (is_for_member, at, message));
    }

    fn say(&mut self, to: usize, body: &relay::Control) {
        let message = self.members[to].link.seal(body).unwrap();
        self.put(true, to, message);
    }

    fn drain(&mut self, at: usize) {
        while let Some(event) = self.members[at].endpoint.poll_event() {
            if let Event::StopSealing { slot, number } = event {
                self.members[at].endpoint.handle_sealing_stopped(self.now, slot, number, true);
            }
        }
        while let Some(transmit) = self.members[at].endpoint.poll_transmit() {
            let Transmit::Stream { message, .. } = transmit else { continue };
            self.put(false, at, message);
        }
        let wake = self.members[at].endpoint.poll_timeout().map(|deadline| deadline.at);
        let before = match wake {
            Some(wake) => self.wakes.insert(at, wake),
            None => self.wakes.remove(&at),
        };
        self.due.extend(wake.map(|wake| (wake, at)));
        if let Some(before) = before.filter(|before| Some(*before) != wake) {
            self.due.remove(&(before, at));
        }
    }

    fn relay_receives(&mut self, from: usize, message: Vec<u8>) {
        match self.members[from].link.handle(&self.relay, &message, &mut self.rng).unwrap() {
            ServerInput::Send(reply) => self.put(true, from, reply),
            ServerInput::Register { .. } => self.say(
                from,
                &relay::Control::Registered {
                    observed_tcp: "192.0.2.1:1000".parse().unwrap(),
                    stun_token: [0; 16],
                    stun_ports: vec![8443],
                    heartbeat_ms: 15_000,
                    instance: 1,
                    direct: None,
                    versions: None,
                    version: None,
                },
            ),
            ServerInput::Control(relay::Control::Connect { peer: None }) => {
                self.members[from].is_introduced = true;
                for other in (0..NODES).filter(|other| *other != from) {
                    if self.members[other].is_introduced {
                        for (to, whom) in [(from, other), (other, from)] {
                            let (peer, instance) =
                                (self.members[whom].endpoint.id(), self.members[whom].instance);
                            let channel = channel_of(from, other);
                            self.say(to, &relay::Control::Peer { peer, channel, instance });
                        }
                    }
                }
            }
            ServerInput::Control(relay::Control::Ping { id }) => self.say(from, &relay::Control::Pong { id }),
            ServerInput::Forward => {
                let forward = Forward::parse(&message).unwrap();
                let channel = usize::try_from(forward.channel.0).unwrap();
                let (a, b) = (channel / NODES, channel % NODES);
                let begins = |packet: &[u8]| matches!(PacketKind::of(packet), Some(PacketKind::Init));
                let member = &mut self.members[from];
                member.packets += forward.packets().count();
                member.begun += forward.packets().filter(|packet| begins(packet)).count();
                self.put(true, if a == from { b } else { a }, message);
            }
            ServerInput::Control(_) | ServerInput::Ignored => {}
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let arrival = self.under_way.first_key_value().map(|((at, _), _)| *at);
            let wake = self.due.first().map(|(at, _)| *at);
            let Some(next) = arrival.into_iter().chain(wake).min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if arrival.is_some_and(|at| at <= self.now) {
                let (_, (is_for_member, at, message)) = self.under_way.pop_first().unwrap();
                if !is_for_member {
                    self.relay_receives(at, message);
                    continue;
                }
                let endpoint = &mut self.members[at].endpoint;
                if let Ok(StreamMessage::Forward(forward)) = StreamMessage::parse(&message) {
                    let contact = Contact { relay: RELAY, channel: forward.channel };
                    for packet in forward.packets() {
                        let _ = endpoint.handle_packet(self.now, contact, &mut packet.to_vec());
                    }
                } else {
                    endpoint.handle_stream_message(self.now, RELAY, &message).unwrap();
                }
                self.drain(at);
            } else if let Some((_, at)) = self.due.pop_first() {
                self.wakes.remove(&at);
                self.members[at].endpoint.handle_timeout(self.now);
                self.drain(at);
            }
        }
    }

    fn count(&self, is_so: impl Fn(&PeerStatus) -> bool) -> usize {
        let all = self.members.iter().flat_map(|member| member.endpoint.peer_status(self.now));
        all.filter(is_so).count()
    }

    fn sum(&self, of: impl Fn(&Member) -> usize) -> usize {
        self.members.iter().map(of).sum()
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "numbers are for whoever runs it with --no-capture")]
fn a_hundred_nodes_meet_once_and_then_cost_nothing() {
    let mut mesh = Mesh::new(990, Sessions { keep: Keep::Auto, idle_after: IDLE });
    let pairs = NODES * (NODES - 1);
    let mut took = Duration::ZERO;
    while mesh.count(|peer| peer.hello.is_some()) < pairs {
        mesh.run(Duration::from_millis(100));
        took += Duration::from_millis(100);
        assert!(took < Duration::from_secs(20), "everybody meets everybody");
    }
    let (begun, alive) = (mesh.sum(|member| member.begun), mesh.count(|peer| peer.session.is_some()));
    assert_eq!(alive, pairs);
    mesh.run(IDLE + Duration::from_secs(30));
    let left = mesh.count(|peer| peer.session.is_some());
    let idle = mesh.count(|peer| peer.state == PeerState::Idle);
    let indices = mesh.sum(|member| member.endpoint.indices_in_use());
    eprintln!(
        "{NODES} nodes: {} handshakes begun for {} pairs, all met within {took:?}; {left} ends of sessions after {IDLE:?} of silence, {indices} receiver indices",
        begun,
        pairs / 2
    );
    assert_eq!((left, idle, indices), (0, pairs, 0));
    assert!(begun <= pairs / 2 + pairs / 20, "{begun} handshakes were begun");
    // Nobody says anything to anybody from now on.
    let packets = mesh.sum(|member| member.packets);
    mesh.run(Duration::from_secs(60));
    assert_eq!(mesh.sum(|member| member.packets), packets);
    // Whom somebody has a frame for is woken, and nobody else.
    for at in 0..NODES {
        let now = mesh.now;
        mesh.members[at].endpoint.handle_wanted(now, PeerSlot(u32::try_from(at % 99).unwrap()));
        mesh.drain(at);
    }
    mesh.run(Duration::from_secs(1));
    let awake = mesh.count(|peer| peer.state == PeerState::Connected);
    eprintln!("{awake} ends of sessions when each has a frame for one");
    assert!((NODES..=2 * NODES).contains(&awake), "{awake}");
    mesh.run(IDLE + Duration::from_secs(10));
    assert_eq!(mesh.count(|peer| peer.session.is_some()), 0);
}
