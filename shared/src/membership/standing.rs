//! Who is an admin: decided by the documents, and by nothing else (protocol §8.5).
//!
//! # The rule
//!
//! Admins are the root, and whom an admin grants it to. The *rank* of one is how many grants it is away from the root, then its
//! fingerprint. In the order of rank everybody who stands when its turn comes removes whom its document removes. Who removes an admin
//! takes its place: whom the other had granted it to stands on only if somebody who stands grants it as well.
//!
//! So of two who remove each other the one of better rank stays, whichever was first; one that nobody of better rank defends can
//! be removed by anybody, also the root; and those whom a removed admin makes admins, before or after, are none. The order in which
//! documents arrive does not matter, nor what their dates say.
//!
//! A root that is *stolen* has the best rank and cannot be removed against its will. Who fears that keeps the root's seed off machines
//! that run every day, and grants it to two others.

use super::document::{Document, MAX_ADMINS};
use super::name::Name;
use crate::ids::Fingerprint;
use std::collections::{BTreeMap, BTreeSet};

/// What counts of an admin's documents here.
pub(super) struct Said<'a> {
    /// The newest.
    pub(super) newest: &'a Document,
    /// Whom any of them removed.
    pub(super) removed: &'a BTreeSet<Fingerprint>,
}

/// Admins, and who was one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// By rank, at most [`MAX_ADMINS`].
    ranked: Vec<Fingerprint>,
    /// How those who stand are called: as who is nearest to the root says among those that grant it to them. That one may be itself: to
    /// grant it to oneself makes nobody an admin, and says a name.
    admins: BTreeMap<Fingerprint, Option<Name>>,
}

impl Standing {
    /// Of the network of `root`, whose admins have said what `said` gives.
    pub(super) fn of<'a>(root: Fingerprint, said: impl Fn(Fingerprint) -> Option<Said<'a>>) -> Self {
        let ranked = ranked(root, &said);
        let mut removals = Removals { root, said: &said, by: BTreeMap::new() };
        for admin in &ranked {
            if !removals.standing().contains(admin) {
                continue;
            }
            for other in said(*admin).iter().flat_map(|said| said.removed).filter(|other| *other != admin) {
                removals.by.entry(*other).or_default().insert(*admin);
            }
        }
        let standing = removals.standing();
        let name = |admin: Fingerprint| {
            ranked
                .iter()
                .filter(|other| standing.contains(other))
                .find_map(|other| said(*other).and_then(|said| said.newest.admins.get(&admin).cloned()))
        };
        let admins = ranked.iter().filter(|admin| standing.contains(admin));
        let admins = admins.map(|admin| (*admin, name(*admin))).collect();
        Self { ranked, admins }
    }

    /// Whether it is an admin now.
    pub fn is_admin(&self, authority: Fingerprint) -> bool {
        self.admins.contains_key(&authority)
    }

    /// Whether it is none any more.
    pub fn was_removed(&self, authority: Fingerprint) -> bool {
        !self.is_admin(authority) && self.ranked.contains(&authority)
    }

    /// The admins, and what they are called.
    pub fn admins(&self) -> impl Iterator<Item = (Fingerprint, Option<&Name>)> + '_ {
        self.admins.iter().map(|(admin, name)| (*admin, name.as_ref()))
    }

    /// What one who stands is called, if anybody says.
    pub fn name(&self, authority: Fingerprint) -> Option<&Name> {
        self.admins.get(&authority)?.as_ref()
    }

    /// Everybody whose documents say who is an admin, best rank first: those who were removed may object.
    pub fn ranked(&self) -> &[Fingerprint] {
        &self.ranked
    }
}

/// Everybody that was ever granted it, whether removed or not, by rank; [`MAX_ADMINS`] of them.
///
/// Where there are more those nearest to the root count, and of those equally near the first that each admin grants before the
/// second of any: nobody takes the room of what others granted by granting much.
fn ranked<'a>(root: Fingerprint, said: &impl Fn(Fingerprint) -> Option<Said<'a>>) -> Vec<Fingerprint> {
    let (mut ranked, mut level) = (BTreeSet::from([root]), vec![root]);
    let mut order = level.clone();
    while !level.is_empty() && ranked.len() < MAX_ADMINS {
        // Each by the first place that it has in anybody's grants.
        let mut places: BTreeMap<Fingerprint, usize> = BTreeMap::new();
        for admin in &level {
            let grants = said(*admin).into_iter().flat_map(|said| said.newest.admins.keys());
            for (at, granted) in grants.filter(|granted| !ranked.contains(granted)).enumerate() {
                let place = places.entry(*granted).or_insert(at);
                *place = (*place).min(at);
            }
        }
        let mut granted: Vec<(usize, Fingerprint)> =
            places.into_iter().map(|(granted, at)| (at, granted)).collect();
        granted.sort_unstable();
        granted.truncate(MAX_ADMINS - ranked.len());
        level = granted.into_iter().map(|(_, granted)| granted).collect();
        level.sort_unstable();
        ranked.extend(&level);
        order.extend(&level);
    }
    order
}

/// Who was removed by whom, so far.
struct Removals<'s, F> {
    root: Fingerprint,
    said: &'s F,
    by: BTreeMap<Fingerprint, BTreeSet<Fingerprint>>,
}

impl<'a, F: Fn(Fingerprint) -> Option<Said<'a>>> Removals<'_, F> {
    /// Who stands: reached from the root by grants, and past a removed admin by those who removed it.
    fn standing(&self) -> BTreeSet<Fingerprint> {
        let (mut seen, mut standing, mut waiting) = (BTreeSet::new(), BTreeSet::new(), vec![self.root]);
        while let Some(admin) = waiting.pop() {
            if !seen.insert(admin) {
                continue;
            }
            if let Some(removers) = self.by.get(&admin) {
                waiting.extend(removers);
            } else {
                standing.insert(admin);
                waiting.extend((self.said)(admin).iter().flat_map(|said| said.newest.admins.keys()));
            }
        }
        standing
    }
}
