//! What decides how fast a connection sends that may have been opened from both ends at once.
//!
//! Its kernel takes the time from its own SYN-ACK to the other's for a round trip. That is only how far apart the two SYNs left: 2.6 ms
//! were measured where a round trip was 40. An algorithm that builds on the smallest round trip (BBR's window, where HyStart leaves slow
//! start) then keeps the connection at a fraction of what the way carries, and data piles up in front of it for a second and more.
//!
//! So it begins with Reno, which no kernel lacks and which does not ask for that figure, and goes over to what the machine uses
//! otherwise once the kernel has forgotten the sample.

use socket2::SockRef;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::time::Instant;

/// How long a kernel remembers a smallest round trip (`tcp_min_rtt_wlen`, ip-sysctl), and one second.
pub(super) const REMEMBERED: Duration = Duration::from_secs(301);
const AT_FIRST: &[u8] = b"reno";

/// The algorithm that the machine uses otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Usual {
    name: Vec<u8>,
    /// When it is to be taken up again.
    pub(super) due: Instant,
}

impl Usual {
    /// Before it connects: takes another one for so long. `None` where the kernel does not let us, and all stays as it is.
    pub(super) fn put_off(socket: &impl AsFd, time: Duration) -> Option<Self> {
        let socket = SockRef::from(socket);
        let name = socket.tcp_congestion().ok()?;
        socket.set_tcp_congestion(AT_FIRST).ok()?;
        // Ended by zeros, which it is not set with.
        let name = name.into_iter().take_while(|byte| *byte != 0).collect();
        Some(Self { name, due: Instant::now() + time })
    }

    /// Takes it up again.
    pub(super) fn take_up(&self, socket: &impl AsFd) {
        if let Err(error) = SockRef::from(socket).set_tcp_congestion(&self.name) {
            tracing::debug!(%error, "a connection keeps the congestion control that it began with");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpSocket;

    #[tokio::test]
    async fn what_the_machine_uses_is_put_off_and_taken_up_again() {
        let socket = TcpSocket::new_v4().unwrap();
        let in_use = || {
            let name = SockRef::from(&socket).tcp_congestion().unwrap();
            String::from_utf8(name.into_iter().take_while(|byte| *byte != 0).collect()).unwrap()
        };
        let before = in_use();
        let usual = Usual::put_off(&socket, REMEMBERED).unwrap();
        assert_eq!(in_use(), "reno");
        usual.take_up(&socket);
        assert_eq!(in_use(), before);
    }
}
