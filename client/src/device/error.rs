//! What can go wrong with a device, each as one sentence for the person at the terminal.

use std::io;

use super::name::{DeviceName, NameError};

/// Why a device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// `/dev/net/tun` is missing, or the kernel has no driver behind it.
    #[error(
        "/dev/net/tun is missing, so no network device can be made; load the driver with `modprobe tun` (in a \
         container, pass it in with --device /dev/net/tun)"
    )]
    NoDriver,
    /// No `CAP_NET_ADMIN`, or no access to `/dev/net/tun`.
    #[error(
        "not permitted to make the network device {name}: CAP_NET_ADMIN and access to /dev/net/tun are needed; run this \
         with sudo or as the service"
    )]
    NotPermitted {
        /// The device that was asked for.
        name: DeviceName,
    },
    /// Another device, or another process, has the name.
    #[error(
        "the network device {name} exists already; choose another name with --device, or remove it with \
         `ip link delete {name}`"
    )]
    NameTaken {
        /// The device that was asked for.
        name: DeviceName,
    },
    /// Anything else the kernel said.
    #[error("the kernel refused to make the network device {name}: {source}")]
    Refused {
        /// The device that was asked for.
        name: DeviceName,
        /// Its answer.
        source: io::Error,
    },
}

/// Why the settings of a device could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// IPv6 is switched off on this machine or for this device.
    #[error("IPv6 is disabled on this machine, so {device} has no IPv6 address; IPv4 is not affected")]
    Ipv6Disabled {
        /// The device in question.
        device: DeviceName,
    },
    /// No `CAP_NET_ADMIN`.
    #[error(
        "not permitted to {what} on {device}: CAP_NET_ADMIN is needed; run this with sudo or as the service"
    )]
    NotPermitted {
        /// What was tried.
        what: String,
        /// The device in question.
        device: DeviceName,
    },
    /// The device is not there any more.
    #[error("the network device {device} was removed by another program; start again with `shadowmesh up`")]
    Gone {
        /// The device in question.
        device: DeviceName,
    },
    /// There is no bridge of that name.
    #[error(
        "there is no bridge named {bridge}; create it with `ip link add {bridge} type bridge`, or leave --bridge out"
    )]
    NoBridge {
        /// The bridge that was asked for.
        bridge: String,
    },
    /// Anything else the kernel said.
    #[error("the kernel refused to {what} on {device}: {source}")]
    Refused {
        /// What was tried.
        what: String,
        /// The device in question.
        device: DeviceName,
        /// Its answer.
        source: io::Error,
    },
}

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DeviceFault {
    /// The administrator has set the device down. Frames for it are lost until it is up again.
    #[error("the network device is down; bring it up with `ip link set DEVICE up`")]
    Down,
    /// The device was removed; nothing will ever come from it again.
    #[error("the network device was removed by another program; start again with `shadowmesh up`")]
    Gone,
    /// The packet cannot hold a virtio header and an Ethernet header.
    #[error("{0} bytes are too few for a frame and the header before it")]
    Short(usize),
    /// Anything else the kernel said.
    #[error("the network device failed: {0}")]
    Io(#[from] io::Error),
}
