//! Invites: what people want of one, and the ticket that comes of it, by a daemon or where none runs.
//!
//! In a network with certificates an admin says first what the invite is limited to ([`Admin::invite`](super::admin::Admin::invite)); in one
//! without there is nothing that could limit it, and who asks for that is refused.

use super::admin::Limits;
use crate::config::Ipv4Cidr;
use crate::control::message::{InviteLimits, NO_LIMITS};
use crate::daemon::state_dir::NetworkState;
use shadowmesh_proto::addresses::{self, AddressSpace};
use shadowmesh_proto::membership::{Block, MAX_BLOCKS, Pattern, Set, Tag, Tags, Trust};
use shadowmesh_proto::ticket::{Delegated, Invite, RelayTicket};
use std::time::Duration;

/// What a name is made of.
pub const BAD_NAME: &str = "a name is 1 to 63 of letters, digits, `-`, `_` and `.`";
/// What tags are made of.
pub const BAD_TAG: &str =
    "a tag is 1 to 63 of letters, digits, `-`, `_` and `.`, and nobody has more than 16";
/// What blocks are.
const BAD_BLOCK: &str =
    "a block is ADDRESS/BITS without bits beyond those, such as 10.7.3.0/24, and there are at most 8";

/// What somebody wants of an invite.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// When joining by it ends, seconds since 1970.
    pub until: u64,
    /// How long that is from now, seconds.
    pub expires_s: u64,
    /// The name of who joins, or a pattern.
    pub name: Option<String>,
    /// The rest.
    pub limits: InviteLimits,
}

impl Wanted {
    /// Whatever is usual, for so long from `now` on, seconds since 1970.
    pub fn usual(now: u64, expires: Duration) -> Self {
        let expires_s = expires.as_secs();
        Self { until: now.saturating_add(expires_s), expires_s, name: None, limits: InviteLimits::default() }
    }

    /// The ticket of a network without certificates.
    ///
    /// # Errors
    /// A sentence, where it was to be limited.
    pub fn open(self, network: &NetworkState, relays: &[RelayTicket]) -> Result<Invite, &'static str> {
        if !self.limits.is_default() || self.name.as_ref().is_some_and(|name| name.contains('*')) {
            return Err(NO_LIMITS);
        }
        Ok(network.invite(relays, Some(self.until), self.name, None))
    }

    /// What an admin is to say in a network of this address space. `beside`: the address that the admin's host was given by hand, if any.
    ///
    /// # Errors
    /// A sentence, where something is no name, tag or block.
    pub fn limits(&self, space: AddressSpace, beside: Option<Ipv4Cidr>) -> Result<Limits, &'static str> {
        let Self { expires_s, name, limits, .. } = self;
        Ok(Limits {
            joins_for: Duration::from_secs(*expires_s),
            uses: limits.uses,
            needs_approval: limits.needs_approval,
            names: name.as_ref().map(|name| Pattern::new(name).ok_or(BAD_NAME)).transpose()?,
            tags: tags(&limits.tags)?,
            blocks: if limits.blocks.is_empty() {
                usual_blocks(space, beside)
            } else {
                blocks(&limits.blocks)?
            },
        })
    }

    /// The ticket, of what an admin `delegated`. It has the secret that the record of `trust` names, where that is here.
    pub fn ticket(
        self,
        network: &NetworkState,
        trust: &Trust,
        relays: &[RelayTicket],
        delegated: Delegated,
    ) -> Invite {
        let in_force = trust.secrets().in_force(trust.view().secret()).cloned();
        let secret = in_force.unwrap_or_else(|| network.secret.clone());
        let network = NetworkState { secret, ..network.clone() };
        let name = self.name.filter(|name| !name.contains('*'));
        network.invite(relays, Some(self.until), name, Some(delegated))
    }
}

/// Where no blocks are named: who joins is to be beside the admin's host, where that was given its address by hand; else it may wish for any
/// address of the range from which all derive theirs.
fn usual_blocks(space: AddressSpace, beside: Option<Ipv4Cidr>) -> Set<Block, MAX_BLOCKS> {
    let derived = || Block::new(addresses::ipv4_network(&space).into(), addresses::IPV4_PREFIX_LEN);
    Set::new(beside.and_then(Ipv4Cidr::block).or_else(derived)).unwrap_or_default()
}

/// Tags, as people write them.
///
/// # Errors
/// What they are made of.
pub fn tags(list: &[String]) -> Result<Tags, &'static str> {
    let tags: Option<Vec<Tag>> = list.iter().map(|tag| Tag::new(tag)).collect();
    tags.and_then(Tags::new).ok_or(BAD_TAG)
}

fn blocks(list: &[String]) -> Result<Set<Block, MAX_BLOCKS>, &'static str> {
    let block = |text: &String| {
        let (base, bits) = text.split_once('/')?;
        Block::new(base.parse().ok()?, bits.parse().ok()?)
    };
    let blocks: Option<Vec<Block>> = list.iter().map(block).collect();
    blocks.and_then(Set::new).ok_or(BAD_BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: AddressSpace = AddressSpace([5; 32]);

    fn wanted(limits: InviteLimits) -> Wanted {
        Wanted { limits, ..Wanted::usual(1_000, Duration::from_secs(60)) }
    }

    #[test]
    fn who_joins_is_beside_an_address_that_was_chosen_unless_it_is_said_where() {
        let beside = "10.7.3.4/24".parse().ok();
        let block = |text: &str| blocks(&[text.to_owned()]).expect("a block");
        let limits = wanted(InviteLimits::default()).limits(SPACE, beside).expect("limits");
        assert_eq!(limits.blocks, block("10.7.3.0/24"));
        let said = InviteLimits { blocks: vec!["10.9.0.0/16".into()], ..InviteLimits::default() };
        assert_eq!(wanted(said).limits(SPACE, beside).expect("limits").blocks, block("10.9.0.0/16"));
        let derived = wanted(InviteLimits::default()).limits(SPACE, None).expect("limits").blocks;
        assert_eq!(derived, block(&format!("{}/16", addresses::ipv4_network(&SPACE))));
    }

    #[test]
    fn what_is_no_tag_block_or_name_is_said() {
        let said = |limits: InviteLimits| wanted(limits).limits(SPACE, None).map(drop);
        assert_eq!(said(InviteLimits { tags: vec!["a b".into()], ..InviteLimits::default() }), Err(BAD_TAG));
        for block in ["10.7.3.1/24", "10.7.3.0", "10.7.3.0/33", "x/1"] {
            let limits = InviteLimits { blocks: vec![block.into()], ..InviteLimits::default() };
            assert_eq!(said(limits), Err(BAD_BLOCK), "{block}");
        }
        let named = Wanted { name: Some("a b".into()), ..wanted(InviteLimits::default()) };
        assert_eq!(named.limits(SPACE, None).map(drop), Err(BAD_NAME));
    }
}
