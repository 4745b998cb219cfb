//! The header of the PROXY protocol, version 2 (HAProxy, `proxy-protocol.txt` §2.2):
//!
//! ```text
//!  0  signature 12 B: 0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A
//! 12  version, high 4 bits: 2; command, low 4 bits: 0 LOCAL, 1 PROXY
//! 13  family, high 4 bits: 0 unspecified, 1 IPv4, 2 IPv6, 3 Unix; transport, low 4 bits: 0 unspecified, 1 stream, 2 datagram
//! 14  length of all that follows, u16
//! 16  IPv4: source 4 B, destination 4 B, source port u16, destination port u16; IPv6: 16 B, 16 B, u16, u16; Unix: 108 B, 108 B
//!     then TLVs, which are passed over
//! ```
//!
//! Parsing is total. What the protocol has for connections that are nobody's (LOCAL, or a family or transport that this is not) is [`Source::Unknown`], whatever
//! comes with it, as the protocol wants.

use shadowmesh_proto::wire::codec::{Reader, WireError};
use std::io;
use std::net::SocketAddr;

/// No method of HTTP and no TLS record begins with it.
pub(super) const FIRST_BYTE: u8 = 0x0d;
/// What a header of version 1 begins with.
const BEGIN_OF_V1: &[u8; 6] = b"PROXY ";
/// So many bytes of it tell it from every method of HTTP, PROPFIND among them.
const ENOUGH_OF_V1: usize = 4;
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes before the part whose length varies.
pub(super) const FIXED: usize = 16;
/// Most bytes behind those that are read: a proxy adds TLVs (names, an id of the connection, a client's certificate), which have hundreds.
const MAX_REST: usize = 4096;

/// Why a trusted proxy's header is of no use.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum ProxyError {
    /// Neither that nor HTTP.
    #[error("a trusted proxy sends what is no header of the PROXY protocol")]
    Signature,
    /// Readable text, of an unbounded kind.
    #[error(
        "a trusted proxy speaks version 1 of the PROXY protocol; let it speak version 2 (HAProxy: send-proxy-v2)"
    )]
    Version1,
    /// Another one.
    #[error("a trusted proxy speaks version {0} of the PROXY protocol; let it speak version 2")]
    Version(u8),
    /// Neither LOCAL nor PROXY.
    #[error("a trusted proxy sends command {0} of the PROXY protocol, which nobody knows")]
    Command(u8),
    /// More than [`MAX_REST`].
    #[error("a trusted proxy sends a header of {0} bytes, which is too long")]
    Long(usize),
    /// Less than its family needs.
    #[error("a trusted proxy sends a header that ends too early")]
    Short,
    /// The network.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<WireError> for ProxyError {
    fn from(_: WireError) -> Self {
        Self::Short
    }
}

/// The first 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    is_proxied: bool,
    /// Family and transport.
    kind: u8,
    len: u16,
}

/// Who is behind the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Client(SocketAddr),
    /// Nobody, or somebody who has no address.
    Unknown,
}

/// Whether what begins so is a header of version 1. What strangers ask a proxy that speaks HTTP for, such as POST, is none.
pub(super) fn is_v1(begin: &[u8]) -> bool {
    begin.len() >= ENOUGH_OF_V1 && BEGIN_OF_V1.starts_with(begin)
}

impl Head {
    pub(super) fn parse(fixed: &[u8; FIXED]) -> Result<Self, ProxyError> {
        let [signature @ .., command, kind, high, low] = fixed;
        if *signature != SIGNATURE {
            return Err(ProxyError::Signature);
        }
        if command >> 4 != 2 {
            return Err(ProxyError::Version(command >> 4));
        }
        let is_proxied = match command & 0x0f {
            0 => false,
            1 => true,
            other => return Err(ProxyError::Command(other)),
        };
        let len = u16::from_be_bytes([*high, *low]);
        if usize::from(len) > MAX_REST {
            return Err(ProxyError::Long(len.into()));
        }
        Ok(Self { is_proxied, kind: *kind, len })
    }

    /// How many bytes follow.
    pub(super) fn len(self) -> usize {
        self.len.into()
    }

    /// Of those bytes.
    pub(super) fn source(self, rest: &[u8]) -> Result<Source, ProxyError> {
        if !self.is_proxied {
            return Ok(Source::Unknown);
        }
        let mut reader = Reader::new(rest);
        let address: SocketAddr = match self.kind {
            0x11 => {
                let (ip, _): ([u8; 4], [u8; 4]) = (reader.array()?, reader.array()?);
                let port = reader.u16()?;
                reader.u16()?;
                (ip, port).into()
            }
            0x21 => {
                let (ip, _): ([u8; 16], [u8; 16]) = (reader.array()?, reader.array()?);
                let port = reader.u16()?;
                reader.u16()?;
                (ip, port).into()
            }
            _ => return Ok(Source::Unknown),
        };
        // A proxy in between that knew no better.
        Ok(if address.ip().is_unspecified() { Source::Unknown } else { Source::Client(address) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, kind], &len, rest].concat()
    }

    fn parse(bytes: &[u8]) -> Result<Source, ProxyError> {
        let (fixed, rest) = bytes.split_first_chunk::<FIXED>().ok_or(ProxyError::Short)?;
        let head = Head::parse(fixed)?;
        head.source(rest.get(..head.len()).ok_or(ProxyError::Short)?)
    }

    fn addresses(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
        let mut bytes = Vec::new();
        for address in [source, destination] {
            match address {
                SocketAddr::V4(address) => bytes.extend(address.ip().octets()),
                SocketAddr::V6(address) => bytes.extend(address.ip().octets()),
            }
        }
        bytes.extend(source.port().to_be_bytes());
        bytes.extend(destination.port().to_be_bytes());
        bytes
    }

    const V4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 0x01, 0xbb];

    #[test]
    fn what_haproxy_sends_is_read() {
        // `send-proxy-v2` of HAProxy 2.6, IPv4, and with a TLV (a unique id).
        let client = Source::Client("192.0.2.7:40000".parse().unwrap());
        assert_eq!(parse(&header(0x21, 0x11, V4)).unwrap(), client);
        assert_eq!(parse(&header(0x21, 0x11, &[V4, &[5, 0, 2, 1, 2]].concat())).unwrap(), client);
        let (source, own) = ("[2001:db8::7]:1".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap());
        assert_eq!(parse(&header(0x21, 0x21, &addresses(source, own))).unwrap(), Source::Client(source));
    }

    #[test]
    fn version_1_is_told_from_what_strangers_may_ask_for() {
        for begin in [&b"PROXY "[..], b"PROXY", b"PROX"] {
            assert!(is_v1(begin));
        }
        for begin in [
            &b"POST /"[..],
            b"PUT / ",
            b"PATCH ",
            b"PROPFI",
            b"PROXYX",
            b"PRO",
            b"",
            b"GET / ",
            &SIGNATURE[..6],
        ] {
            assert!(!is_v1(begin), "{begin:?}");
        }
    }

    #[test]
    fn who_has_no_address_is_unknown_whatever_comes_with_it() {
        for (command, kind) in
            [(0x20, 0x00), (0x20, 0x11), (0x21, 0x00), (0x21, 0x31), (0x21, 0x32), (0x21, 0x12), (0x21, 0xff)]
        {
            for rest in [&[][..], V4, &[7; 216]] {
                assert_eq!(
                    parse(&header(command, kind, rest)).unwrap(),
                    Source::Unknown,
                    "{command:x} {kind:x}"
                );
            }
        }
        assert_eq!(parse(&header(0x21, 0x11, &[0; 12])).unwrap(), Source::Unknown);
    }

    #[test]
    fn what_is_none_or_cut_or_too_long_is_refused() {
        let whole = header(0x21, 0x11, V4);
        for len in 0..whole.len() {
            assert!(parse(&whole[..len]).is_err(), "{len}");
        }
        let said = |bytes: &[u8]| parse(bytes).unwrap_err().to_string();
        // Its own length says less than the family needs.
        assert!(said(&header(0x21, 0x11, &V4[..11])).contains("too early"));
        assert!(said(&header(0x21, 0x21, V4)).contains("too early"));
        assert!(said(&header(0x11, 0x11, V4)).contains("version 1"));
        assert!(said(&header(0x31, 0x11, V4)).contains("version 3"));
        assert!(said(&header(0x22, 0x11, V4)).contains("command 2"));
        assert!(said(&header(0x21, 0x11, &[0; MAX_REST + 1])).contains("too long"));
        assert!(parse(&header(0x21, 0x11, &[V4, &[0; MAX_REST - 12]].concat())).is_ok());
        let mut other = whole;
        other[11] = b'\r';
        assert!(said(&other).contains("no header"));
    }

    proptest! {
        #[test]
        fn addresses_are_read_as_they_were_written(v4: [u8; 4], v6: [u8; 16], port: u16, tlvs in prop::collection::vec(any::<u8>(), 0..100)) {
            for (kind, source) in [(0x11, SocketAddr::from((v4, port))), (0x21, SocketAddr::from((v6, port)))] {
                prop_assume!(!source.ip().is_unspecified());
                let rest = [addresses(source, source), tlvs.clone()].concat();
                prop_assert_eq!(parse(&header(0x21, kind, &rest)).unwrap(), Source::Client(source));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(fixed: [u8; 4], rest in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&[&SIGNATURE[..], &fixed, &rest].concat());
            let _ = parse(&rest);
        }
    }
}
