//! The daemon: what runs between `shadowmesh up` and `shadowmesh down`.
//!
//! # Life
//!
//! [`run`] checks that the overlay's range is free on this machine, opens the TAP, starts the data plane's threads and a task per
//! relay, and then turns the [`event_loop`] until a signal, `shadowmesh down`, or the loss of the device ends it. On the way out it
//! says BYE and LEAVE, joins the threads, and closes the device, which takes its addresses and routes along; from a bridge (`up --bridge`)
//! they are taken.
//!
//! - [`options`], [`state_dir`], [`progress`]: what it is given, what it remembers, what it says.
//! - `address`: the overlay addresses, and whether they fit this machine. `interface`: the device that carries them.
//! - `event_loop`: one task that owns the endpoint and turns events into commands.
//! - [`rules_file`]: the access rules that this node enforces.
//! - `ways`: keeps datagrams out of our own tunnel.
//! - [`manager`]: what systemd hears of it, where that started it; [`config_file`]: settings in a file of people, beside what is remembered.
//! - `hangup`: SIGHUP, which asks for a reload, or tells that the terminal is gone.
//! - `netcheck`: what the network here lets through. [`members`]: who may send frames, on this side.
//! - [`clock`]: what time it is. `report`: what `status --json` and people are told.
//!
//! # Invariants
//!
//! - One thread runs the control side; it never blocks, and nothing but it touches the endpoint.
//! - Everything made here is gone when [`run`] returns, however it ends: device, threads, sockets, addresses on a bridge. Only of a daemon
//!   that is killed do those stay there, until it is started with that bridge again and ends.

pub(crate) mod address;
mod beginning;
pub mod clock;
pub mod config_file;
mod event_loop;
mod hangup;
mod interface;
pub mod log_file;
pub mod manager;
pub mod members;
mod netcheck;
pub mod options;
pub mod progress;
mod report;
pub mod rules_file;
pub mod state_dir;
mod ways;

pub use options::DaemonOptions;
#[cfg(test)]
pub(crate) use report::refusal_in_words;
pub(crate) use report::relay_url;
pub(crate) use report::{EXPIRED, RULES_OF_RECORD};

use crate::device::{DeviceFault, LinkError, OpenError};
use std::io;

/// Why a daemon ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The overlay's range is in use here.
    #[error(
        "the network's range {range} overlaps {clash}: choose an address in another range with --address, such as --address {offer}"
    )]
    Clash {
        /// The range.
        range: String,
        /// What it overlaps, by name.
        clash: String,
        /// An address that would do.
        offer: String,
    },
    /// The device could not be made.
    #[error(transparent)]
    Device(#[from] OpenError),
    /// The device could not be set up.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The device's name.
    #[error(transparent)]
    DeviceName(#[from] crate::device::NameError),
    /// The device went away while in use, or failed for so long that there is no use in waiting.
    #[error("the device {name} is lost: {fault}")]
    DeviceLost {
        /// Its name.
        name: String,
        /// What happened to it.
        fault: DeviceFault,
    },
    /// Every relay hung up during the handshake, before any ever accepted this node.
    #[error(
        "the relay at {address} does not hold the key of the ticket: another relay answers there, or it has a new key; \
         ask for a new ticket (`shadowmesh-relay ticket`)"
    )]
    OtherRelay {
        /// Its address.
        address: String,
    },
    /// The machine refused something that a daemon cannot do without.
    #[error("this machine refuses {what}: {cause}")]
    System {
        /// What.
        what: &'static str,
        /// What the kernel said.
        cause: io::Error,
    },
}

impl DaemonError {
    /// Whether it is the address given that cannot be used here: not worth remembering.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Clash { .. })
    }
}

/// Runs a daemon until it is asked to leave.
///
/// # Errors
/// See [`DaemonError`]; each is a sentence for the user.
pub async fn run(options: DaemonOptions) -> Result<(), DaemonError> {
    let mut running = std::pin::pin!(event_loop::EventLoop::start(options).await?.run());
    let mut pause = beginning::LENGTH;
    loop {
        if let Ok(ended) = tokio::time::timeout(pause, &mut running).await {
            return ended;
        }
        beginning::forget();
        pause = (2 * pause).min(beginning::PAUSE_MAX);
    }
}
