//! How much is remembered of what this node sent, and for how long, with the reason for each number.
//!
//! Times are those of Linux (`Documentation/networking/nf_conntrack-sysctl.rst`), which applications are made for; where several
//! states of it are one here, the longest. They are kept in whole seconds, and what is remembered lives up to one second longer.

use std::time::Duration;

/// A TCP connection that was opened from here and not answered (`nf_conntrack_tcp_timeout_syn_sent`).
pub const TCP_OPENING: Duration = Duration::from_secs(120);
/// One that is open (`nf_conntrack_tcp_timeout_established`, 5 days; RFC 5382 §5 demands two hours and four minutes).
pub const TCP_OPEN: Duration = Duration::from_secs(432_000);
/// One that was picked up while it was open, until the peer speaks in it (`nf_conntrack_tcp_timeout_unacknowledged`).
pub const TCP_RESUMED: Duration = Duration::from_secs(300);
/// One that a side has ended (`nf_conntrack_tcp_timeout_fin_wait` and `_time_wait`).
pub const TCP_CLOSING: Duration = Duration::from_secs(120);
/// One that was reset (`nf_conntrack_tcp_timeout_close`).
pub const TCP_CLOSED: Duration = Duration::from_secs(10);
/// UDP that was sent and not answered (`nf_conntrack_udp_timeout`).
pub const UDP_ASKED: Duration = Duration::from_secs(30);
/// UDP in both directions (`nf_conntrack_udp_timeout_stream`).
pub const UDP_ANSWERED: Duration = Duration::from_secs(120);
/// An echo request (`nf_conntrack_icmp_timeout` and `_icmpv6_timeout`).
pub const ECHO: Duration = Duration::from_secs(30);
/// Another protocol, by its addresses alone (`nf_conntrack_generic_timeout`).
pub const OTHER: Duration = Duration::from_secs(600);

/// How long TCP of which nothing is remembered may go on after the rules of a peer changed, where this node may have begun it; a SYN that
/// begins a connection never. Long enough for a sender that waits for an acknowledgement to repeat itself (its pauses double from 0.2 s
/// to two minutes, RFC 6298 §5); Linux gives what it picks up as long (`nf_conntrack_tcp_timeout_max_retrans`). Until then what is no
/// SYN reaches any port from a port that this node may connect to, and its sender hears whether somebody listens. Tailscale lets
/// such packets pass always.
pub const GRACE: Duration = Duration::from_secs(300);

/// Flows that are remembered of one peer: 64 KiB, taken when the first packet is sent to it. A busy host has some hundred with
/// another; a proxy some thousand. Beyond it those give way first that matter least ([`super::table`]).
pub const FLOWS: usize = 4_096;
/// Peers that are gone of whom the memory is kept, in case they come back: 4 MiB. Who was cut off by new rules must not find this node
/// forgetful for having left the network for a moment.
pub const PARTED: usize = 64;
/// Packets of one peer of which later fragments may come: 4 KiB. Twenty times what one sender has under way at once.
pub const FRAGMENTS: usize = 256;
/// For how long. Linux waits 30 s for the rest of an IPv4 packet (`net.ipv4.ipfrag_time`); senders send all at once.
pub const FRAGMENT_LIFE: Duration = Duration::from_secs(30);

/// Extension headers of an IPv6 packet that are walked. RFC 8200 §4.1 has four kinds, one of them twice; more is an attack on
/// whoever walks them.
pub const EXTENSION_HEADERS: usize = 8;
