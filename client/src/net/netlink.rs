//! One connection to the kernel's routing netlink, shared by everything on the control task that asks it.

use std::io;

use rtnetlink::Handle;
use tokio::task::JoinHandle;

/// A connection whose task ends when this value is dropped.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Netlink {
    /// Opens a connection and spawns the task that reads its answers. Must be called inside a tokio runtime
    /// with I/O enabled.
    ///
    /// # Errors
    /// When the process has no descriptors left, or the kernel no netlink.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _unsolicited) = rtnetlink::new_connection()?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// For the requests themselves.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the kernel answered, as an error of the operating system.
pub(crate) fn to_io(error: rtnetlink::Error) -> io::Error {
    if let rtnetlink::Error::NetlinkError(message) = error {
        return message.to_io();
    }
    io::Error::other(error.to_string())
}
