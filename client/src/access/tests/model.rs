//! The memory against one that is written down as plainly as can be, over long random lives of a few flows.

use super::super::limits;
use super::crafted::{ACK, FIN, Ip, RST, SYN, SYN_ACK, echo_kinds, icmp, icmp_of, tcp, udp};
use super::{A, Node, PASS};
use proptest::prelude::*;
use std::collections::HashMap;
use std::time::Duration;

/// A packet in one of a few flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Name {
    is_v6: bool,
    port: u16,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Tcp,
    Udp,
    Echo,
    Other,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Send(Name, u8),
    Receive(Name, u8),
    /// Milliseconds.
    Wait(u64),
}

impl Name {
    fn sent(self, flags: u8) -> Vec<u8> {
        let [request, ..] = echo_kinds(self.is_v6);
        let (protocol, payload) = match self.kind {
            Kind::Tcp => (6, tcp(self.port, 443, flags)),
            Kind::Udp => (17, udp(self.port, 443)),
            Kind::Echo => (icmp_of(self.is_v6), icmp(request, self.port)),
            Kind::Other => (47, vec![]),
        };
        Ip::sent(self.is_v6, protocol, payload).frame()
    }

    fn received(self, flags: u8) -> Vec<u8> {
        let [_, reply, _] = echo_kinds(self.is_v6);
        let (protocol, payload) = match self.kind {
            Kind::Tcp => (6, tcp(443, self.port, flags)),
            Kind::Udp => (17, udp(443, self.port)),
            Kind::Echo => (icmp_of(self.is_v6), icmp(reply, self.port)),
            Kind::Other => (47, vec![]),
        };
        Ip::received(self.is_v6, protocol, payload).frame()
    }
}

/// What is known of a flow: a word of the page, and when a packet of it was last seen that counts.
#[derive(Debug, Default)]
struct Plain(HashMap<Name, (&'static str, Duration)>);

impl Plain {
    fn life(word: &str) -> Duration {
        match word {
            "opening" => limits::TCP_OPENING,
            "resumed" => limits::TCP_RESUMED,
            "open" | "theirs" => limits::TCP_OPEN,
            "closing" => limits::TCP_CLOSING,
            "closed" => limits::TCP_CLOSED,
            "asked" => limits::UDP_ASKED,
            "answered" => limits::UDP_ANSWERED,
            "echo" => limits::ECHO,
            "other" => limits::OTHER,
            word => panic!("{word}"),
        }
    }

    /// `None`: nothing, or too near to its end to be sure, which a step of waiting makes sure of.
    fn word(&self, name: Name, now: Duration) -> Option<&'static str> {
        let (word, seen) = self.0.get(&name).copied()?;
        (Duration::from_secs(now.as_secs()) - Duration::from_secs(seen.as_secs()) <= Self::life(word))
            .then_some(word)
    }

    fn send(&mut self, name: Name, flags: u8, now: Duration) {
        let known = self.word(name, now);
        let word = match name.kind {
            Kind::Udp if known == Some("answered") => "answered",
            Kind::Udp => "asked",
            Kind::Echo => "echo",
            Kind::Other => "other",
            Kind::Tcp => match (flags, known) {
                (SYN, _) => "opening",
                (SYN_ACK, Some("opening")) => "opening",
                (SYN_ACK, _) => "theirs",
                (_, Some("theirs")) => "theirs",
                (RST, None | Some("closed")) => return,
                (RST, Some(_)) => "closed",
                (FIN, _) => "closing",
                (_, None | Some("closed")) => "resumed",
                (_, Some(word)) => word,
            },
        };
        self.0.insert(name, (word, now));
    }

    fn receive(&mut self, name: Name, flags: u8, now: Duration) -> bool {
        let Some(known) = self.word(name, now) else { return false };
        let word = match (name.kind, flags, known) {
            (Kind::Udp, _, _) => "answered",
            (Kind::Echo, _, _) => return true,
            (Kind::Other, _, _) => "other",
            (_, _, "theirs") => return false,
            (_, SYN, "opening") => "opening",
            (_, SYN, _) => return false,
            (_, _, "closed") => return true,
            (_, RST, _) => "closed",
            (_, FIN, _) | (_, _, "closing") => "closing",
            (_, _, _) => "open",
        };
        self.0.insert(name, (word, now));
        true
    }
}

fn name() -> impl Strategy<Value = Name> {
    let kind =
        prop::sample::select(vec![Kind::Tcp, Kind::Tcp, Kind::Tcp, Kind::Udp, Kind::Echo, Kind::Other]);
    (any::<bool>(), 1u16..3, kind).prop_map(|(is_v6, port, kind)| {
        // Without ports there is one flow.
        Name { is_v6, port: if kind == Kind::Other { 1 } else { port }, kind }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let flags = || prop::sample::select(vec![SYN, SYN_ACK, ACK, ACK, ACK, FIN, RST]);
    let waits = prop::sample::select(vec![
        1u64,
        400,
        1_000,
        9_000,
        11_000,
        29_000,
        31_000,
        110_000,
        121_000,
        299_000,
        602_000,
        431_000_000,
    ]);
    prop_oneof![
        3 => (name(), flags()).prop_map(|(name, flags)| Step::Send(name, flags)),
        3 => (name(), flags()).prop_map(|(name, flags)| Step::Receive(name, flags)),
        2 => waits.prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn the_memory_does_what_its_page_says(steps in prop::collection::vec(step(), 1..80)) {
        let mut node = Node::closed();
        let began = node.now - limits::GRACE;
        let mut plain = Plain::default();
        for (at, step) in steps.iter().enumerate() {
            let now = node.now - began;
            match *step {
                Step::Wait(ms) => node.wait(Duration::from_millis(ms)),
                Step::Send(name, flags) => {
                    node.send(A, &name.sent(flags));
                    plain.send(name, flags, now);
                }
                Step::Receive(name, flags) => {
                    let passes = node.judge(A, &name.received(flags)) == PASS;
                    prop_assert_eq!(passes, plain.receive(name, flags, now), "step {} of {:?}", at, steps);
                }
            }
        }
    }
}
