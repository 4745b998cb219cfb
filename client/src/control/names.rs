//! What people call a node: a name, an address, or the start of an id.
//!
//! Names are chosen by their owners, so two may be the same; then all but one get a number ([`display_names`]). An id decides
//! which, not the order of arrival: every host that knows the same nodes shows the same names.

use shadowmesh_proto::ids::NodeId;
use std::collections::HashSet;
use std::net::IpAddr;

/// A node as it can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub id: NodeId,
    /// The name to show: unique, from [`display_names`].
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Why nobody was found. Each text is one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nobody is called that.
    #[error("no peer is called {0:?}: `shadowmesh status` shows who is there")]
    Unknown(String),
    /// The start of more than one id.
    #[error("{text:?} begins the ids of {}: type more of it, or a name", .names.join(" and "))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// Whom it could mean.
        names: Vec<String>,
    },
}

/// The names to show for nodes that call themselves these, in the same order: unique, and whoever has the lowest id of those
/// with one name keeps it. This node belongs into the list too.
pub fn display_names(nodes: &[(NodeId, &str)]) -> Vec<String> {
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|at| nodes.get(*at).map(|(id, _)| *id));
    let mut taken: HashSet<String> = HashSet::new();
    let mut shown = vec![String::new(); nodes.len()];
    let own: HashSet<&str> = nodes.iter().map(|(_, name)| *name).collect();
    for at in order {
        let (Some((_, name)), Some(slot)) = (nodes.get(at), shown.get_mut(at)) else { continue };
        let mut unique = (*name).to_owned();
        let mut number = 2_u32;
        // A number that makes another's own name is passed over.
        while taken.contains(&unique) || (number > 2 && own.contains(unique.as_str())) {
            unique = format!("{name}-{number}");
            number += 1;
        }
        taken.insert(unique.clone());
        *slot = unique;
    }
    shown
}

/// Finds whom `text` means: a name first, then an address, then the start of an id, in either case.
///
/// # Errors
/// See [`NameError`].
pub fn find<'a>(peers: &'a [Named], text: &str) -> Result<&'a Named, NameError> {
    if let Some(peer) = peers.iter().find(|peer| peer.name == text) {
        return Ok(peer);
    }
    if let Ok(address) = text.parse::<IpAddr>()
        && let Some(peer) = peers.iter().find(|peer| peer.addresses.contains(&address))
    {
        return Ok(peer);
    }
    let start = text.to_ascii_lowercase();
    let begins = |peer: &&Named| !start.is_empty() && peer.id.to_base32().starts_with(&start);
    let found: Vec<&Named> = peers.iter().filter(begins).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(NameError::Unknown(text.chars().take(63).collect())),
        several => {
            let names = several.iter().map(|peer| peer.name.clone()).collect();
            Err(NameError::Ambiguous { text: start, names })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(first: u8) -> NodeId {
        let mut bytes = [0; 32];
        bytes[0] = first;
        NodeId(bytes)
    }

    fn peer(first: u8, name: &str, address: &str) -> Named {
        Named { id: id(first), name: name.into(), addresses: vec![address.parse().expect("an address")] }
    }

    #[test]
    fn a_peer_is_found_by_name_address_and_start_of_its_id() {
        // Base32 of a first byte: 0x00 is aa, 0x08 is ba, 0x09 is be (five bits a character).
        let peers = [peer(0, "b", "10.7.0.1"), peer(8, "c", "10.7.0.2"), peer(9, "d", "fd00::1")];
        let found = |text: &str| find(&peers, text).map(|peer| peer.name.as_str().to_owned());
        assert_eq!(found("c").as_deref(), Ok("c"));
        assert_eq!(found("fd00:0::1").as_deref(), Ok("d"));
        assert_eq!(found("10.7.0.1").as_deref(), Ok("b"));
        assert_eq!(found("AAAA").as_deref(), Ok("b"));
        assert_eq!(found("be").as_deref(), Ok("d"));
        // A name goes before the ids that begin like it.
        assert_eq!(found("b").as_deref(), Ok("b"));
        let peers = &peers[1..];
        let names = vec!["c".to_owned(), "d".to_owned()];
        assert_eq!(find(peers, "b"), Err(NameError::Ambiguous { text: "b".into(), names }));
        assert_eq!(find(peers, "x"), Err(NameError::Unknown("x".into())));
        assert_eq!(find(peers, ""), Err(NameError::Unknown(String::new())));
    }

    #[test]
    fn of_one_name_the_lowest_id_keeps_it() {
        let nodes = [(id(9), "a"), (id(1), "a"), (id(5), "a"), (id(2), "a-2"), (id(3), "b")];
        assert_eq!(display_names(&nodes), ["a-4", "a", "a-3", "a-2", "b"]);
    }

    proptest! {
        #[test]
        fn names_are_unique_and_do_not_depend_on_the_order(names in proptest::collection::btree_map(any::<u8>(), "(a|b)(-[23])?", 0..12)) {
            let nodes: Vec<(NodeId, &str)> = names.iter().map(|(first, name)| (id(*first), name.as_str())).collect();
            let shown = display_names(&nodes);
            prop_assert_eq!(shown.iter().collect::<HashSet<_>>().len(), nodes.len());
            let reversed: Vec<_> = nodes.iter().rev().copied().collect();
            let mut again = display_names(&reversed);
            again.reverse();
            prop_assert_eq!(shown, again);
        }
    }
}
