//! The two STUN messages the relay and its clients exchange (RFC 8489, protocol §3.8).
//!
//! ```text
//!  header      type u16 (top bits 00), length u16 of what follows, magic cookie 0x2112A442, transaction id 12 B
//!  attribute   type u16, length u16, value, padded to a multiple of four
//! ```
//!
//! Why not a library: the crates that read STUN bring MD5, SHA-1, string preparation or an error type of their own for
//! credentials that we do not use, and parse into allocated trees what is here one pass over at most 1,280 bytes. What is
//! read is exactly a Binding request with USERNAME and a Binding success response with XOR-MAPPED-ADDRESS; attributes that
//! must be understood and are not make a message one that we do not read (RFC 8489 §6.3).
//!
//! One attribute is our own, and optional: the nonce by which a client shows that it receives at the address (protocol §3.9).

use crate::wire::codec::{Reader, WireError};
use crate::wire::relayed::Nonce;
use data_encoding::BASE64URL_NOPAD;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of a STUN token (protocol §3.3, REGISTERED).
pub const TOKEN_LEN: usize = 16;
/// Ties an answer to its request: 12 random bytes (RFC 8489 §5).
pub type TransactionId = [u8; 12];

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const MAGIC_COOKIE: u32 = 0x2112_A442;
const HEADER_LEN: usize = 20;
/// Longest message looked at: what fits any path (RFC 8489 §6.1).
const MAX_LEN: usize = 1280;

const MAPPED_ADDRESS: u16 = 0x0001;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PADDING: u16 = 0x0026;
/// Attributes from here on may be ignored (RFC 8489 §14).
const OPTIONAL: u16 = 0x8000;
/// Ours (protocol §3.9), from the optional ones that RFC 8489 §18.3 leaves to anybody.
const BINDING_NONCE: u16 = 0xC53D;

const FAMILY_V4: u8 = 1;
const FAMILY_V6: u8 = 2;
/// Header, an XOR-MAPPED-ADDRESS of an IPv6 address, and a nonce: a request is never shorter, so an answer never is longer.
const LONGEST_RESPONSE: usize = HEADER_LEN + 4 + 20 + 4 + size_of::<Nonce>();

/// A Binding request that carries a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingRequest {
    /// To be repeated in the answer.
    pub transaction: TransactionId,
    /// From USERNAME.
    pub token: [u8; TOKEN_LEN],
}

impl BindingRequest {
    /// The datagram; at least as long as any answer to it.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = header(BINDING_REQUEST, &self.transaction);
        attribute(&mut message, USERNAME, BASE64URL_NOPAD.encode(&self.token).as_bytes());
        let missing = LONGEST_RESPONSE.saturating_sub(message.len());
        if missing > 0 {
            // At least its own header: a little more than is missing, if need be.
            attribute(&mut message, PADDING, &vec![0; missing.saturating_sub(4)]);
        }
        finish(message)
    }

    /// Reads a datagram. Anything but a request with a token is an error, to be dropped silently: also a request that is
    /// shorter than the longest answer (protocol §3.8), so that nobody can have more bytes sent somewhere than they spent.
    ///
    /// # Errors
    /// Any [`WireError`].
    pub fn parse(datagram: &[u8]) -> Result<Self, WireError> {
        if datagram.len() < LONGEST_RESPONSE {
            return Err(WireError::Truncated);
        }
        let (transaction, attributes) = split(datagram, BINDING_REQUEST)?;
        let mut token = None;
        each(attributes, |kind, value| {
            // The first of several counts (RFC 8489 §14).
            if kind == USERNAME && token.is_none() {
                token = Some(read_token(value)?);
            }
            Ok(())
        })?;
        let token = token.ok_or(WireError::Value("no USERNAME"))?;
        Ok(Self { transaction, token })
    }
}

/// A Binding success response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingResponse {
    /// From the request.
    pub transaction: TransactionId,
    /// Where the request came from, as its receiver saw it.
    pub mapped: SocketAddr,
    /// To be said over the stream by whoever receives it, where the relay would forward datagrams to that address.
    pub nonce: Option<Nonce>,
}

impl BindingResponse {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = header(BINDING_SUCCESS, &self.transaction);
        attribute(&mut message, XOR_MAPPED_ADDRESS, &xor_address(self.mapped, &self.transaction));
        if let Some(nonce) = &self.nonce {
            attribute(&mut message, BINDING_NONCE, nonce);
        }
        finish(message)
    }

    /// Reads a datagram. The caller checks that the transaction is one of its own.
    ///
    /// # Errors
    /// Any [`WireError`].
    pub fn parse(datagram: &[u8]) -> Result<Self, WireError> {
        let (transaction, attributes) = split(datagram, BINDING_SUCCESS)?;
        let (mut mapped, mut nonce) = (None, None);
        each(attributes, |kind, value| {
            if kind == XOR_MAPPED_ADDRESS && mapped.is_none() {
                mapped = Some(read_xor_address(value, &transaction)?);
            }
            if kind == BINDING_NONCE && nonce.is_none() {
                nonce = Some(value.try_into().map_err(|_| WireError::Value("nonce"))?);
            }
            Ok(())
        })?;
        let mapped = mapped.ok_or(WireError::Value("no XOR-MAPPED-ADDRESS"))?;
        Ok(Self { transaction, mapped, nonce })
    }
}

fn header(kind: u16, transaction: &TransactionId) -> Vec<u8> {
    let mut message = Vec::with_capacity(64);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 0]);
    message.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
    message.extend_from_slice(transaction);
    message
}

/// Appends an attribute. Values are ours and short, so their length fits.
fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Writes the length of what follows the header.
fn finish(mut message: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(message.len().saturating_sub(HEADER_LEN)).unwrap_or(u16::MAX);
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    message
}

/// The transaction and the attributes of a message of `kind`.
fn split(datagram: &[u8], kind: u16) -> Result<(TransactionId, &[u8]), WireError> {
    if datagram.len() > MAX_LEN {
        return Err(WireError::Value("message length"));
    }
    let mut reader = Reader::new(datagram);
    if reader.u16()? != kind {
        return Err(WireError::Value("message type"));
    }
    let length = usize::from(reader.u16()?);
    if reader.u32()? != MAGIC_COOKIE {
        return Err(WireError::Value("magic cookie"));
    }
    let transaction = reader.array()?;
    let attributes = reader.take(length)?;
    reader.finish()?;
    Ok((transaction, attributes))
}

/// Shows each attribute to `see`, up to a MESSAGE-INTEGRITY: what follows that is to be ignored (RFC 8489 §14.5), and so is
/// the integrity itself, for whose check nobody here has a key.
fn each(
    attributes: &[u8],
    mut see: impl FnMut(u16, &[u8]) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let mut reader = Reader::new(attributes);
    while !reader.is_empty() {
        let kind = reader.u16()?;
        let length = usize::from(reader.u16()?);
        let value = reader.take(length)?;
        reader.take(length.next_multiple_of(4) - length)?;
        match kind {
            MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 => return Ok(()),
            USERNAME | XOR_MAPPED_ADDRESS | MAPPED_ADDRESS | PADDING | OPTIONAL.. => see(kind, value)?,
            _ => return Err(WireError::Value("an attribute that must be understood")),
        }
    }
    Ok(())
}

fn read_token(value: &[u8]) -> Result<[u8; TOKEN_LEN], WireError> {
    let bytes = BASE64URL_NOPAD.decode(value).map_err(|_| WireError::Value("USERNAME"))?;
    bytes.try_into().map_err(|_| WireError::Value("USERNAME"))
}

/// What an IPv6 address is combined with: cookie and transaction; an IPv4 address and the port take the front of it.
fn mask(transaction: &TransactionId) -> u128 {
    let [a, b, c, d] = MAGIC_COOKIE.to_be_bytes();
    let [e, f, g, h, i, j, k, l, m, n, o, p] = *transaction;
    u128::from_be_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}

/// RFC 8489 §14.2.
fn xor_address(address: SocketAddr, transaction: &TransactionId) -> Vec<u8> {
    let [high, low, ..] = MAGIC_COOKIE.to_be_bytes();
    let port = (address.port() ^ u16::from_be_bytes([high, low])).to_be_bytes();
    match address.ip() {
        IpAddr::V4(ip) => {
            let ip = (ip.to_bits() ^ MAGIC_COOKIE).to_be_bytes();
            [&[0, FAMILY_V4], port.as_slice(), &ip].concat()
        }
        IpAddr::V6(ip) => {
            let ip = (ip.to_bits() ^ mask(transaction)).to_be_bytes();
            [&[0, FAMILY_V6], port.as_slice(), &ip].concat()
        }
    }
}

fn read_xor_address(value: &[u8], transaction: &TransactionId) -> Result<SocketAddr, WireError> {
    let mut reader = Reader::new(value);
    let _reserved = reader.u8()?;
    let family = reader.u8()?;
    let [high, low, ..] = MAGIC_COOKIE.to_be_bytes();
    let port = reader.u16()? ^ u16::from_be_bytes([high, low]);
    let ip = match family {
        FAMILY_V4 => IpAddr::V4(Ipv4Addr::from_bits(reader.u32()? ^ MAGIC_COOKIE)),
        FAMILY_V6 => {
            let bits = u128::from_be_bytes(reader.array()?) ^ mask(transaction);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        _ => return Err(WireError::Value("address family")),
    };
    reader.finish()?;
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRANSACTION: TransactionId =
        [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap()
    }

    /// RFC 5769 §2.1: a request with credentials that are not ours. PRIORITY must be understood and is not.
    const SAMPLE_REQUEST: &str = "
        00010058 2112a442 b7e7a701 bc34d686 fa87dfae
        80220010 5354554e 20746573 7420636c 69656e74
        00240004 6e0001ff
        80290008 932ff9b1 51263b36
        00060009 6576746a 3a683676 59202020
        00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
        80280004 e57a3bcf";

    /// RFC 5769 §2.2.
    const SAMPLE_RESPONSE_V4: &str = "
        0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
        8022000b 74657374 20766563 746f7220
        00200008 0001a147 e112a643
        00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
        80280004 c07d4c96";

    /// RFC 5769 §2.3.
    const SAMPLE_RESPONSE_V6: &str = "
        01010048 2112a442 b7e7a701 bc34d686 fa87dfae
        8022000b 74657374 20766563 746f7220
        00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
        00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
        80280004 c8fb0b4c";

    #[test]
    fn rfc_5769_responses_are_read() {
        for (text, mapped) in [
            (SAMPLE_RESPONSE_V4, "192.0.2.1:32853"),
            (SAMPLE_RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
        ] {
            let expected =
                BindingResponse { transaction: TRANSACTION, mapped: mapped.parse().unwrap(), nonce: None };
            assert_eq!(BindingResponse::parse(&hex(text)), Ok(expected));
        }
    }

    #[test]
    fn our_response_has_the_address_bytes_of_rfc_5769() {
        for (sample, mapped) in [
            (SAMPLE_RESPONSE_V4, "192.0.2.1:32853"),
            (SAMPLE_RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
        ] {
            let response =
                BindingResponse { transaction: TRANSACTION, mapped: mapped.parse().unwrap(), nonce: None };
            let ours = response.encode();
            let attribute = ours.get(HEADER_LEN..).unwrap();
            assert!(hex(sample).windows(attribute.len()).any(|window| window == attribute));
        }
    }

    #[test]
    fn the_rfc_5769_request_is_not_for_us() {
        assert_eq!(
            BindingRequest::parse(&hex(SAMPLE_REQUEST)),
            Err(WireError::Value("an attribute that must be understood"))
        );
    }

    #[test]
    fn bytes_of_a_request() {
        let request = BindingRequest { transaction: TRANSACTION, token: [0xff; TOKEN_LEN] };
        let expected = "
            00010024 2112a442 b7e7a701 bc34d686 fa87dfae
            00060016 5f5f5f5f 5f5f5f5f 5f5f5f5f 5f5f5f5f 5f5f5f5f 5f770000
            00260004 00000000";
        assert_eq!(request.encode(), hex(expected));
    }

    #[test]
    fn no_answer_is_longer_than_its_request() {
        let request = BindingRequest { transaction: TRANSACTION, token: [7; TOKEN_LEN] };
        for mapped in ["192.0.2.1:1", "[2001:db8::1]:1"] {
            let nonce = Some([0xff; 8]);
            let response =
                BindingResponse { transaction: TRANSACTION, mapped: mapped.parse().unwrap(), nonce };
            assert!(response.encode().len() <= request.encode().len());
            assert!(response.encode().len() <= LONGEST_RESPONSE);
        }
    }

    #[test]
    fn what_is_no_request_of_ours_is_refused() {
        let good = BindingRequest { transaction: TRANSACTION, token: [7; TOKEN_LEN] }.encode();
        assert!(BindingRequest::parse(&good).is_ok());
        // A response, another method, another cookie, a length that lies either way.
        for (at, value) in [(0, 0x01), (1, 0x03), (4, 0x22), (3, 0x20), (3, 0x28)] {
            let mut bad = good.clone();
            *bad.get_mut(at).unwrap() = value;
            assert!(BindingRequest::parse(&bad).is_err(), "byte {at}");
        }
        let mut trailing = good.clone();
        trailing.push(0);
        assert!(BindingRequest::parse(&trailing).is_err());
        assert!(BindingRequest::parse(&hex("00010000 2112a442 b7e7a701 bc34d686 fa87dfae")).is_err());
        // Long enough but without a USERNAME.
        let mut nameless = header(BINDING_REQUEST, &TRANSACTION);
        attribute(&mut nameless, PADDING, &[0; 60]);
        assert_eq!(BindingRequest::parse(&finish(nameless)), Err(WireError::Value("no USERNAME")));
        assert!(BindingRequest::parse(&vec![0; MAX_LEN + 1]).is_err());
    }

    #[test]
    fn padding_and_optional_attributes_are_read_over() {
        let mut message = header(BINDING_REQUEST, &TRANSACTION);
        attribute(&mut message, PADDING, &[0; 31]);
        attribute(&mut message, 0x8022, b"software");
        attribute(&mut message, USERNAME, BASE64URL_NOPAD.encode(&[1; TOKEN_LEN]).as_bytes());
        attribute(&mut message, USERNAME, BASE64URL_NOPAD.encode(&[2; TOKEN_LEN]).as_bytes());
        let request = BindingRequest::parse(&finish(message)).unwrap();
        assert_eq!(request.token, [1; TOKEN_LEN]);
    }

    proptest! {
        #[test]
        fn round_trip(transaction: TransactionId, token: [u8; TOKEN_LEN], v4: Option<[u8; 4]>, v6: [u8; 16], port: u16, nonce: Option<Nonce>) {
            let request = BindingRequest { transaction, token };
            prop_assert_eq!(BindingRequest::parse(&request.encode()), Ok(request));
            let ip = v4.map_or_else(|| IpAddr::from(v6), IpAddr::from);
            let response = BindingResponse { transaction, mapped: SocketAddr::new(ip, port), nonce };
            prop_assert_eq!(BindingResponse::parse(&response.encode()), Ok(response));
        }

        #[test]
        fn perturbed_messages_never_panic(token: [u8; TOKEN_LEN], at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut bytes = BindingRequest { transaction: TRANSACTION, token }.encode();
            let at = at.index(bytes.len());
            if let Some(changed) = bytes.get_mut(at) {
                *changed = byte;
            }
            let cut = bytes.get(..cut.index(bytes.len())).unwrap();
            let _ = (BindingRequest::parse(&bytes), BindingResponse::parse(&bytes), BindingRequest::parse(cut), BindingResponse::parse(cut));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, attributes: Vec<u8>) {
            let mut dressed = header(BINDING_REQUEST, &TRANSACTION);
            dressed.extend_from_slice(&attributes);
            let dressed = finish(dressed);
            let _ = (BindingRequest::parse(&bytes), BindingResponse::parse(&bytes), BindingRequest::parse(&dressed));
        }
    }
}
