//! X-Forwarded-For: a list to which each proxy on the way adds whom it heard, at the end.
//!
//! So it is read from the end. The last entry is what the trusted proxy itself saw; where that is another trusted proxy, the one before is what that saw; the first that is
//! none of ours is the client. What stands before it the client may have written itself, and is not looked at.

use crate::config::Prefixes;
use std::net::{IpAddr, SocketAddr};

/// Its name. Whether other proxies write `Forwarded` (RFC 7239) as well does not matter: this one all of them have.
pub(in crate::server) const HEADER: &str = "x-forwarded-for";

/// Who is behind the proxies, by the values of the header in their order, port 0 where that is not said; nothing when the trusted ones say nothing that can be read. Values are
/// bytes: what a client wrote before the proxies did may be no text.
pub(in crate::server) fn client<'a>(
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &Prefixes,
) -> Option<SocketAddr> {
    let mut farthest = None;
    for entry in values.rev().flat_map(|value| value.rsplit(|byte| *byte == b',')) {
        let text = std::str::from_utf8(entry).ok();
        let Some(address) = text.and_then(|text| address(text.trim())) else { break };
        farthest = Some(address);
        if !trusted.contains(address.ip()) {
            break;
        }
    }
    farthest
}

/// `192.0.2.7`, `2001:db8::7`, and with a port, as some load balancers write: `192.0.2.7:40000`, `[2001:db8::7]:40000`, `[2001:db8::7]`.
fn address(text: &str) -> Option<SocketAddr> {
    let of_ip = |ip: IpAddr| SocketAddr::new(ip, 0);
    let read = match text.parse::<SocketAddr>() {
        Ok(address) => Some(address),
        Err(_) => {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            bare.parse().ok().map(of_ip)
        }
    };
    read.map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
        .filter(|address| !address.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[&str]) -> Option<String> {
        let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        of_bytes(&values)
    }

    fn of_bytes(values: &[&[u8]]) -> Option<String> {
        let trusted = Prefixes(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        client(values.iter().copied(), &trusted).map(|address| address.to_string())
    }

    #[test]
    fn the_last_that_is_no_proxy_of_ours_is_the_client() {
        let client = Some("192.0.2.7:0".to_owned());
        assert_eq!(of(&["192.0.2.7"]), client);
        assert_eq!(of(&["192.0.2.7, 10.0.0.1"]), client);
        assert_eq!(of(&["192.0.2.7,10.0.0.1 ,\tfd00::1"]), client);
        assert_eq!(of(&["192.0.2.7", "10.0.0.1"]), client);
        // What the client itself wrote stands before.
        assert_eq!(of(&["198.51.100.1, 192.0.2.7, 10.0.0.1"]), client);
        assert_eq!(of(&["10.0.0.9, 192.0.2.7"]), client);
        assert_eq!(of(&["nonsense, 192.0.2.7"]), client);
        assert_eq!(of(&["::ffff:192.0.2.7"]), client);
        assert_eq!(of(&["192.0.2.7:40000"]).as_deref(), Some("192.0.2.7:40000"));
        assert_eq!(of(&["[2001:db8::7]"]).as_deref(), Some("[2001:db8::7]:0"));
        assert_eq!(of(&["[2001:db8::7]:1"]).as_deref(), Some("[2001:db8::7]:1"));
    }

    #[test]
    fn what_the_client_wrote_that_is_no_text_hides_nothing() {
        let client = Some("192.0.2.7:0".to_owned());
        assert_eq!(of_bytes(&[b"\xff\xfe, 192.0.2.7, 10.0.0.1"]), client);
        assert_eq!(of_bytes(&[b"\xff", b"192.0.2.7"]), client);
        assert_eq!(of_bytes(&[b"192.0.2.7, \xff, 10.0.0.1"]).as_deref(), Some("10.0.0.1:0"));
    }

    #[test]
    fn what_cannot_be_read_hides_what_is_before_it() {
        assert_eq!(of(&["192.0.2.7, unknown"]), None);
        assert_eq!(of(&["192.0.2.7, "]), None);
        assert_eq!(of(&["192.0.2.7, nonsense, 10.0.0.1"]).as_deref(), Some("10.0.0.1:0"));
        assert_eq!(of(&["0.0.0.0"]), None);
        assert_eq!(of(&[]), None);
        // All are proxies: somebody on one of them.
        assert_eq!(of(&["10.0.0.2, 10.0.0.1"]).as_deref(), Some("10.0.0.2:0"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(values in prop::collection::vec("[0-9a-f:.,\\[\\] ]{0,60}", 0..4)) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let _ = of(&values);
        }
    }
}
