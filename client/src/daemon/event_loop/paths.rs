//! `shadowmesh path`: waits until both ends send as was asked for, and with `auto` until it is settled by which path they do.
//!
//! Where one of the two does not let the other in there is nothing to wait for: no data flows until somebody has a word on it. That is said
//! at once, and as soon as it becomes so, and nothing is asked of the other end.

use super::EventLoop;
use crate::control::message::{ErrorCode, PathMoved, Response, Wanted};
use crate::control::server::Reply;
use crate::daemon::report;
use shadowmesh_proto::endpoint::event::Via;
use shadowmesh_proto::endpoint::status::PeerStatus;
use shadowmesh_proto::ids::PeerSlot;
use shadowmesh_proto::path::select;
use std::time::{Duration, Instant};

/// The longest that may be waited.
const TIMEOUT_MAX: Duration = Duration::from_secs(3_600);

/// A request under way.
pub(super) struct PathWait {
    slot: PeerSlot,
    wanted: Wanted,
    /// What was wanted before.
    before: select::Wanted,
    asked: Instant,
    until: Instant,
    reply: Reply,
}

impl EventLoop {
    /// Begins to wait, with what was found under the name that was asked for.
    pub(super) fn want_path(&mut self, slot: PeerSlot, wanted: Wanted, timeout_ms: u64, reply: Reply) {
        let now = Instant::now();
        let Some((peer, name)) = self.peer(slot) else { return };
        if let Some(sentence) = self.why_no_path(&peer, &name) {
            reply.send(Response::error(ErrorCode::NotConnected, sentence));
            return;
        }
        let until = now + Duration::from_millis(timeout_ms).min(TIMEOUT_MAX);
        // Somebody else's wait for another wish is over now, and says so when it looks.
        self.endpoint.want_path(now, slot, wanted.into());
        self.path_waits.push(PathWait { slot, wanted, before: peer.wanted, asked: now, until, reply });
    }

    /// When a wait ends at the latest.
    pub(super) fn path_deadline(&self) -> Option<Instant> {
        self.path_waits.iter().map(|wait| wait.until).min()
    }

    /// Answers the waits that are over; whether one of them was in vain and the endpoint was told what holds again.
    pub(super) fn settle_path_waits(&mut self) -> bool {
        let mut is_told = false;
        let now = Instant::now();
        for wait in std::mem::take(&mut self.path_waits) {
            let Some((peer, name)) = self.peer(wait.slot) else { continue };
            if let Some(sentence) = self.why_no_path(&peer, &name) {
                self.endpoint.want_path(now, wait.slot, wait.before);
                is_told = true;
                wait.reply.send(Response::error(ErrorCode::NotConnected, sentence));
            } else if peer.wanted != select::Wanted::from(wait.wanted) {
                let sentence = format!("meanwhile another path to {name} was asked for");
                wait.reply.send(Response::error(ErrorCode::Failed, sentence));
            } else if is_done(&peer, wait.wanted) || (wait.until <= now && wait.wanted == Wanted::Auto) {
                let via = peer.path.map(|path| path.via);
                wait.reply.send(Response::Path(PathMoved {
                    name,
                    id: peer.id.to_base32(),
                    wanted: wait.wanted,
                    kind: via.map(|via| via.kind().into()),
                    remote: via.and_then(report::remote),
                    peer_path: peer.peer_path.map(Into::into),
                    took_ms: report::millis(now.saturating_duration_since(wait.asked)),
                }));
            } else if wait.until <= now || wait.reply.is_gone() {
                self.endpoint.want_path(now, wait.slot, wait.before);
                is_told = true;
                let sentence = why_not(&peer, &name, wait.wanted);
                wait.reply.send(Response::error(ErrorCode::Failed, sentence));
            } else {
                self.path_waits.push(wait);
            }
        }
        is_told
    }
}

/// Whether both ends send as wanted; where anything is, whether they agree and nothing better is being looked for. What is best is never
/// quite sure, so that wait ends well in any case.
fn is_done(peer: &PeerStatus, wanted: Wanted) -> bool {
    let wanted = select::Wanted::from(wanted);
    let own = peer.path.map(|path| path.via.kind());
    if wanted == select::Wanted::Auto {
        return peer.is_settled && own == peer.peer_path;
    }
    own.is_some_and(|kind| wanted.allows(kind)) && peer.peer_path.is_some_and(|kind| wanted.allows(kind))
}

/// Why a path is not taken, for people.
fn why_not(peer: &PeerStatus, name: &str, wanted: Wanted) -> String {
    let allows = |via: Via| select::Wanted::from(wanted).allows(via.kind());
    let is_proven = peer.path.iter().chain(&peer.standby).any(|path| allows(path.via));
    let is_direct = select::Wanted::from(wanted).is_direct();
    let what = match (peer.path, is_proven) {
        (Some(_), false) if is_direct && peer.is_direct_barred => {
            format!("the relay allows no direct path to {name}")
        }
        (None, _) => format!("there is no proven path to {name} at all"),
        (Some(_), false) => format!("no such path to {name} is proven"),
        (Some(path), true) if !allows(path.via) => format!("this end still sends by {}", path.via.kind()),
        (Some(_), true) => {
            let theirs = peer.peer_path.map_or("no path", |kind| kind.as_str());
            format!("{name} still sends by {theirs}")
        }
    };
    let next = peer.next_direct_try.filter(|_| wanted != Wanted::Relay);
    let next = next.map(|span| format!(" (a direct one is tried again in {} s)", span.as_secs()));
    format!("{what}{}; what was wanted before holds again", next.unwrap_or_default())
}
