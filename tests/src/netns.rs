//! Network namespaces, from the inside: a thread steps into one and stays there.
//!
//! The lab makes the namespaces (`tests/lab/lib.sh`); the tools of this crate join ends that live in two of them, so each
//! end runs on a thread of its own. Sockets keep the namespace they were opened in, also after their thread is gone.
//!
//! An end is written `NAMESPACE:DEVICE`. The namespace is a name that `ip netns` knows, a path, or empty for the
//! caller's own.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::str::FromStr;

/// A device in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// `None` is the namespace the process was started in.
    pub namespace: Option<PathBuf>,
    /// The name of the network device in there.
    pub device: String,
}

/// Why `NAMESPACE:DEVICE` was not understood.
#[derive(Debug, PartialEq, Eq)]
pub struct EndSyntax;

impl fmt::Display for EndSyntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an end is written NAMESPACE:DEVICE, for example sm1-a:smesh0")
    }
}

impl std::error::Error for EndSyntax {}

impl FromStr for End {
    type Err = EndSyntax;

    fn from_str(text: &str) -> Result<Self, EndSyntax> {
        let (namespace, device) = text.rsplit_once(':').ok_or(EndSyntax)?;
        if device.is_empty() {
            return Err(EndSyntax);
        }
        let namespace = match namespace {
            "" => None,
            path if path.contains('/') => Some(PathBuf::from(path)),
            name => Some(PathBuf::from("/run/netns").join(name)),
        };
        Ok(Self { namespace, device: device.to_owned() })
    }
}

/// Moves the calling thread, and no other, into the network namespace at `path` (`setns(2)`; needs `CAP_SYS_ADMIN`).
pub fn enter(path: &PathBuf) -> io::Result<()> {
    let file = File::open(path)?;
    // SAFETY: setns takes a descriptor and a flag; the descriptor is open for the length of the call.
    let done = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl End {
    /// Runs `work` on a new thread inside this end's namespace and waits for its result.
    pub fn within<T: Send>(&self, work: impl FnOnce(&str) -> io::Result<T> + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                if let Some(path) = &self.namespace {
                    enter(path)?;
                }
                work(&self.device)
            });
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_namespace_and_a_device() {
        let end: End = "sm7-a:smesh0".parse().unwrap();
        assert_eq!(end.namespace, Some(PathBuf::from("/run/netns/sm7-a")));
        assert_eq!(end.device, "smesh0");
        assert_eq!(":lo".parse::<End>().unwrap().namespace, None);
        assert_eq!(
            "/proc/1/ns/net:lo".parse::<End>().unwrap().namespace,
            Some(PathBuf::from("/proc/1/ns/net"))
        );
    }

    #[test]
    fn half_an_end_is_refused() {
        assert_eq!("smesh0".parse::<End>(), Err(EndSyntax));
        assert_eq!("sm7-a:".parse::<End>(), Err(EndSyntax));
    }
}
