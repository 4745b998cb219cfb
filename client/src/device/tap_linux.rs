//! A TAP device of Linux, opened through `tun-rs`.
//!
//! `tun-rs` asks for the device (`TUNSETIFF` with `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`). It cannot be asked
//! for the virtio header alone: with `offload(true)` it also promises the kernel that we segment and checksum
//! (`TUNSETOFFLOAD`). That promise is taken back, or renewed, in [`Tap::set_offload`] before the device is
//! brought up, so no frame is ever made under the wrong one.
//!
//! The descriptor is non-blocking and is used by two threads at once, which the kernel allows: reads take
//! from the device's ring, writes go to the network stack, and neither sees the other.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;

use super::error::{DeviceFault, OpenError};
use super::name::DeviceName;
use super::offload::{Superframe, may_stay_partial};
use super::vnet::{Segmentation, VnetHeader};
use super::{Incoming, checksum};

/// Shortest Ethernet frame the kernel takes or hands out, in bytes: the two addresses and the type.
pub(super) const ETHERNET_HEADER_LEN: usize = 14;

/// What we promise the kernel to do ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offload {
    /// Nothing: every frame arrives complete and no longer than the MTU allows.
    #[default]
    None,
    /// Checksums, and segmentation of TCP and UDP: frames arrive as large as 64 KiB and unfinished.
    Full,
}

impl Offload {
    /// The bits of `TUNSETOFFLOAD`, best first: a kernel before 6.2 refuses the UDP ones, and one that refuses all has frames complete.
    const fn masks(self) -> &'static [usize] {
        const CSUM: usize = libc::TUN_F_CSUM as usize;
        const TSO: usize = (libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN) as usize;
        const USO: usize = (libc::TUN_F_USO4 | libc::TUN_F_USO6) as usize;
        match self {
            Self::None => &[0],
            Self::Full => &[CSUM | TSO | USO, CSUM | TSO, 0],
        }
    }
}

/// Frames that were read and not handed on, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DropCounts {
    /// Longer than the buffer: someone raised the MTU of the device behind our back.
    pub truncated: u64,
    /// Shorter than an Ethernet header, or with a virtio header that makes no sense.
    pub malformed: u64,
}

/// The counters behind [`DropCounts`].
#[derive(Debug, Default)]
pub(super) struct Drops {
    truncated: AtomicU64,
    malformed: AtomicU64,
}

impl Drops {
    pub(super) fn counts(&self) -> DropCounts {
        DropCounts { truncated: self.truncated.load(Relaxed), malformed: self.malformed.load(Relaxed) }
    }
}

/// A TAP device that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Its first queue.
    pub tap: Tap,
    /// Its other queues.
    pub others: Vec<Tap>,
    /// Why there are fewer than were asked for, if there are.
    pub refused: Option<std::io::Error>,
}

/// A queue of an open TAP device, most often the only one. Closing the last removes the device from the machine.
pub struct Tap {
    device: tun_rs::SyncDevice,
    name: DeviceName,
    index: u32,
    drops: Drops,
}

impl Tap {
    /// Makes the device `name`: down, without addresses, non-blocking, and gone again when this value is
    /// dropped.
    ///
    /// A device of that name that exists already is never taken over, not even an unused persistent TAP: it
    /// would stay behind with our addresses on it.
    ///
    /// # Errors
    /// See [`OpenError`]; each is a sentence for the user.
    pub fn open(name: DeviceName, offload: Offload) -> Result<Self, OpenError> {
        Self::open_queues(name, offload, 1).map(|opened| opened.tap)
    }

    /// The same with so many queues, or with as many of them as the kernel gives.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_queues(name: DeviceName, offload: Offload, count: usize) -> Result<Opened, OpenError> {
        // `tun-rs` would make a missing node itself, which in a container only turns one error into another.
        if !std::path::Path::new("/dev/net/tun").exists() {
            return Err(OpenError::NoDriver);
        }
        let refused = |source: std::io::Error| refusal(&name, source);
        if index_of(&name).map_err(|errno| refused(errno.into()))?.is_some() {
            return Err(OpenError::NameTaken { name });
        }
        let (devices, fewer) = attach(
            count,
            |is_multi_queue| {
                let device = tun_rs::DeviceBuilder::new().name(name.as_str()).layer(tun_rs::Layer::L2);
                let device = device.enable(false).with(|builder| {
                    builder.offload(true).packet_information(false).multi_queue(is_multi_queue);
                });
                device.build_sync()
            },
            tun_rs::SyncDevice::try_clone,
        )
        .map_err(refused)?;
        let index = index_of(&name).map_err(|errno| refused(errno.into()))?.ok_or_else(|| {
            OpenError::Refused { name: name.clone(), source: std::io::ErrorKind::NotFound.into() }
        })?;
        let mut taps = Vec::with_capacity(devices.len());
        for device in devices {
            device.set_nonblocking(true).map_err(refused)?;
            taps.push(Self { device, name: name.clone(), index, drops: Drops::default() });
        }
        let tap = taps.remove(0);
        // Of the device, whichever queue is asked. `tun-rs` asked for all again with each queue.
        tap.set_offload(offload).map_err(|source| refusal(&tap.name, source))?;
        Ok(Opened { tap, others: taps, refused: fewer })
    }

    /// Its name.
    pub const fn name(&self) -> &DeviceName {
        &self.name
    }

    /// See [`super::Device::overflowed`]. What the kernel sends to a TAP is what this side reads: its transmit queue.
    pub fn overflowed(&self) -> Option<u64> {
        let path = format!("/sys/class/net/{}/statistics/tx_dropped", self.name.as_str());
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// Its interface index, in the network namespace it was made in.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Tells the kernel what we do ourselves from the next frame on. Frames already queued keep their form.
    ///
    /// # Errors
    /// What the kernel said to the last of them.
    pub fn set_offload(&self, offload: Offload) -> std::io::Result<()> {
        let mut answer = Ok(());
        for &mask in offload.masks() {
            // SAFETY: `TUNSETOFFLOAD` takes its argument by value, an unsigned int whose bits are `TUN_F_*`,
            // and touches no memory of ours.
            answer = unsafe {
                let request =
                    rustix::ioctl::IntegerSetter::<{ libc::TUNSETOFFLOAD as rustix::ioctl::Opcode }>::new_usize(mask);
                rustix::ioctl::ioctl(&self.device, request)
            };
            if answer.is_ok() {
                break;
            }
        }
        Ok(answer?)
    }

    /// See [`super::Device::read_frame`].
    pub(super) fn read_frame<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<Incoming<'b>>, DeviceFault> {
        loop {
            let len = match rustix::io::read(&self.device, &mut *buffer) {
                Ok(len) => len,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                // `EBADFD`: no device is attached any more. `EFAULT`: it is being taken away
                // (`tun_ring_recv`); a bad pointer, its usual meaning, cannot come from a slice.
                Err(Errno::BADFD | Errno::FAULT) => return Err(DeviceFault::Gone),
                Err(other) => return Err(DeviceFault::Io(other.into())),
            };
            if let Some(header) = self.drops.admit(buffer, len) {
                // `admit` has seen that `len` bytes are there, a header among them.
                return Ok(buffer.get_mut(VnetHeader::LEN..len).map(|frame| Incoming { header, frame }));
            }
        }
    }

    /// See [`super::Device::write_frame`].
    pub(super) fn write_frame(&self, header: VnetHeader, packet: &mut [u8]) -> Result<(), DeviceFault> {
        let len = packet.len();
        if len < VnetHeader::LEN + ETHERNET_HEADER_LEN {
            return Err(DeviceFault::Short(len));
        }
        let Some(space) = packet.first_chunk_mut::<{ VnetHeader::LEN }>() else {
            return Err(DeviceFault::Short(len));
        };
        *space = header.emit();
        loop {
            return match rustix::io::write(&self.device, packet) {
                Ok(_) => Ok(()),
                Err(Errno::INTR) => continue,
                Err(Errno::IO) => Err(DeviceFault::Down),
                Err(Errno::BADFD) => Err(DeviceFault::Gone),
                Err(other) => Err(DeviceFault::Io(other.into())),
            };
        }
    }

    /// Frames that were dropped on reading, by cause.
    pub fn drops(&self) -> DropCounts {
        self.drops.counts()
    }
}

impl Drops {
    /// Looks over the `len` bytes just read into `buffer`: the header of a frame to hand on, or `None` for one that is dropped and counted.
    /// What is handed on is to be cut and can be, or says of itself where its checksum was left out ([`may_stay_partial`]), or is complete.
    pub(super) fn admit(&self, buffer: &mut [u8], len: usize) -> Option<VnetHeader> {
        if len >= buffer.len() {
            self.truncated.fetch_add(1, Relaxed);
            return None;
        }
        let admitted = buffer.get_mut(..len).and_then(VnetHeader::split).and_then(|(header, frame)| {
            if frame.len() < ETHERNET_HEADER_LEN {
                return None;
            }
            if header.segmentation() != Segmentation::None {
                return Superframe::new(&header, frame).is_ok().then_some(header);
            }
            if !header.needs_checksum() {
                return Some(VnetHeader::COMPLETE);
            }
            if may_stay_partial(&header, frame) {
                return Some(VnetHeader { flags: VnetHeader::NEEDS_CHECKSUM, ..header });
            }
            checksum::complete(frame, header.checksum_start, header.checksum_offset).ok()?;
            Some(VnetHeader::COMPLETE)
        });
        if admitted.is_none() {
            self.malformed.fetch_add(1, Relaxed);
        }
        admitted
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("name", &self.name).field("index", &self.index).finish_non_exhaustive()
    }
}

/// Opens a device with `open`, which is told whether it is to have several queues, and `more` of them, `count` in all. What kept it from being so
/// many, if it is fewer: a kernel may know of no queues, or have no more. One queue is a device all the same.
///
/// # Errors
/// What `open` says of a device with one.
fn attach<D>(
    count: usize,
    open: impl Fn(bool) -> std::io::Result<D>,
    more: impl Fn(&D) -> std::io::Result<D>,
) -> std::io::Result<(Vec<D>, Option<std::io::Error>)> {
    let (first, mut refused) = match open(count > 1) {
        Ok(first) => (first, None),
        // What is wrong with the name, or with who asks, is wrong again.
        Err(error) if count > 1 => (open(false)?, Some(error)),
        Err(error) => return Err(error),
    };
    let mut devices = vec![first];
    while devices.len() < count && refused.is_none() {
        match devices.first().map(&more) {
            Some(Ok(another)) => devices.push(another),
            Some(Err(error)) => refused = Some(error),
            None => break,
        }
    }
    Ok((devices, refused))
}

/// The index of the device `name` in this network namespace, if there is one.
fn index_of(name: &DeviceName) -> Result<Option<u32>, Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    match netdevice::name_to_index(&socket, name.as_str()) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::NODEV) => Ok(None),
        Err(other) => Err(other),
    }
}

/// What the kernel meant by refusing to make `name`.
fn refusal(name: &DeviceName, source: std::io::Error) -> OpenError {
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => OpenError::NotPermitted { name: name.clone() },
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => OpenError::NoDriver,
        // `EINVAL` from `TUNSETIFF` on a name we have checked: a device of another kind took it a moment ago.
        Some(Errno::BUSY | Errno::EXIST | Errno::INVAL) => OpenError::NameTaken { name: name.clone() },
        _ => OpenError::Refused { name: name.clone(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn refuse<T>() -> std::io::Result<T> {
        Err(Errno::INVAL.into())
    }

    #[test]
    fn a_device_has_as_many_queues_as_the_kernel_gives() {
        let open = |is_multi_queue: bool| Ok(if is_multi_queue { "several" } else { "one" });
        let (devices, refused) = attach(1, open, |_| refuse()).unwrap();
        assert_eq!((&devices[..], refused.is_none()), (&["one"][..], true), "as it always was");
        let (devices, refused) = attach(3, open, |first| Ok(*first)).unwrap();
        assert_eq!((&devices[..], refused.is_none()), (&["several"; 3][..], true));
        // One that has two and no more.
        let given = Cell::new(0);
        let more = |first: &&'static str| {
            given.set(given.get() + 1);
            if given.get() == 1 { Ok(*first) } else { refuse() }
        };
        let (devices, refused) = attach(8, open, more).unwrap();
        assert_eq!(
            (&devices[..], refused.unwrap().raw_os_error()),
            (&["several"; 2][..], Some(libc::EINVAL))
        );
        assert_eq!(given.get(), 2, "nor is it asked again and again");
    }

    #[test]
    fn a_kernel_that_knows_of_no_queues_gives_a_device_with_one() {
        let open = |is_multi_queue: bool| if is_multi_queue { refuse() } else { Ok("one") };
        let more = |_: &&str| -> std::io::Result<&'static str> { panic!("it refused") };
        let (devices, refused) = attach(4, open, more).unwrap();
        assert_eq!((&devices[..], refused.unwrap().raw_os_error()), (&["one"][..], Some(libc::EINVAL)));
        let nothing = attach(4, |_| refuse::<&str>(), more).unwrap_err();
        assert_eq!(nothing.raw_os_error(), Some(libc::EINVAL), "what one is refused for is what is said");
    }
}
