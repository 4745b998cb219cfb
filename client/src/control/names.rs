//! What people call a node: a name, an address, or the start of an id.
//!
//! Names are chosen by their owners, so two may be the same; then all but one get a number ([`display_names`]). An id decides
//! which, not the order of arrival: every host that knows the same nodes shows the same names.
//!
//! Whoever is meant by a text is looked for in every way at once, and more than one is none ([`find`]): a node can choose its name
//! and its addresses, and with some work the start of its id, so that no way of being called goes before another.

use shadowmesh_proto::ids::{NodeId, SHORT_ID_CHARS};
use std::collections::{BTreeMap, HashSet};
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
    /// It could mean more than one.
    #[error("{text:?} could mean {}: type an id, or more of it", .whom.join(" or "))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// Whom it could mean: names, and ids that tell them apart.
        whom: Vec<String>,
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

/// Finds whom `text` means: by name, by address, and by the start of an id that is at least as long as [the short
/// one](SHORT_ID_CHARS), in either case; where all that finds nobody, by a shorter start. A node may be listed several times, under
/// each name that it goes by.
///
/// # Errors
/// See [`NameError`].
pub fn find<'a>(peers: &'a [Named], text: &str) -> Result<&'a Named, NameError> {
    match find_exactly(peers, text) {
        Err(NameError::Unknown(unknown)) => {
            let start = text.to_ascii_lowercase();
            let begins = |peer: &&Named| !start.is_empty() && peer.id.to_base32().starts_with(&start);
            one_of(peers.iter().filter(begins), text)?.ok_or(NameError::Unknown(unknown))
        }
        found => found,
    }
}

/// As [`find`], without shorter starts of ids: what is changed for good is not to be changed for whoever's id happens, or was made,
/// to begin with a name.
///
/// # Errors
/// See [`NameError`].
pub fn find_exactly<'a>(peers: &'a [Named], text: &str) -> Result<&'a Named, NameError> {
    let address = text.parse::<IpAddr>().ok();
    let start = text.to_ascii_lowercase();
    let is_meant = |peer: &&Named| {
        peer.name == text
            || address.is_some_and(|address| peer.addresses.contains(&address))
            || (start.len() >= SHORT_ID_CHARS && peer.id.to_base32().starts_with(&start))
    };
    let found = one_of(peers.iter().filter(is_meant), text)?;
    found.ok_or_else(|| NameError::Unknown(text.chars().take(63).collect()))
}

/// The only node among these, if there is any.
fn one_of<'a>(found: impl Iterator<Item = &'a Named>, text: &str) -> Result<Option<&'a Named>, NameError> {
    let mut nodes: BTreeMap<NodeId, &Named> = BTreeMap::new();
    for named in found {
        nodes.entry(named.id).or_insert(named);
    }
    if nodes.len() < 2 {
        return Ok(nodes.into_values().next());
    }
    let short: HashSet<String> = nodes.keys().map(NodeId::short).collect();
    let id = |node: &NodeId| if short.len() == nodes.len() { node.short() } else { node.to_base32() };
    let whom = nodes.iter().map(|(node, named)| format!("{} ({})", named.name, id(node))).collect();
    Err(NameError::Ambiguous { text: text.chars().take(63).collect(), whom })
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
        let whom = vec!["c (baaaaaaaaa)".to_owned(), "d (beaaaaaaaa)".to_owned()];
        assert_eq!(find(peers, "b"), Err(NameError::Ambiguous { text: "b".into(), whom }));
        assert_eq!(find(peers, "x"), Err(NameError::Unknown("x".into())));
        assert_eq!(find(peers, ""), Err(NameError::Unknown(String::new())));
    }

    #[test]
    fn who_is_meant_in_two_ways_is_nobody() {
        let mut same_start = id(8);
        same_start.0[31] = 1;
        let peers = [
            peer(8, "c", "10.7.0.2"),
            peer(9, "c", "10.7.0.3"),
            peer(10, "10.7.0.3", "10.7.0.4"),
            peer(11, "baaaaaaaaa", "10.7.0.5"),
            Named { id: same_start, name: "e".into(), addresses: vec![] },
            // Listed twice, and one node.
            Named { id: same_start, name: "f".into(), addresses: vec![] },
        ];
        let whom = |text: &str| match find_exactly(&peers, text) {
            Err(NameError::Ambiguous { whom, .. }) => whom.len(),
            found => panic!("{text}: {found:?}"),
        };
        // By name twice; by address and name; by name and two ids.
        assert_eq!((whom("c"), whom("10.7.0.3"), whom("baaaaaaaaa")), (2, 2, 3));
        let Err(error) = find_exactly(&peers[3..], "baaaaaaaaa") else { panic!("found") };
        let whole = same_start.to_base32();
        assert_eq!(
            error.to_string(),
            format!(
                "\"baaaaaaaaa\" could mean e ({}) or baaaaaaaaa ({}): type an id, or more of it",
                same_start.short(),
                id(11).short()
            )
        );
        assert_eq!(find_exactly(&peers, &whole).map(|peer| peer.id), Ok(same_start));
        // Two ids that begin alike are listed whole.
        let alike = [peers[0].clone(), peers[4].clone()];
        let Err(error) = find_exactly(&alike, "baaaaaaaaa") else { panic!("found") };
        assert!(error.to_string().contains(&whole), "{error}");
    }

    #[test]
    fn what_is_changed_is_not_named_by_a_few_letters_of_an_id() {
        let peers = [peer(8, "c", "10.7.0.2")];
        assert_eq!(find(&peers, "ba").map(|peer| peer.id), Ok(id(8)));
        assert_eq!(find_exactly(&peers, "ba"), Err(NameError::Unknown("ba".into())));
        assert_eq!(find_exactly(&peers, &id(8).short()).map(|peer| peer.id), Ok(id(8)));
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
