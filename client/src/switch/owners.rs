//! Whose own MAC is which: facts from the members' sessions, not from traffic.
//!
//! Built by the control task and published to both data threads in their snapshot, so it is immutable while
//! they look. A MAC follows from a node's key, so two members claiming one is either an attack or a one in
//! 2^45 accident; the first keeps it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use shadowmesh_proto::ids::{MacAddr, PeerSlot};

/// Who owns an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Our own device.
    Local,
    /// A member's device.
    Member(PeerSlot),
}

/// The owned addresses, of this node and of the members it has met.
#[derive(Debug, Clone)]
pub struct Owners {
    local: MacAddr,
    members: HashMap<MacAddr, PeerSlot>,
}

/// The address has an owner already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the MAC {mac} belongs to another member already; one of the two must be given a new key")]
pub struct Taken {
    /// The address in question.
    pub mac: MacAddr,
    /// Who has it.
    pub owner: Owner,
}

impl Owners {
    /// Nobody but our own device.
    pub fn new(local: MacAddr) -> Self {
        Self { local, members: HashMap::new() }
    }

    /// Our own address.
    pub const fn local(&self) -> MacAddr {
        self.local
    }

    /// Gives `mac` to the member `slot`, in place of the address it had.
    ///
    /// # Errors
    /// [`Taken`] when someone else has it; nothing changes then.
    pub fn assign(&mut self, mac: MacAddr, slot: PeerSlot) -> Result<(), Taken> {
        if mac == self.local {
            return Err(Taken { mac, owner: Owner::Local });
        }
        match self.members.entry(mac) {
            Entry::Occupied(taken) if *taken.get() != slot => {
                return Err(Taken { mac, owner: Owner::Member(*taken.get()) });
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(free) => {
                free.insert(slot);
            }
        }
        self.members.retain(|other, owner| *owner != slot || *other == mac);
        Ok(())
    }

    /// Takes the address of a member that left.
    pub fn remove(&mut self, slot: PeerSlot) {
        self.members.retain(|_, owner| *owner != slot);
    }

    /// Who owns `mac`, if anyone does.
    pub fn owner(&self, mac: MacAddr) -> Option<Owner> {
        if mac == self.local {
            return Some(Owner::Local);
        }
        self.members.get(&mac).copied().map(Owner::Member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn the_first_owner_keeps_an_address() {
        let mut owners = Owners::new(mac(0));
        assert_eq!(owners.assign(mac(1), PeerSlot(1)), Ok(()));
        assert_eq!(owners.assign(mac(1), PeerSlot(1)), Ok(()));
        let taken = Taken { mac: mac(1), owner: Owner::Member(PeerSlot(1)) };
        assert_eq!(owners.assign(mac(1), PeerSlot(2)), Err(taken));
        assert_eq!(owners.assign(mac(0), PeerSlot(2)), Err(Taken { mac: mac(0), owner: Owner::Local }));
        assert_eq!(owners.owner(mac(0)), Some(Owner::Local));
        assert_eq!(owners.owner(mac(1)), Some(Owner::Member(PeerSlot(1))));
        assert_eq!(owners.owner(mac(9)), None);
    }

    #[test]
    fn a_member_has_one_address_until_it_leaves() {
        let mut owners = Owners::new(mac(0));
        owners.assign(mac(1), PeerSlot(1)).unwrap();
        owners.assign(mac(2), PeerSlot(1)).unwrap();
        assert_eq!((owners.owner(mac(1)), owners.owner(mac(2))), (None, Some(Owner::Member(PeerSlot(1)))));
        owners.remove(PeerSlot(1));
        assert_eq!(owners.owner(mac(2)), None);
        assert_eq!(owners.assign(mac(2), PeerSlot(2)), Ok(()));
    }
}
