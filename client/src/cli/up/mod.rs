//! `shadowmesh up`: joins or makes a network, runs the daemon and says what it is doing.
//!
//! In order: read the flags and tickets ([`prepare`], which touches nothing before all of them are good), take the state
//! directory's lock, merge and remember, then either run here ([`view`] makes words of the daemon's progress) or start
//! another process and wait until it is up ([`detach`]).
//!
//! Two things go to stdout, because people copy them: the address of this node, and on the run that made the network
//! `join with: sudo shadowmesh up smi1…`. The journal does not get the second: others read it too.

mod detach;
mod prepare;
mod view;

use super::global::Global;
use super::{invite, logging, output, runtime};
use crate::config::{CipherChoice, DeviceName, Ipv4Cidr, Mtu, NodeName, RekeyInterval};
use crate::daemon;
use crate::daemon::DaemonError;
use crate::daemon::progress::ProgressSender;
use anyhow::Context as _;
use prepare::Prepared;

/// Join or make a network and run the daemon
///
/// The first time give an invite (to join) or a relay ticket (to make a network). Everything given is remembered: the next
/// time plain `shadowmesh up` is enough. Runs in the foreground unless --detach.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sudo shadowmesh up --relay smr1...        make a network on this relay\n  \
                        sudo shadowmesh up smi1...                join a network\n  \
                        sudo shadowmesh up - < invite.txt         the same, without the secret on the command line\n  \
                        sudo shadowmesh up --detach               again, in the background"
)]
pub(super) struct Args {
    /// An invite (smi1...) into a network; - reads it from stdin
    #[arg(value_name = "INVITE|-")]
    invite: Option<String>,

    /// A relay ticket (smr1...); may be given several times
    #[arg(long, value_name = "SMR")]
    relay: Vec<String>,

    /// What this node calls itself [default: the host's name]
    #[arg(long, value_name = "NAME")]
    name: Option<NodeName>,

    /// Name of the TAP device [default: smesh0]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceName>,

    /// MTU of the device, 1280 to 9000 bytes [default: 1400]
    #[arg(long, value_name = "N")]
    mtu: Option<Mtu>,

    /// IPv4 address and prefix length, such as 10.7.3.4/16 [default: derived from the node's key]
    #[arg(long, value_name = "CIDR")]
    address: Option<Ipv4Cidr>,

    /// Cipher of the data: auto takes AES where both ends have its instructions
    #[arg(long, value_enum, value_name = "auto|aes|chacha", hide_possible_values = true)]
    cipher: Option<CipherChoice>,

    /// Run in the background; return when the daemon is up
    #[arg(long)]
    detach: bool,

    /// How often session keys are replaced, 2s to 120s; for tests
    #[arg(long, value_name = "TIME", hide = true)]
    rekey_interval: Option<RekeyInterval>,

    /// Set by --detach for the process that it starts
    #[arg(long, hide = true, conflicts_with = "detach")]
    detached: bool,
}

pub(super) fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    logging::start()?;
    let (detach, detached) = (args.detach, args.detached);
    if detached {
        // A session of its own: closing the terminal that started us ends nothing. Fails only for a group's leader, which a
        // process that was just started is not.
        rustix::process::setsid().context("cannot leave the terminal's session")?;
    }
    let prepared = prepare::prepare(global, args)?;
    if prepared.created {
        announce(&prepared)?;
    }
    if detach {
        return detach::start(global, prepared);
    }
    run_here(prepared)
}

/// Says how others join, on the run that made the network.
fn announce(prepared: &Prepared) -> anyhow::Result<()> {
    if output::is_journal() {
        output::note("made a network; to let others join run `shadowmesh invite`");
        return Ok(());
    }
    let expires = invite::unix_now().saturating_add(invite::FIRST_EXPIRY.as_secs());
    let ticket = prepared.network.invite(&[], Some(expires), None).to_text();
    output::data(&format!("join with: sudo shadowmesh up {}", *ticket))?;
    output::note(&format!("  {}", invite::ADVICE));
    Ok(())
}

fn run_here(mut prepared: Prepared) -> anyhow::Result<()> {
    let undo = prepared.undo.take();
    runtime()?.block_on(async {
        let (progress, events) = ProgressSender::channel();
        let viewing = tokio::spawn(view::View::new().follow(events));
        let ended = daemon::run(prepared.into_options(progress)).await;
        // The daemon's end of the channel is gone: what was said is shown before the process ends.
        viewing.await.context("cannot show progress")?;
        if ended.as_ref().is_err_and(DaemonError::is_refusal) {
            undo.run()?;
        }
        Ok(ended?)
    })
}
