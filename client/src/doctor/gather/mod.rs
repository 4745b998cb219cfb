//! Gathers the [`Facts`]: reads, asks and connects, and judges nothing. Whatever fails is a fact as well, or is left out.
//!
//! Everything has a deadline of a few seconds, and what can be asked at once is.

mod control;
mod firewall;
mod kernel;
mod names;
mod process;
mod proxy;
mod relays;
mod settings;
mod state;

pub(crate) use control::WATCHED;
pub(crate) use process::unit_of;

use super::facts::{Call, Caller, Daemon, Facts, Tcp};
use crate::config::Config;
use crate::net::{Netlink, interfaces, routes};
use crate::service::Machine;
use proxy::Proxies;
use rustix::process::geteuid;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::process::Command;
use tokio::time::timeout;

/// How long another program may take to say what it knows. It is ended then.
const PATIENCE: Duration = Duration::from_secs(3);

/// Everything that can be found out now; `config` is the file of settings that is meant, where that is not the daemon's.
///
/// # Errors
/// When the machine has no more descriptors, or no routing netlink.
pub(crate) async fn gather(call: Call, config: Option<PathBuf>) -> io::Result<Facts> {
    let is_root = geteuid().is_root();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut daemon = control::ask(&call.socket).await;
    let answering = daemon.process().map(|process| process.pid);
    let machine = Machine::new(None);
    let has_service = call.options.is_empty() && machine.has_service();
    let (settings, chosen) = match config.or_else(|| settings::of(&daemon, has_service.then_some(&machine))) {
        Some(file) => settings::look(&file, settings::is_for_service(&daemon, has_service)),
        None => (None, Config::default()),
    };
    let mut stored = state::look(&call.state, is_root, answering, chosen);
    if has_service && matches!(daemon, Daemon::None) {
        stored.state.last_words = process::last_words_of_service().await;
    }
    let device_name = daemon.running().map(|running| running.status.node.device.clone());
    let netlink = Netlink::open()?;
    let all = interfaces::list(&netlink, None).await?;
    let own = device_name.as_ref().and_then(|name| all.iter().find(|interface| interface.name == *name));
    let own_index = own.map(|interface| interface.index);
    let device = own.map(|interface| kernel::link(interface, &all));
    let routes = routes::list(&netlink, own_index).await?;
    let interfaces: Vec<_> = all.into_iter().filter(|interface| Some(interface.index) != own_index).collect();
    let addresses = relays::known(&stored.relays, &daemon);
    let proxies = Proxies::of(stored.proxy.as_ref(), &daemon);
    let relays = relays::reach(addresses, &proxies).await;
    let is_open = relays.iter().flat_map(|relay| &relay.addresses).any(|address| address.tcp == Tcp::Open);
    if is_open {
        control::wait_for_relays(&call.socket, &mut daemon).await;
    }
    Ok(Facts {
        caller: Caller { is_root, net_admin: kernel::may_admin_net() },
        now,
        version: env!("CARGO_PKG_VERSION"),
        others: process::other_daemons(answering, stored.network.as_ref()),
        tun: kernel::tun(is_root),
        kernel: kernel::settings(&interfaces, &routes),
        has_name_server: relays::has_name_server(),
        has_resolved: names::has_resolved(),
        has_service,
        settings,
        hosts: names::hosts(&daemon, stored.node),
        ruleset: if is_root { firewall::ruleset().await } else { None },
        state: stored.state,
        call,
        daemon,
        interfaces,
        routes,
        device,
        relays,
    })
}

/// What another program writes, where it succeeds; `None` too where there is none of that name.
pub(super) async fn output_of(program: &str, words: &[&str]) -> Option<Vec<u8>> {
    output_within(PATIENCE, program, words).await
}

async fn output_within(patience: Duration, program: &str, words: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    let done = timeout(patience, command.output()).await.ok()?.ok()?;
    done.status.success().then_some(done.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_does_not_end_is_not_waited_for() {
        assert_eq!(output_of("echo", &["a"]).await.as_deref(), Some(b"a\n".as_slice()));
        assert_eq!(output_of("false", &[]).await, None);
        assert_eq!(output_of("no-such-program", &[]).await, None);
        assert_eq!(output_within(Duration::from_millis(10), "sleep", &["infinity"]).await, None);
    }
}
