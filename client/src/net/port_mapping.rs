//! A port of this machine's router that leads to the UDP socket, where the router gives one to who asks: by PCP (RFC 6887) or NAT-PMP
//! (RFC 6886), else by UPnP-IGD.
//!
//! # Life
//!
//! [`PortMapper::spawn`] starts a task that finds the default router, asks it, and says the outside address in a channel. It asks again
//! at half of the mapping's life, when the router or this machine's address toward it is another, and a refusal is asked again after
//! [`RETRY`]. [`PortMapper::end`] gives the port back, whatever is under way.
//!
//! A gateway (UPnP) may know mappings without an end alone, and then gets one; or have the port for another host, and is asked for others.
//!
//! # Invariants
//!
//! - Only the router on the way to the internet is asked, on its own network, and nothing while that way leads through our own device.
//! - What a router answers is a candidate like any other: it is checked before anything is sent there, and moves nothing.
//! - One mapping at most; it is given back before another is asked for.

use super::interfaces;
use super::netlink::Netlink;
use super::routes::{default_router, leads_into};
use crate::system_rng::SystemRng;
use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig};
use igd_next::aio::Gateway;
use igd_next::aio::tokio::Tokio;
use igd_next::{AddPortError, PortMappingProtocol, SearchOptions};
use shadowmesh_proto::rng::Rng as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// A refusal, or silence, is asked again after this: routers seldom change their mind.
const RETRY: Duration = Duration::from_secs(600);
/// What is asked for (RFC 6886 §3.3 recommends two hours); half of it is the time until it is renewed.
const LIFE: Duration = Duration::from_secs(7200);
/// The shortest time between two renewals, whatever life a router grants.
const RENEW_MIN: Duration = Duration::from_secs(30);
/// Outside ports that a gateway is asked for at most: one is taken by somebody else's machine now and then, four are by a gateway that gives
/// none.
const PORTS: usize = 4;
/// Others than the own one are drawn from those that are nobody's (RFC 6335 §6).
const DYNAMIC_PORTS: RangeInclusive<u16> = 49_152..=65_535;
/// PCP and NAT-PMP: three questions within 1.75 s.
const ASKED: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_secs(1)),
};
/// UPnP: how long routers are listened for, and how long each of the requests to one may take.
const SEARCH: Duration = Duration::from_secs(3);
const REQUEST: Duration = Duration::from_secs(3);
/// Where routers are looked for by UPnP (SSDP).
const SSDP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250));
/// ... and the port.
const SSDP_PORT: u16 = 1900;
/// Giving it back takes no longer.
const GIVE_BACK: Duration = Duration::from_millis(400);

/// The task that keeps a port mapped.
#[derive(Debug)]
pub struct PortMapper {
    mapped: watch::Receiver<Option<SocketAddr>>,
    hurry: Arc<Notify>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Whom to ask, and for which address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Question {
    router: Ipv4Addr,
    own: Ipv4Addr,
    port: NonZeroU16,
}

/// For how long a port is asked for, and how often at most.
#[derive(Debug, Clone, Copy)]
struct Terms {
    life: Duration,
    renew_min: Duration,
}

impl Terms {
    const USUAL: Self = Self { life: LIFE, renew_min: RENEW_MIN };
}

/// A port that a router forwards.
#[derive(Debug)]
enum Held {
    ByRouter(PortMapping),
    ByUpnp(Box<Gateway<Tokio>>, u16),
}

impl PortMapper {
    /// Asks for a port that leads to `port` of this machine, once what was mapped before is given back. `device` is the index of our own
    /// device.
    pub fn spawn(netlink: Arc<Netlink>, device: u32, port: u16, before: Option<JoinHandle<()>>) -> Self {
        let (say, mapped) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let hurry = Arc::new(Notify::new());
        let changed = Arc::clone(&hurry);
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            let Some(port) = NonZeroU16::new(port) else { return };
            keep(&netlink, device, port, Terms::USUAL, &say, &changed, stopped).await;
        });
        Self { mapped, hurry, stop, task }
    }

    /// The outside address, when it changed. Cancel-safe.
    pub async fn changed(&mut self) -> Option<SocketAddr> {
        if self.mapped.changed().await.is_err() {
            // The task ended, which it does not by itself: nothing is mapped any more.
            std::future::pending::<()>().await;
        }
        *self.mapped.borrow_and_update()
    }

    /// The machine's network changed: looks whether the router is another.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Gives the port back, which takes a moment at most.
    pub async fn end(self) {
        let _ = self.stop.send(());
        let _ = timeout(2 * GIVE_BACK, self.task).await;
    }
}

async fn keep(
    netlink: &Netlink,
    device: u32,
    port: NonZeroU16,
    terms: Terms,
    say: &watch::Sender<Option<SocketAddr>>,
    changed: &Notify,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut held: Option<(Question, Held)> = None;
    loop {
        let question = question(netlink, device, port).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the default router is not known");
            None
        });
        if let Some((asked, old)) = held.take_if(|(asked, _)| Some(*asked) != question) {
            say.send_replace(None);
            tracing::debug!(router = %asked.router, "the router is another: its port is given back");
            old.give_back().await;
        }
        let pause = if let Some(question) = question {
            let mut kept = held.take().map(|(_, held)| held);
            let asked = tokio::select! {
                asked = ask(netlink, device, question, terms.life, &mut kept) => Some(asked),
                _ = &mut stopped => None,
            };
            match asked {
                Some(Ok((outside, life))) => {
                    held = kept.map(|kept| (question, kept));
                    say.send_if_modified(|known| known.replace(outside) != Some(outside));
                    (life / 2).max(terms.renew_min)
                }
                Some(Err(why)) => {
                    tracing::debug!(why, router = %question.router, "no port is mapped");
                    say.send_if_modified(|known| known.take().is_some());
                    give_back(kept).await;
                    RETRY
                }
                None => return give_back(kept).await,
            }
        } else {
            RETRY
        };
        tokio::select! {
            () = sleep(pause) => {}
            // A change that leaves router and address as they were is no reason to ask again.
            () = other_router(netlink, device, port, changed, held.as_ref().map(|(asked, _)| *asked)) => {}
            _ = &mut stopped => return give_back(held.map(|(_, held)| held)).await,
        }
    }
}

async fn give_back(held: Option<Held>) {
    if let Some(held) = held {
        held.give_back().await;
    }
}

/// Returns once the network changed and the router to ask is another than `asked`.
async fn other_router(
    netlink: &Netlink,
    device: u32,
    port: NonZeroU16,
    changed: &Notify,
    asked: Option<Question>,
) {
    loop {
        changed.notified().await;
        if question(netlink, device, port).await.is_ok_and(|now| now != asked) {
            return;
        }
    }
}

/// The default router, and this machine's address on its network.
async fn question(netlink: &Netlink, device: u32, port: NonZeroU16) -> io::Result<Option<Question>> {
    let Some((router, interface)) = default_router(netlink, device).await? else { return Ok(None) };
    let interfaces = interfaces::list(netlink, Some(device)).await?;
    let interface = interfaces.iter().find(|known| known.index == interface && known.running);
    let own = interface.into_iter().flat_map(|known| &known.addresses).find_map(|have| {
        let IpAddr::V4(own) = have.cidr.address() else { return None };
        (have.usable && have.cidr.contains(router.into())).then_some(own)
    });
    Ok(own.map(|own| Question { router, own, port }))
}

/// Asks for the port, or for it to be kept; the outside address, and for how long.
///
/// What the router forwards is in `held` from the moment that this is known until it is given back, so that somebody gives it back where
/// this fails or is given up.
async fn ask(
    netlink: &Netlink,
    device: u32,
    question: Question,
    life: Duration,
    held: &mut Option<Held>,
) -> Result<(SocketAddr, Duration), String> {
    if leads_into(netlink, question.router.into(), device).await.unwrap_or(true) {
        return Err("the way to the router leads through our own device".to_owned());
    }
    if let Some(before) = held {
        match before.renew(question, life).await {
            Ok(true) => return before.answered(question, life).await,
            Ok(false) => *held = None,
            Err(why) => return Err(why),
        }
    }
    let options = PortMappingOptions {
        external_port: Some(question.port),
        lifetime_seconds: u32::try_from(life.as_secs()).ok(),
        timeout_config: Some(ASKED),
    };
    let (router, own) = (question.router.into(), question.own.into());
    let by_router = PortMapping::new(router, own, InternetProtocol::Udp, question.port, options).await;
    let refused = match by_router {
        Ok(mapping) => {
            return held.insert(Held::ByRouter(mapping)).answered(question, life).await;
        }
        Err(error) => error.to_string(),
    };
    if leads_into(netlink, SSDP, device).await.unwrap_or(true) {
        return Err(format!("PCP and NAT-PMP: {refused}; UPnP would go through our own device"));
    }
    let gateway = match search(question, None).await {
        Ok(gateway) if gateway.addr.ip() == question.router => gateway,
        // Whoever is on this network can answer, and be the first. The router itself is asked then, and nobody else (UPnP Device
        // Architecture 1.1 §1.3.3, unicast M-SEARCH).
        Ok(_) => match search(question, Some(SocketAddr::new(question.router.into(), SSDP_PORT))).await {
            Ok(gateway) if gateway.addr.ip() == question.router => gateway,
            Ok(_) => return Err("UPnP: another host than the router answers for it".to_owned()),
            Err(error) => {
                return Err(format!(
                    "UPnP: another host than the router answers, and the router says nothing: {error}"
                ));
            }
        },
        Err(error) => return Err(format!("PCP and NAT-PMP: {refused}; UPnP: {error}")),
    };
    let outside = add_by_upnp(question, &gateway, question.port.get(), life).await?;
    held.insert(Held::ByUpnp(Box::new(gateway), outside)).answered(question, life).await
}

/// Looks for a gateway at `at`, or at whoever hears it.
async fn search(question: Question, at: Option<SocketAddr>) -> Result<Gateway<Tokio>, igd_next::SearchError> {
    let mut search = SearchOptions::default();
    search.bind_addr = SocketAddr::new(question.own.into(), 0);
    search.timeout = Some(SEARCH);
    if let Some(at) = at {
        search.broadcast_address = at;
    }
    igd_next::aio::tokio::search_gateway(search).await
}

/// Asks a gateway for `outside`, or for it to be kept; the port that it forwards then.
async fn add_by_upnp(
    question: Question,
    gateway: &Gateway<Tokio>,
    mut outside: u16,
    life: Duration,
) -> Result<u16, String> {
    let own = SocketAddr::new(question.own.into(), question.port.get());
    let mut life = u32::try_from(life.as_secs()).unwrap_or(u32::MAX);
    let mut ports = 1;
    loop {
        let added = gateway.add_port(PortMappingProtocol::UDP, outside, own, life, "ShadowMesh");
        match timeout(REQUEST, added).await {
            Ok(Ok(())) => return Ok(outside),
            // UPnP IGD, WANIPConnection:1 §2.4.16, error 725: none with an end. It is given back at the end, and renewed like any other: the
            // gateway may have forgotten it.
            Ok(Err(AddPortError::OnlyPermanentLeasesSupported)) if life != 0 => life = 0,
            // Error 718: it leads to another host.
            Ok(Err(AddPortError::PortInUse)) if ports < PORTS => {
                ports += 1;
                outside = dynamic_port();
            }
            Ok(Err(error)) => return Err(format!("UPnP: {error}")),
            Err(_) => return Err("UPnP: the router did not answer".to_owned()),
        }
    }
}

fn dynamic_port() -> u16 {
    let (first, last) = (u64::from(*DYNAMIC_PORTS.start()), u64::from(*DYNAMIC_PORTS.end()));
    u16::try_from(first + SystemRng.next_u64() % (last - first + 1)).unwrap_or(*DYNAMIC_PORTS.end())
}

impl Held {
    /// Asks for it to be kept. `false` where it is to be asked for anew.
    async fn renew(&mut self, question: Question, life: Duration) -> Result<bool, String> {
        match self {
            Self::ByRouter(mapping) => {
                let renewed = mapping.renew().await;
                Ok(renewed.inspect_err(|error| tracing::debug!(%error, "the port was not renewed")).is_ok())
            }
            Self::ByUpnp(gateway, outside) => {
                *outside = add_by_upnp(question, gateway, *outside, life).await?;
                Ok(true)
            }
        }
    }

    /// The outside address, and for how long it was granted; a gateway that was asked for `life` does not say.
    async fn answered(&self, question: Question, life: Duration) -> Result<(SocketAddr, Duration), String> {
        let (ip, port, life, by) = match self {
            Self::ByRouter(mapping) => {
                let (ip, by) = match mapping.mapping_type() {
                    PortMappingType::Pcp { external_ip, .. } => (external_ip, "PCP"),
                    PortMappingType::NatPmp => {
                        let router = question.router.into();
                        let ip = crab_nat::natpmp::external_address(router, Some(ASKED)).await;
                        (
                            ip.map_err(|error| format!("the router's outside address: {error}"))?.into(),
                            "NAT-PMP",
                        )
                    }
                };
                (ip, mapping.external_port().get(), Duration::from_secs(mapping.lifetime().into()), by)
            }
            Self::ByUpnp(gateway, outside) => match timeout(REQUEST, gateway.get_external_ip()).await {
                Ok(Ok(ip)) => (ip, *outside, life, "UPnP"),
                Ok(Err(error)) => return Err(format!("UPnP, the router's outside address: {error}")),
                Err(_) => return Err("UPnP: the router did not say its outside address".to_owned()),
            },
        };
        let outside = SocketAddr::new(ip.to_canonical(), port);
        tracing::debug!(%outside, by, life = life.as_secs(), "the router forwards a port");
        Ok((outside, life))
    }

    /// Best effort: a router that does not answer forgets it by itself.
    async fn give_back(self) {
        let given = timeout(GIVE_BACK, async {
            match self {
                Self::ByRouter(mapping) => mapping.try_drop().await.map_err(|(error, _)| error.to_string()),
                Self::ByUpnp(gateway, outside) => gateway
                    .remove_port(PortMappingProtocol::UDP, outside)
                    .await
                    .map_err(|error| error.to_string()),
            }
        });
        match given.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error, "the port was not given back"),
            Err(_) => tracing::debug!("the router did not take the port back in time"),
        }
    }
}

#[cfg(test)]
mod tests;
