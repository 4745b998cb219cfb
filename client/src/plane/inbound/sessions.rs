//! What the inbound thread opens packets with: every association that is open, and which index belongs to which.

use crate::plane::snapshot::{PeerRoute, add};
use shadowmesh_proto::endpoint::event::Via;
use shadowmesh_proto::ids::{AssociationId, PeerSlot, ReceiverIndex};
use shadowmesh_proto::session::{AckReport, OpenHalf, OpenKey, Order, OrderStats, PathSlot};
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Expired receive keys are looked for this often at most, when the thread is awake anyway. A key opens nothing once it
/// expired; this only bounds how long its bytes lie in memory on a busy node.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);
/// The first packets of a move come by its path so long before data does in order, at most: a single one from longer ago was no part of it.
const MOVE_SPAN: Duration = Duration::from_secs(1);
/// A report that could not be handed over is tried again after this.
const REPORT_RETRY: Duration = Duration::from_millis(5);

/// One association.
#[derive(Debug)]
pub(super) struct Association {
    pub(super) slot: PeerSlot,
    pub(super) half: OpenHalf,
    pub(super) order: Order,
    /// What was counted of the order so far.
    told: OrderStats,
    /// When the first packet came by another path than those before, and what had come twice and out of order until then: a move may
    /// begin with it.
    foreign: Option<(Instant, [u64; 2])>,
    /// By which way the last packet of it came that opened, or came again after those that were reported.
    pub(super) last_via: Option<Via>,
    /// Whether it is in [`Sessions::unreported`].
    is_unreported: bool,
}

impl Association {
    /// A packet came by `path`, for the first time or not; before it is counted.
    pub(super) fn on_came(&mut self, now: Instant, path: PathSlot, route: &PeerRoute) {
        let is_old = |(at, _): (Instant, _)| now.saturating_duration_since(at) > MOVE_SPAN;
        if self.order.path() != Some(path) && self.foreign.is_none_or(is_old) {
            let counters = &route.counters;
            let before = [&counters.rx_duplicates, &counters.rx_reordered].map(|count| count.load(Relaxed));
            self.foreign = Some((now, before));
        }
    }

    /// Counts what is new of the order.
    pub(super) fn tell_order(&mut self, route: &PeerRoute) {
        let stats = self.order.stats();
        if stats.moves != self.told.moves || stats.reordered != self.told.reordered {
            if stats.moves != self.told.moves
                && let Some((_, [duplicates, reordered])) = self.foreign.take()
            {
                route.counters.rx_duplicates_before.store(duplicates, Relaxed);
                route.counters.rx_reordered_before.store(reordered, Relaxed);
            }
            add(&route.counters.rx_reordered, stats.reordered - self.told.reordered);
            add(&route.counters.rx_moves, stats.moves - self.told.moves);
            let gap = stats
                .gap
                .map_or(0, |gap| u64::try_from(gap.as_micros()).unwrap_or(u64::MAX).saturating_add(1));
            route.counters.rx_gap_us.store(gap, Relaxed);
            self.told = stats;
        }
    }
}

/// The open associations.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: HashMap<AssociationId, Association>,
    owners: HashMap<ReceiverIndex, AssociationId>,
    /// The index that was asked for last, and whose it is: packets come in bursts.
    recent: Option<(ReceiverIndex, AssociationId)>,
    /// Those of which nothing is opened any more, and whose they are.
    shut: HashMap<AssociationId, PeerSlot>,
    /// The newest association of each peer: only that one is acknowledged. An acknowledgement of an older one would reach the
    /// sender in the new one and release counters there that never arrived.
    newest: HashMap<PeerSlot, AssociationId>,
    /// Those that owe an acknowledgement: a few, however many are open.
    unreported: Vec<AssociationId>,
    /// Those that hold packets for order: seldom any.
    holding: Vec<AssociationId>,
    looked_at: Option<Instant>,
    /// Whether peers keep nothing that an acknowledgement would release.
    acks_seldom: bool,
}

impl Sessions {
    /// None yet. `acks_seldom`: see [`OpenHalf::reporting_seldom`].
    pub(super) fn new(acks_seldom: bool) -> Self {
        Self { acks_seldom, ..Self::default() }
    }

    /// A new association with its first key; one of the same name goes on with the key added.
    pub(super) fn open(&mut self, slot: PeerSlot, association: AssociationId, key: OpenKey) {
        let acks_seldom = self.acks_seldom;
        self.open.entry(association).or_insert_with(|| Association {
            slot,
            half: if acks_seldom { OpenHalf::reporting_seldom() } else { OpenHalf::new() },
            order: Order::default(),
            told: OrderStats::default(),
            foreign: None,
            last_via: None,
            is_unreported: false,
        });
        self.newest.insert(slot, association);
        self.add_key(association, key);
    }

    /// One more key.
    pub(super) fn add_key(&mut self, association: AssociationId, key: OpenKey) {
        self.recent = None;
        let open = self.open.get_mut(&association);
        if open.is_none() && !self.shut.contains_key(&association) {
            return;
        }
        self.owners.insert(key.index(), association);
        if let Some(gone) = open.and_then(|open| open.half.install(key)) {
            self.owners.remove(&gone);
        }
    }

    /// A key was replaced.
    pub(super) fn retire_key(&mut self, association: AssociationId, index: ReceiverIndex, now: Instant) {
        if let Some(open) = self.open.get_mut(&association) {
            open.half.retire(index, now);
        }
    }

    /// Opens nothing of an association any more. Whose it is, is known until it is closed.
    pub(super) fn shut(&mut self, association: AssociationId) {
        self.recent = None;
        if let Some(Association { slot, .. }) = self.open.remove(&association) {
            self.shut.insert(association, slot);
        }
        self.newest.retain(|_, newest| *newest != association);
        self.unreported.retain(|other| *other != association);
        self.holding.retain(|other| *other != association);
    }

    /// Forgets an association.
    pub(super) fn close(&mut self, association: AssociationId) {
        self.shut(association);
        self.shut.remove(&association);
        self.owners.retain(|_, owner| *owner != association);
    }

    /// Whether `index` names a key.
    pub(super) fn knows(&self, index: ReceiverIndex) -> bool {
        self.owners.contains_key(&index)
    }

    /// Whose index it is.
    pub(super) fn slot(&self, index: ReceiverIndex) -> Option<PeerSlot> {
        let association = self.owners.get(&index)?;
        let open = self.open.get(association).map(|open| open.slot);
        open.or_else(|| self.shut.get(association).copied())
    }

    /// Whether `index` was asked for a moment ago.
    pub(super) fn is_recent(&self, index: ReceiverIndex) -> bool {
        self.recent.is_some_and(|(recent, _)| recent == index)
    }

    /// The association that `index` belongs to.
    pub(super) fn owner(&mut self, index: ReceiverIndex) -> Option<(AssociationId, &mut Association)> {
        let association = match self.recent {
            Some((recent, association)) if recent == index => association,
            Some(_) | None => {
                let association = *self.owners.get(&index)?;
                self.recent = Some((index, association));
                association
            }
        };
        let open = self.open.get_mut(&association)?;
        if !open.is_unreported {
            open.is_unreported = true;
            self.unreported.push(association);
        }
        Some((association, open))
    }

    /// The association, to hold something in.
    pub(super) fn hold(&mut self, association: AssociationId) -> Option<&mut Association> {
        let open = self.open.get_mut(&association)?;
        if !self.holding.contains(&association) {
            self.holding.push(association);
        }
        Some(open)
    }

    /// Whether any holds something.
    pub(super) fn is_holding(&self) -> bool {
        !self.holding.is_empty()
    }

    /// Bytes held in all.
    pub(super) fn held_bytes(&self) -> usize {
        let held = self.holding.iter().filter_map(|association| self.open.get(association));
        held.map(|open| open.order.held_bytes()).sum()
    }

    /// The association that holds the most.
    pub(super) fn holds_most(&self) -> Option<AssociationId> {
        let held = |association: &&AssociationId| {
            self.open.get(*association).map_or(0, |open| open.order.held_bytes())
        };
        self.holding.iter().max_by_key(held).copied()
    }

    /// Lets go of what the association holds.
    pub(super) fn give_in(&mut self, association: AssociationId) {
        if let Some(open) = self.open.get_mut(&association) {
            open.order.give_in();
        }
    }

    /// The next frame of the association that need not wait any more, and whose it is.
    pub(super) fn take(&mut self, now: Instant, association: AssociationId) -> Option<(PeerSlot, Vec<u8>)> {
        let open = self.open.get_mut(&association)?;
        let taken = open.order.take(now);
        if taken.is_none() && open.order.held_bytes() == 0 {
            self.holding.retain(|other| *other != association);
        }
        Some((open.slot, taken?))
    }

    /// An association that has waited long enough.
    pub(super) fn release_due(&self, now: Instant) -> Option<AssociationId> {
        let is_due = |association: &&AssociationId| {
            let order = self.open.get(*association).map(|open| &open.order);
            order.is_some_and(|order| order.deadline().is_none_or(|due| due <= now))
        };
        self.holding.iter().find(is_due).copied()
    }

    /// When the next has.
    pub(super) fn next_release(&self) -> Option<Instant> {
        let holding = self.holding.iter().filter_map(|association| self.open.get(association));
        holding.filter_map(|open| open.order.deadline()).min()
    }

    /// Hands every report that is due to `tell`, which says whether it took it. When to call again.
    pub(super) fn report(
        &mut self,
        now: Instant,
        mut tell: impl FnMut(PeerSlot, Option<Via>, &mut dyn FnMut() -> AckReport) -> bool,
    ) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let (open, newest) = (&mut self.open, &self.newest);
        self.unreported.retain(|association| {
            let Some(open) = open.get_mut(association) else { return false };
            let due = match open.half.ack_due_at() {
                Some(_) if newest.get(&open.slot) != Some(association) => {
                    open.is_unreported = false;
                    return false;
                }
                Some(due) if due <= now => {
                    if tell(open.slot, open.last_via, &mut || open.half.report()) {
                        open.is_unreported = false;
                        return false;
                    }
                    now + REPORT_RETRY
                }
                Some(due) => due,
                // Nothing of it opened after all.
                None => {
                    open.is_unreported = false;
                    return false;
                }
            };
            next = Some(next.map_or(due, |next| next.min(due)));
            true
        });
        next
    }

    /// Wipes the keys whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.looked_at.is_some_and(|last| now.saturating_duration_since(last) < EXPIRE_EVERY) {
            return;
        }
        self.looked_at = Some(now);
        self.recent = None;
        for open in self.open.values_mut() {
            open.half.expire(now, |index| {
                self.owners.remove(&index);
            });
        }
    }
}
