//! The Ethernet device that the operating system sees, and what stands in for it in tests.
//!
//! A device hands over whole Ethernet frames, each preceded by a virtio network header ([`VnetHeader`]) that
//! says what the kernel left undone (checksum, segmentation). Two kinds exist behind one enum: [`Tap`], a
//! Linux TAP opened through `tun-rs`, and [`MemoryPort`], one end of a queue pair with the same behaviour and
//! no kernel.
//!
//! # The life of a device
//!
//! 1. [`Tap::open`] makes it: down, without an address, and owned by one file descriptor. It is not
//!    persistent, so the kernel takes it away (with its routes and addresses) when that descriptor closes,
//!    however the process ends.
//! 2. [`LinkControl`] (async, on the control task) sets the MAC, MTU and queue length, brings it up and gives
//!    it addresses; later it may change the addresses.
//! 3. Two threads share it by reference: one only calls [`Device::read_frame`], the other only
//!    [`Device::write_frame`]. Both calls never block; a thread that has nothing to do polls the descriptor
//!    ([`std::os::fd::AsFd`]).
//!
//! Where one thread that reads is not enough a TAP has several queues ([`Tap::open_queues`], [`Queues`]): as many descriptors, each of which is
//! read by a thread of its own. The kernel hands a flow over by one of them.
//!
//! # Buffers
//!
//! The header and the frame travel in one piece, so that one system call moves both and nothing is copied:
//!
//! ```text
//! 0               10                                   n
//! | virtio header | Ethernet frame                      |
//! ```
//!
//! Whoever wants the frame at offset `o` of a larger buffer passes `&mut buffer[o - VnetHeader::LEN..]`; the
//! ten bytes in front are then overwritten. A transport packet needs 16 bytes of header and one of metadata
//! in front of its content (protocol §5), so the same buffer serves sealing and opening in place.
//!
//! # Invariants
//!
//! - A frame that is handed out is complete (one frame, its checksums final), or says in its header that its checksum was left out, which may stay so on
//!   its way to a member that completes it (else it is completed here, [`checksum`]), or that it is to be cut ([`offload`]). The last two only
//!   happen with [`Offload::Full`]. One whose checksum lies elsewhere, or that did not fit the buffer, is dropped and counted, never passed on.
//! - Nothing here allocates or locks per frame on the TAP.

pub mod checksum;
mod error;
mod link;
pub mod memory;
mod name;
pub mod offload;
mod queues;
mod tap_linux;
mod vnet;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

pub use error::{DeviceFault, LinkError, OpenError};
pub use link::{LinkControl, LinkSettings, QUEUE_LEN};
pub use memory::MemoryPort;
pub use name::{DeviceName, MAX_NAME_LEN, NameError};
pub use queues::Queues;
pub use tap_linux::{DropCounts, Offload, Opened, Tap};
pub use vnet::{Segmentation, VnetHeader};

/// A frame as the device handed it over, lying in the caller's buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Incoming<'b> {
    /// What the kernel left undone. All zero for a complete frame.
    pub header: VnetHeader,
    /// The frame from its destination address on, without the frame check sequence.
    pub frame: &'b mut [u8],
}

/// Where frames come from and go to. Cloning shares the device.
#[derive(Debug, Clone)]
pub enum Device {
    /// A TAP of this machine.
    Tap(Arc<Tap>),
    /// One end of a pair in memory.
    Memory(Arc<MemoryPort>),
}

impl Device {
    /// The name people know it by, such as `smesh0`.
    pub fn name(&self) -> &DeviceName {
        match self {
            Self::Tap(tap) => tap.name(),
            Self::Memory(port) => port.name(),
        }
    }

    /// Takes the next frame, or `None` when there is none now. Never blocks.
    ///
    /// `buffer` receives the header and the frame (module page, Buffers). It must hold the largest frame and
    /// at least one byte more, because the kernel cuts a frame that is too long without saying so: a frame
    /// that fills the buffer to its last byte is taken for a cut one, dropped and counted.
    ///
    /// # Errors
    /// [`DeviceFault::Gone`] when the device was removed, else what the kernel said.
    pub fn read_frame<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<Incoming<'b>>, DeviceFault> {
        match self {
            Self::Tap(tap) => tap.read_frame(buffer),
            Self::Memory(port) => port.read_frame(buffer),
        }
    }

    /// Delivers one frame to the machine. Never blocks.
    ///
    /// `packet` is [`VnetHeader::LEN`] bytes that are overwritten with `header`, then the frame.
    ///
    /// # Errors
    /// [`DeviceFault::Down`] while the administrator has set the device down, [`DeviceFault::Gone`] when it
    /// was removed, [`DeviceFault::Short`] for a packet that cannot hold a header and an Ethernet header.
    pub fn write_frame(&self, header: VnetHeader, packet: &mut [u8]) -> Result<(), DeviceFault> {
        match self {
            Self::Tap(tap) => tap.write_frame(header, packet),
            Self::Memory(port) => port.write_frame(header, packet),
        }
    }

    /// Frames that were dropped on reading, by cause.
    pub fn drops(&self) -> DropCounts {
        match self {
            Self::Tap(tap) => tap.drops(),
            Self::Memory(port) => port.drops(),
        }
    }

    /// Frames that were dropped since the device was made because nobody read them in time; `None` where the kernel does not say. Costs
    /// system calls: not for every packet.
    pub fn overflowed(&self) -> Option<u64> {
        match self {
            Self::Tap(tap) => tap.overflowed(),
            Self::Memory(port) => Some(port.unread()),
        }
    }
}

impl AsFd for Device {
    /// Readable when a frame may be waiting. For polling only.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tap(tap) => tap.as_fd(),
            Self::Memory(port) => port.as_fd(),
        }
    }
}

#[cfg(test)]
mod kernel_tests;
