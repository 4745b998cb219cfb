//! What a rule is about.

use super::ranges::Ranges;
use std::fmt;

/// Ethertypes that have words of their own.
pub(super) const IPV4: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
pub(super) const IPV6: u16 = 0x86dd;
/// Below it, what stands in the place of the ethertype is a length (IEEE 802.3 §3.2.6).
pub(super) const FIRST_ETHERTYPE: u16 = 0x0600;

/// The last words of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Everything,
    /// By destination port; all of them for a bare `tcp`.
    Tcp(Ranges),
    /// By destination port; all of them for a bare `udp`.
    Udp(Ranges),
    Icmp,
    Protocol(u8),
    Ip,
    Other,
    /// In order, each once.
    Ethertypes(Vec<u16>),
}

/// With the blank before it, where there is anything.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = |f: &mut fmt::Formatter<'_>, word: &str, ports: &Ranges| match ports.is_all() {
            true => write!(f, " {word}"),
            false => write!(f, " {word} {ports}"),
        };
        match self {
            Self::Everything => Ok(()),
            Self::Tcp(set) => ports(f, "tcp", set),
            Self::Udp(set) => ports(f, "udp", set),
            Self::Icmp => f.write_str(" icmp"),
            Self::Protocol(number) => write!(f, " proto {number}"),
            Self::Ip => f.write_str(" ip"),
            Self::Other => f.write_str(" other"),
            Self::Ethertypes(types) => {
                f.write_str(" ethertype ")?;
                for (at, kind) in types.iter().enumerate() {
                    write!(f, "{}0x{kind:04x}", if at == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}
