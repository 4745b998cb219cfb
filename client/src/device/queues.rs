//! The queues of one device.
//!
//! A device may have several: descriptors of one TAP, each of which hands over the frames of some flows. Whatever is written to any of them arrives
//! at the machine. By which one a flow is written decides from which one its other direction is read (`tun_flow_update` of Linux), so whoever writes
//! chooses (`plane::steering`).

use super::{Device, DeviceName, DropCounts};

/// The queues of a device, one at least. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Queues {
    first: Device,
    others: Vec<Device>,
}

impl Queues {
    /// Those of one device, `first` among them.
    pub const fn new(first: Device, others: Vec<Device>) -> Self {
        Self { first, others }
    }

    /// The first.
    pub const fn first(&self) -> &Device {
        &self.first
    }

    /// The others, in their order.
    pub fn others(&self) -> &[Device] {
        &self.others
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// One of them, by its number from 0; the first where there is none of that.
    pub fn at(&self, number: usize) -> &Device {
        let other = number.checked_sub(1).and_then(|at| self.others.get(at));
        other.unwrap_or(&self.first)
    }

    /// The name people know the device by.
    pub fn name(&self) -> &DeviceName {
        self.first.name()
    }

    /// Frames that were dropped on reading, by cause, of all queues.
    pub fn drops(&self) -> DropCounts {
        self.others.iter().map(Device::drops).fold(self.first.drops(), |all, more| DropCounts {
            truncated: all.truncated + more.truncated,
            malformed: all.malformed + more.malformed,
        })
    }
}

impl From<Device> for Queues {
    fn from(only: Device) -> Self {
        Self::new(only, Vec::new())
    }
}
