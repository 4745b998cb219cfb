//! The device of a daemon with its addresses: a TAP of this machine, or a port in memory for tests.

use super::DaemonError;
use super::progress::{Progress, ProgressSender};
use crate::config::Bridge;
use crate::device::{Device, LinkControl, LinkError, LinkSettings, Offload, Opened, Queues, Tap};
use crate::net::{Cidr, Netlink};
use std::sync::Arc;

/// Takes the addresses of a port of a bridge from the bridge, where they would outlive the port. Where it is none they go with it.
pub(super) async fn clear_bridge(mut port: LinkControl) {
    if port.is_bridged()
        && let Err(error) = port.set_addresses(&[]).await
    {
        tracing::warn!(%error, "the bridge keeps an address");
    }
}

/// A device that carries frames, and what changes its addresses.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) queues: Queues,
    /// Its index on this machine.
    pub(super) index: u32,
    link: Option<LinkControl>,
    /// How often its MAC was put back.
    restored: u64,
}

impl Interface {
    /// Makes a TAP with so many queues, or as many as there can be, and brings it up, in a bridge or not, with these addresses.
    pub(super) async fn tap(
        netlink: &Arc<Netlink>,
        name: &str,
        settings: LinkSettings,
        queues: usize,
        bridge: &Bridge,
        addresses: &[Cidr],
        progress: &ProgressSender,
    ) -> Result<Self, DaemonError> {
        let Opened { tap, others, refused } = Tap::open_queues(name.parse()?, Offload::Full, queues)?;
        if let Some(error) = refused {
            let count = 1 + others.len();
            progress.send(Progress::Notice(format!(
                "the kernel gave {name} {count} of {queues} queues ({error}): it works, and is read by {count} of as many threads"
            )));
            tracing::warn!(device = name, wanted = queues, count, %error, "the device has fewer queues than were asked for");
        }
        let mut link = LinkControl::new(Arc::clone(netlink), &tap);
        link.bring_up(settings).await?;
        if let Some(bridge) = bridge.name() {
            link.join_bridge(bridge.as_str()).await?;
        }
        match link.set_addresses(addresses).await {
            Ok(()) => {}
            Err(LinkError::Ipv6Disabled { .. }) => {
                progress.send(Progress::Notice(
                    "IPv6 is switched off on this machine: the overlay has IPv4 only".into(),
                ));
            }
            Err(error) => {
                clear_bridge(link).await;
                return Err(error.into());
            }
        }
        let (index, device) = (tap.index(), |tap| Device::Tap(Arc::new(tap)));
        let queues = Queues::new(device(tap), others.into_iter().map(device).collect());
        Ok(Self { index, queues, link: Some(link), restored: 0 })
    }

    /// A port in memory, which has no addresses.
    #[cfg(test)]
    pub(super) fn memory(port: crate::device::MemoryPort) -> Self {
        // No interface of a machine has this index.
        Self { queues: port.into_device().into(), index: u32::MAX, link: None, restored: 0 }
    }

    pub(super) fn name(&self) -> String {
        self.queues.name().to_string()
    }

    /// The addresses that were put on a bridge; none where the device is an interface of its own.
    pub(super) fn on_bridge(&self) -> &[Cidr] {
        self.link.as_ref().filter(|link| link.is_bridged()).map_or(&[], LinkControl::addresses)
    }

    /// Whether the device is a port of a bridge.
    pub(super) fn is_bridged(&self) -> bool {
        self.link.as_ref().is_some_and(LinkControl::is_bridged)
    }

    /// Takes away what does not go with the device: addresses on a bridge.
    pub(super) async fn close(self) {
        if let Some(link) = self.bridge_port() {
            clear_bridge(link).await;
        }
    }

    /// For [`clear_bridge`], where the interface may be lost before it is closed; `None` when it is no port of a bridge.
    pub(super) fn bridge_port(&self) -> Option<LinkControl> {
        self.link.clone().filter(LinkControl::is_bridged)
    }

    /// Puts its MAC back, where another program replaced it.
    pub(super) async fn keep_mac(&mut self) {
        let Some(link) = &self.link else { return };
        match link.restore_mac().await {
            Ok(None) => {}
            Ok(Some(other)) => {
                self.restored += 1;
                // One that does so again and again is not worth a line each time.
                if self.restored.is_power_of_two() {
                    tracing::warn!(
                        device = %self.queues.name(),
                        %other,
                        times = self.restored,
                        "another program gave the device another MAC, by which no member knows this host; it has its own again"
                    );
                }
            }
            // Who reads from it says so as well.
            Err(error @ LinkError::Gone { .. }) => tracing::debug!(%error, "its MAC cannot be looked at"),
            Err(error) => {
                tracing::warn!(%error, "whether the device has the MAC that members know is not certain")
            }
        }
    }

    /// Gives it these addresses in place of those it has.
    pub(super) async fn set_addresses(&mut self, wanted: &[Cidr]) -> Result<(), LinkError> {
        match &mut self.link {
            Some(link) => link.set_addresses(wanted).await,
            None => Ok(()),
        }
    }

    /// What to tell people of it.
    pub(super) fn up(&self, mtu: u16) -> Progress {
        let addresses = self.link.iter().flat_map(LinkControl::addresses);
        Progress::DeviceUp {
            device: self.name(),
            addresses: addresses.map(ToString::to_string).collect(),
            mtu,
        }
    }
}
