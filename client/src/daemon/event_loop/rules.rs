//! The access rules that this node enforces: into the data plane at the start and on `reload`.

use crate::control::status::RulesInForce;
use crate::daemon::RULES_OF_RECORD;
use crate::daemon::progress::{Progress, ProgressSender};
use crate::daemon::rules_file::RulesFile;
use crate::plane::Routes;
use shadowmesh_proto::ids::NodeId;
use std::time::Instant;

/// What `status` names instead of a file where the rules are those of the network's record.
pub(super) const RECORD: &str = RULES_OF_RECORD;

/// Puts rules in force from the next picture on; what `status` says of them.
pub(super) fn enforce(routes: &mut Routes, here: NodeId, file: RulesFile) -> RulesInForce {
    let RulesFile { path, rules } = file;
    let count = rules.len();
    routes.set_rules(Instant::now(), here, rules);
    RulesInForce { file: path.to_string(), count, error: None }
}

/// Says which rules are in force, if any are.
pub(super) fn say(progress: &ProgressSender, rules: Option<&RulesInForce>) {
    if let Some(RulesInForce { file, count, .. }) = rules {
        progress.send(Progress::Rules { file: file.clone(), count: *count });
    }
}
