//! `shadowmesh network`: makes a network with certificates, and keeps copies of it.

use super::documents::{NetworkExported, NetworkImported, NetworkMade};
use super::global::Global;
use super::{output, runtime};
use crate::config::{NodeName, Settings};
use crate::control::client::{self, ControlError, unexpected};
use crate::control::message::{Request, Response};
use crate::daemon::clock::{self, unix_now};
use crate::daemon::members::founding::Founding;
use crate::daemon::state_dir::{CopyError, MAX_COPY, NetworkState, StateDir};
use crate::new_file;
use crate::system_rng::SystemRng;
use anyhow::{Context as _, bail};
use shadowmesh_proto::membership::Name;
use shadowmesh_proto::ticket::RelayTicket;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Make a network with certificates, or keep a copy of one
///
/// In such a network only hosts that an admin's key vouches for may send frames: invites can be limited, and a host that is lost can
/// be shut out although it knows the network's secret. The host that makes it is its first admin.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    after_help = "Example:\n  sudo shadowmesh network create office --relay smr1...\n  sudo shadowmesh up --detach\n  \
                  sudo shadowmesh invite --name laptop --uses 1"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(Create),
    Export(Export),
    Import(Import),
}

/// Make a network with certificates, of which this host is the first admin
#[derive(Debug, clap::Args)]
#[command(alias = "init", after_help = "Example:\n  sudo shadowmesh network create office --relay smr1...")]
struct Create {
    /// What people call it
    #[arg(value_name = "NAME")]
    network_name: String,

    /// A relay ticket (smr1...); may be given several times
    #[arg(long, value_name = "SMR", required = true)]
    relay: Vec<String>,

    /// What this host is called in it [default: the host's name]
    #[arg(long, value_name = "NAME")]
    name: Option<NodeName>,
}

/// Write a copy of the network: its secret, its record and, on an admin's host, the admin's key
///
/// Whoever has the copy of an admin's host is an admin: keep it as you keep keys. Where a daemon runs the copy is of what it holds now.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo shadowmesh network export office.backup")]
struct Export {
    /// A file that is not there yet, or - for stdout
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
}

/// Take over a copy on a host that is in no network
///
/// With the copy of an admin's host this host becomes that admin. One without an admin's key needs an invite besides.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sudo shadowmesh network import office.backup && sudo shadowmesh up --detach"
)]
struct Import {
    /// The copy, or - for stdin
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Create(create) => self::create(global, create),
        Command::Export(export) => self::export(global, export),
        Command::Import(import) => self::import(global, import),
    }
}

fn create(global: &Global, args: &Create) -> anyhow::Result<()> {
    clock::begin(StateDir::open_existing(global.state_dir()).ok().flatten().as_ref());
    let now = unix_now();
    let relays =
        args.relay.iter().map(|text| RelayTicket::parse(text, now)).collect::<Result<Vec<_>, _>>()?;
    let state = StateDir::open(global.state_dir())?;
    let _lock = state.lock()?;
    refuse_second(&state)?;
    let mut config = state.load_config()?;
    config.name = args.name.clone().or(config.name);
    let settings = Settings::new(&config, &super::up::hostname());
    let name =
        Name::new(&settings.name.to_string()).context("this host's name cannot be that of a member")?;

    let node = state.load_or_create_node_key(&mut SystemRng)?.public();
    let network = NetworkState::create(&args.network_name, relays, &mut SystemRng);
    let founding = Founding::new(network, node, name, now, &mut SystemRng)?;
    state.save_config(&config)?;
    founding.store(&state)?;
    let NetworkState { name: network, root, .. } = founding.network();
    if global.json {
        let root = root.map(|root| root.to_base32()).unwrap_or_default();
        return output::document(&NetworkMade { network: network.clone(), root, node: node.to_base32() });
    }
    output::note(&format!(
        "made the network {}: start with `sudo shadowmesh up`, and let others join with `sudo shadowmesh invite`; \
         keep a copy of the admin's key (`sudo shadowmesh network export FILE`)",
        network
    ));
    Ok(())
}

fn refuse_second(state: &StateDir) -> anyhow::Result<()> {
    if let Some(network) = state.load_network()? {
        bail!(
            "this host is already in the network {:?}: run `shadowmesh leave` first, or keep the other one beside it with --network NAME",
            network.name
        );
    }
    Ok(())
}

fn export(global: &Global, args: &Export) -> anyhow::Result<()> {
    let socket = global.socket();
    let copy = match runtime()?.block_on(client::call(&socket, &Request::Export)) {
        Ok(Response::Copy { text }) => text,
        Ok(_) => return Err(unexpected(&socket).into()),
        // Without a daemon the state directory has all of it.
        Err(ControlError::NotRunning(_)) => copy_of_state(global)?,
        Err(error) => return Err(error.into()),
    };
    if args.file == Path::new("-") {
        return Ok(output::data(&copy)?);
    }
    let shown = args.file.display();
    new_file::write(&args.file, |mut file| file.write_all(copy.as_bytes()))
        .with_context(|| format!("cannot make {shown}"))?;
    if global.json {
        return output::document(&NetworkExported { file: args.file.clone() });
    }
    output::note(&format!("wrote {shown}: it holds secrets, keep it as you keep keys"));
    Ok(())
}

fn copy_of_state(global: &Global) -> anyhow::Result<Zeroizing<String>> {
    let in_none = "this host is in no network";
    let state = StateDir::open_existing(global.state_dir())?.context(in_none)?;
    let _lock = state.lock()?;
    state.export()?.context(in_none)
}

fn import(global: &Global, args: &Import) -> anyhow::Result<()> {
    let mut copy = Zeroizing::new(String::new());
    let shown = args.file.display();
    if args.file == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(MAX_COPY)
            .read_to_string(&mut copy)
            .context("cannot read the copy from stdin")?;
    } else {
        let file = std::fs::File::open(&args.file).with_context(|| format!("cannot read {shown}"))?;
        file.take(MAX_COPY).read_to_string(&mut copy).with_context(|| format!("cannot read {shown}"))?;
    }
    let state = StateDir::open(global.state_dir())?;
    let _lock = state.lock()?;
    refuse_second(&state)?;
    let (network, has_key) = match state.import(&copy) {
        // Nothing is the matter with the copy.
        Err(CopyError::State(error)) => return Err(error.into()),
        taken => taken.with_context(|| format!("{shown} is no copy of a network"))?,
    };
    if global.json {
        return output::document(&NetworkImported { network: network.name, has_admin_key: has_key });
    }
    let next = match (network.root, has_key) {
        (Some(_), false) => "join it with an invite: `sudo shadowmesh up smi1...`",
        (Some(_), true) => "this host is its admin: `sudo shadowmesh up`",
        (None, _) => "`sudo shadowmesh up`",
    };
    output::note(&format!("took over the network {}; {next}", output::clean(&network.name, 63)));
    Ok(())
}
