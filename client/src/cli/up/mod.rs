//! `shadowmesh up`: joins or makes a network, runs the daemon and says what it is doing.
//!
//! In order: read the flags and tickets ([`prepare`], which touches nothing before all of them are good), take the state
//! directory's lock, merge and remember, then either run here ([`view`] makes words of the daemon's progress) or start
//! another process and wait until it is up ([`detach`]).
//!
//! A network that it makes has certificates unless that is switched off: this host is its first admin.
//!
//! Two things go to stdout, because people copy them: the address of this node, and on the run that made the network
//! `join with: sudo shadowmesh up smi1…`, once a relay took it; with `--json` both are in a document, here a line each ([`lines`]). The journal does not get the second: others read it too. A
//! network of which nothing came, because the daemon could not start or every relay was another than its ticket says, is
//! forgotten again.

mod detach;
mod lines;
mod prepare;
mod view;

use super::global::Global;
use super::{invite, logging, output, runtime};
use crate::config::{
    Bridge, CipherChoice, DeviceName, DhcpServers, Filters, FloodBudget, IdleAfter, Ipv4Cidr, Mtu,
    NamesChoice, NodeName, ProxyChoice, QueueCount, RekeyInterval, RulesPath, SessionsChoice, ValueError,
};
use crate::daemon;
use crate::daemon::DaemonError;
use crate::daemon::progress::ProgressSender;
use anyhow::Context as _;
use prepare::Prepared;
pub(super) use prepare::hostname;
use shadowmesh_proto::session::RingLimits;
use shadowmesh_proto::ticket::Invite;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Join or make a network and run the daemon
///
/// The first time give an invite (to join) or a relay ticket (to make a network). Everything given is remembered: the next
/// time plain `shadowmesh up` is enough. Runs in the foreground unless --detach. With --json stdout has a document a line then: one when
/// the device is up, and another whenever it says something else, such as which relay is connected.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sudo shadowmesh up --relay smr1...        make a network on this relay\n  \
                        sudo shadowmesh up smi1...                join a network\n  \
                        sudo shadowmesh up - < invite.txt         the same, without the secret on the command line\n  \
                        sudo shadowmesh up --detach               again, in the background\n  \
                        sudo shadowmesh up --detach --names on    and `ping NAME` finds members from then on"
)]
pub(super) struct Args {
    /// An invite (smi1...) into a network; - reads it from stdin
    #[arg(value_name = "INVITE|-")]
    invite: Option<String>,

    /// A relay ticket (smr1...); may be given several times
    #[arg(long, value_name = "SMR")]
    relay: Vec<String>,

    /// Whether the network that this run makes has certificates: then only hosts that an admin's key vouches for are let in, this host is the
    /// first admin, and a host that is lost can be shut out; off: whoever knows its secret is a member, for ever [default: on]
    #[arg(long, value_enum, value_name = "on|off", hide_possible_values = true)]
    certificates: Option<OnOff>,

    /// What this node calls itself [default: the host's name]
    #[arg(long, value_name = "NAME")]
    name: Option<NodeName>,

    /// Name of the TAP device [default: smesh0]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceName>,

    /// MTU of the device, 1280 to 9000 bytes [default: 1400]
    #[arg(long, value_name = "N")]
    mtu: Option<Mtu>,

    /// Queues of the device, 1 to 8, each read by a thread of its own: for machines with cores to spare that send much [default: 1]
    #[arg(long, value_name = "N")]
    queues: Option<QueueCount>,

    /// Put the device into this bridge, which joins the LAN behind it to the network; none ends that [default MTU then: 1500]
    #[arg(long, value_name = "BR")]
    bridge: Option<Bridge>,

    /// IPv4 address and prefix length, such as 10.7.3.4/16; in a network with certificates one that the invite gives [default: what the
    /// network gives, else derived from the node's key]
    #[arg(long, value_name = "CIDR")]
    address: Option<Ipv4Cidr>,

    /// Cipher of the data: auto takes AES where both ends have its instructions
    #[arg(long, value_enum, value_name = "auto|aes|chacha", hide_possible_values = true)]
    cipher: Option<CipherChoice>,

    /// Whether to ask the router for a port by PCP, NAT-PMP or UPnP [default: on]
    #[arg(long, value_enum, value_name = "on|off", hide_possible_values = true)]
    port_mapping: Option<OnOff>,

    /// What is kept out, with commas between: bpdu, lldp, cdp, dhcp, ra; or all, or none [default: all]
    #[arg(long, value_name = "LIST")]
    filter: Option<Filters>,

    /// Whose DHCP answers and router advertisements are let in nevertheless, and whose questions about multicast groups are
    /// taken for a router's: by id, with commas between; or any, or none [default: none]
    #[arg(long, value_name = "PEER|any")]
    allow_dhcp: Option<DhcpServers>,

    /// HTTP proxy by which the relays are reached, `http://HOST:PORT` or `http://USER:PASSWORD@HOST:PORT`, or none [default: what HTTPS_PROXY, ALL_PROXY and NO_PROXY say]
    ///
    /// For networks that let nothing else out. Others on this host can read a command line: a password is better put into the environment, or as
    /// `proxy` into the file of --config.
    #[arg(long, value_name = "URL|none")]
    proxy: Option<ProxyChoice>,

    /// Broadcast, multicast and frames for unknown stations, to each peer and of each, per second: such as 500kbit or 2mbit, or
    /// none for no limit [default: 1mbit]
    #[arg(long, value_name = "RATE")]
    flood_budget: Option<FloodBudget>,

    /// File with access rules: who may send what to this node, or none [default: none: those of the network's record, else everything
    /// is let in]
    ///
    /// Its rules name members by id (`shadowmesh rules --help` has an example) and are read again by `shadowmesh reload`. With a
    /// file that has a fault nothing starts. An empty one lets everything in. `none` gives up the one from before (a file called so is
    /// `./none`).
    #[arg(long, value_name = "FILE", value_parser = rules_choice)]
    rules: Option<RulesChoice>,

    /// Whether other programs here find members by name, `ping b` and `ssh b.NETWORK.internal`: on takes systemd-resolved, where
    /// programs ask it, else a block in /etc/hosts; hosts takes the block in any case [default: off]
    ///
    /// Taken back when the daemon ends; a block that a killed one left, by the next `up` or `down`. While it is off nothing of how this machine
    /// finds names is touched. `shadowmesh status` shows what is served.
    #[arg(long, value_enum, value_name = "off|on|hosts", hide_possible_values = true)]
    names: Option<NamesChoice>,

    /// Which sessions with other members are kept though nobody uses them: all, or on-demand, where the first frame begins another (through
    /// the relay) and a handful is kept for news of members; auto keeps all of up to 32 members,
    /// and an admin's host however many [default: auto]
    #[arg(long, value_enum, value_name = "auto|all|on-demand", hide_possible_values = true)]
    sessions: Option<SessionsChoice>,

    /// How long a session that is not kept may be of no use before it ends, 2s to 24h [default: 5m]
    #[arg(long, value_name = "TIME")]
    idle_after: Option<IdleAfter>,

    /// Settings from this file as well, in the form of config.toml: they win over what is remembered [default: none]
    ///
    /// Read at the start and by `shadowmesh reload`, and never written. What is given here wins over it this once.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Run in the background; return when the daemon is up
    #[arg(long)]
    detach: bool,

    /// How often session keys are replaced, 2s to 120s; for tests
    #[arg(long, value_name = "TIME", hide = true)]
    rekey_interval: Option<RekeyInterval>,

    /// How much of what is sent is kept until it is acknowledged; for tests of what is lost with less, and of what it costs
    #[arg(long, value_name = "SIZE", default_value = "full", hide = true, conflicts_with = "detach")]
    ring: RingSize,

    /// Set by --detach for the process that it starts
    #[arg(long, hide = true, conflicts_with = "detach")]
    detached: bool,
}

/// See [`Args::ring`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RingSize {
    /// 16 MiB.
    Full,
    /// 64 KiB.
    Tiny,
    /// Nothing, and as little is acknowledged as shows that packets arrive: at both ends, or one waits for the other.
    None,
}

impl RingSize {
    fn limits(self) -> RingLimits {
        match self {
            Self::Full => RingLimits::default(),
            Self::Tiny => RingLimits::TINY,
            Self::None => RingLimits::NOTHING,
        }
    }
}

/// Which rules this host is to have of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RulesChoice {
    /// None any more.
    Nothing,
    /// Those in a file.
    File(RulesPath),
}

/// A path from here, as the daemon finds it from elsewhere.
fn rules_choice(text: &str) -> Result<RulesChoice, String> {
    if text == "none" {
        return Ok(RulesChoice::Nothing);
    }
    let path = std::path::absolute(text).map_err(|error| error.to_string())?;
    let text = path.to_str().ok_or("its path is no text")?;
    text.parse().map(RulesChoice::File).map_err(|error: ValueError| error.to_string())
}

/// A switch on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OnOff {
    On,
    Off,
}

pub(super) fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    logging::start()?;
    let (detach, detached) = (args.detach, args.detached);
    if detached {
        // A session of its own: closing the terminal that started us ends nothing. Fails only for a group's leader, which a
        // process that was just started is not.
        rustix::process::setsid().context("cannot leave the terminal's session")?;
    }
    let mut prepared = prepare::prepare(global, args)?;
    let announcement = prepared.announcement.take();
    if detach {
        return detach::start(global, prepared, announcement);
    }
    run_here(global, prepared, announcement)
}

/// What is said on the run that made the network.
#[derive(Debug)]
struct Announcement {
    /// The invite; not for the journal.
    ticket: Option<Zeroizing<String>>,
    notes: Vec<String>,
}

/// Said where this run made the host the first admin of a network.
const ONLY_ADMIN: &str = "this host is the network's only admin: keep a copy of its key (`sudo shadowmesh network export FILE`), or make another host one \
                          (`shadowmesh admins --help`)";

impl Announcement {
    /// By `invite`, of which `advice` is said; without one, in the journal, how to make one. `is_admin`: of a network with certificates.
    fn new(invite: Option<&Invite>, advice: &str, is_admin: bool) -> Self {
        let how = match invite {
            Some(_) => format!("  {}", invite::advised(advice, invite::FIRST_EXPIRY)),
            None => "made a network; to let others join run `shadowmesh invite`".to_owned(),
        };
        let notes = [Some(how), is_admin.then(|| ONLY_ADMIN.to_owned())];
        Self { ticket: invite.map(Invite::to_text), notes: notes.into_iter().flatten().collect() }
    }

    /// A line to copy.
    fn line(&self) -> Option<Zeroizing<String>> {
        let ticket = self.ticket.as_ref()?;
        Some(Zeroizing::new(format!("join with: sudo shadowmesh up {}", **ticket)))
    }

    fn say(self) -> anyhow::Result<()> {
        if let Some(line) = self.line() {
            output::data(&line)?;
        }
        self.notes.iter().for_each(|note| output::note(note));
        Ok(())
    }
}

fn run_here(
    global: &Global,
    mut prepared: Prepared,
    announcement: Option<Announcement>,
) -> anyhow::Result<()> {
    let undo = prepared.undo.take();
    let view = if global.json { view::View::of_lines(announcement) } else { view::View::new(announcement) };
    runtime()?.block_on(async {
        let (progress, events) = ProgressSender::channel();
        let viewing = tokio::spawn(view.follow(events));
        let ended = daemon::run(prepared.into_options(progress)).await;
        // The daemon's end of the channel is gone: what was said is shown before the process ends.
        let was_accepted = viewing.await.context("cannot show progress")?;
        let is_stillborn = undo.is_new_network() && !was_accepted && ended.is_err();
        if is_stillborn || ended.as_ref().is_err_and(DaemonError::is_refusal) {
            undo.run()?;
        }
        Ok(ended?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::state_dir::NetworkState;
    use crate::system_rng::SystemRng;
    use shadowmesh_proto::crypto::keys::NodeSecret;
    use shadowmesh_proto::ids::RelayId;
    use shadowmesh_proto::ticket::RelayTicket;

    #[test]
    fn the_line_for_others_is_for_a_terminal_and_never_for_the_journal() {
        let key = RelayId(NodeSecret::generate(&mut SystemRng).public().0);
        let relay = RelayTicket { key, addresses: vec!["192.0.2.1:8443".into()], expires: None };
        let network = NetworkState::create("home", vec![relay], &mut SystemRng);
        let invite = network.invite(&[], Some(1), None, None);
        let said = Announcement::new(Some(&invite), "keep it secret", false);
        let line = said.line().expect("a line");
        let ticket = line.strip_prefix("join with: sudo shadowmesh up ").expect("the line to type");
        assert!(network.is_of(&Invite::parse(ticket, 0).expect("an invite")));
        let notes = said.notes.concat();
        assert!(notes.contains("keep it secret") && notes.contains("ends in 24 hours"), "{notes}");
        let said = Announcement::new(None, "keep it secret", true);
        assert!(said.line().is_none() && said.notes.concat().contains("run `shadowmesh invite`"));
        assert!(said.notes.concat().contains("only admin") && !said.notes.concat().contains("smi1"));
    }
}
