//! Joining by an invite: the joining node certifies itself, with the delegate's key (protocol §8.4).

use super::authority::Authority;
use super::certificate::{Addresses, Certificate};
use super::delegation::Delegation;
use super::name::Name;
use super::statement::{SignError, Statement, Unverified};
use super::trust::Own;
use super::{Address, Seconds};
use crate::addresses;
use crate::ids::{Fingerprint, NodeId, StatementHash};
use crate::rng::Rng;
use crate::ticket::Delegated;

/// An admin makes an invite: a delegate, and the delegation to it. `limits` are the delegation's, whose delegate is put in here.
///
/// The statement is to be kept ([`Trust::keep_invite`](super::Trust::keep_invite)) once the admin's document names it as open.
///
/// # Errors
/// As [`SignError`].
pub fn invite(
    admin: &Authority,
    root: Fingerprint,
    limits: Delegation,
    rng: &mut dyn Rng,
) -> Result<(Delegated, Statement<Delegation>), SignError> {
    let delegate = Authority::generate(rng);
    let limits = Delegation { delegate: delegate.fingerprint(), ..limits };
    let statement = Statement::sign(admin, root, limits)?;
    Ok((Delegated { root, seed: delegate.seed(), delegation: statement.hash() }, statement))
}

/// What a node that joins has in hand.
#[derive(Debug)]
pub struct Joining {
    delegate: Authority,
    delegation: StatementHash,
    name: Name,
    address: Option<Address>,
    serial: u64,
}

/// Why an invite makes no member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// What came is not the delegation of the invite.
    #[error("the delegation is not that of the invite")]
    OtherDelegation,
    /// It has ended.
    #[error("the invite ended at {0} (seconds since 1970); ask for a new one")]
    Ended(Seconds),
    /// It makes members until then, which is over.
    #[error("the certificate cannot be made: {0}")]
    Sign(#[from] SignError),
}

impl Joining {
    /// By `invite`; under `name`, if the invite lets it. `serial` is drawn at random.
    pub fn new(invite: &Delegated, name: Name, serial: u64) -> Self {
        let delegate = Authority::from_seed(invite.seed.clone());
        Self { delegate, delegation: invite.delegation, name, address: None, serial }
    }

    /// With this address, where the invite gives it and it is nobody's.
    pub const fn wish(&mut self, address: Option<Address>) {
        self.address = address;
    }

    /// The delegation that is needed.
    pub const fn delegation(&self) -> StatementHash {
        self.delegation
    }

    /// The certificate of `node`, with every tag and until as late as the delegation gives. Nothing but its hash, which the invite pins, is
    /// asked of the delegation: who gave the invite is trusted with it. `is_taken`: what is known to be another's by now.
    ///
    /// # Errors
    /// As [`JoinError`].
    pub fn certify(
        &self,
        root: Fingerprint,
        node: NodeId,
        delegation: Unverified<Delegation>,
        now: Seconds,
        is_taken: impl Fn(Address) -> bool,
    ) -> Result<Own, JoinError> {
        let limits = delegation.claims();
        if delegation.hash() != self.delegation || limits.delegate != self.delegate.fingerprint() {
            return Err(JoinError::OtherDelegation);
        }
        if limits.joins_until < now {
            return Err(JoinError::Ended(limits.joins_until));
        }
        let says = Certificate {
            node,
            name: self.name_within(limits, node),
            addresses: Addresses::new(self.address_within(limits, root, node, is_taken)).unwrap_or_default(),
            tags: limits.tags.clone(),
            not_before: now,
            not_after: limits.members_until,
            delegation: Some(self.delegation),
            serial: self.serial,
        };
        let certificate = Statement::sign(&self.delegate, root, says)?;
        Ok(Own { certificate, chain: Some((delegation, self.delegate.public().clone())) })
    }

    /// The address wished for; nothing where that lies outside of the blocks, for who wishes for one is not served with another. Where
    /// none was wished for, or that one is another's, the first free one of those that derive from its key, if the blocks have it: that one
    /// the node has had until now; else the first free one of the blocks.
    fn address_within(
        &self,
        limits: &Delegation,
        root: Fingerprint,
        node: NodeId,
        is_taken: impl Fn(Address) -> bool,
    ) -> Option<Address> {
        match self.address {
            Some(wished) if !limits.gives(wished) => None,
            Some(wished) if !is_taken(wished) => Some(wished),
            Some(_) | None => {
                let derived = addresses::ipv4_attempts(root.into(), node);
                let mut derived = derived.filter_map(|(_, address)| Address::new(address.into()));
                let has = derived.find(|address| limits.gives(*address) && !is_taken(*address));
                has.or_else(|| limits.free_ipv4(node, is_taken))
            }
        }
    }

    /// The name wished for if the pattern has it, else the pattern's with the node's short id in place of `*`.
    fn name_within(&self, limits: &Delegation, node: NodeId) -> Name {
        let Some(pattern) = limits.names.as_ref().filter(|pattern| !pattern.matches(&self.name)) else {
            return self.name.clone();
        };
        let made = pattern.as_str().replacen('*', &node.short(), 1).replace('*', "");
        Name::new(&made).unwrap_or_else(|| self.name.clone())
    }
}
