//! What `up --json` prints in the foreground: the document of `up --detach --json`, a line each time that it says something else.
//!
//! The first is there as soon as the device is, the one that names a relay when that took this node: whoever waits for it reads until then.

use super::Announcement;
use crate::cli::documents::Up;
use crate::daemon::progress::Progress;
use crate::daemon::relay_url;

/// What the next line says.
#[derive(Debug)]
pub(super) struct Lines {
    device: Option<Device>,
    /// Relays that are connected, the one of longest standing first.
    relays: Vec<String>,
    /// How others join, on the run that made the network.
    announcement: Option<Announcement>,
    /// Whether a relay took this node: who cannot be reached yet invites nobody.
    was_accepted: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Device {
    name: String,
    addresses: Vec<String>,
    mtu: u16,
}

impl Lines {
    pub(super) const fn new(announcement: Option<Announcement>) -> Self {
        Self { device: None, relays: Vec::new(), announcement, was_accepted: false }
    }

    /// The line that follows from `event`, where one does. On the run that made the network **a secret**.
    ///
    /// # Errors
    /// None that is expected: it is text and numbers.
    pub(super) fn after(&mut self, event: &Progress) -> serde_json::Result<Option<String>> {
        let before = self.relays.first().cloned();
        let is_news = match event {
            Progress::DeviceUp { device, addresses, mtu } => {
                let device = Device { name: device.clone(), addresses: addresses.clone(), mtu: *mtu };
                let device = Some(device);
                let is_news = self.device != device;
                self.device = device;
                is_news
            }
            Progress::RelayConnected { relay, .. } => {
                self.was_accepted = true;
                // As `status` names it, and `--detach`.
                let relay = relay_url(relay);
                if !self.relays.contains(&relay) {
                    self.relays.push(relay);
                }
                self.relays.first() != before.as_ref()
            }
            Progress::RelayLost { relay, .. } => {
                let relay = relay_url(relay);
                self.relays.retain(|connected| *connected != relay);
                self.relays.first() != before.as_ref()
            }
            Progress::Rules { .. }
            | Progress::Names { .. }
            | Progress::RelayConnecting { .. }
            | Progress::WaitingForPeers
            | Progress::PeerConnected { .. }
            | Progress::PeerLost { .. }
            | Progress::Notice(_)
            | Progress::Leaving => false,
        };
        let Some(Device { name, addresses, mtu }) = self.device.as_ref().filter(|_| is_news) else {
            return Ok(None);
        };
        let announced = self.announcement.as_ref().filter(|_| self.was_accepted);
        let document = Up {
            device: name,
            addresses,
            mtu: *mtu,
            relay: self.relays.first().map(String::as_str),
            invite: announced.and_then(|announced| announced.ticket.as_ref()).map(|ticket| ticket.as_str()),
            log: None,
        };
        serde_json::to_string(&document).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use zeroize::Zeroizing;

    fn device(address: &str) -> Progress {
        Progress::DeviceUp { device: "smesh0".into(), addresses: vec![address.into()], mtu: 1_400 }
    }

    fn connected(relay: &str) -> Progress {
        Progress::RelayConnected { relay: relay.into(), rtt: None }
    }

    fn lost(relay: &str) -> Progress {
        Progress::RelayLost { relay: relay.into(), why: "it is gone".into() }
    }

    #[test]
    fn each_line_is_a_document_and_there_is_one_when_it_says_something_else() {
        let ticket = Some(Zeroizing::new("smi1x".to_owned()));
        let mut lines = Lines::new(Some(Announcement { ticket, notes: Vec::new() }));
        let mut after = |event: &Progress| {
            let line = lines.after(event).expect("written");
            line.inspect(|line| assert!(!line.contains('\n'), "{line}"))
                .map(|line| serde_json::from_str::<Value>(&line).expect("a document"))
        };
        assert_eq!(after(&Progress::RelayConnecting { relay: "r:1".into() }), None);
        let first = json!({
            "device": "smesh0", "addresses": ["10.7.3.4/16"], "mtu": 1_400, "relay": null, "invite": null, "log": null
        });
        assert_eq!(after(&device("10.7.3.4/16")), Some(first.clone()));
        assert_eq!(after(&device("10.7.3.4/16")), None, "it says the same");
        let mut then = first;
        (then["relay"], then["invite"]) = (json!("ws://r:1/v1"), json!("smi1x"));
        assert_eq!(after(&connected("r:1")), Some(then.clone()));
        for event in [connected("r:2"), lost("r:2"), Progress::WaitingForPeers, Progress::Leaving] {
            assert_eq!(after(&event), None, "{event:?}");
        }
        then["addresses"] = json!(["10.7.9.9/16"]);
        assert_eq!(after(&device("10.7.9.9/16")), Some(then.clone()));
        then["relay"] = Value::Null;
        assert_eq!(after(&lost("r:1")), Some(then));
    }
}
