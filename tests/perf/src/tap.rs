//! A TAP device that promises the kernel to do its segmentation and checksums, so that one read is up to 64 KiB.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

/// Bytes of the virtio header in front of each frame (Linux uapi `linux/virtio_net.h`, `struct virtio_net_hdr`).
pub const VIRTIO_HEADER: usize = 10;
/// The longest that one read gives: the virtio header, Ethernet and VLAN headers, and an IP packet.
pub const MAX_READ: usize = VIRTIO_HEADER + 18 + 65_535;

/// Checksums, TCP segments, UDP segments; a kernel before 6.2 does not know the last.
const OFFLOADS: [libc::c_uint; 2] = {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    [tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6, tcp]
};

/// An open device; it goes away with this value. Reading and writing block, and two threads may do one each.
#[derive(Debug)]
pub struct Tap {
    file: File,
}

impl Tap {
    /// Makes the device `name` in the namespace of the calling thread: down, without addresses.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is none; else what the kernel said.
    pub fn open(name: &str) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
        // SAFETY: all-zero is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // One byte stays zero, the end of the name.
        if name.is_empty() || name.len() >= request.ifr_name.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a device name has 1 to 15 bytes"));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
        checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
        let header = VIRTIO_HEADER as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads one int.
        checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const header) })?;
        let mut answer = Ok(());
        for offload in OFFLOADS {
            // SAFETY: TUNSETOFFLOAD takes its argument by value.
            answer = checked(unsafe {
                libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offload))
            });
            if answer.is_ok() {
                break;
            }
        }
        answer?;
        Ok(Self { file })
    }

    /// The next frame behind its virtio header, at the start of `buffer` ([`MAX_READ`] bytes for all of any frame); its length.
    ///
    /// # Errors
    /// What the kernel said: the device is gone.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Hands a frame behind its virtio header to the kernel, complete or as a superframe.
    ///
    /// # Errors
    /// What the kernel said: it refuses a header that does not fit the frame, and all of them while the device is down.
    pub fn write(&self, frame: &[u8]) -> io::Result<usize> {
        (&self.file).write(frame)
    }
}

fn checked(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
