//! The listener. Anybody may connect: nothing is said to anybody until a packet came that only a peer could seal, and few of those who
//! say nothing are borne at a time, from one address even fewer: so that it takes many machines to keep a peer out.

use super::{Shared, link};
use socket2::SockRef;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Connections from outside that are not kept yet; who comes while there are so many is sent away.
pub(super) const STRANGERS: usize = 64;
/// Of them, from one address (an IPv6 network of one customer: /64).
pub(super) const PER_ADDRESS: usize = 4;
/// Connections taken in a second: each costs the event loop some work, even if it says nothing.
const PER_SECOND: u32 = 128;
/// A pause after the kernel refused to give a connection: out of descriptors, it would refuse again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is there and not known yet.
#[derive(Debug, Default)]
struct Strangers {
    all: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among them, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    strangers: Arc<Strangers>,
    address: IpAddr,
}

impl Strangers {
    fn place(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = customer(address);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().sum::<usize>() >= STRANGERS {
            return None;
        }
        let here = all.entry(address).or_default();
        if *here >= PER_ADDRESS {
            return None;
        }
        *here += 1;
        Some(Place { strangers: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.strangers.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = all.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// The addresses that one customer has are one.
fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Takes connections for as long as it is wanted.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let strangers = Arc::new(Strangers::default());
    let (mut second, mut taken) = (Instant::now(), 0);
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                if second.elapsed() >= Duration::from_secs(1) {
                    (second, taken) = (Instant::now(), 0);
                }
                taken += 1;
                let place = if taken > PER_SECOND { None } else { strangers.place(remote.ip()) };
                let Some(place) = place else {
                    reset(stream);
                    continue;
                };
                // What is said there has to leave at once; an error means that it broke already, which its task finds out.
                let _ = stream.set_nodelay(true);
                tokio::spawn(link::run(stream, remote, None, Arc::clone(&shared), Some(place)));
            }
            // It broke before it was taken.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::debug!(%error, "a connection was not taken");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Closes a connection so that its pair of ports is free at once.
pub(super) fn reset(stream: TcpStream) {
    // Where that fails it is closed like any other.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}
