//! Packets on their way into stream messages: one message per contact is being filled at a time.

use crate::plane::snapshot::Snapshot;
use shadowmesh_proto::endpoint::event::Contact;
use shadowmesh_proto::wire::relay::{ForwardBuilder, MAX_MESSAGE};

/// The least that is taken for a message: a few small frames.
const ROOM_MIN: usize = 4096;

/// Messages being filled.
#[derive(Debug)]
pub(super) struct Batches {
    open: Vec<(Contact, ForwardBuilder)>,
    /// Room that the next message is given: what the last one needed, so that a stream of full messages never grows one by
    /// copying it, and a lone frame does not take 64 KiB.
    room: usize,
}

impl Batches {
    pub(super) const fn new() -> Self {
        Self { open: Vec::new(), room: ROOM_MIN }
    }

    /// Adds a packet to the message for `contact`, handing over the one before when it is full. Whether there was a stream to
    /// add it for.
    pub(super) fn push(&mut self, snapshot: &Snapshot, contact: Contact, packet: &[u8]) -> bool {
        if snapshot.stream(contact).is_none() {
            return false;
        }
        let at = self.open.iter().position(|(open, _)| *open == contact).unwrap_or_else(|| {
            self.open.push((contact, self.builder(contact)));
            self.open.len() - 1
        });
        let Some((_, builder)) = self.open.get_mut(at) else { return false };
        if builder.push(packet) {
            return true;
        }
        self.room = MAX_MESSAGE;
        let mut next = ForwardBuilder::new(contact.channel, Vec::with_capacity(MAX_MESSAGE));
        let fits = next.push(packet);
        hand_over(snapshot, contact, std::mem::replace(builder, next));
        fits
    }

    /// Hands everything over.
    pub(super) fn flush(&mut self, snapshot: &Snapshot) {
        let mut most = 0;
        for (contact, builder) in self.open.drain(..) {
            most = most.max(builder.len());
            hand_over(snapshot, contact, builder);
        }
        if most > 0 {
            self.room = most.next_power_of_two().clamp(ROOM_MIN, MAX_MESSAGE);
        }
    }

    fn builder(&self, contact: Contact) -> ForwardBuilder {
        ForwardBuilder::new(contact.channel, Vec::with_capacity(self.room))
    }
}

fn hand_over(snapshot: &Snapshot, contact: Contact, builder: ForwardBuilder) {
    if let Some(stream) = snapshot.stream(contact)
        && !builder.is_empty()
    {
        stream.push(builder.finish());
    }
}
