//! Makes words of a daemon's progress.
//!
//! A line is written once, also when the daemon says it again; what goes on (connecting, waiting) is a spinner on a terminal
//! and an ordinary line elsewhere. The address line goes to stdout, the rest to stderr. With `--json` only documents go to stdout.

use super::Announcement;
use super::lines::Lines;
use crate::cli::output::{self, clean};
use crate::daemon::progress::Progress;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Interval, MissedTickBehavior, interval};
use zeroize::Zeroizing;

/// One turn of the spinner is eight frames: about a second.
const FRAME: Duration = Duration::from_millis(120);
const FRAMES: [&str; 8] = ["⣾", "⣽", "⣻", "⢿", "⡿", "⣟", "⣯", "⣷"];
/// After this many frames (a minute) the spinner stands still: a daemon that waits for days must not wake the machine.
const MAX_FRAMES: u32 = 500;

/// What is shown, and where.
#[derive(Debug)]
pub(super) struct View {
    terminal: bool,
    /// What goes on, and how many frames of it were shown.
    ongoing: Option<(String, u32)>,
    last: Option<String>,
    /// To be said once a relay accepted this node.
    announcement: Option<Announcement>,
    was_accepted: bool,
    /// What goes to stdout instead of words.
    lines: Option<Lines>,
}

/// What becomes of an event.
#[derive(Debug, PartialEq, Eq)]
enum Words {
    /// For stdout.
    Data(String),
    /// It happened.
    Done(String),
    /// It goes on.
    Ongoing(String),
}

impl View {
    pub(super) fn new(announcement: Option<Announcement>) -> Self {
        let terminal = output::stderr_is_terminal();
        Self { terminal, ongoing: None, last: None, announcement, was_accepted: false, lines: None }
    }

    /// With documents on stdout.
    pub(super) fn of_lines(announcement: Option<Announcement>) -> Self {
        Self { lines: Some(Lines::new(announcement)), ..Self::new(None) }
    }

    /// Shows events until the daemon's end of the channel is gone; whether a relay ever accepted this node.
    pub(super) async fn follow(mut self, mut events: UnboundedReceiver<Progress>) -> bool {
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.show(&event, &mut frames),
                    None => return self.was_accepted,
                },
                _ = frames.tick(), if self.is_spinning() => self.spin(),
            }
        }
    }

    fn is_spinning(&self) -> bool {
        self.terminal && self.ongoing.as_ref().is_some_and(|(_, shown)| *shown < MAX_FRAMES)
    }

    fn spin(&mut self) {
        if let Some((text, shown)) = &mut self.ongoing {
            let frame = FRAMES.iter().cycle().nth(*shown as usize % FRAMES.len()).unwrap_or(&"");
            drop(output::stderr());
            output::spin(&format!("{frame} {text}"));
            *shown += 1;
        }
    }

    fn show(&mut self, event: &Progress, frames: &mut Interval) {
        match words(event) {
            Words::Ongoing(text) if self.terminal => {
                self.ongoing = Some((text, 0));
                frames.reset_immediately();
            }
            Words::Ongoing(text) | Words::Done(text) => {
                self.ongoing = None;
                if self.last.as_ref() != Some(&text) {
                    output::note(&text);
                    self.last = Some(text);
                }
            }
            // It is in the document.
            Words::Data(_) if self.lines.is_some() => {}
            Words::Data(text) => {
                drop(output::stderr());
                // A closed stdout must not end a daemon.
                let _ = output::data(&text);
            }
        }
        if let Some(Ok(Some(line))) = self.lines.as_mut().map(|lines| lines.after(event)) {
            let line = Zeroizing::new(line);
            drop(output::stderr());
            // As above.
            let _ = output::data(&line);
        }
        if matches!(event, Progress::RelayConnected { .. }) {
            self.was_accepted = true;
            if let Some(announcement) = self.announcement.take() {
                drop(output::stderr());
                let _ = announcement.say();
            }
        }
    }
}

fn words(event: &Progress) -> Words {
    let within =
        |rtt: &Option<Duration>| rtt.map(|rtt| format!(" {}", output::ms_of(rtt))).unwrap_or_default();
    match event {
        Progress::DeviceUp { device, addresses, mtu } => {
            let addresses: Vec<String> = addresses.iter().map(|address| clean(address, 60)).collect();
            Words::Data(format!("this node: {} on {device} (mtu {mtu})", addresses.join(", ")))
        }
        Progress::Rules { file, count } => Words::Done(format!(
            "access rules in force: {} from {}",
            output::counted(*count, "rule"),
            clean(file, 300)
        )),
        Progress::Names { domain, file } => Words::Done(format!(
            "members have names: NAME, and NAME.{}, by {}",
            clean(domain, 80),
            file.as_ref().map_or_else(|| "systemd-resolved".to_owned(), |file| clean(file, 300))
        )),
        Progress::RelayConnecting { relay } => Words::Ongoing(format!("connecting to relay {relay}")),
        Progress::RelayConnected { relay, rtt } => {
            Words::Done(format!("connected to relay {relay}{}", within(rtt)))
        }
        Progress::RelayLost { relay, why } => Words::Done(format!(
            "no connection to relay {relay}: {}; trying again",
            output::one_line(&clean(why, 300))
        )),
        Progress::WaitingForPeers => Words::Ongoing("waiting for peers".into()),
        Progress::PeerConnected { name, address, via, rtt } => {
            let address =
                address.as_ref().map(|address| format!(" ({})", clean(address, 45))).unwrap_or_default();
            Words::Done(format!("connected to {}{address} via {via}{}", clean(name, 63), within(rtt)))
        }
        Progress::PeerLost { name, why } => {
            Words::Done(format!("lost {}: {}", clean(name, 63), output::one_line(&clean(why, 300))))
        }
        Progress::Notice(sentence) => Words::Done(output::one_line(&clean(sentence, 500))),
        Progress::Leaving => Words::Done("leaving".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::PathKind;

    #[test]
    fn events_become_plain_words() {
        let connected = Progress::PeerConnected {
            name: "b\x1b[2J".into(),
            address: Some("10.7.3.4".into()),
            via: PathKind::RelayWs,
            rtt: Some(Duration::from_millis(12)),
        };
        assert_eq!(words(&connected), Words::Done("connected to b[2J (10.7.3.4) via relay-ws 12 ms".into()));
        let up = Progress::DeviceUp {
            device: "smesh0".into(),
            addresses: vec!["10.7.3.4/16".into(), "fd00::1/64".into()],
            mtu: 1400,
        };
        assert_eq!(words(&up), Words::Data("this node: 10.7.3.4/16, fd00::1/64 on smesh0 (mtu 1400)".into()));
        let rules = Progress::Rules { file: "/etc/rules".into(), count: 2 };
        assert_eq!(words(&rules), Words::Done("access rules in force: 2 rules from /etc/rules".into()));
        let names = Progress::Names { domain: "office.internal".into(), file: Some("/etc/hosts".into()) };
        let said = "members have names: NAME, and NAME.office.internal, by /etc/hosts";
        assert_eq!(words(&names), Words::Done(said.into()));
        assert_eq!(words(&Progress::WaitingForPeers), Words::Ongoing("waiting for peers".into()));
    }

    #[tokio::test]
    async fn the_spinner_stops_by_itself_and_the_view_ends_with_the_daemon() {
        let (sender, events) = crate::daemon::progress::ProgressSender::channel();
        let mut view = View { terminal: true, ongoing: Some((String::new(), MAX_FRAMES)), ..View::new(None) };
        assert!(!view.is_spinning());
        view.ongoing = Some((String::new(), MAX_FRAMES - 1));
        assert!(view.is_spinning());
        view.spin();
        assert!(!view.is_spinning());
        let following = tokio::spawn(View { terminal: false, ..View::new(None) }.follow(events));
        sender.send(Progress::WaitingForPeers);
        drop(sender);
        assert!(!following.await.expect("ended"), "no relay was connected");
    }
}
