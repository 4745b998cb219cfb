//! Frames against rules, by hand and at random, in a time of their own.

mod answers;
mod changes;
mod crafted;
mod fragments;
mod judging;
mod model;
mod reading;
mod threads;

use super::{Access, AccessDrop, Filter, Verdict};
use shadowmesh_proto::ids::{NodeId, PeerSlot};
use shadowmesh_proto::rules::{Rules, Subject};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Two peers of this node.
const A: PeerSlot = PeerSlot(0);
const B: PeerSlot = PeerSlot(1);

const PASS: Verdict = Verdict::Pass;
const NOT_ALLOWED: Verdict = Verdict::Drop(AccessDrop::NotAllowed);
const MALFORMED: Verdict = Verdict::Drop(AccessDrop::Malformed);
const FRAGMENT: Verdict = Verdict::Drop(AccessDrop::Fragment);
const STRANGER: Verdict = Verdict::Drop(AccessDrop::Stranger);
const UNKNOWN: Verdict = Verdict::Drop(AccessDrop::UnknownPeer);

fn member(name: &str) -> Subject {
    let byte = name.bytes().next().unwrap_or_default();
    Subject { id: NodeId([byte; 32]), name: name.to_owned(), tags: vec![format!("is-{name}")] }
}

fn rules(text: &str) -> Rules {
    Rules::parse(text.as_bytes()).unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

/// A node called `here` with the peers `a` and `b`, and a clock.
struct Node {
    access: Access,
    filter: Option<Arc<Filter>>,
    now: Instant,
}

impl Node {
    /// One that has lived under these rules for so long that nothing is lenient any more.
    fn new(text: &str) -> Self {
        let mut node = Self::young(text);
        node.wait(super::limits::GRACE);
        node
    }

    /// One that has just begun.
    fn young(text: &str) -> Self {
        let now = Instant::now();
        let mut access = Access::new(now, member("here"));
        access.set_peer(now, A, member("a"));
        access.set_peer(now, B, member("b"));
        access.set_rules(now, rules(text));
        let filter = access.filter();
        Self { access, filter, now }
    }

    /// One under which the peers may begin nothing.
    fn closed() -> Self {
        Self::new("allow name:here -> any")
    }

    fn set_rules(&mut self, text: &str) {
        self.change(|access, now| access.set_rules(now, rules(text)));
    }

    fn change(&mut self, change: impl FnOnce(&mut Access, Instant)) {
        change(&mut self.access, self.now);
        self.filter = self.access.filter();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn wait_s(&mut self, seconds: u64) {
        self.wait(Duration::from_secs(seconds));
    }

    fn judge(&self, peer: PeerSlot, frame: &[u8]) -> Verdict {
        self.filter.as_ref().map_or(PASS, |filter| filter.judge(self.now, peer, frame))
    }

    fn send(&self, peer: PeerSlot, frame: &[u8]) {
        if let Some(filter) = &self.filter {
            filter.note(self.now, peer, frame);
        }
    }
}
