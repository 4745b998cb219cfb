//! The listener. Anybody may connect: nothing is said to anybody until a packet came that only a peer could seal, and few of those who
//! say nothing are borne at a time, from one address or site even fewer: so that it takes many machines to keep a peer out.

use super::Shared;
use super::link::{self, Origin};
use crate::plane::host;
use socket2::SockRef;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Connections from outside that are not kept yet; who comes while there are so many is sent away.
pub(super) const STRANGERS: usize = 64;
/// Of them, from one address (an IPv6 network of one customer: /64).
pub(super) const PER_ADDRESS: usize = 4;
/// Of them, from one site (of IPv6, a /48, which a customer may have as well, RFC 6177 §2): a machine has as many /64 of it as it likes.
pub(super) const PER_SITE: usize = 8;
/// Connections taken in a second: each costs the event loop some work, even if it says nothing.
const PER_SECOND: u32 = 128;
/// Of them, from one address: who comes again and again leaves room for others.
const PER_SECOND_AND_ADDRESS: u32 = PER_SECOND / 4;
/// Of them, from one site.
const PER_SECOND_AND_SITE: u32 = PER_SECOND / 2;
/// A pause after the kernel refused to give a connection: out of descriptors, it would refuse again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is there and not known yet.
#[derive(Debug, Default)]
struct Strangers {
    all: Mutex<HashMap<IpAddr, usize>>,
}

/// Whether two hosts are of one site. An IPv4 address is one by itself.
fn is_same_site(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() >> 80 == other.to_bits() >> 80,
        _ => one == other,
    }
}

/// A place among them, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    strangers: Arc<Strangers>,
    address: IpAddr,
}

impl Strangers {
    fn place(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = host(address);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().sum::<usize>() >= STRANGERS {
            return None;
        }
        let of_site = all.iter().filter(|(other, _)| is_same_site(**other, address)).map(|(_, here)| here);
        if of_site.sum::<usize>() >= PER_SITE {
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

/// Connections taken in the second that runs.
#[derive(Debug)]
struct Taken {
    second: Instant,
    all: u32,
    each: HashMap<IpAddr, u32>,
}

impl Taken {
    fn new(now: Instant) -> Self {
        Self { second: now, all: 0, each: HashMap::new() }
    }

    /// A place among the strangers, if there is one and not too many were taken. Those that get none cost next to nothing: they do not
    /// count, or somebody whose places are used up would use up those of all.
    fn place(&mut self, now: Instant, strangers: &Arc<Strangers>, address: IpAddr) -> Option<Place> {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        let here = self.each.get(&host(address)).copied().unwrap_or_default();
        let of_site = self.each.iter().filter(|(other, _)| is_same_site(**other, host(address)));
        if self.all >= PER_SECOND
            || here >= PER_SECOND_AND_ADDRESS
            || of_site.map(|(_, taken)| taken).sum::<u32>() >= PER_SECOND_AND_SITE
        {
            return None;
        }
        let place = strangers.place(address)?;
        self.all += 1;
        self.each.insert(host(address), here + 1);
        Some(place)
    }
}

/// Takes connections for as long as it is wanted.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let strangers = Arc::new(Strangers::default());
    let mut taken = Taken::new(Instant::now());
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let Some(place) = taken.place(Instant::now(), &strangers, remote.ip()) else {
                    reset(stream);
                    continue;
                };
                // What is said there has to leave at once; an error means that it broke already, which its task finds out.
                let _ = stream.set_nodelay(true);
                tokio::spawn(link::run(stream, remote, Origin::Came(place), Arc::clone(&shared)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_with_a_network_of_networks_leaves_places_to_others() {
        let (now, strangers) = (Instant::now(), Arc::new(Strangers::default()));
        let address = |site: u16, network: u16| IpAddr::from([0x2001, 0xdb8, site, network, 0, 0, 0, 1]);
        let mut taken = Taken::new(now);
        let mut held: Vec<_> =
            (0..1_000).filter_map(|n| taken.place(now, &strangers, address(1, n))).collect();
        assert_eq!(held.len(), PER_SITE);
        assert!(taken.place(now, &strangers, address(2, 0)).is_some(), "another site");
        assert!(taken.place(now, &strangers, [192, 0, 2, 1].into()).is_some());
        held.pop();
        assert!(taken.place(now, &strangers, address(1, 5_000)).is_some(), "one was given back");
        // One that gives them back at once leaves others their part of a second.
        drop(held);
        let quick = (0..1_000).filter(|n| taken.place(now, &strangers, address(1, *n)).is_some()).count();
        assert_eq!(quick + PER_SITE + 1, PER_SECOND_AND_SITE as usize);
        assert!(taken.place(now, &strangers, address(3, 0)).is_some());
    }

    #[test]
    fn who_comes_again_and_again_leaves_room_for_others() {
        let (now, strangers) = (Instant::now(), Arc::new(Strangers::default()));
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut taken = Taken::new(now);
        // With all his places taken, and with all of them given back at once.
        let held: Vec<_> = (0..1000).filter_map(|_| taken.place(now, &strangers, address(1))).collect();
        assert_eq!(held.len(), PER_ADDRESS);
        let quick = (0..1000).filter(|_| taken.place(now, &strangers, address(2)).is_some()).count();
        assert_eq!(quick, PER_SECOND_AND_ADDRESS as usize);
        assert!(taken.place(now, &strangers, address(3)).is_some());
        // Many together have what there is in a second, and as much in the next.
        let all = |taken: &mut Taken, now| {
            (0..1000).filter(|n| taken.place(now, &strangers, address((n % 50) as u8 + 4)).is_some()).count()
        };
        assert_eq!(all(&mut taken, now), PER_SECOND as usize - PER_ADDRESS - quick - 1);
        assert_eq!(all(&mut taken, now + Duration::from_secs(1)), PER_SECOND as usize);
    }
}
