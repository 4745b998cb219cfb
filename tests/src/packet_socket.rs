//! Raw Ethernet in and out of one device: an `AF_PACKET` socket (`packet(7)`), as the oracle and the wire need it.
//!
//! - Only what arrives *on* the device is read, never what this machine sends through it.
//! - A VLAN tag that the kernel took off (it does so for every packet, before sockets see it) is put back, so that the
//!   bytes read are the bytes that were on the wire.
//! - With [`Format::Virtio`] each frame carries the 10-byte `virtio_net_hdr` in front, in both directions: checksums left
//!   to the hardware and superframes then survive being read and sent again.
//! - Reading waits at most [`READ_WAIT`], so that a loop can look at its stop flag.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// The longest that [`PacketSocket::receive`] waits for a frame.
pub const READ_WAIT: Duration = Duration::from_millis(20);

/// A frame of 64 KiB with its headers, tag and virtio header.
pub const MAX_FRAME: usize = 65_536 + 64;

/// Bytes of the `virtio_net_hdr` that [`Format::Virtio`] puts in front of each frame.
pub const VIRTIO_HEADER: usize = 10;

/// Every ethertype (`ETH_P_ALL`).
pub const ALL_ETHERTYPES: u16 = 0x0003;

/// Linux uapi `linux/if_packet.h`; not in the libc crate for every target.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// What stands in front of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Nothing: destination MAC first.
    Plain,
    /// A `virtio_net_hdr`.
    Virtio,
}

/// What the kernel says about the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number in its namespace.
    pub index: i32,
    /// Its own address.
    pub mac: [u8; 6],
    /// Payload bytes of its largest frame, without the 14-byte Ethernet header.
    pub mtu: usize,
    /// Whether it was up before anything else here was asked: what is set as it goes up is set then.
    pub is_up: bool,
}

/// A socket bound to one device and one ethertype (or all).
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    device: Device,
    format: Format,
}

impl PacketSocket {
    /// Opens a socket on `device` of the calling thread's namespace. Needs `CAP_NET_RAW`, and `CAP_NET_ADMIN` for a
    /// receive buffer above the system's limit; without it is as large as that.
    pub fn open(device: &str, ethertype: u16, format: Format, receive_buffer: usize) -> io::Result<Self> {
        let protocol = i32::from(ethertype.to_be());
        // SAFETY: socket(2) takes three integers; the result is checked before it is owned.
        let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` was just returned by socket(2) and nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        let device = describe(&socket, device)?;

        let bytes = i32::try_from(receive_buffer).unwrap_or(i32::MAX);
        // Within the system's limit where that is all we may: what is lost for it is counted.
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes)
            .or_else(|_| set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes))?;
        set_option(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1_i32)?;
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
        if format == Format::Virtio {
            set_option(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1_i32)?;
        }
        let wait = libc::timeval {
            tv_sec: 0,
            tv_usec: libc::suseconds_t::from(i32::try_from(READ_WAIT.as_micros()).unwrap_or(20_000)),
        };
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &wait)?;

        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol as u16;
        address.sll_ifindex = device.index;
        let length = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the pointer and the length describe `address`, which outlives the call.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        if bound != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket, device, format })
    }

    /// The device as it was when the socket was opened.
    #[must_use]
    pub const fn device(&self) -> Device {
        self.device
    }

    /// Sends one frame (with its virtio header where the format has one). `ENOBUFS` means that the device's queue is full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length describe `frame`.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Reads one frame into `buffer` (at least [`MAX_FRAME`] bytes for whole superframes) and gives its length, or `None`
    /// when nothing came for [`READ_WAIT`].
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        #[repr(align(8))]
        struct Control([u8; 64]);
        let mut control = Control([0; 64]);
        // Four bytes stay free, to put a VLAN tag back.
        let room = buffer.len().saturating_sub(TAG);
        let mut parts = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: room };
        // SAFETY: all-zero is a valid msghdr.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut parts;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
        // SAFETY: `message` points at `parts` and `control`, both alive and of the lengths given.
        let read = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        let Ok(length) = usize::try_from(read) else {
            let error = io::Error::last_os_error();
            let nothing_yet = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            return if nothing_yet { Ok(None) } else { Err(error) };
        };
        Ok(Some(match vlan_tag(&message) {
            Some(tag) => self.put_tag_back(buffer, length, tag),
            None => length,
        }))
    }

    /// Frames the kernel dropped because this socket was not read fast enough, since the last call.
    pub fn dropped(&self) -> io::Result<u64> {
        #[repr(C)]
        struct Statistics {
            packets: libc::c_uint,
            drops: libc::c_uint,
        }
        let mut statistics = Statistics { packets: 0, drops: 0 };
        let mut length = mem::size_of::<Statistics>() as libc::socklen_t;
        // SAFETY: the pointer and the length describe `statistics`, laid out as tpacket_stats.
        let done = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        if done == 0 { Ok(u64::from(statistics.drops)) } else { Err(io::Error::last_os_error()) }
    }

    /// Shifts what follows the two MACs by four bytes and writes the tag there. `buffer` has the room (see `receive`).
    fn put_tag_back(&self, buffer: &mut [u8], length: usize, tag: [u8; TAG]) -> usize {
        let at = 12 + if self.format == Format::Virtio { VIRTIO_HEADER } else { 0 };
        if length < at || length + TAG > buffer.len() {
            return length;
        }
        buffer.copy_within(at..length, at + TAG);
        buffer[at..at + TAG].copy_from_slice(&tag);
        length + TAG
    }
}

/// Bytes of an 802.1Q tag: protocol and control information.
const TAG: usize = 4;

/// The tag that the kernel took off this packet, as bytes of the wire.
fn vlan_tag(message: &libc::msghdr) -> Option<[u8; TAG]> {
    // SAFETY: `message` was filled by recvmsg, so its control buffer is a list of well-formed headers.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    if header.cmsg_level != libc::SOL_PACKET || header.cmsg_type != libc::PACKET_AUXDATA {
        return None;
    }
    // SAFETY: a PACKET_AUXDATA message carries a tpacket_auxdata; it may be unaligned, so it is copied out.
    let data: libc::tpacket_auxdata =
        unsafe { std::ptr::read_unaligned(libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>()) };
    if data.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let protocol =
        if data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID == 0 { 0x8100 } else { data.tp_vlan_tpid };
    let [p0, p1] = protocol.to_be_bytes();
    let [t0, t1] = data.tp_vlan_tci.to_be_bytes();
    Some([p0, p1, t0, t1])
}

fn set_option<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn describe(socket: &OwnedFd, name: &str) -> io::Result<Device> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let bytes = name.as_bytes_with_nul();
    if bytes.len() > libc::IFNAMSIZ {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a device name has at most 15 bytes"));
    }
    let ask = |request: libc::c_ulong| -> io::Result<libc::ifreq> {
        // SAFETY: all-zero is a valid ifreq.
        let mut asked: libc::ifreq = unsafe { mem::zeroed() };
        for (to, from) in asked.ifr_name.iter_mut().zip(bytes) {
            *to = from.cast_signed() as libc::c_char;
        }
        // SAFETY: these requests read and write the ifreq they are given, and nothing else.
        let done = unsafe { libc::ioctl(socket.as_raw_fd(), request as _, &raw mut asked) };
        if done == 0 { Ok(asked) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: each request fills the member of the union that is read (netdevice(7)).
    unsafe {
        let flags = i32::from(ask(libc::SIOCGIFFLAGS)?.ifr_ifru.ifru_flags);
        let index = ask(libc::SIOCGIFINDEX)?.ifr_ifru.ifru_ifindex;
        let mtu = ask(libc::SIOCGIFMTU)?.ifr_ifru.ifru_mtu;
        let hardware = ask(libc::SIOCGIFHWADDR)?.ifr_ifru.ifru_hwaddr.sa_data;
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(hardware) {
            *to = from as u8;
        }
        Ok(Device { index, mac, mtu: usize::try_from(mtu).unwrap_or(0), is_up: flags & libc::IFF_UP != 0 })
    }
}
