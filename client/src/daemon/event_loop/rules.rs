//! The access rules that this node enforces: into the data plane at the start and on `reload`; and what else `reload` applies.

use super::EventLoop;
use crate::config::Settings;
use crate::control::message::{ErrorCode, Response};
use crate::control::status::RulesInForce;
use crate::daemon::config_file::ConfigFile;
use crate::daemon::progress::{Progress, ProgressSender};
use crate::daemon::rules_file::RulesFile;
use crate::plane::Routes;
use shadowmesh_proto::endpoint::demand::Sessions;
use shadowmesh_proto::ids::NodeId;
use shadowmesh_proto::rules;
use std::time::Instant;

/// What `status` names instead of a file where the rules are those of the network's record.
pub(super) const RECORD: &str = "the network's record";

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

impl EventLoop {
    /// Reads the configuration again, and the rules from the file that the configuration names now. Those from before stay in force where the new ones
    /// cannot be used: a slip of the pen opens nothing.
    pub(super) fn reload(&mut self) -> Response {
        let config = match self.state.load_config() {
            Ok(config) => config,
            Err(error) => return self.refuse(error.to_string()),
        };
        let config = match self.config_file.as_ref().map(ConfigFile::read).transpose() {
            Ok(file) => config.overlaid_with(file.unwrap_or_default()),
            Err(error) => return self.refuse(error.to_string()),
        };
        let Settings { names, sessions, idle_after, .. } = Settings::new(&config, &self.own_name);
        // Whatever becomes of the rules: one has nothing to do with the other.
        self.names.choose(names);
        self.tell_names();
        self.sessions = Sessions { keep: sessions.into(), idle_after: idle_after.duration() };
        self.follow_sessions();
        let path = config.rules;
        let here = self.endpoint.id();
        self.rules = match path.map(|path| RulesFile::read(&path)) {
            Some(Ok(file)) => Some(enforce(&mut self.routes, here, file)),
            Some(Err(error)) => return self.refuse(error.to_string()),
            None => {
                // Where there never were any, nobody is restricted before or after.
                self.routes.set_rules(Instant::now(), here, rules::Rules::default());
                None
            }
        };
        self.fall_back_to_record();
        // In force before anybody hears so.
        if let Some(plane) = &self.plane
            && self.routes.publish(plane)
        {
            self.on_names_changed();
        }
        say(&self.progress, self.rules.as_ref());
        Response::Reloaded {
            rules: self.rules.clone(),
            names: Some(names),
            sessions: Some(sessions),
            idle_after: Some(idle_after.to_string()),
        }
    }

    fn refuse(&mut self, why: String) -> Response {
        if let Some(rules) = &mut self.rules {
            rules.error = Some(why.clone());
        }
        let before = match &self.rules {
            Some(_) => "the rules from before stay in force",
            None => "there are no rules, as before, and everything is let in",
        };
        Response::error(ErrorCode::Failed, format!("{why}; {before}"))
    }
}
