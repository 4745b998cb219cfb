//! What this machine has of members' names.

use super::super::facts::{Block, Daemon, Hosts};
use crate::names::Places;
use crate::names::hosts::{HostsError, HostsFile};
use shadowmesh_proto::ids::NodeId;

/// Of the node that the daemon says it is, or else that the state directory has the key of.
pub(super) fn hosts(daemon: &Daemon, stored: Option<NodeId>) -> Hosts {
    let said = daemon.running().map(|running| running.status.node.id.clone());
    let node = said.or_else(|| Some(stored?.to_base32()));
    let path = Places::system().hosts;
    let block = node.map_or(Block::Unknown, |node| block(&HostsFile::new(&path), &node));
    Hosts { path, block }
}

fn block(file: &HostsFile, node: &str) -> Block {
    match file.has(node) {
        Ok(true) => Block::Whole,
        Ok(false) => Block::None,
        Err(HostsError::Missing(_)) => Block::NoFile,
        Err(HostsError::Damaged { damaged, .. }) => Block::Part { line: damaged.line },
        Err(
            HostsError::NotAFile(_)
            | HostsError::TooLarge(_)
            | HostsError::Busy(_)
            | HostsError::System { .. },
        ) => Block::Unknown,
    }
}

/// Whether systemd-resolved runs: it makes that directory when it starts.
pub(super) fn has_resolved() -> bool {
    Places::system().resolved.is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_block_is_that_of_this_node_whole_or_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("hosts");
        let file = HostsFile::new(&path);
        assert_eq!(block(&file, "me"), Block::NoFile);
        fs::write(&path, "127.0.0.1 localhost\n# shadowmesh begin you x\n# shadowmesh end you\n")
            .expect("written");
        assert_eq!((block(&file, "me"), block(&file, "you")), (Block::None, Block::Whole));
        fs::write(&path, "127.0.0.1 localhost\n# shadowmesh begin me x\n").expect("written");
        assert_eq!(block(&file, "me"), Block::Part { line: 2 });
        assert_eq!(block(&HostsFile::new(dir.path()), "me"), Block::Unknown);
    }
}
