//! From flags, tickets and the state directory to everything a daemon needs.

use super::{Announcement, Args, OnOff, RulesChoice};
use crate::cli::global::Global;
use crate::cli::{invite, output};
use crate::config::{Config, Settings, relays_in_use, union_of_relays};
use crate::control::server::ControlSocket;
use crate::daemon::clock::{self, unix_now};
use crate::daemon::config_file::ConfigFile;
use crate::daemon::manager::Manager;
use crate::daemon::members::Members;
use crate::daemon::members::founding::{Founding, Stored};
use crate::daemon::members::inviting::Wanted;
use crate::daemon::options::DaemonOptions;
use crate::daemon::progress::ProgressSender;
use crate::daemon::rules_file::RulesFile;
use crate::daemon::state_dir::{Joins, NetworkState, StateDir, StateError, StateLock};
use crate::doctor::{self, quoted};
use crate::names::Places;
use crate::system_rng::SystemRng;
use anyhow::{Context as _, bail};
use shadowmesh_proto::crypto::keys::NodeSecret;
use shadowmesh_proto::ids::NodeId;
use shadowmesh_proto::membership::Name;
use shadowmesh_proto::session::RingLimits;
use shadowmesh_proto::ticket::{Delegated, Invite, MAX_ENTRIES, RelayTicket};
use std::io::{self, BufRead as _, Read as _};
use zeroize::Zeroizing;

/// Longest line that is read from stdin, bytes: a ticket and white space around it.
const MAX_LINE: u64 = 8 * 1024;

/// Everything a daemon needs, checked and remembered.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) state: StateDir,
    pub(super) lock: StateLock,
    pub(super) control: ControlSocket,
    pub(super) node_secret: NodeSecret,
    pub(super) network: NetworkState,
    pub(super) relays: Vec<RelayTicket>,
    pub(super) settings: Settings,
    pub(super) config_file: Option<ConfigFile>,
    pub(super) hostname: String,
    pub(super) restart: String,
    pub(super) rules: Option<RulesFile>,
    pub(super) members: Option<Members>,
    pub(super) ring: RingLimits,
    /// How others join, where this run made the network.
    pub(super) announcement: Option<Announcement>,
    /// How to forget what this run remembered, should nothing come of it.
    pub(super) undo: Undo,
}

/// What was remembered before this run.
#[derive(Debug)]
pub(super) struct Undo {
    state: StateDir,
    config: Option<Config>,
    new_network: Option<NewNetwork>,
}

/// A network that this run made, and that nobody else is in yet.
#[derive(Debug)]
enum NewNetwork {
    /// One with certificates.
    Founded(Stored),
    /// One without, by what tells it from others: nothing else is there of it.
    Open(String),
}

impl Undo {
    /// Takes it out; what is left undoes nothing.
    pub(super) fn take(&mut self) -> Self {
        Self { state: self.state.clone(), config: self.config.take(), new_network: self.new_network.take() }
    }

    /// Whether this run made a network.
    pub(super) const fn is_new_network(&self) -> bool {
        self.new_network.is_some()
    }

    /// Remembers what was remembered before, unless the state directory is another process's meanwhile: it may be in the network already.
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self { state, config, new_network } = self;
        if config.is_none() && new_network.is_none() {
            return Ok(());
        }
        let _lock = match state.lock() {
            Err(error @ StateError::Locked { .. }) => {
                output::note(&format!("what this run remembered stays ({error})"));
                return Ok(());
            }
            locked => locked?,
        };
        if let Some(config) = config {
            state.save_config(&config)?;
        }
        match new_network {
            Some(NewNetwork::Founded(stored)) => stored.take_back(&state)?,
            Some(NewNetwork::Open(made))
                if state.load_network()?.is_some_and(|there| there.label_id() == made) =>
            {
                state.forget_new_network()?;
            }
            Some(NewNetwork::Open(_)) | None => {}
        }
        Ok(())
    }
}

impl Prepared {
    pub(super) fn into_options(self, progress: ProgressSender) -> DaemonOptions {
        let Self {
            state,
            lock,
            control,
            node_secret,
            network,
            relays,
            settings,
            config_file,
            hostname,
            restart,
            rules,
            members,
            ring,
            announcement: _,
            undo: _,
        } = self;
        DaemonOptions {
            state,
            lock,
            control,
            node_secret,
            network,
            relays,
            settings,
            config_file,
            hostname,
            restart,
            rules,
            members,
            ring,
            names: Places::system(),
            manager: Manager::from_environment(),
            progress,
        }
    }
}

/// Reads everything, and only when all of it is good remembers it.
pub(super) fn prepare(global: &Global, args: Args) -> anyhow::Result<Prepared> {
    clock::begin(StateDir::open_existing(global.state_dir()).ok().flatten().as_ref());
    let now = unix_now();
    let invite = args.invite.map(Zeroizing::new).map(|text| read_invite(&text, now)).transpose()?;
    let relays =
        args.relay.iter().map(|text| RelayTicket::parse(text, now)).collect::<Result<Vec<_>, _>>()?;
    let config_file =
        args.config.map(std::path::absolute).transpose().context("the working directory is gone")?;
    let config_file = config_file.map(ConfigFile::new);
    let file = config_file.as_ref().map(ConfigFile::read).transpose()?.unwrap_or_default();

    let state = StateDir::open(global.state_dir())?;
    let lock = state.lock()?;
    let control = ControlSocket::bind(&global.socket())?;
    let mut rng = SystemRng;
    let old_config = state.load_config()?;
    let old_network = state.load_network()?;
    let flags = Config {
        relays: Vec::new(),
        name: args.name,
        device: args.device,
        mtu: args.mtu,
        queues: args.queues,
        bridge: args.bridge,
        address: args.address,
        cipher: args.cipher,
        port_mapping: args.port_mapping.map(|switch| switch == OnOff::On),
        filter: args.filter,
        allow_dhcp: args.allow_dhcp,
        proxy: args.proxy,
        flood_budget: args.flood_budget,
        rules: match &args.rules {
            Some(RulesChoice::File(path)) => Some(path.clone()),
            Some(RulesChoice::Nothing) | None => None,
        },
        names: args.names,
        sessions: args.sessions,
        idle_after: args.idle_after,
        rekey_interval: args.rekey_interval,
    };
    let has_no_rules = args.rules == Some(RulesChoice::Nothing);
    let without_rules = |config: Config| if has_no_rules { Config { rules: None, ..config } } else { config };
    let mut config = without_rules(old_config.clone().overlaid_with(flags.clone()));
    if config.name.is_none() && file.name.is_none() {
        config.name = invite.as_ref().and_then(|invite| invite.name.as_ref()?.parse().ok());
    }

    let in_force = |config: &Config| {
        without_rules(config.clone().overlaid_with(file.clone()).overlaid_with(flags.clone()))
    };
    let rules = in_force(&config).rules.as_ref().map(RulesFile::read).transpose()?;

    let is_new = old_network.is_none() && invite.is_none();
    let network = match (old_network, &invite) {
        (None, Some(invite)) => {
            config.relays = union_of_relays(&config.relays, &relays);
            NetworkState::join(invite)
        }
        (None, None) => {
            let relays = union_of_relays(&union_of_relays(&config.relays, &file.relays), &relays);
            if relays.is_empty() {
                bail!(
                    "this host is in no network yet: join one with `sudo shadowmesh up smi1...`, or make one with \
                     `sudo shadowmesh up --relay smr1...`"
                );
            }
            config.relays = Vec::new();
            let name = global.network.as_ref().map_or("shadowmesh", |name| name.as_str());
            NetworkState::create(name, relays, &mut rng)
        }
        (Some(mut network), invite) => {
            if let Some(invite) = invite {
                if !network.is_of(invite) {
                    bail!(
                        "this host is already in the network {:?}: run `shadowmesh leave` first, or join the other one \
                         beside it with --network NAME",
                        network.name
                    );
                }
                network.take_secret(invite);
                network.relays = union_of_relays(&network.relays, &invite.relays);
            }
            config.relays = union_of_relays(&config.relays, &relays);
            network
        }
    };
    if !is_new && args.certificates.is_some_and(|wanted| (wanted == OnOff::On) != network.root.is_some()) {
        bail!(
            "the network {:?} was made {} certificates, which stays so: make another one beside it with --network NAME",
            network.name,
            if network.root.is_some() { "with" } else { "without" }
        );
    }
    let used = in_force(&config);
    let relays = relays_to_use(&network.relays, &used.relays, !args.relay.is_empty())?;
    if let Some(path) = config_file.as_ref().map(ConfigFile::path)
        && config.clone().overlaid_with(file) != used
    {
        output::note(&format!(
            "{} says otherwise than what was given here, and wins at the next start",
            path.display()
        ));
    }

    let node_secret = state.load_or_create_node_key(&mut rng)?;
    let hostname = hostname();
    let settings = Settings::new(&used, &hostname);
    let mut undo = Undo { state: state.clone(), config: None, new_network: None };
    if config != old_config {
        state.save_config(&config)?;
        undo.config = Some(old_config);
    }
    let (network, announcement) = if is_new {
        let has_certificates = args.certificates != Some(OnOff::Off);
        let made = if has_certificates {
            found(&state, network, node_secret.public(), &settings, now)?
        } else {
            make_open(&state, network, now)?
        };
        undo.new_network = Some(made.undo);
        (made.network, Some(made.announcement))
    } else {
        state.enter_network(&network)?;
        (network, None)
    };
    let restart = restart(global, config_file.as_ref(), args.detached);
    let load = |root| Members::load(&state, root, node_secret.public());
    let mut members = network.root.map(load).transpose()?;
    if let (Some(members), Some(delegated)) = (&mut members, invite.and_then(|invite| invite.delegated)) {
        join(&state, members, delegated, &settings, now)?;
    }
    Ok(Prepared {
        state,
        lock,
        control,
        node_secret,
        network,
        relays,
        settings,
        config_file,
        hostname,
        restart,
        rules,
        members,
        ring: args.ring.limits(),
        announcement,
        undo,
    })
}

/// A network that was made and is stored.
#[derive(Debug)]
struct Made {
    network: NetworkState,
    announcement: Announcement,
    undo: NewNetwork,
}

/// Makes one with certificates, of which this host is the first admin.
fn found(
    state: &StateDir,
    network: NetworkState,
    node: NodeId,
    settings: &Settings,
    now: u64,
) -> anyhow::Result<Made> {
    let mut rng = SystemRng;
    let mut founding = Founding::new(network, node, member_name(settings)?, now, &mut rng)?;
    let invite = if output::is_journal() {
        None
    } else {
        Some(founding.invite(Wanted::usual(now, invite::FIRST_EXPIRY), settings.address, &mut rng)?)
    };
    let stored = founding.store(state)?;
    Ok(Made {
        network: founding.network().clone(),
        announcement: Announcement::new(invite.as_ref(), invite::KEEP_SECRET, true),
        undo: NewNetwork::Founded(stored),
    })
}

/// Makes one without: whoever knows its secret is a member.
fn make_open(state: &StateDir, network: NetworkState, now: u64) -> anyhow::Result<Made> {
    let invite = if output::is_journal() {
        None
    } else {
        Some(Wanted::usual(now, invite::FIRST_EXPIRY).open(&network, &[]).map_err(anyhow::Error::msg)?)
    };
    state.enter_network(&network)?;
    let announcement = Announcement::new(invite.as_ref(), invite::ADVICE, false);
    let undo = NewNetwork::Open(network.label_id());
    Ok(Made { network, announcement, undo })
}

fn member_name(settings: &Settings) -> anyhow::Result<Name> {
    Name::new(&settings.name.to_string()).context("this host's name cannot be that of a member")
}

/// The network's relays and this host's own, at most [`MAX_ENTRIES`]. Too many are a mistake of who `asks` for one more; else the record
/// grew, which is no reason not to start: this host's own are those that it keeps.
fn relays_to_use(
    network: &[RelayTicket],
    own: &[RelayTicket],
    asks: bool,
) -> anyhow::Result<Vec<RelayTicket>> {
    let (relays, left_out) = relays_in_use(network, own);
    if left_out > 0 {
        if asks {
            bail!(
                "there would be {} relays and {MAX_ENTRIES} are the most: remove some from config.toml",
                relays.len() + left_out
            );
        }
        tracing::warn!(
            count = left_out,
            "the network and config.toml name more relays than can be used: some of the network's are left out"
        );
    }
    Ok(relays)
}

/// What a person types to start this daemon anew: the service, where it is that; else what was typed, in the background if it is there.
fn restart(global: &Global, config_file: Option<&ConfigFile>, detached: bool) -> String {
    if let Some(unit) = i32::try_from(std::process::id()).ok().and_then(doctor::unit_of) {
        return format!("sudo systemctl restart {}", unit.trim_end_matches(".service"));
    }
    let options: String = global.call().options.iter().map(|word| format!(" {}", quoted(word))).collect();
    let file = config_file.map(|file| format!(" --config {}", quoted(&file.path().display().to_string())));
    let detach = if detached { " --detach" } else { "" };
    let file = file.unwrap_or_default();
    format!("sudo shadowmesh{options} down && sudo shadowmesh{options} up{detach}{file}")
}

/// Joins by an invite, unless this host is a member already.
fn join(
    state: &StateDir,
    members: &mut Members,
    delegated: Delegated,
    settings: &Settings,
    now: u64,
) -> anyhow::Result<()> {
    if let Some(own) = members.trust.own().filter(|own| own.certificate.body().not_after > now) {
        let joined_by = own.certificate.body().delegation;
        if joined_by.is_some_and(|joined_by| joined_by != delegated.delegation) {
            output::note(
                "this host is a member already, and stays what it is: of the invite it takes the relays and the secret; `sudo shadowmesh leave` first to \
                 join by it anew",
            );
        }
        return Ok(());
    }
    members.join(Joins::new(delegated, member_name(settings)?, &mut SystemRng));
    Ok(state.save_members(&members.stored())?)
}

fn read_invite(text: &str, now: u64) -> anyhow::Result<Invite> {
    if text != "-" {
        return Ok(Invite::parse(text, now)?);
    }
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().take(MAX_LINE).read_line(&mut line).context("cannot read an invite from stdin")?;
    if line.trim().is_empty() {
        bail!("there was no invite on stdin: pipe one line into `shadowmesh up -`");
    }
    Ok(Invite::parse(&line, now)?)
}

/// The host's name in this process's UTS namespace.
pub(in crate::cli) fn hostname() -> String {
    // Without it a node is called `node`, which is no reason not to start.
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::state_dir::MemberState;
    use shadowmesh_proto::ids::RelayId;
    use shadowmesh_proto::membership::{Authority, Block, Set};

    #[test]
    fn a_first_run_that_fails_undoes_what_it_did_and_no_more() {
        for has_certificates in [true, false] {
            let home = tempfile::tempdir().expect("a directory");
            let state = StateDir::open(home.path()).expect("opened");
            let authority = Authority::generate(&mut SystemRng);
            // A `network create` that was cut off had made its key, and no network yet.
            state.save_authority(&authority).expect("saved");
            let members = MemberState { blobs: vec![vec![5; 20]], ..MemberState::default() };
            state.save_members(&members).expect("saved");
            let before =
                Config { mtu: "1300".parse().ok(), address: "10.7.3.4/16".parse().ok(), ..Config::default() };
            state.save_config(&Config::default()).expect("saved");
            let network = NetworkState::create("home", Vec::new(), &mut SystemRng);
            let made = if has_certificates {
                found(&state, network, NodeId([1; 32]), &Settings::new(&before, "a"), 1_000)
            } else {
                make_open(&state, network, 1_000)
            };
            let made = made.expect("made");
            assert_eq!(state.load_network().expect("read"), Some(made.network));
            let new_network = Some(made.undo);
            let undo = Undo { state: state.clone(), config: Some(before.clone()), new_network };
            undo.run().expect("undone");
            assert_eq!(state.load_network().expect("read"), None);
            assert_eq!(state.load_config().expect("read"), before);
            assert_eq!(state.load_members().expect("read"), MemberState::default(), "of no network");
            let kept = state.load_authority().expect("read").expect("the key of an admin");
            assert_eq!(kept.fingerprint(), authority.fingerprint());
        }
    }

    #[test]
    fn what_another_process_has_meanwhile_is_not_undone() {
        for has_certificates in [true, false] {
            let home = tempfile::tempdir().expect("a directory");
            let state = StateDir::open(home.path()).expect("opened");
            let make = || {
                let network = NetworkState::create("home", Vec::new(), &mut SystemRng);
                let settings = Settings::new(&Config::default(), "a");
                let made = if has_certificates {
                    found(&state, network, NodeId([1; 32]), &settings, 1_000)
                } else {
                    make_open(&state, network, 1_000)
                };
                let Made { network, undo, .. } = made.expect("made");
                let before = Config { mtu: "1300".parse().ok(), ..Config::default() };
                (network, Undo { state: state.clone(), config: Some(before), new_network: Some(undo) })
            };
            let (network, undo) = make();
            let lock = StateDir::open(home.path()).expect("opened").lock().expect("free");
            undo.run().expect("said, and left alone");
            assert_eq!(state.load_network().expect("read"), Some(network));
            assert_eq!(state.has_authority(), has_certificates);
            assert_eq!(state.load_config().expect("read"), Config::default());
            drop(lock);
            // It left that network for another, and ended.
            state.forget_network().expect("left");
            let (_, undo) = make();
            let other = NetworkState::create("other", Vec::new(), &mut SystemRng);
            state.save_network(&other).expect("saved");
            undo.run().expect("undone");
            assert_eq!(state.load_network().expect("read"), Some(other));
        }
    }

    #[test]
    fn who_is_given_an_address_by_hand_invites_others_beside_it() {
        let home = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(home.path()).expect("opened");
        let config = Config { address: "10.7.3.4/24".parse().ok(), ..Config::default() };
        let network = NetworkState::create("home", Vec::new(), &mut SystemRng);
        let made =
            found(&state, network, NodeId([1; 32]), &Settings::new(&config, "a"), 1_000).expect("made");
        let root = made.network.root.expect("certificates");
        let members = Members::load(&state, root, NodeId([1; 32])).expect("loaded");
        let invites: Vec<_> = members.trust.invites().map(|invite| invite.body().blocks.clone()).collect();
        let beside = Block::new("10.7.3.0".parse().expect("an address"), 24);
        assert_eq!(invites, [Set::new(beside).expect("a block")]);
    }

    #[test]
    fn a_network_with_many_relays_keeps_no_host_from_starting() {
        let relay = |key: u8| RelayTicket {
            key: RelayId([key; 32]),
            addresses: vec![format!("192.0.2.{key}:443")],
            expires: None,
        };
        let network: Vec<RelayTicket> = (1..=MAX_ENTRIES as u8).map(relay).collect();
        let own = [relay(100)];
        let used = relays_to_use(&network, &own, false).expect("it starts");
        assert_eq!((used.len(), &used[0], &used[1]), (MAX_ENTRIES, &own[0], &network[0]));
        assert!(relays_to_use(&network, &own, true).is_err(), "who asks for one more is told");
        assert_eq!(relays_to_use(&network[1..], &own, true).expect("room").len(), MAX_ENTRIES);
        assert_eq!(relays_to_use(&network, &own[..0], false).expect("room"), network);
    }
}
